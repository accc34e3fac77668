"""One call for every format: look at the file, let its reader read it, join its scoring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sleepfm.errors import RecordingError
from sleepfm.recordings.edf import is_edf, read_edf
from sleepfm.recordings.recording import Recording


def read_recording(path: str | Path, annotations: Path | None = None) -> Recording:
    """Read a recording and its scoring; signals are read when a channel is asked for them.

    Parameters
    ----------
    path : str or Path
        EDF, EDF+, BDF, a WFDB header, or a file that mne opens.
    annotations : Path, optional
        The scoring file; without it, files beside the recording are found by its stem.

    Raises
    ------
    RecordingError
        If the file cannot be read as a recording.
    AnnotationError
        If the scoring file that was named cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise RecordingError(f"{path.name} cannot be opened: {reason}.") from error
    if is_edf(start) or path.suffix.lower() in (".edf", ".rec", ".bdf"):
        recording = read_edf(path)
    else:
        raise RecordingError(f"{path.name} is of no format that is read here.")
    if not recording.channels:
        raise RecordingError(f"{path.name} holds annotations and no signal.")
    return replace(recording)
