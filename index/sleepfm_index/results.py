"""Results: a table and one line about how it was computed."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sleepfm.escaping import escaped
from sleepfm_index.number_display import four_digits

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

_SHOWN = 20
_COLUMNS = 16
_WIDTH = 100
_MAX_CELL = 32


@dataclass(frozen=True, repr=False)
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

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Return the rows one by one, each as a dict."""
        for batch in self.table.to_batches():
            yield from batch.to_pylist()

    def __repr__(self) -> str:
        """Show the first rows as a table of text, with the number of rows."""
        name = type(self).__name__
        size = f"{len(self):,} rows x {self.table.num_columns} columns"
        return "\n".join([f"{name}: {size}", *text_table(self.table), escaped(self.note)]).rstrip()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Export the rows to any Arrow library without a copy."""
        return self.table.__arrow_c_stream__(requested_schema)

    def _repr_html_(self) -> str:
        """Show the first rows in a notebook."""
        names = self.table.column_names
        shown = self.table.select(names[:_COLUMNS]).slice(0, _SHOWN)
        rows = zip(*(column.to_pylist() for column in shown.columns), strict=True)
        more = len(self) - len(shown)
        note = self.note + (f" ({more:,} more rows)" if more else "")
        if len(names) > _COLUMNS:
            note += f"; {len(names) - _COLUMNS} more columns: .to_pandas() or .to_polars()"
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

    def to_polars(self) -> pl.DataFrame:
        """Convert the rows to a polars DataFrame.

        Returns
        -------
        polars.DataFrame

        Raises
        ------
        ImportError
            If polars is not installed.
        """
        # Optional: only this method needs polars.
        import polars

        frame: pl.DataFrame = polars.from_arrow(self.table)  # type: ignore[assignment]
        return frame

    def to_pylist(self) -> list[dict[str, Any]]:
        """Convert the rows to Python objects.

        Returns
        -------
        list of dict
            One dict per row.
        """
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows


def text_table(table: pa.Table) -> list[str]:
    """Write the first rows of a table as lines of text, with the columns that fit.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.

    Returns
    -------
    list of str
        A line of column names, one line per row, and lines on what is not shown.
    """
    shown = table.slice(0, _SHOWN)
    columns: list[list[str]] = []
    width = 0
    for name, column in zip(shown.column_names, shown.columns, strict=True):
        cells = [escaped(name), *(_short(value) for value in column.to_pylist())]
        widest = max(map(len, cells))
        if columns and width + 2 + widest > _WIDTH:
            break
        width += 2 + widest
        columns.append([cell.rjust(widest) for cell in cells])
    lines = ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
    rows, hidden = table.num_rows - len(shown), table.column_names[len(columns) :]
    if rows:
        lines.append(f"... {rows:,} more rows")
    if hidden:
        names = ", ".join(map(escaped, hidden[:_SHOWN])) + (", ..." if len(hidden) > _SHOWN else "")
        lines.append(f"... {len(hidden)} more columns: {names}")
    return lines


def _short(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return four_digits(value)
    text = escaped(value)
    return text if len(text) <= _MAX_CELL else text[: _MAX_CELL - 3] + "..."


def _as_html(text: str) -> str:
    return html.escape(escaped(text))


def html_table(columns: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> str:
    """Write a table as HTML for a notebook; every text in it is escaped.

    Parameters
    ----------
    columns : sequence of str
        Column headings; omitted if all are empty.
    rows : iterable of sequences
        The cells of each row.
    note : str
        One line below the table.
    """

    def cell(value: object) -> str:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        text = (
            "" if value is None else four_digits(value) if isinstance(value, float) else f"{value}"
        )
        side = "right" if number else "left"
        return f'<td style="text-align:{side}">{_as_html(text)}</td>'

    head = "".join(f"<th>{_as_html(name)}</th>" for name in columns) if any(columns) else ""
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    foot = f"<p><small>{_as_html(note)}</small></p>" if note else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}"
