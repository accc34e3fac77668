"""``sleepfm-index sql``: query the metadata."""

from __future__ import annotations

from typing import Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, Format, FormatOption, StoreOption
from sleepfm_cli.render import show_batches


def sql(
    statement: Annotated[str, typer.Argument(help="One SELECT-like statement (DuckDB).")],
    format: FormatOption = Format.table,  # noqa: A002
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Query the metadata: tables clips, events and recordings.

    Example: sleepfm-index sql "SELECT stage, count(*) FROM clips GROUP BY stage"
    """
    import sleepfm_index

    with sleepfm_index.open(store) as opened, opened.metadata.stream(statement) as reader:
        show_batches(reader, format)
