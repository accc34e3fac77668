"""The receipt of a deletion: what was removed, when, and what became of the files."""

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
        Of the receipt.
    store : Path
        The store's folder.

    Raises
    ------
    StoreError
        If there is something already, no folder to write in, or it lies in the store.
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
    asked: Mapping[str, str],
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
        Before the deletion and right after it.
    asked : mapping of str to str
        What was to be deleted.
    clips : mapping of str to int
        Clips deleted of each recording.
    recordings : list of dict
        ``recording_id``, ``source`` and ``signals`` of those of which nothing is left.
    erased : Compaction or None
        What left the disk.
    """
    told: dict[str, Any] = {
        "receipt": "deletion from a sleepfm-index store",
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "program": f"sleepfm-index {__version__}",
        "store": before.uuid,
        "deleted": dict(asked),
        "clips": sum(clips.values()),
        "clips_by_recording": dict(clips),
        "recordings_withdrawn": recordings,
        "snapshot_before": before.snapshot,
        "snapshot_after": after.snapshot,
        "erased_from_disk": erased is not None,
    }
    if erased is None:
        holding = files_of([after], deleted_only=True)
        told["files_that_still_hold_them"] = _listed(holding)
        told["snapshots_that_still_hold_them"] = snapshots.snapshot_ids(store)
        told["to_erase"] = "sleepfm-index delete --now, or compact"
    else:
        told |= {
            "files_removed": _listed(erased.removed),
            "files_written": _listed(erased.written),
            "files_with_names_outside_the_store": list(erased.linked),
            "files_removed_from_quarantine": erased.quarantined,
        }
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def _listed(files: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"file": name, "bytes": entry.bytes, "sha256": entry.sha256}
        for name, entry in sorted(files.items())
    ]
