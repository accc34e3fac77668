"""``sleepfm-index sql``: query the metadata."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import typer

from sleepfm_cli.options import DEFAULT_STORE, Format, FormatOption, OutOption, StoreOption
from sleepfm_cli.outputs import destination
from sleepfm_cli.render import say, show_batches

_GRACE_S: Final = 5.0
"""Time in which DuckDB may obey an interrupt."""


def sql(
    statement: Annotated[str, typer.Argument(help="One SELECT-like statement (DuckDB).")],
    format: FormatOption = Format.table,  # noqa: A002
    out: OutOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Query the metadata: tables clips, events, recordings and labels.

    Example: sleepfm-index sql "SELECT stage, count(*) FROM clips GROUP BY stage"
    """
    import sleepfm_index
    from sleepfm_index.runtime.memory import bounded_memory
    from sleepfm_index.storage.metadata import TIME_LIMIT_S

    answer = destination(out, format)
    with (
        _ended_after(TIME_LIMIT_S),
        bounded_memory(),
        sleepfm_index.open(store) as opened,
        opened.metadata.stream(statement) as reader,
    ):
        answer.show(lambda: show_batches(reader, answer.format))


@contextmanager
def _ended_after(limit_s: float) -> Iterator[None]:
    """End the process in time, and on Ctrl-C at once.

    DuckDB interrupts no single call of a function. Nothing is being written.
    """

    def end() -> None:
        say(f"error: the statement ran longer than {limit_s:g} s, within one call of a function")
        sys.stderr.flush()
        os._exit(2)

    timer = threading.Timer(limit_s + _GRACE_S, end)
    timer.daemon = True
    timer.start()
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_DFL) if main else None
    try:
        yield
    finally:
        timer.cancel()
        if main:
            signal.signal(signal.SIGINT, before)
