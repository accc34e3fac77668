"""Files to which whole lines are appended, each with a checksum of its own.

A crash can leave the last line incomplete. It was never acknowledged, so the next writer cuts it
off; a complete line that lacks only its line feed stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sleepfm_index.errors import FormatError
from sleepfm_index.storage.files import sync_folder
from sleepfm_index.storage.modes import open_file_as
from sleepfm_index.storage.plain_files import open_plain

_LONGEST: Final = 1 << 20
"""Maximum length of a line in bytes."""


def append_lines(path: Path, lines: bytes, is_whole: Callable[[bytes], bool]) -> None:
    """Append lines to a file and sync it: all of them, or none if it fails.

    Writers must exclude each other.

    Parameters
    ----------
    path : Path
        The file, which is created if missing.
    lines : bytes
        Lines with their line feeds.
    is_whole : callable
        Function that tells whether a last line without its line feed is complete.

    Raises
    ------
    FormatError
        If the file is a link or not a regular file, or its last line is too long for one.
    """
    new = not path.exists()
    handle = open_plain(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        if new:
            open_file_as(path.parent, handle)
        before = _cut_torn_line(path, handle, is_whole)
        try:
            if before and os.pread(handle, 1, before - 1) != b"\n":
                lines = b"\n" + lines
            while lines:
                lines = lines[os.write(handle, lines) :]
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, before)
            raise
    finally:
        os.close(handle)
    if new:
        sync_folder(path.parent)


def _cut_torn_line(path: Path, handle: int, is_whole: Callable[[bytes], bool]) -> int:
    """Remove an incomplete last line; return the size of the file."""
    size = os.fstat(handle).st_size
    start = max(0, size - _LONGEST)
    *earlier, last = os.pread(handle, size - start, start).split(b"\n")
    if start and not earlier:
        raise FormatError(f"the last line of {path} is too long; run `sleepfm-index verify`")
    if last and not is_whole(last):
        size -= len(last)
        os.ftruncate(handle, size)
    return size
