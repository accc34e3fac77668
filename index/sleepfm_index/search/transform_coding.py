"""Transform coding: a vector in 96 codes of four bits, for directions that matter to the queries.

A list stores the residual r of a vector, which is the vector minus the list's centroid, and a query
q needs the product q.r. The code therefore uses the directions in which q.r varies: with S the
second moment of the queries and H its square root, the principal directions u of H r (Guo et al.
2016, arXiv 1509.01469, weight errors by the same moment). Each direction is quantised separately,
with a number of stages of 16 levels that depends on its variance (Brandt, "Transform coding for
fast approximate nearest neighbor search in high dimensions", CVPR 2010). Since

    q.r = sum over directions of (q . H^-1 u) (u . H r),

FAISS can scan the codes as those of a product quantiser over 96 numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.runtime.threads import one_thread

STAGES: Final = 96
"""Codes per vector."""
LEVELS: Final = 16
"""Number of values of a four-bit code."""
LEARNED: Final = STAGES * (2 * EMBEDDING_DIM + LEVELS)
"""Number of learned numbers: two bases and the codebook."""
_MAX_STAGES: Final = 4
"""Maximum stages of one direction; FAISS sums scores of 8 bits, in which more would be lost."""
_RESIDUAL: Final = 0.03
"""Assumed share of a direction's variance after a stage; 0.01 for a Gaussian (Lloyd 1982)."""
_RIDGE: Final = 1e-3
"""Fraction of the mean query variance added to every direction, so that all count."""
_ROUNDS: Final = 20
_BLOCK: Final = 1 << 13

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TransformCode:
    """Projections and codebook of a transform code.

    Parameters
    ----------
    vector_basis : ndarray of float32, shape [512, 96]
        ``H u`` of each stage. Stages of one direction are adjacent and have the same column; each
        encodes the residual of the one before.
    query_basis : ndarray of float32, shape [512, 96]
        ``H^-1 u`` of each stage.
    codebook : ndarray of float32, shape [96, 16]
        Values of each stage, ascending.
    """

    vector_basis: Floats
    query_basis: Floats
    codebook: Floats

    @classmethod
    def of(cls, learned: Floats) -> TransformCode:
        """Create the code from the numbers of :attr:`learned`.

        Parameters
        ----------
        learned : ndarray of float32, shape [99840]
            Bases and codebook as one array.
        """
        side = EMBEDDING_DIM * STAGES
        vector_basis, query_basis = learned[: 2 * side].reshape(2, EMBEDDING_DIM, STAGES)
        return cls(vector_basis, query_basis, learned[2 * side :].reshape(STAGES, LEVELS))

    @property
    def learned(self) -> Floats:
        """Bases and codebook as one array, float32 [99840]."""
        parts = (self.vector_basis, self.query_basis, self.codebook)
        return np.concatenate([part.ravel() for part in parts])

    def encode(self, residual: Floats) -> NDArray[np.uint8]:
        """Encode residuals.

        Parameters
        ----------
        residual : ndarray of float32, shape [n, 512]
            Vectors minus their centroids.

        Returns
        -------
        ndarray of uint8, shape [n, 48]
            Two codes per byte, the lower four bits first.
        """
        # In float64, because float32 sums depend on the number of threads and may change a code.
        values = np.ascontiguousarray((residual.astype(np.float64) @ self.vector_basis).T)
        codes = np.empty((STAGES, len(residual)), np.uint8)
        repeated = _repeats(self.vector_basis)
        between = (self.codebook[:, 1:] + self.codebook[:, :-1]) / 2
        for stage in range(STAGES):
            if repeated[stage]:
                values[stage] = values[stage - 1]
            codes[stage] = np.searchsorted(between[stage], values[stage])
            values[stage] -= self.codebook[stage][codes[stage]]
        return np.ascontiguousarray((codes[0::2] | codes[1::2] << 4).T)


def learn(residual: Floats, queries: Floats) -> TransformCode:
    """Learn a code from samples of residuals and queries.

    Parameters
    ----------
    residual : ndarray of float32, shape [n, 512], n >= 1
        Vectors minus their centroids.
    queries : ndarray of float32, shape [m, 512], m >= 1
        Sample of query vectors.
    """
    with one_thread():  # so that the result does not depend on the number of threads
        query_moment = _moment(queries)
        query_moment += _RIDGE * np.trace(query_moment) / EMBEDDING_DIM * np.eye(EMBEDDING_DIM)
        values, vectors = np.linalg.eigh(query_moment)
        root = (vectors * np.sqrt(values)) @ vectors.T
        inverse = (vectors / np.sqrt(values)) @ vectors.T
        variances, directions = np.linalg.eigh(root @ _moment(residual) @ root)
        directions = directions[:, ::-1][:, _stages(variances[::-1])]
        vector_basis = (root @ directions).astype(np.float32)
        query_basis = (inverse @ directions).astype(np.float32)
        remaining = np.concatenate([block @ vector_basis for block in _blocks(residual)]).T.copy()
    codebook = np.empty((STAGES, LEVELS), np.float32)
    repeated = _repeats(vector_basis)
    for stage in range(STAGES):
        if repeated[stage]:
            remaining[stage] = remaining[stage - 1]
        codebook[stage] = _lloyd(remaining[stage])
        between = (codebook[stage, 1:] + codebook[stage, :-1]) / 2
        remaining[stage] -= codebook[stage][np.searchsorted(between, remaining[stage])]
    return TransformCode(vector_basis, query_basis, codebook)


def _moment(x: Floats) -> NDArray[np.float64]:
    """Second moment of rows, float64 [512, 512]."""
    total = np.zeros((EMBEDDING_DIM, EMBEDDING_DIM))
    for block in _blocks(x):
        wide = block.astype(np.float64)
        total += wide.T @ wide
    return total / len(x)


def _blocks(x: Floats) -> list[Floats]:
    return [x[start : start + _BLOCK] for start in range(0, len(x), _BLOCK)]


def _stages(variances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Direction of each stage, by largest remaining variance: int64 [96], ascending."""
    remaining = variances.copy()
    stages = np.zeros(len(remaining), np.int64)
    for _ in range(STAGES):
        direction = int(np.argmax(np.where(stages < _MAX_STAGES, remaining, -np.inf)))
        stages[direction] += 1
        remaining[direction] *= _RESIDUAL
    return np.repeat(np.arange(len(remaining)), stages)


def _repeats(vector_basis: Floats) -> list[bool]:
    """Mask of stages that code the residual of the preceding stage."""
    return [False, *(vector_basis[:, 1:] == vector_basis[:, :-1]).all(axis=0).tolist()]


def _lloyd(values: Floats) -> Floats:
    """Levels of least squared error, starting at quantiles (Lloyd, 10.1109/TIT.1982.1056489)."""
    ordered = np.sort(values)
    sums = np.r_[0.0, np.cumsum(ordered, dtype=np.float64)]
    codebook = np.quantile(ordered, (np.arange(LEVELS) + 0.5) / LEVELS)
    for _ in range(_ROUNDS):
        edges = np.searchsorted(ordered, (codebook[1:] + codebook[:-1]) / 2)
        ends = np.r_[0, edges, len(ordered)]
        counts = np.diff(ends)
        codebook = np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), codebook)
    return codebook.astype(np.float32)
