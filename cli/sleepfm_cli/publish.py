"""``sleepfm-index publish``: publish a store to a vector database."""

from __future__ import annotations

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
from sleepfm_index.choices import PublishEngine


def publish(
    uri: UriOption,
    to: Annotated[PublishEngine, typer.Option(help="Engine to publish to.")] = "milvus",
    collection: CollectionOption = "sleepfm_clips",
    targets: Annotated[
        str | None,
        typer.Option(help="Vector fields to create, e.g. bas,ecg,others_of_ecg; default: all."),
    ] = None,
    index: Annotated[
        str, typer.Option(help="Kind of index, as named by the engine; FLAT is exact.")
    ] = "FLAT",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Publish a store to a collection of a vector database, or update it.

    Sends missing clips, deletes those that the store deleted, and verifies the result. Run the same
    command again to resume or to update.

    Example: sleepfm-index publish --to milvus --uri http://localhost:19530
    """
    import sleepfm_index

    with progress(f"publishing to {to}") as bar:
        done = sleepfm_index.publish(
            store,
            uri,
            to=to,
            collection=collection,
            targets=tuple(listed(targets) or ()) or None,
            index=index,
            progress=lambda sent, total: bar.update(bar.task_ids[0], completed=sent, total=total),
        )
    rows = [(target, f"{recall:.3f}") for target, recall in done.recall.items()]
    show_table(rows, ("vectors", "recall@10"))
    say(
        f"{done.added:,} clips sent, {done.removed:,} removed; "
        f"{done.clips:,} clips in {done.collection} at {uri}"
    )
