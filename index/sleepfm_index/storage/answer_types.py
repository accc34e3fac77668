"""Columns of DuckDB types that Arrow lacks, converted to the text that DuckDB prints for them.

Without this, Arrow gives a time without its UTC offset, a number modulo 2^128, or raw bytes in a
layout that is internal to DuckDB.
"""

from __future__ import annotations

from typing import Any, Final

import duckdb

from sleepfm_index.storage.quoting import quote_name

_AS_TEXT: Final = frozenset(
    {"bignum", "bit", "geometry", "time with time zone", "uhugeint", "union", "variant"}
)


def with_text(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Cast values that Arrow cannot hold to text, also inside lists, maps and structs.

    Parameters
    ----------
    relation : duckdb.DuckDBPyRelation
        The answer.

    Returns
    -------
    duckdb.DuckDBPyRelation
        The same columns; the answer itself if no type needs a cast.
    """
    casts = [_cast(kind) for kind in relation.types]
    if not any(casts):
        return relation
    parts = (
        f"{f'CAST(#{at} AS {cast})' if cast else f'#{at}'} AS {quote_name(name)}"
        for at, (cast, name) in enumerate(zip(casts, relation.columns, strict=True), start=1)
    )
    return relation.project(", ".join(parts))


def _cast(kind: Any) -> str | None:
    """Name of the type to cast to; None if Arrow holds the type as it is."""
    if kind.id in _AS_TEXT:
        return "VARCHAR"
    if kind.id not in ("list", "array", "map", "struct", "tuple"):
        return None
    children = dict(kind.children)
    size = children.pop("size", "") if kind.id == "array" else ""
    casts = {name: _cast(child) for name, child in children.items()}
    if not any(casts.values()):
        return None
    if kind.id == "tuple":
        return "VARCHAR"
    inside = {name: cast or str(children[name]) for name, cast in casts.items()}
    if kind.id == "struct":
        return f"STRUCT({', '.join(f'{quote_name(n)} {t}' for n, t in inside.items())})"
    if kind.id == "map":
        return f"MAP({inside['key']}, {inside['value']})"
    return f"{inside['child']}[{size}]"
