"""Training on what is known of clips: objectives beside each other, fine-tuning, people seen."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sleepfm_index
from sleepfm.contract import BODY as BODY_CONTRACT
from sleepfm.encoders.load import load_weights
from sleepfm.encoders.seen import Seen
from sleepfm.errors import TrainingError
from sleepfm.simulate import simulate_cohort
from sleepfm.training import loop
from sleepfm.training.pretrain import Data, TrainingCallbacks, pretrain
from sleepfm.training.recipe import BODY as BODY_RECIPE
from sleepfm.training.recipe import Recipe
from sleepfm_index.truth import Truth, read_truth, write_truth

pytestmark = pytest.mark.usefixtures("no_curves")
BODY = replace(BODY_CONTRACT, sample_rate=32)
HALVES = {"pretrain": 0.5, "valid": 0.5}
TINY = replace(
    BODY_RECIPE, epochs=2, batch_size=4, together=2, epoch_clips=8, average=0.5, crop_s=20.0
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four nights of six clips, and the truth of them."""
    folder = tmp_path_factory.mktemp("cohort")
    known: dict[str, Truth] = {}
    note = known.__setitem__
    simulate_cohort(folder, subjects=4, hours=0.05, seed=3, excerpts=True, known=note)
    write_truth(folder / "truth.parquet", known)
    return folder


