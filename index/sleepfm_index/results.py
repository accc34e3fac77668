"""Results: a table and one line about how it was computed."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 20


@dataclass(frozen=True)
class Result:
    """A table of results with a note.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    note : str
        One line about the query and the search method.
    """

    table: pa.Table
    note: str = ""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def _repr_html_(self) -> str:
        """Show the first rows in a notebook."""
        shown = self.table.slice(0, _SHOWN)
        rows = zip(*(column.to_pylist() for column in shown.columns), strict=True)
        more = len(self) - len(shown)
        note = self.note + (f" ({more:,} more rows)" if more else "")
        return html_table(shown.column_names, rows, note)

    def to_arrow(self) -> pa.Table:
        """Return the rows as a pyarrow Table.

        Returns
        -------
        pyarrow.Table
        """
        return self.table

    def to_pandas(self) -> pd.DataFrame:
        """Convert the rows to a pandas DataFrame.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return self.table.to_pandas()

    def to_pylist(self) -> list[dict[str, Any]]:
        """Convert the rows to Python objects.

        Returns
        -------
        list of dict
            One per row.
        """
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows


def html_table(columns: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> str:
    """Write a table as HTML for a notebook; every text in it is escaped.

    Parameters
    ----------
    columns : sequence of str
        Heads; none where all are empty.
    rows : iterable of sequences
        The cells of each row.
    note : str
        One line below the table.
    """

    def cell(value: object) -> str:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else f"{value}"
        side = "right" if number else "left"
        return f'<td style="text-align:{side}">{html.escape(text)}</td>'

    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns) if any(columns) else ""
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    foot = f"<p><small>{html.escape(note)}</small></p>" if note else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}"
