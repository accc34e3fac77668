"""How good a channel is, clip by clip, measured at its native rate before anything is changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

ISSUES: Final = ("flat", "clipped", "nan", "range")
"""What is measured, in the order of the quality columns."""

_REACH_UV: Final = {"brain": 500.0, "heart": 10_000.0, "muscle": 2_000.0}
_SATURATION: Final = (40.0, 100.5)
_TYPICAL_UV: Final = {"brain": (0.2, 500.0), "heart": (0.5, 10_000.0), "muscle": (0.1, 500.0)}
_SOURCES: Final = {"ECG": "heart", "ECG2": "heart", "CHIN": "muscle", "LEGS": "muscle"}
_ELECTRODE: Final = re.compile(r"(?:Fp|[FCOPTE])(?:z|\d{1,2})(?:-[A-Z][a-z]*\d?)?")


@dataclass(frozen=True)
class Level:
    """Where a channel's values lie: median and robust deviation, ``IQR / 1.349``."""

    median: float
    deviation: float
    constant: bool


def level(values: NDArray[np.float32], most: int = 2**19) -> Level:
    """Median and robust deviation over at most ``most`` evenly spaced finite samples.

    A channel whose middle half is one value (a saturation that rarely moves) takes its standard
    deviation instead, so that no division by zero follows; a constant one has deviation 0.
    """
    sample = values[:: max(1, -(-len(values) // most))]
    sample = sample[np.isfinite(sample)]
    if not len(sample):
        return Level(0.0, 0.0, True)
    low, median, high = np.quantile(sample, [0.25, 0.5, 0.75])
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
    """Fractions of flat, clipped, NaN and out-of-range signal per clip.

    Parameters
    ----------
    values : ndarray of float32, shape [samples]
        The channel at its native rate.
    rate : float
        In Hz.
    clips, clip_s : int
        How many clips, and their length in seconds.
    bounds : tuple of float, or None
        Lowest and highest value that is in range (:func:`bounds_of`); None where anything goes.
    stands_still : bool
        Whether the signal may keep one value for long in health, as a saturation does: then it is
        neither flat nor clipped.

    Returns
    -------
    ndarray of float32, shape [4, clips]
        Rows as in :data:`ISSUES`, all in 0..1. Flat: whole seconds without any change. Clipped:
        samples at the channel's own highest or lowest value of the night, where that value is
        held by consecutive samples.
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
    whole = ~broken
    if not whole.any():
        return result
    if not stands_still:
        flat = whole & (high == low)
        result[0] = share(np.where(flat, sizes, 0))
        for rail in (high[whole].max(), low[whole].min()):
            at = _held(inside, rail)
            # a flat second is flat, not clipped
            result[1] += counted(at[~flat[np.searchsorted(edges, at, "right") - 1]])
    if bounds is not None and (whole & ((high > bounds[1]) | (low < bounds[0]))).any():
        finite = np.isfinite(inside)
        result[3] = counted(np.flatnonzero(finite & ((inside > bounds[1]) | (inside < bounds[0]))))
    return result


def bounds_of(
    slot: str, unit: str, found: Level, scale: float | None
) -> tuple[float, float] | None:
    """Lowest and highest value in range for a slot, in the channel's own unit.

    Brain signals within 500 uV, muscle within 2 mV and an ECG within 10 mV of the median, a
    saturation from 40 to 100 %; None for belts, for slots of which no range is known, and where
    ``scale`` is not known.

    Parameters
    ----------
    slot : str
    unit : str
        The slot's physical unit, :meth:`~sleepfm.contract.Contract.unit_of`.
    found : Level
        Of the channel, in its own unit.
    scale : float, or None
        Factor from the channel's unit to the slot's.
    """
    if scale is None or not unit:
        return None
    if unit == "%":
        return _SATURATION[0] / scale, _SATURATION[1] / scale
    source = _source(slot, unit)
    if source is None:
        return None
    reach = _REACH_UV[source] / scale
    return found.median - reach, found.median + reach


def implausible(slot: str, unit: str, found: Level, scale: float | None) -> str | None:
    """Say how a channel's values contradict its unit, None where they do not.

    Parameters
    ----------
    slot, unit, found, scale
        As for :func:`bounds_of`.
    """
    if found.constant or scale is None or not unit:
        return None
    if unit == "%":
        median = found.median * scale
        if _SATURATION[0] <= median <= _SATURATION[1]:
            return None
        kind = "looks like a fraction" if 0 < median <= 1.5 else "contradicts its unit"
        return f"{slot}: a median of {median:.3g} % {kind} (expected 40 to 100 %)"
    source = _source(slot, unit)
    if source is None:
        return None
    low, high = _TYPICAL_UV[source]
    deviation = found.deviation * scale
    if low <= deviation <= high:
        return None
    return (
        f"{slot}: a typical deviation of {deviation:.3g} uV contradicts its unit "
        f"(expected {low:g} to {high:g} uV)"
    )


def _source(slot: str, unit: str) -> str | None:
    """Say what a voltage comes from; None where the slot's name does not tell."""
    if unit != "uV":
        return None
    return _SOURCES.get(slot) or ("brain" if _ELECTRODE.fullmatch(slot) else None)


def _held(values: NDArray[np.float32], rail: np.float32) -> NDArray[np.int64]:
    """Find samples at a rail that have a neighbour there too: one peak alone is not clipping."""
    at = np.flatnonzero(values == rail)
    beside = np.diff(at) == 1
    held: NDArray[np.int64] = at[np.append(beside, False) | np.append(False, beside)]
    return held
