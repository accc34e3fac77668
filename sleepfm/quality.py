"""Signal quality of a channel per clip, measured at its native rate before any processing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

ISSUES: Final = ("flat", "clipped", "nan", "range")
"""Quality measures, in the order of the quality columns."""

_REACH_UV: Final = {"brain": 500.0, "heart": 10_000.0, "muscle": 2_000.0}
_SATURATION: Final = (40.0, 100.5)
_TYPICAL_UV: Final = {"brain": (0.2, 500.0), "heart": (0.5, 10_000.0), "muscle": (0.1, 500.0)}
_SOURCES: Final = {"ECG": "heart", "ECG2": "heart", "CHIN": "muscle", "LEGS": "muscle"}
_ELECTRODE: Final = re.compile(r"(?:Fp|[FCOPTE])(?:z|\d{1,2})(?:-[A-Z][a-z]*\d?)?")


@dataclass(frozen=True)
class Level:
    """Location and scale of a channel's values, in the channel's own unit.

    Parameters
    ----------
    median : float
        Median of the values.
    deviation : float
        Robust standard deviation, ``IQR / 1.349``.
    constant : bool
        True if all values are equal, or none is finite.
    """

    median: float
    deviation: float
    constant: bool


def level(values: NDArray[np.float32], most: int = 2**19) -> Level:
    """Compute median and robust deviation of a channel.

    Where the interquartile range is zero (a saturation that rarely changes), the standard deviation
    is used instead, which avoids a later division by zero. A constant channel has deviation 0.

    Parameters
    ----------
    values : ndarray of float32, shape [samples]
        Values in the channel's own unit; non-finite values are ignored.
    most : int
        Use at most this many evenly spaced samples.

    Returns
    -------
    Level
    """
    sample = np.ascontiguousarray(values[:: max(1, -(-len(values) // most))])
    sample = sample[np.isfinite(sample)]
    if not len(sample):
        return Level(0.0, 0.0, True)
    low, median, high = _quartiles(np.sort(sample))
    deviation = float(high - low) / 1.349
    if deviation <= 0:
        deviation = float(sample.std(dtype=np.float64))
    if deviation <= 1e-6 * abs(float(median)):
        deviation = 0.0
    return Level(float(median), deviation, deviation == 0.0)


def measure(
    values: NDArray[np.float32],
    rate: float,
    clips: int,
    clip_s: int,
    bounds: tuple[float, float] | None,
    *,
    stands_still: bool = False,
) -> NDArray[np.float32]:
    """Measure the fractions of flat, clipped, NaN and out-of-range signal per clip.

    Parameters
    ----------
    values : ndarray of float32, shape [samples]
        The channel at its native rate.
    rate : float
        Sampling rate, in Hz.
    clips : int
        Number of clips.
    clip_s : int
        Length of a clip, in seconds.
    bounds : tuple of float, or None
        Lowest and highest value in range (:func:`bounds_of`); None to skip the range check.
    stands_still : bool
        Whether the signal may stay at one value for long, as an oxygen saturation does; it then
        counts as neither flat nor clipped.

    Returns
    -------
    ndarray of float32, shape [4, clips]
        Rows as in :data:`ISSUES`, all in 0..1. Flat: whole seconds without any change. Clipped:
        two or more consecutive samples at the channel's highest or lowest value of the night.
    """
    per_clip = clip_s if rate >= 4 else 1
    edges = np.rint(np.arange(clips * per_clip + 1) * (clip_s / per_clip) * rate).astype(np.int64)
    edges = np.minimum(edges, len(values))
    starts, sizes = edges[:-1], np.diff(edges)
    result = np.zeros((len(ISSUES), clips), np.float32)
    if not clips or not len(values) or sizes.min() < 1:
        return result
    inside = values[: edges[-1]]
    high = np.maximum.reduceat(inside, starts)
    low = np.minimum.reduceat(inside, starts)

    def share(count: NDArray[np.int64]) -> NDArray[np.float32]:
        by_clip = count.reshape(clips, per_clip).sum(axis=1)
        part: NDArray[np.float64] = by_clip / sizes.reshape(clips, per_clip).sum(axis=1)
        return part.astype(np.float32)

    def counted(at: NDArray[np.int64]) -> NDArray[np.float32]:
        return share(np.bincount(np.searchsorted(edges, at, "right") - 1, minlength=len(starts)))

    broken = ~np.isfinite(high) | ~np.isfinite(low)
    if broken.any():
        result[2] = counted(np.flatnonzero(~np.isfinite(inside)))
    complete = ~broken
    if not complete.any():
        return result
    if not stands_still:
        flat = complete & (high == low)
        result[0] = share(np.where(flat, sizes, 0))
        rails = [(high, high[complete].max()), (low, low[complete].min())]
        # if all complete seconds are flat at one value, there is one rail
        for extreme, rail in rails[: 1 + (rails[0][1] != rails[1][1])]:
            clipped = _repeated(inside, rail, edges, broken | (extreme == rail))
            # a flat second is flat, not clipped
            result[1] += counted(clipped[~flat[np.searchsorted(edges, clipped, "right") - 1]])
    if bounds is not None and (complete & ((high > bounds[1]) | (low < bounds[0]))).any():
        finite = np.isfinite(inside)
        result[3] = counted(np.flatnonzero(finite & ((inside > bounds[1]) | (inside < bounds[0]))))
    return result


def bounds_of(
    slot: str, unit: str, level: Level, scale: float | None
) -> tuple[float, float] | None:
    """Compute the plausible range of a channel's values.

    Brain signals lie within 500 uV, muscle signals within 2 mV and an ECG within 10 mV of the
    median, an oxygen saturation from 40 to 100 %.

    Parameters
    ----------
    slot : str
        The slot that the channel fills.
    unit : str
        The slot's physical unit, :meth:`~sleepfm.contract.Contract.unit_of`.
    level : Level
        Location and scale of the channel's values.
    scale : float or None
        Factor from the channel's unit to the slot's; None if the unit is unknown.

    Returns
    -------
    tuple of float, or None
        Lowest and highest value, in the channel's own unit. None for slots without a unit, such as
        belts, for slots whose range is unknown, and where ``scale`` is None.
    """
    if scale is None or not unit:
        return None
    if unit == "%":
        return _SATURATION[0] / scale, _SATURATION[1] / scale
    source = _source(slot, unit)
    if source is None:
        return None
    reach = _REACH_UV[source] / scale
    return level.median - reach, level.median + reach


def implausible(slot: str, unit: str, level: Level, scale: float | None) -> str | None:
    """Check whether a channel's values contradict its unit.

    Parameters
    ----------
    slot : str
        The slot that the channel fills.
    unit : str
        The slot's physical unit, :meth:`~sleepfm.contract.Contract.unit_of`.
    level : Level
        Location and scale of the channel's values.
    scale : float or None
        Factor from the channel's unit to the slot's; None if the unit is unknown.

    Returns
    -------
    str or None
        A warning; None if the values are plausible or cannot be judged.
    """
    if level.constant or scale is None or not unit:
        return None
    if unit == "%":
        median = level.median * scale
        if _SATURATION[0] <= median <= _SATURATION[1]:
            return None
        problem = "looks like a fraction" if 0 < median <= 1.5 else "contradicts its unit"
        return f"{slot}: a median of {median:.3g} % {problem} (expected 40 to 100 %)"
    source = _source(slot, unit)
    if source is None:
        return None
    low, high = _TYPICAL_UV[source]
    deviation = level.deviation * scale
    if low <= deviation <= high:
        return None
    return (
        f"{slot}: a typical deviation of {deviation:.3g} uV contradicts its unit "
        f"(expected {low:g} to {high:g} uV)"
    )


def _quartiles(ordered: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute ``np.quantile`` of sorted values, which numpy would partition under Python's lock."""
    place = np.array([0.25, 0.5, 0.75]) * (len(ordered) - 1)
    before = place.astype(np.intp)
    share = place - before
    low, high = ordered[before], ordered[np.minimum(before + 1, len(ordered) - 1)]
    # from the nearer neighbour, as numpy does
    return np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share))


def _source(slot: str, unit: str) -> str | None:
    """Return the source of a voltage by the name of the slot; None if it is not known."""
    if unit != "uV":
        return None
    return _SOURCES.get(slot) or ("brain" if _ELECTRODE.fullmatch(slot) else None)


def _repeated(
    values: NDArray[np.float32],
    rail: np.float32,
    edges: NDArray[np.int64],
    reached: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Find runs of two or more samples at a rail; a single peak is not clipping.

    Only the pieces between ``edges`` that may have ``reached`` the rail are searched.
    """
    starts, sizes = edges[:-1][reached], np.diff(edges)[reached]
    if 8 * sizes.sum() > len(values):
        at_rail = np.flatnonzero(values == rail)
    else:
        at = np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
        at_rail = at[values[at] == rail]
    adjacent = np.diff(at_rail) == 1
    runs: NDArray[np.int64] = at_rail[np.append(adjacent, False) | np.append(False, adjacent)]
    return runs
