"""Transform coding: a vector in 96 codes of four bits, spent on the directions that queries see.

A list keeps of a vector r what is left after its centroid is subtracted, and a query q asks for
q.r. So the directions are those in which q.r varies: with S the second moment of the queries and H
its root, the principal directions u of H r (Guo et al. 2016, arXiv 1509.01469, weigh errors by the
same moment). Each is coded by itself, with as many stages of 16 levels as its variance deserves
(Brandt, "Transform coding for fast approximate nearest neighbor search in high dimensions", CVPR
2010), and

    q.r = sum over directions of (q . H^-1 u) (u . H r),

so FAISS scans these codes as those of a product quantiser over 96 numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.runtime.threads import one_thread

STAGES: Final = 96
"""Codes of a vector."""
LEVELS: Final = 16
"""Values of a code, four bits."""
LEARNED: Final = STAGES * (2 * EMBEDDING_DIM + LEVELS)
"""Numbers of a transform code."""
_MOST: Final = 4
"""Stages of one direction; FAISS adds the scores up in 8 bits each, so more would be lost."""
_LEFT: Final = 0.03
"""Share of a direction's variance that a stage leaves; 0.01 of a Gaussian's (Lloyd 1982)."""
_RIDGE: Final = 1e-3
"""Of the mean variance of queries, given to every direction: none is never asked about."""
_ROUNDS: Final = 20
_BLOCK: Final = 1 << 13

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TransformCode:
    """How vectors are coded and queries put to them.

    Parameters
    ----------
    reads : ndarray of float32, shape [512, 96]
        ``H u`` of each stage. Stages of one direction follow each other and have the same column:
        each codes what the one before left.
    asks : ndarray of float32, shape [512, 96]
        ``H^-1 u`` of each stage.
    levels : ndarray of float32, shape [96, 16]
        Values of each stage, ascending.
    """

    reads: Floats
    asks: Floats
    levels: Floats

    @classmethod
    def of(cls, learned: Floats) -> TransformCode:
        """Read the numbers of :attr:`learned`."""
        side = EMBEDDING_DIM * STAGES
        reads, asks = learned[: 2 * side].reshape(2, EMBEDDING_DIM, STAGES)
        return cls(reads, asks, learned[2 * side :].reshape(STAGES, LEVELS))

    @property
    def learned(self) -> Floats:
        """All numbers, float32 [99840], as they are stored."""
        return np.concatenate([self.reads.ravel(), self.asks.ravel(), self.levels.ravel()])

    def encode(self, left: Floats) -> NDArray[np.uint8]:
        """Code vectors, float32 [n, 512], as uint8 [n, 48]: two codes a byte, the lower first."""
        # In float64, since float32 sums depend on the number of threads and would flip a code.
        values = np.ascontiguousarray((left.astype(np.float64) @ self.reads).T)
        codes = np.empty((STAGES, len(left)), np.uint8)
        again = _repeats(self.reads)
        between = (self.levels[:, 1:] + self.levels[:, :-1]) / 2
        for stage in range(STAGES):
            if again[stage]:
                values[stage] = values[stage - 1]
            codes[stage] = np.searchsorted(between[stage], values[stage])
            values[stage] -= self.levels[stage][codes[stage]]
        return np.ascontiguousarray((codes[0::2] | codes[1::2] << 4).T)


def learn(left: Floats, queries: Floats) -> TransformCode:
    """Learn a code from vectors like those to be coded, and from queries like those to be asked.

    Parameters
    ----------
    left : ndarray of float32, shape [n, 512], n >= 1
    queries : ndarray of float32, shape [m, 512], m >= 1
    """
    with one_thread():  # the same bytes by however many
        asked = _moment(queries)
        asked += _RIDGE * np.trace(asked) / EMBEDDING_DIM * np.eye(EMBEDDING_DIM)
        values, vectors = np.linalg.eigh(asked)
        root = (vectors * np.sqrt(values)) @ vectors.T
        inverse = (vectors / np.sqrt(values)) @ vectors.T
        variances, directions = np.linalg.eigh(root @ _moment(left) @ root)
        directions = directions[:, ::-1][:, _stages(variances[::-1])]
        reads = (root @ directions).astype(np.float32)
        asks = (inverse @ directions).astype(np.float32)
        rest = np.concatenate([block @ reads for block in _blocks(left)]).T.copy()
    levels = np.empty((STAGES, LEVELS), np.float32)
    again = _repeats(reads)
    for stage in range(STAGES):
        if again[stage]:
            rest[stage] = rest[stage - 1]
        levels[stage] = _lloyd(rest[stage])
        between = (levels[stage, 1:] + levels[stage, :-1]) / 2
        rest[stage] -= levels[stage][np.searchsorted(between, rest[stage])]
    return TransformCode(reads, asks, levels)


def _moment(x: Floats) -> NDArray[np.float64]:
    """Second moment of rows, float64 [512, 512]."""
    total = np.zeros((EMBEDDING_DIM, EMBEDDING_DIM))
    for block in _blocks(x):
        wide = block.astype(np.float64)
        total += wide.T @ wide
    return total / len(x)


def _blocks(x: Floats) -> list[Floats]:
    return [x[at : at + _BLOCK] for at in range(0, len(x), _BLOCK)]


def _stages(variances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give stages to directions, each to the one of most variance left: int64 [96], ascending."""
    left = variances.copy()
    given = np.zeros(len(left), np.int64)
    for _ in range(STAGES):
        most = int(np.argmax(np.where(given < _MOST, left, -np.inf)))
        given[most] += 1
        left[most] *= _LEFT
    return np.repeat(np.arange(len(left)), given)


def _repeats(reads: Floats) -> list[bool]:
    """Which stages code what the one before left."""
    return [False, *(reads[:, 1:] == reads[:, :-1]).all(axis=0).tolist()]


def _lloyd(values: Floats) -> Floats:
    """Levels of least squared error, from quantiles on (Lloyd, doi 10.1109/TIT.1982.1056489)."""
    ordered = np.sort(values)
    sums = np.r_[0.0, np.cumsum(ordered, dtype=np.float64)]
    levels = np.quantile(ordered, (np.arange(LEVELS) + 0.5) / LEVELS)
    for _ in range(_ROUNDS):
        edges = np.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2)
        ends = np.r_[0, edges, len(ordered)]
        counts = np.diff(ends)
        levels = np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), levels)
    return levels.astype(np.float32)
