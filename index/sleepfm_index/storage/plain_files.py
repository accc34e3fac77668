"""Small files of a store that are read whole: plain ones of its own, and of bounded size."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, Final

from sleepfm_index.errors import FormatError

_MOST_OBJECTS: Final = 1 << 21
"""Objects and lists of a manifest; 14,000 segments have 130,000."""


def open_plain(path: Path, flags: int) -> int:
    """Open a plain file of ours, never through a link, and without waiting for a pipe.

    Parameters
    ----------
    path : Path
        The file.
    flags : int
        As for :func:`os.open`; ``O_NOFOLLOW`` and ``O_NONBLOCK`` are added.

    Raises
    ------
    FormatError
        If it is a link, or no plain file.
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


def read_plain(path: Path, most: int) -> bytes:
    """Read a plain file, one byte more than is allowed at most.

    Parameters
    ----------
    path : Path
        The file.
    most : int
        Bytes that it may have.
    """
    with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
        return file.read(most + 1)


def read_json(path: Path, most: int) -> Any:
    """Read JSON that cannot take all memory.

    Parameters
    ----------
    path : Path
        The file.
    most : int
        Bytes that it may have.

    Raises
    ------
    FormatError
        If it is a link, no plain file, larger, or of more objects than a manifest can have.
    ValueError, RecursionError
        If it is no JSON.
    """
    if not path.is_symlink() and path.stat().st_size > most:
        raise FormatError(f"{path} is too large for a manifest")
    content = read_plain(path, most)
    if content.count(b"{") + content.count(b"[") > _MOST_OBJECTS:
        raise FormatError(f"{path} has too many entries for a manifest")
    return json.loads(content)
