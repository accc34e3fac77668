"""Reading of scoring files of every format, aligned with their recording."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

from sleepfm.choices import Coding
from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import DAY_S, offset_seconds
from sleepfm.recordings.scoring.formats import ENDINGS, READERS
from sleepfm.recordings.scoring.hypnogram import scoring_from_texts
from sleepfm.recordings.scoring.predicted import is_predicted
from sleepfm.recordings.scoring.text_file import decoded
from sleepfm.recordings.scoring.vocabulary import EPOCH_S, Notes, Reason, Scored, Scoring

_HEAD: Final = 4096
_NEAR_DAYS: Final = 3
_MAX_OVERHANG_S: Final = 300.0


def read_scoring(
    path: Path,
    start_clock_s: float | None,
    warnings: list[str],
    coding: Coding | None = None,
    *,
    duration_s: float | None = None,
    start_day: int | None = None,
    epoch_s: float | None = None,
) -> Scoring:
    """Read a scoring file, with times relative to the start of the signals.

    If both the file and the recording give a time of day, they are aligned by it, unless the
    scoring fits the signals without alignment and would lie outside with it. Otherwise both are
    assumed to start at the same time.

    Parameters
    ----------
    path : Path
        Scoring file; its format is determined by extension and content.
    start_clock_s : float or None
        Time of day at which the signals start, in seconds after midnight.
    warnings : list of str
        Warnings for the user are appended here.
    coding : str, optional
        Coding of integer stages: a key of
        :data:`~sleepfm.recordings.scoring.stage_words.CODINGS`.
    duration_s : float, optional
        Duration of the signals, in seconds.
    start_day : int, optional
        Calendar day on which the signals start (``date.toordinal``).
    epoch_s : float, optional
        Epoch length of files that do not state one, in seconds.

    Returns
    -------
    Scoring
        Stages and events, and the number of dropped annotations by reason.

    Raises
    ------
    AnnotationError
        If the file cannot be read as scoring; the message begins with the file name.
    """
    scored = Scored(start_clock_s, start_day, duration_s, coding, epoch_s)
    try:
        if path.exists() and not path.is_file():
            raise AnnotationError("is not a file")
        notes = _read(path, scored)
        warnings += notes.warnings
        shift = _shift(notes, scored, warnings)
        aligned = notes.annotations
        if shift:
            aligned = tuple(replace(a, onset_s=a.onset_s + shift) for a in aligned)
        scoring = scoring_from_texts(aligned, warnings, coding)
    except AnnotationError as error:
        raise AnnotationError(f"{path.name} {error}") from error
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise AnnotationError(f"{path.name} cannot be opened: {reason}") from error
    if not scoring:
        raise AnnotationError(f"{path.name} contains no known stage or event")
    dropped: Counter[Reason] = Counter(notes.dropped)
    dropped.update(scoring.dropped)
    return replace(scoring, dropped={r: n for r, n in dropped.items() if n})


def _read(path: Path, scored: Scored) -> Notes:
    name = path.name.lower()
    if not name.endswith(ENDINGS):
        raise AnnotationError("has an unsupported scoring format")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if is_predicted(head):
        raise AnnotationError("was predicted by a probe; it is not taken for scoring")
    candidates = [r for r in READERS if name.endswith(r.endings)]
    reader = next((r for r in candidates if r.sniff(head)), None)
    if reader is None and len(candidates) == 1:
        reader = candidates[0]  # its error message explains the problem
    if reader is None:
        decoded(head)
        raise AnnotationError(
            "has no header with a time and a stage or event, and is no list of stages or "
            "of times that is known here"
        )
    return reader.read(path, scored)


def _shift(notes: Notes, scored: Scored, warnings: list[str]) -> float:
    """Return the shift, in seconds, that makes onsets relative to the start of the signals."""
    if notes.start_clock_s is None or scored.start_clock_s is None or not notes.annotations:
        return 0.0
    shift = offset_seconds(notes.start_clock_s, scored.start_clock_s)
    if notes.start_day is not None and scored.start_day is not None:
        days = notes.start_day - scored.start_day
        if abs(days) <= _NEAR_DAYS:
            shift = days * DAY_S + notes.start_clock_s - scored.start_clock_s
    if abs(shift) < 1e-3:
        return shift
    if scored.duration_s is not None:
        first = min(a.onset_s for a in notes.annotations)
        last = max(a.onset_s + (a.duration_s or 0.0) for a in notes.annotations)
        fits = first >= -1 and last <= scored.duration_s + EPOCH_S
        overhang = max(-(first + shift), last + shift - scored.duration_s)
        if fits and overhang > min(_MAX_OVERHANG_S, (last - first) / 2):
            warnings.append(
                f"the clock of the scoring is {shift:+.0f} s from that of the signals, outside "
                "of them; both are assumed to start together"
            )
            return 0.0
    if abs(shift) >= 1:
        warnings.append(f"scoring starts {shift:+.0f} s from the signals, by their clocks")
    return shift
