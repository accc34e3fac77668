"""Output: answers on stdout, everything else on stderr."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sleepfm.escaping import escaped
from sleepfm_cli.column_values import column_values
from sleepfm_cli.options import Format
from sleepfm_index.number_display import four_digits

if TYPE_CHECKING:
    import pyarrow as pa

_GAP = 2
_ROWS_AT_ONCE = 4096
ROWS_SHOWN = 200
"""Rows of a table on a terminal; a pipe gets all."""
_LISTED = 5
_NUMBER = re.compile(r"-?[\d,.]+(e[+-]?\d+)?( \([\d.]+\))?|-|nan")

messages = Console(stderr=True, highlight=False, soft_wrap=True)
"""Where progress, warnings and errors go."""


def answers() -> Console:
    """Console for answers other than tables; pipes and files are never truncated."""
    return Console(highlight=False, soft_wrap=True)


def say(text: str, style: str = "") -> None:
    """Write one line to stderr."""
    messages.print(Text(escaped(text), style=style))


def show_table(
    rows: Iterable[Sequence[object]],
    columns: Sequence[str],
    *,
    title: str = "",
    secondary: Collection[str] = (),
) -> None:
    """Print rows as a table on stdout; columns of numbers are right-aligned.

    A pipe or a file gets one line per row, however long. A terminal too narrow for the table gets
    one line per value instead, a block per row. Columns in ``secondary`` are left out, so that the
    others fit 80 characters, and named on stderr.
    """
    if secondary:
        kept = [i for i, name in enumerate(columns) if name not in secondary]
        hidden = ", ".join(name for name in columns if name in secondary)
        rows = [[row[i] for i in kept] for row in rows]
        columns = [columns[i] for i in kept]
        say(f"more columns with --wide: {hidden}")
    texts = [[escaped(cell(value)) for value in row] for row in rows]
    names = [escaped(name) for name in columns]
    console = answers()
    if title.startswith("\n"):
        console.print()
    if title:
        console.print(Text(escaped(title.strip()), style="italic"))
    widths = [
        max(map(cell_len, [name, *(row[i] for row in texts)])) for i, name in enumerate(names)
    ]
    total = sum(widths) + _GAP * (len(widths) - 1)
    if console.is_terminal and total > console.width and len(names) > 2:
        _show_records(console, texts, names)
        return
    flush = [
        bool(texts) and all(_NUMBER.fullmatch(row[i]) for row in texts) for i in range(len(names))
    ]
    if any(names):
        console.print(Text(_line(names, widths, flush), style="bold"))
    for row in texts:
        sys.stdout.write(_line(row, widths, flush) + "\n")


def _line(cells: Sequence[str], widths: Sequence[int], flush: Sequence[bool]) -> str:
    padded = [
        " " * (width - cell_len(text)) + text if right else text + " " * (width - cell_len(text))
        for text, width, right in zip(cells, widths, flush, strict=True)
    ]
    return (" " * _GAP).join(padded).rstrip()


def _show_records(console: Console, rows: Sequence[Sequence[str]], names: Sequence[str]) -> None:
    width = max(map(cell_len, names))
    for number, row in enumerate(rows, 1):
        console.print(Text(f"row {number}", style="bold"))
        for name, text in zip(names, row, strict=True):
            sys.stdout.write(f"  {name}{' ' * (width - cell_len(name))}  {text}\n")


def cell(value: object) -> str:
    """Format one value for display."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return four_digits(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime.timedelta) or type(value).__name__ == "MonthDayNano":
        return _span(value)
    if isinstance(value, dict):
        return ", ".join(f"{k}: {cell(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        pairs = all(isinstance(v, tuple) and len(v) == 2 for v in value)
        return ", ".join(f"{v[0]} = {v[1]}" if pairs else cell(v) for v in value)
    return str(value)


def show_arrow(table: pa.Table, format: Format) -> None:  # noqa: A002
    """Write an Arrow table to stdout in the given format; see :func:`show_batches`."""
    show_batches(table.to_reader(), format)


def show_batches(reader: pa.RecordBatchReader, format: Format) -> None:  # noqa: A002
    """Write record batches to stdout, streamed except as a table.

    Columns of one name are told apart by a number. On a terminal a table has at most
    :data:`ROWS_SHOWN` rows, and a line says how many more there are.
    """
    names = unique_names(reader.schema.names)
    if format is Format.table:
        _show_batches_as_table(reader, names)
    elif format is Format.json:
        sys.stdout.write("[")
        first = True
        for batch in reader:
            for row in _records(batch, names):
                text = json.dumps(row, indent=2, default=str)
                sys.stdout.write(("" if first else ",") + "\n" + textwrap.indent(text, "  "))
                first = False
        sys.stdout.write("]\n" if first else "\n]\n")
    else:
        _write_batches(reader, names, format)


def stream_arrow(reader: pa.RecordBatchReader, format: Format) -> None:  # noqa: A002
    """Stream record batches to stdout; JSON is one object per line."""
    names = unique_names(reader.schema.names)
    if format is Format.json:
        for batch in reader:
            for row in _records(batch, names):
                sys.stdout.write(json.dumps(row, default=str) + "\n")
    elif format is Format.table:
        shown = ("query_clip_id", "rank", "score", "clip_id", "recording_id", "start_s", "stage")
        for batch in reader:
            rows = batch.select(shown).to_pylist()
            show_table([list(row.values()) for row in rows], shown)
    else:
        _write_batches(reader, names, format)


def unique_names(names: Sequence[str]) -> list[str]:
    """Rename duplicate columns: ``a``, ``a_1``, ``a_2``."""
    taken: set[str] = set()
    renamed = []
    for name in names:
        candidate, count = name, 0
        while candidate in taken or (count and candidate in names):
            count += 1
            candidate = f"{name}_{count}"
        taken.add(candidate)
        renamed.append(candidate)
    return renamed


def _show_batches_as_table(reader: pa.RecordBatchReader, names: list[str]) -> None:
    limit = ROWS_SHOWN if sys.stdout.isatty() else None
    rows: list[list[object]] = []
    more = 0
    for batch in reader:
        keep = len(batch) if limit is None else max(0, limit - len(rows))
        columns = [column_values(column) for column in batch.slice(0, keep).columns]
        rows += [list(row) for row in zip(*columns, strict=True)]
        more += max(0, len(batch) - keep)
    show_table(rows, names)
    if more:
        say(f"{more:,} more rows; use --format csv, json or parquet for all", "yellow")


def _write_batches(reader: pa.RecordBatchReader, names: list[str], format: Format) -> None:  # noqa: A002
    import pyarrow as pa
    from pyarrow import csv, parquet

    if format is Format.parquet and sys.stdout.isatty():
        raise typer.BadParameter("parquet cannot be shown in a terminal; redirect it to a file")
    convert = _flat if format is Format.csv else _storable
    if sys.stdout.isatty():
        # Files and pipes get unmodified text; a terminal would interpret control characters.
        names, convert = [escaped(name) for name in names], _flat_and_escaped
    schema = convert(reader.schema.empty_table().rename_columns(names)).schema
    writer_class = csv.CSVWriter if format is Format.csv else parquet.ParquetWriter
    with writer_class(sys.stdout.buffer, schema) as writer:
        for batch in reader:
            table = convert(pa.Table.from_batches([batch]).rename_columns(names))
            writer.write_table(table.cast(schema))


def _records(batch: pa.RecordBatch, names: list[str]) -> Iterator[dict[str, object]]:
    for start in range(0, len(batch), _ROWS_AT_ONCE):
        columns = [column_values(column) for column in batch.slice(start, _ROWS_AT_ONCE).columns]
        for row in zip(*columns, strict=True):
            yield {name: _plain(value) for name, value in zip(names, row, strict=True)}


def _holds_intervals(data_type: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_interval(data_type):
        return True
    return pa.types.is_nested(data_type) and any(
        _holds_intervals(data_type.field(i).type) for i in range(data_type.num_fields)
    )


def show_json(value: object) -> None:
    """Write JSON to stdout; NaN and infinity become null."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, default=str) + "\n")


def clock(seconds: float | None, offset_s: float) -> str:
    """Time of day as HH:MM:SS, or the offset as +H:MM:SS if the time of day is unknown."""
    whole = round(offset_s if seconds is None else seconds % 86400)
    hours, minutes = divmod(whole // 60, 60)
    text = f"{hours:02d}:{minutes:02d}:{whole % 60:02d}"
    return f"+{text}" if seconds is None else text


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Progress]:
    """Show a transient progress bar on stderr; its only task has the id 0."""
    state = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*state, *times, console=messages, transient=True) as bar:
        bar.add_task(title, total=total)
        yield bar


def _flat(table: pa.Table) -> pa.Table:
    # CSV has no lists and maps: they are written as JSON; bytes as hexadecimal digits.
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = _as_json(table[i])
        elif _is_bytes(field.type):
            texts = [None if v is None else v.hex() for v in table[i].to_pylist()]
        elif pa.types.is_interval(field.type) or pa.types.is_duration(field.type):
            texts = [None if v is None else _span(v) for v in table[i].to_pylist()]
        else:
            continue
        table = table.set_column(i, field.name, pa.array(texts, pa.string()))
    return table


def _flat_and_escaped(table: pa.Table) -> pa.Table:
    import pyarrow as pa

    table = _flat(table)
    for i, field in enumerate(table.schema):
        if _is_text(field.type):
            texts = [None if v is None else escaped(v) for v in table[i].to_pylist()]
            table = table.set_column(i, field.name, pa.array(texts, pa.string()))
    return table


def _is_text(data_type: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(check(data_type) for check in checks)


def _storable(table: pa.Table) -> pa.Table:
    # Parquet has no intervals.
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        if pa.types.is_interval(field.type):
            texts = [None if v is None else _span(v) for v in table[i].to_pylist()]
        elif _holds_intervals(field.type):
            texts = _as_json(table[i])
        else:
            continue
        table = table.set_column(i, field.name, pa.array(texts, pa.string()))
    return table


def _as_json(column: pa.ChunkedArray) -> list[str | None]:
    values = (value for chunk in column.chunks for value in column_values(chunk))
    return [None if v is None else json.dumps(_plain(v), default=str) for v in values]


def _is_bytes(data_type: pa.DataType) -> bool:
    import pyarrow as pa

    checks = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(check(data_type) for check in checks)


def _span(value: Any) -> str:
    """Format an interval as its months, days and seconds."""
    if isinstance(value, datetime.timedelta):
        return f"{value.total_seconds():g} s"
    months, days, nanoseconds = value
    parts = ((months, "months"), (days, "days"), (nanoseconds / 1e9, "s"))
    return ", ".join(f"{count:g} {unit}" for count, unit in parts if count) or "0 s"


def _plain(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            return None
        whole = value == value.to_integral_value()
        return int(value) if whole else float(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime.timedelta) or type(value).__name__ == "MonthDayNano":
        return _span(value)
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def say_unscored(unscored: int, total: int, unread: Sequence[str]) -> None:
    """Report how many recordings have no scoring, and files that look like scoring."""
    message = f"no scoring found for {unscored} of {total} recordings"
    if unread:
        more = f" and {len(unread) - _LISTED} more" if len(unread) > _LISTED else ""
        listed = ", ".join(unread[:_LISTED])
        message += f"; these files look like it and are not read: {listed}{more}"
    say(message, "yellow")
