"""Listing the snapshots that one can go back to."""

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
    """A snapshot one can see or go back to.

    Parameters
    ----------
    number : int
    clips, recordings : int
        What it holds, deleted ones left out.
    written : float
        When it was committed, in seconds since 1970; of a snapshot that does not say, when its
        file was written.
    current : bool
    missing : str
        Why it cannot be restored; empty where it can.
    tag : str
        The name that somebody gave it; empty where nobody did.
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
    found = [_describe(path, current, paths.MANIFEST)]
    for number in reversed(snapshot_ids(path)):
        if number != current.snapshot:
            name = file_name(number)
            try:
                found.append(_describe(path, read_manifest(path, name), name))
            except FormatError as error:
                found.append(Snapshot(number, 0, 0, 0.0, False, str(error)))
    names = {number: name for name, number in current.tags.items()}
    return [replace(s, tag=names.get(s.number, "")) for s in found]


def tag(store: str | Path, name: str) -> int:
    """Return the current snapshot a name, under which it is kept and can be restored.

    Parameters
    ----------
    store : path
        The store's folder.
    name : str
        Letters, digits, ``.``, ``_`` and ``-``, not a number; one that was given before moves here.

    Returns
    -------
    int
        The number of the snapshot.

    Raises
    ------
    QueryError
        If the name is none.
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
    """Remove a name from its snapshot, which is then kept no longer than others.

    Parameters
    ----------
    store : path
        The store's folder.
    name : str
        The name.

    Raises
    ------
    QueryError
        If no snapshot has the name.
    StoreLocked
        If another process is writing.
    """
    with Writer(Path(store)) as writer:
        if name not in writer.manifest.tags:
            known = ", ".join(writer.manifest.tags) or "none"
            raise QueryError(f"no snapshot is named {name!r}; names: {known}")
        left = {n: at for n, at in writer.manifest.tags.items() if n != name}
        writer.commit(replace(writer.manifest, tags=left))


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
