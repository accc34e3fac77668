"""Scoring of the Wisconsin Sleep Cohort's Gamma studies: ``.sco.txt`` and ``.stg.txt``.

NSRR's page of the cohort describes both files. ``.sco.txt`` has tab-separated columns: epoch, two
scan numbers, a code, the event, its length in scans, a time of day, values, and last the length in
seconds. Often there is no heading; some files use a 12-hour clock, and arousals have no length.
Columns and labels are those on which two public readers agree:
https://github.com/LucaCerina/WisconsinSC_cleaner (MIT) and one for wav2sleep. ``.stg.txt`` without
a heading has epoch numbers and R&K codes.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import clock_seconds, number_of, offset_seconds
from sleepfm.recordings.scoring.epochs import checked_codes, numbered_starts
from sleepfm.recordings.scoring.stage_words import integer
from sleepfm.recordings.scoring.text_file import decoded, lines_of, read_text
from sleepfm.recordings.scoring.vocabulary import EPOCH_S, Annotation, Notes, Reason, Scored

_EVENT_COLUMN: Final = 4
_TIME_COLUMN: Final = 6
_MIN_COLUMNS: Final = 7
_MIN_LENGTH_S: Final = 1.0
"""Minimum length of a scored event; a smaller number in the last column is not a length."""
_WORDS: Final = {
    "oa": "Obstructive apnea", "ca": "Central apnea", "ma": "Mixed apnea",
    "sao2": "Desaturation", "lma": "Arousal (limb movement)", "lm a": "Arousal (limb movement)",
    "respa": "Arousal (respiratory)", "bad ecg epoch": "ECG artifact",
    "bad sao2 epoch": "SaO2 artifact",
}  # fmt: skip
_HALF_DAY_S: Final = 12 * 3600.0
_MAX_DISTANCE_S: Final = 90.0
"""Maximum distance between the time of day and the start of the numbered epoch, in seconds."""


class GammaEvents:
    """WSC's ``.sco.txt`` of Gamma studies."""

    endings: tuple[str, ...] = (".sco.txt", ".sco")

    def sniff(self, head: bytes) -> bool:
        """Return whether rows have an epoch, an event and a time in the expected columns.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        try:
            lines = lines_of(decoded(head))
        except AnnotationError:
            return False
        rows = [r for r in map(_cells, lines[:-1] or lines) if r[0].lower() != "epoch"]
        return bool(rows) and sum(map(_is_row, rows)) > 0.8 * len(rows)

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read a file; see :class:`~.reader.ScoringReader`.

        Parameters
        ----------
        path : Path
            Scoring file.
        scored : Scored
            The signals that it scores.

        Returns
        -------
        notes : Notes
            Annotations as written, and what was dropped.
        """
        if scored.start_clock_s is None:
            raise AnnotationError("has times of day, but the recording has no start time")
        dropped: Counter[Reason] = Counter()
        rows: list[list[str]] = []
        for cells in map(_cells, lines_of(read_text(path))):
            if _is_row(cells):
                rows.append(cells)
            elif cells[0].lower() != "epoch":
                dropped["unreadable"] += bool("".join(cells))
        warnings: list[str] = []
        onsets = _onsets(rows, scored.start_clock_s, warnings)
        notes = []
        too_short = 0
        for cells, onset in zip(rows, onsets, strict=True):
            length = number_of(cells[-1]) if len(cells) > _MIN_COLUMNS else None
            if length is not None and length < _MIN_LENGTH_S:
                too_short += length != 0
                length = None
            label = " ".join(cells[_EVENT_COLUMN].split())
            text = _WORDS.get(label.lower(), label)
            notes.append(Annotation(onset, length or 0.0, text, "event"))
        if too_short:
            warnings.append(
                f"{too_short} events have a length below {_MIN_LENGTH_S:g} s; they are kept "
                "without a length"
            )
        return Notes(tuple(notes), dropped=dropped, warnings=tuple(warnings))


class GammaStages:
    """WSC's ``.stg.txt`` without a heading: epoch, R&K stage, stage from automatic scoring."""

    endings: tuple[str, ...] = (".stg.txt",)

    def sniff(self, head: bytes) -> bool:
        """Return whether all rows but the last, which may be cut, are two or three integers.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        try:
            rows = [line.split() for line in lines_of(decoded(head))]
        except AnnotationError:
            return False
        return bool(rows) and all(
            2 <= len(r) <= 3 and all(integer(c) is not None for c in r) for r in rows[:-1] or rows
        )

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read a file; see :class:`~.reader.ScoringReader`.

        Parameters
        ----------
        path : Path
            Scoring file.
        scored : Scored
            The signals that it scores.

        Returns
        -------
        notes : Notes
            Annotations as written, and what was dropped.
        """
        rows = [line.split() for line in lines_of(read_text(path))]
        starts, _ = numbered_starts([r[0] for r in rows], len(rows))
        texts = checked_codes([r[1] for r in rows if len(r) > 1], scored.coding or "rk")
        if len(texts) < len(rows):
            raise AnnotationError("is not a list of epochs and stages")
        return Notes(
            tuple(
                Annotation(epoch * EPOCH_S, EPOCH_S, text, "stage")
                for epoch, text in zip(starts, texts, strict=True)
            )
        )


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.rstrip("\r\n").split("\t")]


def _is_row(cells: list[str]) -> bool:
    """Return whether cells are an event: an epoch, a word, and optionally a time of day."""
    return (
        len(cells) >= _MIN_COLUMNS
        and integer(cells[0]) is not None
        and re.match(r"[A-Za-z]", cells[_EVENT_COLUMN]) is not None
        and (not cells[_TIME_COLUMN] or clock_seconds(cells[_TIME_COLUMN]) is not None)
    )


def _onsets(rows: list[list[str]], start_clock_s: float, warnings: list[str]) -> list[float]:
    """Return onsets from the start of the signals; epoch numbers resolve the 12-hour clock."""
    epochs = np.array([EPOCH_S * (int(integer(r[0]) or 0) - 1) for r in rows])
    times = [clock_seconds(r[_TIME_COLUMN]) for r in rows]
    clocks = np.array(
        [np.nan if t is None else offset_seconds(t, start_clock_s) for t in times], dtype=np.float64
    )
    timed = np.isfinite(clocks)
    if timed.any():
        offset = clocks[timed] - epochs[timed]
        half_days = np.rint(offset / _HALF_DAY_S)
        if np.median(np.abs(offset - half_days * _HALF_DAY_S)) > _MAX_DISTANCE_S:
            raise AnnotationError(
                "numbers epochs that lie elsewhere than its times of day; its clock is not that of "
                "the signals"
            )
        if half_days.any():
            warnings.append("times of day are taken on a clock of 12 hours, by the epochs' numbers")
        clocks[timed] -= half_days * _HALF_DAY_S
    if not timed.all():
        warnings.append(
            f"events without a time, put at the start of their epoch: {int((~timed).sum())}"
        )
    return np.where(timed, clocks, epochs).tolist()  # type: ignore[no-any-return]
