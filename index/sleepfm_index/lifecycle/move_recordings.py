"""Updating the store's private list of paths after recordings were moved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sleepfm_index.errors import StoreError
from sleepfm_index.storage import private
from sleepfm_index.storage.writer import Writer


@dataclass(frozen=True)
class Moved:
    """Recordings found at the new path.

    Parameters
    ----------
    moved : tuple of str
        Recordings whose file exists at the new path.
    missing : tuple of str
        Recordings below the old path whose file does not exist at the new one; their stored paths
        do not change.
    """

    moved: tuple[str, ...]
    missing: tuple[str, ...]


def move_recordings(store: str | Path, old: str | Path, new: str | Path) -> Moved:
    """Update the stored paths of recordings that were moved.

    Parameters
    ----------
    store : path
        The store's folder.
    old, new : path
        Former and present path of a folder with recordings, or of one recording.

    Returns
    -------
    Moved

    Raises
    ------
    StoreError
        If no stored path lies below ``old``, or no file is found below ``new``.
    StoreLocked
        If another process is writing.
    """
    before, after = Path(old).absolute(), Path(new).resolve()
    with Writer(Path(store)) as writer:
        known = private.files(writer.path)
        roots = (before, before.resolve())
        new_paths: dict[str, Path] = {}
        for name, file in known.items():
            root = next((r for r in roots if file.is_relative_to(r)), None)
            if root is not None:
                new_paths[name] = after / file.relative_to(root)
        if not new_paths:
            raise StoreError(f"no recording of {writer.path} was below {before}")
        moved = {name: path for name, path in new_paths.items() if path.is_file()}
        if not moved:
            raise StoreError(f"none of the {len(new_paths):,} recordings was found below {after}")
        private.move_files(writer.path, moved)
    return Moved(tuple(sorted(moved)), tuple(sorted(new_paths.keys() - moved.keys())))
