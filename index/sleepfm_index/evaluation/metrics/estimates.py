"""Measures of predictions, each with the influence of every subject on it.

Clips of a night are not independent, but subjects are. Every measure therefore comes with the
influence of each subject, from which :mod:`.intervals` computes cluster variances: the influence
function (the derivative with respect to the weight of a clip), summed over the clips of the subject
and divided by the share of clips of other subjects. For a mean this equals the change when the
subject is left out (jackknife); without the division, the variance of subjects with many clips
would be underestimated. Undefined values are NaN, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
_LEAST: Final = 1e-9
BINS: Final = 10
"""Equal-width confidence bins of the calibration error."""


@dataclass(frozen=True)
class Estimate:
    """A measure with the influence of each subject.

    Parameters
    ----------
    value : float
        Value of the measure; NaN if undefined.
    influence : ndarray of float64, shape [subjects]
        Influence of each subject on the value; see the module's description.
    clips : int
        Number of clips (or subjects) measured.
    """

    value: float
    influence: Floats
    clips: int

    @property
    def subjects(self) -> int:
        """Number of subjects."""
        return len(self.influence)

    @property
    def variance(self) -> float:
        """Cluster variance, ``(S - 1) / S`` times the sum of squared influences; NaN for one."""
        n = self.subjects
        if n < 2 or not math.isfinite(self.value):
            return math.nan
        return float((n - 1) / n * np.dot(self.influence, self.influence))

    @property
    def degrees(self) -> float:
        """Degrees of freedom of :attr:`variance`, ``2 S / (kurtosis - 1) - 1``.

        For S normal values it is S - 1; if a few subjects dominate the variance, their kurtosis
        reduces it. It is limited to the range from a third of S - 1 to S - 1, because the kurtosis
        of few values is itself uncertain.
        """
        n = self.subjects
        second = float(np.mean(self.influence**2))
        if second == 0:
            return n - 1
        kurtosis = float(np.mean((self.influence / math.sqrt(second)) ** 4))
        known = 2 * n / max(kurtosis - 1, 1e-9) - 1
        return float(min(max(known, (n - 1) / 3), n - 1))

    def degrees_up_to(self, share: float) -> float:
        """Degrees of freedom of a measure that few people determine, e.g. those of largest error.

        A sample of few subjects rarely includes such people, so that :attr:`degrees` are limited if
        there are several clips per subject (measured by ``benchmarks/coverage.py``).

        Parameters
        ----------
        share : float
            Limit, as a share of S - 1.
        """
        if self.clips == self.subjects:
            return self.degrees
        return min(self.degrees, share * (self.subjects - 1))

    def minus(self, other: Estimate) -> Estimate:
        """Paired difference to an estimate of the same subjects in the same order.

        Parameters
        ----------
        other : Estimate
            The estimate to subtract.
        """
        return Estimate(self.value - other.value, self.influence - other.influence, self.clips)


def average(estimates: Sequence[Estimate]) -> Estimate:
    """Unweighted mean of estimates of the same subjects, e.g. the macro mean over classes.

    Parameters
    ----------
    estimates : sequence of Estimate
        The estimates.
    """
    return Estimate(
        float(np.mean([e.value for e in estimates])),
        np.asarray(np.mean([e.influence for e in estimates], axis=0), np.float64),
        max(e.clips for e in estimates),
    )


def subject_sums(values: Floats, subjects: Codes) -> Floats:
    """Sum of each column over the clips of each subject.

    Parameters
    ----------
    values : ndarray of float64, shape [n] or [n, m]
        Values by clip.
    subjects : ndarray of int64, shape [n]
        Subject of each clip, as codes from 0 on.

    Returns
    -------
    ndarray of float64, shape [subjects] or [subjects, m]
    """
    size = int(subjects.max()) + 1 if len(subjects) else 0
    if values.ndim == 1:
        return np.asarray(np.bincount(subjects, values, minlength=size), np.float64)
    columns = [np.bincount(subjects, column, minlength=size) for column in values.T]
    return np.stack(columns, axis=1) if columns else np.empty((size, 0))


def mean(values: Floats, subjects: Codes) -> Estimate:
    """Mean over clips: a ratio of two sums over subjects.

    Parameters
    ----------
    values : ndarray of float64, shape [n]
        Values by clip.
    subjects : ndarray of int64, shape [n]
        Subject of each clip, as codes from 0 on without gaps.
    """
    value = float(values.mean())
    share = 1 / len(values)
    return Estimate(value, _leave_one_out((values - value) * share, share, subjects), len(values))


def median(values: Floats, subjects: Codes, density: float = 1.0) -> Estimate:
    """Median over clips.

    Parameters
    ----------
    values : ndarray of float64, shape [n]
        Values by clip.
    subjects : ndarray of int64, shape [n]
        Subject of each clip, as codes from 0 on.
    density : float
        Density of the values at the median, in their reciprocal unit; with 1, the influence is the
        negative influence on the share of values up to the median.
    """
    value = float(np.median(values))
    # ties with the median count half, so that influences sum to 0 with half of the values per side
    below = (values < value) + 0.5 * (values == value)
    share = 1 / len(values)
    change = _leave_one_out((below.mean() - below) * (share / density), share, subjects)
    return Estimate(value, change, len(values))


def ranking(
    score: Floats, positive: NDArray[np.bool_], subjects: Codes
) -> tuple[Estimate, Estimate]:
    """Area under the ROC curve, and average precision, of one class against the rest.

    Parameters
    ----------
    score : ndarray of float64, shape [n]
        Score of the class; higher is more likely.
    positive : ndarray of bool, shape [n]
        Whether the clip is of the class.
    subjects : ndarray of int64, shape [n]
        Subject of each clip, as codes from 0 on.

    Returns
    -------
    auroc, auprc : Estimate
        As ``sklearn.metrics.roc_auc_score`` and ``average_precision_score``; NaN without a positive
        (or, for the first, a negative) clip. The influence on AUROC is made of the placement values
        of DeLong et al. (1988), *Biometrics* 44:837, summed by subject as in Obuchowski (1997),
        *Biometrics* 53:567.
    """
    people, n = int(subjects.max()) + 1, len(score)
    order = np.argsort(-score, kind="stable")
    ordered, hit = score[order], positive[order].astype(np.float64)
    # thresholds are after the last of equal scores
    ends = np.append(np.flatnonzero(np.diff(ordered)), n - 1)
    group = np.searchsorted(ends, np.arange(n))
    hits = np.cumsum(hit)[ends]
    misses = ends + 1 - hits
    p, q = hits[-1], misses[-1]
    undefined = Estimate(math.nan, np.full(people, math.nan), n)
    if p == 0:
        return undefined, undefined
    gained, missed = np.diff(hits, prepend=0.0), np.diff(misses, prepend=0.0)
    auroc = undefined
    if q:
        # a positive outranks the negatives after it, and half of those tied with it
        outranks = (q - misses + missed / 2) / q
        outranked = (hits - gained / 2) / p
        value = float((gained * outranks).sum() / p)
        change = np.where(hit > 0, (outranks[group] - value) / p, (outranked[group] - value) / q)
        auroc = Estimate(value, _of_both(change, hit, subjects[order]), n)
    precision = hits / (ends + 1)
    value = float((gained * precision).sum() / p)
    # d precision_k / d w_j = (hit_j - precision_k) / count_k for every threshold k after j
    after = np.cumsum((gained / (ends + 1))[::-1])[::-1]
    after_precision = np.cumsum((gained * precision / (ends + 1))[::-1])[::-1]
    change = (hit * (precision + after - value)[group] - after_precision[group]) / p
    return auroc, Estimate(value, _of_both(change, hit, subjects[order]), n)


def confusion(truth: Codes, predicted: Codes, classes: int) -> NDArray[np.int64]:
    """Clips by true class (rows) and predicted class (columns), int64 [classes, classes].

    Parameters
    ----------
    truth : ndarray of int64, shape [n]
        Codes of the true classes.
    predicted : ndarray of int64, shape [n]
        Codes of the predicted classes.
    classes : int
        Number of classes.
    """
    flat = np.bincount(truth * classes + predicted, minlength=classes**2)
    return flat.reshape(classes, classes)


def confusion_measures(matrices: Floats) -> tuple[Estimate, Estimate, list[Estimate]]:
    """Compute the measures that need only confusion matrices.

    Parameters
    ----------
    matrices : ndarray of float64, shape [subjects, classes, classes]
        Clips of each subject by true and predicted class.

    Returns
    -------
    accuracy, kappa : Estimate
        Kappa is Cohen's.
    f1 : list of Estimate
        F1 of each class; NaN for a class without clips.
    """
    true, predicted = matrices.sum(axis=2), matrices.sum(axis=1)
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    n, right = true.sum(axis=1), hits.sum(axis=1)
    total, t, s = float(n.sum()), true.sum(axis=0), predicted.sum(axis=0)
    clips, other_share = round(total), 1 - n / total
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = right.sum() / total
        on_accuracy = (right - accuracy * n) / total
        chance = (t * s).sum() / total**2
        on_chance = (true @ s + predicted @ t) / total**2 - 2 * chance * n / total
        kappa = (accuracy - chance) / (1 - chance)
        on_kappa = on_accuracy / (1 - chance) - on_chance * (1 - accuracy) / (1 - chance) ** 2
        f1 = np.where(t > 0, 2 * hits.sum(axis=0) / (t + s), np.nan)
        share = (true + predicted) / (t + s)
        on_f1 = (2 * hits / (t + s) - f1 * share) / np.maximum(1 - share, _LEAST)
        other_share = np.maximum(other_share, _LEAST)
    return (
        Estimate(float(accuracy), on_accuracy / other_share, clips),
        Estimate(float(kappa), on_kappa / other_share, clips),
        [Estimate(float(f1[c]), on_f1[:, c], clips) for c in range(len(t))],
    )


def calibration_error(confidence: Floats, right: NDArray[np.bool_], subjects: Codes) -> Estimate:
    """Compute the expected calibration error.

    Mean over clips of |mean confidence - share right| of their bin, ten equal-width bins of the
    probability of the predicted class (Guo et al., ICML 2017, arXiv 1706.04599, eq. 3).

    Parameters
    ----------
    confidence : ndarray of float64, shape [n]
        Probability of the predicted class.
    right : ndarray of bool, shape [n]
        Whether the predicted class is the true one.
    subjects : ndarray of int64, shape [n]
        Subject of each clip, as codes from 0 on.
    """
    bin_of = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gap = confidence - right
    side = np.sign(np.bincount(bin_of, gap, minlength=BINS))[bin_of]
    return mean(side * gap, subjects)


def correlation(truth: Floats, predicted: Floats, subjects: Codes) -> Estimate:
    """Pearson's r over clips; NaN if one of the two is constant.

    Parameters
    ----------
    truth : ndarray of float64, shape [n]
        True values.
    predicted : ndarray of float64, shape [n]
        Predicted values.
    subjects : ndarray of int64, shape [n]
        Subject of each clip, as codes from 0 on.
    """
    t, p = truth - truth.mean(), predicted - predicted.mean()
    spread = math.sqrt(float(np.dot(t, t)) * float(np.dot(p, p)))
    # a constant varies by rounding only
    constant = np.ptp(truth) == 0 or np.ptp(predicted) <= 1e-12 * np.abs(predicted).max()
    if constant or spread == 0:
        return Estimate(math.nan, np.full(int(subjects.max()) + 1, math.nan), len(truth))
    r = float(np.clip(np.dot(t, p) / spread, -1, 1))
    u, v = t / t.std(), p / p.std()
    share = 1 / len(t)
    change = (u * v - r * (u**2 + v**2) / 2) * share
    return Estimate(r, _leave_one_out(change, share, subjects), len(t))


def _leave_one_out(change: Floats, weight: Floats | float, subjects: Codes) -> Floats:
    """Sum the changes of each subject, and divide by the share of the weight of other subjects."""
    weights = np.broadcast_to(np.asarray(weight, np.float64), change.shape)
    return subject_sums(change, subjects) / np.maximum(1 - subject_sums(weights, subjects), _LEAST)


def _of_both(change: Floats, hit: Floats, subjects: Codes) -> Floats:
    """Sum of :func:`_leave_one_out` of the positives and of the negatives."""
    parts = [(hit, float(hit.sum())), (1 - hit, float((1 - hit).sum()))]
    positives, negatives = (
        _leave_one_out(change * mask, mask / max(total, 1.0), subjects) for mask, total in parts
    )
    return positives + negatives
