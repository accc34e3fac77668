"""Exact nearest neighbours: float32 matrix products in blocks, the closest rescored in float64.

Search, calibration and the nearest neighbours of evaluation all use :func:`candidates` and
:func:`ranked`; code that counts ranks by float32 products uses the tolerance defined here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.runtime.threads import faiss
from sleepfm_index.search.blocks import Blocks

ROUNDING: Final = 1.01 * EMBEDDING_DIM * 2.0**-24
"""Error bound of a float32 inner product of ``EMBEDDING_DIM`` terms, per unit of both norms. The
factor 1.01 allows for the norm of a stored vector, which is one up to rounding."""
CLOSE: Final = 2 * ROUNDING
"""Score difference below which the float32 order of unit vectors may be wrong."""
EQUAL: Final = 1e-12
"""Scores closer than this are equal: far below the resolution of stored vectors, above the rounding
of a float64 product in any order of its terms."""
_LOWEST: Final = np.float32(np.finfo(np.float32).min)
_SPARE: Final = 1 << 16
_QUERIES: Final = 1024
_RANKED_QUERIES: Final = 32
_RANKED_ROWS: Final = 1 << 14
"""Most queries and most vectors per block of candidates."""

Read = Callable[[NDArray[np.int64]], NDArray[np.float32]]
Hits = tuple[NDArray[np.int64], NDArray[np.float64]]


def exact_scores(vectors: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Inner products row by row, in float64.

    A product of two float16 numbers has 22 significant bits and none below 2^-48, so for stored
    unit vectors the sum is exact in any order, and equal scores are equal.

    Parameters
    ----------
    vectors : ndarray of float32, shape [n, d]
        Vectors.
    others : ndarray of float32, shape [n, d] or [1, d]
        Vectors to compare with; a single row is compared with all.

    Returns
    -------
    ndarray of float64, shape [n]
    """
    wide, other = vectors.astype(np.float64), others.astype(np.float64)
    return np.asarray(np.vecdot(wide, other))


