"""Exact nearest neighbours of many clips at once: tiles of a matrix product, bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.search.exact import CLOSE, best_first, exact_scores

_ROWS: Final = 2048
_COLUMNS: Final = 16_384
_SPARE: Final = 32


Read = Callable[[NDArray[np.int64]], NDArray[np.float32]]


def nearest(
    queries: NDArray[np.float32],
    query_groups: NDArray[np.int64],
    read: Read,
    groups: NDArray[np.int64],
    k: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Nearest candidates of each query by inner product, those of its own group left out.

    Parameters
    ----------
    queries : ndarray of float32, shape [q, d]
        Query vectors.
    query_groups : ndarray of int64, shape [q]
        A query is not compared with candidates of its group; -1 is compared with all.
    read : callable
        Vectors of some candidates by row, float32 [m, d]; asked for one block after another.
    groups : ndarray of int64, shape [n]
        Group of each candidate, 0 or more.
    k : int
        Number of candidates to find per query.

    Returns
    -------
    rows : ndarray of int64, shape [q, k]
        Candidates, best first, equal scores in order of row; -1 where there are fewer than k.
    scores : ndarray of float64, shape [q, k]
        -inf where there are fewer.
    """
    wide = k + _SPARE
    rows = np.full((len(queries), wide), -1, np.int64)
    scores = np.full((len(queries), wide), -np.inf, np.float32)
    for columns, found, part in _tiles(queries, query_groups, read, groups):
        at = _largest(found, wide)
        best = np.take_along_axis(found, at, axis=1)
        both = np.hstack([scores[part], best])
        ids = np.hstack([rows[part], np.where(np.isfinite(best), columns[at], -1)])
        keep = _largest(both, wide)
        scores[part] = np.take_along_axis(both, keep, axis=1)
        rows[part] = np.take_along_axis(ids, keep, axis=1)
    ordered = -np.sort(-scores, axis=1)
    last, end = ordered[:, k - 1], ordered[:, -1]
    # Scores that close: float32 cannot tell which belong among the first k.
    unsure = np.isfinite(end) & (last - np.where(np.isfinite(end), end, 0) <= CLOSE)
    answer, exact = _ordered(queries, read, rows, k)
    if unsure.any():
        again = np.flatnonzero(unsure)
        answer[again], exact[again] = _nearest_in_float64(
            queries[again], query_groups[again], read, groups, k
        )
    return answer, exact


def _tiles(
    queries: NDArray[Any],
    query_groups: NDArray[np.int64],
    read: Read,
    groups: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any], slice]]:
    """Scores of some queries and some candidates at a time: (columns, scores, which queries)."""
    for left in range(0, len(groups), _COLUMNS):
        columns = np.arange(left, min(left + _COLUMNS, len(groups)))
        block = read(columns).astype(queries.dtype, copy=False)
        for top in range(0, len(queries), _ROWS):
            part = slice(top, top + _ROWS)
            found = queries[part] @ block.T
            found[query_groups[part][:, None] == groups[columns][None]] = -np.inf
            yield columns, found, part


def _nearest_in_float64(
    queries: NDArray[np.float32],
    query_groups: NDArray[np.int64],
    read: Read,
    groups: NDArray[np.int64],
    k: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Search all candidates in float64; of equal scores the first rows are kept."""
    rows = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf)
    wide = queries.astype(np.float64)
    for columns, found, part in _tiles(wide, query_groups, read, groups):
        both = np.hstack([scores[part], found])
        ids = np.hstack([rows[part], np.broadcast_to(columns, found.shape)])
        # a stable sort keeps the order of rows, and candidates come in that order
        keep = np.argsort(-both, axis=1, kind="stable")[:, :k]
        scores[part] = np.take_along_axis(both, keep, axis=1)
        rows[part] = np.take_along_axis(ids, keep, axis=1)
    rows[~np.isfinite(scores)] = -1
    return rows, scores


def _largest(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    if scores.shape[1] <= k:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]


def _ordered(
    queries: NDArray[np.float32],
    read: Read,
    rows: NDArray[np.int64],
    k: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Order the candidates found by their scores in float64."""
    found = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf)
    for top in range(0, len(queries), _ROWS):
        part = rows[top : top + _ROWS]
        there = part >= 0
        if not there.any():
            continue
        distinct, at = np.unique(part[there], return_inverse=True)
        vectors = read(distinct)
        exact = np.full(part.shape, -np.inf)
        query, _ = np.nonzero(there)
        values = np.empty(len(query))
        for start in range(0, len(query), _COLUMNS):
            some = slice(start, start + _COLUMNS)
            values[some] = exact_scores(queries[top + query[some]], vectors[at[some]])
        exact[there] = values
        order = best_first(exact, part, k)
        scores[top : top + _ROWS] = np.take_along_axis(exact, order, axis=1)
        found[top : top + _ROWS] = np.take_along_axis(part, order, axis=1)
    return found, scores
