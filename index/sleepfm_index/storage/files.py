"""Writing files of a store: temporary file, sync, rename, sync of the folder.

Every byte that a store publishes goes through here; tests break the order of writes and syncs.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sleepfm_index.storage.modes import open_file_as, open_folder_as

_CHUNK: Final = 1 << 22
_BUFFER: Final = 1 << 20

Identity = tuple[int, int]
"""Device and inode: which file or folder a name stands for at the moment."""
_records: list[dict[Path, Identity]] = []


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 of a published file.

    Parameters
    ----------
    bytes : int
        Size.
    sha256 : str
        Hexadecimal digest.
    """

    bytes: int
    sha256: str


def fingerprint(path: Path) -> FileEntry:
    """Size and SHA-256 of a file, read in pieces.

    Parameters
    ----------
    path : Path
        The file.
    """
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
            size += len(piece)
    return FileEntry(size, digest.hexdigest())


class _Disk(io.RawIOBase):
    """A file being written, with the access mode of its folder; hashed while it is written."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._handle = os.open(path, flags, 0o600)
        open_file_as(path.parent, self._handle)
        self._digest = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        piece = memoryview(data).cast("B")[:_CHUNK]
        if len(piece) < _CHUNK:
            self._digest.update(piece)
            self._put(piece)
        else:
            # Hashed in a second thread during the write.
            hashing = threading.Thread(target=self._digest.update, args=(piece,))
            hashing.start()
            try:
                self._put(piece)
            finally:
                hashing.join()
        self._size += len(piece)
        return len(piece)

    def _put(self, piece: memoryview) -> None:
        while piece:
            piece = piece[os.write(self._handle, piece) :]

    def sync(self) -> FileEntry:
        os.fsync(self._handle)
        return FileEntry(self._size, self._digest.hexdigest())

    def close(self) -> None:
        if not self.closed:
            os.close(self._handle)
            super().close()


class Sink(io.BufferedWriter):
    """Sink for the content of a file, which is durable after :meth:`sync`.

    Parameters
    ----------
    path : Path
        The file to write.
    """

    def __init__(self, path: Path) -> None:
        self._disk = _Disk(path)
        super().__init__(self._disk, _BUFFER)

    def sync(self) -> FileEntry:
        """Make the content durable; return its size and SHA-256."""
        self.flush()
        return self._disk.sync()

    def abandon(self) -> None:
        """Close without writing what is still buffered."""
        self._disk.close()
        with contextlib.suppress(ValueError):  # what was buffered has nowhere to go
            self.close()


class NewFolder:
    """A folder being written, file by file, before it is published.

    Parameters
    ----------
    path : Path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sinks: dict[str, Sink] = {}
        self._linked: dict[str, FileEntry] = {}

    def file(self, name: str) -> Sink:
        """Open another file of the folder for writing; it stays open until all are synced.

        Parameters
        ----------
        name : str
            Name of the file.
        """
        self._sinks[name] = Sink(self._path / name)
        return self._sinks[name]

    def link(self, name: str, source: Path, entry: FileEntry) -> None:
        """Link a published file into this folder: it is not written again.

        Parameters
        ----------
        name : str
            Name of the file.
        source : Path
            The published file in another folder of the store.
        entry : FileEntry
            Size and hash of the file in the manifest.
        """
        link_or_copy(source, self._path / name)
        self._linked[name] = entry

    def sync(self) -> dict[str, FileEntry]:
        """Make the files and their names durable."""
        for sink in self._sinks.values():
            sink.flush()
        # In parallel, so that the file system can merge the flushes.
        with ThreadPoolExecutor(max(1, len(self._sinks))) as pool:
            entries = dict(zip(self._sinks, pool.map(Sink.sync, self._sinks.values()), strict=True))
        for sink in self._sinks.values():
            sink.close()
        sync_folder(self._path)
        return entries | self._linked

    def abandon(self) -> None:
        """Remove the folder and everything written to it."""
        for sink in self._sinks.values():
            sink.abandon()
        shutil.rmtree(self._path, ignore_errors=True)


