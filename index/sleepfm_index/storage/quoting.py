"""Names and values written into SQL."""

from __future__ import annotations


def quote_name(name: str) -> str:
    """Write a column's or table's name as an SQL identifier.

    Parameters
    ----------
    name : str
        The name.
    """
    return '"' + name.replace('"', '""') + '"'


def quote_text(value: object) -> str:
    """Write a value as an SQL string.

    Parameters
    ----------
    value : object
        The value.
    """
    return "'" + str(value).replace("'", "''") + "'"
