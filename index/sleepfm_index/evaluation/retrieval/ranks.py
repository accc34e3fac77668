"""The exact rank of the true target among all candidates, in tiles of bounded memory."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.search.exact import CLOSE, EQUAL, exact_scores

_ROWS: Final = 1024
_COLUMNS: Final = 8192


def true_ranks(queries: NDArray[np.float32], targets: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rank of each query's true target among all targets; ties count against it.

    Parameters
    ----------
    queries, targets : ndarray of float32, shape [n, d]
        Unit vectors; row ``i`` of ``targets`` is the true target of row ``i`` of ``queries``.

    Returns
    -------
    ndarray of int64, shape [n]
        ``#{j : q_i . t_j >= q_i . t_i}``, at least 1. Scores within the float32 error are compared
        in float64.
    """
    return ranks_and_hits(queries, targets)[0]


def ranks_and_hits(
    queries: NDArray[np.float32],
    targets: NDArray[np.float32],
    groups: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rank of each query's true target, and the target with the highest score.

    Parameters
    ----------
    queries, targets : ndarray of float32, shape [n, d]
        Unit vectors; row ``i`` of ``targets`` is the true target of row ``i`` of ``queries``.
    groups : ndarray of int64, shape [n], optional
        Group of each row. The candidates of a query are its true target and all targets of other
        groups; by default all targets.

    Returns
    -------
    ranks : ndarray of int64, shape [n]
        As in :func:`true_ranks`.
    hits : ndarray of int64, shape [n]
        Row with the highest score in float32, the first of ties; its own row if the rank is 1.
    """
    n = len(queries)
    ranks, hits = np.empty(n, np.int64), np.empty(n, np.int64)
    for start in range(0, n, _ROWS):
        rows = np.arange(start, min(start + _ROWS, n))
        block = queries[rows]
        true_scores = exact_scores(block, targets[rows])
        count = np.zeros(len(rows), np.int64)
        best, best_row = np.full(len(rows), -np.inf, np.float32), rows.copy()
        for first in range(0, n, _COLUMNS):
            columns = np.arange(first, min(first + _COLUMNS, n))
            scores = block @ targets[first : first + _COLUMNS].T
            if groups is not None:
                same_group = groups[rows][:, None] == groups[columns][None]
                scores[same_group & (rows[:, None] != columns[None])] = -np.inf
            count += _at_least(scores, true_scores, block, targets[first : first + _COLUMNS])
            column = scores.argmax(axis=1)
            top = scores[np.arange(len(rows)), column]
            better = top > best
            best[better], best_row[better] = top[better], columns[column[better]]
        ranks[rows] = count
        hits[rows] = np.where(count == 1, rows, best_row)
    return ranks, hits


def _at_least(
    scores: NDArray[np.float32],
    true_scores: NDArray[np.float64],
    block: NDArray[np.float32],
    targets: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Count candidates of a tile that score at least ``true_scores``, close ones in float64."""
    high = (true_scores + CLOSE).astype(np.float32)[:, None]
    low = (true_scores - CLOSE).astype(np.float32)[:, None]
    count = (scores > high).sum(axis=1)
    rows, columns = np.nonzero((scores >= low) & (scores <= high))
    if 8 * len(rows) > scores.size:
        # With nearly constant vectors, a matrix product is cheaper than single products.
        exact = block.astype(np.float64) @ targets.T.astype(np.float64)
        close = (scores >= low) & (scores <= high)
        return np.asarray(
            count + (close & (exact >= true_scores[:, None] - EQUAL)).sum(axis=1), np.int64
        )
    for start in range(0, len(rows), 65536):
        r, c = rows[start : start + 65536], columns[start : start + 65536]
        exact = exact_scores(block[r], targets[c])
        count += np.bincount(r, exact >= true_scores[r] - EQUAL, minlength=len(block)).astype(
            np.int64
        )
    return np.asarray(count, np.int64)
