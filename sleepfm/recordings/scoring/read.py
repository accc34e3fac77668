"""Scoring files of every format, joined to their recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sleepfm.errors import AnnotationError, RecordingError
from sleepfm.recordings.scoring.clock import offset_seconds
from sleepfm.recordings.scoring.physionet import read_arousal, read_cinc_mat, read_st
from sleepfm.recordings.scoring.text import read_epochs, read_luna, read_table
from sleepfm.recordings.scoring.vocabulary import (
    Annotation,
    Coding,
    Notes,
    Scoring,
    scoring_from_texts,
)
from sleepfm.recordings.scoring.xml import read_xml


def read_scoring(
    path: Path, start_clock_s: float | None, warnings: list[str], coding: Coding | None = None
) -> Scoring:
    """Read one scoring file, its times counted from the start of the signals.

    Where the file and the recording both give a time of day, the two are aligned by it; otherwise
    both start together.

    Parameters
    ----------
    path : Path
        The file; its ending and content say its format.
    start_clock_s : float or None
        When the signals start, in seconds after midnight.
    warnings : list of str
        Takes what is odd but readable.
    coding : str, optional
        What integer stages mean: a name of :data:`~sleepfm.recordings.scoring.vocabulary.CODINGS`.

    Raises
    ------
    AnnotationError
        If the file cannot be read as scoring: a sentence that begins with its name.
    """
    try:
        if path.exists() and not path.is_file():
            raise AnnotationError("is not a file")
        notes = _read(path, start_clock_s, coding)
        shift = 0.0
        if notes.start_clock_s is not None and start_clock_s is not None:
            shift = offset_seconds(notes.start_clock_s, start_clock_s)
            if abs(shift) >= 1:
                warnings.append(f"scoring starts {shift:+.0f} s from the signals, by their clocks")
        moved = notes.annotations
        if shift:
            moved = tuple(replace(a, onset_s=a.onset_s + shift) for a in moved)
        scoring = scoring_from_texts(moved, warnings, coding)
    except AnnotationError as error:
        raise AnnotationError(f"{path.name} {error}.") from error
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise AnnotationError(f"{path.name} cannot be opened: {reason}.") from error
    if not scoring:
        raise AnnotationError(f"{path.name} holds neither a stage nor an event that is known here.")
    return scoring


def _read(path: Path, start_clock_s: float | None, coding: Coding | None) -> Notes:
    name = path.name.lower()
    if name.endswith(".xml"):
        return read_xml(path)
    if name.endswith(".annot"):
        return read_luna(path, start_clock_s)
    if name.endswith(".eannot"):
        return read_epochs(path, coding)
    if name.endswith(".st"):
        return read_st(path)
    if name.endswith(".arousal"):
        return read_arousal(path)
    if name.endswith(".mat"):
        return read_cinc_mat(path)
    if name.endswith((".edf", ".bdf")):
        return _read_edf(path)
    if name.endswith((".tsv", ".csv", ".txt", ".stg", ".hyp")):
        return read_table(path, coding, start_clock_s)
    raise AnnotationError("is of no scoring format that is read here")


def _read_edf(path: Path) -> Notes:
    """Scoring in an EDF+ file of its own, as Sleep-EDF and HMC have it."""
    from sleepfm.recordings.edf import read_edf

    try:
        recording = read_edf(path)
    except RecordingError as error:
        raise AnnotationError("is not an EDF+ file that can be read") from error
    stages = (Annotation(s.onset_s, s.duration_s, s.raw) for s in recording.scoring.stages)
    events = (
        Annotation(e.onset_s, e.duration_s, f"{e.subtype} {e.type}".strip())
        for e in recording.scoring.events
    )
    return Notes((*stages, *events), recording.start_clock_s)
