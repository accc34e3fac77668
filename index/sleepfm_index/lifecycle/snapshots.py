"""Listing the snapshots that one can go back to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sleepfm_index.errors import FormatError
from sleepfm_index.storage import paths
from sleepfm_index.storage.manifest import Manifest, read_manifest
from sleepfm_index.storage.snapshots import check_segments, file_name, numbers


@dataclass(frozen=True)
class Snapshot:
    """A snapshot one can see or go back to.

    Parameters
    ----------
    number : int
    clips, recordings : int
        What it holds, deleted ones left out.
    written : float
        When it was committed, in seconds since 1970, by the file system.
    current : bool
    missing : str
        Why it cannot be restored; empty where it can.
    """

    number: int
    clips: int
    recordings: int
    written: float
    current: bool
    missing: str


def snapshots(store: str | Path) -> list[Snapshot]:
    """List the snapshots of a store, the current one first."""
    path = Path(store)
    current = read_manifest(path)
    found = [_describe(path, current, paths.MANIFEST)]
    for number in reversed(numbers(path)):
        if number != current.snapshot:
            name = file_name(number)
            try:
                found.append(_describe(path, read_manifest(path, name), name))
            except FormatError as error:
                found.append(Snapshot(number, 0, 0, 0.0, False, str(error)))
    return found


def _describe(store: Path, manifest: Manifest, name: str) -> Snapshot:
    missing = ""
    try:
        check_segments(store, manifest)
    except FormatError as error:
        missing = str(error)
    return Snapshot(
        number=manifest.snapshot,
        clips=manifest.rows,
        recordings=len(manifest.sources),
        written=(store / name).stat().st_mtime,
        current=name == paths.MANIFEST,
        missing=missing,
    )
