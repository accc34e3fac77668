"""Single plots of evaluation results.

Every function draws into ``ax``, or into a separate figure if none is given, and returns the axes.
Figures are made without pyplot, so no global state changes and no display is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import COLOURS, FURTHER_COLOURS, Modality
from sleepfm_index.evaluation.figures.style import axes, class_colour
from sleepfm_index.evaluation.metrics.assessment import Predictions
from sleepfm_index.evaluation.metrics.estimates import BINS, mean
from sleepfm_index.evaluation.metrics.intervals import proportion
from sleepfm_index.schema import OTHERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sleepfm_index.evaluation.retrieval.retrieval import Ranked
    from sleepfm_index.results import Result

_AVERAGED_COLOUR: Final = "#cc79a7"
"""Colour of a query that averages several modalities."""
_DASHES: Final = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 3)))
_MEASURES: Final = {
    "recall_at_1": "recall@1",
    "recall_at_5": "recall@5",
    "recall_at_10": "recall@10",
    "median_rank": "median rank",
    "mrr": "mean reciprocal rank",
}
_OTHERS_DASHES: Final = (0, (1, 1))


def recall_curves(
    ranked: dict[tuple[str, str], Ranked],
    ax: Axes | None = None,
    modalities: Sequence[Modality] = (),
) -> Axes:
    """Draw recall@k over k for every direction, with the chance level of the first gallery.

    Bands are 95 % intervals over subjects. They need at least six subjects, and are omitted where
    recall is 0 or 1.

    Parameters
    ----------
    ranked : dict of (query, target) to Ranked
        Ranks of the matching clips, as in ``Retrieval.ranked``.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.
    modalities : sequence of Modality
        Titles and colours; other modalities are labelled with their names.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax)
    largest = max(int(ranks.sizes.max()) for ranks in ranked.values())
    k = np.unique(np.geomspace(1, largest, 200).astype(int))
    styles = _LineStyles(ranked, modalities)
    for (query, to), ranks in ranked.items():
        ordered = np.sort(ranks.ranks)
        recall = np.searchsorted(ordered, k, side="right") / len(ordered)
        (line,) = ax.plot(k, recall, **styles.line(query, to))
        _band(ax, ranks, largest, line.get_color())
    sizes = next(iter(ranked.values())).sizes
    chance = [np.minimum(1, k_value / sizes).mean() for k_value in k]
    ax.plot(k, chance, color="0.5", linestyle=":", label="chance")
    ax.set(xscale="log", xlabel="k", ylabel="recall@k", ylim=(0, 1.02))
    ax.set_xlim(1, largest)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.legend(fontsize="x-small", ncols=2)
    return ax


def _band(ax: Axes, ranked: Ranked, largest: int, colour: Any) -> None:
    _, subjects = np.unique(ranked.subjects, return_inverse=True)
    ks = np.union1d(np.geomspace(1, largest, 30).astype(int), [k for k in (5, 10) if k < largest])
    ks = ks[
        (ks >= ranked.ranks.min()) & (ks < ranked.ranks.max())
    ]  # the bound jumps at recall 0 and 1
    bounds = []
    for k_value in ks:
        hits = (ranked.ranks <= k_value).astype(np.float64)
        bounds.append(proportion(mean(hits, subjects), float(hits.var()) / len(hits)))
    if bounds and np.isfinite(bounds).all():
        low, high = zip(*bounds, strict=True)
        ax.fill_between(ks, low, high, color=colour, alpha=0.12, linewidth=0)


