"""``sleepfm-index move-recordings``: update the paths of moved recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, StoreOption
from sleepfm_cli.render import say


def move_recordings(
    old: Annotated[Path, typer.Argument(help="Folder where the recordings were.")],
    new: Annotated[Path, typer.Argument(help="Folder where they are after the move.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Update the paths of recordings that were moved.

    Example: sleepfm-index move-recordings /old/nights /data/nights
    """
    import sleepfm_index

    done = sleepfm_index.move_recordings(store, old, new)
    say(f"{len(done.moved):,} recordings found below {new}")
    if done.missing:
        more = f" and {len(done.missing) - 5:,} more" if len(done.missing) > 5 else ""
        say(f"not found: {', '.join(done.missing[:5])}{more}", "yellow")
