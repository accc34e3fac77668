"""Cross-modal retrieval, measured: recall@k, median rank and MRR for every pair."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm.modality import Modality
from sleepfm_index.errors import QueryError
from sleepfm_index.results import Result
from sleepfm_index.schema import OTHERS, target_name

if TYPE_CHECKING:
    from sleepfm_index.store import Store

RECALLS: Final = (1, 5, 10)
DIRECTIONS: Final = (
    *[(str(a), str(b)) for a, b in permutations(Modality, 2)],
    *[(str(m), OTHERS) for m in Modality],
)
"""Every ordered pair, then every modality to the others."""

_BLOCK: Final = 512
# Rounding of a float32 inner product of 512 terms of unit vectors is at most 512 x 2^-24; scores
# closer than twice that are compared again in float64.
_CLOSE: Final = 2 * 512 * 2.0**-24


def evaluate(
    store: Store, *, where: str | None = None, gallery: int | None = None, seed: int = 0
) -> Result:
    """Measure how well one modality finds its own clip in another.

    For each clip of the gallery the query is its vector in one modality; the candidates are all
    vectors of the gallery in the other. The rank is the number of candidates that score at least
    as high as the true one, so ties count against (constant vectors score as bad as can be, never
    as perfect). Galleries hold the clips that have both sides.

    Parameters
    ----------
    where : str, optional
        SQL condition over the columns of ``clips``.
    gallery : int, optional
        Draw this many clips at random; by default all.
    seed : int
        Seed of the draw.

    Returns
    -------
    Result
        Columns query, target, recall_at_1, recall_at_5, recall_at_10, median_rank, mrr, gallery,
        seed, chance_at_1, chance_at_5, chance_at_10 (k over the gallery's size).

    Raises
    ------
    QueryError
        If the condition is not valid, or no direction has a clip with both sides.
    """
    if gallery is not None and gallery < 1:
        raise QueryError(f"a gallery holds at least 1 clip, not {gallery}")
    clip_ids = store.metadata.clip_ids(where)
    rows = []
    for query, to in DIRECTIONS:
        candidates = _gallery(store, clip_ids, Modality(query), to)
        if gallery is not None and gallery < len(candidates):
            # One generator a direction: a draw does not depend on the directions before it.
            drawn = np.random.default_rng(seed).choice(len(candidates), gallery, replace=False)
            candidates = candidates[np.sort(drawn)]
        if len(candidates):
            queries, _ = store.vectors.of(candidates, query)
            targets, _ = store.vectors.of(candidates, target_name(Modality(query), to))
            rows.append(_row(query, to, true_ranks(queries, targets), seed))
    if not rows:
        raise QueryError("no clip has two modalities, so there is nothing to evaluate")
    note = f"gallery: {'all clips' if where is None else where}"
    return Result(pa.Table.from_pylist(rows), note)


def true_ranks(queries: NDArray[np.float32], targets: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rank of each query's own target among all targets; ties count against.

    Parameters
    ----------
    queries, targets : ndarray of float32, shape [n, d]
        Row ``i`` of ``targets`` is the true answer to row ``i`` of ``queries``.

    Returns
    -------
    ndarray of int64, shape [n]
        ``#{j : q_i . t_j >= q_i . t_i}``, at least 1. Scores that float32 cannot tell apart are
        compared in float64.
    """
    ranks = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        own = np.arange(start, start + len(block))
        scores = block @ targets.T
        true = scores[np.arange(len(block)), own][:, None]
        above = scores > true + _CLOSE
        close = (scores >= true - _CLOSE) & ~above
        ranks[own] = above.sum(axis=1) + _ties(block, targets, own, close)
    return ranks


def _ties(
    block: NDArray[np.float32],
    targets: NDArray[np.float32],
    own: NDArray[np.int64],
    close: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """How many of the close candidates score at least as high as the true one, in float64."""
    rows, columns = np.nonzero(close)
    exact = np.empty(len(rows))
    for at in range(0, len(rows), 65536):
        part = slice(at, at + 65536)
        left, right = block[rows[part]], targets[columns[part]]
        exact[part] = np.einsum("ij,ij->i", left, right, dtype=np.float64)
    is_own = columns == own[rows]
    true = np.empty(len(block))
    true[rows[is_own]] = exact[is_own]
    return np.bincount(rows, exact >= true[rows], minlength=len(block)).astype(np.int64)


def _gallery(
    store: Store, clip_ids: NDArray[np.int64], query: Modality, to: str
) -> NDArray[np.int64]:
    _, has_query = store.vectors.of(clip_ids, str(query))
    _, has_target = store.vectors.of(clip_ids, target_name(query, to))
    return clip_ids[has_query & has_target]


def _row(query: str, to: str, ranks: NDArray[np.int64], seed: int) -> dict[str, object]:
    n = len(ranks)
    return {
        "query": query,
        "target": to,
        **{f"recall_at_{k}": float(np.mean(ranks <= k)) for k in RECALLS},
        "median_rank": float(np.median(ranks)),
        "mrr": float(np.mean(1.0 / ranks)),
        "gallery": n,
        "seed": seed,
        **{f"chance_at_{k}": min(1.0, k / n) for k in RECALLS},
    }
