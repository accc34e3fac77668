"""Arrow files of a store, mapped: batch after batch as they lie, and never unpacked.

A compressed batch of a few kilobytes can unpack to terabytes. What a store writes is not
compressed, so whether a batch is stands in its header, and none that is gets read.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

import pyarrow as pa

_MAGIC: Final = b"ARROW1\0\0"
_HEADER: Final = 2
"""Field of ``Message`` that holds the header, here a ``RecordBatch`` (Arrow's Message.fbs)."""
_COMPRESSION: Final = 3
"""Field of ``RecordBatch`` that says how its buffers are compressed; absent where they are not."""


def mapped_batches(path: Path, most: int) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """Map the record batches of an Arrow file, which take no memory of their own.

    Parameters
    ----------
    path : Path
        The file.
    most : int
        Largest number of batches.

    Returns
    -------
    schema : pyarrow.Schema
    batches : list of pyarrow.RecordBatch

    Raises
    ------
    pyarrow.ArrowException
        If it is not such a file, has more batches, or one of them is compressed.
    """
    batches: list[pa.RecordBatch] = []
    with pa.memory_map(str(path)) as source:
        if source.read(len(_MAGIC)) != _MAGIC:
            raise pa.ArrowInvalid("it does not begin as an Arrow file does")
        messages = pa.ipc.MessageReader.open_stream(source)
        try:
            schema = pa.ipc.read_schema(messages.read_next_message())
            while True:
                message = messages.read_next_message()
                if message.type != "record batch" or len(batches) == most:
                    raise pa.ArrowInvalid(f"it has more than {most} record batches, or others")
                if _is_compressed(bytes(message.metadata)):
                    raise pa.ArrowInvalid("it is compressed, which no file of a store is")
                batches.append(pa.ipc.read_record_batch(message, schema))
        except StopIteration:
            if not batches and most == 1:
                raise pa.ArrowInvalid("it holds no record batch") from None
    return schema, batches


def _is_compressed(message: bytes) -> bool:
    try:
        (root,) = struct.unpack_from("<I", message)
        at = _field(message, root, _HEADER)
        if at is None:
            raise pa.ArrowInvalid("a record batch without a header")
        (offset,) = struct.unpack_from("<I", message, at)
        return _field(message, at + offset, _COMPRESSION) is not None
    except struct.error as error:
        raise pa.ArrowInvalid(f"the header of a record batch cannot be read: {error}") from error


def _field(message: bytes, table: int, number: int) -> int | None:
    """Where a field of a flatbuffer table lies; None if the table does not have it."""
    (back,) = struct.unpack_from("<i", message, table)
    vtable = table - back
    (size,) = struct.unpack_from("<H", message, vtable)
    place = 4 + 2 * number
    if place + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", message, vtable + place)
    return table + offset if offset else None