def make_folder(path: Path, *, outermost: bool = False) -> None:
    """Create a folder with the access mode of its parent, and make its name durable.

    Parameters
    ----------
    path : Path
        The folder.
    outermost : bool
        Whether it is the store's top folder, which only its owner may read, whatever the mode of
        the parent folder.
    """
    if not path.is_dir():
        path.mkdir(parents=True, mode=0o700, exist_ok=True)
        if not outermost:
            open_folder_as(path.parent, path)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable.

    Parameters
    ----------
    path : Path
        The folder.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish_file(path: Path, write: Callable[[Sink], object]) -> FileEntry:
    """Write a file under a temporary name, then rename it to its final name atomically.

    Parameters
    ----------
    path : Path
        Final path; an existing file is replaced.
    write : callable
        Function that writes the complete content to the :class:`Sink` passed to it.
    """
    temporary = _temporary(path)
    sink = Sink(temporary)
    try:
        write(sink)
        entry = sink.sync()
        sink.close()
        temporary.replace(path)
    except BaseException:
        sink.abandon()
        temporary.unlink(missing_ok=True)
        raise
    _record(path)
    sync_folder(path.parent)
    return entry


def publish_new(path: Path, content: bytes) -> bool:
    """Write a file atomically unless it already exists.

    Parameters
    ----------
    path : Path
        The file to write.
    content : bytes
        Bytes of the file.

    Returns
    -------
    bool
        True if this call wrote the file; False if another process was first, whose file stays.
    """
    temporary = _temporary(path)
    sink = Sink(temporary)
    try:
        sink.write(content)
        sink.sync()
        sink.close()
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if path.exists():
                return False
            temporary.replace(path)
    except BaseException:
        sink.abandon()
        raise
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def publish_folder(path: Path, write: Callable[[NewFolder], object]) -> dict[str, FileEntry]:
    """Write a folder under a temporary name, then rename it to its final name atomically.

    A folder that already exists at ``path`` comes from a process that died before its commit (no
    two commits share a name) and is replaced.

    Parameters
    ----------
    path : Path
        The folder to publish.
    write : callable
        Function that writes the files to the :class:`NewFolder` passed to it.
    """
    temporary = _temporary(path)
    temporary.mkdir(mode=0o700)
    open_folder_as(path.parent, temporary)
    folder = NewFolder(temporary)
    try:
        write(folder)
        entries = folder.sync()
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    except BaseException:
        folder.abandon()
        raise
    _record(path)
    sync_folder(path.parent)
    return entries


def link_or_copy(path: Path, link: Path) -> None:
    """Give a file a second name: a hard link, or a copy if the file system has no hard links.

    Parameters
    ----------
    path : Path
        The file.
    link : Path
        The second name; an existing file is replaced.
    """
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    try:
        link.hardlink_to(path)
    except OSError:
        publish_file(link, lambda sink: sink.write(path.read_bytes()))


def remove(path: Path) -> None:
    """Remove a file or a whole folder; a link is removed, never followed.

    Parameters
    ----------
    path : Path
        The file or folder.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def record_published() -> Iterator[dict[Path, Identity]]:
    """Record the files and folders that this process publishes meanwhile.

    Yields
    ------
    dict of Path to (int, int)
        Path and identity of each; grows while the ``with`` statement lasts.
    """
    record: dict[Path, Identity] = {}
    _records.append(record)
    try:
        yield record
    finally:
        _records[:] = [other for other in _records if other is not record]


def identity(path: Path) -> Identity | None:
    """Return the identity of a path, a link not followed; None if it does not exist.

    Parameters
    ----------
    path : Path
        File, folder or link.
    """
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        return status.st_dev, status.st_ino
    return None


def unfinished(folder: Path) -> list[Path]:
    """Temporary files and folders of processes that died while writing to a folder.

    Parameters
    ----------
    folder : Path
        The folder.
    """
    return sorted(folder.glob(".*.tmp"))


def _record(path: Path) -> None:
    if (known := identity(path)) is not None:
        for record in _records:
            record[path] = known


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
