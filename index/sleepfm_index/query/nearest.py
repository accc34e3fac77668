"""Search for the nearest clips of one or more queries, optionally spaced in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.query.spacing import spread_out
from sleepfm_index.reader import Reader
from sleepfm_index.search.exact import Hits, best_first, exact_scores
from sleepfm_index.storage.arrow_columns import numpy_of

_MORE: Final = 4
"""Factor by which a spaced search fetches more than k hits, repeatedly if too few remain."""


@dataclass(frozen=True)
class Nearest:
    """The result of a search.

    Parameters
    ----------
    hits : list of (clip_ids, scores)
        One pair per query, int64 [m] and float64 [m], best first.
    method : str
        ``exact search``, or the kind of index and its measured recall.
    """

    hits: list[Hits]
    method: str


@dataclass(frozen=True)
class Search:
    """The target, candidates and options of a search.

    Parameters
    ----------
    target : str
        One of the store's targets, :func:`sleepfm_index.schema.targets`.
    k : int
        Number of clips per query.
    allowed : ndarray of int64, shape [n], optional
        Ids of the candidates, ascending; by default all clips.
    without : tuple of (first, last)
        First and last clip id of runs to exclude, both inclusive.
    min_gap : float, optional
        Minimum distance in seconds between two hits of one recording.
    exact : bool
        Whether to compare all candidates even if there is an approximate index.
    combined : bool
        Whether the query vectors are examples of one query, with the highest score of any example.
    """

    target: str
    k: int
    allowed: NDArray[np.int64] | None = None
    without: tuple[tuple[int, int], ...] = ()
    min_gap: float | None = None
    exact: bool = False
    combined: bool = False


def nearest(reader: Reader, queries: NDArray[np.float32], search: Search) -> Nearest:
    """Find the nearest clips of each query.

    Parameters
    ----------
    reader : Reader
        The open store.
    queries : ndarray of float32, shape [n, 512]
        Query vectors.
    search : Search
        Target, candidates and options.

    Returns
    -------
    Nearest
        At most ``search.k`` hits per query, or in total with ``search.combined``.
    """
    if search.min_gap is None:
        return _find(reader, queries, search, search.k)
    groups = queries[None] if search.combined else queries
    hits: list[Hits] = [(np.empty(0, np.int64), np.empty(0))] * len(groups)
    pending = np.arange(len(groups))
    depth = _MORE * search.k
    method = ""
    while len(pending):
        result = _find(reader, queries if search.combined else groups[pending], search, depth)
        method = result.method
        unfinished = []
        for row, (ids, scores) in zip(pending, result.hits, strict=True):
            kept = _spaced(reader, ids, search.min_gap)
            hits[row] = ids[kept[: search.k]], scores[kept[: search.k]]
            if len(kept) < search.k and len(ids) == depth:
                unfinished.append(row)
        pending = np.array(unfinished, np.int64)
        depth *= _MORE
    return Nearest(hits, method)


def _find(reader: Reader, queries: NDArray[np.float32], search: Search, k: int) -> Nearest:
    result = reader.find(
        search.target, queries, k, search.allowed, without=search.without, exact=search.exact
    )
    if not search.combined:
        return Nearest(result.hits, result.method)
    return Nearest([_highest(reader, queries, result.hits, search.target, k)], result.method)


def _highest(
    reader: Reader, queries: NDArray[np.float32], hits: list[Hits], target: str, k: int
) -> Hits:
    """Merge the hits of several examples; the score of a clip is that of its nearest example.

    The best k by highest score are among the best k of each example.
    """
    ids = np.unique(np.concatenate([ids for ids, _ in hits]))
    if not len(ids):
        return ids, np.empty(0)
    vectors, _ = reader.vectors.of(ids, target)
    best = np.argmax(vectors @ queries.T, axis=1)
    scores = exact_scores(vectors, queries[best])
    order = best_first(scores, ids, k)
    return ids[order], scores[order]


def _spaced(reader: Reader, ids: NDArray[np.int64], seconds: float) -> NDArray[np.int64]:
    rows = reader.rows(ids)
    return spread_out(rows["recording_id"].to_pylist(), numpy_of(rows["start_s"]), seconds)
