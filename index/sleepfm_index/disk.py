"""How a file comes to exist in a store: written aside, synced, renamed, its folder synced.

Every byte that a store publishes goes through this module, so the order of writes, syncs and
renames can be read, and broken by tests, in one place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 22


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 of a published file."""

    bytes: int
    sha256: str


def fingerprint(path: Path) -> FileEntry:
    """Size and SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
            size += len(piece)
    return FileEntry(size, digest.hexdigest())


def make_folder(path: Path) -> None:
    """Create a folder that only its owner can enter, and make its name durable."""
    if not path.is_dir():
        path.mkdir(parents=True, mode=0o700, exist_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Make the content of a file durable, and the file private to its owner."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fchmod(handle, 0o600)
        os.fsync(handle)
    finally:
        os.close(handle)


def publish_file(path: Path, write: Callable[[Path], None]) -> FileEntry:
    """Write a file under a temporary name, then give it its own in one step.

    Parameters
    ----------
    path : Path
        Final place; an existing file there is replaced.
    write : callable
        Writes the whole content to the path it is given.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        write(aside)
        sync_file(aside)
        entry = fingerprint(aside)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return entry


def publish_folder(path: Path, write: Callable[[Path], None]) -> dict[str, FileEntry]:
    """Write a folder of files under a temporary name, then give it its own in one step.

    A folder that already stands at ``path`` was never committed (names are content hashes) and is
    replaced.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    aside.mkdir(mode=0o700)
    try:
        write(aside)
        entries = {}
        for file in sorted(aside.iterdir()):
            sync_file(file)
            entries[file.name] = fingerprint(file)
        sync_folder(aside)
        if path.exists():
            shutil.rmtree(path)
        aside.rename(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync_folder(path.parent)
    return entries
