"""What could lead back to a person: which file a recording came from, and the key of hashed ids.

It lies in ``private/`` (0700), apart from everything else. A store works without it; keep it where
the recordings are kept, and leave it out of what is handed on.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Final

from sleepfm_index.errors import QueryError
from sleepfm_index.storage import paths
from sleepfm_index.storage.files import make_folder, publish_file, sync_folder

_FILES: Final = "files.jsonl"
_KEY: Final = "key"


def remember_file(store: Path, recording_id: str, source: Path) -> None:
    """Note which file a recording came from; a line is appended, the last one counts."""
    make_folder(store / paths.PRIVATE)
    line = json.dumps({"recording_id": recording_id, "file": str(source.resolve())})
    handle = os.open(store / paths.PRIVATE / _FILES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(handle, (line + "\n").encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def files(store: Path) -> dict[str, Path]:
    """Which file each recording came from; empty where ``private/`` was removed."""
    try:
        lines = (store / paths.PRIVATE / _FILES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    found = {}
    for line in lines:
        try:
            entry = json.loads(line)
            found[str(entry["recording_id"])] = Path(entry["file"])
        except (json.JSONDecodeError, KeyError, TypeError):
            continue  # a line cut short by a crash; the recording is noted again when it is built
    return found


def recording_file(store: Path, recording_id: str) -> Path:
    """Give the file of a recording, by the store's private map.

    Parameters
    ----------
    store : Path
        The store's folder.
    recording_id : str

    Raises
    ------
    QueryError
        If the map is not there, does not know the recording, or the file is gone.
    """
    path = files(store).get(recording_id)
    if path is None:
        raise QueryError(
            f"the store does not know the file of {recording_id}: its folder private/ is kept "
            "apart or was removed; put it back to read signals"
        )
    if not path.is_file():
        raise QueryError(f"the recording {recording_id} is not where it was when it was built")
    return path


def hashed_id(store: Path, stem: str) -> str:
    """Give the recording id that stands for a file's stem: an HMAC-SHA-256 under the store's key.

    Without the key nobody can tell which stem an id stands for.
    """
    return hmac.new(key(store), stem.encode(), hashlib.sha256).hexdigest()[:20]


def key(store: Path) -> bytes:
    """Give the store's key, 32 random bytes; it is made when first asked for."""
    make_folder(store / paths.PRIVATE)
    path = store / paths.PRIVATE / _KEY
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, secrets.token_bytes(32))
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_folder(path.parent)
    return path.read_bytes()


def keep_files(store: Path, recording_ids: set[str]) -> None:
    """Forget the files of all other recordings."""
    known = files(store)
    if not known.keys() - recording_ids:
        return
    lines = [
        json.dumps({"recording_id": name, "file": str(file)})
        for name, file in known.items()
        if name in recording_ids
    ]
    text = "".join(line + "\n" for line in lines)
    publish_file(store / paths.PRIVATE / _FILES, lambda sink: sink.write(text.encode()))
