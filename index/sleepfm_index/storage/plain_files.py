"""Reading files of a store: regular files only, of bounded or known size."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, Final

from sleepfm_index.errors import FormatError

_MAX_OBJECTS: Final = 1 << 21
"""Maximum number of objects and lists of a manifest; 14,000 segments have 130,000."""


def open_plain(path: Path, flags: int) -> int:
    """Open a regular file; never follow a link, never wait for a pipe.

    Parameters
    ----------
    path : Path
        The file.
    flags : int
        As in :func:`os.open`; ``O_NOFOLLOW`` and ``O_NONBLOCK`` are added.

    Raises
    ------
    FormatError
        If the path is a link or not a regular file.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise FormatError(f"{path} is a symbolic link, which a store does not allow") from error
        if path.exists() and not path.is_file():
            raise FormatError(f"{path} is not a plain file") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FormatError(f"{path} is not a plain file")
    return handle


def check_folder(folder: Path) -> Path:
    """Refuse a folder of a store that is a link or not a folder; return its path.

    Parameters
    ----------
    folder : Path
        The folder, which may be missing.

    Raises
    ------
    FormatError
        If the path is a link or not a folder.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FormatError(f"{folder} is a link or not a folder")
    return folder


def read_plain(path: Path, max_bytes: int) -> bytes:
    """Read at most ``max_bytes + 1`` bytes of a regular file.

    A result of more than ``max_bytes`` tells the caller that the file is too large.

    Parameters
    ----------
    path : Path
        The file.
    max_bytes : int
        Maximum size in bytes.
    """
    with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
        return file.read(max_bytes + 1)


def read_json(path: Path, max_bytes: int) -> Any:
    """Read a JSON file with limits on its size and its number of objects.

    Parameters
    ----------
    path : Path
        The file.
    max_bytes : int
        Maximum size in bytes.

    Raises
    ------
    FormatError
        If the file is a link, not a regular file, too large, or has too many objects.
    ValueError, RecursionError
        If the content is not valid JSON.
    """
    if not path.is_symlink() and path.stat().st_size > max_bytes:
        raise FormatError(f"{path} is too large for a manifest")
    content = read_plain(path, max_bytes)
    if content.count(b"{") + content.count(b"[") > _MAX_OBJECTS:
        raise FormatError(f"{path} has too many entries for a manifest")
    return json.loads(content)


def check_plain(store: Path, *names: str, size: int) -> Path:
    """Refuse a published file that is missing, a link, or of the wrong size.

    Parameters
    ----------
    store : Path
        The store's folder; it may itself be a symbolic link.
    *names : str
        Path components below the store's folder, the last one being the file name.
    size : int
        Size in bytes according to the manifest.

    Returns
    -------
    Path
        Path of the file.

    Raises
    ------
    FormatError
        If the file is missing, a link, not a regular file, or of another size.
    """
    path = store
    for name in names:
        path = path / name
        if path.is_symlink():
            raise FormatError(f"{path} is a symbolic link, which a store does not allow")
    if not path.is_file():
        raise FormatError(f"{path} is missing or not a plain file; run `sleepfm-index verify`")
    actual = path.stat().st_size
    if actual != size:
        raise FormatError(
            f"{path} has {actual:,} bytes, the manifest states {size:,}; run `sleepfm-index verify`"
        )
    return path