class _LineStyles:
    """Labels and line styles of directions: colour by query modality, dashes by target.

    Parameters
    ----------
    ranked : mapping by (query, target)
        Ranks by direction; only the keys are used.
    modalities : sequence of Modality
        Titles and colours of the modalities that the contract describes.
    """

    def __init__(
        self, ranked: Mapping[tuple[str, str], object], modalities: Sequence[Modality]
    ) -> None:
        described = [m.name for m in modalities] or list(COLOURS)
        drawn = [name for pair in ranked for name in pair if name != OTHERS and "+" not in name]
        names = list(dict.fromkeys([*described, *drawn]))
        self._titles = {m.name: m.title for m in modalities}
        self._colours = {m.name: m.colour for m in modalities}
        for number, name in enumerate(names):
            default = COLOURS.get(name, FURTHER_COLOURS[number % len(FURTHER_COLOURS)])
            self._colours.setdefault(name, default)
        self._dashes = {name: _DASHES[i % len(_DASHES)] for i, name in enumerate(names)}

    def title(self, name: str) -> str:
        """Return the title of a modality, or of several joined by ``+``."""
        return "+".join(self._titles.get(part, part) for part in name.split("+"))

    def line(self, query: str, to: str) -> dict[str, Any]:
        """Choose the keyword arguments of a matplotlib line."""
        return {
            "label": f"{self.title(query)} → {self.title(to)}",
            "color": self._colours.get(query, _AVERAGED_COLOUR),
            "linestyle": self._dashes.get(to, _OTHERS_DASHES),
            "linewidth": 2.4 if to == OTHERS else 1.4,
        }


def pair_matrix(result: Result, measure: str = "recall_at_1", ax: Axes | None = None) -> Axes:
    """Draw one retrieval measure for every query (row) and target (column), on one colour scale.

    The scale begins at 0 and ends at the largest value, for a median rank at the largest gallery.

    Parameters
    ----------
    result : Result
        Rows of a retrieval table; rows of groups are ignored.
    measure : str
        A column of the table.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax, 4.6, 3.6)
    rows = [row for row in result.to_pylist() if row.get("group") is None]
    queries = list(dict.fromkeys(row["query"] for row in rows))
    targets = list(dict.fromkeys(row["target"] for row in rows))
    grid = np.full((len(queries), len(targets)), np.nan)
    for row in rows:
        grid[queries.index(row["query"]), targets.index(row["target"])] = row[measure]
    order = sorted(range(len(targets)), key=lambda i: (targets[i] == OTHERS, targets[i]))
    grid, targets = grid[:, order], [targets[i] for i in order]
    high = float(np.nanmax(grid))
    if measure == "median_rank":
        high = max(float(row["gallery"]) for row in rows)
    image = ax.imshow(grid, cmap="cividis", aspect="auto", vmin=0.0, vmax=high or 1.0)
    _numbers(ax, grid, image)
    ax.set_xticks(range(len(targets)), targets)
    ax.set_yticks(range(len(queries)), queries)
    ax.set(xlabel="target", ylabel="query")
    ax.figure.colorbar(image, ax=ax, label=_MEASURES.get(measure, measure))
    return ax


def rank_histogram(
    ranked: dict[tuple[str, str], Ranked],
    ax: Axes | None = None,
    modalities: Sequence[Modality] = (),
) -> Axes:
    """Draw the distribution of ranks of the matching clips, one row of shades per direction.

    Bins are equally wide on a logarithmic scale, from the first rank to the last. All rows share
    one scale; the last is chance.

    Parameters
    ----------
    ranked : dict of (query, target) to Ranked
        Ranks of the matching clips.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.
    modalities : sequence of Modality
        Titles, as in :func:`recall_curves`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax)
    largest = max(int(ranks.sizes.max()) for ranks in ranked.values())
    edges = np.geomspace(100 / largest, 100, 21)
    # a rank at an edge belongs to the bin below it, so that the first bin contains rank 1
    inner = np.append(edges[1:-1] * (1 + 1e-9), np.inf)
    styles = _LineStyles(ranked, modalities)
    rows = []
    for ranks in ranked.values():
        bin_of = np.searchsorted(inner, 100 * ranks.ranks / ranks.sizes)
        rows.append(100 * np.bincount(bin_of, minlength=20) / len(bin_of))
    rows.append(np.diff(np.append(0, edges[1:])))
    lines = np.arange(len(rows) + 1) - 0.5
    image = ax.pcolormesh(edges, lines, np.array(rows), cmap="cividis", vmin=0)
    names = [str(styles.line(query, to)["label"]) for query, to in ranked]
    ax.set_yticks(range(len(rows)), [*names, "chance"], fontsize="small")
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="rank of the matching clip (% of candidates)")
    ax.set_ylabel("query → target")
    ax.set_xlim(edges[0], 100)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.figure.colorbar(image, ax=ax, label="queries (%)")
    return ax


