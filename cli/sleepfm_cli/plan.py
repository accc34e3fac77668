"""``sleepfm-index plan``: the planned index of each target and its cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, Format, FormatOption, IndexOption, StoreOption
from sleepfm_cli.render import say, show_json, show_table

if TYPE_CHECKING:
    from sleepfm_index.indexing.planner import Plan


def plan(
    rows: Annotated[
        int | None, typer.Option(min=0, help="Plan for this number of clips instead of a store.")
    ] = None,
    recall: Annotated[
        float, typer.Option(min=0, max=1, help="recall@10 to reach; 1 is exact search.")
    ] = 0.99,
    memory: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="Memory limit for building an index, in GB; default: free memory."
        ),
    ] = None,
    index: IndexOption = None,
    format: FormatOption = Format.table,  # noqa: A002
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Estimate time, disk and memory of the indexes, before building them.

    Example: sleepfm-index plan --rows 12000000 --recall 0.995
    """
    import sleepfm_index

    if format not in (Format.table, Format.json):
        raise typer.BadParameter("plan supports the formats table and json")
    plans = sleepfm_index.plan(
        store if rows is None else rows,
        recall=recall,
        memory=None if memory is None else round(memory * 1e9),
        index=index,
    )
    if format is Format.json:
        show_json([asdict(p) for p in plans])
        return
    show_plans(plans)


def show_plans(plans: list[Plan]) -> None:
    """Print a plan with its totals."""
    columns = ("target", "clips", "search", "minutes", "disk GB", "memory GB", "ms per query")
    show_table(
        [
            (
                p.target,
                f"{p.rows:,}",
                p.kind,
                f"{p.seconds / 60:.1f}",
                f"{p.disk_bytes / 1e9:.2f}",
                f"{p.memory_bytes / 1e9:.2f}",
                f"{p.query_ms:.1f}",
            )
            for p in plans
        ],
        columns,
    )
    seconds, disk = sum(p.seconds for p in plans), sum(p.disk_bytes for p in plans)
    memory = max((p.memory_bytes for p in plans), default=0)
    say(
        f"in all about {seconds / 60:.0f} min and {disk / 1e9:.1f} GB of disk in addition to "
        f"the vectors, at most {memory / 1e9:.1f} GB of memory at a time"
    )
