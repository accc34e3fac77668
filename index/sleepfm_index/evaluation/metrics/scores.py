"""How good predictions are: the measures of a classifier and of a regression, for any resample.

Every function takes ``weights``, how often each clip counts, so the same code gives the estimate
(all ones) and its resamples (subjects drawn with replacement). Undefined is NaN, never 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10
"""Equal-width bins of confidence behind the calibration error."""


def ranking_scores(
    score: Floats, positive: NDArray[np.bool_], weights: NDArray[np.int64] | Floats
) -> tuple[Floats, Floats]:
    """Area under the ROC curve, and average precision, of one class against the rest.

    Parameters
    ----------
    score : ndarray of float64, shape [n]
    positive : ndarray of bool, shape [n]
    weights : ndarray, shape [b, n]
        One row a resample.

    Returns
    -------
    auroc, auprc : ndarray of float64, shape [b]
        As ``sklearn.metrics.roc_auc_score`` and ``average_precision_score`` with sample weights;
        NaN where a resample has no positive (or, for AUROC, no negative) clip.
    """
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    # thresholds lie after the last of equal scores
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    w = np.asarray(weights)[:, order]
    hits = np.cumsum(w * positive[order], axis=1)[:, ends].astype(np.float64)
    all_ = np.cumsum(w, axis=1)[:, ends].astype(np.float64)
    misses = all_ - hits
    gained = np.diff(hits, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(all_ > 0, hits / all_, 0.0)
        auprc = (gained * precision).sum(axis=1) / hits[:, -1]
        # a hit outranks the misses after it, and half of those it is tied with
        outranked = misses[:, -1:] - misses + np.diff(misses, axis=1, prepend=0.0) / 2
        auroc = (gained * outranked).sum(axis=1) / (hits[:, -1] * misses[:, -1])
    return auroc, auprc


def confusion(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Clips by true class (rows) and predicted class (columns), int64 [classes, classes]."""
    flat = np.bincount(truth * classes + predicted, minlength=classes**2)
    return flat.reshape(classes, classes)


def confusion_scores(matrix: Floats) -> dict[str, Floats]:
    """Scores that need only confusion matrices.

    Parameters
    ----------
    matrix : ndarray of float64, shape [..., classes, classes]

    Returns
    -------
    dict of str to ndarray
        ``accuracy`` and ``kappa`` (Cohen's), shape [...]; ``f1``, shape [..., classes], NaN for a
        class that no clip has.
    """
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    true, said = matrix.sum(axis=-1), matrix.sum(axis=-2)
    total = true.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = right.sum(axis=-1) / total
        chance = (true * said).sum(axis=-1) / total**2
        kappa = (accuracy - chance) / (1 - chance)
        f1 = np.where(true > 0, 2 * right / (true + said), np.nan)
    return {"accuracy": accuracy, "kappa": kappa, "f1": f1}


def calibration_sums(confidence: Floats, right: NDArray[np.bool_]) -> Floats:
    """Give count, confidence and rightness of each clip by bin, float64 [n, 3 x bins]."""
    at = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    sums = np.zeros((len(confidence), 3, BINS))
    rows = np.arange(len(confidence))
    sums[rows, 0, at] = 1
    sums[rows, 1, at] = confidence
    sums[rows, 2, at] = right
    return sums.reshape(len(confidence), -1)


def calibration_error(sums: Floats) -> Floats:
    """Compute the expected calibration error from sums of shape [..., 3 x bins].

    Mean over clips of |mean confidence - share right| of their bin, ten equal-width bins of the
    probability of the predicted class (Guo et al., ICML 2017, arXiv 1706.04599, eq. 3).
    """
    count, confidence, right = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, BINS), -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.abs(confidence - right).sum(axis=-1) / count.sum(axis=-1))


def regression_sums(truth: Floats, predicted: Floats) -> Floats:
    """Give what the regression scores are made of, float64 [n, 7]."""
    one = np.ones_like(truth)
    error = np.abs(truth - predicted)
    return np.stack(
        [one, error, truth, predicted, truth**2, predicted**2, truth * predicted], axis=1
    )


def regression_scores(sums: Floats) -> dict[str, Floats]:
    """Mean absolute error, in the label's unit, and Pearson's r, from sums of shape [..., 7]."""
    n, error, t, p, tt, pp, tp = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(np.maximum(n * tt - t**2, 0) * np.maximum(n * pp - p**2, 0))
        return {"mae": error / n, "r": np.where(spread > 0, (n * tp - t * p) / spread, np.nan)}