def train(
    cohort: Path, out: Path, objective: str, recipe: Recipe = TINY, **options: object
) -> list[loop.Metrics]:
    data = Data(
        [cohort],
        subjects=cohort / "subjects.csv",
        fractions=HALVES,  # type: ignore[arg-type]
        contract=BODY,
        cache=cohort / "clips",
        truth=read_truth(cohort / "truth.parquet"),
    )
    asked = {"device": "cpu", "precision": "float32", "threads": 1, **options}
    return pretrain(data, out, objective, recipe, **asked)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def warm(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("warm") / "warm.safetensors"
    train(cohort, out, "physiology")
    return out


def test_reading_what_is_known_is_learned_and_logged(warm: Path) -> None:
    log = [json.loads(x) for x in warm.with_name("warm.log.jsonl").read_text().splitlines()]
    assert log[-1]["valid"]["loss"] == log[-1]["valid"]["read"] > 0
    knows = log[-1]["valid"]["knows"]
    assert knows.keys() == {"bas", "ecg", "resp", "alignment"}
    assert 1 <= knows["ecg"]["effective_rank"] <= 12
    assert knows["alignment"].keys() == {"bas-ecg", "bas-resp", "ecg-resp"}
    record = load_weights(warm).record  # of the best epoch, which need not be the last
    assert record["metrics"]["valid"]["knows"] == log[record["epoch"] - 1]["valid"]["knows"]


@pytest.mark.parametrize(
    ("objective", "terms"),
    [
        ("pairwise", {"memory": 16}),
        ("leave-one-out", {"memory": 16, "covariance": 0.04}),
        ("siglip", {}),
        ("barlow", {}),
        ("vicreg", {}),
        ("leave-one-out", {"within": 0.2, "masked": 0.5, "together_end": 4}),
    ],
)
def test_every_objective_trains_from_weights(
    cohort: Path, warm: Path, tmp_path: Path, objective: str, terms: dict[str, float]
) -> None:
    out = tmp_path / "w.safetensors"
    start = load_weights(warm)
    history = train(cohort, out, objective, replace(TINY, **terms), start=start)  # type: ignore[arg-type]
    assert all(np.isfinite(entry["loss"]) for entry in history)
    weights = load_weights(out)
    known = {"name": "warm", "sha256": start.sha256, "simultaneous": False}
    assert weights.record["started_from"] == known
    for modality in BODY.modalities:
        before, after = (w.tensors[modality]["fc.weight"] for w in (start, weights))
        assert 0 < np.abs(after - before).max() < 0.1


@pytest.mark.slow
def test_a_run_stopped_at_any_step_goes_on_to_the_same_numbers(
    cohort: Path, warm: Path, tmp_path: Path
) -> None:
    recipe = replace(TINY, memory=8, within=0.2, masked=0.5, dropout=0.2)
    start = load_weights(warm)
    whole, out = tmp_path / "whole.safetensors", tmp_path / "w.safetensors"
    train(cohort, whole, "leave-one-out", recipe, start=start)
    for stop in ((1, 1), (2, 2)):

        def kill(epoch: int, done: int, total: int, loss: float, at: object = stop) -> None:
            if (epoch, done) == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(
                *(cohort, out, "leave-one-out", recipe),
                start=start,
                resume=True,
                checkpoint_minutes=1e-9,
                callbacks=TrainingCallbacks(training=kill),
            )
        torch.rand(5)  # whatever happened in between
    train(cohort, out, "leave-one-out", recipe, start=start, resume=True)
    ends = [torch.load(p.with_suffix(".checkpoint.pt"), weights_only=True) for p in (whole, out)]
    for part in ("task", "average"):
        for key, value in ends[0][part].items():
            assert torch.equal(value, ends[1][part][key]), key
    for a, b in zip(*(json.loads(end["history"]) for end in ends), strict=True):
        assert a["loss"] == b["loss"]
        assert a["valid"]["gallery"] == b["valid"]["gallery"]


def test_repeated_recordings_are_seen_more_often_and_counted_once(
    cohort: Path, tmp_path: Path
) -> None:
    data = Data(
        [cohort],
        subjects=cohort / "subjects.csv",
        fractions=HALVES,  # type: ignore[arg-type]
        contract=BODY,
        cache=cohort / "clips",
        truth=read_truth(cohort / "truth.parquet"),
        repeats={f"sim-000{i}": 3 for i in range(1, 5)},
    )
    recipe = replace(TINY, epochs=1, epoch_clips=None)
    steps: list[int] = []
    pretrain(
        *(data, tmp_path / "w.safetensors", "physiology", recipe),
        device="cpu",
        threads=1,
        callbacks=TrainingCallbacks(training=lambda epoch, done, total, loss: steps.append(total)),
    )
    record = load_weights(tmp_path / "w.safetensors").record
    assert record["clips"]["pretrain"] == 12 and record["recordings"]["pretrain"] == 2
    assert set(steps) == {3 * 12 // 4}


def test_what_is_exported_is_the_average(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    train(cohort, out, "physiology", replace(TINY, average=0.9999, epochs=1))
    state = torch.load(out.with_suffix(".checkpoint.pt"), weights_only=True)
    exported = load_weights(out).tensors["ecg"]["fc.weight"]
    key = "networks.ecg.fc.weight"
    assert np.array_equal(exported, state["average"][key].numpy())
    assert not np.array_equal(exported, state["task"][key].numpy())


def test_without_truth_nothing_can_be_read(cohort: Path, tmp_path: Path) -> None:
    data = Data([cohort], contract=BODY, cache=cohort / "clips", fractions=HALVES)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="--truth"):
        pretrain(data, tmp_path / "w.safetensors", "physiology", TINY, device="cpu")


def test_weights_of_another_contract_are_refused(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--contract"):
        train(cohort, tmp_path / "w.safetensors", "pairwise", start=load_weights("untrained"))


@pytest.fixture(scope="module")
def store(cohort: Path, warm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("store") / "store"
    sleepfm_index.build(
        place,
        [cohort],
        weights=str(warm),
        subjects=cohort / "subjects.csv",
        truth=cohort / "truth.parquet",
        backend="torch",
        workers=1,
    )
    yield place


def test_a_store_says_whom_its_weights_have_seen(store: Path, warm: Path) -> None:
    splits = json.loads(warm.with_name("warm.splits.json").read_text())
    rows = sleepfm_index.open(store).sql(
        "SELECT DISTINCT subject_id, weights_split FROM clips ORDER BY ALL"
    )
    found = {row["subject_id"]: row["weights_split"] for row in rows.to_pylist()}
    assert found == {s: name for name, own in splits.items() for s in own}
    seen = Seen.of_record(load_weights(warm).record)
    assert seen is not None and seen.split_of("somebody else") is None
    text = json.dumps(load_weights(warm).record)
    assert not any(subject in text for subject in found)


def test_what_is_known_of_clips_becomes_columns(store: Path, cohort: Path) -> None:
    rows = sleepfm_index.open(store).sql(
        "SELECT start_s, rr_mean_s, breath_hz, true_hypopnea_s, hypopnea_s FROM clips "
        "WHERE recording_id = 'sim-0002' ORDER BY start_s"
    )
    truth = read_truth(cohort / "truth.parquet")["sim-0002"]
    for name in ("rr_mean_s", "breath_hz"):
        found = [row[name] for row in rows.to_pylist()]
        np.testing.assert_allclose(found, truth[name], rtol=1e-6)
    found = [row["true_hypopnea_s"] for row in rows.to_pylist()]
    np.testing.assert_allclose(found, truth["hypopnea_s"], rtol=1e-6)
