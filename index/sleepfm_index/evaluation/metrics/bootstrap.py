"""Intervals by bootstrap over subjects: the clips of one night are not independent, people are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

REPLICATES: Final = 1000
LEVEL: Final = 0.95
_CELLS: Final = 1 << 22


def draw_subjects(subjects: int, replicates: int = REPLICATES, seed: int = 0) -> NDArray[np.int64]:
    """How often each subject is in each resample, int64 [replicates, subjects].

    Every row sums to ``subjects``: as many are drawn, with replacement, as there are.
    """
    rng = np.random.default_rng(seed)
    share = np.full(subjects, 1.0 / max(subjects, 1))
    return rng.multinomial(subjects, share, size=replicates)


def interval(
    values: NDArray[np.float64], subjects: int, level: float = LEVEL
) -> tuple[float, float]:
    """Interval of a statistic from its resamples: the expanded percentile interval.

    The plain percentile interval is too narrow for few subjects, because a resample of n has the
    variance of n and its quantiles are the normal's. Hesterberg (2015), "What teachers should know
    about the bootstrap", The American Statistician 69(4), widens its tails to
    ``Phi(-sqrt(n / (n - 1)) * t(n - 1))``.

    Parameters
    ----------
    values : ndarray of float64, shape [replicates]
        The statistic in each resample; NaN where it is undefined, which is left out.
    subjects : int
        Subjects resampled.

    Returns
    -------
    tuple of float
        Low and high; NaN for fewer than two subjects, or if no resample defines the statistic.
    """
    known = values[np.isfinite(values)]
    if subjects < 2 or not len(known):
        return math.nan, math.nan
    normal = NormalDist()
    width = math.sqrt(subjects / (subjects - 1)) * student_quantile((1 + level) / 2, subjects - 1)
    tail = normal.cdf(-width)
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t by the expansion of Abramowitz and Stegun, 26.7.5.

    Within 1 % from 3 degrees of freedom on at the usual levels; below that too small.
    """
    z = NormalDist().inv_cdf(probability)
    n = degrees
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


def subject_sums(values: NDArray[np.float64], subjects: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of each column over the clips of each subject.

    Parameters
    ----------
    values : ndarray of float64, shape [n] or [n, m]
    subjects : ndarray of int64, shape [n]
        Codes from 0 on.

    Returns
    -------
    ndarray of float64, shape [subjects] or [subjects, m]
    """
    size = int(subjects.max()) + 1 if len(subjects) else 0
    if values.ndim == 1:
        return np.asarray(np.bincount(subjects, values, minlength=size), np.float64)
    columns = [np.bincount(subjects, column, minlength=size) for column in values.T]
    return np.stack(columns, axis=1) if columns else np.empty((size, 0))


def resampled_means(
    values: NDArray[np.float64], subjects: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean over clips of each column in every resample, [replicates] or [replicates, m]."""
    sums = counts @ subject_sums(values, subjects)
    clips = counts @ np.bincount(subjects, minlength=counts.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        means: NDArray[np.float64] = sums / (clips if values.ndim == 1 else clips[:, None])
    return means


def resampled_medians(
    values: NDArray[np.float64], subjects: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Median over clips in every resample, [replicates]; of two middle values, their mean."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    medians = []
    for weights in weight_blocks(subjects[order], counts):
        upto = np.cumsum(weights, axis=1)
        total = upto[:, -1]
        # first place at which more clips than this many lie at or below it
        low = (upto <= ((total - 1) // 2)[:, None]).sum(axis=1)
        high = (upto <= (total // 2)[:, None]).sum(axis=1)
        found = np.full(len(total), np.nan)
        some = total > 0
        found[some] = (ordered[low[some]] + ordered[high[some]]) / 2
        medians.append(found)
    return np.concatenate(medians) if medians else np.empty(0)


def weight_blocks(
    subjects: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """How often each clip is in each resample, a few resamples at a time, int64 [some, n]."""
    step = max(1, _CELLS // max(len(subjects), 1))
    for start in range(0, len(counts), step):
        yield counts[start : start + step][:, subjects]
