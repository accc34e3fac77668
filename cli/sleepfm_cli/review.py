"""``sleepfm-index review``: likely errors in labels and recordings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from sleepfm_cli.options import (
    DEFAULT_STORE,
    Format,
    FormatOption,
    IncludeSeenOption,
    SeedOption,
    StoreOption,
    WhereOption,
    listed,
)
from sleepfm_cli.outputs import destination
from sleepfm_cli.render import clock, messages, say, show_arrow, show_table


def review(
    label: Annotated[
        str, typer.Option(help="Label to check for errors: stage, sdb, or any column.")
    ] = "stage",
    on: Annotated[
        str | None,
        typer.Option(help="Modalities that predict the label, e.g. bas+ecg; default: all."),
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option(
            "--look-for",
            help="What to look for: label,outlier,duplicate,flat; default: all. Label errors need "
            "the extra [review]; without it, and without this option, the others are looked for.",
        ),
    ] = None,
    where: WhereOption = None,
    seed: SeedOption = 0,
    annotate: Annotated[
        bool,
        typer.Option(
            "--annotate", help="Also write the columns review and review_suggested to the store."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write all rows to a file: .csv, .json or .parquet."),
    ] = None,
    rows_per_kind: Annotated[
        int, typer.Option("-k", min=1, help="Rows of each kind to show.")
    ] = 10,
    format: FormatOption = Format.table,  # noqa: A002
    include_seen: IncludeSeenOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """List likely label errors, outliers, duplicates and flat embeddings, with reasons.

    Example: sleepfm-index review --out review.csv
    """
    import sleepfm_index
    from sleepfm_index.evaluation.review.review import columns_of

    answer = destination(out, format)
    with sleepfm_index.open(store) as opened:
        with messages.status("looking at every clip"):
            result = opened.review(
                label=label,
                on=on,
                kinds=listed(kinds),
                where=where,
                seed=seed,
                include_seen=include_seen,
            )
        if out is not None:
            answer.show(lambda: show_arrow(result.table, answer.format))
        if annotate and len(result):
            for note in opened.annotate(columns_of(result)).notes:
                say(note)
    say(result.note)
    if format is not Format.table:
        if out is None:
            show_arrow(result.table, format)
        return
    count: Counter[str] = Counter()
    rows = []
    for row in result.to_pylist():
        count[row["kind"]] += 1
        if count[row["kind"]] <= rows_per_kind:
            time = clock(row["clock"], row["start_s"])
            names = ("kind", "clip_id", "recording_id")
            rows.append([*(row[name] for name in names), time, row["stage"], row["reason"]])
    show_table(rows, ("kind", "clip_id", "recording", "time", "stage", "reason"))
    if len(rows) < len(result):
        say(f"{len(result) - len(rows):,} more; -k shows more of each kind, --out writes all")
