"""Listing and tagging the snapshots to which a store can be restored."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.storage import paths
from sleepfm_index.storage.manifest import Manifest, read_manifest
from sleepfm_index.storage.snapshots import check_segments, file_name, snapshot_ids
from sleepfm_index.storage.writer import Writer

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Snapshot:
    """Description of a snapshot.

    Parameters
    ----------
    number : int
        Number of the snapshot.
    clips, recordings : int
        Number of clips and recordings, without deleted ones.
    written : float
        Time of the commit in seconds since 1970; if unknown, time of its file.
    current : bool
        Whether it is the current snapshot.
    missing : str
        Reason why it cannot be restored; empty if it can.
    tag : str
        Tag of the snapshot; empty if it has none.
    """

    number: int
    clips: int
    recordings: int
    written: float
    current: bool
    missing: str
    tag: str = ""


def snapshots(store: str | Path) -> list[Snapshot]:
    """List the snapshots of a store, the current one first.

    Parameters
    ----------
    store : path
        The store's folder.
    """
    path = Path(store)
    current = read_manifest(path)
    listed = [_describe(path, current, paths.MANIFEST)]
    for number in reversed(snapshot_ids(path)):
        if number != current.snapshot:
            name = file_name(number)
            try:
                listed.append(_describe(path, read_manifest(path, name), name))
            except FormatError as error:
                listed.append(Snapshot(number, 0, 0, 0.0, False, str(error)))
    tag_of_snapshot = {number: name for name, number in current.tags.items()}
    return [replace(s, tag=tag_of_snapshot.get(s.number, "")) for s in listed]


def tag(store: str | Path, name: str) -> int:
    """Give the current snapshot a tag, with which it is kept and can be restored.

    Parameters
    ----------
    store : path
        The store's folder.
    name : str
        The tag: letters, digits, ``.``, ``_`` and ``-``, not a number. An existing tag is moved.

    Returns
    -------
    int
        The number of the snapshot.

    Raises
    ------
    QueryError
        If the name is not a valid tag.
    StoreLocked
        If another process is writing.
    """
    if not _NAME.fullmatch(name) or name.isdecimal():
        raise QueryError(
            f"{name!r} is not a valid name for a snapshot; use letters, digits, '.', '_' and '-'"
        )
    with Writer(Path(store)) as writer:
        number = writer.manifest.snapshot
        writer.commit(replace(writer.manifest, tags={**writer.manifest.tags, name: number}))
    return number


def untag(store: str | Path, name: str) -> None:
    """Remove a tag; its snapshot is then kept no longer than others.

    Parameters
    ----------
    store : path
        The store's folder.
    name : str
        The tag.

    Raises
    ------
    QueryError
        If no snapshot has the tag.
    StoreLocked
        If another process is writing.
    """
    with Writer(Path(store)) as writer:
        if name not in writer.manifest.tags:
            known = ", ".join(writer.manifest.tags) or "none"
            raise QueryError(f"no snapshot is named {name!r}; names: {known}")
        kept = {other: number for other, number in writer.manifest.tags.items() if other != name}
        writer.commit(replace(writer.manifest, tags=kept))


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
        written=manifest.written or (store / name).stat().st_mtime,
        current=name == paths.MANIFEST,
        missing=missing,
    )
