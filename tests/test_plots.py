from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from cohorts import cohort_store
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from nights import write_night

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm.recordings import read_recording
from sleepfm.recordings.units import conversion
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.figures import panels, plots
from sleepfm_index.evaluation.figures.embedding_map import embedding_map, project
from sleepfm_index.evaluation.figures.hypnograms import hypnodensity, hypnogram
from sleepfm_index.evaluation.figures.learning_curve import few_shot_curve
from sleepfm_index.evaluation.figures.signal_strips import (
    neighbour_strips,
    read_strips,
    signal_strips,
)
from sleepfm_index.evaluation.figures.style import figure_style, save
from sleepfm_index.evaluation.metrics.assessment import Predictions


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort_store(tmp_path_factory.mktemp("plots") / "s", "abcdef", 30)


def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 200)
    score = rng.random((200, 3)) + np.eye(3)[truth]
    said = score / score.sum(axis=1, keepdims=True)
    return Predictions("bas", ("W", "N2", "R"), truth, said, truth, np.arange(200))


def test_curves_hold_the_numbers_of_the_table(tmp_path: Path) -> None:
    noisy = cohort_store(tmp_path / "s", "abcdef", 30, noise=4.0, index=False)
    with sleepfm_index.open(noisy) as store:
        result = store.evaluate()
    ax = plots.recall_curves(result.ranked)
    for line, row in zip(ax.get_lines(), result.to_pylist(), strict=False):
        assert line.get_label() == f"{row['query']} → {row['target']}"
        k, recall = line.get_data()
        for at in (1, 5, 10):
            assert recall[list(k).index(at)] == pytest.approx(row[f"recall_at_{at}"])
    assert ax.get_lines()[-1].get_label() == "chance"
    texts = [t.get_text() for t in plots.pair_matrix(result).texts]
    assert sorted(texts) == sorted(f"{row['recall_at_1']:.3f}" for row in result.to_pylist())
    (image,) = plots.rank_histogram(result.ranked).collections
    shares = np.asarray(image.get_array())
    assert shares.shape == (len(result.ranked) + 1, 20)
    assert shares.sum(axis=1) == pytest.approx(100)
    found = next(iter(result.ranked.values()))
    assert shares[0, 0] == pytest.approx(100 * np.mean(found.ranks == 1))
    assert len(ax.collections) == len(result.ranked)  # a band each
    row = result.to_pylist()[0]
    corners = ax.collections[0].get_paths()[0].vertices
    ends = sorted(corners[corners[:, 0] == 1, 1])
    assert ends[0] == pytest.approx(row["recall_at_1_low"], abs=1e-6)
    assert ends[-1] == pytest.approx(row["recall_at_1_high"], abs=1e-6)


def test_roc_and_precision_recall_enclose_the_areas_of_the_table() -> None:
    made = predictions()
    from sklearn.metrics import average_precision_score, roc_auc_score

    for code, line in enumerate(plots.roc(made).get_lines()[:3]):
        x, y = line.get_data()
        x, y = np.append(0, x), np.append(0, y)
        area = roc_auc_score(made.truth == code, made.scores[:, code])
        assert np.trapezoid(y, x) == pytest.approx(area)
    lines = [li for li in plots.precision_recall(made).get_lines() if len(li.get_xdata()) > 2]
    for code, line in enumerate(lines):
        recall, precision = line.get_data()
        area = float(np.sum(np.diff(recall, prepend=0) * precision))
        assert area == pytest.approx(
            average_precision_score(made.truth == code, made.scores[:, code])
        )


def test_every_figure_takes_and_gives_axes_with_labels(path: Path) -> None:
    made = predictions()
    start = 30.0 * np.arange(200)
    stages = [made.classes[t] for t in made.truth]
    with sleepfm_index.open(path) as store:
        result = store.evaluate()
        curve = store.few_shot("stage", [1, 2, 4], on=["bas"], repeats=2, folds=3)
        for draw in (
            lambda ax: plots.recall_curves(result.ranked, ax),
            lambda ax: plots.pair_matrix(result, ax=ax),
            lambda ax: plots.rank_histogram(result.ranked, ax),
            lambda ax: plots.confusion_matrix(made, ax),
            lambda ax: plots.roc(made, ax),
            lambda ax: plots.precision_recall(made, ax),
            lambda ax: plots.calibration(made, ax),
            lambda ax: few_shot_curve(curve, ax=ax),
            lambda ax: hypnogram(start, stages, ax),
            lambda ax: hypnodensity(start, made.scores, made.classes, ax),
            lambda ax: embedding_map(store, "bas", "stage", ax),
            lambda ax: embedding_map(store, "ecg", "nsrr_age", ax),
        ):
            given = Figure().add_subplot()
            assert draw(given) is given
            own = draw(None)
            assert isinstance(own, Axes) and own is not given
            assert own.get_xlabel() and own.get_ylabel()


