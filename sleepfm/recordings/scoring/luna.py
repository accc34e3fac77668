"""Luna ``.annot`` files: class, instance, channel, start, stop and meta, in three to six columns.

Source: https://zzz.bwh.harvard.edu/luna/ref/annotations/
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import Moment, align, moment_of
from sleepfm.recordings.scoring.event_codes import code_of
from sleepfm.recordings.scoring.event_words import event_of
from sleepfm.recordings.scoring.stage_words import stage_of
from sleepfm.recordings.scoring.text_file import lines_of, read_text
from sleepfm.recordings.scoring.vocabulary import EPOCH_S, Annotation, Notes, Reason, Scored

_COLUMNS: Final = {3: (0, None, 1, 2), 4: (0, 1, 2, 3), 5: (0, 1, 3, 4), 6: (0, 1, 3, 4)}
"""Columns of class, instance, start and stop, by number of columns."""


class Luna:
    """Luna ``.annot`` files."""

    endings: tuple[str, ...] = (".annot",)

    def sniff(self, head: bytes) -> bool:
        """Accept every file with this extension.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        return True

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
        lines = lines_of(read_text(path))
        delimiter = "\t" if any("\t" in line for line in lines) else None
        rows = [[c.strip() for c in line.split(delimiter)] for line in lines]
        rows = [r for r in rows if r and not r[0].startswith("#") and r[0].lower() != "class"]
        dropped: Counter[Reason] = Counter()
        texts, starts, stops = [], [], []
        for row in rows:
            if len(row) not in _COLUMNS:
                dropped["unreadable"] += 1
                continue
            class_column, instance_column, start_column, stop_column = _COLUMNS[len(row)]
            text = row[class_column]
            instance_text = "." if instance_column is None else row[instance_column]
            event = event_of(text)
            if event is None and stage_of(text) is None and stage_of(instance_text) is not None:
                text = instance_text  # class SleepStage, instance N2
            elif instance_text not in ("", "."):
                joined = f"{text} ({instance_text})"  # class apnea, instance obstructive
                specific = event_of(joined)
                if (
                    specific is not None
                    and event != specific
                    and (
                        code_of(instance_text) is not None
                        if event is None
                        else event[0] == specific[0] and not event[1]
                    )
                ):
                    text = joined
            texts.append(text)
            starts.append(row[start_column])
            stops.append(row[stop_column])
        warnings: list[str] = []
        onsets = _aligned(starts, scored, warnings)
        ends = _aligned(stops, scored, warnings)
        notes = []
        for i, (text, onset, stop) in enumerate(zip(texts, onsets, stops, strict=True)):
            if onset is None:
                dropped["no time"] += 1
                continue
            end = ends[i]
            if stop == "...":
                following = next((o for o in onsets[i + 1 :] if o is not None), None)
                end = following if following is not None else onset + EPOCH_S
            elif stop.startswith("+") and end is not None:
                end += onset
            elif stop.startswith("e:") and end is not None:
                end += _epoch_length(stop)
            if end is None or end < onset:
                dropped["no duration" if stop in (".", "") else "unreadable"] += 1
                continue
            notes.append(Annotation(onset, end - onset, text))
        if not notes:
            raise AnnotationError("holds no annotation with a start and a stop")
        return Notes(tuple(notes), dropped=dropped, warnings=tuple(warnings))


def _aligned(texts: list[str], scored: Scored, warnings: list[str]) -> list[float | None]:
    """Convert ``120.5``, ``0+00:02:00``, ``e:5``, times of day and dates to onsets in seconds."""
    clocks: list[Moment | None] = []
    seconds_of: list[float | None] = []
    for text in texts:
        moment = None
        elapsed_s: float | None = None
        if text.startswith("e:"):
            elapsed_s = _epoch_start(text)
        elif text.startswith(("0+", "+")):
            length = moment_of(text.partition("+")[2])
            elapsed_s = None if length is None else length.seconds
        elif text not in ("...", ".", ""):
            moment = moment_of(text)
            if moment is None and text.count("-") >= 2:  # a date, a dash and a time of day
                day, _, clock = text.rpartition("-")
                moment = moment_of(clock, day)
            if moment is not None and not moment.clock:
                elapsed_s, moment = moment.seconds, None
        clocks.append(moment)
        seconds_of.append(elapsed_s)
    if any(m is not None for m in clocks):
        for i, seconds in enumerate(align(clocks, scored, warnings, elapsed=False)):
            if seconds is not None:
                seconds_of[i] = seconds
    return seconds_of


def _epoch_length(text: str) -> float:
    """Return the epoch length; ``e:30:5`` is epoch 5 of 30 s epochs."""
    parts = text.split(":")
    try:
        return float(parts[1]) if len(parts) == 3 else EPOCH_S
    except ValueError:
        return EPOCH_S


def _epoch_start(text: str) -> float | None:
    try:
        return (float(text.split(":")[-1]) - 1) * _epoch_length(text)
    except ValueError:
        return None
