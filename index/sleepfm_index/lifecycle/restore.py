"""Restoring: an earlier snapshot is published again, as the newest one."""

from __future__ import annotations

from pathlib import Path

from sleepfm_index.lifecycle.snapshots import Snapshot, snapshots
from sleepfm_index.storage.snapshots import restorable
from sleepfm_index.storage.writer import Writer


def restore(store: str | Path, snapshot: int) -> Snapshot:
    """Go back to an earlier snapshot; what is left behind is kept as an earlier snapshot itself.

    Clips that were deleted since come back, clips that were added since are gone, and clip ids go
    on from where they were, so none is ever given twice.

    Raises
    ------
    QueryError
        If the snapshot is not kept.
    FormatError
        If files that it needs were removed by ``compact`` or are damaged.
    StoreLocked
        If another process is writing.
    """
    with Writer(Path(store)) as writer:
        writer.commit(restorable(writer.path, snapshot, writer.manifest))
        return snapshots(writer.path)[0]