def confusion_matrix(predictions: Predictions, ax: Axes | None = None) -> Axes:
    """Draw a confusion matrix: counts by true (row) and predicted class, shaded by share of row.

    Parameters
    ----------
    predictions : Predictions
        Predictions of a classifier.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax, 4.6, 4.0)
    matrix = predictions.confusion()
    with np.errstate(invalid="ignore"):
        share = matrix / matrix.sum(axis=1, keepdims=True)
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    _numbers(ax, matrix, image, share)
    ticks = range(len(predictions.classes))
    ax.set_xticks(ticks, predictions.classes)
    ax.set_yticks(ticks, predictions.classes)
    ax.set(xlabel="predicted", ylabel="true", title=f"{predictions.features}, {predictions.level}s")
    ax.figure.colorbar(image, ax=ax, label="row-normalised")
    return ax


def roc(predictions: Predictions, ax: Axes | None = None) -> Axes:
    """Draw the ROC curve of each class against the rest.

    Parameters
    ----------
    predictions : Predictions
        Predictions of a classifier.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax, 4.6, 4.2)
    for code, name, hits, misses, _ in _curves(predictions):
        colour = class_colour(name, code)
        ax.plot(misses / misses[-1], hits / hits[-1], label=name, color=colour)
    ax.plot([0, 1], [0, 1], ":", color="0.5")
    ax.set(xlabel="false positive rate", ylabel="true positive rate", title=predictions.features)
    ax.set_aspect("equal")
    ax.legend(loc="lower right")
    return ax


def precision_recall(predictions: Predictions, ax: Axes | None = None) -> Axes:
    """Draw precision over recall for each class, with dotted lines at the class prevalence.

    Parameters
    ----------
    predictions : Predictions
        Predictions of a classifier.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax, 4.6, 4.2)
    for code, name, hits, misses, share in _curves(predictions):
        colour = class_colour(name, code)
        (line,) = ax.plot(hits / hits[-1], hits / (hits + misses), label=name, color=colour)
        ax.axhline(share, linestyle=":", linewidth=0.8, color=line.get_color())
    ax.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02), title=predictions.features)
    ax.legend(loc="best", fontsize="small")
    return ax


def calibration(predictions: Predictions, ax: Axes | None = None) -> Axes:
    """Draw a calibration curve: accuracy over the probability of the predicted class.

    Probabilities are grouped in ten equal bins.

    Parameters
    ----------
    predictions : Predictions
        Predictions of a classifier.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax, 4.6, 4.2)
    confidence = predictions.scores.max(axis=1)
    correct = predictions.scores.argmax(axis=1) == predictions.truth
    bin_of = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(bin_of, minlength=BINS)
    filled = count > 0
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bin_of, confidence, BINS) / count
        accuracy = np.bincount(bin_of, correct, BINS) / count
    ax.plot([0, 1], [0, 1], ":", color="0.5", label="perfect")
    ax.plot(mean_confidence[filled], accuracy[filled], "o-", label=predictions.features)
    for x, y, n in zip(mean_confidence[filled], accuracy[filled], count[filled], strict=True):
        ax.annotate(f"{n}", (x, y), (4, -9), textcoords="offset points", fontsize="x-small")
    ax.set(xlabel="probability of the predicted class", ylabel="observed accuracy", xlim=(0, 1.02))
    ax.set(ylim=(-0.02, 1.02), title="calibration (clips per point)")
    ax.legend(loc="lower right")
    return ax


def _curves(
    predictions: Predictions,
) -> list[tuple[int, str, NDArray[np.float64], NDArray[np.float64], float]]:
    """Count true and false positives by descending threshold, per class.

    Classes without positive or without negative examples are skipped.
    """
    curves = []
    for code, name in enumerate(predictions.classes):
        positive = predictions.truth == code
        if not positive.any() or positive.all():
            continue
        order = np.argsort(-predictions.scores[:, code], kind="stable")
        ordered = predictions.scores[order, code]
        ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
        hits = np.cumsum(positive[order])[ends].astype(np.float64)
        misses = (ends + 1.0) - hits
        curves.append((code, name, hits, misses, float(positive.mean())))
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
