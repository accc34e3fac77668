"""An HTML report with all tables and figures of a store, and the commands that reproduce them."""

from __future__ import annotations

import base64
import html
import io
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleepfm.atomic_write import write_file
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.figures import panels
from sleepfm_index.evaluation.figures.embedding_map import embedding_maps
from sleepfm_index.evaluation.figures.learning_curve import few_shot_curve
from sleepfm_index.evaluation.figures.plots import plain_text
from sleepfm_index.evaluation.figures.signal_strips import neighbour_strips
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes


GALLERY: Final = 10_000
_LABELS: Final = (
    ("stage", "auto"),
    ("sdb", "auto"),
    ("age", "classification"),
    ("age", "regression"),
    ("sex", "auto"),
)
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
td, th { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left }
div.table { overflow-x: auto }
img { max-width: 100%; margin: .5rem 0 } code { background: #f3f3f3; padding: .1rem .3rem }
p.warning { background: #fff3cd; padding: .5rem 1rem } p.note { color: #555 }
"""


@dataclass
class _Page:
    parts: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str, kind: str = "note") -> None:
        self.parts.append(f'<p class="{kind}">{html.escape(text)}</p>')

    def command(self, *words: str) -> None:
        self.code(shlex.join(["sleepfm-index", *words]))

    def code(self, line: str) -> None:
        self.parts.append(f"<p><code>{html.escape(line)}</code></p>")

    def table(self, rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> None:
        head = "".join(f"<th>{html.escape(title)}</th>" for title in columns.values())
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(row, name))}</td>" for name in columns)
            + "</tr>"
            for row in rows
        )  # fmt: skip
        self.parts.append(f'<div class="table"><table><tr>{head}</tr>{body}</table></div>')

    def figure(self, ax: Axes, alt: str) -> None:
        sink = io.BytesIO()
        figure: Any = ax.get_figure(root=True)
        plain_text(figure)
        figure.savefig(sink, format="png", dpi=110)
        coded = base64.b64encode(sink.getvalue()).decode()
        self.parts.append(f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{coded}">')

    def attempt(self, make: Callable[[], None]) -> None:
        """Add a part to the page, or the reason why the store cannot provide it."""
        try:
            make()
        except QueryError as error:
            self.text(f"Not available: {error}.")

    def html(self, title: str) -> str:
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}'
            f"</title><style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
            f"{''.join(self.parts)}</html>\n"
        )


def write_report(
    store: Reader,
    path: str | Path,
    *,
    gallery: int = GALLERY,
    seed: int = 0,
    map_method: str = "pca",
    include_seen: bool = False,
) -> Path:
    """Write all evaluations of a store into one self-contained HTML page.

    Where a part is not available (no ages, too few subjects, recordings that were moved), the page
    states the reason. The page contains no paths, and no signals except the plotted strips.

    Parameters
    ----------
    store : Reader
        The open store.
    path : path
        The file to write, ``.html``.
    gallery : int
        Draw at most this many clips for retrieval.
    seed : int
        Of all draws.
    map_method : {"pca", "umap"}
        Method of the map of embeddings.
    include_seen : bool
        Keep people whom the weights have seen in training.

    Returns
    -------
    Path
        The file.
    """
    page = _Page()
    _head(page, store)
    page.heading("Retrieval")
    page.attempt(lambda: _retrieval(page, store, gallery, seed, include_seen))
    for label, task in _LABELS:
        page.heading(f"Linear probe: {label}{', regression' if task == 'regression' else ''}")
        page.attempt(partial(_probe, page, store, label, task, seed, include_seen))
    page.heading("Few-shot learning curve: stage")
    page.attempt(lambda: _few_shot(page, store, seed, include_seen))
    page.heading("k-NN classification: stage")
    page.attempt(lambda: _knn(page, store, seed, include_seen))
    page.heading("Map of the embeddings")
    page.attempt(lambda: _maps(page, store, map_method, seed))
    page.heading("A clip and its neighbours")
    page.attempt(lambda: _strips(page, store))
    title = f"{store.manifest.weights.name}: {len(store):,} clips"
    path = Path(path)
    whole = page.html(title)

    def write(aside: Path) -> None:
        aside.write_text(whole, encoding="utf-8")

    write_file(path, write)
    return path


def _head(page: _Page, store: Reader) -> None:
    info = describe(store)
    weights = info.weights
    if not weights.trained:
        page.text(
            "Untrained weights: a seeded random initialisation. Expect retrieval at chance level; "
            "probes use the features of a random network.",
            "warning",
        )
    rows = [
        ("weights", f"{weights.name}, SHA-256 {weights.sha256}"),
        ("contract", f"{info.contract}, SHA-256 {info.contract_sha256}"),
        ("store", f"{store.manifest.uuid}, snapshot {info.snapshot}"),
        ("clips", f"{info.clips:,} of {info.recordings:,} recordings, {info.subjects:,} subjects"),
        ("clips with", ", ".join(f"{m} {n:,}" for m, n in info.with_modality.items())),
    ]
    page.table([{"a": a, "b": b} for a, b in rows], {"a": "", "b": ""})


def _retrieval(page: _Page, store: Reader, gallery: int, seed: int, seen: bool) -> None:
    columns = {
        "query": "query", "target": "target", "recall_at_1": "R@1 [95 %]",
        "chance_at_1": "chance", "recall_at_5": "R@5", "recall_at_10": "R@10",
        "median_rank": "median rank", "mrr": "MRR", "gallery": "gallery",
        "top_same_stage": "top hit: same stage", "top_same_subject": "same subject",
        "top_same_minute": "same minute", "subjects": "subjects",
    }  # fmt: skip
    for among in ("all", "cross-recording", "within-recording"):
        words = ("--gallery", str(gallery), "--seed", str(seed), "--gallery-scope", among)
        page.command("evaluate", *words, *_flag(seen))
        result = evaluate(store, gallery=gallery, seed=seed, among=among, include_seen=seen)
        page.text(result.note)
        page.table(result.to_pylist(), columns)
        if among == "all":
            page.figure(panels.retrieval(result), "recall at k, by pair, and ranks")


def _probe(page: _Page, store: Reader, label: str, task: str, seed: int, seen: bool) -> None:
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


def _knn(page: _Page, store: Reader, seed: int, seen: bool) -> None:
    first = store.manifest.modalities[0]
    for modality in store.manifest.modalities:
        command = ("knn", "--label", "stage", "--modality", modality, "--to", first)
        page.command(*command, "--seed", str(seed), *_flag(seen))
        page.attempt(partial(_vote, page, store, modality, first, seed, seen))


def _vote(page: _Page, store: Reader, modality: str, to: str, seed: int, seen: bool) -> None:
    result = knn(
        store, "stage", modality=modality, to=to, seed=seed, split=Split(include_seen=seen)
    )
    _assessment(page, result)


def _maps(page: _Page, store: Reader, method: str, seed: int) -> None:
    modality = store.manifest.modalities[0]
    page.code(
        f"sleepfm_index.evaluation.figures.embedding_map.embedding_maps(store, {modality!r}, "
        f"{method=}, {seed=})"
    )
    page.figure(
        embedding_maps(store, modality, method=method, seed=seed), "map by stage, subject and site"
    )


def _assessment(page: _Page, result: Assessment) -> None:
    page.text(result.note)
    rows = result.to_pylist()
    if "mae" in rows[0]:
        names = {"features": "from", "level": "per", "mae": "MAE [95 %]", "r": "r [95 %]"}
    else:
        names = {
            "features": "from", "level": "per", "class": "class", "auroc": "AUROC [95 %]",
            "auprc": "AUPRC [95 %]", "f1": "F1 [95 %]", "accuracy": "accuracy [95 %]",
            "kappa": "kappa [95 %]", "calibration_error": "calibration error [95 %]",
        }  # fmt: skip
    page.table(rows, {**names, "clips": "n", "subjects": "subjects"})
    last = list(result.predictions.values())[-1:]
    page.figure(panels.assessment(last), f"{last[0].features}")


def _night(page: _Page, store: Reader, made: Predictions) -> None:
    facts = store.rows(made.clip_ids)
    names = np.array(facts["recording_id"].to_pylist())
    longest = max(sorted(set(names)), key=lambda name: int((names == name).sum()))
    own = np.flatnonzero(names == longest)
    start = facts["start_s"].to_numpy()[own]
    own = own[np.argsort(start)]
    start = np.sort(start)
    page.text(
        f"One night, {longest}: the scoring, and the predictions of the probe on {made.features} "
        "that was not trained on this subject."
    )
    whole = store.sql(
        "SELECT start_s, stage FROM clips "
        f"WHERE recording_id = {quote_text(longest)} ORDER BY start_s"
    ).to_pylist()
    every = np.array([row["start_s"] for row in whole])
    stages = [str(row["stage"]) for row in whole]
    seconds = float(store.manifest.contract.clip_seconds)
    drawn = panels.night(every, stages, start, made.scores[own], made.classes, seconds)
    page.figure(drawn, "scored hypnogram and predicted hypnodensity")


def _few_shot(page: _Page, store: Reader, seed: int, seen: bool) -> None:
    folds = _folds(store)
    most = describe(store).subjects * (folds - 1) // folds
    shots = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= most]
    words = ("--shots", ",".join(map(str, shots)), "--repeats", "5", "--folds", str(folds))
    page.command("probe", "--label", "stage", *words, "--seed", str(seed), *_flag(seen))
    result = few_shot(
        store,
        "stage",
        shots,
        repeats=5,
        split=Split(folds, include_seen=seen),
        recipe=Recipe(seed=seed),
    )
    page.text(result.note)
    page.figure(few_shot_curve(result), "few-shot curve")


def _strips(page: _Page, store: Reader) -> None:
    first, *more = store.manifest.modalities
    for modality, to in ((more[0] if more else first, first), (first, first)):
        ids = store.metadata.clip_ids(f"has_{modality} AND stage IN ('N2', 'N3', 'R')")
        if not len(ids):
            page.text(f"Not available: no scored clip of sleep has {modality}.")
            continue
        clip = int(ids[len(ids) // 2])
        words = ("--modality", modality, "--to", to, "--clip", str(clip), "-k", "4")
        page.command("query", *words, "--plot", f"{modality}-{to}.png")
        found = answer(store, Question(modality, to, clip=clip, k=4))
        page.figure(neighbour_strips(store, clip, found, modality, to), f"signals by {modality}")


def _flag(seen: bool) -> tuple[str, ...]:
    return ("--include-seen",) if seen else ()


def _folds(store: Reader) -> int:
    return max(2, min(5, describe(store).subjects))


def _cell(row: dict[str, Any], name: str) -> str:
    value = row[name]
    if value is None:
        return "–"
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    form = ",.1f" if name in ("median_rank", "mae") else ".3f"
    text = f"{value:{form}}"
    return text if low is None or high is None else f"{text} [{low:{form}}, {high:{form}}]"
