"""Atomic writing of files: a file is complete or absent, and an older one stays until replaced.

For files outside a store: weights, logs, tables, figures. They are readable by their owner only
(mode 0600) until the user changes that. A store has its own commit protocol.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

from sleepfm.errors import OutputError


def write_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file under a temporary name in its folder, then rename it.

    Parameters
    ----------
    path : Path
        Final path; an existing file is replaced.
    write : callable
        Called with a temporary path with the same extension, to which it writes the content.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    OutputError
        If the file cannot be written; ``path`` is unchanged.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        # Private from the first byte on: it may contain signals, subjects or predictions.
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        write(temporary)
        _make_private(temporary)
        _sync(temporary)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path.name} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def check_writable(path: Path, endings: Collection[str] = (), *, folder: bool = False) -> Path:
    """Refuse an output path that cannot be written, before the work that produces the output.

    Parameters
    ----------
    path : Path
        File or folder to be written.
    endings : collection of str
        Allowed extensions, e.g. ``(".png", ".svg")``; by default any.
    folder : bool
        Whether the output is a folder, which is created with its parents if missing.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    OutputError
        If the extension is not allowed, a folder exists where a file is expected or vice versa, or
        the location is not writable.
    """
    if endings and path.suffix.lower() not in endings:
        raise OutputError(
            f"{path.name or path} has no ending that is known here; name it with "
            f"{', '.join(sorted(endings))}"
        )
    if path.exists() and path.is_dir() != folder:
        raise OutputError(f"{path} is a {'file' if folder else 'folder'}; choose another name")
    parent = path if folder else path.parent
    while folder and not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise OutputError(f"{path.name} cannot be written: there is no folder {parent}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path.name} cannot be written: permission denied in {parent}")
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file atomically, and create its folder if missing.

    Parameters
    ----------
    path : Path
        File to write.
    content : bytes
        Content of the file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        If the file cannot be written; ``path`` is unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OutputError(f"{path.name} cannot be written: {error.strerror}") from error
    return write_file(path, lambda temporary: temporary.write_bytes(content))


def _make_private(path: Path) -> None:
    # The writer may have replaced the file by another one.
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
