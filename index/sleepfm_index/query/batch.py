"""Many questions at once: thousands of clips, or a whole night; answers as a stream of Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.query.answer import (
    check_search,
    float64s,
    own_runs,
    query_vectors,
    target_of,
)
from sleepfm_index.query.spacing import spread_out
from sleepfm_index.schema import OTHERS
from sleepfm_index.search.exact import Hits
from sleepfm_index.storage.metadata import int64s, numpy_of

if TYPE_CHECKING:
    from sleepfm_index.store import Store

TOGETHER: Final = 1024
"""Queries of one batch; their answers are one record batch."""
_MORE: Final = 4


@dataclass(frozen=True)
class Questions:
    """What is asked of many clips; fields as in :class:`sleepfm_index.query.answer.Question`.

    Parameters
    ----------
    clips : ndarray of int64, optional
        Clips of the store that ask.
    recording : str, optional
        All clips of this recording ask. One of the two is given. Clips without the modality are
        passed over.
    """

    modality: str
    to: str = OTHERS
    clips: NDArray[np.int64] | None = None
    recording: str | None = None
    k: int = 10
    where: str | None = None
    exclude: str = "subject"
    spread: float | None = None
    exact: bool = False


def answers(store: Store, asked: Questions) -> pa.RecordBatchReader:
    """Answer many questions, a batch at a time.

    Returns
    -------
    pyarrow.RecordBatchReader
        Columns query_clip_id, rank, score, clip_id and all metadata of the clips found; a query's
        rows follow each other by rank, queries in the order asked. The schema's metadata says
        under ``note`` how surely they are the nearest.

    Raises
    ------
    QueryError
        If the questions do not fit the store.
    """
    modalities = check_search(asked.modality, asked.to, asked.exclude, asked.k, asked.spread)
    asking = _asking(store, asked)
    vectors, present = query_vectors(store, asking, modalities)
    if not present.any():
        raise QueryError(f"none of these clips has {asked.modality} signals to search with")
    target = target_of(modalities, asked.to)
    allowed = None if asked.where is None else store.metadata.clip_ids(asked.where)
    batches = _batches(store, asked, target, asking[present], vectors[present], allowed)
    first = next(batches)
    schema = first.schema

    def stream() -> Iterator[pa.RecordBatch]:
        yield first
        for batch in batches:
            yield batch.cast(schema)

    return pa.RecordBatchReader.from_batches(schema, stream())


def _asking(store: Store, asked: Questions) -> NDArray[np.int64]:
    if (asked.clips is None) == (asked.recording is None):
        raise QueryError("say who asks by clips or by a recording, one of them")
    if asked.clips is not None:
        return np.ascontiguousarray(asked.clips, np.int64)
    runs = store.runs("recording_id", str(asked.recording))
    if not runs:
        raise QueryError(f"no recording {asked.recording!r} in this store")
    return np.concatenate([np.arange(first, last + 1) for first, last in runs])


def _batches(
    store: Store,
    asked: Questions,
    target: str,
    asking: NDArray[np.int64],
    vectors: NDArray[np.float32],
    allowed: NDArray[np.int64] | None,
) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(asking), TOGETHER):
        some, queries = asking[start : start + TOGETHER], vectors[start : start + TOGETHER]
        hits: list[Hits] = [(np.empty(0, np.int64), np.empty(0))] * len(some)
        how = ""
        for places, without in _by_own(store, asked.exclude, some):
            search = _Search(store, asked, target, queries[places], allowed, without)
            for at, hit in zip(places, search.hits(), strict=True):
                hits[at] = hit
            how = search.how
        yield _table(store, some, hits, how)


def _by_own(
    store: Store, exclude: str, clips: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], tuple[tuple[int, int], ...]]]:
    """Group queries that leave out the same clips: (their places, the runs left out)."""
    if exclude == "none":
        yield np.arange(len(clips)), ()
        return
    owners = store.rows(clips)[f"{exclude}_id"].to_pylist()
    for owner in dict.fromkeys(owners):
        places = np.array([at for at, one in enumerate(owners) if one == owner], np.int64)
        yield places, own_runs(store, exclude, owner, owner)


@dataclass
class _Search:
    """Queries that may find the same clips."""

    store: Store
    asked: Questions
    target: str
    queries: NDArray[np.float32]
    allowed: NDArray[np.int64] | None
    without: tuple[tuple[int, int], ...]
    how: str = ""

    def hits(self) -> list[Hits]:
        k, seconds = self.asked.k, self.asked.spread
        waiting = np.arange(len(self.queries))
        if seconds is None:
            return self._find(waiting, k)
        hits: list[Hits] = [(np.empty(0, np.int64), np.empty(0))] * len(waiting)
        wanted = _MORE * k
        while len(waiting):
            more = []
            for at, (ids, scores) in zip(waiting, self._find(waiting, wanted), strict=True):
                rows = self.store.rows(ids)
                kept = spread_out(
                    rows["recording_id"].to_pylist(), numpy_of(rows["start_s"]), seconds
                )
                hits[at] = ids[kept[:k]], scores[kept[:k]]
                if len(kept) < k and len(ids) == wanted:
                    more.append(at)
            waiting = np.array(more, np.int64)
            wanted *= _MORE
        return hits

    def _find(self, places: NDArray[np.int64], k: int) -> list[Hits]:
        found = self.store.find(
            self.target,
            self.queries[places],
            k,
            self.allowed,
            without=self.without,
            exact=self.asked.exact,
        )
        self.how = found.how
        return found.hits


def _table(store: Store, asking: NDArray[np.int64], hits: list[Hits], how: str) -> pa.RecordBatch:
    counts = [len(ids) for ids, _ in hits]
    ids = np.concatenate([ids for ids, _ in hits])
    table = store.rows(ids)
    ranks = np.concatenate([np.arange(1, n + 1) for n in counts])
    table = table.add_column(0, "score", float64s(np.concatenate([s for _, s in hits])))
    table = table.add_column(0, "rank", int64s(ranks))
    table = table.add_column(0, "query_clip_id", int64s(np.repeat(asking, counts)))
    table = table.replace_schema_metadata({"note": how}).combine_chunks()
    return table.to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], table.schema)
