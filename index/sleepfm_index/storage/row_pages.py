"""Which bytes of mapped record batches hold some rows, so that they are asked for at once.

A row of a table with forty columns lies in a hundred places of the file: one per column for its
value, one for whether there is one, and for text another that only the value tells. Met one after
another, each waits for the disk on its own.
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
"""First address of each range, and the one after its last."""


def ask_for_rows(readahead: Readahead, rows: list[tuple[pa.RecordBatch, Rows]]) -> None:
    """Request rows: first values and text offsets, then the texts.

    Parameters
    ----------
    readahead : Readahead
        Of the file.
    rows : list of (pyarrow.RecordBatch, ndarray of int64)
        Mapped batches, and numbers of their rows.
    """
    for ranges in (value_ranges, text_ranges):
        found = [part for batch, wanted in rows for part in ranges(batch, wanted)]
        if found:
            starts, ends = (np.concatenate(side) for side in zip(*found, strict=True))
            readahead.ask_at(starts, ends)


def value_ranges(batch: pa.RecordBatch, rows: Rows) -> Iterator[Ranges]:
    """Where numbers, truth values, the places of texts, and nulls of some rows lie.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        A mapped batch.
    rows : ndarray of int64
        Numbers of its rows.
    """
    for column in batch.columns:
        at = rows + column.offset
        nulls, *values = column.buffers()
        yield from _within(nulls, at // 8, at // 8 + 1)
        if types.is_boolean(column.type):
            yield from _within(values[0], at // 8, at // 8 + 1)
            continue
        width = _width(column.type)
        if width:
            more = 2 if _is_text(column.type) else 1  # a text lies between two places
            yield from _within(values[0], at * width, (at + more) * width)


def text_ranges(batch: pa.RecordBatch, rows: Rows) -> Iterator[Ranges]:
    """Where the texts of some rows lie; their places are read.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        A mapped batch.
    rows : ndarray of int64
        Numbers of its rows.
    """
    for column in batch.columns:
        if not _is_text(column.type):
            continue
        _, places, content = column.buffers()
        if places is None or content is None:
            continue
        at, width = rows + column.offset, _width(column.type)
        known = np.frombuffer(places, f"<i{width}", places.size // width)
        at = at[at + 1 < len(known)]
        yield from _within(content, known[at].astype(np.int64), known[at + 1].astype(np.int64))


def _within(buffer: pa.Buffer | None, starts: Rows, ends: Rows) -> Iterator[Ranges]:
    """Ranges of a buffer as addresses, those that lie in it and are not empty."""
    if buffer is not None:
        good = (starts >= 0) & (starts < ends) & (ends <= buffer.size)
        yield buffer.address + starts[good], buffer.address + ends[good]


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    )


def _width(kind: pa.DataType) -> int:
    """Bytes of a value, or of the place of a text; 0 where it is neither."""
    if _is_text(kind):
        return 8 if types.is_large_string(kind) or types.is_large_binary(kind) else 4
    try:
        return int(kind.bit_width) // 8
    except ValueError:
        return 0
