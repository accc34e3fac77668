"""Files that are whole or not there; an older file stays until the last moment.

For files outside a store: weights, logs, tables, figures, for their owner alone (0600) until
somebody widens it. A store has its own commit protocol.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

from sleepfm.errors import OutputError


def write_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Have a file written under a temporary name in its folder, then rename it.

    Parameters
    ----------
    path : Path
        Final place; an existing file there is replaced.
    write : callable
        Writes the whole content to the path that it is given, which has the same ending.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    OutputError
        If it cannot be written; ``path`` is as it was.
    """
    aside = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        # Ours alone from the first byte on: it may hold signals, subjects, or what was predicted.
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        write(aside)
        _no_wider(aside)
        _sync(aside)
        aside.replace(path)
    except OSError as error:
        raise OutputError(f"{path.name} cannot be written: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)
    return path


def check_writable(path: Path, endings: Collection[str] = (), *, folder: bool = False) -> Path:
    """Refuse a place where nothing can be written, before the work whose result is to be there.

    Parameters
    ----------
    path : Path
        File or folder to be written.
    endings : collection of str
        Endings that it may have, e.g. ``(".png", ".svg")``; by default any.
    folder : bool
        Whether it is a folder, which is made with those above it if it is not there.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    OutputError
        If it has another ending, is a folder where a file is meant or the other way round, or if
        nothing can be written where it is to be.
    """
    if endings and path.suffix.lower() not in endings:
        raise OutputError(
            f"{path.name or path} has no ending that is known here; name it with "
            f"{', '.join(sorted(endings))}"
        )
    if path.exists() and path.is_dir() != folder:
        raise OutputError(f"{path} is a {'file' if folder else 'folder'}; choose another name")
    place = path if folder else path.parent
    while folder and not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise OutputError(f"{path.name} cannot be written: there is no folder {place}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{path.name} cannot be written: permission denied in {place}")
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file's whole content, making its folder where there is none.

    Parameters
    ----------
    path : Path
        File to write.
    content : bytes
        All that it will hold.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        If it cannot be written; ``path`` is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OutputError(f"{path.name} cannot be written: {error.strerror}") from error
    return write_file(path, lambda aside: aside.write_bytes(content))


def _no_wider(path: Path) -> None:
    # Whatever wrote it may have put another file in its place.
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
