"""Figures of what is measured: data in, matplotlib ``Axes`` in and out.

Every function draws into ``ax``, or into a figure of its own where none is given, and gives the
axes back. Figures are made without pyplot, so nothing global changes and no display is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.metrics.assessment import Predictions
from sleepfm_index.evaluation.metrics.scores import BINS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sleepfm_index.evaluation.retrieval.retrieval import Ranked
    from sleepfm_index.results import Result

STAGE_COLOURS: Final = {
    "W": "#e69f00",
    "N1": "#56b4e9",
    "N2": "#0072b2",
    "N3": "#1b2a6b",
    "R": "#d55e00",
    "UNS": "#bbbbbb",
}
"""Colours of Okabe and Ito, told apart by most colour-blind readers; N3 is a darker blue."""
_MODALITY_COLOURS: Final = {"bas": "#0072b2", "ecg": "#d55e00", "resp": "#009e73"}
_HEIGHT: Final = {"N3": 0, "N2": 1, "N1": 2, "R": 3, "W": 4}


def axes(ax: Axes | None = None, width: float = 6.0, height: float = 4.0) -> Axes:
    """Give the axes, or those of a figure of their own; sizes in inches."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def save(ax: Axes, path: str | Path) -> Path:
    """Write the figure of some axes; the ending (png, svg, pdf) is the format.

    Raises
    ------
    QueryError
        If the ending is no format of matplotlib's.
    """
    path = Path(path)
    figure: Any = ax.get_figure(root=True)
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in known:
        raise QueryError(f"no figure can be written as {path.name}; end it in .png or .svg")
    figure.savefig(path, dpi=150)
    return path


def recall_curves(ranked: dict[tuple[str, str], Ranked], ax: Axes | None = None) -> Axes:
    """Recall@k over k for every direction, with chance of the first one's gallery."""
    ax = axes(ax)
    largest = max(int(found.sizes.max()) for found in ranked.values())
    k = np.unique(np.geomspace(1, largest, 200).astype(int))
    for (query, to), found in ranked.items():
        ordered = np.sort(found.ranks)
        recall = np.searchsorted(ordered, k, side="right") / len(ordered)
        ax.plot(k, recall, label=f"{query} → {to}", **_line(query, to))
    sizes = next(iter(ranked.values())).sizes
    chance = [np.minimum(1, some / sizes).mean() for some in k]
    ax.plot(k, chance, color="0.5", linestyle=":", label="chance")
    ax.set(xscale="log", xlabel="k (candidates looked at)", ylabel="recall@k", ylim=(0, 1.02))
    ax.set_xlim(1, largest)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.legend(fontsize="x-small", ncols=2)
    return ax


def _line(query: str, to: str) -> dict[str, Any]:
    """Colour by what is searched with, stroke by what is searched in."""
    strokes: dict[str, Any] = {"bas": "-", "ecg": "--", "resp": "-.", "others": (0, (1, 1))}
    return {
        "color": _MODALITY_COLOURS.get(query, "#cc79a7"),
        "linestyle": strokes[to],
        "linewidth": 2.4 if to == "others" else 1.4,
    }


def pair_matrix(result: Result, measure: str = "recall_at_1", ax: Axes | None = None) -> Axes:
    """One measure of retrieval for every query (row) and target (column)."""
    ax = axes(ax, 4.6, 3.6)
    rows = [row for row in result.to_pylist() if row.get("group") is None]
    queries = list(dict.fromkeys(row["query"] for row in rows))
    targets = list(dict.fromkeys(row["target"] for row in rows))
    grid = np.full((len(queries), len(targets)), np.nan)
    for row in rows:
        grid[queries.index(row["query"]), targets.index(row["target"])] = row[measure]
    order = sorted(range(len(targets)), key=lambda i: (targets[i] == "others", targets[i]))
    grid, targets = grid[:, order], [targets[i] for i in order]
    low, high = (None, None) if measure == "median_rank" else (0.0, 1.0)
    image = ax.imshow(grid, cmap="viridis", aspect="auto", vmin=low, vmax=high)
    _numbers(ax, grid, image)
    ax.set_xticks(range(len(targets)), targets)
    ax.set_yticks(range(len(queries)), queries)
    ax.set(xlabel="target", ylabel="query")
    ax.figure.colorbar(image, ax=ax, label=measure.replace("_", " "))
    return ax


