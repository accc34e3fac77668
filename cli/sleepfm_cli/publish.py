"""``sleepfm-index publish``: a store into an engine that serves it."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from sleepfm_cli.options import (
    DEFAULT_STORE,
    CollectionOption,
    StoreOption,
    UriOption,
    listed,
)
from sleepfm_cli.render import progress, say, show_table


class Server(enum.StrEnum):
    """Engines that a store can be published to."""

    milvus = "milvus"


def publish(
    uri: UriOption,
    to: Annotated[Server, typer.Option(help="The engine.")] = Server.milvus,
    collection: CollectionOption = "sleepfm_clips",
    targets: Annotated[
        str | None,
        typer.Option(help="Vector fields to make, e.g. bas,ecg,others_of_ecg; default all six."),
    ] = None,
    index: Annotated[
        str, typer.Option(help="Kind of index in the engine's words; FLAT is exact.")
    ] = "FLAT",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Make a collection hold exactly the clips of the store, and check that it does.

    The same command goes on where it was stopped, sends what was added since, and deletes what the
    store deleted. Example: sleepfm-index publish --to milvus --uri http://localhost:19530
    """
    import sleepfm_index
    from sleepfm_index.schema import TARGETS

    with progress(f"publishing to {to.value}") as bar:
        done = sleepfm_index.publish(
            store,
            uri,
            to=to.value,
            collection=collection,
            targets=tuple(listed(targets) or TARGETS),
            index=index,
            progress=lambda sent, total: bar.update(bar.task_ids[0], completed=sent, total=total),
        )
    rows = [(target, f"{recall:.3f}") for target, recall in done.recall.items()]
    show_table(rows, ("vectors", "recall@10"))
    say(
        f"{done.added:,} clips sent, {done.removed:,} removed; "
        f"{done.clips:,} clips in {done.collection} at {uri}"
    )
