"""A segment: the clips of one or more recordings on disk, written once, then only read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.errors import FormatError
from sleepfm_index.schema import SUBJECT_COLUMNS, clip_schema, modalities_of
from sleepfm_index.storage import paths, vector_format
from sleepfm_index.storage.arrow_files import mapped_batches
from sleepfm_index.storage.files import NewFolder, Sink, publish_folder
from sleepfm_index.storage.manifest import SegmentEntry
from sleepfm_index.storage.plain_files import check_plain
from sleepfm_index.storage.table_checks import check_size, check_values, unpacked_limit
from sleepfm_index.storage.vector_format import Stored

CLIPS: Final = "clips.parquet"
EVENTS: Final = "events.parquet"
RECORDINGS: Final = "recordings.parquet"
TABLES: Final = (CLIPS, EVENTS, RECORDINGS)

_VECTORS: Final = pa.schema([("vector", vector_format.ARROW)])
ROW_GROUP: Final = 16_384
"""Rows per Parquet row group. Reading one clip's metadata decodes its group: with groups of 122,880
rows a result takes 3.5 times as long, and a full scan is no faster (benchmarks/rows.py)."""
_WRITTEN: Final[dict[str, Any]] = {
    "compression": "zstd",
    "row_group_size": ROW_GROUP,
    # Readers detect a changed byte.
    "write_page_checksum": True,
}
_MAX_EVENTS: Final = 1 << 18
_MAX_RECORDINGS: Final = 1 << 4
"""Maximum number of rows per recording of a segment; more are treated as a decompression bomb."""


@dataclass(frozen=True)
class SegmentData:
    """Data of a segment, in memory.

    Parameters
    ----------
    key : str
        Content key of the recording: the hash of (source content, contract, weights); for several
        recordings, a hash of the merged segments.
    clips, events, recordings : pyarrow.Table
        Tables as in :mod:`sleepfm_index.schema`; ``clips`` without ``clip_id``, which the commit
        assigns.
    vectors : mapping of str to ndarray of float16, shape [n, 512]
        Unit vectors by modality, in the order of ``clips``; zero rows for clips without the
        modality. A modality that no clip has may be omitted.
    """

    key: str
    clips: pa.Table
    events: pa.Table
    recordings: pa.Table
    vectors: Mapping[str, Stored]


def vector_file(modality: str) -> str:
    """Name of a modality's vector file.

    Parameters
    ----------
    modality : str
        Name of the modality.
    """
    return f"{modality}.arrow"


def write_segment(
    store: Path,
    data: SegmentData,
    clip_ids: NDArray[np.int64],
    snapshot: int,
    sources: tuple[str, ...] | None = None,
) -> SegmentEntry:
    """Write and publish a segment; it belongs to the store once the manifest names it.

    Parameters
    ----------
    store : Path
        The store's folder.
    data : SegmentData
        Tables and vectors of the segment.
    clip_ids : ndarray of int64, shape [n]
        Ascending, one per row of ``data.clips``.
    snapshot : int
        Number of the snapshot that adds the segment. It is part of the name, so that no two
        commits give the same name to different content.
    sources : tuple of str, optional
        Content keys of the recordings; by default the one of ``data``.
    """
    buffers = [None, pa.py_buffer(np.ascontiguousarray(clip_ids, np.int64))]
    ids = pa.Array.from_buffers(pa.int64(), len(clip_ids), buffers)
    clips = data.clips.add_column(0, "clip_id", ids)
    tables = {CLIPS: clips, EVENTS: data.events, RECORDINGS: data.recordings}

    def write(folder: NewFolder) -> None:
        for name, table in tables.items():
            pq.write_table(table, folder.file(name), **_WRITTEN)
        for modality, vectors in data.vectors.items():
            write_vectors(folder.file(vector_file(modality)), vectors)

    name = f"{data.key[:16]}-{snapshot}"
    files = publish_folder(store / paths.SEGMENTS / name, write)
    return SegmentEntry(
        id=name,
        rows=len(clip_ids),
        first_clip_id=int(clip_ids[0]),
        last_clip_id=int(clip_ids[-1]),
        sources=(data.key,) if sources is None else sources,
        columns=extra_columns(clips.schema),
        files=files,
    )


def rewrite_tables(
    store: Path, segment: SegmentEntry, tables: Mapping[str, pa.Table], snapshot: int
) -> SegmentEntry:
    """Write a copy of a segment with changed tables; its vector files are linked, not copied.

    Parameters
    ----------
    store : Path
        The store's folder.
    segment : SegmentEntry
        The segment to copy; it stays unchanged for the snapshots that refer to it.
    tables : mapping of str to pyarrow.Table
        The changed tables by file name, with the same rows in the same order.
    snapshot : int
        Number of the snapshot that adds the segment.
    """

    def write(folder: NewFolder) -> None:
        for name, entry in segment.files.items():
            if name not in tables:
                source = check_plain(store, paths.SEGMENTS, segment.id, name, size=entry.bytes)
                folder.link(name, source, entry)
        for name, table in tables.items():
            pq.write_table(table, folder.file(name), **_WRITTEN)

    name = f"{segment.id.rpartition('-')[0]}-{snapshot}"
    files = publish_folder(store / paths.SEGMENTS / name, write)
    columns = extra_columns(tables[CLIPS].schema) if CLIPS in tables else segment.columns
    return replace(segment, id=name, columns=columns, files=files)


def extra_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Subject columns of a clips table that are not part of the schema, as ``name:type``.

    Parameters
    ----------
    schema : pyarrow.Schema
        Schema of the table.
    """
    known = {*clip_schema(modalities_of(schema)).names, *SUBJECT_COLUMNS.names}
    return tuple(sorted(f"{f.name}:{f.type}" for f in schema if f.name not in known))


