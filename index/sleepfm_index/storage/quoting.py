"""Names and values written into SQL."""

from __future__ import annotations


def quote_name(name: str) -> str:
    """Write a column's or table's name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(value: object) -> str:
    """Write a value as an SQL string."""
    return "'" + str(value).replace("'", "''") + "'"
