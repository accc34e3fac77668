"""The metadata of clips as rows that can be mapped: a cache for answers from large stores.

Parquet is made to be scanned: a row of it costs the decoding of its whole row group. Here every
row of the view ``clips`` lies uncompressed in one Arrow file, so that the rows of an answer are cut
out of the mapped file. The file is made from the segments and may be removed at any time; what it
does not hold, or what cannot be read in it, comes from the segments; other damage is found by
``verify``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sleepfm_index.errors import FormatError
from sleepfm_index.runtime.threads import setting
from sleepfm_index.schema import LATER_CLIP_COLUMNS, clip_schema
from sleepfm_index.storage import paths
from sleepfm_index.storage.arrow_files import mapped_batches
from sleepfm_index.storage.files import Sink, check_plain, publish_file
from sleepfm_index.storage.manifest import Manifest, RowCacheEntry, as_ranges
from sleepfm_index.storage.metadata import Metadata, int64s, numpy_of
from sleepfm_index.storage.readahead import Readahead
from sleepfm_index.storage.row_pages import ask_for_rows
from sleepfm_index.storage.segments import CLIPS, read_table
from sleepfm_index.storage.snapshots import snapshot_guard

SPAN: Final = 1 << 19
"""Record batch ``i`` holds the clips whose ids lie in ``[i * SPAN, (i + 1) * SPAN)``."""


_BATCHES: Final = (1 << 31) // SPAN
_MOST: Final = 4096
"""Maximum number of rows sliced one by one; more are read faster from the tables."""


def write_rows(store: Path, manifest: Manifest) -> RowCacheEntry:
    """Write the rows of all clips, and publish the file.

    Parameters
    ----------
    store : Path
        The store's folder.
    manifest : Manifest
        The snapshot of the store.
    """
    with closing(Metadata(store, manifest, setting())) as metadata:

        def content(sink: Sink) -> None:
            schema = metadata.clip_schema()
            none = pa.RecordBatch.from_pylist([], schema)
            with pa.ipc.new_file(sink, schema) as file:
                for first in range(0, manifest.stored_ids, SPAN):
                    table = metadata.select(
                        f"SELECT * FROM clips WHERE clip_id >= {first} "
                        f"AND clip_id < {first + SPAN} ORDER BY clip_id"
                    )
                    file.write_batch(pa.concat_batches([none, *table.to_batches()]))

        name = f"clips-{uuid.uuid4().hex[:16]}.arrow"
        entry = publish_file(store / paths.INDEXES / name, content)
    segments = tuple(s.id for s in manifest.segments)
    return RowCacheEntry(name, manifest.rows, segments, entry)


def usable_cache(manifest: Manifest) -> RowCacheEntry | None:
    """Return the row cache, if there is one and its columns are the store's.

    They are not once a segment came that has others, or one that it covers is gone.

    Parameters
    ----------
    manifest : Manifest
        The snapshot of the store.
    """
    entry = manifest.row_cache
    if entry is None or not set(entry.segments) <= manifest.names[0]:
        return None
    covered = {s.columns for s in manifest.segments if s.id in entry.segments}
    return entry if all(s.columns in covered for s in manifest.segments) else None


class ClipRows:
    """The metadata of the clips of one snapshot, from mapped rows where there are any.

    Parameters
    ----------
    store : Path
    manifest : Manifest
    metadata : callable
        Opens the tables; called where the mapped rows do not do.
    """

    def __init__(self, store: Path, manifest: Manifest, metadata: Callable[[], Metadata]) -> None:
        self._store = store
        self._manifest = manifest
        self._metadata = metadata
        self._mapped = cache(self._map)
        self._owners = cache(self._read_owners)

    def rows(self, clip_ids: NDArray[np.int64]) -> pa.Table:
        """All metadata of the given clips, in the given order; unknown ids are left out.

        Parameters
        ----------
        clip_ids : ndarray of int64, shape [n]
            Clip ids.
        """
        mapped = self._mapped()
        live = clip_ids[self._manifest.live(clip_ids)]
        found = None if mapped is None else mapped.take(live)
        return self._metadata().rows(clip_ids) if found is None else found

    def runs(self, column: str, value: str) -> tuple[tuple[int, int], ...]:
        """Clip ids of a ``subject_id`` or a ``recording_id``, as (first, last) runs.

        Parameters
        ----------
        column, value : str
            ``subject_id`` or ``recording_id``, and the id.
        """
        owners = self._owners(column)
        if owners is None:
            return self._metadata().runs(column, value)
        ids = np.concatenate([*owners.get(value, ()), np.empty(0, np.int64)])
        return tuple(as_ranges(ids[self._manifest.live(ids)]))

    def _map(self) -> _Mapped | None:
        entry = usable_cache(self._manifest)
        return None if entry is None else _open(self._store, entry, self._manifest.modalities)

    def _read_owners(self, column: str) -> dict[str, list[NDArray[np.int64]]] | None:
        """Clip ids by what they have in a column; None where mapped rows are not to be trusted."""
        owners: dict[str, list[NDArray[np.int64]]] = {}
        live, before = 0, -1
        for ids, values in self._columns(column):
            try:
                values.validate(full=True)
            except pa.ArrowException:
                return None
            if np.any(np.diff(ids, prepend=before) <= 0):
                return None
            before = int(ids[-1]) if len(ids) else before
            runs = pc.run_end_encode(values)
            bounds = pairwise([0, *runs.run_ends.to_pylist()])
            for value, (start, end) in zip(runs.values.to_pylist(), bounds, strict=True):
                owners.setdefault(value, []).append(ids[start:end])
            live += int(self._manifest.live(ids).sum())
        whole = live == self._manifest.rows and before < self._manifest.next_clip_id
        return owners if whole else None

    def _columns(self, column: str) -> Iterator[tuple[NDArray[np.int64], pa.Array]]:
        mapped, entry = self._mapped(), usable_cache(self._manifest)
        if mapped is None or entry is None:
            return
        for ids, batch in zip(mapped.ids, mapped.batches, strict=True):
            yield ids, batch.column(column)
        for segment in self._manifest.segments:
            if segment.id not in entry.segments:
                with snapshot_guard(self._store, self._manifest):
                    table = read_table(self._store, segment, CLIPS, ["clip_id", column])
                yield numpy_of(table["clip_id"]), table[column].combine_chunks()


@dataclass(frozen=True)
class _Mapped:
    """Mapped record batches, and the clip ids of each, ascending, with the first and the last."""

    schema: pa.Schema
    batches: list[pa.RecordBatch]
    ids: list[NDArray[np.int64]]
    first: list[int]
    last: list[int]
    readahead: Readahead = field(default_factory=Readahead)

    def take(self, clip_ids: NDArray[np.int64]) -> pa.Table | None:
        """Rows of some clips in the given order; None if one is not among them, or damaged."""
        distinct, order = np.unique(clip_ids, return_inverse=True)
        if len(distinct) > _MOST:
            return None
        before = self.readahead.begin()
        places = self._places(distinct)
        if places is None:
            return None
        if self.readahead.asking:
            ask_for_rows(self.readahead, [(self.batches[part], rows) for part, rows in places])
        found: list[pa.RecordBatch] = []
        for part, rows in places:
            for row in rows.tolist():
                one = self.batches[part].slice(row, 1)
                try:
                    # Text is found by offsets, which must not lead out of the file.
                    one.validate(full=True)
                except pa.ArrowException:
                    return None
                found.append(one)
        table = pa.Table.from_batches(found, self.schema).combine_chunks().take(int64s(order))
        for later in LATER_CLIP_COLUMNS:
            if later.name not in table.column_names:
                table = table.append_column(later, pa.nulls(len(table), later.type))
        self.readahead.done(before)
        return table

    def _places(self, clip_ids: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]] | None:
        """Batch and rows of ascending clips; None if one is not there."""
        places = []
        batch = clip_ids // SPAN
        for part in np.unique(batch).tolist():
            if not 0 <= part < len(self.batches) or not len(self.ids[part]):
                return None
            wanted, ids = clip_ids[batch == part], self.ids[part]
            # Ids ascend, so a clip lies no farther from either end than its id: where none was
            # deleted its row is known, and a search would read a page at each of twenty steps.
            low = np.maximum(0, len(ids) - 1 - (self.last[part] - wanted))
            high = np.minimum(len(ids) - 1, wanted - self.first[part])
            if np.any(low > high):
                return None
            within = zip(low.tolist(), high.tolist(), wanted, strict=True)
            rows = np.array([a + np.searchsorted(ids[a : b + 1], clip) for a, b, clip in within])
            if np.any(rows >= len(ids)):
                return None
            if self.readahead.asking:
                starts = ids.ctypes.data + 8 * rows
                self.readahead.ask_at(starts, starts + 8)
            if np.any(ids[rows] != wanted):
                return None
            places.append((part, rows))
        return places


def _open(store: Path, entry: RowCacheEntry, modalities: tuple[str, ...]) -> _Mapped | None:
    """Map a published file; None if it is missing, of another size, or not rows of clips."""
    try:
        path = check_plain(store, paths.INDEXES, entry.file, size=entry.entry.bytes)
        schema, batches = mapped_batches(path, _BATCHES)
        known = clip_schema(modalities)
        if pa.schema(list(schema)[: len(known)]) != known:
            return None
        ids = [_ids(batch.column(0)) for batch in batches]
        first, last = ([int(part[at]) if len(part) else 0 for part in ids] for at in (0, -1))
        return _Mapped(schema, batches, ids, first, last)
    except (FormatError, pa.ArrowException, OSError, ValueError):
        return None


def _ids(column: pa.Array) -> NDArray[np.int64]:
    # Mapped as well: numpy_of would copy them.
    if not len(column):
        return np.empty(0, np.int64)
    return np.frombuffer(column.buffers()[1], np.int64, len(column), 8 * column.offset)