def rank_histogram(ranked: dict[tuple[str, str], Ranked], ax: Axes | None = None) -> Axes:
    """How the ranks of the true answers are spread, by share of the gallery, against chance.

    Bins are equally wide on a logarithmic scale, from the first place to the last.
    """
    ax = axes(ax)
    largest = max(int(found.sizes.max()) for found in ranked.values())
    edges = np.geomspace(100 / largest, 100, 21)
    # a rank at an edge is in the bin below it, so that the first bin holds rank 1
    inner = np.append(edges[1:-1] * (1 + 1e-9), np.inf)
    for (query, to), found in ranked.items():
        bin_of = np.searchsorted(inner, 100 * found.ranks / found.sizes)
        share = np.bincount(bin_of, minlength=20) / len(bin_of)
        ax.stairs(100 * share, edges, label=f"{query} → {to}", **_line(query, to))
    even = np.diff(np.append(0, edges[1:]))
    ax.stairs(even, edges, color="0.5", linestyle=":", label="ranks at random")
    ax.set(xscale="log", xlabel="rank of the true answer (% of the gallery)", ylabel="queries (%)")
    ax.set_xlim(edges[0], 100)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.legend(fontsize="x-small", ncols=2)
    return ax


def confusion_matrix(made: Predictions, ax: Axes | None = None) -> Axes:
    """Clips by true class (row) and predicted class (column): counts, shaded by share of row."""
    ax = axes(ax, 4.6, 4.0)
    matrix = made.confusion()
    with np.errstate(invalid="ignore"):
        share = matrix / matrix.sum(axis=1, keepdims=True)
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    _numbers(ax, matrix, image, share)
    ticks = range(len(made.classes))
    ax.set_xticks(ticks, made.classes)
    ax.set_yticks(ticks, made.classes)
    ax.set(xlabel="predicted", ylabel="true", title=f"{made.features}, {made.level}s")
    ax.figure.colorbar(image, ax=ax, label="share of the true class")
    return ax


def roc(made: Predictions, ax: Axes | None = None) -> Axes:
    """ROC curve of each class against the rest."""
    ax = axes(ax, 4.6, 4.2)
    for name, hits, misses, _ in _curves(made):
        ax.plot(misses / misses[-1], hits / hits[-1], label=name, color=STAGE_COLOURS.get(name))
    ax.plot([0, 1], [0, 1], ":", color="0.5")
    ax.set(xlabel="false positive rate", ylabel="true positive rate", title=made.features)
    ax.set_aspect("equal")
    ax.legend(loc="lower right")
    return ax


def precision_recall(made: Predictions, ax: Axes | None = None) -> Axes:
    """Precision over recall of each class, dotted at the share of its clips."""
    ax = axes(ax, 4.6, 4.2)
    for name, hits, misses, share in _curves(made):
        (line,) = ax.plot(
            hits / hits[-1], hits / (hits + misses), label=name, color=STAGE_COLOURS.get(name)
        )
        ax.axhline(share, linestyle=":", linewidth=0.8, color=line.get_color())
    ax.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02), title=made.features)
    ax.legend(loc="best", fontsize="small")
    return ax


def calibration(made: Predictions, ax: Axes | None = None) -> Axes:
    """Share right over the probability of the predicted class, in ten equal bins."""
    ax = axes(ax, 4.6, 4.2)
    confidence = made.said.max(axis=1)
    right = made.said.argmax(axis=1) == made.truth
    at = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(at, minlength=BINS)
    there = count > 0
    with np.errstate(invalid="ignore"):
        mean = np.bincount(at, confidence, BINS) / count
        share = np.bincount(at, right, BINS) / count
    ax.plot([0, 1], [0, 1], ":", color="0.5", label="perfect")
    ax.plot(mean[there], share[there], "o-", label=made.features)
    for x, y, n in zip(mean[there], share[there], count[there], strict=True):
        ax.annotate(f"{n}", (x, y), (4, -9), textcoords="offset points", fontsize="x-small")
    ax.set(xlabel="probability of the predicted class", ylabel="share right", xlim=(0, 1.02))
    ax.set(ylim=(-0.02, 1.02), title="calibration (clips per point)")
    ax.legend(loc="upper left")
    return ax


