"""Recording ids: by file, by folder and file, or by a keyed hash."""

from __future__ import annotations

from pathlib import Path

from sleepfm.csv_text import same_id
from sleepfm.recordings import RecordingFile
from sleepfm_index.choices import Ids
from sleepfm_index.storage import private


def plain_name(file: RecordingFile, ids: Ids) -> str:
    """Return a recording's name before hashing: its stem, or its folder and its stem.

    Parameters
    ----------
    file : RecordingFile
        The recording's files.
    ids : {"stem", "folder", "hash"}
        Source of the recording ids of the store.
    """
    if ids == "folder" and file.id is None:
        return f"{file.path.absolute().parent.name}_{file.stem}"
    return file.stem


def recording_name(store: Path, file: RecordingFile, ids: Ids) -> str:
    """Return the ``recording_id`` of a file.

    Parameters
    ----------
    store : Path
        The store's folder, with the key of hashed ids.
    file : RecordingFile
        The recording's files.
    ids : {"stem", "folder", "hash"}
        Source of the recording ids of the store.
    """
    name = same_id(plain_name(file, ids))
    return private.hashed_id(store, name) if ids == "hash" else name
