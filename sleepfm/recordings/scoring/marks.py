"""Lines that begin with a time: WSC allscore, ucddb respevt, and other lists without a heading.

Sources: NSRR's page of the Wisconsin Sleep Cohort (``21:33:01.00  STAGE - N2``, ``RESPIRATORY EVENT
- DUR: 16.5 SEC. - OBSTRUCTIVE HYPOPNEA - DESAT 4 %``); PhysioNet ucddb (``00:23:27 HYP-C 16 ...``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import Moment, align, moment_of, number_of
from sleepfm.recordings.scoring.epochs import checked_codes
from sleepfm.recordings.scoring.event_words import event_of
from sleepfm.recordings.scoring.stage_words import stage_in_column, stage_of
from sleepfm.recordings.scoring.tables import find_heading
from sleepfm.recordings.scoring.text_file import (
    cells_of,
    decoded,
    delimiter_of,
    lines_of,
    read_text,
)
from sleepfm.recordings.scoring.time_units import refuse_other_units
from sleepfm.recordings.scoring.vocabulary import Annotation, Notes, Reason, Scored

_DURATION: Final = re.compile(r"-?\s*DUR:\s*([\d.,]+)\s*SEC\.?\s*-?", re.IGNORECASE)
_TIMED: Final = re.compile(
    r"^\s*(\d{1,2}:\d{2}:\d{2}(?:[.,:]\d+)?(?: ?[AP]M)?)\s+(.+)$", re.IGNORECASE
)
_RESPEVT: Final = re.compile(r"^(\S+)\s+(?:(?:PB|CS|-)\s+)?(\d+(?:\.\d+)?)\b")


class TimedLines:
    """Lines with a time of day and a description."""

    endings: tuple[str, ...] = (".allscore.txt", "_respevt.txt", ".sco.txt", ".txt", ".sco", ".stg")

    def sniff(self, head: bytes) -> bool:
        """Return whether most lines begin with a time of day, without a delimiter except tabs.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        try:
            lines = lines_of(decoded(head))[:-1] or lines_of(decoded(head))
        except AnnotationError:
            return False
        if any(line.lstrip().startswith("PB/CS") or "\tPB/CS\t" in line for line in lines):
            return True  # respevt of ucddb
        timed = sum(_TIMED.match(line) is not None for line in lines)
        heading = find_heading(lines)
        in_columns = heading is not None and heading[1] != " "
        return timed > 0.5 * len(lines) and not in_columns

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read a list; see :class:`~.reader.ScoringReader`.

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
        moments: list[Moment | None] = []
        entries: list[tuple[float | None, str]] = []
        dropped: Counter[Reason] = Counter()
        for line in lines_of(read_text(path)):
            match = _TIMED.match(line)
            moment = moment_of(match.group(1)) if match else None
            if match is None or moment is None:
                # multi-line headings and end-of-file marks have no time
                dropped["no time"] += bool(entries and (event_of(line) or stage_of(line)))
                continue
            moments.append(moment)
            entries.append(_duration_and_label(match.group(2).strip()))
        if not entries:
            raise AnnotationError("has no line that begins with a time of day")
        warnings: list[str] = []
        onsets = align(moments, scored, warnings, elapsed=None)
        notes = tuple(
            Annotation(onset, duration, text)
            for onset, (duration, text) in zip(onsets, entries, strict=True)
            if onset is not None
        )
        return Notes(notes, dropped=dropped, warnings=tuple(warnings))


