"""``sleepfm-index compact``: merge segments and erase deleted clips from the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, StoreOption
from sleepfm_cli.render import say

if TYPE_CHECKING:
    from sleepfm_index import Compaction


def compact(
    keep_snapshots: Annotated[
        int,
        typer.Option(min=0, help="Earlier snapshots to keep, with their files and clips."),
    ] = 0,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Merge small segments, and erase deleted clips.

    Needs as much free disk space as the rewritten segments until it is done. If it is stopped,
    nothing is lost; run it again.
    """
    import sleepfm_index

    done = sleepfm_index.compact(store, keep_snapshots=keep_snapshots)
    say(
        f"{done.segments_before:,} segments became {done.segments_after:,}; "
        f"{done.clips_removed:,} deleted clips removed, {done.bytes_freed / 1e6:,.1f} MB freed"
    )
    tell_linked(done)
    if done.quarantined:
        say(
            f"quarantine/ holds {done.quarantined:,} files, which may contain deleted clips; check "
            "them and remove the folder",
            "yellow",
        )
    if done.named:
        say(
            f"the tagged snapshots {', '.join(done.named)} are kept with the clips deleted since; "
            "remove a tag with `sleepfm-index snapshots --untag NAME`",
            "bold red",
        )
    if keep_snapshots and done.clips_removed:
        say("the kept snapshots may still contain deleted clips", "yellow")


def tell_linked(done: Compaction) -> None:
    """Report files that are hard-linked outside the store."""
    if done.linked:
        more = f" and {len(done.linked) - 3:,} more" if len(done.linked) > 3 else ""
        say(
            f"hard links outside the store keep the contents of {', '.join(done.linked[:3])}{more}",
            "bold red",
        )
