"""Scoring of the Wisconsin Sleep Cohort's Gamma studies: ``.sco.txt`` and ``.stg.txt``.

NSRR's page of the cohort names both files. The columns of ``.sco.txt`` (by tabs: epoch, two scans,
a code, the event, its length in scans, a time of day, values, and last the length in seconds; often
without a heading, some on a clock of 12 hours, arousals without a length) and its words are those
on which two public readers agree, https://github.com/LucaCerina/WisconsinSC_cleaner (MIT) and one
for wav2sleep. ``.stg.txt``, where its heading is missing: epoch and codes of R&K.
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

_EVENT: Final = 4
_TIME: Final = 6
_FEWEST: Final = 7
_SHORTEST_S: Final = 1.0
"""No scored event is shorter; such a number in the last column is no length."""
_WORDS: Final = {
    "oa": "Obstructive apnea", "ca": "Central apnea", "ma": "Mixed apnea",
    "sao2": "Desaturation", "lma": "Arousal (limb movement)", "lm a": "Arousal (limb movement)",
    "respa": "Arousal (respiratory)", "bad ecg epoch": "ECG artifact",
    "bad sao2 epoch": "SaO2 artifact",
}  # fmt: skip
_HALF_DAY_S: Final = 12 * 3600.0
_NEAR_S: Final = 90.0
"""How far the clock may lie from what the number of the epoch says."""


class GammaEvents:
    """WSC's ``.sco.txt`` of Gamma studies."""

    endings: tuple[str, ...] = (".sco.txt", ".sco")

    def sniff(self, head: bytes) -> bool:
        """Return whether rows begin with an epoch and have an event and a time where they belong.

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
        short = 0
        for cells, onset in zip(rows, onsets, strict=True):
            length = number_of(cells[-1]) if len(cells) > _FEWEST else None
            if length is not None and length < _SHORTEST_S:
                short += length != 0
                length = None
            word = " ".join(cells[_EVENT].split())
            text = _WORDS.get(word.lower(), word)
            notes.append(Annotation(onset, length or 0.0, text, "event"))
        if short:
            warnings.append(
                f"lengths below {_SHORTEST_S:g} s, which are none, of {short} events; they are "
                "kept without a length"
            )
        return Notes(tuple(notes), dropped=dropped, warnings=tuple(warnings))


class GammaStages:
    """WSC's ``.stg.txt`` without its heading: epoch, stage of R&K, stage by the machine."""

    endings: tuple[str, ...] = (".stg.txt",)

    def sniff(self, head: bytes) -> bool:
        """Return whether rows are two or three whole numbers, the first of which counts.

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
                Annotation(at * EPOCH_S, EPOCH_S, text, "stage")
                for at, text in zip(starts, texts, strict=True)
            )
        )


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.rstrip("\r\n").split("\t")]


def _is_row(cells: list[str]) -> bool:
    """Whether cells are those of an event: an epoch, a word, and a time of day or none."""
    return (
        len(cells) >= _FEWEST
        and integer(cells[0]) is not None
        and re.match(r"[A-Za-z]", cells[_EVENT]) is not None
        and (not cells[_TIME] or clock_seconds(cells[_TIME]) is not None)
    )


def _onsets(rows: list[list[str]], start_clock_s: float, warnings: list[str]) -> list[float]:
    """Seconds from the start of the signals, the epochs saying which half of the day is meant."""
    epochs = np.array([EPOCH_S * (int(integer(r[0]) or 0) - 1) for r in rows])
    times = [clock_seconds(r[_TIME]) for r in rows]
    clocks = np.array(
        [np.nan if t is None else offset_seconds(t, start_clock_s) for t in times], dtype=np.float64
    )
    timed = np.isfinite(clocks)
    if timed.any():
        away = clocks[timed] - epochs[timed]
        halves = np.rint(away / _HALF_DAY_S)
        if np.median(np.abs(away - halves * _HALF_DAY_S)) > _NEAR_S:
            raise AnnotationError(
                "numbers epochs that lie elsewhere than its times of day; its clock is not that of "
                "the signals"
            )
        if halves.any():
            warnings.append("times of day are taken on a clock of 12 hours, by the epochs' numbers")
        clocks[timed] -= halves * _HALF_DAY_S
    if not timed.all():
        warnings.append(
            f"events without a time, put at the start of their epoch: {int((~timed).sum())}"
        )
    return np.where(timed, clocks, epochs).tolist()  # type: ignore[no-any-return]
