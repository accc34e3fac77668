"""Exact nearest neighbours of many clips at once: the loop of exact search, groups left out."""

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
    columns = (
        np.arange(at, min(at + _COLUMNS, len(groups))) for at in range(0, len(groups), _COLUMNS)
    )
    blocks = ((rows, read(rows)) for rows in columns)
    near = candidates(blocks, queries, k, read, groups=(query_groups, groups))
    found = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf)
    for top in range(0, len(queries), _ROWS):
        some = slice(top, top + _ROWS)
        hits = ranked(read, queries[some], padded(near[some]), k)
        for at, (rows, best) in enumerate(hits, top):
            found[at, : len(rows)], scores[at, : len(rows)] = rows, best
    return found, scores