def margin(queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score difference per query below which the float32 order may be wrong.

    Parameters
    ----------
    queries : ndarray of float32, shape [q, d]
        Query vectors.

    Returns
    -------
    ndarray of float32, shape [q]
    """
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    return np.asarray(CLOSE * lengths, np.float32)


def close_to_best(
    scores: NDArray[np.float32], k: int, margins: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Mask of candidates that may be among the best ``k``, given the error of float32.

    Parameters
    ----------
    scores : ndarray of float32, shape [q, m]
        Scores; -inf for no candidate.
    k : int
        Number of results.
    margins : ndarray of float32, shape [q]
        Result of :func:`margin` for the queries.

    Returns
    -------
    ndarray of bool, shape [q, m]
    """
    last = scores.shape[1] - min(k, scores.shape[1])
    least = np.take(np.partition(scores, last, axis=1), last, axis=1) - margins
    return np.asarray((scores >= least[:, None]) & (scores > -np.inf))


def best_first(scores: NDArray[np.float64], ids: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Return the first ``k`` candidates by descending score, ties by ascending clip id.

    Parameters
    ----------
    scores : ndarray of float64, shape [..., m]
        Scores of the candidates.
    ids : ndarray of int64, of the same shape
        Clip ids of the candidates.
    k : int
        Number of candidates to return.

    Returns
    -------
    ndarray of int64, shape [..., min(k, m)]
        Indices along the last axis.
    """
    return np.lexsort((ids, -scores), axis=-1)[..., :k]


def rank(read: Read, query: NDArray[np.float32], ids: NDArray[np.int64], k: int) -> Hits:
    """Return the best ``k`` of the given clips by float64 score, ties by ascending clip id.

    Parameters
    ----------
    read : callable
        Function that returns the vectors of clip ids, float32 [m, 512].
    query : ndarray of float32, shape [512]
        The query vector.
    ids : ndarray of int64, shape [m]
        Clip ids of the candidates.
    k : int
        Number of clips to find per query.

    Returns
    -------
    ids : ndarray of int64, shape [min(k, m)]
    scores : ndarray of float64, of the same shape
    """
    if not len(ids):
        return ids, np.empty(0)
    scores = exact_scores(read(ids), query[None])
    order = best_first(scores, ids, k)
    return ids[order], scores[order]


def candidates(
    blocks: Blocks,
    queries: NDArray[np.float32],
    k: int,
    read: Read,
    excluded: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> list[NDArray[np.int64]]:
    """Candidates for each query that are certain to include its nearest ``k`` clips.

    Parameters
    ----------
    blocks : iterable of (clip_ids, vectors)
        Clip ids, int64 [m], and vectors, float32 [m, 512]; each block is read once.
    queries : ndarray of float32, shape [q, 512]
        Query vectors.
    k : int
        Number of clips to find per query.
    read : callable
        Function that returns the vectors of clip ids, float32 [m, 512]; called only if very many
        clips have nearly equal scores.
    excluded : tuple of two ndarrays of int64, shape [q], optional
        First and last clip id of the run that each query excludes, both inclusive.
    groups : tuple of ndarray of int64, shape [q], and ndarray of int64, shape [n], optional
        Group of each query and of each clip id; the group of the query is excluded.

    Returns
    -------
    list of ndarray of int64
        Clip ids for each query, unordered: those that score at least as high as the k-th, up to
        the float32 error.
    """
    starts = range(0, len(queries), _QUERIES)
    best = [_Best(queries[start : start + _QUERIES], k, read) for start in starts]
    for ids, vectors in blocks:
        if len(ids):
            for start, part in zip(starts, best, strict=True):
                rows = slice(start, start + len(part.queries))
                scores = part.queries @ vectors.T
                if excluded is not None:
                    _mask(scores, ids, excluded[0][rows], excluded[1][rows])
                if groups is not None:
                    scores[groups[0][rows, None] == groups[1][ids]] = -np.inf
                part.take(ids, scores)
    return [ids for part in best for ids in part.ids()]


def ranked(read: Read, queries: NDArray[np.float32], ids: NDArray[np.int64], k: int) -> list[Hits]:
    """Return the best ``k`` of the candidates of each query, as :func:`rank` does for one.

    Parameters
    ----------
    read : callable
        Function that returns the vectors of clip ids, float32 [m, 512].
    queries : ndarray of float32, shape [q, 512]
        Query vectors.
    ids : ndarray of int64, shape [q, m]
        Clip ids of the candidates, padded with -1.
    k : int
        Number of clips to find per query.

    Returns
    -------
    list of (clip_ids, scores)
        Clip ids, int64, and scores, float64, per query; at most ``k`` of each.
    """
    hits: list[Hits] = []
    step = max(1, min(_RANKED_QUERIES, _RANKED_ROWS // max(1, ids.shape[1])))
    for start in range(0, len(queries), step):
        block, part = queries[start : start + step], ids[start : start + step]
        present = part >= 0
        distinct, inverse = np.unique(part[present], return_inverse=True)
        scores = np.full(part.shape, -np.inf)
        if len(distinct):
            vectors = read(distinct)
            row_of = np.full(part.shape, -1, np.int64)
            row_of[present] = inverse
            close = close_to_best(_own_products(block, vectors, row_of), k, margin(block))
            scores[close] = exact_scores(block[np.nonzero(close)[0]], vectors[row_of[close]])
            present = close
        order = best_first(scores, part, k)
        for row, best in enumerate(order):
            best = best[present[row, best]]
            hits.append((part[row, best], scores[row, best]))
    return hits


def _own_products(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Inner products, float32 [q, m], of each query with its own rows of ``vectors``; -inf for -1.

    FAISS computes them in its threads without copying the rows; BLAS would compare all with all.
    """
    products = np.empty(rows.shape, np.float32)
    arrays = (np.ascontiguousarray(queries), np.ascontiguousarray(vectors), rows)
    pointers = [faiss().swig_ptr(array) for array in (products, *arrays)]
    faiss().fvec_inner_products_by_idx(*pointers, vectors.shape[1], *rows.shape)
    return products


def padded(candidates_of: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Combine candidates of several queries in one array, padded with -1.

    Parameters
    ----------
    candidates_of : list of ndarray of int64
        Clip ids for each query.

    Returns
    -------
    ndarray of int64, shape [q, m]
    """
    wide = np.full((len(candidates_of), max(map(len, candidates_of), default=0)), -1, np.int64)
    for row, ids in zip(wide, candidates_of, strict=True):
        row[: len(ids)] = ids
    return wide


class _Best:
    """The best candidates of a block of queries so far."""

    def __init__(self, queries: NDArray[np.float32], k: int, read: Read) -> None:
        self.queries = queries
        self._k = k
        self._read = read
        self._margin = margin(queries)
        self._least = np.full(len(queries), _LOWEST)
        self._row = np.empty(0, np.int64)
        self._id = np.empty(0, np.int64)
        self._score = np.empty(0, np.float32)

    def take(self, ids: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        if len(ids) > self._k and np.any(self._least == _LOWEST):
            # Otherwise all candidates of the first block would be kept.
            kth = np.partition(scores, -self._k, axis=1)[:, -self._k]
            self._least = np.maximum(self._least, kth - self._margin)
        row, column = np.nonzero(scores >= self._least[:, None])
        if not len(row):
            return
        self._row = np.concatenate([self._row, row])
        self._id = np.concatenate([self._id, ids[column]])
        self._score = np.concatenate([self._score, scores[row, column]])
        if len(self._row) > 2 * self._k * len(self.queries):
            self._prune()
        if len(self._row) > 2 * self._k * len(self.queries) + _SPARE:
            self._prune_exactly()

    def ids(self) -> list[NDArray[np.int64]]:
        self._prune()
        ends = np.cumsum(np.bincount(self._row, minlength=len(self.queries)))
        order = np.argsort(self._row, kind="stable")
        return np.split(self._id[order], ends[:-1])

    def _prune(self) -> None:
        order = np.lexsort((-self._score, self._row))
        row, score = self._row[order], self._score[order]
        counts = np.bincount(row, minlength=len(self.queries))
        starts = np.cumsum(counts) - counts
        full = np.flatnonzero(counts >= self._k)
        kth = score[starts[full] + self._k - 1]
        self._least[full] = np.maximum(self._least[full], kth - self._margin[full])
        keep = order[score >= self._least[row]]
        self._row, self._id, self._score = self._row[keep], self._id[keep], self._score[keep]

    def _prune_exactly(self) -> None:
        # Very many nearly equal scores: keep only the best k by float64 score and clip id.
        kept = []
        for row in np.unique(self._row):
            entries = np.flatnonzero(self._row == row)
            if len(entries) > self._k:
                ids, _ = rank(self._read, self.queries[row], self._id[entries], self._k)
                entries = entries[np.isin(self._id[entries], ids)]
            kept.append(entries)
        keep = np.concatenate(kept)
        self._row, self._id, self._score = self._row[keep], self._id[keep], self._score[keep]


def _mask(
    scores: NDArray[np.float32],
    ids: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
) -> None:
    # Clip ids of a block are ascending.
    starts, ends = np.searchsorted(ids, first), np.searchsorted(ids, last, side="right")
    for row in np.flatnonzero(starts < ends):
        scores[row, starts[row] : ends[row]] = -np.inf
