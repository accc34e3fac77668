"""Checks of the tables of a segment: columns, types, values, and size."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sleepfm.labels import EVENT_COLUMNS as MEASURED_EVENTS
from sleepfm.quality import ISSUES
from sleepfm_index.errors import FormatError
from sleepfm_index.schema import EVENT_COLUMNS, RECORDING_COLUMNS, SUBJECT_COLUMNS, clip_schema
from sleepfm_index.storage.parquet_pages import unpacked

_TABLE_BYTES: Final = 1 << 26
_CLIP_BYTES: Final = 1 << 16
"""A table may unpack to 64 MB plus 64 KB per clip (measured: 0.2 KB)."""
_MAX_TEXT: Final = 1 << 16
"""Maximum bytes of a text. Every row may repeat the longest text of a dictionary."""
_MAX_LIST: Final = 1 << 13
"""Maximum entries of a list in a row, such as the unused channels of a recording."""
_MAX_COLUMNS: Final = 4096
_LATER: Final = ("signals", "dropped", "training_distance")
"""Columns of recordings that older segments lack."""
_TYPES: Final[dict[str, pa.DataType]] = {
    "clip_id": pa.int64(),
    "recording_id": pa.string(),
    "subject_id": pa.string(),
    "start_s": pa.float64(),
    "stage": pa.string(),
    "source": pa.string(),
}
"""Columns that must not have nulls."""


def unpacked_limit(clips: int) -> int:
    """Maximum number of bytes that a table may unpack to.

    Parameters
    ----------
    clips : int
        Number of clips of the segment.
    """
    return _TABLE_BYTES + _CLIP_BYTES * clips


def check_columns(path: Path, schema: pa.Schema, modalities: tuple[str, ...] | None) -> None:
    """Refuse a table of clips, events or recordings that does not match its schema.

    Parameters
    ----------
    path : Path
        The file; its stem is the name of the table.
    schema : pyarrow.Schema
        Schema of the file.
    modalities : tuple of str or None
        Modalities of the store for a table of clips; None for the other tables.

    Raises
    ------
    FormatError
        If a column is missing, duplicate, of another type, or of an unexpected nested type.
    """
    names = schema.names
    if len({name.casefold() for name in names}) < len(names) or len(names) > _MAX_COLUMNS:
        raise FormatError(f"{path} has two columns of one name, or more than {_MAX_COLUMNS:,}")
    measured = {name: pa.float32() for name in (*MEASURED_EVENTS, "stage_share")}
    if modalities is not None:
        needed = clip_schema(modalities)
        measured |= {f"quality_{m}_{i}": pa.float32() for m in modalities for i in ISSUES}
        known = {f.name: f.type for f in (*needed, *SUBJECT_COLUMNS)} | measured
    else:
        needed = EVENT_COLUMNS if path.stem == "events" else RECORDING_COLUMNS
        known = {f.name: f.type for f in needed}
    missing = [f.name for f in needed if f.name not in names and f.name not in _LATER]
    if missing:
        raise FormatError(f"{path} has no column {missing[0]}; run `sleepfm-index verify`")
    for field in schema:
        expected = known.get(field.name)
        if expected is not None and not field.type.equals(expected):
            raise FormatError(f"{path}: {field.name} is of {field.type}, not of {expected}")
        if expected is None and (pa.types.is_nested(field.type) or pa.types.is_null(field.type)):
            raise FormatError(f"{path}: {field.name} is of {field.type}, which no column is")


def check_values(path: Path, table: pa.Table) -> None:
    """Refuse rows without an id, a subject, a time or a stage.

    Parameters
    ----------
    path : Path
        The file.
    table : pyarrow.Table
        Columns that were read from it.

    Raises
    ------
    FormatError
        If a required column has nulls, or a start time is not finite.
    """
    if len(set(table.column_names)) < table.num_columns:
        raise FormatError(f"{path} has two columns of one name; run `sleepfm-index verify`")
    for field, column in zip(table.schema, table.columns, strict=True):
        expected = _TYPES.get(field.name)
        if expected is not None and field.type != expected:
            raise FormatError(f"{path}: {field.name} is of {field.type}, not of {expected}")
        required = expected is not None or field.name.startswith(("has_", "slots_"))
        if required and column.null_count:
            raise FormatError(f"{path} has rows without {field.name}; run `sleepfm-index verify`")
    if "start_s" in table.column_names and not pc.all(pc.is_finite(table["start_s"])).as_py():
        raise FormatError(f"{path} has clips that start at no time; run `sleepfm-index verify`")


def check_size(
    path: Path, clips: int, footer: pq.FileMetaData, columns: list[str] | None = None
) -> None:
    """Refuse columns that would unpack to far more than the clips of a segment need.

    The headers of all pages are read, because the footer cannot be trusted.

    Parameters
    ----------
    path : Path
        The file.
    clips : int
        Number of clips of the segment.
    footer : pyarrow.parquet.FileMetaData
        Footer of the file.
    columns : list of str, optional
        Columns to be read; by default all.

    Raises
    ------
    FormatError
        If they unpack to too much data, or a page header cannot be read.
    """
    size, large, limit = 0, [], unpacked_limit(clips)
    with path.open("rb") as file:
        for group in range(footer.num_row_groups):
            rows = footer.row_group(group)
            if not rows.num_rows:
                continue  # an empty group has no pages
            for number in range(footer.num_columns):
                chunk = rows.column(number)
                name, _, inside = chunk.path_in_schema.partition(".")
                if columns is not None and not {name, chunk.path_in_schema} & set(columns):
                    continue
                start = chunk.data_page_offset
                if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
                    start = chunk.dictionary_page_offset
                try:
                    file.seek(start)
                    sizes = unpacked(file.read(chunk.total_compressed_size))
                except (ValueError, OSError, OverflowError) as error:
                    raise FormatError(
                        f"{path} is damaged: {error}; run `sleepfm-index verify`"
                    ) from error
                size += sizes.bytes
                if sizes.values > rows.num_rows * (_MAX_LIST if inside else 1):
                    size += limit + 1
                if sizes.dictionary > _MAX_TEXT and chunk.physical_type == "BYTE_ARRAY":
                    large.append(chunk.path_in_schema)
    if size > limit:
        raise FormatError(f"{path} would unpack to more than {clips} clips can need")
    for name in dict.fromkeys(large):
        _check_text_size(path, name)


def _check_text_size(path: Path, name: str) -> None:
    # Read as a dictionary, so that a repeated text takes memory once.
    with pa.OSFile(str(path), "rb") as file, pq.ParquetFile(file, read_dictionary=[name]) as table:
        column = table.read(columns=[name]).column(0)
    for chunk in column.chunks:
        texts = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
        if pa.types.is_nested(texts.type):
            texts = texts.flatten() if not pa.types.is_map(texts.type) else texts.items
        longest = pc.max(pc.binary_length(texts)).as_py() if len(texts) else 0
        if longest and longest > _MAX_TEXT:
            raise FormatError(f"{path}: {name} holds a text of {longest:,} bytes")
