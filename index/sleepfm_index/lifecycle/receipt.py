"""The receipt of a deletion: removed clips, time, and removed and remaining files."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sleepfm import __version__
from sleepfm.atomic_write import write_bytes
from sleepfm_index.errors import StoreError
from sleepfm_index.lifecycle.compact import Compaction, files_of
from sleepfm_index.storage import snapshots
from sleepfm_index.storage.manifest import Manifest


def check_receipt(path: Path, store: Path) -> None:
    """Check the path of a receipt before anything is deleted.

    Parameters
    ----------
    path : Path
        Path of the receipt.
    store : Path
        The store's folder.

    Raises
    ------
    StoreError
        If the path exists, its folder does not, or it lies in the store.
    """
    if path.exists() or path.is_symlink():
        raise StoreError(f"{path} already exists; choose another path for the receipt")
    if not path.parent.is_dir():
        raise StoreError(f"there is no folder {path.parent} for the receipt")
    if path.parent.resolve().is_relative_to(store.resolve()):
        raise StoreError(f"{path} is inside the store; choose another path for the receipt")


def write_receipt(
    path: Path,
    store: Path,
    before: Manifest,
    after: Manifest,
    *,
    selection: Mapping[str, str],
    clips: Mapping[str, int],
    recordings: list[dict[str, Any]],
    erased: Compaction | None,
) -> None:
    """Write the receipt of a deletion as JSON.

    Parameters
    ----------
    path : Path
        The file to write.
    store : Path
        The store's folder.
    before, after : Manifest
        Manifests before and right after the deletion.
    selection : mapping of str to str
        The argument of :func:`~.delete.delete` that selected the clips, by name.
    clips : mapping of str to int
        Number of deleted clips by recording.
    recordings : list of dict
        ``recording_id``, ``source`` and ``signals`` of the recordings without remaining clips.
    erased : Compaction or None
        Result of the compaction, if the clips were erased from the disk.
    """
    receipt: dict[str, Any] = {
        "receipt": "deletion from a sleepfm-index store",
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "program": f"sleepfm-index {__version__}",
        "store": before.uuid,
        "deleted": dict(selection),
        "clips": sum(clips.values()),
        "clips_by_recording": dict(clips),
        "recordings_withdrawn": recordings,
        "snapshot_before": before.snapshot,
        "snapshot_after": after.snapshot,
        "erased_from_disk": erased is not None,
    }
    if erased is None:
        remaining = files_of([after], deleted_only=True)
        receipt["files_that_still_hold_them"] = _listed(remaining)
        receipt["snapshots_that_still_hold_them"] = snapshots.snapshot_ids(store)
        receipt["to_erase"] = "sleepfm-index delete --now, or compact"
    else:
        receipt |= {
            "files_removed": _listed(erased.removed),
            "files_written": _listed(erased.written),
            "files_with_names_outside_the_store": list(erased.linked),
            "files_removed_from_quarantine": erased.quarantined,
        }
    text = json.dumps(receipt, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def _listed(files: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"file": name, "bytes": entry.bytes, "sha256": entry.sha256}
        for name, entry in sorted(files.items())
    ]
