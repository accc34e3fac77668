"""Exact nearest neighbours of many clips, with excluded groups."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.search.exact import Read, candidates, padded, ranked

_ROWS: Final = 2048
_COLUMNS: Final = 16_384


def nearest(
    queries: NDArray[np.float32],
    query_groups: NDArray[np.int64],
    read: Read,
    groups: NDArray[np.int64],
    k: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the nearest candidates of each query by inner product, excluding its group.

    Parameters
    ----------
    queries : ndarray of float32, shape [q, d]
        Query vectors.
    query_groups : ndarray of int64, shape [q]
        Group of each query, whose candidates are excluded; -1 excludes none.
    read : callable
        Function that returns the vectors of candidate rows, float32 [m, d]; called block by block.
    groups : ndarray of int64, shape [n]
        Group of each candidate, 0 or more.
    k : int
        Number of candidates to find per query.

    Returns
    -------
    rows : ndarray of int64, shape [q, k]
        Candidates by descending score, ties by ascending row, padded with -1.
    scores : ndarray of float64, shape [q, k]
        Scores, padded with -inf.
    """
    starts = range(0, len(groups), _COLUMNS)
    columns = (np.arange(start, min(start + _COLUMNS, len(groups))) for start in starts)
    blocks = ((rows, read(rows)) for rows in columns)
    near = candidates(blocks, queries, k, read, groups=(query_groups, groups))
    neighbours = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf)
    for top in range(0, len(queries), _ROWS):
        block = slice(top, top + _ROWS)
        hits = ranked(read, queries[block], padded(near[block]), k)
        for query, (rows, best) in enumerate(hits, top):
            neighbours[query, : len(rows)], scores[query, : len(rows)] = rows, best
    return neighbours, scores
