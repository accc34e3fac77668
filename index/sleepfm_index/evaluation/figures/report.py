"""An HTML report with all tables and figures of a store, and the commands that reproduce them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Final

import numpy as np

from sleepfm.atomic_write import write_file
from sleepfm.progress import Notice
from sleepfm_index.evaluation.figures import panels
from sleepfm_index.evaluation.figures.cohort import cohort_table, user_columns
from sleepfm_index.evaluation.figures.embedding_map import embedding_maps
from sleepfm_index.evaluation.figures.learning_curve import few_shot_curve
from sleepfm_index.evaluation.figures.report_page import Page
from sleepfm_index.evaluation.figures.signal_strips import neighbour_strips
from sleepfm_index.evaluation.figures.style import DPI, figure_style
from sleepfm_index.evaluation.labels.splits import Split
from sleepfm_index.evaluation.metrics.assessment import Assessment, Predictions
from sleepfm_index.evaluation.models.few_shot import few_shot
from sleepfm_index.evaluation.models.knn import knn
from sleepfm_index.evaluation.models.probe import probe
from sleepfm_index.evaluation.models.recipe import Recipe
from sleepfm_index.evaluation.retrieval.retrieval import evaluate
from sleepfm_index.info import describe
from sleepfm_index.query.answer import answer
from sleepfm_index.query.question import Question
from sleepfm_index.reader import Reader
from sleepfm_index.storage.quoting import quote_text

GALLERY: Final = 10_000
MANY: Final = (
    "Many rows, none corrected for their number: about one interval in twenty misses by chance, so "
    "name beforehand the row that counts."
)
_MAX_USER_PROBES: Final = 6
"""Maximum number of user columns that are probed."""
_VERSIONS: Final = ("sleepfm-index", "numpy", "scikit-learn", "matplotlib", "faiss-cpu", "duckdb")
_LABELS: Final = (
    ("stage", "auto"),
    ("sdb", "auto"),
    ("age", "classification"),
    ("age", "regression"),
    ("sex", "auto"),
)


def write_report(
    store: Reader,
    path: str | Path,
    *,
    gallery: int = GALLERY,
    seed: int = 0,
    map_method: str = "pca",
    include_seen: bool = False,
    dpi: int = DPI,
    style: str | None = None,
    notice: Notice | None = None,
) -> Path:
    """Write all evaluations of a store into one self-contained HTML page.

    Where a part is not available (no ages, too few subjects, recordings that were moved), the page
    states the reason. The page contains no paths, and no signals except the plotted strips.
    Figures are SVG with text; those of very many points, which as SVG would be larger than 0.5 MB,
    are PNG.

    Parameters
    ----------
    store : Reader
        The open store.
    path : path
        Path of the HTML file to write.
    gallery : int
        Maximum number of clips in the retrieval gallery.
    seed : int
        Random seed of all draws.
    map_method : {"pca", "umap"}
        Method of the map of embeddings.
    include_seen : bool
        Whether to keep subjects of the weights' training data.
    dpi : int
        Resolution of the figures that are PNG, in dots per inch.
    style : str, optional
        Name of a matplotlib style, or path of an ``.mplstyle`` file.
    notice : callable, optional
        Called with the heading of each section before it is evaluated.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    QueryError
        If the style does not exist.
    """
    with figure_style(style):
        page = Page(notice=notice, dpi=dpi)
        _sections(page, store, gallery, seed, map_method, include_seen)
    head = Page()
    _head(head, store)
    title = f"{store.manifest.weights.name}: {len(store):,} clips"
    path = Path(path)
    text = page.html(title, head)

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_file(path, write)
    return path


def _sections(
    page: Page, store: Reader, gallery: int, seed: int, map_method: str, include_seen: bool
) -> None:
    page.heading("Cohort")
    page.table(*cohort_table(store))
    columns = user_columns(store)
    if columns:
        page.text("Columns of this store's own, from subjects.csv, annotations or known truth:")
        page.table(columns, {"column": "column", "clips": "clips", "values": "values"})
    page.heading("Retrieval")
    page.attempt(lambda: _retrieval(page, store, gallery, seed, include_seen))
    labels = [*_LABELS, *((row["column"], "auto") for row in columns if row["label"])]
    for label, task in labels[: len(_LABELS) + _MAX_USER_PROBES]:
        page.heading(f"Linear probe: {label}{', regression' if task == 'regression' else ''}")
        page.attempt(partial(_probe, page, store, label, task, seed, include_seen))
    skipped = len(labels) - len(_LABELS) - _MAX_USER_PROBES
    if skipped > 0:
        page.text(f"{skipped} more columns of this store are not probed here; see probe --label.")
    page.heading("Few-shot learning curve: stage")
    page.attempt(lambda: _few_shot(page, store, seed, include_seen))
    page.heading("k-NN classification: stage")
    page.attempt(lambda: _knn(page, store, seed, include_seen))
    page.heading("Map of the embeddings")
    page.attempt(lambda: _maps(page, store, map_method, seed))
    page.heading("A clip and its neighbours")
    page.attempt(lambda: _strips(page, store))


def _head(page: Page, store: Reader) -> None:
    info = describe(store)
    weights = info.weights
    if not weights.trained:
        page.text(
            "Untrained weights: a seeded random initialisation. Expect retrieval at chance level; "
            "probes use the features of a random network.",
            "warning",
        )
    elif weights.note:
        page.text(f"Weights: {weights.note}", "warning")
    created = datetime.now(UTC)
    rows = [
        ("made", f"{created:%Y-%m-%d %H:%M} UTC"),
        (
            "versions",
            ", ".join(f"{n} {version(n)}" for n in _VERSIONS) + f", Python {python_version()}",
        ),
        ("weights", f"{weights.name}, SHA-256 {weights.sha256}"),
        ("contract", f"{info.contract}, SHA-256 {info.contract_sha256}"),
        ("store", f"{store.manifest.uuid}, snapshot {info.snapshot}"),
        ("clips", f"{info.clips:,} of {info.recordings:,} recordings, {info.subjects:,} subjects"),
        ("clips with", ", ".join(f"{m} {n:,}" for m, n in info.with_modality.items())),
    ]
    page.table([{"a": a, "b": b} for a, b in rows], {"a": "", "b": ""})


def _retrieval(page: Page, store: Reader, gallery: int, seed: int, seen: bool) -> None:
    columns = {
        "query": "query", "target": "target", "recall_at_1": "R@1 [95 %]",
        "chance_at_1": "chance", "recall_at_5": "R@5", "recall_at_10": "R@10",
        "median_rank": "median rank", "mrr": "MRR", "gallery": "gallery",
        "top_same_stage": "top hit: same stage", "top_same_subject": "same subject",
        "top_same_minute": "same minute", "subjects": "subjects",
    }  # fmt: skip
    for among in ("all", "cross-recording", "within-recording"):
        options = ("--gallery", str(gallery), "--seed", str(seed), "--gallery-scope", among)
        page.command("evaluate", *options, *_flag(seen))
        result = evaluate(store, gallery=gallery, seed=seed, among=among, include_seen=seen)
        page.text(result.note)
        page.table(result.to_pylist(), columns)
        if among == "all":
            page.figure(
                panels.retrieval(result),
                "Above: recall@k by query, with 95 % intervals over subjects (from six on) and "
                "chance. Below: recall@1 of each pair, and where the matching clip is ranked.",
            )


def _probe(page: Page, store: Reader, label: str, task: str, seed: int, seen: bool) -> None:
    folds = str(_folds(store))
    words = ["--label", label, "--task", task, "--folds", folds, "--seed", str(seed)]
    page.command("probe", *words, *_flag(seen))
    result = probe(
        store,
        label,
        task=task,
        split=Split(int(folds), include_seen=seen),
        recipe=Recipe(seed=seed),
    )
    _assessment(page, result)
    if label == "stage":
        _night(page, store, list(result.predictions.values())[-1])


def _knn(page: Page, store: Reader, seed: int, seen: bool) -> None:
    first = store.manifest.modalities[0]
    for modality in store.manifest.modalities:
        command = ("knn", "--label", "stage", "--modality", modality, "--to", first)
        page.command(*command, "--seed", str(seed), *_flag(seen))
        page.attempt(partial(_vote, page, store, modality, first, seed, seen))


def _vote(page: Page, store: Reader, modality: str, to: str, seed: int, seen: bool) -> None:
    result = knn(
        store, "stage", modality=modality, to=to, seed=seed, split=Split(include_seen=seen)
    )
    _assessment(page, result)


def _maps(page: Page, store: Reader, method: str, seed: int) -> None:
    modality = store.manifest.modalities[0]
    page.code(
        f"sleepfm_index.evaluation.figures.embedding_map.embedding_maps(store, {modality!r}, "
        f"{method=}, {seed=})"
    )
    page.figure(
        embedding_maps(store, modality, method=method, seed=seed),
        f"The vectors of {modality} in two dimensions, by stage, subject and site.",
    )


def _assessment(page: Page, result: Assessment) -> None:
    page.text(result.note)
    page.text(MANY)
    rows = result.to_pylist()
    if "mae" in rows[0]:
        names = {"features": "from", "level": "per", "mae": "MAE [95 %]", "r": "r [95 %]"}
    else:
        names = {
            "features": "from", "level": "per", "class": "class", "auroc": "AUROC [95 %]",
            "auroc_per_fold": "AUROC per fold", "auprc": "AUPRC [95 %]", "f1": "F1 [95 %]",
            "accuracy": "accuracy [95 %]",
            "kappa": "kappa [95 %]", "calibration_error": "calibration error [95 %]",
        }  # fmt: skip
    page.table(rows, {**names, "clips": "n", "subjects": "subjects"})
    last = list(result.predictions.values())[-1:]
    page.figure(
        panels.assessment(last),
        f"Predictions from {last[0].features}, per {last[0].level}"
        + (": confusion, ROC, precision-recall and calibration." if last[0].classes else "."),
    )


def _night(page: Page, store: Reader, predictions: Predictions) -> None:
    facts = store.rows(predictions.clip_ids)
    names = np.array(facts["recording_id"].to_pylist())
    longest = max(sorted(set(names)), key=lambda name: int((names == name).sum()))
    clips_of_night = np.flatnonzero(names == longest)
    start = facts["start_s"].to_numpy()[clips_of_night]
    clips_of_night = clips_of_night[np.argsort(start)]
    start = np.sort(start)
    page.text(
        f"One night, {longest}: the scoring, and the predictions of the probe on "
        f"{predictions.features} that was not trained on this subject."
    )
    scored = store.sql(
        "SELECT start_s, stage FROM clips "
        f"WHERE recording_id = {quote_text(longest)} ORDER BY start_s"
    ).to_pylist()
    scored_s = np.array([row["start_s"] for row in scored])
    stages = [str(row["stage"]) for row in scored]
    seconds = float(store.manifest.contract.clip_seconds)
    clocks = facts["clock"].to_pylist()
    clock = clocks[int(clips_of_night[0])]
    ax = panels.night(
        scored_s, stages, start, predictions.scores[clips_of_night], predictions.classes, seconds,
        None if clock is None else (float(clock) - float(start[0])) % 86400,
    )  # fmt: skip
    page.figure(ax, "Above: hypnogram as scored. Below: probabilities of the stages.")


def _few_shot(page: Page, store: Reader, seed: int, seen: bool) -> None:
    folds = _folds(store)
    max_shots = describe(store).subjects * (folds - 1) // folds
    shots = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= max_shots]
    options = ("--shots", ",".join(map(str, shots)), "--repeats", "5", "--folds", str(folds))
    page.command("probe", "--label", "stage", *options, "--seed", str(seed), *_flag(seen))
    result = few_shot(
        store,
        "stage",
        shots,
        repeats=5,
        split=Split(folds, include_seen=seen),
        recipe=Recipe(seed=seed),
    )
    page.text(result.note)
    page.figure(few_shot_curve(result), "AUROC over the number of subjects learned from.")


def _strips(page: Page, store: Reader) -> None:
    first, *more = store.manifest.modalities
    for modality, to in ((more[0] if more else first, first), (first, first)):
        ids = store.metadata.clip_ids(f"has_{modality} AND stage IN ('N2', 'N3', 'R')")
        if not len(ids):
            page.text(f"Not available: no scored clip of sleep has {modality}.")
            continue
        clip = int(ids[len(ids) // 2])
        options = ("--modality", modality, "--to", to, "--clip", str(clip), "-k", "4")
        page.command("query", *options, "--plot", f"{modality}-{to}.png")
        result = answer(store, Question(modality, to, clip=clip, k=4))
        page.figure(
            neighbour_strips(store, clip, result, modality, to),
            f"A clip and the clips nearest to it by {modality} among {to}; channels as recorded.",
        )


def _flag(seen: bool) -> tuple[str, ...]:
    return ("--include-seen",) if seen else ()


def _folds(store: Reader) -> int:
    return max(2, min(5, describe(store).subjects))
