"""Geometry of a set of embeddings, and linear readout of known values from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

_PAIRS: Final = 4096
_RIDGE: Final = 1e-2

Floats = NDArray[np.floating]


def effective_rank(vectors: Floats) -> float:
    """Return the effective rank: how many dimensions the vectors use.

    It is the exponential of the entropy of the normalised singular values of the centred vectors
    (Roy and Vetterli 2007, EUSIPCO).

    Parameters
    ----------
    vectors : ndarray, shape [n, d]
        One row per clip.

    Returns
    -------
    float
        Between 1 and d.
    """
    centred = np.asarray(vectors, np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values = np.linalg.svd(centred, compute_uv=False)
    share = values / values.sum() if values.sum() else np.ones(1)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def alignment(first: Floats, second: Floats) -> float:
    """Return the mean squared distance of matching vectors (Wang and Isola, arXiv 2005.10242).

    Parameters
    ----------
    first, second : ndarray, shape [n, d]
        Unit vectors of two modalities; row ``i`` of both belongs to clip ``i``.

    Returns
    -------
    float
        Between 0 (identical) and 4.
    """
    return float(np.square(first - second, dtype=np.float64).sum(axis=1).mean())


def uniformity(vectors: Floats, seed: int = 0) -> float:
    """Return the log of the mean Gaussian potential of random pairs (Wang and Isola 2020).

    Parameters
    ----------
    vectors : ndarray, shape [n, d]
        Unit vectors; at most 4,096 pairs are drawn from them.
    seed : int
        Seed for drawing the pairs.

    Returns
    -------
    float
        0 where all vectors are the same, near -4 where they are spread uniformly.
    """
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, len(vectors), (2, _PAIRS))
    distinct = first != second
    distance = np.square(vectors[first[distinct]] - vectors[second[distinct]]).sum(axis=1)
    return float(np.log(np.exp(-2 * distance.astype(np.float64)).mean()))


def decode(
    vectors: Floats, known: Mapping[str, Floats], owner: Sequence[int] | NDArray[np.integer]
) -> dict[str, float]:
    """Correlate known values with predictions from a ridge regression fitted to other recordings.

    Parameters
    ----------
    vectors : ndarray, shape [n, d]
        One row per clip.
    known : mapping of str to ndarray, shape [n]
        True values by name, NaN where unknown.
    owner : sequence of int, shape [n]
        The recording or person of each clip; every second one is used for fitting, the others for
        testing.

    Returns
    -------
    dict of str to float
        Pearson's r over the test clips; a name is absent where fewer than 20 clips for fitting or
        for testing have a value.
    """
    _, number = np.unique(np.asarray(owner), return_inverse=True)
    for_fitting = number % 2 == 0
    correlations = {}
    for name, values in known.items():
        available = np.isfinite(values)
        train, test = available & for_fitting, available & ~for_fitting
        if min(train.sum(), test.sum()) < 20 or np.ptp(values[train]) == 0:
            continue
        predicted = _ridge(vectors[train], values[train, None], vectors[test])[:, 0]
        if predicted.std() > 0 and np.ptp(values[test]) > 0:
            correlations[name] = float(np.corrcoef(predicted, values[test])[0, 1])
    return correlations


def stage_auroc(
    vectors: Floats, stages: Floats, owner: Sequence[int] | NDArray[np.integer]
) -> float:
    """Return the macro AUROC of sleep stages, predicted by ridge regression for other recordings.

    Parameters
    ----------
    vectors : ndarray, shape [n, d]
        One row per clip.
    stages : ndarray, shape [n, classes]
        One-hot stages; NaN where the stage is unknown.
    owner : sequence of int, shape [n]
        As for :func:`decode`.

    Returns
    -------
    float
        Mean over the stages that some but not all test clips have; NaN if there is none, or if
        fewer than 20 clips for fitting or for testing have a stage.
    """
    predicted = stage_scores(vectors, stages, owner)
    if predicted is None:
        return float("nan")
    test, scores = predicted
    areas = []
    for score, positive in zip(scores.T, stages[test].T > 0.5, strict=True):
        if positive.any() and not positive.all():
            rank = rankdata(score)
            pairs_in_order = rank[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
            areas.append(pairs_in_order / (positive.sum() * (~positive).sum()))
    return float(np.mean(areas)) if areas else float("nan")


def stage_scores(
    vectors: Floats, stages: Floats, owner: Sequence[int] | NDArray[np.integer]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]] | None:
    """Predict the sleep stages of every second recording, by ridge regression on the others.

    Parameters
    ----------
    vectors, stages, owner
        As for :func:`stage_auroc`.

    Returns
    -------
    test : ndarray of bool, shape [n]
        Mask of the predicted clips.
    scores : ndarray of float64, shape [tested, classes]
        Score of each stage; higher is more likely.
        None instead of both if fewer than 20 clips for fitting or for testing have a stage.
    """
    _, number = np.unique(np.asarray(owner), return_inverse=True)
    available = np.isfinite(stages).all(axis=1)
    train, test = available & (number % 2 == 0), available & (number % 2 == 1)
    if min(train.sum(), test.sum()) < 20:
        return None
    return test, _ridge(vectors[train], stages[train], vectors[test])


def _ridge(x: Floats, y: Floats, new: Floats) -> NDArray[np.float64]:
    """Fit a ridge regression of ``y`` on standardised columns of ``x``, and predict for ``new``."""
    mean, spread = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64) + 1e-9
    rows = (x - mean) / spread
    centre = y.mean(axis=0, dtype=np.float64)
    penalty = _RIDGE * len(rows) * np.eye(rows.shape[1])
    weight = np.linalg.solve(rows.T @ rows + penalty, rows.T @ (y - centre))
    return np.asarray(((new - mean) / spread) @ weight + centre)
