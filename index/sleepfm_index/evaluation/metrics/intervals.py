"""95 % intervals over subjects, from the cluster variances of estimates.

There is no resampling: each interval is a formula on a scale on which the measure is nearly normal,
so that it contains the estimate, stays within the range of the measure, and has zero width only if
there is no uncertainty. ``benchmarks/coverage.py`` measures the coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.evaluation.metrics.estimates import Estimate, average, median
from sleepfm_index.evaluation.metrics.student_t import student_quantile

LEVEL: Final = 0.95
FEWEST: Final = 6
"""Minimum number of subjects for an interval; with fewer, the variance is too uncertain."""
FEWEST_OF_CLASS: Final = 2
"""Minimum number of subjects with, and without, a class for intervals of AUROC and AUPRC."""
NONE: Final = (math.nan, math.nan)
LONG_TAIL: Final = 1 / 2
"""Limit of the degrees of freedom of mean errors and AUPRC per clip, as a share of S - 1."""
_TAIL: Final = (1 - LEVEL) / 2

Interval = tuple[float, float]


def proportion(estimate: Estimate, floor: float = 0.0) -> Interval:
    """Interval of a mean of values from 0 to 1, e.g. recall, accuracy or F1.

    Wilson's score interval with the effective sample size ``p (1 - p) / variance`` and Student's t
    instead of z, as for cluster surveys (Franco et al. 2019, *J. Surv. Stat. Methodol.* 7:334). The
    degrees of freedom fall to a half as the share approaches 0 or 1, with several clips per subject
    to a third (measured by ``benchmarks/coverage.py``). At 0 and 1 the variance is 0; the bound is
    then the exact one (Clopper and Pearson) with one trial per subject, for any clustering of hits.

    Parameters
    ----------
    estimate : Estimate
        The estimate and its influences by subject.
    floor : float
        Minimum variance, that of independent clips; a smaller cluster variance is due to chance.
    """
    p, people = estimate.value, estimate.subjects
    if people < FEWEST or not math.isfinite(p):
        return NONE
    if p <= 0 or p >= 1:
        bound = all_of(people)
        return (0.0, 1 - bound) if p <= 0 else (bound, 1.0)
    variance = max(estimate.variance, floor, 1e-12 * p * (1 - p))
    size = p * (1 - p) / variance
    most = limit_near_bounds(p, clustered=estimate.clips > people)
    z = student_quantile(1 - _TAIL, min(estimate.degrees, most * (people - 1)))
    centre = (p + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z * math.sqrt(p * (1 - p) / size + (z / (2 * size)) ** 2) / (1 + z**2 / size)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def limit_near_bounds(*shares: float, clustered: bool = True) -> float:
    """Limit of the degrees of freedom of a proportion, as a share of S - 1.

    Near 0 and 1 a few subjects determine a proportion, so that its variance is less certain.

    Parameters
    ----------
    *shares : float
        The proportion, or the two of a difference, from 0 to 1.
    clustered : bool
        Whether there are several clips per subject: then a third at 0 and 1, otherwise a half.
    """
    nearest = min(min(p, 1 - p) for p in shares)
    limit = min(1.0, 1 / 2 + 2.5 * nearest)
    return min(limit, 1 / 3 + 5 * nearest) if clustered else limit


def auroc(estimate: Estimate, counts: tuple[int, int], holders: tuple[int, int]) -> Interval:
    """Interval of an area under the ROC curve.

    Newcombe's score interval (2006, *Statistics in Medicine* 25:559, method 5): the areas from
    which the estimate differs by at most z of their standard errors. If several clips per subject
    are measured, z is Student's t, and the numbers of clips are divided by the design effect, the
    ratio of the cluster variance to the variance of independent clips; for perfectly separated
    classes, by the number of clips per subject.

    Parameters
    ----------
    estimate : Estimate
        The estimate and its influences by subject.
    counts : tuple of int
        Number of clips (or subjects) of the class, and of the others.
    holders : tuple of int
        Number of subjects with clips of the class, and of the others.
    """
    area, people = estimate.value, estimate.subjects
    if people < FEWEST or min(holders) < FEWEST_OF_CLASS or not math.isfinite(area):
        return NONE
    m, n = float(counts[0]), float(counts[1])
    z = NormalDist().inv_cdf(1 - _TAIL)
    if estimate.clips > people:
        z = student_quantile(1 - _TAIL, estimate.degrees)
        if estimate.variance > 0:
            effect = max(1.0, estimate.variance / _area_variance(area, m, n))
            m, n = m / effect, n / effect
        else:
            m, n = float(holders[0]), float(holders[1])
    low, high = (_score_bound(area, end, m, n, z) for end in (0.0, 1.0))
    return low, high


def auprc(estimate: Estimate, prevalence: float, holders: tuple[int, int]) -> Interval:
    """Interval of an average precision, at the prevalence of the sample.

    Per subject as :func:`proportion`; per clip, Student's t on the logit scale, with at most half
    of the degrees of freedom, because the clips of a few subjects determine the first ranks
    (measured by ``benchmarks/coverage.py``).

    A perfect value has the bound of a classifier whose positives are all outranked by as many
    negatives as the exact bound of AUROC allows.

    Parameters
    ----------
    estimate : Estimate
        Average precision.
    prevalence : float
        Share of clips of the class, 0 to 1.
    holders : tuple of int
        Number of subjects with clips of the class, and of the others.
    """
    if min(holders) < FEWEST_OF_CLASS:
        return NONE
    if estimate.value >= 1 and estimate.subjects >= FEWEST:
        outranking = (1 - prevalence) * (1 - all_of(min(holders)))
        return prevalence / (prevalence + outranking), 1.0
    if estimate.clips == estimate.subjects or not 0 < estimate.value < 1:
        return proportion(estimate)
    if estimate.subjects < FEWEST:
        return NONE
    p = estimate.value
    z = student_quantile(1 - _TAIL, estimate.degrees_up_to(LONG_TAIL))
    half = z * math.sqrt(estimate.variance) / (p * (1 - p))
    centre = math.log(p / (1 - p))
    return 1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre))


def kappa(estimate: Estimate, chance: float) -> Interval:
    """Interval of Cohen's kappa: that of ``(1 + kappa) / 2`` as a :func:`proportion`.

    Parameters
    ----------
    estimate : Estimate
        The estimate and its influences by subject.
    chance : float
        Agreement expected by chance, which converts the exact bound of accuracy at kappa 1.
    """
    if estimate.value >= 1 and estimate.subjects >= FEWEST:
        return 1 - (1 - all_of(estimate.subjects)) / (1 - chance), 1.0
    half = Estimate((1 + estimate.value) / 2, estimate.influence / 2, estimate.clips)
    low, high = proportion(half)
    return 2 * low - 1, 2 * high - 1


def correlation(estimate: Estimate) -> Interval:
    """Interval of Pearson's r: Student's t on Fisher's z scale.

    Parameters
    ----------
    estimate : Estimate
        Pearson's r.
    """
    r, people = estimate.value, estimate.subjects
    if people < FEWEST or not abs(r) < 1:
        return NONE
    variance = estimate.variance / (1 - r**2) ** 2
    if estimate.clips == people:
        variance = max(variance, 1 / (people - 3))
    half = student_quantile(1 - _TAIL, estimate.degrees) * math.sqrt(variance)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def positive(estimate: Estimate) -> Interval:
    """Interval of a positive, unbounded mean, e.g. an error: Student's t on the log scale.

    Per clip with at most half of the degrees of freedom, because few subjects rarely include those
    with the largest errors (measured by ``benchmarks/coverage.py``).

    Parameters
    ----------
    estimate : Estimate
        A mean above 0.
    """
    if estimate.subjects < FEWEST or not estimate.value > 0:
        return NONE
    t = student_quantile(1 - _TAIL, estimate.degrees_up_to(LONG_TAIL))
    factor = math.exp(t * math.sqrt(estimate.variance) / estimate.value)
    return estimate.value / factor, estimate.value * factor


def of_median(values: NDArray[np.float64], subjects: NDArray[np.int64]) -> Interval:
    """Interval of a median over clips (Woodruff 1952, *JASA* 47:635).

    Its ends are the quantiles at the ends of the interval of the share of clips below the median.

    Parameters
    ----------
    values : ndarray of float64, shape [n]
        Values by clip.
    subjects : ndarray of int64, shape [n]
        Subject of each clip, as codes from 0 on.
    """
    share = median(values, subjects)
    low, high = proportion(Estimate(0.5, share.influence, share.clips), 0.25 / len(values))
    if not math.isfinite(low):
        return NONE
    ordered = np.sort(values)
    first = max(math.ceil(low * len(values)) - 1, 0)
    last = min(math.floor(high * len(values)), len(values) - 1)
    return float(min(ordered[first], share.value)), float(max(ordered[last], share.value))


def median_estimate(values: NDArray[np.float64], subjects: NDArray[np.int64]) -> Estimate:
    """Median with influences in the unit of the values, for differences of medians.

    The density at the median is estimated between the ends of :func:`of_median`.

    Parameters
    ----------
    values : ndarray of float64, shape [n]
        Values by clip.
    subjects : ndarray of int64, shape [n]
        Subject of each clip, as codes from 0 on.
    """
    share = median(values, subjects)
    low, high = of_median(values, subjects)
    if not math.isfinite(low):
        return share
    within = float(np.mean((values >= low) & (values <= high)))
    return median(values, subjects, density=within / (high - low) if high > low else math.inf)


def macro(estimates: Sequence[Estimate], intervals: Sequence[Interval]) -> Interval:
    """Interval of a mean over classes, from the intervals of the classes.

    The distances of the classes' ends from their estimates are combined with the correlation of
    their influences (MOVER: Zou and Donner 2008, *Statistics in Medicine* 27:1693). A class without
    variance is assumed to be perfectly correlated with all others.

    Parameters
    ----------
    estimates : sequence of Estimate
        Estimates of the classes.
    intervals : sequence of (float, float)
        Lower and upper ends, one pair per class.
    """
    if not intervals or not all(math.isfinite(low) for low, _ in intervals):
        return NONE
    influences = np.stack([e.influence for e in estimates])
    length = np.sqrt((influences**2).sum(axis=1))
    silent = length == 0
    unit = influences / np.where(silent, 1.0, length)[:, None]
    correlations = np.clip(unit @ unit.T, -1, 1)
    correlations[silent], correlations[:, silent] = 1.0, 1.0
    value = average(estimates).value
    down = np.array([e.value - i[0] for e, i in zip(estimates, intervals, strict=True)])
    up = np.array([i[1] - e.value for e, i in zip(estimates, intervals, strict=True)])
    ends = [math.sqrt(max(float(d @ correlations @ d), 0.0)) / len(d) for d in (down, up)]
    return value - ends[0], value + ends[1]


def too_few(people: int) -> str | None:
    """Report too few subjects for intervals; None if there are enough.

    Parameters
    ----------
    people : int
        Number of subjects.
    """
    if people >= FEWEST:
        return None
    counted = "1 subject is" if people == 1 else f"{people} subjects are"
    return f"{counted} too few for intervals; the minimum is {FEWEST}"


def all_of(trials: int) -> float:
    """Exact lower bound of a rate if all independent trials succeed.

    Parameters
    ----------
    trials : int
        Number of independent trials.
    """
    return float(_TAIL ** (1 / trials))


def _area_variance(area: float, m: float, n: float) -> float:
    """Variance of an AUROC of ``m`` and ``n`` independent clips (Newcombe 2006, method 5)."""
    size = (m + n) / 2 - 1
    spread = 1 + size * ((1 - area) / (2 - area) + area / (1 + area))
    return area * (1 - area) * spread / (m * n)


def _score_bound(area: float, end: float, m: float, n: float, z: float) -> float:
    """Furthest area towards ``end`` that lies within z standard errors of the estimate."""
    inside, outside = area, end
    for _ in range(60):
        middle = (inside + outside) / 2
        if abs(area - middle) <= z * math.sqrt(max(_area_variance(middle, m, n), 0.0)):
            inside = middle
        else:
            outside = middle
    return (inside + outside) / 2 if area != end else area
