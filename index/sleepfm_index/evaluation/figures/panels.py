"""Figures with several panels, from the plots in :mod:`sleepfm_index.evaluation.figures.plots`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.figures import plots
from sleepfm_index.evaluation.figures.hypnograms import hypnodensity, hypnogram
from sleepfm_index.evaluation.figures.learning_curve import few_shot_curve
from sleepfm_index.evaluation.figures.slots_curve import slots_curve
from sleepfm_index.evaluation.figures.style import DPI, quantity, save
from sleepfm_index.evaluation.metrics.assessment import Assessment, Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sleepfm_index.evaluation.retrieval.fewer_slots import FewerSlots
    from sleepfm_index.evaluation.retrieval.retrieval import Retrieval
    from sleepfm_index.results import Result


def endings() -> frozenset[str]:
    """List the supported file name extensions of figures, e.g. ``.png``."""
    from matplotlib.figure import Figure

    return frozenset(f".{extension}" for extension in Figure().canvas.get_supported_filetypes())


def draw_retrieval(result: Retrieval, path: str | Path, dpi: int = DPI) -> Path:
    """Write recall curves, the matrix of pairs and the histogram of ranks to a file.

    Parameters
    ----------
    result : Retrieval
        The retrieval to draw.
    path : path
        Path to write; its extension (png, svg, pdf) sets the format.
    dpi : int
        Resolution of a PNG, in dots per inch.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    QueryError
        If the format is not supported.
    """
    return save(retrieval(result), path, dpi)


def retrieval(result: Retrieval) -> Axes:
    """Draw recall curves by query, the matrix of pairs and the distribution of ranks.

    Parameters
    ----------
    result : Retrieval
        The retrieval to draw.

    Returns
    -------
    matplotlib.axes.Axes
        Axes of the first panel; its figure contains all panels.
    """
    from matplotlib.figure import Figure

    queries = list(dict.fromkeys(query for query, _ in result.ranked))
    figure = Figure(figsize=(max(4.2 * len(queries), 11.0), 8.4), layout="constrained")
    rows: Any = figure.subfigures(2, 1, height_ratios=(1, 1))
    above, below = rows
    curves = above.subplots(1, len(queries), squeeze=False, sharey=True)[0]
    for ax, query in zip(curves, queries, strict=True):
        ranked = {pair: of_pair for pair, of_pair in result.ranked.items() if pair[0] == query}
        plots.recall_curves(ranked, ax, result.modalities)
        ax.set_title(f"query: {query}", fontsize="medium")
        ax.label_outer()
    matrix, ranks = below.subplots(1, 2, width_ratios=(4, 6))
    plots.pair_matrix(result, ax=matrix)
    plots.rank_histogram(result.ranked, ranks, result.modalities)
    first: Axes = curves[0]
    return first


def draw_assessment(result: Assessment, path: str | Path, dpi: int = DPI) -> Path:
    """Write confusion matrix, ROC, precision-recall and calibration plots to a file.

    Each set of features has one row of panels. For a numeric label, the figure shows predicted over
    true values.

    Parameters
    ----------
    result : Assessment
        The assessment to draw.
    path : path
        Path to write; its extension (png, svg, pdf) sets the format.
    dpi : int
        Resolution of a PNG, in dots per inch.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    QueryError
        If the format is not supported.
    """
    return save(assessment(list(result.predictions.values())), path, dpi)


def assessment(predictions: list[Predictions]) -> Axes:
    """Draw confusion matrix, ROC, precision-recall and calibration, or predicted over true values.

    Parameters
    ----------
    predictions : list of Predictions
        Predictions; each element is one row of panels.

    Returns
    -------
    matplotlib.axes.Axes
        Axes of the first panel; its figure contains all panels.
    """
    from matplotlib.figure import Figure

    columns = 4 if predictions[0].classes else 1
    figure = Figure(figsize=(4.6 * columns, 4.2 * len(predictions)), layout="constrained")
    panels = figure.subplots(len(predictions), columns, squeeze=False)
    for row, of_model in zip(panels, predictions, strict=True):
        if of_model.classes:
            plots.confusion_matrix(of_model, row[0])
            plots.roc(of_model, row[1])
            plots.precision_recall(of_model, row[2])
            plots.calibration(of_model, row[3])
        else:
            _predicted_over_true(of_model, row[0])
    first: Axes = panels[0][0]
    return first


def night(
    start_s: NDArray[np.float64],
    stages: Sequence[str],
    predicted_s: NDArray[np.float64],
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
    clip_seconds: float = 30.0,
    clock_s: float | None = None,
) -> Axes:
    """Draw a night's scored hypnogram above the predicted hypnodensity.

    Parameters
    ----------
    start_s : ndarray of float64, shape [n]
        Offset of each scored clip, in seconds.
    stages : sequence of str, length n
        Stage of each scored clip.
    predicted_s : ndarray of float64, shape [m]
        Offset of each predicted clip, in seconds.
    probabilities : ndarray of float64, shape [m, classes]
        Predicted probabilities.
    classes : sequence of str
        Stages, in the order of the probabilities.
    clip_seconds : float
        Length of a clip, in seconds.
    clock_s : float, optional
        Time of day at the recording's start, in seconds after midnight.

    Returns
    -------
    matplotlib.axes.Axes
        Axes of the upper panel; its figure contains both panels.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    hypnogram(start_s, stages, above, clip_seconds=clip_seconds, clock_s=clock_s)
    hypnodensity(
        predicted_s, probabilities, classes, below, clip_seconds=clip_seconds, clock_s=clock_s
    )
    above.set(xlabel="", title="scored")
    below.set(title="predicted")
    first: Axes = above
    return first


