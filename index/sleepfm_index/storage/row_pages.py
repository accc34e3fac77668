"""Byte ranges of rows in a mapped record batch, so that all of them are requested at once.

A row of a table with forty columns spreads over about a hundred byte ranges of the file: per column
one for the value, one for the validity bit, and one for the text that a value points to. Read one
after another, each range waits for the disk separately.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as types
from numpy.typing import NDArray

from sleepfm_index.storage.readahead import Readahead

Rows = NDArray[np.int64]
Ranges = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Bounds of address ranges, ends excluded."""


@dataclass(frozen=True)
class RowPages:
    """Where the rows of one mapped batch lie.

    Parameters
    ----------
    address, size : ndarray of int64, shape [n, 1]
        Address and bytes of each buffer of values, of text offsets, or of validity bits.
    width : ndarray of int64, shape [n, 1]
        Bits of each buffer per row.
    first, count : ndarray of int64, shape [n, 1]
        Number of the value of row 0, and of values per row: a text lies between two offsets.
    texts : tuple of (offsets, address, size, first)
        Per column of texts: the offsets, the address and the bytes of its characters, and the
        number of the offset of row 0.
    """

    address: NDArray[np.int64]
    size: NDArray[np.int64]
    width: NDArray[np.int64]
    first: NDArray[np.int64]
    count: NDArray[np.int64]
    texts: tuple[tuple[NDArray[np.integer[Any]], int, int, int], ...]

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> RowPages:
        """Locate the buffers of a batch; none is read.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
            A mapped batch.
        """
        buffers: list[tuple[int, ...]] = []
        texts = []
        for column in batch.columns:
            validity, *values = column.buffers()
            width, text = _bits(column.type), _is_text(column.type)
            located = [(validity, 1, 1), *((part, width, 1 + text) for part in values[:1])]
            buffers += [
                (part.address, part.size, per_row, column.offset, together)
                for part, per_row, together in located
                if part is not None and per_row
            ]
            if text and all(part is not None for part in values):
                offsets = np.frombuffer(values[0], f"<i{width // 8}", values[0].size * 8 // width)
                texts.append((offsets, values[1].address, values[1].size, column.offset))
        address, size, bits, first, count = np.array(buffers, np.int64).reshape(-1, 5).T[:, :, None]
        return cls(address, size, bits, first, count, tuple(texts))

    def values(self, rows: Rows) -> Ranges:
        """Address ranges of the values, text offsets and validity bits of rows.

        Parameters
        ----------
        rows : ndarray of int64, shape [n]
            Row numbers.

        Returns
        -------
        starts, ends : ndarray of int64, shape [m]
            Bounds of the address ranges, ends excluded.
        """
        index = rows + self.first
        starts = index * self.width // 8
        ends = -(-(index + self.count) * self.width // 8)
        return _within(self.address, self.size, starts, ends)

    def characters(self, rows: Rows) -> Ranges:
        """Address ranges of the texts of rows; their offsets are read for it.

        Parameters
        ----------
        rows : ndarray of int64, shape [n]
            Row numbers.

        Returns
        -------
        starts, ends : ndarray of int64, shape [m]
            Bounds of the address ranges, ends excluded.
        """
        ranges = []
        for offsets, address, size, first in self.texts:
            index = rows + first
            index = index[index + 1 < len(offsets)]
            starts, ends = offsets[index].astype(np.int64), offsets[index + 1].astype(np.int64)
            ranges.append(_within(address, size, starts, ends))
        return joined(ranges)


def request_rows(readahead: Readahead, rows: list[tuple[RowPages, Rows]]) -> None:
    """Request rows: first values and text offsets, then the texts.

    Parameters
    ----------
    readahead : Readahead
        Readahead of the mapped file.
    rows : list of (RowPages, ndarray of int64)
        Mapped batches, each with the row numbers to request.
    """
    readahead.request_addresses(*joined(pages.values(numbers) for pages, numbers in rows))
    readahead.request_addresses(*joined(pages.characters(numbers) for pages, numbers in rows))


def joined(ranges: Iterable[Ranges]) -> Ranges:
    """Join address ranges.

    Parameters
    ----------
    ranges : iterable of (starts, ends)
        Bounds of address ranges, ends excluded.
    """
    none = np.empty(0, np.int64)
    starts, ends = zip((none, none), *ranges, strict=True)
    return np.concatenate(starts), np.concatenate(ends)


def _within(
    address: NDArray[np.int64] | int, size: NDArray[np.int64] | int, starts: Rows, ends: Rows
) -> Ranges:
    """Addresses of the ranges that are not empty and lie within their buffer."""
    valid = (starts >= 0) & (starts < ends) & (ends <= size)
    return (address + starts)[valid], (address + ends)[valid]


def _is_text(data_type: pa.DataType) -> bool:
    return bool(
        types.is_string(data_type)
        or types.is_large_string(data_type)
        or types.is_binary(data_type)
        or types.is_large_binary(data_type)
    )


def _bits(data_type: pa.DataType) -> int:
    """Bits of a value, or of a text offset; 0 for other types."""
    if _is_text(data_type):
        return 64 if types.is_large_string(data_type) or types.is_large_binary(data_type) else 32
    try:
        return int(data_type.bit_width)
    except ValueError:
        return 0
