"""Byte ranges of rows in mapped record batches, so that all of them are requested at once.

A row of a table with forty columns spreads over about a hundred byte ranges of the file: per column
one for the value, one for the validity bit, and one for the text that a value points to. Read one
after another, each range waits for the disk separately.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.types as types
from numpy.typing import NDArray

from sleepfm_index.storage.readahead import Readahead

Rows = NDArray[np.int64]
Ranges = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Bounds of address ranges, ends excluded."""


def request_rows(readahead: Readahead, rows: list[tuple[pa.RecordBatch, Rows]]) -> None:
    """Request rows: first values and text offsets, then the texts.

    Parameters
    ----------
    readahead : Readahead
        Readahead of the mapped file.
    rows : list of (pyarrow.RecordBatch, ndarray of int64)
        Mapped batches, each with the row numbers to request.
    """
    for ranges in (value_ranges, text_ranges):
        located = [part for batch, numbers in rows for part in ranges(batch, numbers)]
        if located:
            starts, ends = (np.concatenate(side) for side in zip(*located, strict=True))
            readahead.request_addresses(starts, ends)


def value_ranges(batch: pa.RecordBatch, rows: Rows) -> Iterator[Ranges]:
    """Address ranges of the values, text offsets and validity bits of rows.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        A mapped batch.
    rows : ndarray of int64, shape [n]
        Row numbers.

    Yields
    ------
    starts, ends : ndarray of int64, shape [m]
        Bounds of the address ranges, ends excluded.
    """
    for column in batch.columns:
        index = rows + column.offset
        nulls, *values = column.buffers()
        yield from _within(nulls, index // 8, index // 8 + 1)
        if types.is_boolean(column.type):
            yield from _within(values[0], index // 8, index // 8 + 1)
            continue
        width = _width(column.type)
        if width:
            count = 2 if _is_text(column.type) else 1  # a text lies between two offsets
            yield from _within(values[0], index * width, (index + count) * width)


def text_ranges(batch: pa.RecordBatch, rows: Rows) -> Iterator[Ranges]:
    """Address ranges of the texts of rows; their offsets are read for it.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        A mapped batch.
    rows : ndarray of int64, shape [n]
        Row numbers.

    Yields
    ------
    starts, ends : ndarray of int64, shape [m]
        Bounds of the address ranges, ends excluded.
    """
    for column in batch.columns:
        if not _is_text(column.type):
            continue
        _, offset_buffer, content = column.buffers()
        if offset_buffer is None or content is None:
            continue
        index, width = rows + column.offset, _width(column.type)
        offsets = np.frombuffer(offset_buffer, f"<i{width}", offset_buffer.size // width)
        index = index[index + 1 < len(offsets)]
        starts, ends = offsets[index].astype(np.int64), offsets[index + 1].astype(np.int64)
        yield from _within(content, starts, ends)


def _within(buffer: pa.Buffer | None, starts: Rows, ends: Rows) -> Iterator[Ranges]:
    """Addresses of the ranges that are not empty and lie within a buffer."""
    if buffer is not None:
        valid = (starts >= 0) & (starts < ends) & (ends <= buffer.size)
        yield buffer.address + starts[valid], buffer.address + ends[valid]


def _is_text(data_type: pa.DataType) -> bool:
    return bool(
        types.is_string(data_type)
        or types.is_large_string(data_type)
        or types.is_binary(data_type)
        or types.is_large_binary(data_type)
    )


def _width(data_type: pa.DataType) -> int:
    """Bytes of a value, or of a text offset; 0 for other types."""
    if _is_text(data_type):
        return 8 if types.is_large_string(data_type) or types.is_large_binary(data_type) else 4
    try:
        return int(data_type.bit_width) // 8
    except ValueError:
        return 0