def test_a_map_by_pca_is_the_best_plane() -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((50, 512)) * np.linspace(3, 0.1, 512)).astype(np.float32)
    place, labels = project(x)
    centred = x.astype(np.float64) - x.astype(np.float64).mean(axis=0)
    spread = np.linalg.svd(centred, compute_uv=False) ** 2
    np.testing.assert_allclose((place**2).sum(axis=0), spread[:2], rtol=1e-4)
    assert f"{spread[0] / spread.sum():.1%}" in labels[0]


def test_umap_is_an_extra(path: Path) -> None:
    if find_spec("umap") is not None:
        pytest.skip("umap is installed, so its absence cannot be tried")
    with sleepfm_index.open(path) as store, pytest.raises(QueryError, match="umap"):
        embedding_map(store, method="umap")


def test_umap_keeps_apart_what_is_apart(path: Path) -> None:
    if find_spec("umap") is None:
        pytest.skip("the extra [umap] is not installed")
    group = np.arange(90) % 3
    x = 5 * np.eye(3, 512)[group] + 0.1 * np.random.default_rng(0).standard_normal((90, 512))
    place, labels = project(x.astype(np.float32), "umap", seed=1)
    again, _ = project(x.astype(np.float32), "umap", seed=1)
    assert labels == ("UMAP 1", "UMAP 2")
    np.testing.assert_array_equal(place, again)
    centre = np.stack([place[group == g].mean(axis=0) for g in range(3)])
    nearest = np.linalg.norm(place[:, None] - centre[None], axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, group)
    with sleepfm_index.open(path) as store:
        assert embedding_map(store, method="umap").get_xlabel() == "UMAP 1"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"method": "tsne"}, "tsne"),
        ({"modality": "eeg"}, "eeg"),
        ({"where": "false"}, "at least 3"),
    ],
)
def test_maps_that_cannot_be_drawn(path: Path, asked: dict, sentence: str) -> None:
    with sleepfm_index.open(path) as store, pytest.raises(QueryError, match=sentence):
        embedding_map(store, **asked)


def test_files_by_their_ending(path: Path, tmp_path: Path) -> None:
    with sleepfm_index.open(path) as store:
        result = store.probe("stage", on=["bas"])
        panels.draw_assessment(result, tmp_path / "a.png")
        panels.draw_assessment(
            store.probe("age", task="regression", on=["ecg"]), tmp_path / "n.svg"
        )
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert b"<svg" in (tmp_path / "n.svg").read_bytes()
    with pytest.raises(QueryError, match=r"\.png or \.svg"):
        panels.draw_assessment(result, tmp_path / "a.txt")


