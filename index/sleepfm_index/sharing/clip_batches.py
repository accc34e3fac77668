"""A store read from one end to the other: clips with their vectors, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm.modality import Modality
from sleepfm_index.reader import Reader
from sleepfm_index.storage.segments import CLIPS, map_vectors, read_table
from sleepfm_index.storage.snapshots import held

if TYPE_CHECKING:
    from sleepfm_index.storage.manifest import SegmentEntry

ROWS: Final = 8192
"""Clips of a block: 25 MB of vectors."""

Order = Callable[[pa.Table], NDArray[np.int64]]
"""Gives the rows of a clips table in another order."""


@dataclass(frozen=True)
class ClipBlock:
    """Some clips of one segment.

    Parameters
    ----------
    clips : pyarrow.Table
        Rows of ``clips``, with the columns and types that SQL sees.
    vectors : dict of Modality to ndarray of float16, shape [n, 512]
        Row by row with ``clips``; zero rows where a clip lacks the modality.
    """

    clips: pa.Table
    vectors: dict[Modality, NDArray[np.float16]]


def clips_schema(store: Reader) -> pa.Schema:
    """Columns of ``clips`` over all segments of a store, as SQL sees them."""
    return store.clip_schema


def clip_blocks(
    store: Reader,
    *,
    clip_ids: NDArray[np.int64] | None = None,
    segments: list[SegmentEntry] | None = None,
    order: Order | None = None,
) -> Iterator[ClipBlock]:
    """Go through the clips of a store that are not deleted, in order of clip id.

    Memory holds the clips table of one segment (0.3 KB a clip) and the vectors of one block.

    Parameters
    ----------
    clip_ids : ndarray of int64, optional
        Only these clips; a segment that has none of them is not read.
    segments : list of SegmentEntry, optional
        Which segments, in which order; by default all, by clip id.
    order : callable, optional
        Another order of the clips within a segment.
    """
    schema = clips_schema(store)
    by_id = sorted(store.manifest.segments, key=lambda s: s.first_clip_id)
    for segment in by_id if segments is None else segments:
        if clip_ids is not None and not _any_between(segment, clip_ids):
            continue
        with held(store.path, store.manifest):
            table = _conformed(read_table(store.path, segment, CLIPS), schema)
            mapped = {m: map_vectors(store.path, segment, m) for m in Modality}
        wanted = _wanted(store, table, clip_ids)
        if order is not None:
            ranked = order(table)
            wanted = ranked[np.isin(ranked, wanted)]
        for at in range(0, len(wanted), ROWS):
            chosen = wanted[at : at + ROWS]
            yield ClipBlock(table.take(chosen), {m: v[chosen] for m, v in mapped.items()})


def _any_between(segment: SegmentEntry, clip_ids: NDArray[np.int64]) -> bool:
    within = (clip_ids >= segment.first_clip_id) & (clip_ids <= segment.last_clip_id)
    return bool(within.any())


def _wanted(store: Reader, table: pa.Table, allowed: NDArray[np.int64] | None) -> NDArray[np.int64]:
    ids = table["clip_id"].to_numpy()
    keep = store.manifest.live(ids)
    if allowed is not None:
        keep &= np.isin(ids, allowed)
    return np.flatnonzero(keep)


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    # A segment lacks the columns that only later recordings have.
    columns = [
        table[f.name].cast(f.type) if f.name in table.column_names else pa.nulls(len(table), f.type)
        for f in schema
    ]
    return pa.table(columns, schema=schema)
