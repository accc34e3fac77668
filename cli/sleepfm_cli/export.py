"""``sleepfm-index export``: clips and vectors for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, AllowIdentifyingOption, StoreOption, WhereOption
from sleepfm_cli.render import say
from sleepfm_index.choices import ExportFormat


def export(
    out: Annotated[Path, typer.Option(help="File (Parquet) or folder (Lance, FAISS) to write.")],
    format: Annotated[  # noqa: A002
        ExportFormat,
        typer.Option(
            "--format",
            help="Output format; lance needs the extra [lance], faiss is one file per target.",
        ),
    ] = "parquet",
    deidentified: Annotated[
        bool,
        typer.Option("--deidentified", help="Hash ids; omit site, time of day and free columns."),
    ] = False,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", help="With --deidentified: keep this column of your own too."),
    ] = None,
    allow_identifying: AllowIdentifyingOption = False,
    where: WhereOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Export clips joined with their vectors, one row per clip, or vectors alone for FAISS.

    Example: sleepfm-index export --out clips.parquet --deidentified --where "stage <> 'ART'"
    """
    import sleepfm_index

    written = sleepfm_index.export(
        store,
        out,
        format=format,
        deidentified=deidentified,
        where=where,
        keep=tuple(keep or ()),
        allow_identifying=allow_identifying,
    )
    remark = ", de-identified" if written.deidentified else ""
    say(f"{written.clips:,} clips{remark} -> {written.path}")
    if written.deidentified:
        say("Vectors are not anonymous: read docs/export.md before you share them.", "yellow")
