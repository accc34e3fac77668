"""Uncompressed size of the pages of a Parquet file, from the page headers.

The footer of a file cannot be trusted; sizes are taken from the header of every page, because the
reader allocates memory by them (parquet.thrift, ``PageHeader``, in Thrift's compact protocol).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

_ENCODINGS: Final = frozenset({0, 2, 3, 8})
"""PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY: with these, and apart from dictionaries, a value
needs no more memory than its bytes in the page. Other encodings, which no store has, refer back to
earlier values."""
_DATA, _INDEX, _DICTIONARY, _DATA_V2 = range(4)
_STRUCT: Final = 12
_DEEPEST: Final = 8


@dataclass
class Unpacked:
    """Uncompressed size of one column chunk.

    Parameters
    ----------
    bytes : int
        Uncompressed bytes of all pages.
    values : int
        Number of values in the data pages, including nulls and values within lists.
    dictionary : int
        Uncompressed bytes of the dictionary pages.
    """

    bytes: int = 0
    values: int = 0
    dictionary: int = 0


def unpacked(chunk: bytes) -> Unpacked:
    """Sum up the pages of a column chunk.

    Parameters
    ----------
    chunk : bytes
        The raw bytes of the chunk in the file.

    Raises
    ------
    ValueError
        If a header cannot be read, or names an encoding that no store has.
    """
    total = Unpacked()
    offset = 0
    while offset < len(chunk):
        reader = _Compact(chunk, offset)
        try:
            page = reader.struct()
            page_type, size, packed = page[1], page[2], page[3]
            header = page.get({_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}.get(page_type, -1), {})
            if size < 0 or packed < 0 or packed > len(chunk) - reader.offset:
                raise ValueError("a page that ends outside its column")
            total.bytes += size
            if page_type == _DICTIONARY:
                total.dictionary += size
            elif page_type != _INDEX:
                if header[2 if page_type == _DATA else 4] not in _ENCODINGS:
                    raise ValueError("an encoding that no store has")
                total.values += header[1]
        except (IndexError, KeyError, TypeError) as error:
            raise ValueError("the header of a page cannot be read") from error
        offset = reader.offset + packed
    return total


class _Compact:
    """A reader of the subset of Thrift's compact protocol that page headers use."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data = data
        self.offset = offset

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _DEEPEST:
            raise ValueError("a page header that is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while True:
            byte = self._byte()
            if byte == 0:
                return fields
            delta, type_id = byte >> 4, byte & 15
            number = number + delta if delta else self._zigzag()
            fields[number] = self._value(type_id, depth)

    def _value(self, type_id: int, depth: int) -> Any:
        if type_id in (1, 2):
            return type_id == 1
        if type_id == 3:
            return self._byte()
        if type_id in (4, 5, 6):
            return self._zigzag()
        if type_id == 7:
            self.offset += 8
            return None
        if type_id == 8:
            length = self._varint()
            self.offset += length
            return None
        if type_id == _STRUCT:
            return self.struct(depth + 1)
        raise ValueError("a page header with a list")  # no version of the format has one

    def _byte(self) -> int:
        byte = self._data[self.offset]
        self.offset += 1
        return byte

    def _varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise ValueError("a number that is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
