"""The exact nearest clips: blocks of a matrix product, the closest compared in float64.

The one loop over blocks and the one tolerance of scores are here: search, calibration and the
nearest neighbours of evaluation go through :func:`candidates` and :func:`ranked`; whoever counts
ranks by float32 products takes the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.search.blocks import Blocks

ROUNDING: Final = 1.01 * EMBEDDING_DIM * 2.0**-24
"""Most that a float32 inner product of as many terms is off, times the lengths of both sides. A
stored vector is of length one up to its rounding, for which the hundredth is."""
CLOSE: Final = 2 * ROUNDING
"""Score difference below which the float32 order of unit vectors may be wrong."""
EQUAL: Final = 1e-12
"""Scores closer than this are equal: far below what stored vectors can tell, above the rounding of
a float64 product in any order of its terms."""
_LOWEST: Final = np.float32(np.finfo(np.float32).min)
_SPARE: Final = 1 << 16
_QUERIES: Final = 1024
_TOGETHER: Final = 64
"""Queries whose candidates are read at once."""

Read = Callable[[NDArray[np.int64]], NDArray[np.float32]]
Hits = tuple[NDArray[np.int64], NDArray[np.float64]]


def exact_scores(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Inner products row by row, in float64.

    A product of two float16 numbers has 22 significant bits and none below 2^-48, so for stored
    unit vectors the sum is exact in any order, and equal scores are equal.

    Parameters
    ----------
    left : ndarray of float32, shape [n, d]
        Vectors.
    right : ndarray of float32, shape [n, d] or [1, d]
        Vectors to compare with, or one for all.

    Returns
    -------
    ndarray of float64, shape [n]
    """
    wide = np.broadcast_to(right.astype(np.float64), left.shape)
    return np.asarray(np.einsum("nd,nd->n", left.astype(np.float64), wide))


def margin(queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the most by which float32 scores of each query may be in the wrong order.

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
    """Mark the candidates that float32 does not rule out of the best ``k``.

    Parameters
    ----------
    scores : ndarray of float32, shape [q, m]
        -inf where there is no candidate.
    k : int
        Number of candidates wanted.
    margins : ndarray of float32, shape [q]
        What :func:`margin` gives.

    Returns
    -------
    ndarray of bool, shape [q, m]
    """
    last = scores.shape[1] - min(k, scores.shape[1])
    least = np.take(np.partition(scores, last, axis=1), last, axis=1) - margins
    return np.asarray((scores >= least[:, None]) & (scores > -np.inf))


def best_first(scores: NDArray[np.float64], ids: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Order candidates by falling score, equal ones by rising id, and give the first ``k``.

    Parameters
    ----------
    scores : ndarray of float64, shape [..., m]
        Scores of the candidates.
    ids : ndarray of int64, of the same shape
        Clip ids of the candidates.
    k : int
        Number of candidates wanted.

    Returns
    -------
    ndarray of int64, shape [..., min(k, m)]
        Places along the last axis.
    """
    return np.lexsort((ids, -scores), axis=-1)[..., :k]


def rank(read: Read, query: NDArray[np.float32], ids: NDArray[np.int64], k: int) -> Hits:
    """Return the best ``k`` of some clips by float64 scores, equal ones in order of clip id.

    Parameters
    ----------
    read : callable
        Vectors of some clips, float32 [m, 512].
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
    apart: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> list[NDArray[np.int64]]:
    """Clips among which the nearest ``k`` of each query surely are.

    Parameters
    ----------
    blocks : iterable of (clip_ids, vectors)
        int64 [m] and float32 [m, 512]; each block is read once.
    queries : ndarray of float32, shape [q, 512]
        Query vectors.
    k : int
        Number of clips to find per query.
    read : callable
        Vectors of some clips; asked for only where very many score the same.
    apart : tuple of two ndarrays of int64, shape [q], optional
        First and last clip id that a query shall not find.
    groups : tuple of ndarray of int64, shape [q], and ndarray of int64, shape [n], optional
        Group of each query and of each id; a query does not find its own group.

    Returns
    -------
    list of ndarray of int64
        Ids for each query, in no order: those that score within rounding of the k-th or above.
    """
    best = [_Best(queries[at : at + _QUERIES], k, read) for at in range(0, len(queries), _QUERIES)]
    for ids, vectors in blocks:
        if len(ids):
            for at, part in enumerate(best):
                rows = slice(at * _QUERIES, at * _QUERIES + len(part.queries))
                scores = part.queries @ vectors.T
                if apart is not None:
                    _mask(scores, ids, apart[0][rows], apart[1][rows])
                if groups is not None:
                    scores[groups[0][rows, None] == groups[1][ids]] = -np.inf
                part.take(ids, scores)
    return [ids for part in best for ids in part.ids()]


def ranked(read: Read, queries: NDArray[np.float32], ids: NDArray[np.int64], k: int) -> list[Hits]:
    """Return the best ``k`` of the candidates of each query, as :func:`rank` does for one.

    Parameters
    ----------
    read : callable
        Vectors of some clips, float32 [m, 512].
    queries : ndarray of float32, shape [q, 512]
        Query vectors.
    ids : ndarray of int64, shape [q, m]
        Clip ids of the candidates; -1 for none.
    k : int
        Number of clips to find per query.

    Returns
    -------
    list of (clip_ids, scores)
        int64 and float64, at most ``k`` of each.
    """
    hits: list[Hits] = []
    for start in range(0, len(queries), _TOGETHER):
        some, part = queries[start : start + _TOGETHER], ids[start : start + _TOGETHER]
        there = part >= 0
        distinct, at = np.unique(part[there], return_inverse=True)
        scores = np.full(part.shape, -np.inf)
        if len(distinct):
            vectors = read(distinct)
            near = np.full(part.shape, -np.inf, np.float32)
            near[there] = (some @ vectors.T)[np.nonzero(there)[0], at]
            close = close_to_best(near, k, margin(some))
            rows = vectors[at[close[there]]]
            scores[close] = exact_scores(some[np.nonzero(close)[0]], rows)
            there = close
        order = best_first(scores, part, k)
        for row, best in enumerate(order):
            best = best[there[row, best]]
            hits.append((part[row, best], scores[row, best]))
    return hits


def together(found: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Combine candidates of several queries in one array, padded with -1.

    Parameters
    ----------
    found : list of ndarray of int64
        Ids for each query.

    Returns
    -------
    ndarray of int64, shape [q, m]
    """
    wide = np.full((len(found), max(map(len, found), default=0)), -1, np.int64)
    for row, ids in zip(wide, found, strict=True):
        row[: len(ids)] = ids
    return wide


class _Best:
    """The best so far of some queries."""

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
            # Otherwise the first block would be kept whole.
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
            self._settle()

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

    def _settle(self) -> None:
        # Very many score the same: the first k of them by float64 and clip id are enough.
        kept = []
        for row in np.unique(self._row):
            at = np.flatnonzero(self._row == row)
            if len(at) > self._k:
                ids, _ = rank(self._read, self.queries[row], self._id[at], self._k)
                at = at[np.isin(self._id[at], ids)]
            kept.append(at)
        keep = np.concatenate(kept)
        self._row, self._id, self._score = self._row[keep], self._id[keep], self._score[keep]


def _mask(
    scores: NDArray[np.float32],
    ids: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
) -> None:
    # Ids of a block ascend.
    left, right = np.searchsorted(ids, first), np.searchsorted(ids, last, side="right")
    for at in np.flatnonzero(left < right):
        scores[at, left[at] : right[at]] = -np.inf
