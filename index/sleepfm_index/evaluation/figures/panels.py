"""Pages of figures: several axes of :mod:`sleepfm_index.evaluation.figures.plots` in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.figures import plots
from sleepfm_index.evaluation.metrics.assessment import Assessment, Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sleepfm_index.evaluation.retrieval.retrieval import Retrieval
    from sleepfm_index.results import Result


def draw_retrieval(result: Retrieval, path: str | Path) -> Path:
    """Write recall curves, the matrix of pairs and the ranks of every direction."""
    return plots.save(retrieval(result), path)


def retrieval(result: Retrieval) -> Axes:
    """Draw a table of retrieval; the first axes of the figure are given back."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15.0, 4.4), layout="constrained")
    curves, matrix, ranks = figure.subplots(1, 3, width_ratios=(5, 4, 5))
    plots.recall_curves(result.ranked, curves)
    plots.pair_matrix(result, ax=matrix)
    plots.rank_histogram(result.ranked, ranks)
    first: Axes = curves
    return first


def draw_assessment(result: Assessment, path: str | Path) -> Path:
    """Write confusion matrix, ROC, precision-recall and calibration, a row per features.

    A number gets predicted over true values.
    """
    return plots.save(assessment(list(result.predictions.values())), path)


def assessment(made: list[Predictions]) -> Axes:
    """Draw predictions; the first axes of the figure are given back."""
    from matplotlib.figure import Figure

    columns = 4 if made[0].classes else 1
    figure = Figure(figsize=(4.6 * columns, 4.2 * len(made)), layout="constrained")
    panels = figure.subplots(len(made), columns, squeeze=False)
    for row, one in zip(panels, made, strict=True):
        if one.classes:
            plots.confusion_matrix(one, row[0])
            plots.roc(one, row[1])
            plots.precision_recall(one, row[2])
            plots.calibration(one, row[3])
        else:
            _said_over_truth(one, row[0])
    first: Axes = panels[0][0]
    return first


def night(
    start_s: NDArray[np.float64],
    stages: Sequence[str],
    said_s: NDArray[np.float64],
    made: NDArray[np.float64],
    classes: Sequence[str],
    clip_seconds: float = 30.0,
) -> Axes:
    """Draw a night's scored hypnogram above the hypnodensity of what was predicted.

    Parameters
    ----------
    start_s : ndarray of float64, shape [n]
        Offset of each scored clip, in seconds; ``stages`` are theirs.
    said_s : ndarray of float64, shape [m]
        Offset of each predicted clip, in seconds.
    made : ndarray of float64, shape [m, classes]
        Probabilities.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    plots.hypnogram(start_s, stages, above, clip_seconds=clip_seconds)
    plots.hypnodensity(said_s, made, classes, below, clip_seconds=clip_seconds)
    above.set(xlabel="", title="scored")
    below.set(title="predicted")
    first: Axes = above
    return first


def draw_few_shot(result: Result, path: str | Path) -> Path:
    """Write the learning curve of the first measure of a table."""
    measure = "auroc" if "auroc" in result.table.column_names else "mae"
    if not any(row[measure] is not None for row in result.to_pylist()):
        raise QueryError("no draw could be learned from, so there is no curve to draw")
    return plots.save(plots.few_shot_curve(result, measure), path)


def _said_over_truth(made: Predictions, ax: Axes) -> None:
    size = 6 if len(made.truth) > 200 else 30
    ax.scatter(made.truth, made.said, s=size, alpha=0.5, linewidths=0)
    ends = [float(np.min(made.truth)), float(np.max(made.truth))]
    ax.plot(ends, ends, ":", color="0.5")
    ax.set(xlabel="true value", ylabel="predicted value", title=f"{made.features}, {made.level}s")
