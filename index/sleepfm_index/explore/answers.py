"""Answers as Arrow IPC, JSON, CSV or Parquet."""

from __future__ import annotations

import datetime
import io
import json
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

Format = Literal["json", "arrow", "csv", "parquet"]
MEDIA: Final[dict[str, str]] = {
    "json": "application/json",
    "arrow": "application/vnd.apache.arrow.stream",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
"""Media type of each format."""


@dataclass(frozen=True)
class Table:
    """A table with a one-line description.

    Parameters
    ----------
    rows : pyarrow.Table
        The rows.
    note : str
        Description of the rows, one line.
    about : dict, optional
        Further facts, as JSON values.
    """

    rows: pa.Table
    note: str = ""
    about: dict[str, Any] | None = None


@dataclass(frozen=True)
class Document:
    """One JSON object.

    Parameters
    ----------
    content : dict of str to object
        The JSON object.
    status : int
        HTTP status.
    """

    content: dict[str, Any]
    status: int = 200


def encode(answer: Table, form: str) -> bytes:
    """Write a table in one of the formats of :data:`MEDIA`.

    Arrow IPC has the note and the facts in the schema's metadata, as ``note`` and ``about``.

    Parameters
    ----------
    answer : Table
        The table to write.
    form : str
        One of the keys of :data:`MEDIA`.
    """
    if form == "json":
        columns = [{"name": f.name, "type": str(f.type)} for f in answer.rows.schema]
        rows = answer.rows.to_pylist()
        content = {"columns": columns, "rows": rows, "note": answer.note}
        return dumps(content | (answer.about or {}))
    sink = io.BytesIO()
    if form == "arrow":
        metadata = {"note": answer.note, "about": json.dumps(plain(answer.about or {}))}
        rows = answer.rows.replace_schema_metadata(metadata)
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
    elif form == "csv":
        pyarrow.csv.write_csv(_flat(answer.rows), sink)
    else:
        pq.write_table(answer.rows, sink, compression="zstd")
    return sink.getvalue()


def dumps(content: Any) -> bytes:
    """Encode as standard JSON; NaN and infinities become null.

    Parameters
    ----------
    content : object
        The content.
    """
    try:
        return _dumps(content)
    except (TypeError, ValueError):  # a key that is no text, a NaN or an infinity: in few answers
        return _dumps(plain(content))


def _dumps(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, default=plain).encode()


def plain(value: Any) -> Any:
    """Convert a value to JSON types; NaN and infinities become null.

    Parameters
    ----------
    value : object
        The value to convert.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Decimal):
        return plain(float(value))
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    return str(value)


def _flat(rows: pa.Table) -> pa.Table:
    """Replace lists and maps by JSON text and decode dictionaries, for CSV."""
    nested = pa.types.is_nested
    for index, field in enumerate(rows.schema):
        if nested(field.type) or pa.types.is_dictionary(field.type):
            values = rows.column(index).to_pylist()
            if nested(field.type):
                values = [None if v is None else json.dumps(plain(v)) for v in values]
            rows = rows.set_column(index, field.name, pa.array(values, pa.string()))
    return rows