def few_shot_curve(result: Result, measure: str = "auroc", ax: Axes | None = None) -> Axes:
    """Draw a measure over the subjects learned from; bands are 2.5 to 97.5 % of the draws."""
    ax = axes(ax)
    rows = [row for row in result.to_pylist() if row[measure] is not None]
    for features in dict.fromkeys(row["features"] for row in rows):
        own = [row for row in rows if row["features"] == features]
        shots = [row["shots"] for row in own]
        (line,) = ax.plot(shots, [row[measure] for row in own], "o-", label=features)
        low, high = ([row[f"{measure}_{end}"] for row in own] for end in ("low", "high"))
        ax.fill_between(shots, low, high, alpha=0.15, color=line.get_color())
    ticks = sorted({row["shots"] for row in rows})
    ax.set(xlabel="subjects learned from", ylabel=f"macro {measure.upper()}", xscale="log")
    ax.set_title("bands: 2.5 to 97.5 % of the draws of subjects", fontsize="small")
    ax.set_xticks(ticks, [str(t) for t in ticks], minor=False)
    ax.minorticks_off()
    ax.legend()
    return ax


def hypnogram(
    start_s: NDArray[np.float64],
    stages: Sequence[str],
    ax: Axes | None = None,
    *,
    clip_seconds: float = 30.0,
) -> Axes:
    """Stages over the hours of a night; what is not scored is left blank, REM is marked."""
    ax = axes(ax, 8.0, 2.2)
    height = np.array([_HEIGHT.get(stage, np.nan) for stage in stages])
    hours = start_s / 3600
    edges = np.append(hours, hours[-1] + clip_seconds / 3600)
    ax.stairs(height, edges, baseline=None, color="0.2", linewidth=1.0)
    rem = np.array(stages) == "R"
    width = clip_seconds / 3600
    ax.bar(hours[rem], 0.25, width, 2.9, align="edge", color=STAGE_COLOURS["R"])
    ax.set_yticks(list(_HEIGHT.values()), list(_HEIGHT))
    ax.set(xlabel="time since the recording's start (h)", ylabel="stage", ylim=(-0.4, 4.4))
    ax.set_xlim(edges[0], edges[-1])
    return ax


def hypnodensity(
    start_s: NDArray[np.float64],
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
    ax: Axes | None = None,
    *,
    clip_seconds: float = 30.0,
) -> Axes:
    """Probability of each stage over the hours of a night, stacked."""
    ax = axes(ax, 8.0, 2.2)
    hours = np.append(start_s, start_s[-1] + clip_seconds) / 3600
    upto = np.zeros(len(start_s))
    for code, name in enumerate(classes):
        over = upto + probabilities[:, code]
        ax.stairs(over, hours, baseline=upto, fill=True, color=STAGE_COLOURS.get(name), label=name)
        upto = over
    ax.set(xlabel="time since the recording's start (h)", ylabel="probability", ylim=(0, 1))
    ax.set_xlim(hours[0], hours[-1])
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return ax


def _curves(
    made: Predictions,
) -> list[tuple[str, NDArray[np.float64], NDArray[np.float64], float]]:
    """Count true and false positives of every class that has both, by falling threshold."""
    curves = []
    for code, name in enumerate(made.classes):
        positive = made.truth == code
        if not positive.any() or positive.all():
            continue
        order = np.argsort(-made.said[:, code], kind="stable")
        ordered = made.said[order, code]
        ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
        hits = np.cumsum(positive[order])[ends].astype(np.float64)
        misses = (ends + 1.0) - hits
        curves.append((name, hits, misses, float(positive.mean())))
    return curves


def _numbers(
    ax: Axes, grid: NDArray[Any], image: Any, shade: NDArray[np.float64] | None = None
) -> None:
    shade = grid if shade is None else shade
    for (y, x), value in np.ndenumerate(grid):
        if np.isfinite(value):
            text = f"{value:,}" if grid.dtype.kind in "iu" else f"{value:.3f}"
            red, green, blue, _ = image.cmap(image.norm(np.nan_to_num(shade[y, x])))
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            colour = "white" if dark else "black"
            ax.text(x, y, text, ha="center", va="center", color=colour, fontsize="small")
