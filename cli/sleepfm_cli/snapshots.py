"""``sleepfm-index snapshots`` and ``restore``: earlier states of a store."""

from __future__ import annotations

import datetime
from dataclasses import asdict
from typing import Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, Format, FormatOption, StoreOption
from sleepfm_cli.render import say, show_json, show_table


def snapshots(
    tag: Annotated[
        str | None, typer.Option(help="Name the current snapshot; named snapshots are kept.")
    ] = None,
    untag: Annotated[str | None, typer.Option(help="Remove a name.")] = None,
    format: FormatOption = Format.table,  # noqa: A002
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """List the snapshots that can be restored."""
    import sleepfm_index

    if format not in (Format.table, Format.json):
        raise typer.BadParameter("snapshots supports the formats table and json")
    if tag is not None:
        say(f"snapshot {sleepfm_index.tag(store, tag)} is named {tag}")
    if untag is not None:
        sleepfm_index.untag(store, untag)
        say(f"the name {untag} is removed")
    listed = sleepfm_index.snapshots(store)
    if format is Format.json:
        show_json([asdict(s) for s in listed])
        return
    show_table(
        [
            (
                s.number,
                s.tag,
                datetime.datetime.fromtimestamp(s.written).isoformat(" ", "seconds"),
                s.clips,
                s.recordings,
                "current" if s.current else s.missing or "can be restored",
            )
            for s in listed
        ],
        ("snapshot", "name", "committed", "clips", "recordings", ""),
    )


def restore(
    snapshot: Annotated[str, typer.Argument(help="Number or name, as listed by snapshots.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Restore an earlier snapshot; the current one is kept.

    Clips deleted after that snapshot come back, and recordings added after it leave the store.
    """
    import sleepfm_index

    restored = sleepfm_index.restore(store, snapshot)
    say(
        f"snapshot {snapshot} is restored as {restored.number}: "
        f"{restored.clips:,} clips of {restored.recordings:,} recordings"
    )
