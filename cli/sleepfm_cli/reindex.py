"""``sleepfm-index reindex``: build the indexes from the vectors."""

from __future__ import annotations

from typing import Annotated

import typer

from sleepfm_cli.options import (
    DEFAULT_STORE,
    BuildEngineOption,
    IndexOption,
    SchedulerOption,
    StoreOption,
)
from sleepfm_cli.render import say, show_table


def reindex(
    index: IndexOption = None,
    recall: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="recall@10 to reach; default 0.99, 1 is exact search."),
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Rebuild every index.")] = False,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Only this target (bas, others_of_ecg ...); repeatable."),
    ] = None,
    engine: BuildEngineOption = "local",
    scheduler: SchedulerOption = None,
    workers: Annotated[
        int, typer.Option(min=1, help="For dask without a scheduler: number of processes.")
    ] = 2,
    shards: Annotated[
        int | None,
        typer.Option(min=1, help="Number of shards per index; default for dask: two per worker."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Update or rebuild the indexes and measure their recall.

    Search in small stores is exact, in larger ones approximate. The plan is printed first.

    Example: sleepfm-index reindex --index IVF4096,TC96x4fs --recall 0.995
    """
    import sleepfm_index

    sleepfm_index.reindex(
        store,
        index=index,
        recall=recall,
        rebuild=rebuild,
        targets=tuple(target) if target else None,
        engine=engine,
        scheduler=scheduler,
        workers=workers,
        shards=shards,
        notice=say,
    )
    with sleepfm_index.open(store) as opened:
        show_table(list(opened.info().indexes.items()), ("target", "search"))
