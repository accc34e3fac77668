"""Paired differences of two estimates of the same subjects: interval, p, and their adjustment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

from sleepfm_index.evaluation.metrics.estimates import Estimate
from sleepfm_index.evaluation.metrics.intervals import (
    FEWEST,
    LEVEL,
    LONG_TAIL,
    NONE,
    Interval,
    limit_near_bounds,
)
from sleepfm_index.evaluation.metrics.student_t import student_cdf, student_quantile

Measure = Literal["score", "error", "recall"]
_UPPER: Final = (1 + LEVEL) / 2
_ROUNDING: Final = 1e-12


def difference(
    one: Estimate,
    two: Estimate,
    first: Interval,
    second: Interval,
    *,
    same: bool = False,
    measure: Measure = "score",
) -> Interval:
    """Interval of a paired difference ``one - two``: Student's t of the subjects' differences.

    If the difference has no variance between subjects, or one of two recalls has none, e.g. without
    a hit, the distances of the two intervals' ends are combined with the correlation of the
    influences (MOVER: Zou and Donner 2008, *Statistics in Medicine* 27:1693), and each end is the
    wider of this and of Student's t.

    Parameters
    ----------
    one, two : Estimate
        Estimates for the same subjects in the same order.
    first, second : tuple of float
        Intervals of the two estimates.
    same : bool
        Whether both models have identical predictions, so that the difference is exactly 0.
    measure : {"score", "error", "recall"}
        What is estimated. Mean errors and recalls have the degrees of freedom of
        :func:`.intervals.positive` and :func:`.intervals.proportion`.
    """
    paired = one.minus(two)
    if paired.subjects < FEWEST or not math.isfinite(paired.value):
        return NONE
    if same:
        return 0.0, 0.0
    degrees = _degrees(one, two, measure)
    half = student_quantile(_UPPER, degrees) * math.sqrt(paired.variance)
    without_variance = half <= _ROUNDING * (abs(one.value) + abs(two.value))
    if measure == "recall":
        without_variance |= any(e.variance <= (_ROUNDING * e.value) ** 2 for e in (one, two))
    if not without_variance:
        return paired.value - half, paired.value + half
    lengths = math.sqrt(float(one.influence @ one.influence) * float(two.influence @ two.influence))
    correlation = float(one.influence @ two.influence) / lengths if lengths > 0 else 0.0

    def away(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))

    low = away(one.value - first[0], second[1] - two.value)
    high = away(first[1] - one.value, two.value - second[0])
    return paired.value - max(low, half), paired.value + max(high, half)


def p_value(
    one: Estimate, two: Estimate, interval: Interval, *, measure: Measure = "score"
) -> float:
    """Two-sided p of a paired difference of 0; NaN if undefined.

    The side of the interval towards 0 gives the standard error, and Student's t the p, which is
    thus below 5 % exactly if the interval excludes 0.

    Parameters
    ----------
    one : Estimate
        The first estimate.
    two : Estimate
        The estimate to subtract, of the same subjects.
    interval : tuple of float
        Interval of the difference, of :func:`difference`.
    measure : {"score", "error", "recall"}
        As in :func:`difference`.
    """
    paired = one.minus(two)
    if paired.subjects < FEWEST or not math.isfinite(paired.value):
        return math.nan
    side = paired.value - interval[0] if paired.value > 0 else interval[1] - paired.value
    if not side > 0:
        return math.nan
    degrees = _degrees(one, two, measure)
    t = abs(paired.value) / side * student_quantile(_UPPER, degrees)
    return 2 * (1 - student_cdf(t, degrees))


def _degrees(one: Estimate, two: Estimate, measure: Measure) -> float:
    paired = one.minus(two)
    if measure == "error":
        return paired.degrees_up_to(LONG_TAIL)
    if measure == "recall":
        clustered = paired.clips > paired.subjects
        limit = limit_near_bounds(one.value, two.value, clustered=clustered)
        return min(paired.degrees, limit * (paired.subjects - 1))
    return paired.degrees


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p values for their number (Holm 1979, *Scand. J. Statist.* 6:65); NaN stays NaN.

    Parameters
    ----------
    p : sequence of float
        Unadjusted p values.
    """
    values = np.asarray(p, np.float64)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(len(values), math.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(v) for v in adjusted]
