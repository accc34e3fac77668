"""Plots of a night: the scored hypnogram and the predicted hypnodensity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.evaluation.figures.style import STAGE_COLOURS, axes, class_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT: Final = {"N3": 0, "N2": 1, "N1": 2, "R": 3, "W": 4}


def hypnogram(
    start_s: NDArray[np.float64],
    stages: Sequence[str],
    ax: Axes | None = None,
    *,
    clip_seconds: float = 30.0,
    clock_s: float | None = None,
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
    clock_s : float, optional
        Time of day at the recording's start, in seconds after midnight; if given, the axis shows
        clock times.

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
    ax.set(ylabel="stage", ylim=(-0.4, 4.4))
    _time_axis(ax, edges[0], edges[-1], clock_s)
    return ax


def hypnodensity(
    start_s: NDArray[np.float64],
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
    ax: Axes | None = None,
    *,
    clip_seconds: float = 30.0,
    clock_s: float | None = None,
) -> Axes:
    """Draw the stacked probabilities of the stages over the time of a night.

    Parameters
    ----------
    start_s : ndarray of float64, shape [n]
        Offset of each clip, in seconds.
    probabilities : ndarray of float64, shape [n, classes]
        Probabilities of the stages; each row sums to 1.
    classes : sequence of str
        Stages, in the order of the probabilities.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.
    clip_seconds : float
        Length of a clip, in seconds.
    clock_s : float, optional
        Time of day at the recording's start, in seconds after midnight; if given, the axis shows
        clock times.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax, 8.0, 2.2)
    hours = np.append(start_s, start_s[-1] + clip_seconds) / 3600
    lower = np.zeros(len(start_s))
    for code, name in enumerate(classes):
        upper = lower + probabilities[:, code]
        ax.stairs(
            upper, hours, baseline=lower, fill=True, color=class_colour(name, code), label=name
        )
        lower = upper
    ax.set(ylabel="probability", ylim=(0, 1))
    _time_axis(ax, hours[0], hours[-1], clock_s)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return ax


def _time_axis(ax: Axes, first: float, last: float, clock_s: float | None) -> None:
    """Label the axis in hours from the start, or in clock times if the clock is known."""
    ax.set_xlim(first, last)
    if clock_s is None:
        ax.set_xlabel("time from start of recording (h)")
        return
    start = clock_s / 3600
    step = next((s for s in (1 / 12, 0.25, 0.5, 1.0, 2.0) if (last - first) / s <= 12), 4.0)
    ticks = np.arange(np.ceil((start + first) / step) * step, start + last + 1e-9, step)
    minutes = np.round(60 * ticks).astype(int) % 1440
    ax.set_xticks(ticks - start, [f"{m // 60:02d}:{m % 60:02d}" for m in minutes])
    ax.set_xlabel("clock time (hh:mm)")
