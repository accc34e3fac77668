"""Answers on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
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
from rich.table import Table
from rich.text import Text

from sleepfm_cli.options import Format

if TYPE_CHECKING:
    import pyarrow as pa

_WIDE = 200
_LOOKS = 5
_NUMBER = re.compile(r"-?[\d,.]+(e[+-]?\d+)?( \([\d.]+\))?|-|nan")

messages = Console(stderr=True, highlight=False, soft_wrap=True)
"""Where progress, warnings and errors go."""


def answers() -> Console:
    """Where answers go; a pipe or a file is never cut to a terminal's width."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)


def say(text: str, style: str = "") -> None:
    """Write one line to stderr, as it is."""
    messages.print(Text(text, style=style))


def show_table(
    rows: Iterable[Sequence[object]], columns: Sequence[str], *, title: str = ""
) -> None:
    """Print rows as a table on stdout; columns of numbers are set flush right."""
    texts = [[cell(value) for value in row] for row in rows]
    table = Table(
        title=title or None,
        title_justify="left",
        box=None,
        pad_edge=False,
        show_header=any(columns),
    )
    for at, name in enumerate(columns):
        numeric = texts and all(_NUMBER.fullmatch(row[at]) for row in texts)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in texts:
        table.add_row(*map(Text, row))
    answers().print(table)


def cell(value: object) -> str:
    """Write one value for a person."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "nan" if math.isnan(value) else f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {v}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        pairs = all(isinstance(v, tuple) and len(v) == 2 for v in value)
        return ", ".join(f"{v[0]} = {v[1]}" if pairs else str(v) for v in value)
    return str(value)


def show_arrow(table: pa.Table, format: Format) -> None:  # noqa: A002
    """Write an Arrow table to stdout in the asked format."""
    if format is Format.table:
        rows = [list(row.values()) for row in table.to_pylist()]
        show_table(rows, table.column_names)
    elif format is Format.json:
        show_json(table.to_pylist())
    elif format is Format.csv:
        from pyarrow import csv

        csv.write_csv(_flat(table), sys.stdout.buffer)
    else:
        from pyarrow import BufferOutputStream, parquet

        if sys.stdout.isatty():
            raise typer.BadParameter("parquet is not for a terminal; redirect it to a file")
        sink = BufferOutputStream()
        parquet.write_table(table, sink)
        sys.stdout.buffer.write(sink.getvalue())


def stream_arrow(reader: pa.RecordBatchReader, format: Format) -> None:  # noqa: A002
    """Write record batches to stdout as they come; JSON is one object a line."""
    if format is Format.csv:
        from pyarrow import csv

        with csv.CSVWriter(sys.stdout.buffer, _flat(reader.schema.empty_table()).schema) as writer:
            for batch in reader:
                writer.write_table(_flat(_table(batch)))
    elif format is Format.parquet:
        from pyarrow import parquet

        if sys.stdout.isatty():
            raise typer.BadParameter("parquet is not for a terminal; redirect it to a file")
        with parquet.ParquetWriter(sys.stdout.buffer, reader.schema) as written:
            for batch in reader:
                written.write_batch(batch)
    elif format is Format.json:
        for batch in reader:
            for row in batch.to_pylist():
                sys.stdout.write(json.dumps(_plain(row), default=str) + "\n")
    else:
        names = ("query_clip_id", "rank", "score", "clip_id", "recording_id", "start_s", "stage")
        for batch in reader:
            shown = batch.select(names).to_pylist()
            show_table([list(row.values()) for row in shown], names)


def _table(batch: pa.RecordBatch) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_batches([batch])


def show_json(value: object) -> None:
    """Write JSON to stdout; what JSON has no number for becomes null."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, default=str) + "\n")


def clock(seconds: float | None, offset_s: float) -> str:
    """Time of day as HH:MM:SS, or the offset as +H:MM:SS where the recording knows no clock."""
    whole = round(offset_s if seconds is None else seconds % 86400)
    hours, minutes = divmod(whole // 60, 60)
    text = f"{hours:02d}:{minutes:02d}:{whole % 60:02d}"
    return f"+{text}" if seconds is None else text


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Progress]:
    """Show a progress bar on stderr, gone when the work is done; its only task has the id 0."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=messages,
        transient=True,
    )
    with bar:
        bar.add_task(title, total=total)
        yield bar


def _flat(table: pa.Table) -> pa.Table:
    # CSV has no lists and maps: they are written as JSON.
    import pyarrow as pa

    for at, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [json.dumps(v, default=str) for v in table[field.name].to_pylist()]
            table = table.set_column(at, field.name, pa.array(texts))
    return table


def _plain(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def say_unscored(unscored: int, total: int, looks: Sequence[str]) -> None:
    """Say for how many recordings no scoring was found, and which files look like it."""
    said = f"no scoring found for {unscored} of {total} recordings"
    if looks:
        more = f" and {len(looks) - _LOOKS} more" if len(looks) > _LOOKS else ""
        said += f"; these files look like it and are not read: {', '.join(looks[:_LOOKS])}{more}"
    say(said, "yellow")
