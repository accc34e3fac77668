"""Names in a folder, listed once while the folder does not change."""

from __future__ import annotations

import functools
import os
from pathlib import Path


def names_in(folder: Path) -> tuple[str, ...]:
    """Return the names in a folder.

    Parameters
    ----------
    folder : Path
        A folder, which may be missing.

    Returns
    -------
    tuple of str
        Sorted names; empty where the folder cannot be read.
    """
    return _names(str(folder), changed(folder))


def folders_in(folder: Path) -> tuple[Path, ...]:
    """Return the subfolders of a folder.

    Parameters
    ----------
    folder : Path
        A folder, which may be missing.

    Returns
    -------
    tuple of Path
        Sorted by name; empty where the folder cannot be read.
    """
    return _folders(str(folder), changed(folder))


def changed(folder: Path) -> int:
    """Return when a folder was last changed, which identifies its list of names.

    Parameters
    ----------
    folder : Path
        A folder, which may be missing.

    Returns
    -------
    int
        Nanoseconds; 0 where the folder cannot be read.
    """
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=256)
def _names(folder: str, changed: int) -> tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(folder)))  # noqa: PTH208, faster for a large cohort
    except OSError:
        return ()


@functools.lru_cache(maxsize=256)
def _folders(folder: str, changed: int) -> tuple[Path, ...]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError:
        return ()
    return tuple(Path(folder, name) for name in sorted(names))
