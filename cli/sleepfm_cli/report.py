"""``sleepfm-index report``: all evaluations on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sleepfm.escaping import escaped
from sleepfm_cli.options import (
    DEFAULT_STORE,
    IncludeSeenOption,
    ReplicatesOption,
    SeedOption,
    StoreOption,
)
from sleepfm_cli.outputs import expect_output, load_matplotlib
from sleepfm_cli.render import answers, messages, say


def report(
    out: Annotated[Path, typer.Option(help="Output HTML file.")] = Path("report.html"),
    gallery: Annotated[
        int, typer.Option(min=1, help="Maximum number of clips for retrieval.")
    ] = 10_000,
    seed: SeedOption = 0,
    replicates: ReplicatesOption = None,
    map_: Annotated[
        str, typer.Option("--map", help="Method of the embedding map: pca or umap.")
    ] = "pca",
    include_seen: IncludeSeenOption = False,
    dpi: Annotated[
        int, typer.Option(min=30, max=1200, help="Dots per inch of the figures that are PNG.")
    ] = 200,
    style: Annotated[
        str | None, typer.Option(help="A matplotlib style, or an .mplstyle file.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write an HTML report of all tables and figures.

    Figures are SVG; those that would be larger than 0.5 MB as SVG, such as a map of thousands of
    clips, are PNG.
    """
    import sleepfm_index
    from sleepfm_index.evaluation.figures.report import write_report

    expect_output(out)
    load_matplotlib()
    with sleepfm_index.open(store) as opened, messages.status("evaluating") as status:

        def show(section: str) -> None:
            if messages.is_terminal:
                status.update(f"evaluating: {escape(escaped(section))}")
            else:
                say(f"evaluating: {section}")

        path = write_report(
            opened,
            out,
            gallery=gallery,
            seed=seed,
            map_method=map_,
            include_seen=include_seen,
            dpi=dpi,
            style=style,
            notice=show,
        )
    answers().print(escaped(path), markup=False, soft_wrap=True)
