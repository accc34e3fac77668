"""``sleepfm-index report``: everything on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, ReplicatesOption, SeedOption, StoreOption
from sleepfm_cli.render import answers, messages


def report(
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    gallery: Annotated[
        int, typer.Option(min=1, help="Draw at most so many clips for retrieval.")
    ] = 10_000,
    seed: SeedOption = 0,
    replicates: ReplicatesOption = 500,
    map_: Annotated[str, typer.Option("--map", help="Map of embeddings: pca or umap.")] = "pca",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write one self-contained page with all tables and figures and what made them."""
    import sleepfm_index
    from sleepfm_index.evaluation.figures.report import write_report

    with sleepfm_index.open(store) as opened, messages.status("measuring everything"):
        path = write_report(
            opened,
            out,
            gallery=gallery,
            seed=seed,
            replicates=replicates,
            map_method=map_,
        )
    answers().print(str(path), markup=False, soft_wrap=True)
