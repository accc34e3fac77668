"""The row cache: metadata of clips as mapped rows, for fast results from large stores.

Parquet is made for scans: reading one row means decoding its row group. The row cache holds every
row of the view ``clips`` uncompressed in one Arrow file, so that the rows of a result are sliced
from the mapped file. It is derived from the segments and may be removed at any time; rows that it
lacks or that cannot be read come from the segments, and ``verify`` reports other damage.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sleepfm_index.errors import FormatError
from sleepfm_index.runtime.threads import setting
from sleepfm_index.schema import LATER_CLIP_COLUMNS, clip_schema
from sleepfm_index.storage import paths
from sleepfm_index.storage.arrow_columns import int64s, numpy_of
from sleepfm_index.storage.arrow_files import mapped_batches
from sleepfm_index.storage.files import Sink, publish_file
from sleepfm_index.storage.manifest import Manifest, RowCacheEntry, as_ranges
from sleepfm_index.storage.plain_files import check_plain
from sleepfm_index.storage.readahead import Readahead
from sleepfm_index.storage.row_pages import RowPages, request_rows
from sleepfm_index.storage.segments import CLIPS, read_table
from sleepfm_index.storage.snapshots import snapshot_guard

if TYPE_CHECKING:
    from sleepfm_index.storage.metadata import Metadata

SPAN: Final = 1 << 19
"""Record batch ``i`` holds the clips whose ids lie in ``[i * SPAN, (i + 1) * SPAN)``."""


_MAX_RUNS: Final = 4096
"""Maximum number of subjects and recordings whose runs are kept; any text may be asked for."""
_BATCHES: Final = (1 << 31) // SPAN
_MAX_ROWS: Final = 4096
"""Maximum number of rows sliced one by one; more are read faster from the tables."""


def write_rows(store: Path, manifest: Manifest) -> RowCacheEntry:
    """Write and publish the row cache of all clips.

    Parameters
    ----------
    store : Path
        The store's folder.
    manifest : Manifest
        The snapshot of the store.
    """
    from sleepfm_index.storage.metadata import Metadata  # DuckDB; reading the cache needs none

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
    """Return the entry of the row cache if it can be used.

    It cannot be used once a segment has other columns, or a segment that it covers was removed.

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
    """The metadata of the clips of one snapshot, from the row cache where possible.

    Parameters
    ----------
    store : Path
        The store's folder.
    manifest : Manifest
        The snapshot to read.
    metadata : callable
        Function that opens the tables; called when the row cache is not sufficient.
    """

    def __init__(self, store: Path, manifest: Manifest, metadata: Callable[[], Metadata]) -> None:
        self._store = store
        self._manifest = manifest
        self._metadata = metadata
        self._mapped = cache(self._map)
        self._ids_of = cache(self._read_ids_of)
        self._runs_of = lru_cache(_MAX_RUNS)(self._read_runs_of)

    def rows(self, clip_ids: NDArray[np.int64]) -> pa.Table:
        """All metadata of the given clips, in the given order; unknown ids are left out.

        Parameters
        ----------
        clip_ids : ndarray of int64, shape [n]
            Clip ids.
        """
        mapped = self._mapped()
        live = clip_ids[self._manifest.live(clip_ids)]
        rows = None if mapped is None else mapped.take(live)
        return self._metadata().rows(clip_ids) if rows is None else rows

    def runs(self, column: str, value: str) -> tuple[tuple[int, int], ...]:
        """Clip ids of a ``subject_id`` or a ``recording_id``, as (first, last) runs.

        Parameters
        ----------
        column, value : str
            ``subject_id`` or ``recording_id``, and the id to look up.
        """
        return self._runs_of(column, value)

    def _read_runs_of(self, column: str, value: str) -> tuple[tuple[int, int], ...]:
        ids_by_value = self._ids_of(column)
        if ids_by_value is None:
            return self._metadata().runs(column, value)
        ids = np.concatenate([*ids_by_value.get(value, ()), np.empty(0, np.int64)])
        return tuple(as_ranges(ids[self._manifest.live(ids)]))

    def _map(self) -> _Mapped | None:
        entry = usable_cache(self._manifest)
        return None if entry is None else _open(self._store, entry, self._manifest.modalities)

    def _read_ids_of(self, column: str) -> dict[str, list[NDArray[np.int64]]] | None:
        """Clip ids by value of a column; None if the row cache is damaged or incomplete."""
        ids_by_value: dict[str, list[NDArray[np.int64]]] = {}
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
                ids_by_value.setdefault(value, []).append(ids[start:end])
            live += int(self._manifest.live(ids).sum())
        complete = live == self._manifest.rows and before < self._manifest.next_clip_id
        return ids_by_value if complete else None

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
    """Mapped record batches; of each its clip ids, ascending, and the first and last one.

    ``lacking`` are the columns of every store that the file does not have.
    """

    schema: pa.Schema
    lacking: list[pa.Field]
    batches: list[pa.RecordBatch]
    ids: list[NDArray[np.int64]]
    first: list[int]
    last: list[int]
    readahead: Readahead = field(default_factory=Readahead)
    pages: dict[int, RowPages] = field(default_factory=dict)

    def take(self, clip_ids: NDArray[np.int64]) -> pa.Table | None:
        """Rows of the given clips in the given order; None if one is missing or damaged."""
        wanted = clip_ids.tolist()
        distinct = sorted(set(wanted))
        if len(distinct) > _MAX_ROWS:
            return None
        before = self.readahead.begin()
        located = self._locate(distinct)
        if located is None:
            return None
        if self.readahead.active:
            rows_of: dict[int, list[int]] = {}
            for part, row in located:
                rows_of.setdefault(part, []).append(row)
            request_rows(
                self.readahead,
                [(self._pages(part), np.array(rows, np.int64)) for part, rows in rows_of.items()],
            )
        slices: dict[int, pa.RecordBatch] = {}
        for clip, (part, row) in zip(distinct, located, strict=True):
            row_batch = self.batches[part].slice(row, 1)
            try:
                # Offsets of texts must not point outside the file.
                row_batch.validate(full=True)
            except pa.ArrowException:
                return None
            if self.ids[part][row] != clip:
                return None
            slices[clip] = row_batch
        once = len(wanted) == len(slices)
        in_order = [slices[clip] for clip in (wanted if once else distinct)]
        table = pa.Table.from_batches(in_order, self.schema).combine_chunks()
        if not once:
            table = table.take(int64s(np.searchsorted(distinct, clip_ids)))
        for later in self.lacking:
            table = table.append_column(later, pa.nulls(len(table), later.type))
        self.readahead.done(before)
        return table

    def _pages(self, part: int) -> RowPages:
        if part not in self.pages:
            self.pages[part] = RowPages.of(self.batches[part])
        return self.pages[part]

    def _locate(self, clip_ids: list[int]) -> list[tuple[int, int]] | None:
        """Batch and row of each clip, if the file has it; None if it cannot have one of them.

        Ids ascend, so the distance of a row to either end of its batch is at most that of its id.
        Where no clip was deleted this gives the row, and no page is read.
        """
        located = []
        for clip in clip_ids:
            part = clip // SPAN
            if not 0 <= part < len(self.batches):
                return None
            end = len(self.ids[part]) - 1
            row, high = max(0, end - (self.last[part] - clip)), min(end, clip - self.first[part])
            if row < high:
                row += int(np.searchsorted(self.ids[part][row : high + 1], clip))
            if row > high:
                return None
            located.append((part, row))
        return located


def _open(store: Path, entry: RowCacheEntry, modalities: tuple[str, ...]) -> _Mapped | None:
    """Map a row cache; None if it is missing, of another size, or not a row cache."""
    try:
        path = check_plain(store, paths.INDEXES, entry.file, size=entry.entry.bytes)
        schema, batches = mapped_batches(path, _BATCHES)
        known = clip_schema(modalities)
        if pa.schema(list(schema)[: len(known)]) != known:
            return None
        ids = [_ids(batch.column(0)) for batch in batches]
        first, last = ([int(part[end]) if len(part) else 0 for part in ids] for end in (0, -1))
        lacking = [later for later in LATER_CLIP_COLUMNS if later.name not in schema.names]
        return _Mapped(schema, lacking, batches, ids, first, last)
    except (FormatError, pa.ArrowException, OSError, ValueError):
        return None


def _ids(column: pa.Array) -> NDArray[np.int64]:
    # Without a copy, which numpy_of would make.
    if not len(column):
        return np.empty(0, np.int64)
    return np.frombuffer(column.buffers()[1], np.int64, len(column), 8 * column.offset)
