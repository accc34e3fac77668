"""Access modes of a store: private to its owner (0700/0600), or readable by the group (0750/0640).

The mode of the store's folder decides. New files and folders take the mode of their parent folder,
so every later commit keeps it. The group never has access to ``private/`` and ``quarantine/``, and
only the owner may write. A setgid bit of a folder is preserved, so new files belong to the group
of the folder.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from sleepfm_index.choices import StoreMode
from sleepfm_index.storage import paths

_OWNER_FILE: Final = 0o600
_OWNER_FOLDER: Final = 0o700
_GROUP_FILE: Final = 0o040
_GROUP_FOLDER: Final = 0o050
_OWNER_ONLY: Final = frozenset({paths.PRIVATE, paths.QUARANTINE, "staging"})


def open_file_as(folder: Path, handle: int) -> None:
    """Let the group read a new file if it may read the file's folder.

    Parameters
    ----------
    folder : Path
        Folder of the file.
    handle : int
        File descriptor of the open file.
    """
    if folder.stat().st_mode & _GROUP_FILE:
        os.fchmod(handle, _OWNER_FILE | _GROUP_FILE)


def open_folder_as(parent: Path, folder: Path) -> None:
    """Let the group read a new folder if it may read the parent folder.

    Parameters
    ----------
    parent : Path
        The parent: the store's folder or a folder in it.
    folder : Path
        The new folder.
    """
    if parent.stat().st_mode & _GROUP_FILE and folder.name not in _OWNER_ONLY:
        _set(folder, _OWNER_FOLDER | _GROUP_FOLDER)


def set_mode(store: Path, mode: StoreMode) -> None:
    """Set the access mode of a store and of all files and folders in it.

    Parameters
    ----------
    store : Path
        The store's folder.
    mode : {"private", "group"}
        Access for the owner only, or for the owner's group as well.
    """
    group = mode == "group"
    folder_mode = _OWNER_FOLDER | (_GROUP_FOLDER if group else 0)
    file_mode = _OWNER_FILE | (_GROUP_FILE if group else 0)
    for folder, names, files in os.walk(store):
        names[:] = [name for name in names if name not in _OWNER_ONLY]
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink() and name != paths.LOCK:
                path.chmod(file_mode)
        if Path(folder) != store:
            _set(Path(folder), folder_mode)
    _set(store, folder_mode)  # last, so that nothing is readable before everything is


def _set(folder: Path, mode: int) -> None:
    # chmod without the setgid bit would clear it.
    special = stat.S_IMODE(folder.stat().st_mode) & 0o7000
    folder.chmod(special | mode)
