"""Sequential reading of a whole store: clips with their vectors, one block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.reader import Reader
from sleepfm_index.storage.segments import CLIPS, map_vectors, read_table
from sleepfm_index.storage.snapshots import snapshot_guard
from sleepfm_index.storage.vector_format import Stored

if TYPE_CHECKING:
    from sleepfm_index.storage.manifest import SegmentEntry

BLOCK_ROWS: Final = 8192
"""Clips per block: 25 MB of vectors."""

Order = Callable[[pa.Table], NDArray[np.int64]]
"""Function that returns the row numbers of a clips table in another order."""


@dataclass(frozen=True)
class ClipBlock:
    """A block of clips of one segment.

    Parameters
    ----------
    clips : pyarrow.Table
        Rows of ``clips``, with the columns and types of the SQL table.
    vectors : dict of str to ndarray of float16, shape [n, 512]
        Vectors by modality, one row per clip; zero rows for clips without the modality.
    """

    clips: pa.Table
    vectors: dict[str, Stored]


def clips_schema(store: Reader) -> pa.Schema:
    """Return the schema of ``clips`` over all segments, as in SQL.

    Parameters
    ----------
    store : Reader
        The open store.

    Returns
    -------
    pyarrow.Schema
    """
    return store.clip_schema


def clip_blocks(
    store: Reader,
    *,
    clip_ids: NDArray[np.int64] | None = None,
    segments: list[SegmentEntry] | None = None,
    order: Order | None = None,
) -> Iterator[ClipBlock]:
    """Iterate over the clips of a store that are not deleted, in order of clip id.

    In memory are the clips table of one segment (0.3 KB per clip) and the vectors of one block.

    Parameters
    ----------
    store : Reader
        The open store.
    clip_ids : ndarray of int64, shape [n], optional
        Read only these clips; segments without any of them are skipped.
    segments : list of SegmentEntry, optional
        Segments to read, in this order; by default all, in order of clip id.
    order : callable, optional
        Order of the clips within a segment; by default by clip id.

    Yields
    ------
    ClipBlock
        At most :data:`BLOCK_ROWS` clips of one segment.
    """
    schema = clips_schema(store)
    by_id = sorted(store.manifest.segments, key=lambda s: s.first_clip_id)
    for segment in by_id if segments is None else segments:
        if clip_ids is not None and not _any_between(segment, clip_ids):
            continue
        with snapshot_guard(store.path, store.manifest):
            table = _conformed(read_table(store.path, segment, CLIPS), schema)
            mapped = {m: map_vectors(store.path, segment, m) for m in store.manifest.modalities}
        rows = _live_rows(store, table, clip_ids)
        if order is not None:
            ranked = order(table)
            rows = ranked[np.isin(ranked, rows)]
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            yield ClipBlock(table.take(block), {m: v[block] for m, v in mapped.items()})


def _any_between(segment: SegmentEntry, clip_ids: NDArray[np.int64]) -> bool:
    within = (clip_ids >= segment.first_clip_id) & (clip_ids <= segment.last_clip_id)
    return bool(within.any())


def _live_rows(
    store: Reader, table: pa.Table, allowed: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    ids = table["clip_id"].to_numpy()
    keep = store.manifest.live(ids)
    if allowed is not None:
        keep &= np.isin(ids, allowed)
    return np.flatnonzero(keep)


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    # A segment lacks columns that only recordings added later have.
    columns = [
        table[f.name].cast(f.type) if f.name in table.column_names else pa.nulls(len(table), f.type)
        for f in schema
    ]
    return pa.table(columns, schema=schema)
