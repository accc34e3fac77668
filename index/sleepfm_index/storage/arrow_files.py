"""Arrow files of a store, mapped into memory; compressed files are refused.

A compressed batch of a few kilobytes can unpack to terabytes. A store writes no compressed batches,
so a batch whose header declares a compression is never read.
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
"""Field of ``RecordBatch`` with the compression of its buffers; absent if there is none."""


def mapped_batches(path: Path, max_batches: int) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """Map the record batches of an Arrow file into memory without copying them.

    Parameters
    ----------
    path : Path
        The file.
    max_batches : int
        Maximum number of batches.

    Returns
    -------
    schema : pyarrow.Schema
    batches : list of pyarrow.RecordBatch

    Raises
    ------
    pyarrow.ArrowException
    If it is not an Arrow file, has more batches, or has a compressed batch.
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
                if message.type != "record batch" or len(batches) == max_batches:
                    raise pa.ArrowInvalid(
                        f"it has more than {max_batches} record batches, or others"
                    )
                if _is_compressed(bytes(message.metadata)):
                    raise pa.ArrowInvalid("it is compressed, which no file of a store is")
                batches.append(pa.ipc.read_record_batch(message, schema))
        except StopIteration:
            if not batches and max_batches == 1:
                raise pa.ArrowInvalid("it holds no record batch") from None
    return schema, batches


def _is_compressed(message: bytes) -> bool:
    try:
        (root,) = struct.unpack_from("<I", message)
        header = _field(message, root, _HEADER)
        if header is None:
            raise pa.ArrowInvalid("a record batch without a header")
        (offset,) = struct.unpack_from("<I", message, header)
        return _field(message, header + offset, _COMPRESSION) is not None
    except struct.error as error:
        raise pa.ArrowInvalid(f"the header of a record batch cannot be read: {error}") from error


def _field(message: bytes, table: int, number: int) -> int | None:
    """Offset of a field of a flatbuffer table, or None if the table does not have it."""
    (distance,) = struct.unpack_from("<i", message, table)
    vtable = table - distance
    (size,) = struct.unpack_from("<H", message, vtable)
    slot = 4 + 2 * number
    if slot + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", message, vtable + slot)
    return table + offset if offset else None
