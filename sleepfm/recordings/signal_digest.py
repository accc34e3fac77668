"""Hash of the samples of a recording, independent of scoring and file name.

A recording that was withdrawn is known by this again: under another name, with another hypnogram
or event file, with annotations or header fields edited. Not when its samples were computed anew.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np

from sleepfm.errors import RecordingError
from sleepfm.recordings.beside import find_annotations
from sleepfm.recordings.edf_header import check
from sleepfm.recordings.recording import Recording

_DIGITS: Final = 32
_CHUNK: Final = 1 << 22
_TEXTS: Final = (".hea", ".vhdr", ".vmrk")
"""Files that only describe the samples."""


def signal_digest(recording: Recording, scoring: Path | None = None) -> str:
    """Hash the samples of a recording, 32 hexadecimal digits.

    Of an EDF or BDF file the stored samples of every signal but annotations, in file order; of
    another format the files that hold samples.

    Parameters
    ----------
    recording : Recording
        The recording; its first source is the signal file.
    scoring : Path, optional
        The scoring file that was named for it.

    Returns
    -------
    str
        The start of a SHA-256, in hexadecimal digits.

    Raises
    ------
    RecordingError
        If a file of it cannot be read any more.
    """
    path = recording.sources[0]
    try:
        if recording.format.startswith(("EDF", "BDF")):
            return _of_edf(path)
        beside = {*find_annotations(path), scoring}
        files = [s for s in recording.sources if s not in beside and s.suffix.lower() not in _TEXTS]
        digest = hashlib.sha256()
        for source in files or [path]:
            with source.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise RecordingError(f"{path.name} cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:_DIGITS]


def _of_edf(path: Path) -> str:
    file = check(path, [])
    width = sum(s.samples for s in file.streams) * file.sample_bytes
    kept = np.ones(width, bool)
    for stream in file.streams:
        if stream.is_annotations:
            start = stream.first * file.sample_bytes
            kept[start : start + stream.samples * file.sample_bytes] = False
    digest = hashlib.sha256(f"{file.sample_bytes} {int(kept.sum())}".encode())
    if not kept.any():
        return digest.hexdigest()[:_DIGITS]
    at_once = max(1, _CHUNK // width)
    with path.open("rb") as content:
        content.seek(file.data_at)
        for start in range(0, file.records, at_once):
            count = min(at_once, file.records - start)
            piece = np.frombuffer(content.read(count * width), np.uint8)
            if len(piece) != count * width:
                raise RecordingError(f"{path.name} ends early; it changed since it was opened")
            digest.update(piece.reshape(count, width)[:, kept].tobytes())
    return digest.hexdigest()[:_DIGITS]
