"""``sleepfm-index annotate``: add columns to a store without encoding."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, AllowIdentifyingOption, StoreOption
from sleepfm_cli.render import say


def annotate(
    table: Annotated[
        Path,
        typer.Argument(help="CSV or Parquet with recording_id, subject_id or clip_id."),
    ],
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a table that does not match the store.")
    ] = False,
    allow_identifying: AllowIdentifyingOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Add or correct columns of recordings, subjects or clips.

    Recordings are not read or encoded again. An empty cell clears a value. `restore` undoes it.

    Example: sleepfm-index annotate subjects.csv
    """
    import sleepfm_index

    done = sleepfm_index.annotate(store, table, strict=strict, allow_identifying=allow_identifying)
    for note in done.notes:
        say(note, "yellow")
    cleared = f", values cleared in {done.cleared:,}" if done.cleared else ""
    say(f"{', '.join(done.columns)}: {done.clips:,} clips changed{cleared} -> {store}")
