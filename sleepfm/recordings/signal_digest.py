"""Hash of the samples of a recording, independent of scoring and file name.

A withdrawn recording is recognised by this digest even under another name, with another hypnogram
or event file, or with edited annotations or header fields, but not if its samples were recomputed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np

from sleepfm.errors import RecordingError
from sleepfm.recordings.edf_header import check
from sleepfm.recordings.find_scoring import find_annotations
from sleepfm.recordings.recording import Recording

_DIGITS: Final = 32
_CHUNK: Final = 1 << 22
_HEADER_ENDINGS: Final = (".hea", ".vhdr", ".vmrk")
"""Files that only describe the samples."""


def signal_digest(recording: Recording, scoring: Path | None = None) -> str:
    """Hash the samples of a recording.

    For EDF and BDF, the stored samples of all signals except annotations are hashed, in file order;
    for other formats, the files that contain samples.

    Parameters
    ----------
    recording : Recording
        The recording; its first source is the signal file.
    scoring : Path, optional
        Scoring file given by a cohort list or the user.

    Returns
    -------
    str
        The first 32 hexadecimal digits of a SHA-256.

    Raises
    ------
    RecordingError
        If a file of the recording can no longer be read.
    """
    path = recording.sources[0]
    try:
        if recording.format.startswith(("EDF", "BDF")):
            return _edf_digest(path)
        scoring_files = {*find_annotations(path), scoring}
        files = [
            s
            for s in recording.sources
            if s not in scoring_files and s.suffix.lower() not in _HEADER_ENDINGS
        ]
        digest = hashlib.sha256()
        for source in files or [path]:
            with source.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise RecordingError(f"{path.name} cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:_DIGITS]


def _edf_digest(path: Path) -> str:
    file = check(path, [])
    width = sum(s.samples for s in file.streams) * file.sample_bytes
    is_sample = np.ones(width, bool)
    for stream in file.streams:
        if stream.is_annotations:
            start = stream.first * file.sample_bytes
            is_sample[start : start + stream.samples * file.sample_bytes] = False
    digest = hashlib.sha256(f"{file.sample_bytes} {int(is_sample.sum())}".encode())
    if not is_sample.any():
        return digest.hexdigest()[:_DIGITS]
    records_per_read = max(1, _CHUNK // width)
    with path.open("rb") as content:
        content.seek(file.data_offset)
        for start in range(0, file.records, records_per_read):
            count = min(records_per_read, file.records - start)
            chunk = np.frombuffer(content.read(count * width), np.uint8)
            if len(chunk) != count * width:
                raise RecordingError(f"{path.name} ends early; it changed since it was opened")
            digest.update(chunk.reshape(count, width)[:, is_sample].tobytes())
    return digest.hexdigest()[:_DIGITS]
