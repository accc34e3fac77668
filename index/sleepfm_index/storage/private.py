"""Private data: paths of the recordings, and the key of hashed ids.

It lies in ``private/`` (0700), apart from everything else. A store works without it; keep it where
the recordings are kept, and leave it out of what is handed on.
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
from sleepfm_index.storage.plain_files import open_plain, read_plain

_FILES: Final = "files.jsonl"
_KEY: Final = "key"
_KEY_HASH: Final = "key.sha256"
_KEY_BYTES: Final = 32
_LARGEST: Final = 1 << 28


def remember_file(store: Path, recording_id: str, source: Path) -> None:
    """Note which file a recording came from; a line is appended, the last one counts.

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
    line = _line(recording_id, source.resolve())
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = open_plain(_folder(store) / _FILES, flags)
    try:
        _drop_torn_line(handle)
        os.write(handle, (line + "\n").encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def _drop_torn_line(handle: int) -> None:
    """Cut off a last line that a crash or a full disk cut short; end one that is whole."""
    size = os.fstat(handle).st_size
    if not size or os.pread(handle, 1, size - 1) == b"\n":
        return
    content = os.pread(handle, size, 0)
    start = content.rfind(b"\n") + 1
    if _is_sound(content[start:]) is not None:
        os.write(handle, b"\n")
    else:
        os.ftruncate(handle, start)


def _is_sound(line: bytes) -> bool | None:
    """Whether a line is an entry as it was written; None if it is no entry at all."""
    try:
        entry = json.loads(line)
        # a line of an earlier program has no checksum
        return entry.get("sha256", "") in ("", _checksum(entry))
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
        If the list is reached by a link, is no plain file, or is no text.
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
    found = {}
    for line in content.decode().splitlines():
        try:
            entry = json.loads(line)
            found[str(entry["recording_id"])] = Path(str(entry["file"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # a line cut short by a crash; the recording is noted again when it is built
    return found


def recording_file(store: Path, recording_id: str) -> Path:
    """Return the file of a recording, by the store's private map.

    Parameters
    ----------
    store : Path
        The store's folder.
    recording_id : str
        Name of the recording in the store.

    Raises
    ------
    QueryError
        If the map is not there, does not know the recording, or the file is gone.
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
    """Note other files for some recordings, in one step.

    Parameters
    ----------
    store : Path
        The store's folder.
    moved : mapping of str to Path
        ``recording_id`` to where the file is.
    """
    _write_files(store, files(store) | dict(moved))


def hashed_id(store: Path, stem: str) -> str:
    """Return the recording id that stands for a file's stem: an HMAC-SHA-256 under the store's key.

    Without the key nobody can tell which stem an id stands for.

    Parameters
    ----------
    store : Path
        The store's folder.
    stem : str
        Stem of the file's name.
    """
    return hmac.new(key(store), stem.encode(), hashlib.sha256).hexdigest()[:20]


def has_key(store: Path) -> bool:
    """Whether the store has a key, so that recordings may be named by hashes.

    Parameters
    ----------
    store : Path
        The store's folder.
    """
    return os.path.lexists(_folder(store) / _KEY)


def key(store: Path) -> bytes:
    """Return the store's key, 32 random bytes; it is made when first asked for.

    It appears whole or not at all, whoever else makes it at the same time.

    Parameters
    ----------
    store : Path
        The store's folder.

    Raises
    ------
    FormatError
        If what is there is not such a key: too short, a link, or not its owner's alone.
    """
    make_folder(_folder(store))
    path = _folder(store) / _KEY
    if not has_key(store):
        # Where another process was first, its key is the key.
        made = secrets.token_bytes(_KEY_BYTES)
        if publish_new(path, made):
            publish_file(_folder(store) / _KEY_HASH, lambda sink: sink.write(_hash(made)))
    found = _content(store, _KEY, _KEY_BYTES)
    _check_key(store, found)
    return found


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(b"key of a store\n" + key).hexdigest().encode()


def _check_key(store: Path, found: bytes) -> None:
    path = _folder(store) / _KEY
    if len(found) != _KEY_BYTES:
        raise FormatError(
            f"{path} is not a key: it has {len(found)} bytes instead of {_KEY_BYTES}; restore "
            "the right one, or remove it if no id was hashed with it"
        )
    try:
        known = _content(store, _KEY_HASH, 64)
    except FileNotFoundError:  # of an earlier program, or killed between the two
        return
    if known != _hash(found):
        raise FormatError(
            f"{path} is not the key that was made for this store, or {_KEY_HASH} beside it was "
            "changed; put a copy of both back"
        )


def check(store: Path) -> None:
    """Refuse a list of files or a key that are not as they were written.

    A last line without its end was cut short by a crash, and is no damage: the recording is noted
    again when it is built.

    Parameters
    ----------
    store : Path
        The store's folder.

    Raises
    ------
    FormatError
        Naming the file. What is not there, or may not be read, passes.
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
    """Forget the files of all other recordings.

    Parameters
    ----------
    store : Path
        The store's folder.
    recording_ids : set of str
        Recordings whose files are kept.
    """
    known = files(store)
    if known.keys() - recording_ids:
        _write_files(store, {n: f for n, f in known.items() if n in recording_ids})


def check_folder(store: Path) -> None:
    """Refuse a ``private/`` that is a link or not a folder.

    Parameters
    ----------
    store : Path
        The store's folder.

    Raises
    ------
    FormatError
        If it is a link or not a folder.
    """
    folder = store / paths.PRIVATE
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FormatError(f"{folder} is a link or not a folder")


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
    check_folder(store)
    return store / paths.PRIVATE


def _content(store: Path, name: str, most: int) -> bytes:
    return read_plain(_folder(store) / name, most)
