"""The nearest clips of queries that may find the same clips, spaced in time where asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.query.spacing import spread_out
from sleepfm_index.reader import Reader
from sleepfm_index.search.exact import Hits
from sleepfm_index.storage.metadata import numpy_of

_MORE: Final = 4
"""Spaced hits are chosen among so many times as many, and again as many while too few are left."""


@dataclass(frozen=True)
class Nearest:
    """What was found.

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
    """Which clips may be found, and how.

    Parameters
    ----------
    target : str
        One of :data:`sleepfm_index.schema.TARGETS`.
    k : int
    allowed : ndarray of int64, optional
        Ids of the clips that may be found, ascending.
    without : tuple of (first, last)
        Runs of clip ids to leave out.
    spread : float, optional
        Least distance in seconds between two clips of one recording.
    exact : bool
    """

    target: str
    k: int
    allowed: NDArray[np.int64] | None = None
    without: tuple[tuple[int, int], ...] = ()
    spread: float | None = None
    exact: bool = False


def nearest(reader: Reader, queries: NDArray[np.float32], search: Search) -> Nearest:
    """Find the nearest clips of each query.

    Parameters
    ----------
    reader : Reader
    queries : ndarray of float32, shape [n, 512]
    search : Search
    """
    if search.spread is None:
        return _find(reader, queries, search, search.k)
    hits: list[Hits] = [(np.empty(0, np.int64), np.empty(0))] * len(queries)
    waiting = np.arange(len(queries))
    wanted = _MORE * search.k
    method = ""
    while len(waiting):
        found = _find(reader, queries[waiting], search, wanted)
        method = found.method
        more = []
        for at, (ids, scores) in zip(waiting, found.hits, strict=True):
            kept = _spaced(reader, ids, search.spread)
            hits[at] = ids[kept[: search.k]], scores[kept[: search.k]]
            if len(kept) < search.k and len(ids) == wanted:
                more.append(at)
        waiting = np.array(more, np.int64)
        wanted *= _MORE
    return Nearest(hits, method)


def _find(reader: Reader, queries: NDArray[np.float32], search: Search, k: int) -> Nearest:
    found = reader.find(
        search.target, queries, k, search.allowed, without=search.without, exact=search.exact
    )
    return Nearest(found.hits, found.how)


def _spaced(reader: Reader, ids: NDArray[np.int64], seconds: float) -> NDArray[np.int64]:
    rows = reader.rows(ids)
    return spread_out(rows["recording_id"].to_pylist(), numpy_of(rows["start_s"]), seconds)
