"""Scoring in text files: Luna's .annot and .eannot, BIDS and other tables, bare hypnograms.

Formats: https://zzz.bwh.harvard.edu/luna/ref/annotations/ and the BIDS specification, events files.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import clock_seconds, offset_seconds
from sleepfm.recordings.scoring.vocabulary import (
    EPOCH_S,
    Annotation,
    Coding,
    Notes,
    stage_of,
    stage_of_code,
)

MAX_BYTES: Final = 64 * 2**20
_ONSET: Final = ("onset", "onset_s", "start", "start_s", "start_sec", "recording onset",
                 "start time", "time", "begin")  # fmt: skip
_DURATION: Final = ("duration", "duration_s", "duration_sec", "length", "dur")
_END: Final = ("stop", "end", "stop_s", "end_s", "stop time", "end time")
_STAGE_COLUMNS: Final = ("stage", "sleep_stage", "sleep stage", "user-defined stage")
_LABEL: Final = (*_STAGE_COLUMNS, "trial_type", "annotation", "description", "event", "label",
                 "class", "concept", "event_type", "type", "name", "value")  # fmt: skip


def read_text(path: Path) -> str:
    """Text of a scoring file, UTF-8 or else latin-1.

    Raises
    ------
    AnnotationError
        If it is larger than ``MAX_BYTES`` or holds NUL bytes, which no text does.
    """
    if path.stat().st_size > MAX_BYTES:
        raise AnnotationError(f"is larger than {MAX_BYTES // 2**20} MiB")
    raw = path.read_bytes()
    if b"\0" in raw:
        raise AnnotationError("is not a text file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def read_luna(path: Path, start_clock_s: float | None) -> Notes:
    """Read a Luna ``.annot`` file: class, instance, channel, start, stop, meta-data.

    Raises
    ------
    AnnotationError
        If no line is an annotation, or a time of day cannot be placed because the recording has
        none.
    """
    rows = [line.split("\t") for line in read_text(path).splitlines() if line.strip()]
    rows = [r for r in rows if not r[0].startswith("#") and r[0].lower() != "class"]
    onsets = [_luna_time(row[3], start_clock_s) if len(row) >= 5 else None for row in rows]
    notes = []
    for i, (row, onset) in enumerate(zip(rows, onsets, strict=True)):
        if onset is None:
            continue
        stop = row[4].strip()
        end: float | None
        if stop == "...":
            following = onsets[i + 1] if i + 1 < len(rows) else None
            end = following if following is not None else onset + EPOCH_S
        elif stop.startswith("+"):
            length = _number(stop[1:])
            end = None if length is None else onset + length
        elif stop.startswith("e:"):
            begin = _luna_time(stop, start_clock_s)
            end = None if begin is None else begin + EPOCH_S
        else:
            end = _luna_time(stop, start_clock_s)
        if end is None or end < onset:
            continue
        text = row[0].strip()
        if stage_of(text) is None and row[1].strip() not in (".", ""):
            text = row[1].strip() if stage_of(row[1]) is not None else text
        notes.append(Annotation(onset, end - onset, text))
    if not notes:
        raise AnnotationError("holds no annotation with a start and a stop")
    return Notes(tuple(notes))


def read_epochs(path: Path, coding: Coding | None) -> Notes:
    """Read one stage a line, one line an epoch of 30 s: Luna ``.eannot``, YASA, bare hypnograms.

    Raises
    ------
    AnnotationError
        If a line is no stage, or is an integer that ``coding`` does not explain.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if lines and re.fullmatch(r'"?[A-Za-z][\w -]*"?', lines[0]) and stage_of(lines[0]) is None:
        del lines[0]  # a heading
    return _epochs(lines, coding)


def read_table(path: Path, coding: Coding | None, start_clock_s: float | None) -> Notes:
    """Read a table with a heading: onset and label, with a duration, an end, or neither.

    Knows BIDS ``events.tsv`` (onset, duration, trial_type), HMC's scoring (Recording onset,
    Duration, Annotation), and one stage per row; a table without a heading is read by
    :func:`read_epochs`. Times are seconds, or times of day.

    Raises
    ------
    AnnotationError
        If there is no column of labels, or a value is not what its column says.
    """
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    if not lines:
        raise AnnotationError("is empty")
    delimiter = max("\t;,", key=lines[0].count)
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    except csv.Error as error:
        raise AnnotationError("is not a table") from error
    heading = [cell.lower().strip('"') for cell in rows[0]]
    label = _column(heading, _LABEL)
    if label is None:
        if len(heading) == 1:
            return read_epochs(path, coding)
        raise AnnotationError("has no column of stages or events that is known here")
    onset = _column(heading, _ONSET)
    if onset is None:
        return _epochs([_cell(row, label) for row in rows[1:]], coding)
    duration, end = _column(heading, _DURATION), _column(heading, _END)
    notes = []
    for number, row in enumerate(rows[1:], 2):
        start = _time(_cell(row, onset), start_clock_s)
        if start is None:
            raise AnnotationError(f"has no time in line {number}, column '{heading[onset]}'")
        length = None
        if duration is not None:
            length = _number(_cell(row, duration))
        elif end is not None:
            stop = _time(_cell(row, end), start_clock_s)
            length = None if stop is None else stop - start
        text = _cell(row, label)
        if heading[label] in _STAGE_COLUMNS:
            stage_of_code(text, coding)  # a number needs a coding
        notes.append(Annotation(start, length, text))
    return Notes(tuple(notes))


def _epochs(lines: Sequence[str], coding: Coding | None) -> Notes:
    notes = []
    for number, line in enumerate(lines, 1):
        word = line.strip().strip('"')
        if stage_of(word) is None and stage_of_code(word, coding) is None:
            raise AnnotationError(f"has no sleep stage in line {number}")
        notes.append(word)
    if not notes:
        raise AnnotationError("holds no sleep stage")
    return Notes(tuple(Annotation(i * EPOCH_S, EPOCH_S, w) for i, w in enumerate(notes)))


def _luna_time(text: str, start_clock_s: float | None) -> float | None:
    """Seconds from the start: ``120.5``, ``0+00:02:00``, ``e:5``, or a time of day."""
    text = text.strip()
    if text.startswith("e:"):
        epoch = _number(text[2:])
        return None if epoch is None else (epoch - 1) * EPOCH_S
    if text.startswith("0+"):
        return clock_seconds(text[2:])
    return _time(text.split("-")[-1] if text.count("-") >= 2 else text, start_clock_s)


def _time(text: str, start_clock_s: float | None) -> float | None:
    """Seconds from the start, from seconds or a time of day."""
    value = _number(text)
    if value is not None:
        return value
    clock = clock_seconds(text.split("T")[-1].split(" ")[-1])
    if clock is None:
        return None
    if start_clock_s is None:
        raise AnnotationError("gives times of day, and the recording does not say when it starts")
    return offset_seconds(clock, start_clock_s)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _column(heading: Sequence[str], names: Sequence[str]) -> int | None:
    return next((heading.index(name) for name in names if name in heading), None)


def _cell(row: Sequence[str], column: int) -> str:
    return row[column] if column < len(row) else ""
