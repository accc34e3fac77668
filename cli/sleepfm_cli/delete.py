"""``sleepfm-index delete``: delete clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sleepfm_cli.compact import tell_linked
from sleepfm_cli.options import DEFAULT_STORE, StoreOption, WhereOption
from sleepfm_cli.render import say


def delete(
    subject: Annotated[str | None, typer.Option(help="Every clip of this subject_id.")] = None,
    recording: Annotated[str | None, typer.Option(help="Every clip of this recording_id.")] = None,
    where: WhereOption = None,
    now: Annotated[
        bool,
        typer.Option("--now", help="Also erase them from the disk, including earlier snapshots."),
    ] = False,
    receipt: Annotated[
        Path | None,
        typer.Option(help="Write a JSON receipt: what was deleted, when, and from which files."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Delete clips from all answers, and with --now from the disk.

    Builds do not add a deleted subject again, nor a recording whose clips are all deleted, unless
    --readmit is given.

    Example: sleepfm-index delete --subject shhs1-200077
    """
    import sleepfm_index

    deletion = sleepfm_index.delete(
        store, subject=subject, recording=recording, where=where, now=now, receipt=receipt
    )
    withdrawn = f"; withdrawn: {', '.join(deletion.withdrawn)}" if deletion.withdrawn else ""
    say(f"{deletion.clips:,} clips deleted{withdrawn}")
    erased = deletion.erased
    if erased is None:
        say("run `sleepfm-index compact` to erase them from the disk")
    else:
        say(f"{len(erased.removed):,} files removed, {len(erased.written):,} written")
        tell_linked(erased)
    if receipt is not None:
        say(f"receipt -> {receipt}")
