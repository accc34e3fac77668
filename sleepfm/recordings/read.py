"""One call for every format: look at the file, let its reader read it, join its scoring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sleepfm.errors import AnnotationError, RecordingError
from sleepfm.recordings.edf import is_edf, read_edf
from sleepfm.recordings.find import SIGNAL_ENDINGS, find_annotations
from sleepfm.recordings.mne import read_mne
from sleepfm.recordings.recording import Recording
from sleepfm.recordings.scoring.read import read_scoring
from sleepfm.recordings.scoring.vocabulary import Coding, Scoring, fit
from sleepfm.recordings.wfdb import read_wfdb


def read_recording(
    path: str | Path, annotations: Path | None = None, *, coding: Coding | None = None
) -> Recording:
    """Read a recording and its scoring; signals are read when a channel is asked for them.

    Parameters
    ----------
    path : str or Path
        EDF, EDF+, BDF, a WFDB header, or a file that mne opens.
    annotations : Path, optional
        The scoring file, which replaces scoring in the signal file itself. Without it, what the
        signal file does not hold is looked for in files beside it with its stem; one of those that
        cannot be read is a warning.
    coding : {"yasa", "profusion", "rk", "ucddb"}, optional
        What integer stages mean; without it they are refused.

    Raises
    ------
    RecordingError
        If the file cannot be read as a recording.
    AnnotationError
        If the scoring file that was named cannot be read.
    """
    path = Path(path)
    recording = _read_signals(path)
    if not recording.channels:
        raise RecordingError(f"{path.name} holds annotations and no signal.")
    warnings = list(recording.warnings)
    scoring = recording.scoring
    sources = list(recording.sources)
    if annotations is not None:
        named = read_scoring(annotations, recording.start_clock_s, warnings, coding)
        scoring = Scoring(named.stages or scoring.stages, named.events or scoring.events)
        sources.append(annotations)
    else:
        for beside in find_annotations(path):
            if scoring.stages and scoring.events:
                break
            notes: list[str] = []
            try:
                found = read_scoring(beside, recording.start_clock_s, notes, coding)
            except AnnotationError as error:
                reason = str(error).removeprefix(beside.name).removesuffix(".")
                warnings.append(f"the scoring file beside it ({beside.suffix}){reason}")
                continue
            if (found.stages and not scoring.stages) or (found.events and not scoring.events):
                scoring = Scoring(scoring.stages or found.stages, scoring.events or found.events)
                sources.append(beside)
                warnings += notes
    scoring = fit(scoring, recording.duration_s, warnings)
    return replace(
        recording, sources=tuple(sources), scoring=scoring, warnings=tuple(dict.fromkeys(warnings))
    )


def _read_signals(path: Path) -> Recording:
    lower = path.name.lower()
    try:
        if path.exists() and not path.is_file():  # a folder, a pipe, a device
            raise RecordingError(f"{path.name} is not a file.")
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise RecordingError(f"{path.name} cannot be opened: {reason}.") from error
    if is_edf(start) or lower.endswith((".edf", ".rec", ".bdf")):
        return read_edf(path)
    if lower.endswith(".hea"):
        return read_wfdb(path)
    if lower.endswith(SIGNAL_ENDINGS):
        return read_mne(path)
    raise RecordingError(
        f"{path.name} is of no format that is read here ({', '.join(SIGNAL_ENDINGS)})."
    )
