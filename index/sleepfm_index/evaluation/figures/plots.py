"""Single plots of evaluation results.

Every function draws into ``ax``, or into a separate figure if none is given, and returns the axes.
Figures are made without pyplot, so no global state changes and no display is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.atomic_write import write_file
from sleepfm.modality import COLOURS, FURTHER_COLOURS, Modality
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.metrics.assessment import Predictions
from sleepfm_index.evaluation.metrics.estimates import BINS
from sleepfm_index.schema import OTHERS

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
"""Colours of Okabe and Ito, distinguishable for most colour-blind readers; N3 is a darker blue."""
_AVERAGED_COLOUR: Final = "#cc79a7"
"""Colour of a query that averages several modalities."""
_DASHES: Final = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 3)))
_OTHERS_DASHES: Final = (0, (1, 1))


def axes(ax: Axes | None = None, width: float = 6.0, height: float = 4.0) -> Axes:
    """Return the given axes, or those of a separate figure.

    Parameters
    ----------
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.
    width, height : float
        Size of the separate figure, in inches.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def save(ax: Axes, path: str | Path) -> Path:
    """Write the figure of some axes to a file.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Any axes of the figure.
    path : path
        The file; its ending (png, svg, pdf) is the format.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    QueryError
        If matplotlib does not support the format.
    """
    path = Path(path)
    figure: Any = ax.get_figure(root=True)
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in known:
        raise QueryError(f"unsupported figure format {path.name}; use a name in .png or .svg")
    plain_text(figure)
    return write_file(path, lambda aside: figure.savefig(aside, dpi=150))


def plain_text(figure: Any) -> None:
    """Draw texts literally: a dollar sign in an id or class is not mathematics.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure, changed in place.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)


def recall_curves(
    ranked: dict[tuple[str, str], Ranked],
    ax: Axes | None = None,
    modalities: Sequence[Modality] = (),
) -> Axes:
    """Draw recall@k over k for every direction, with the chance level of the first gallery.

    Parameters
    ----------
    ranked : dict of (query, target) to Ranked
        Ranks of the matching clips, as in ``Retrieval.ranked``.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.
    modalities : sequence of Modality
        Titles and colours. A modality that is missing here is labelled with its name.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax)
    largest = max(int(found.sizes.max()) for found in ranked.values())
    k = np.unique(np.geomspace(1, largest, 200).astype(int))
    styles = _LineStyles(ranked, modalities)
    for (query, to), found in ranked.items():
        ordered = np.sort(found.ranks)
        recall = np.searchsorted(ordered, k, side="right") / len(ordered)
        ax.plot(k, recall, **styles.line(query, to))
    sizes = next(iter(ranked.values())).sizes
    chance = [np.minimum(1, some / sizes).mean() for some in k]
    ax.plot(k, chance, color="0.5", linestyle=":", label="chance")
    ax.set(xscale="log", xlabel="k", ylabel="recall@k", ylim=(0, 1.02))
    ax.set_xlim(1, largest)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.legend(fontsize="x-small", ncols=2)
    return ax


class _LineStyles:
    """Labels and line styles of directions: colour by query modality, dashes by target.

    Parameters
    ----------
    ranked : mapping by (query, target)
        The directions.
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
    """Draw one retrieval measure for every query (row) and target (column).

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
    low, high = (None, None) if measure == "median_rank" else (0.0, 1.0)
    image = ax.imshow(grid, cmap="viridis", aspect="auto", vmin=low, vmax=high)
    _numbers(ax, grid, image)
    ax.set_xticks(range(len(targets)), targets)
    ax.set_yticks(range(len(queries)), queries)
    ax.set(xlabel="target", ylabel="query")
    ax.figure.colorbar(image, ax=ax, label=measure.replace("_", " "))
    return ax


def rank_histogram(
    ranked: dict[tuple[str, str], Ranked],
    ax: Axes | None = None,
    modalities: Sequence[Modality] = (),
) -> Axes:
    """Draw the distribution of ranks of the matching clips, relative to the gallery size.

    Bins are equally wide on a logarithmic scale, from the first rank to the last.

    Parameters
    ----------
    ranked : dict of (query, target) to Ranked
        Ranks of the matching clips.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.
    modalities : sequence of Modality
        Titles and colours, as in :func:`recall_curves`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax)
    largest = max(int(found.sizes.max()) for found in ranked.values())
    edges = np.geomspace(100 / largest, 100, 21)
    # a rank at an edge belongs to the bin below it, so that the first bin contains rank 1
    inner = np.append(edges[1:-1] * (1 + 1e-9), np.inf)
    styles = _LineStyles(ranked, modalities)
    for (query, to), found in ranked.items():
        bin_of = np.searchsorted(inner, 100 * found.ranks / found.sizes)
        share = np.bincount(bin_of, minlength=20) / len(bin_of)
        ax.stairs(100 * share, edges, **styles.line(query, to))
    even = np.diff(np.append(0, edges[1:]))
    ax.stairs(even, edges, color="0.5", linestyle=":", label="chance")
    ax.set(xscale="log", xlabel="rank of the matching clip (% of candidates)", ylabel="queries (%)")
    ax.set_xlim(edges[0], 100)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.legend(fontsize="x-small", ncols=2)
    return ax


def confusion_matrix(made: Predictions, ax: Axes | None = None) -> Axes:
    """Draw a confusion matrix: counts by true (row) and predicted class, shaded by share of row.

    Parameters
    ----------
    made : Predictions
        The predictions.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
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
    ax.figure.colorbar(image, ax=ax, label="row-normalised")
    return ax


def roc(made: Predictions, ax: Axes | None = None) -> Axes:
    """Draw the ROC curve of each class against the rest.

    Parameters
    ----------
    made : Predictions
        The predictions.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax, 4.6, 4.2)
    for name, hits, misses, _ in _curves(made):
        ax.plot(misses / misses[-1], hits / hits[-1], label=name, color=STAGE_COLOURS.get(name))
    ax.plot([0, 1], [0, 1], ":", color="0.5")
    ax.set(xlabel="false positive rate", ylabel="true positive rate", title=made.features)
    ax.set_aspect("equal")
    ax.legend(loc="lower right")
    return ax


def precision_recall(made: Predictions, ax: Axes | None = None) -> Axes:
    """Draw precision over recall for each class, with dotted lines at the class prevalence.

    Parameters
    ----------
    made : Predictions
        The predictions.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
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
    """Draw a calibration curve: accuracy over the probability of the predicted class.

    Probabilities are grouped in ten equal bins.

    Parameters
    ----------
    made : Predictions
        The predictions.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax, 4.6, 4.2)
    confidence = made.scores.max(axis=1)
    right = made.scores.argmax(axis=1) == made.truth
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
    ax.set(xlabel="probability of the predicted class", ylabel="observed accuracy", xlim=(0, 1.02))
    ax.set(ylim=(-0.02, 1.02), title="calibration (clips per point)")
    ax.legend(loc="upper left")
    return ax


def _curves(
    made: Predictions,
) -> list[tuple[str, NDArray[np.float64], NDArray[np.float64], float]]:
    """Count true and false positives by descending threshold, for classes with both kinds."""
    curves = []
    for code, name in enumerate(made.classes):
        positive = made.truth == code
        if not positive.any() or positive.all():
            continue
        order = np.argsort(-made.scores[:, code], kind="stable")
        ordered = made.scores[order, code]
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
