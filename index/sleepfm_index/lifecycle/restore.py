"""Restoring: an earlier snapshot is published again, as the newest one."""

from __future__ import annotations

from pathlib import Path

from sleepfm_index.errors import QueryError
from sleepfm_index.lifecycle.snapshots import Snapshot, snapshots
from sleepfm_index.storage.snapshots import restorable
from sleepfm_index.storage.writer import Writer


def restore(store: str | Path, snapshot: int | str) -> Snapshot:
    """Restore an earlier snapshot; the current one is kept as a snapshot.

    Clips deleted since then come back, and clips added since then disappear. Clip ids continue
    from the current snapshot, so that none is assigned twice.

    Parameters
    ----------
    store : path
        The store's folder.
    snapshot : int or str
        Number or tag of the snapshot.

    Returns
    -------
    Snapshot
        The new current snapshot.

    Raises
    ------
    QueryError
        If the snapshot is not kept, or the tag does not exist.
    FormatError
        If files that it needs were removed by ``compact`` or are damaged.
    StoreLocked
        If another process is writing.
    """
    with Writer(Path(store)) as writer:
        number = writer.manifest.tags.get(str(snapshot))
        if number is None:
            if not str(snapshot).isdecimal():
                known = ", ".join(writer.manifest.tags) or "none"
                raise QueryError(f"no snapshot is named {snapshot!r}; names: {known}")
            number = int(snapshot)
        writer.commit(restorable(writer.path, number, writer.manifest))
        return snapshots(writer.path)[0]
