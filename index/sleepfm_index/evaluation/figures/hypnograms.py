"""Plots of a night: the scored hypnogram and the predicted hypnodensity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.evaluation.figures.plots import STAGE_COLOURS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT: Final = {"N3": 0, "N2": 1, "N1": 2, "R": 3, "W": 4}


def hypnogram(
    start_s: NDArray[np.float64],
    stages: Sequence[str],
    ax: Axes | None = None,
    *,
    clip_seconds: float = 30.0,
) -> Axes:
    """Draw the stages of a night over time; unscored clips are blank and REM is marked.

    Parameters
    ----------
    start_s : ndarray of float64, shape [n]
        Offset of each clip, in seconds.
    stages : sequence of str, length n
        Stage of each clip.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.
    clip_seconds : float
        Length of a clip, in seconds.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax, 8.0, 2.2)
    height = np.array([_HEIGHT.get(stage, np.nan) for stage in stages])
    hours = start_s / 3600
    edges = np.append(hours, hours[-1] + clip_seconds / 3600)
    ax.stairs(height, edges, baseline=None, color="0.2", linewidth=1.0)
    rem = np.array(stages) == "R"
    width = clip_seconds / 3600
    ax.bar(hours[rem], 0.25, width, 2.9, align="edge", color=STAGE_COLOURS["R"])
    ax.set_yticks(list(_HEIGHT.values()), list(_HEIGHT))
    ax.set(xlabel="time from start of recording (h)", ylabel="stage", ylim=(-0.4, 4.4))
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
    """Draw the stacked probabilities of the stages over the time of a night.

    Parameters
    ----------
    start_s : ndarray of float64, shape [n]
        Offset of each clip, in seconds.
    probabilities : ndarray of float64, shape [n, classes]
        Each row sums to 1.
    classes : sequence of str
        Stages, in the order of the probabilities.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.
    clip_seconds : float
        Length of a clip, in seconds.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax, 8.0, 2.2)
    hours = np.append(start_s, start_s[-1] + clip_seconds) / 3600
    upto = np.zeros(len(start_s))
    for code, name in enumerate(classes):
        over = upto + probabilities[:, code]
        ax.stairs(over, hours, baseline=upto, fill=True, color=STAGE_COLOURS.get(name), label=name)
        upto = over
    ax.set(xlabel="time from start of recording (h)", ylabel="probability", ylim=(0, 1))
    ax.set_xlim(hours[0], hours[-1])
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return ax