def test_strips_show_the_signals_of_the_recordings(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for seed, name in enumerate("ab"):
        write_night(tmp_path / "in" / f"{name}.edf", seed=seed)
    sleepfm_index.build(tmp_path / "s", [tmp_path / "in"])
    with sleepfm_index.open(tmp_path / "s") as store:
        ids = store.metadata.clip_ids()[[0, 5]]
        found = read_strips(store, store.metadata.rows(ids).to_pylist(), list(ROBUST.modalities))
        recording = read_recording(tmp_path / "in" / "b.edf")
        at = store.metadata.rows(ids).to_pylist()[1]["start_s"]
        channels = {c.label: c for c in recording.channels}
        eeg, ecg = channels["C3-M2"], channels["ECG"]
        whole = eeg.read()[round(at * eeg.sample_rate) :][: round(30 * eeg.sample_rate)]
        np.testing.assert_array_equal(found[1]["C3-M2"].values, whole)
        assert (found[1]["C3-M2"].unit, found[1]["ECG"].unit) == ("uV", "mV")
        gain, _ = conversion(ecg.unit, "mV") or (np.nan, 0)
        whole = ecg.read()[round(at * ecg.sample_rate) :][: round(30 * ecg.sample_rate)]
        np.testing.assert_allclose(found[1]["ECG"].values, whole * gain, rtol=1e-6)
        ax = signal_strips(
            store, ids, ["query", "hit"], ("ecg", "bas"), marked=[("ecg",), ("bas",)]
        )
        figure = ax.get_figure()
        assert figure is not None
        assert len(figure.axes) == 4
        time, value = figure.axes[2].get_lines()[0].get_data()
        assert time[-1] == pytest.approx(30, abs=0.02)
        assert np.ptp(value) > 0
        assert "time (s)" in figure.axes[2].get_xlabel()
        assert any("mV" in t.get_text() for t in figure.axes[2].texts)
        assert any("µV" in t.get_text() for t in figure.axes[3].texts)
        edges = [a.spines["left"].get_linewidth() > 2 for a in figure.axes]
        assert edges == [True, False, False, True]
        result = store.query("ecg", "bas", clip=int(ids[0]), k=2, exclude="none")
        names = neighbour_strips(store, int(ids[0]), result, "ecg", "bas").get_figure().axes
        assert names[0].get_title(loc="left").startswith("query: clip 0, a, ")
        (tmp_path / "in" / "b.edf").unlink()
        with pytest.raises(QueryError, match="the recording b is not at its path"):
            signal_strips(store, ids, ["query", "hit"])
        for file in (tmp_path / "s" / "private").iterdir():
            file.unlink()
        with pytest.raises(QueryError, match="private/"):
            signal_strips(store, ids[:1], ["query"])


def test_strips_of_a_difference_and_of_scored_events(tmp_path: Path) -> None:
    labels = ("C3", "M2", "ECG", "CHEST", "SaO2", "ABD")
    write_night(tmp_path / "a.edf", labels=labels, events=((25.0, 15.0, "Obstructive apnea"),))
    sleepfm_index.build(tmp_path / "s", [tmp_path / "a.edf"])
    with sleepfm_index.open(tmp_path / "s") as store:
        row = store.metadata.rows(store.metadata.clip_ids()[:1]).to_pylist()
        (found,) = read_strips(store, row, ["bas"])
        channels = {c.label: c for c in read_recording(tmp_path / "a.edf").channels}
        left, right = channels["C3"], channels["M2"]
        size = round(30 * left.sample_rate)
        np.testing.assert_array_equal(found["C3-M2"].values, (left.read() - right.read())[:size])
        figure = signal_strips(store, np.array([0, 1, 2]), ["a", "b", "c"], ("resp",)).get_figure()
        shaded = [
            [(p.get_x(), p.get_width()) for p in ax.patches if p.get_alpha()] for ax in figure.axes
        ]
        assert shaded == [[(25.0, 5.0)], [(0.0, 10.0)], []]
        assert "apnea" in figure.axes[0].texts[-1].get_text()
        (ax,) = signal_strips(store, np.array([0]), ["a"], ("bas",)).get_figure().axes
        lanes = [t.get_text() for t in ax.get_yticklabels()]
        assert lanes[0] == "C3 \u2212 M2\n[C3-M2]" and lanes[1] == "C4-M1"
        save(ax, tmp_path / "strips.png", 60)


def test_vector_files_hold_text_and_truetype_fonts(tmp_path: Path) -> None:
    ax = plots.confusion_matrix(predictions())
    assert b"<text" in save(ax, tmp_path / "a.svg").read_bytes()
    pdf = save(ax, tmp_path / "a.pdf").read_bytes()
    assert b"/Type3" not in pdf and b"CIDFontType2" in pdf


def test_dots_and_style_are_what_is_asked(tmp_path: Path) -> None:
    style = tmp_path / "own.mplstyle"
    style.write_text("axes.facecolor: 123456\n")
    with figure_style(str(style)):
        ax = plots.confusion_matrix(predictions())
    assert to_hex(ax.get_facecolor()) == "#123456"
    width = [imread(save(ax, tmp_path / "a.png", dpi)).shape[1] for dpi in (50, 100)]
    assert width[1] == pytest.approx(2 * width[0], abs=2)
    with pytest.raises(QueryError, match="no style"), figure_style("no-such-style"):
        pass


def test_hours_become_clock_time_where_it_is_known() -> None:
    start = 30.0 * np.arange(240)
    ax = hypnogram(start, ["N2"] * 240, clock_s=23.5 * 3600)
    assert ax.get_xlabel() == "clock time (hh:mm)"
    labels = [t.get_text() for t in ax.get_xticklabels()]
    assert labels[:3] == ["23:30", "23:45", "00:00"] and labels[-1] == "01:30"
    assert ax.get_xticks()[2] == pytest.approx(0.5)
    assert "start of recording" in hypnogram(start, ["N2"] * 240).get_xlabel()


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_names_of_strangers_are_drawn_escaped(
    tmp_path: Path, ending: str, recwarn: pytest.WarningsRecorder
) -> None:
    name = "\x1b[31m$\\frac{x$\u202e"
    ax = Figure().subplots()
    ax.set_title(f"{name}\nline 2")
    ax.barh(["a", name], [1, 2], label=name)
    ax.set_xticks([0, 1], [name, "b"])
    ax.legend()
    file = save(ax, tmp_path / f"x.{ending}")
    assert not [w for w in recwarn if "Glyph" in str(w.message)]
    if ending == "svg":
        texts = [t.text for t in ElementTree.parse(file).iter("{http://www.w3.org/2000/svg}text")]
        shown = r"\x1b[31m$\frac{x$\u202e"
        assert texts.count(shown) == 4 and "line 2" in texts


def test_a_strangers_matplotlibrc_runs_no_tex(tmp_path: Path) -> None:
    preamble = r"text.latex.preamble: \\input{/etc/passwd}"
    (tmp_path / "matplotlibrc").write_text(f"text.usetex: True\n{preamble}\n")
    code = (
        "import matplotlib\n"
        "from sleepfm_index.evaluation.figures.style import figure_style\n"
        "assert matplotlib.rcParams['text.usetex']\n"
        "with figure_style():\n"
        "    keys = ('text.usetex', 'text.latex.preamble')\n"
        "    print([matplotlib.rcParams[key] for key in keys])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "[False, '']\n"
