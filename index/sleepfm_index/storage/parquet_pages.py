"""What the pages of a Parquet file unpack to, by the headers that its reader obeys.

The footer of a file may say anything; sizes are taken from the header of every page, because the
reader sets its memory aside by them (parquet.thrift, ``PageHeader``, in Thrift's compact
protocol).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

_ENCODINGS: Final = frozenset({0, 2, 3, 8})
"""PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY: of these a value costs at most its own bytes, but
for a dictionary's. Others, which no store has, repeat what stood before."""
_DATA, _INDEX, _DICTIONARY, _DATA_V2 = range(4)
_STRUCT: Final = 12
_DEEPEST: Final = 8


@dataclass
class Unpacked:
    """What one column chunk unpacks to.

    Parameters
    ----------
    bytes : int
        Sum over its pages.
    values : int
        Values of its data pages, nulls and values within lists included.
    dictionary : int
        Bytes of its dictionary, of which every value may be one.
    """

    bytes: int = 0
    values: int = 0
    dictionary: int = 0


def unpacked(chunk: bytes) -> Unpacked:
    """Sum up the pages of a column chunk.

    Parameters
    ----------
    chunk : bytes
        The chunk as it lies in the file.

    Raises
    ------
    ValueError
        If a header cannot be read, or names an encoding that no store has.
    """
    found = Unpacked()
    at = 0
    while at < len(chunk):
        reader = _Compact(chunk, at)
        try:
            page = reader.struct()
            kind, size, packed = page[1], page[2], page[3]
            told = page.get({_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}.get(kind, -1), {})
            if size < 0 or packed < 0 or packed > len(chunk) - reader.at:
                raise ValueError("a page that ends outside its column")
            found.bytes += size
            if kind == _DICTIONARY:
                found.dictionary += size
            elif kind != _INDEX:
                if told[2 if kind == _DATA else 4] not in _ENCODINGS:
                    raise ValueError("an encoding that no store has")
                found.values += told[1]
        except (IndexError, KeyError, TypeError) as error:
            raise ValueError("the header of a page cannot be read") from error
        at = reader.at + packed
    return found


class _Compact:
    """A reader of Thrift's compact protocol, as far as page headers use it."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _DEEPEST:
            raise ValueError("a page header that is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while True:
            byte = self._byte()
            if byte == 0:
                return fields
            delta, kind = byte >> 4, byte & 15
            number = number + delta if delta else self._zigzag()
            fields[number] = self._value(kind, depth)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            self.at += 8
            return None
        if kind == 8:
            length = self._varint()
            self.at += length
            return None
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise ValueError("a page header with a list")  # which it has in no version

    def _byte(self) -> int:
        byte = self._data[self.at]
        self.at += 1
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