def draw_few_shot(result: Result, path: str | Path, dpi: int = DPI) -> Path:
    """Write the few-shot learning curve to a file, of AUROC or else MAE.

    Parameters
    ----------
    result : Result
        Result of :func:`~sleepfm_index.evaluation.models.few_shot.few_shot`.
    path : path
        Path to write; its extension (png, svg, pdf) sets the format.
    dpi : int
        Resolution of a PNG, in dots per inch.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    QueryError
        If no draw could be fitted, or the format is not supported.
    """
    measure = "auroc" if "auroc" in result.table.column_names else "mae"
    if not any(row[measure] is not None for row in result.to_pylist()):
        raise QueryError("there is no learning curve to draw: no draw of subjects could be fitted")
    return save(few_shot_curve(result, measure), path, dpi)


def draw_fewer_slots(result: FewerSlots, path: str | Path, dpi: int = DPI) -> Path:
    """Write recall@10 and the AUROC of stages against the slots left to a file.

    Parameters
    ----------
    result : FewerSlots
        Result of :func:`~sleepfm_index.evaluation.retrieval.fewer_slots.fewer_slots`.
    path : path
        Path to write; its extension (png, svg, pdf) sets the format.
    dpi : int
        Resolution of a PNG, in dots per inch.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    QueryError
        If the format is not supported.
    """
    return save(fewer_slots(result), path, dpi)


def fewer_slots(result: FewerSlots) -> Axes:
    """Draw recall@10 and the AUROC of stages against the slots left, one panel per modality.

    Parameters
    ----------
    result : FewerSlots
        Result of :func:`~sleepfm_index.evaluation.retrieval.fewer_slots.fewer_slots`.

    Returns
    -------
    matplotlib.axes.Axes
        Axes of the first panel; its figure contains all panels.
    """
    from matplotlib.figure import Figure

    count = len(result.modalities)
    figure = Figure(figsize=(3.6 * count, 4.0), layout="constrained")
    row = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    rows = result.to_pylist()
    for ax, modality in zip(row, result.modalities, strict=True):
        slots_curve([r for r in rows if r["modality"] == modality.name], ax)
        ax.set_title(modality.title)
        ax.label_outer()
    labelled: dict[Any, Any] = {}
    for ax in row:
        handles, labels = ax.get_legend_handles_labels()
        labelled |= dict(zip(labels, handles, strict=True))
    figure.legend(
        labelled.values(), labelled.keys(), loc="outside lower center", ncols=4 if count > 2 else 2
    )
    if any(r["recall_at_10_low"] is not None for r in rows):
        figure.suptitle("bands and bars: 95 % intervals over subjects", fontsize="small")
    first: Axes = row[0]
    return first


def _predicted_over_true(predictions: Predictions, ax: Axes) -> None:
    size = 6 if len(predictions.truth) > 200 else 30
    ax.scatter(predictions.truth, predictions.scores, s=size, alpha=0.5, linewidths=0)
    limits = [float(np.min(predictions.truth)), float(np.max(predictions.truth))]
    ax.plot(limits, limits, ":", color="0.5")
    name = quantity(predictions.label)
    ax.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
    ax.set_title(f"{predictions.features}, {predictions.level}s")
