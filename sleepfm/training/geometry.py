"""What vectors are like as a set, and what a line through them knows."""

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
    """Exponential of the entropy of the normalised singular values of the centred vectors.

    Roy and Vetterli 2007 (EUSIPCO): how many dimensions are in use, 1 to d.

    Parameters
    ----------
    vectors : ndarray, shape [n, d]
        One row per clip.
    """
    centred = np.asarray(vectors, np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values = np.linalg.svd(centred, compute_uv=False)
    share = values / values.sum() if values.sum() else np.ones(1)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def alignment(first: Floats, second: Floats) -> float:
    """Mean squared distance of counterparts (Wang and Isola 2020, arXiv 2005.10242): 0 is perfect.

    Parameters
    ----------
    first, second : ndarray, shape [n, d]
        Unit vectors; row ``i`` of both belongs to clip ``i``.
    """
    return float(np.square(first - second, dtype=np.float64).sum(axis=1).mean())


def uniformity(vectors: Floats, seed: int = 0) -> float:
    """Log of the mean Gaussian potential of pairs (Wang and Isola 2020): 0 is collapsed, -4 spread.

    Parameters
    ----------
    vectors : ndarray, shape [n, d]
        Unit vectors; at most 4,096 pairs are drawn from them.
    seed : int
        Of the draw.
    """
    draw = np.random.default_rng(seed)
    first, second = draw.integers(0, len(vectors), (2, _PAIRS))
    apart = first != second
    distance = np.square(vectors[first[apart]] - vectors[second[apart]]).sum(axis=1)
    return float(np.log(np.exp(-2 * distance.astype(np.float64)).mean()))


def decode(
    vectors: Floats, known: Mapping[str, Floats], owner: Sequence[int] | NDArray[np.integer]
) -> dict[str, float]:
    """Correlate what is known with a ridge regression on the vectors of other people.

    Parameters
    ----------
    vectors : ndarray, shape [n, d]
        One row per clip.
    known : mapping of str to ndarray, shape [n]
        What is true of each clip, NaN where it is not known.
    owner : sequence of int, shape [n]
        Whose clip each is; every second owner is learned from, the others are asked.

    Returns
    -------
    dict of str to float
        Pearson's r over the clips asked; absent where fewer than 20 clips on a side are known.
    """
    _, number = np.unique(np.asarray(owner), return_inverse=True)
    learned = number % 2 == 0
    found = {}
    for name, values in known.items():
        there = np.isfinite(values)
        train, test = there & learned, there & ~learned
        if min(train.sum(), test.sum()) < 20 or np.ptp(values[train]) == 0:
            continue
        guess = _ridge(vectors[train], values[train, None], vectors[test])[:, 0]
        if guess.std() > 0 and np.ptp(values[test]) > 0:
            found[name] = float(np.corrcoef(guess, values[test])[0, 1])
    return found


def stage_auroc(
    vectors: Floats, stages: Floats, owner: Sequence[int] | NDArray[np.integer]
) -> float:
    """Return the macro AUROC of sleep stages by a ridge regression, of people not learned from.

    Parameters
    ----------
    vectors : ndarray, shape [n, d]
        One row per clip.
    stages : ndarray, shape [n, classes]
        One-hot; NaN where the stage is not known.
    owner : sequence of int, shape [n]
        As for :func:`decode`.

    Returns
    -------
    float
        Mean over the stages that occur among the clips asked; NaN where there are none.
    """
    _, number = np.unique(np.asarray(owner), return_inverse=True)
    there = np.isfinite(stages).all(axis=1)
    train, test = there & (number % 2 == 0), there & (number % 2 == 1)
    if min(train.sum(), test.sum()) < 20:
        return float("nan")
    scores = _ridge(vectors[train], stages[train], vectors[test])
    found = []
    for score, own in zip(scores.T, stages[test].T > 0.5, strict=True):
        if own.any() and not own.all():
            rank = rankdata(score)
            hits = rank[own].sum() - own.sum() * (own.sum() + 1) / 2
            found.append(hits / (own.sum() * (~own).sum()))
    return float(np.mean(found)) if found else float("nan")


def _ridge(x: Floats, y: Floats, asked: Floats) -> NDArray[np.float64]:
    """Predict ``y`` for other rows, by a ridge regression on standardised columns."""
    mean, spread = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64) + 1e-9
    rows = (x - mean) / spread
    centre = y.mean(axis=0, dtype=np.float64)
    penalty = _RIDGE * len(rows) * np.eye(rows.shape[1])
    weight = np.linalg.solve(rows.T @ rows + penalty, rows.T @ (y - centre))
    return np.asarray(((asked - mean) / spread) @ weight + centre)
