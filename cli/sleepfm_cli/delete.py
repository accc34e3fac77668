"""``sleepfm-index delete``: clips out."""

from __future__ import annotations

from typing import Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, StoreOption, WhereOption
from sleepfm_cli.render import say


def delete(
    subject: Annotated[str | None, typer.Option(help="Every clip of this subject_id.")] = None,
    recording: Annotated[str | None, typer.Option(help="Every clip of this recording_id.")] = None,
    where: WhereOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Delete clips from all answers; compact removes them from disk.

    A recording of which nothing is left is not brought back by building it again.

    Example: sleepfm-index delete --subject shhs1-200077
    """
    import sleepfm_index

    done = sleepfm_index.delete(store, subject=subject, recording=recording, where=where)
    gone = f"; withdrawn: {', '.join(done.withdrawn)}" if done.withdrawn else ""
    say(f"{done.clips:,} clips deleted{gone}")
    say("their bytes leave the disk with `sleepfm-index compact`")
