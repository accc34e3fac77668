"""Recordings that were moved: the store's private list of files follows them."""

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
        Recordings whose file is there.
    missing : tuple of str
        Recordings of the old place whose file is not there; they are listed as before.
    """

    moved: tuple[str, ...]
    missing: tuple[str, ...]


def move_recordings(store: str | Path, old: str | Path, new: str | Path) -> Moved:
    """Note that recordings lie elsewhere than when they were built.

    Parameters
    ----------
    store : path
        The store's folder.
    old, new : path
        A folder that held recordings, or a recording, and where it is today.

    Returns
    -------
    Moved

    Raises
    ------
    StoreError
        If no recording of the store lay below ``old``, or none is found below ``new``.
    StoreLocked
        If another process is writing.
    """
    before, after = Path(old).absolute(), Path(new).resolve()
    with Writer(Path(store)) as writer:
        known = private.files(writer.path)
        roots = (before, before.resolve())
        places: dict[str, Path] = {}
        for name, file in known.items():
            root = next((r for r in roots if file.is_relative_to(r)), None)
            if root is not None:
                places[name] = after / file.relative_to(root)
        if not places:
            raise StoreError(f"no recording of {writer.path} was below {before}")
        moved = {name: place for name, place in places.items() if place.is_file()}
        if not moved:
            raise StoreError(f"none of the {len(places):,} recordings was found below {after}")
        private.move_files(writer.path, moved)
    return Moved(tuple(sorted(moved)), tuple(sorted(places.keys() - moved.keys())))
