"""Conversion of clips to entities of a Milvus collection, and back to rows."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.schema import target_parts

KEY: Final = "clip_id"
PARTITION: Final = "site"
"""The partition key. It cannot be null in Milvus, where an unknown site is an empty string."""

_VALID_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_TYPES: Final = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOL",
    pa.int64(): "INT64",
    pa.uint16(): "INT32",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
}


@dataclass(frozen=True)
class Column:
    """A column of ``clips`` and its scalar field in Milvus.

    Parameters
    ----------
    name : str
        Name of the column in the store.
    type : pyarrow.DataType
        Type of the column in the store.
    vectors : tuple of str
        Names of the collection's vector fields, which no scalar field can have.
    """

    name: str
    type: pa.DataType
    vectors: tuple[str, ...] = field(default=(), compare=False)

    @property
    def field(self) -> str:
        """Name of the field: that of the column, or a hash of it if Milvus does not allow it."""
        if _VALID_NAME.fullmatch(self.name) and self.name not in self.vectors:
            return self.name
        return "column_" + hashlib.sha256(self.name.encode()).hexdigest()[:12]

    @property
    def data_type(self) -> str:
        """Name of the field's ``DataType``; types unknown to Milvus are stored as text."""
        return _TYPES.get(self.type, "VARCHAR")

    @property
    def nullable(self) -> bool:
        """True if the field can be null."""
        return self.name not in (KEY, PARTITION)

    def to_milvus(self, values: pa.ChunkedArray) -> list[Any]:
        """Convert values of the column to values of the field.

        Parameters
        ----------
        values : pyarrow.ChunkedArray
            Values of the column.

        Returns
        -------
        list
            One value per row.
        """
        if self.type not in _TYPES:
            values = values.cast(pa.string())
        listed: list[Any] = values.to_pylist()
        if self.name == PARTITION:
            return [value or "" for value in listed]
        if pa.types.is_floating(self.type):
            # Milvus has no NaN.
            return [None if v is None or not math.isfinite(v) else v for v in listed]
        return listed

    def from_milvus(self, values: list[Any]) -> pa.Array:
        """Convert values of the field back to values of the column.

        Parameters
        ----------
        values : list
            One value per row.

        Returns
        -------
        pyarrow.Array
        """
        if self.name == PARTITION:
            values = [value or None for value in values]
        if self.type in _TYPES:
            return pa.array(values, self.type)
        return pa.array(values, pa.string()).cast(self.type)


def columns_of(schema: pa.Schema, targets: tuple[str, ...]) -> tuple[Column, ...]:
    """List the columns of ``clips`` in order.

    Parameters
    ----------
    schema : pyarrow.Schema
        Schema of ``clips``.
    targets : tuple of str
        All targets of the store, whether they are published or not.

    Returns
    -------
    tuple of Column
    """
    return tuple(Column(f.name, f.type, targets) for f in schema)


def entities(
    clips: pa.Table, vectors: Mapping[str, NDArray[np.float32]], columns: tuple[Column, ...]
) -> list[dict[str, Any]]:
    """Convert clips to entities with scalar fields and one vector per target.

    A clip without a target has a zero vector, as in the store; :func:`presence` excludes such
    clips from every search.

    Parameters
    ----------
    clips : pyarrow.Table
        Rows of ``clips``.
    vectors : mapping of str to ndarray of float32, shape [n, 512]
        Vectors of each target, one row per clip.
    columns : tuple of Column
        Columns to include.

    Returns
    -------
    list of dict
        One entity per clip.
    """
    fields = {c.field: c.to_milvus(clips[c.name]) for c in columns} | dict(vectors)
    return [{name: values[row] for name, values in fields.items()} for row in range(len(clips))]


def presence(target: str, modalities: tuple[str, ...]) -> str:
    """Write the Milvus expression that selects the clips with a target.

    Parameters
    ----------
    target : str
        One of :func:`sleepfm_index.schema.targets`.
    modalities : tuple of str
        Modalities of the store.

    Returns
    -------
    str
    """
    return "(" + " or ".join(f"has_{m} == true" for m in target_parts(target, modalities)) + ")"


def rows(entities: list[dict[str, Any]], columns: tuple[Column, ...]) -> pa.Table:
    """Convert entities to rows of ``clips``.

    Parameters
    ----------
    entities : list of dict
        Scalar fields of each clip.
    columns : tuple of Column
        Columns of the result.

    Returns
    -------
    pyarrow.Table
    """
    return pa.table({c.name: c.from_milvus([e.get(c.field) for e in entities]) for c in columns})
