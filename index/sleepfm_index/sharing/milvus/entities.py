"""How a clip becomes an entity of a Milvus collection, and an entity a row again."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.schema import TARGETS, target_parts

KEY: Final = "clip_id"
PARTITION: Final = "site"
"""The partition key. It cannot be null in Milvus: an unknown site is an empty text there."""

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_KINDS: Final = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOL",
    pa.int64(): "INT64",
    pa.uint16(): "INT32",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
}


@dataclass(frozen=True)
class Column:
    """A column of ``clips`` and the scalar field that holds it.

    Parameters
    ----------
    name : str
        The column's name in the store.
    type : pyarrow.DataType
        Its type there.
    """

    name: str
    type: pa.DataType

    @property
    def field(self) -> str:
        """Name of the field: the column's own, or a hash of it where Milvus would refuse that."""
        if _PLAIN.fullmatch(self.name) and self.name not in TARGETS:
            return self.name
        return "column_" + hashlib.sha256(self.name.encode()).hexdigest()[:12]

    @property
    def kind(self) -> str:
        """Name of the field's ``DataType``; what Milvus has no type for is kept as text."""
        return _KINDS.get(self.type, "VARCHAR")

    @property
    def nullable(self) -> bool:
        """Whether the field can be null."""
        return self.name not in (KEY, PARTITION)

    def stored(self, values: pa.ChunkedArray) -> list[Any]:
        """Values of the column as Milvus takes them."""
        if self.type not in _KINDS:
            values = values.cast(pa.string())
        listed: list[Any] = values.to_pylist()
        if self.name == PARTITION:
            return [value or "" for value in listed]
        if pa.types.is_floating(self.type):
            # Milvus knows no NaN.
            return [None if v is None or not math.isfinite(v) else v for v in listed]
        return listed

    def restored(self, values: list[Any]) -> pa.Array:
        """Values of the field as they were in the store."""
        if self.name == PARTITION:
            values = [value or None for value in values]
        if self.type in _KINDS:
            return pa.array(values, self.type)
        return pa.array(values, pa.string()).cast(self.type)


def columns_of(schema: pa.Schema) -> tuple[Column, ...]:
    """Columns of ``clips`` in their order."""
    return tuple(Column(f.name, f.type) for f in schema)


def entities(
    clips: pa.Table, vectors: Mapping[str, NDArray[np.float32]], columns: tuple[Column, ...]
) -> list[dict[str, Any]]:
    """Give clips as entities: scalar fields, and a float32 vector for each target.

    A target that a clip lacks is a zero vector there, as in the store; :func:`presence` keeps
    those out of every answer.
    """
    fields = {c.field: c.stored(clips[c.name]) for c in columns} | dict(vectors)
    return [{name: values[row] for name, values in fields.items()} for row in range(len(clips))]


def presence(target: str) -> str:
    """Milvus expression that holds for the clips that have a target."""
    return "(" + " or ".join(f"has_{m} == true" for m in target_parts(target)) + ")"


def rows(entities: list[dict[str, Any]], columns: tuple[Column, ...]) -> pa.Table:
    """Give entities as rows of ``clips``."""
    return pa.table({c.name: c.restored([e.get(c.field) for e in entities]) for c in columns})
