"""Names and values written into SQL, and SQL written into sentences."""

from __future__ import annotations

from typing import Final

_SHOWN: Final = 200


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


def shown(condition: str) -> str:
    """Return an SQL condition as a note or an error repeats it: in one line, and cut if it is long.

    Parameters
    ----------
    condition : str
        The condition.
    """
    line = " ".join(condition.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}... ({len(line):,} characters)"
