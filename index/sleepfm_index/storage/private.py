"""Private data: paths of the recordings, and the key of hashed ids.

The folder ``private/`` (mode 0700) holds them. A store works without this folder; keep it with the
recordings, and do not share it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.storage import paths
from sleepfm_index.storage.files import make_folder, publish_file, publish_new
from sleepfm_index.storage.line_files import append_lines
from sleepfm_index.storage.plain_files import check_folder, read_plain

_FILES: Final = "files.jsonl"
_KEY: Final = "key"
_KEY_HASH: Final = "key.sha256"
_KEY_BYTES: Final = 32
_LARGEST: Final = 1 << 28


def remember_file(store: Path, recording_id: str, source: Path) -> None:
    """Store the path of a recording; a line is appended, and the last line of a recording counts.

    Parameters
    ----------
    store : Path
        The store's folder.
    recording_id : str
        Name of the recording in the store.
    source : Path
        The recording's signal file.
    """
    make_folder(_folder(store))
    line = _line(recording_id, source.resolve()) + "\n"
    append_lines(_folder(store) / _FILES, line.encode(), lambda last: _is_sound(last) is not None)


def _is_sound(line: bytes) -> bool | None:
    """Whether the checksum of an entry is right; None if the line is not an entry."""
    try:
        entry = json.loads(line)
        if entry.keys() - {"sha256"} != {"recording_id", "file"}:
            return None
        # lines of earlier versions have no checksum
        return bool(entry.get("sha256", _checksum(entry)) == _checksum(entry))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def files(store: Path) -> dict[str, Path]:
    """Path of each recording; empty if ``private/`` is missing or unreadable.

    Parameters
    ----------
    store : Path
        The store's folder.

    Raises
    ------
    FormatError
        If the list is a link, not a regular file, or not text.
    """
    try:
        content = _content(store, _FILES, _LARGEST)
    except (FileNotFoundError, PermissionError):
        return {}
    try:
        return dict(_parsed(content))
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{_folder(store) / _FILES} is damaged; restore a copy, or remove it: the store then "
            "has no paths of its recordings"
        ) from error


@lru_cache(maxsize=4)
def _parsed(content: bytes) -> Mapping[str, Path]:
    files_by_id = {}
    for line in content.decode().splitlines():
        # A line that a crash left incomplete, or that is damaged: the next build writes it again.
        if _is_sound(line.encode()):
            entry = json.loads(line)
            files_by_id[str(entry["recording_id"])] = Path(str(entry["file"]))
    return files_by_id


def recording_file(store: Path, recording_id: str) -> Path:
    """Return the path of a recording's signal file.

    Parameters
    ----------
    store : Path
        The store's folder.
    recording_id : str
        Name of the recording in the store.

    Raises
    ------
    QueryError
        If ``private/`` is missing, has no path of the recording, or the file is missing.
    """
    path = files(store).get(recording_id)
    if path is None:
        raise QueryError(
            f"the store has no path of {recording_id}: its folder private/ was moved or removed; "
            "put it back to read signals"
        )
    if not path.is_file():
        raise QueryError(
            f"the recording {recording_id} is not at its path; run `sleepfm-index "
            "move-recordings OLD NEW` if it was moved"
        )
    return path


def move_files(store: Path, moved: Mapping[str, Path]) -> None:
    """Change the paths of recordings in one step.

    Parameters
    ----------
    store : Path
        The store's folder.
    moved : mapping of str to Path
        Path of the signal file by ``recording_id``.
    """
    _write_files(store, files(store) | dict(moved))


def hashed_id(store: Path, stem: str) -> str:
    """Return the hashed recording id of a file stem: an HMAC-SHA-256 under the store's key.

    Without the key, the stem cannot be recovered from the id.

    Parameters
    ----------
    store : Path
        The store's folder.
    stem : str
        File name without its ending.
    """
    return hmac.new(key(store), stem.encode(), hashlib.sha256).hexdigest()[:20]


def has_key(store: Path) -> bool:
    """Whether the store has a key, so that recordings may have hashed ids.

    Parameters
    ----------
    store : Path
        The store's folder.
    """
    return os.path.lexists(_folder(store) / _KEY)


def key(store: Path) -> bytes:
    """Return the store's key, 32 random bytes; the first call creates it.

    It is created atomically, so processes that do so at the same time end up with one key.

    Parameters
    ----------
    store : Path
        The store's folder.

    Raises
    ------
    FormatError
        If the file is a link, of another length, or does not match its hash.
    """
    make_folder(_folder(store))
    path = _folder(store) / _KEY
    if not has_key(store):
        # If another process was first, its key is used.
        created = secrets.token_bytes(_KEY_BYTES)
        if publish_new(path, created):
            publish_file(_folder(store) / _KEY_HASH, lambda sink: sink.write(_hash(created)))
    stored = _content(store, _KEY, _KEY_BYTES)
    _check_key(store, stored)
    return stored


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(b"key of a store\n" + key).hexdigest().encode()


def _check_key(store: Path, content: bytes) -> None:
    path = _folder(store) / _KEY
    if len(content) != _KEY_BYTES:
        raise FormatError(
            f"{path} is not a key: it has {len(content)} bytes instead of {_KEY_BYTES}; restore "
            "the right one, or remove it if no id was hashed with it"
        )
    try:
        known = _content(store, _KEY_HASH, 64)
    except FileNotFoundError:  # earlier version, or killed between the two writes
        return
    if known != _hash(content):
        raise FormatError(
            f"{path} is not the key of this store, or {_KEY_HASH} next to it was changed; restore "
            "both from a copy"
        )


def check(store: Path) -> None:
    """Check that the list of files and the key are unchanged since they were written.

    An incomplete last line comes from a crash and is not reported: the next build writes it again.

    Parameters
    ----------
    store : Path
        The store's folder.

    Raises
    ------
    FormatError
        If a file is damaged; a file that is missing or not readable is not reported.
    """
    with contextlib.suppress(FileNotFoundError, PermissionError):
        lines = _content(store, _FILES, _LARGEST).splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            sound = _is_sound(line)
            if sound is None:
                sound = number == len(lines) and not line.endswith(b"\n")
            if not sound:
                raise FormatError(
                    f"line {number} is not as it was written; note where files are by "
                    "`sleepfm-index move-recordings`"
                )
    with contextlib.suppress(FileNotFoundError, PermissionError):
        if has_key(store):
            _check_key(store, _content(store, _KEY, _KEY_BYTES))


def keep_files(store: Path, recording_ids: set[str]) -> None:
    """Remove the paths of all other recordings.

    Parameters
    ----------
    store : Path
        The store's folder.
    recording_ids : set of str
        Recordings whose paths stay.
    """
    known = files(store)
    if known.keys() - recording_ids:
        _write_files(store, {n: f for n, f in known.items() if n in recording_ids})


def _write_files(store: Path, known: Mapping[str, Path]) -> None:
    make_folder(_folder(store))
    lines = [_line(name, file) + "\n" for name, file in known.items()]
    publish_file(_folder(store) / _FILES, lambda sink: sink.write("".join(lines).encode()))


def _line(recording_id: str, file: Path) -> str:
    plain = {"recording_id": recording_id, "file": str(file)}
    return json.dumps({**plain, "sha256": _checksum(plain)})


def _checksum(plain: Mapping[str, str]) -> str:
    return hashlib.sha256(f"{plain['recording_id']}\n{plain['file']}".encode()).hexdigest()[:16]


def _folder(store: Path) -> Path:
    return check_folder(store / paths.PRIVATE)


def _content(store: Path, name: str, max_bytes: int) -> bytes:
    return read_plain(_folder(store) / name, max_bytes)
