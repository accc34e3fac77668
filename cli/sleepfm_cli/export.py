"""``sleepfm-index export``: clips and vectors, for every other tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, StoreOption, WhereOption
from sleepfm_cli.render import say
from sleepfm_index.choices import ExportFormat


def export(
    out: Annotated[Path, typer.Option(help="File (Parquet) or folder (Lance) to make.")],
    format: Annotated[  # noqa: A002
        ExportFormat, typer.Option("--format", help="lance needs the extra [lance].")
    ] = "parquet",
    deidentified: Annotated[
        bool,
        typer.Option("--deidentified", help="Hash ids; leave out site, clock and free columns."),
    ] = False,
    where: WhereOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write clips joined with their vectors, one row a clip.

    Example: sleepfm-index export --out clips.parquet --deidentified --where "stage <> 'ART'"
    """
    import sleepfm_index

    written = sleepfm_index.export(
        store, out, format=format, deidentified=deidentified, where=where
    )
    how = ", de-identified" if written.deidentified else ""
    say(f"{written.clips:,} clips{how} -> {written.path}")
    if written.deidentified:
        say("A vector is not anonymous: see docs/export.md before you hand it on.", "yellow")
