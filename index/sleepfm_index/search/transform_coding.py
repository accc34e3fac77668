"""Transform coding: a vector in 96 codes of four bits, spent on the directions that queries see.

A list keeps of a vector its residual r, the vector less the list's centroid, and a query q asks for
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
"""Codes per vector."""
LEVELS: Final = 16
"""Number of values of a four-bit code."""
LEARNED: Final = STAGES * (2 * EMBEDDING_DIM + LEVELS)
"""Number of codes per vector."""
_MOST: Final = 4
"""Stages of one direction; FAISS adds the scores up in 8 bits each, so more would be lost."""
_RESIDUAL: Final = 0.03
"""Share of a direction's variance that a stage leaves; 0.01 of a Gaussian's (Lloyd 1982)."""
_RIDGE: Final = 1e-3
"""Fraction of the mean query variance added to every direction, so that none is ignored."""
_ROUNDS: Final = 20
_BLOCK: Final = 1 << 13

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TransformCode:
    """Projections and codebook of a transform code.

    Parameters
    ----------
    vector_basis : ndarray of float32, shape [512, 96]
        ``H u`` of each stage. Stages of one direction follow each other and have the same column:
        each codes the residual of the one before.
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
        """Read the numbers of :attr:`learned`.

        Parameters
        ----------
        learned : ndarray of float32, shape [99840]
            The numbers.
        """
        side = EMBEDDING_DIM * STAGES
        vector_basis, query_basis = learned[: 2 * side].reshape(2, EMBEDDING_DIM, STAGES)
        return cls(vector_basis, query_basis, learned[2 * side :].reshape(STAGES, LEVELS))

    @property
    def learned(self) -> Floats:
        """All numbers, float32 [99840], as they are stored."""
        parts = (self.vector_basis, self.query_basis, self.codebook)
        return np.concatenate([part.ravel() for part in parts])

    def encode(self, residual: Floats) -> NDArray[np.uint8]:
        """Code residuals.

        Parameters
        ----------
        residual : ndarray of float32, shape [n, 512]
            Vectors less their centroids.

        Returns
        -------
        ndarray of uint8, shape [n, 48]
            Two codes per byte, the lower four bits first.
        """
        # In float64, since float32 sums depend on the number of threads and would flip a code.
        values = np.ascontiguousarray((residual.astype(np.float64) @ self.vector_basis).T)
        codes = np.empty((STAGES, len(residual)), np.uint8)
        again = _repeats(self.vector_basis)
        between = (self.codebook[:, 1:] + self.codebook[:, :-1]) / 2
        for stage in range(STAGES):
            if again[stage]:
                values[stage] = values[stage - 1]
            codes[stage] = np.searchsorted(between[stage], values[stage])
            values[stage] -= self.codebook[stage][codes[stage]]
        return np.ascontiguousarray((codes[0::2] | codes[1::2] << 4).T)


def learn(residual: Floats, queries: Floats) -> TransformCode:
    """Learn a code from residuals like those to be coded and queries like those to be asked.

    Parameters
    ----------
    residual : ndarray of float32, shape [n, 512], n >= 1
        Vectors less their centroids.
    queries : ndarray of float32, shape [m, 512], m >= 1
        Query vectors.
    """
    with one_thread():  # the same bytes by however many
        asked = _moment(queries)
        asked += _RIDGE * np.trace(asked) / EMBEDDING_DIM * np.eye(EMBEDDING_DIM)
        values, vectors = np.linalg.eigh(asked)
        root = (vectors * np.sqrt(values)) @ vectors.T
        inverse = (vectors / np.sqrt(values)) @ vectors.T
        variances, directions = np.linalg.eigh(root @ _moment(residual) @ root)
        directions = directions[:, ::-1][:, _stages(variances[::-1])]
        vector_basis = (root @ directions).astype(np.float32)
        query_basis = (inverse @ directions).astype(np.float32)
        rest = np.concatenate([block @ vector_basis for block in _blocks(residual)]).T.copy()
    codebook = np.empty((STAGES, LEVELS), np.float32)
    again = _repeats(vector_basis)
    for stage in range(STAGES):
        if again[stage]:
            rest[stage] = rest[stage - 1]
        codebook[stage] = _lloyd(rest[stage])
        between = (codebook[stage, 1:] + codebook[stage, :-1]) / 2
        rest[stage] -= codebook[stage][np.searchsorted(between, rest[stage])]
    return TransformCode(vector_basis, query_basis, codebook)


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
    """Assign stages to directions, each to the one of most variance left: int64 [96], ascending."""
    left = variances.copy()
    given = np.zeros(len(left), np.int64)
    for _ in range(STAGES):
        most = int(np.argmax(np.where(given < _MOST, left, -np.inf)))
        given[most] += 1
        left[most] *= _RESIDUAL
    return np.repeat(np.arange(len(left)), given)


def _repeats(vector_basis: Floats) -> list[bool]:
    """Mask of stages that code the residual of the preceding stage."""
    return [False, *(vector_basis[:, 1:] == vector_basis[:, :-1]).all(axis=0).tolist()]


def _lloyd(values: Floats) -> Floats:
    """Levels of least squared error, from quantiles on (Lloyd, doi 10.1109/TIT.1982.1056489)."""
    ordered = np.sort(values)
    sums = np.r_[0.0, np.cumsum(ordered, dtype=np.float64)]
    codebook = np.quantile(ordered, (np.arange(LEVELS) + 0.5) / LEVELS)
    for _ in range(_ROUNDS):
        edges = np.searchsorted(ordered, (codebook[1:] + codebook[:-1]) / 2)
        ends = np.r_[0, edges, len(ordered)]
        counts = np.diff(ends)
        codebook = np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), codebook)
    return codebook.astype(np.float32)