def write_vectors(sink: Sink, vectors: Stored) -> None:
    """Write vectors, float16 [n, 512], as one uncompressed Arrow record batch, to be mapped.

    Parameters
    ----------
    sink : Sink
        The file being written.
    vectors : ndarray of float16, shape [n, 512]
        The vectors.
    """
    batch = pa.record_batch([vector_format.as_arrow(vectors)], schema=_VECTORS)
    with pa.ipc.new_file(sink, _VECTORS) as writer:
        writer.write_batch(batch)


def map_vectors(store: Path, segment: SegmentEntry, modality: str) -> Stored:
    """Memory-map the vectors of one segment, shape [rows, 512], float16, read-only.

    For a modality that no clip of the segment has, zero rows are returned without a file.

    Parameters
    ----------
    store : Path
        The store's folder.
    segment : SegmentEntry
        Entry of the segment in the manifest.
    modality : str
        Name of the modality.

    Raises
    ------
    FormatError
        If the file is missing, of another size than in the manifest, or not a vector file.
    """
    name = vector_file(modality)
    if name not in segment.files:
        return vector_format.absent_rows(segment.rows)
    path = check_plain(store, paths.SEGMENTS, segment.id, name, size=segment.files[name].bytes)
    try:
        schema, batches = mapped_batches(path, 1)
        if schema != _VECTORS:
            raise FormatError(f"{path} is not a vector file of this store")
        column = batches[0].column(0)
        column.validate(full=True)
        values = column.values
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatError(f"{path} is damaged: {error}; run `sleepfm-index verify`") from error
    if len(values) != segment.rows * EMBEDDING_DIM:
        raise FormatError(f"{path} does not hold the {segment.rows} rows that the manifest states")
    return vector_format.of_arrow(values, segment.rows)


def check_table(
    store: Path,
    segment: SegmentEntry,
    name: str,
    columns: list[str] | None = None,
    *,
    pages: bool = True,
) -> Path:
    """Refuse a Parquet file that differs from the manifest or unpacks to too much data.

    Only its size, its footer and its page headers are read.

    Parameters
    ----------
    store : Path
        The store's folder.
    segment : SegmentEntry
        Entry of the segment in the manifest.
    name : str
        Name of the file.
    columns : list of str, optional
        Columns to be read later; by default all.
    pages : bool
        Whether to read the page headers; without them the footer is trusted.

    Raises
    ------
    FormatError
        If the file is missing, a link, of another size, has another number of rows than in the
        manifest, or unpacks to far more than these rows need.
    """
    if name not in segment.files:
        raise FormatError(f"the manifest names no {name} in segment {segment.id}")
    path = check_plain(store, paths.SEGMENTS, segment.id, name, size=segment.files[name].bytes)
    try:
        with pa.OSFile(str(path), "rb") as file:
            footer = pq.read_metadata(file)
        # Decoded now, so that a name that is not UTF-8 is an error of this file.
        _ = footer.schema.to_arrow_schema().names if pages else footer.schema.names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is damaged: {error}; run `sleepfm-index verify`") from error
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    rows = sum(group.num_rows for group in groups)
    if rows != footer.num_rows or (name == CLIPS and rows != segment.rows):
        raise FormatError(f"{path} does not hold the {segment.rows} rows that the manifest states")
    max_rows = {EVENTS: _MAX_EVENTS, RECORDINGS: _MAX_RECORDINGS}.get(name)
    if max_rows is not None and rows > max_rows * max(1, len(segment.sources)):
        raise FormatError(f"{path} has {rows:,} rows, more than its recordings can need")
    if sum(g.total_byte_size for g in groups) > unpacked_limit(segment.rows):
        raise FormatError(f"{path} would unpack to more than {segment.rows} clips can need")
    if pages:
        check_size(path, segment.rows, footer, columns)
    return path


def read_table(
    store: Path, segment: SegmentEntry, name: str, columns: list[str] | None = None
) -> pa.Table:
    """Read a table of a segment into memory, after :func:`check_table`.

    Parameters
    ----------
    store : Path
        The store's folder.
    segment : SegmentEntry
        Entry of the segment in the manifest.
    name : str
        Name of the file.
    columns : list of str, optional
        Columns to read; by default all.
    """
    path = check_table(store, segment, name, columns)
    try:
        table = read_parquet(path, columns)
        check_values(path, table)
        return table
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path} is damaged: {error}; run `sleepfm-index verify`") from error


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file without interpreting its path.

    Given a path, pyarrow and DuckDB take a folder named ``stage=N2`` for a column and a colon for
    an address; therefore they get the open file.

    Parameters
    ----------
    path : Path
        The file.
    columns : list of str, optional
        Columns to read; by default all.

    Raises
    ------
    pyarrow.ArrowException
        If it is not a Parquet file, or lacks a column.
    """
    with (
        pa.OSFile(str(path), "rb") as file,
        pq.ParquetFile(file, page_checksum_verification=True) as parquet,
    ):
        missing = set(columns or ()).difference(parquet.schema_arrow.names)
        if missing:
            raise pa.ArrowInvalid(f"it has no column {min(missing)}")
        return parquet.read(columns=columns)