class Rows:
    """Tables without a heading: one or two times, and a label."""

    endings: tuple[str, ...] = (".csv", ".tsv", ".txt", ".ids", ".stg", ".sco")

    def sniff(self, head: bytes) -> bool:
        """Return whether rows begin with a time or number and end in a word.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        try:
            lines = [x for x in lines_of(decoded(head)) if not x.startswith("#")][:20]
            rows = cells_of(lines, delimiter_of(lines[0])) if lines else []
        except AnnotationError:
            return False
        return bool(rows) and all(
            len(r) >= 2
            and (moment_of(r[0]) is not None or all(moment_of(c) is not None for c in r[1:] if c))
            for r in rows[:-1] or rows
        )

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read rows; see :class:`~.reader.ScoringReader`.

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
        lines = [x for x in lines_of(read_text(path)) if not x.startswith("#")]
        rows = [[c for c in r if c] for r in cells_of(lines, delimiter_of(lines[0]))]
        width = Counter(map(len, rows)).most_common(1)[0][0]
        labels = [i for i in range(width) if self._is_label([r[i] for r in rows if len(r) > i])]
        times = [i for i in range(width) if i not in labels]
        # After a label, a single number may be a start or an end.
        doubtful = labels == [0] and width == 2 and number_of(rows[0][1]) != 0.0
        if width not in (2, 3) or len(labels) != 1 or doubtful:
            raise AnnotationError(
                "has no header, and the meaning of its columns is unclear; add one, e.g. "
                "onset,duration,event"
            )
        dropped: Counter[Reason] = Counter()
        dropped["unreadable"] = sum(len(r) != width for r in rows)
        rows = [[*(r[i] for i in times), r[labels[0]]] for r in rows if len(r) == width]
        warnings: list[str] = []
        onsets = align([moment_of(r[0]) for r in rows], scored, warnings)
        lengths: list[float | None] = [scored.epoch_s] * len(rows)
        if width == 3:
            lengths = _durations(rows, onsets, scored, warnings)
        texts = [r[-1] for r in rows]
        role = "stage" if all(stage_in_column(t) is not None for t in texts) else ""
        notes = []
        for onset, length, text in zip(
            onsets, lengths, checked_codes(texts, scored.coding), strict=True
        ):
            if onset is None:
                dropped["no time"] += 1
            else:
                notes.append(Annotation(onset, length, text, role))  # type: ignore[arg-type]
        dropped += Counter()
        refuse_other_units(notes, "")
        return Notes(tuple(notes), dropped=dropped, warnings=tuple(warnings))

    @staticmethod
    def _is_label(cells: Sequence[str]) -> bool:
        known = [c for c in cells if stage_in_column(c) is not None or event_of(c) is not None]
        return len(known) > 0.3 * len(cells)


def _durations(
    rows: Sequence[Sequence[str]],
    onsets: Sequence[float | None],
    scored: Scored,
    warnings: list[str],
) -> list[float | None]:
    """Return durations from a second column, which holds either durations or ends.

    Raises
    ------
    AnnotationError
        If it may be either.
    """
    moments = [moment_of(r[1]) for r in rows]
    if any(m is None for m in moments):
        raise AnnotationError("has no header, and its second column is not a time")
    if any(m.clock for m in moments if m is not None):
        ends = align(moments, scored, warnings)
        return [
            None if a is None or b is None else b - a for a, b in zip(onsets, ends, strict=True)
        ]
    values = [m.seconds for m in moments if m is not None]
    starts = [o if o is not None else 0.0 for o in onsets]
    as_end = all(v > s for v, s in zip(values, starts, strict=True))
    as_length = all(
        s + v <= after + 1.0
        for s, v, after in zip(starts, values, starts[1:], strict=False)
    )  # fmt: skip
    if as_end == as_length and not (len(set(values)) == 1 and len(values) > 1):
        raise AnnotationError(
            "has no header, and its second column may be a duration or an end; add one, e.g. "
            "onset,duration,event"
        )
    if as_length or len(set(values)) == 1:
        return list(values)
    return [v - s for v, s in zip(values, starts, strict=True)]


def _duration_and_label(text: str) -> tuple[float | None, str]:
    """Return duration and label from the text after a time."""
    duration = _DURATION.search(text)
    if duration:
        before, after = text[: duration.start()].strip(" -"), text[duration.end() :].strip(" -")
        # the event follows the duration, its class precedes it
        label = (
            after
            if event_of(after) is not None and event_of(before) is None
            else f"{before} ({after})"
        )
        return number_of(duration.group(1)), label
    stage = re.fullmatch(r"STAGE\s*-\s*(.+)", text, re.IGNORECASE)
    if stage:
        return None, f"Stage {stage.group(1)}"
    respevt = _RESPEVT.match(text)
    if respevt and event_of(respevt.group(1)) is not None:
        return number_of(respevt.group(2)), respevt.group(1)
    return None, text
