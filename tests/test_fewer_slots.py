"""Fewer channels: with an encoder that only passes on what it is given, the curve is known."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread
from nights import write_night
from typer.testing import CliRunner

import sleepfm_index
from sleepfm.clips import Clips
from sleepfm.contract import BODY
from sleepfm.encoders.load import untrained
from sleepfm.errors import OutputError, RecordingError
from sleepfm.simulate import simulate_cohort
from sleepfm.stages import SCORED
from sleepfm.training.geometry import stage_auroc, stage_scores
from sleepfm_cli.main import app
from sleepfm_index.building.pipeline import build
from sleepfm_index.building.preparation import Preparation
from sleepfm_index.evaluation.figures import panels
from sleepfm_index.evaluation.metrics.assessment import Predictions, measure_classes
from sleepfm_index.evaluation.metrics.estimates import mean
from sleepfm_index.evaluation.metrics.intervals import proportion
from sleepfm_index.evaluation.retrieval.fewer_slots import FewerSlots, fewer_slots


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights")
    simulate_cohort(folder, subjects=2, hours=0.5, seed=6)
    return folder


def test_each_modality_loses_its_slots_one_by_one(nights: Path) -> None:
    seen: list[tuple[str, set[int]]] = []

    def encode(modality: str, clips: np.ndarray) -> np.ndarray:
        filled = (np.abs(clips).max(axis=2) > 0).sum(axis=1)
        seen.append((modality, set(filled.tolist())))
        # the same vector in every modality for a clip that keeps all of its slots, else noise
        draw = np.random.default_rng(len(clips))
        whole = draw.standard_normal((len(clips), 512))
        noise = np.random.default_rng(len(seen)).standard_normal(whole.shape)
        full = (filled == len(BODY.slots_of(modality)))[:, None]
        vectors = np.where(full, whole + 0.01 * noise, noise).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    # one recording, so that all clips share one draw
    result = fewer_slots([nights / "sim-0001.edf"], encode, Preparation(BODY))
    rows = result.to_pylist()
    expected = [(m, left) for m in BODY.modalities for left in range(len(BODY.slots_of(m)), 0, -1)]
    assert [(r["modality"], r["slots_left"]) for r in rows] == [(str(m), n) for m, n in expected]
    for row in rows:
        if row["slots_left"] == row["slots"]:
            assert row["recall_at_10"] == 1
        else:
            assert row["recall_at_10"] < 1
    for (modality, left), (called, counts) in zip(
        [(m, n) for m, n in expected if n < len(BODY.slots_of(m))], seen[3:], strict=True
    ):
        assert called is modality and counts == {left}


def test_stages_are_measured_between_subjects(nights: Path) -> None:
    def encode(modality: str, clips: np.ndarray) -> np.ndarray:
        spread = np.log(clips.std(axis=2) + 1e-3)
        out = np.zeros((len(clips), 512), np.float32)
        out[:, : spread.shape[1]], out[:, -1] = spread, 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    rows = fewer_slots([nights], encode, Preparation(BODY), clips=48, seed=1).to_pylist()
    assert all(r["stage_auroc"] is None or 0 <= r["stage_auroc"] <= 1 for r in rows)
    assert {r["chance_at_10"] for r in rows} == {10 / 48}


class Drawn:
    """Clips of people whose slots all show the same latent values and the stage."""

    contract = BODY

    def read(self, path: Path, annotations: object) -> str:
        return path.stem

    def cut(self, name: str) -> tuple[None, Clips]:
        draw = np.random.default_rng(int(name[1:]))
        stage = draw.integers(0, 5, 24)
        latent = draw.standard_normal((24, 5, 4)) + stage[:, None, None] / 2
        signals, filled = {}, {}
        for modality in BODY.modalities:
            slots = len(BODY.slots_of(modality))
            noise = draw.standard_normal((24, slots, 4))
            signals[modality] = (latent[:, :slots] + 0.7 * noise).astype(np.float32)
            filled[modality] = np.full(24, 2**slots - 1, np.uint16)
        names = tuple(SCORED[code] for code in stage)
        times = 30.0 * np.arange(24)
        return None, Clips(times, None, names, ("",) * 24, signals, filled, {}, {}, ())


def measured(folder: Path, people: int, **more: int) -> tuple[FewerSlots, list[np.ndarray]]:
    """Measure ``people`` drawn recordings; also returns the vectors, in the order of encoding."""
    vectors: list[np.ndarray] = []

    def encode(modality: str, clips: np.ndarray) -> np.ndarray:
        out = np.zeros((len(clips), 512), np.float32)
        out[:, : clips.shape[1] * 4] = clips.reshape(len(clips), -1)
        out[:, -1] = 0.1
        vectors.append(out / np.linalg.norm(out, axis=1, keepdims=True))
        return vectors[-1]

    for number in range(people):
        (folder / f"p{number:02d}.edf").write_bytes(b"0")
    result = fewer_slots([folder], encode, Drawn(), **more)  # type: ignore[arg-type]
    encodings = [np.concatenate(vectors[i : i + people]) for i in range(0, len(vectors), people)]
    return result, encodings


@pytest.mark.parametrize("gallery", [None, 100])
def test_intervals_are_over_people(tmp_path: Path, gallery: int | None) -> None:
    people, n = 14, 14 * 24
    result, encodings = measured(tmp_path, people, seed=3, **({"gallery": 100} if gallery else {}))
    complete = dict(zip(map(str, BODY.modalities), encodings[:3], strict=True))
    reduced = iter(encodings[3:])
    drawn = np.arange(n)
    if gallery:
        drawn = np.sort(np.random.default_rng(3).choice(n, gallery, replace=False))
        assert "gallery of 100 of them drawn at random" in result.note
    owner = np.repeat(np.arange(people), 24)
    stage = np.array(
        [SCORED.index(s) for p in range(people) for s in Drawn().cut(f"p{p}")[1].stage]
    )
    assert result.note.endswith("; 95 % intervals over subjects")
    assert [m.name for m in result.modalities] == list(BODY.modalities)
    for row in result.to_pylist():
        own = complete[row["modality"]]
        own = own if row["slots_left"] == row["slots"] else next(reduced)
        hits = []
        for other, theirs in complete.items():
            if other != row["modality"]:
                scores = own[drawn].astype(np.float64) @ theirs[drawn].T.astype(np.float64)
                for side in (scores, scores.T):
                    hits.append((side >= np.diag(side)[:, None]).sum(axis=1) <= 10)
        each = np.mean(hits, axis=0)
        assert row["recall_at_10"] == pytest.approx(each.mean())
        assert row["chance_at_10"] == pytest.approx(10 / len(drawn))
        _, codes = np.unique(owner[drawn], return_inverse=True)
        ends = proportion(mean(each, codes), each.var() / len(each))
        assert (row["recall_at_10_low"], row["recall_at_10_high"]) == pytest.approx(ends)
        assert row["recall_at_10_low"] < row["recall_at_10"] < row["recall_at_10_high"]
        assert row["subjects"] == people
        # stages: as a probe's predictions of every second person
        test, scores = stage_scores(own, np.eye(5)[stage], owner)  # type: ignore[misc]
        assert row["stage_auroc"] == pytest.approx(stage_auroc(own, np.eye(5)[stage], owner))
        said = Predictions("", SCORED, stage[test], scores, owner[test], np.flatnonzero(test))
        ends = measure_classes(said)[1]["auroc"][1]
        assert (row["stage_auroc_low"], row["stage_auroc_high"]) == pytest.approx(ends)
        assert row["stage_subjects"] == 7


@pytest.mark.parametrize(
    ("people", "said"),
    [(5, "5 subjects are too few for intervals; the minimum is 6"),
     (8, "95 % intervals over subjects, but not of stages, tested on 4 of them; the minimum is 6")],
)  # fmt: skip
def test_few_people_have_no_interval(tmp_path: Path, people: int, said: str) -> None:
    result, _ = measured(tmp_path, people)
    assert result.note.endswith(f"; {said}")
    for row in result.to_pylist():
        assert row["subjects"] == people and row["stage_subjects"] == people // 2
        assert (row["recall_at_10_low"] is None) == (people < 6)
        assert row["stage_auroc"] is not None and row["stage_auroc_low"] is None


def test_the_figure_has_the_numbers_of_the_table(tmp_path: Path) -> None:
    result, _ = measured(tmp_path, 12)
    first = panels.fewer_slots(result)
    axes = first.get_figure().axes  # type: ignore[union-attr]
    assert [ax.get_title() for ax in axes] == [m.title for m in result.modalities]
    for ax, modality in zip(axes, BODY.modalities, strict=True):
        rows = [r for r in result.to_pylist() if r["modality"] == modality][::-1]
        lines = {line.get_label(): line for line in ax.get_lines()}
        for name, label in (("recall_at_10", "recall@10"), ("stage_auroc", "stage AUROC")):
            x, y = lines[label].get_data()
            assert list(x) == [r["slots_left"] for r in rows]
            assert list(y) == [r[name] for r in rows]
        assert to_hex(lines["recall@10"].get_color()) != to_hex(lines["stage AUROC"].get_color())
        assert len(ax.collections) == 2  # a band, or a bar, of each
        ends = ax.collections[0].get_datalim(ax.transData)
        assert ends.y0 == pytest.approx(min(r["recall_at_10_low"] for r in rows))
        assert ends.y1 == pytest.approx(max(r["recall_at_10_high"] for r in rows))
    panels.draw_fewer_slots(result, tmp_path / "f.svg")
    assert "stage AUROC" in (tmp_path / "f.svg").read_text()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--where", "stage = 'W'"], "--where"),
        (["--by", "stage", "--draws", "3"], "--draws, --by"),
        (["--against", "other"], "--against"),
        (["--combinations"], "--combinations"),
        (["--gallery-scope", "cross-recording"], "--gallery-scope"),
    ],
)
def test_what_chooses_clips_of_a_store_is_refused(words: list[str], named: str) -> None:
    ran = CliRunner().invoke(app, ["evaluate", "--without-slots", "nowhere", *words])
    assert ran.exit_code == 2
    assert f"--without-slots cannot be combined with {named}: it measures" in plain(ran.stderr)


def test_an_unknown_figure_is_refused_before_the_work() -> None:
    asked = ["evaluate", "--without-slots", "nowhere", "--weights", "none", "--plot", "f.xls"]
    assert isinstance(CliRunner().invoke(app, asked).exception, OutputError)


def plain(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no recording"):
        fewer_slots([tmp_path], lambda m, x: x, Preparation(BODY))


def test_one_eeg_lead_and_one_nasal_flow_are_embedded(tmp_path: Path) -> None:
    write_night(tmp_path / "classic.edf", 300, labels=("EEG C4-A1", "Nasal Flow"))
    weights = untrained(0, BODY).save(tmp_path / "body.safetensors")
    (outcome,) = build(
        tmp_path / "store", [tmp_path / "classic.edf"], weights=str(weights)
    ).outcomes
    assert (outcome.status, outcome.clips) == ("added", 10)
    assert outcome.slots == {"C4-M1": "EEG C4-A1", "FLOW": "Nasal Flow"}
    store = sleepfm_index.open(tmp_path / "store")
    counted = (
        "SELECT sum(has_bas::INT) AS bas, sum(has_resp::INT) AS resp, sum(has_ecg::INT) AS ecg"
    )
    assert store.sql(f"{counted} FROM clips").to_pylist() == [{"bas": 10, "resp": 10, "ecg": 0}]
    for modality in ("bas", "resp"):
        vectors, present = store.vectors.of(np.arange(10), modality)
        assert present.all() and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-2)
    assert len(store.query("bas", "resp", clip=3, k=10, exclude="none")) == 10
    # and what fewer slots cost is measured over the modalities that are there
    asked = [
        "evaluate",
        "--without-slots",
        str(tmp_path / "classic.edf"),
        "--weights",
        str(weights),
    ]
    drawn = [
        "--gallery",
        "8",
        "--plot",
        str(tmp_path / "f.png"),
        "--dpi",
        "40",
        "--style",
        "ggplot",
    ]
    shown = CliRunner().invoke(app, [*asked, "--format", "json", *drawn])
    assert [(r["modality"], r["slots_left"]) for r in json.loads(shown.stdout)] == [
        ("bas", 1),
        ("resp", 1),
    ]
    assert {r["chance_at_10"] for r in json.loads(shown.stdout)} == {1.0}
    assert imread(tmp_path / "f.png").shape == (160, 288, 4)  # 4 by 7.2 inches
