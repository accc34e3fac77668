"""Who may read a store: its owner alone (0700/0600), or the owner's group as well (0750/0640).

The folder of the store says it, and whatever is made inside follows the folder that it lies in, so
every later commit keeps it. ``private/`` and ``quarantine/`` are never the group's. Only the owner
writes. A setgid bit of a folder stays, and what is made inside is of the folder's group.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from sleepfm_index.choices import StoreMode
from sleepfm_index.storage import paths

_OWN_FILE: Final = 0o600
_OWN_FOLDER: Final = 0o700
_GROUP_FILE: Final = 0o040
_GROUP_FOLDER: Final = 0o050
_OWNERS_ALONE: Final = frozenset({paths.PRIVATE, paths.QUARANTINE, "staging"})


def open_file_as(folder: Path, handle: int) -> None:
    """Let the group read a file that is being made, if it may enter its folder.

    Parameters
    ----------
    folder : Path
        Folder of the file.
    handle : int
        The open file.
    """
    if folder.stat().st_mode & _GROUP_FILE:
        os.fchmod(handle, _OWN_FILE | _GROUP_FILE)


def open_folder_as(parent: Path, folder: Path) -> None:
    """Let the group enter a folder that was made, if it may enter the one above.

    Parameters
    ----------
    parent : Path
        The folder above, which is the store's or lies in it.
    folder : Path
        The folder that was made.
    """
    if parent.stat().st_mode & _GROUP_FILE and folder.name not in _OWNERS_ALONE:
        _set(folder, _OWN_FOLDER | _GROUP_FOLDER)


def set_mode(store: Path, mode: StoreMode) -> None:
    """Open a store to its owner's group, or close it, with all that lies in it.

    Parameters
    ----------
    store : Path
        The store's folder.
    mode : {"private", "group"}
        Who may read it.
    """
    group = mode == "group"
    folder_mode = _OWN_FOLDER | (_GROUP_FOLDER if group else 0)
    file_mode = _OWN_FILE | (_GROUP_FILE if group else 0)
    for folder, names, files in os.walk(store):
        names[:] = [name for name in names if name not in _OWNERS_ALONE]
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink() and name != paths.LOCK:
                path.chmod(file_mode)
        if Path(folder) != store:
            _set(Path(folder), folder_mode)
    _set(store, folder_mode)  # last: nothing is open before all of it is


def _set(folder: Path, mode: int) -> None:
    # chmod without the setgid bit would take it away.
    special = stat.S_IMODE(folder.stat().st_mode) & 0o7000
    folder.chmod(special | mode)
