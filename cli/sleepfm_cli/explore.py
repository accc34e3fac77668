"""``sleepfm-index explore``: a local page for exploring a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, StoreOption
from sleepfm_cli.render import answers, say


def explore(
    store: StoreOption = DEFAULT_STORE,
    allow_annotate: Annotated[
        bool,
        typer.Option(
            "--allow-annotate", help="Let the page write labels, in columns of their own."
        ),
    ] = False,
    probe: Annotated[
        list[Path] | None,
        typer.Option(help="A saved probe whose probabilities colour the map; may be repeated."),
    ] = None,
    view: Annotated[str, typer.Option(help="Open a view: the part of a copied link after #.")] = "",
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than localhost requires --token.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; by default 8707, or a free one."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="SLEEPFM_EXPLORE_TOKEN",
            help="Access token of at least 16 characters; default: random.",
        ),
    ] = None,
) -> None:
    """Explore a store on a local page in the browser.

    The page is read-only without --allow-annotate, and sends nothing to other machines. Press
    Ctrl-C to stop the server.
    """
    from sleepfm_index.explore.server import Explorer
    from sleepfm_index.runtime.memory import bounded_memory

    explorer = Explorer(
        store,
        host=host,
        port=port,
        token=token,
        annotate=allow_annotate,
        probes=probe or (),
        view=view,
    )
    answers().print(explorer.url, soft_wrap=True, markup=False)
    say("open this address in a browser; Ctrl-C stops the server", "dim")
    with bounded_memory():
        explorer.run()
