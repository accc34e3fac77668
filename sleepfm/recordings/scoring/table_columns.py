"""A table taken apart: which column is the time, which the label, and what each row says."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import Moment, moment_of, number_of, place
from sleepfm.recordings.scoring.epochs import (
    checked_codes,
    epoch_length,
    named_codes,
    numbered_starts,
)
from sleepfm.recordings.scoring.event_words import event_of
from sleepfm.recordings.scoring.headings import Heading, heading_of
from sleepfm.recordings.scoring.sidecar import levels_beside
from sleepfm.recordings.scoring.stage_words import integer, stage_in_column, stage_of
from sleepfm.recordings.scoring.vocabulary import Annotation, Notes, Reason, Scored

_LOOKED_AT: Final = 200
_NOTHING: Final = ("", "n/a", "na", "nan", "none", "null", "-")
_BY_HAND: Final = frozenset(
    ("hum", "human", "manual", "expert", "user", "consensus", "majority", "hand", "visual")
)


@dataclass(frozen=True)
class Columns:
    """A table taken apart: headings, rows, and the columns that are read."""

    headings: tuple[Heading, ...]
    rows: list[list[str]]
    first_line: int
    onset: int | None = None
    label: int | None = None
    events: int | None = None
    epoch: int | None = None
    levels: dict[str, str] | None = None

    @classmethod
    def of(cls, written: list[str], rows: list[list[str]], first_line: int) -> Columns:
        """Take a table apart; AnnotationError if a row has more cells than there are headings.

        Parameters
        ----------
        written, rows, first_line : list of str, list of list of str, int
            Headings; cells of each row; number of the first row's line in the file, from 1.
        """
        headings = tuple(map(heading_of, written))
        for number, row in enumerate(rows):
            if len(row) > len(headings) and any(row[len(headings) :]):
                raise AnnotationError(
                    f"has more cells than the header in line {first_line + number}; with decimal "
                    "commas, separate the columns with semicolons or tabs"
                )
        return cls(headings, rows, first_line)

    def cells(self, column: int) -> list[str]:
        """Give the cells of a column, empty where a row is short.

        Parameters
        ----------
        column : int
            Index of the column, from 0.
        """
        return [row[column] if column < len(row) else "" for row in self.rows]

    def having(self, *roles: str) -> list[int]:
        """List the columns of some roles, by index.

        Parameters
        ----------
        *roles : str
            Roles of headings, e.g. ``"onset"``.
        """
        return [i for i, h in enumerate(self.headings) if h.role in roles]

    def choose(self, path: Path, warnings: list[str]) -> Columns:
        """Decide which columns are read; refuse what can carry time and is not understood.

        Parameters
        ----------
        path, warnings : Path, list of str
            File of the table, for its sidecar; sentences on what to check are added to the list.
        """
        self._refuse_unknown_times()
        stages, events = self.having("stage"), self.having("event")
        others = self.having("label")
        if not (stages or events or others):
            raise AnnotationError("has no known column of stages or events")
        stage = self._stage_column(stages, warnings)
        # RemLogic and CAP name the stage in the column of events, and repeat it beside each event.
        named = [
            i for i in (*events, *others)
            if any(stage_of(c) is not None or event_of(c) is not None for c in self.cells(i))
        ]  # fmt: skip
        label = stage
        beside = None
        if named and stage is not None:
            spoken = self.cells(named[0])
            if any(stage_of(c) is not None for c in spoken) or (
                self.having("onset") and not self._is_epochs()
            ):
                label = named[0]
            else:
                beside = named[0]
        elif stage is None:
            label = named[0] if named else (*events, *others)[0]
        assert label is not None
        epochs = self.having("epoch") or (self.having("number") if not self.having("onset") else [])
        return replace(
            self,
            onset=self._onset(),
            label=label,
            events=beside,
            epoch=epochs[0] if epochs else None,
            levels=levels_beside(path, self.headings[label].written),
        )

    def by_epoch(self, scored: Scored, legend: dict[str, str], warnings: list[str]) -> Notes:
        """Read rows that are epochs, numbered or one after the other.

        Parameters
        ----------
        scored, legend, warnings : Scored, dict of str to str, list of str
            Signals that are scored; names of codes, from above the table; sentences on what to
            check, returned with the notes.
        """
        assert self.label is not None
        labels = self.cells(self.label)
        numbers = None if self.epoch is None else self.cells(self.epoch)
        durations = self.having("duration")
        stated = None
        if durations:
            unit = self.headings[durations[0]].unit_s
            lengths = {number_of(c) for c in self.cells(durations[0])} - {None}
            if len(lengths) == 1:
                stated = float(lengths.pop() or 0) * unit or None
        starts, rows = numbered_starts(numbers, len(labels))
        epoch_s = stated or epoch_length(rows, scored)
        texts = self._texts(labels, scored, legend, always=True)
        notes = [
            Annotation(start * epoch_s, epoch_s, text, "stage")
            for start, text in zip(starts, texts, strict=True)
            if text
        ]
        notes += self._events_beside([s * epoch_s for s in starts], [epoch_s] * len(starts))
        return Notes(tuple(notes), warnings=tuple(warnings))

    def by_onset(self, scored: Scored, legend: dict[str, str], warnings: list[str]) -> Notes:
        """Read rows that say when they begin.

        Parameters
        ----------
        scored, legend, warnings : Scored, dict of str to str, list of str
            As for :meth:`by_epoch`.
        """
        assert self.label is not None and self.onset is not None
        dropped: Counter[Reason] = Counter()
        onsets = self._placed(self.onset, scored, warnings, dropped, needed=True)
        start_clock, start_day = self._second_clock(onsets)
        durations = self._durations(onsets, scored, warnings, dropped)
        role: Literal["", "stage"] = "stage" if self.headings[self.label].role == "stage" else ""
        texts = self._texts(self.cells(self.label), scored, legend, always=role == "stage")
        notes = []
        for onset, duration, text in zip(onsets, durations, texts, strict=True):
            if onset is None:
                continue
            if duration is not None and duration < 0:
                dropped["unreadable"] += 1
                continue
            if role == "stage" and not duration:
                duration = scored.epoch_s
            if text:
                notes.append(Annotation(onset, duration, text, role))
        notes += self._events_beside(onsets, durations)
        return Notes(tuple(notes), start_clock, start_day, dropped, tuple(warnings))

    def _refuse_unknown_times(self) -> None:
        timed = self.having("onset", "epoch", "number")
        for i, heading in enumerate(self.headings):
            values = [c for c in self.cells(i)[:_LOOKED_AT] if c.lower() not in _NOTHING]
            if heading.role == "unknown time" and values:
                moments = [moment_of(v) for v in values]
                if all(m is None for m in moments):
                    continue
                if heading.words == {"offset"} and (
                    len(set(values)) == 1 or self.having("duration", "end")
                ):
                    continue  # FieldTrip and BIDS write one beside onset and duration
                raise AnnotationError(
                    f"has a column '{heading.written}' that may contain times and is not "
                    "understood; rename it (onset, end, duration), or remove it"
                )
            if heading.role == "sample" and not self.having("onset"):
                raise AnnotationError(
                    f"gives time in samples ('{heading.written}'); add a column in seconds"
                )
            if heading.role != "other" or not values:
                continue
            moments = [moment_of(v) for v in values]
            clocks = sum(m is not None and m.clock for m in moments)
            rising = not timed and len(values) > 2 and _rising(moments)
            if clocks > len(values) / 2 or rising:
                raise AnnotationError(
                    f"has a column '{heading.written}' that looks like times and is not "
                    "understood; rename it (onset, end, duration), or remove it"
                )

    def _stage_column(self, stages: list[int], warnings: list[str]) -> int | None:
        if not stages:
            return None
        if len(stages) == 1:
            return stages[0]
        by_hand = [i for i in stages if self.headings[i].words & _BY_HAND]
        words = [
            i for i in stages
            if any(integer(c) is None and stage_in_column(c) for c in self.cells(i))
        ]  # fmt: skip
        if len(by_hand) == 1:
            return by_hand[0]
        chosen = (by_hand or words or stages)[0]
        codes = [i for i in stages if i != chosen and i not in words] if words else []
        rivals = [i for i in stages if i != chosen and i not in codes]
        if any(self.cells(i) != self.cells(chosen) for i in rivals):
            raise AnnotationError(
                f"has {len(rivals) + 1} columns of stages that differ "
                f"({', '.join(repr(self.headings[i].written) for i in (chosen, *rivals))}); keep "
                "only the valid one"
            )
        return chosen

    def _is_epochs(self) -> bool:
        """Whether rows follow each other in equal steps, so that a row is an epoch."""
        onset = self._onset()
        if onset is None:
            return True
        moments = [moment_of(c) for c in self.cells(onset)]
        seconds = np.array([m.seconds for m in moments if m is not None])
        steps = np.diff(seconds) % 86400.0
        return len(steps) > 0 and bool(np.mean(np.abs(steps - np.median(steps)) < 0.5) > 0.9)

    def _onset(self) -> int | None:
        onsets = self.having("onset")
        numeric = [i for i in onsets if self._is_numeric(i)]
        if len(numeric) > 1:
            first, second = (
                [(number_of(c) or 0.0) * self.headings[i].unit_s for c in self.cells(i)]
                for i in numeric[:2]
            )
            if not np.allclose(first, second, atol=1.0):
                raise AnnotationError(
                    f"gives two different times, '{self.headings[numeric[0]].written}' and "
                    f"'{self.headings[numeric[1]].written}'; keep only the valid one"
                )
        if numeric:
            return numeric[0]
        words = [i for i in onsets if self.headings[i].words & {"onset", "start", "begin"}]
        return next(iter(words or onsets), None)

    def _is_numeric(self, column: int) -> bool:
        values = [c for c in self.cells(column)[:_LOOKED_AT] if c.lower() not in _NOTHING]
        return bool(values) and all(number_of(v) is not None for v in values)

    def _moments(self, column: int) -> list[Moment | None]:
        heading = self.headings[column]
        dates = self.having("date")
        days = self.cells(dates[0]) if dates else [""] * len(self.rows)
        found = []
        for cell, day in zip(self.cells(column), days, strict=True):
            moment = None
            if cell.lower() not in _NOTHING:
                moment = moment_of(cell, "" if number_of(cell) is not None else day)
                if moment is not None and not moment.clock:
                    moment = replace(moment, seconds=moment.seconds * heading.unit_s)
            found.append(moment)
        return found

    def _placed(
        self,
        column: int,
        scored: Scored,
        warnings: list[str],
        dropped: Counter[Reason],
        *,
        needed: bool,
    ) -> list[float | None]:
        moments = self._moments(column)
        bad = 0
        for number, (cell, moment) in enumerate(zip(self.cells(column), moments, strict=True)):
            if moment is not None:
                continue
            empty = cell.lower() in _NOTHING
            if needed:
                dropped["no time" if empty else "unreadable"] += 1
            bad += not empty
            if bad > 0.1 * len(moments):
                raise AnnotationError(
                    f"has no time in line {self.first_line + number}, column "
                    f"'{self.headings[column].written}'"
                )
        return place(moments, scored, warnings, elapsed=self.headings[column].elapsed)

    def _durations(
        self,
        onsets: Sequence[float | None],
        scored: Scored,
        warnings: list[str],
        dropped: Counter[Reason],
    ) -> list[float | None]:
        columns = self.having("duration")
        if columns:
            unit = self.headings[columns[0]].unit_s
            found = []
            for cell in self.cells(columns[0]):
                length = None if cell.lower() in _NOTHING else _length(cell, unit)
                found.append(-1.0 if length is None and cell.lower() not in _NOTHING else length)
            return found
        ends = self.having("end")
        if ends:
            placed = self._placed(ends[0], scored, warnings, dropped, needed=False)
            return [
                None if a is None or b is None else b - a
                for a, b in zip(onsets, placed, strict=True)
            ]
        return [None] * len(onsets)

    def _second_clock(self, onsets: Sequence[float | None]) -> tuple[float | None, int | None]:
        """Time of day from which numeric onsets count, where a column of clock times says it."""
        if self.onset is None or not self._is_numeric(self.onset):
            return None, None
        clocks = [i for i in self.having("onset") if i != self.onset and not self._is_numeric(i)]
        if not clocks:
            return None, None
        for onset, moment in zip(onsets, self._moments(clocks[0]), strict=True):
            if onset is not None and moment is not None and moment.clock:
                day = moment.dates[0] if len(moment.dates) == 1 else None
                since = moment.seconds - onset
                return since % 86400.0, None if day is None else day + int(since // 86400)
        return None, None

    def _texts(
        self, cells: list[str], scored: Scored, legend: dict[str, str], *, always: bool
    ) -> list[str]:
        levels = self.levels or legend
        if levels and any(integer(c) in levels for c in cells):
            return named_codes(cells, levels)
        if always:
            coding = scored.coding
            if any("cast" in h.words for h in self.headings):
                coding = coding or "rk"  # the Wisconsin Sleep Cohort's .stg
            return checked_codes(cells, coding)
        return cells

    def _events_beside(
        self, onsets: Sequence[float | None], durations: Sequence[float | None]
    ) -> list[Annotation]:
        if self.events is None:
            return []
        return [
            Annotation(onset, duration, text, "event")
            for onset, duration, text in zip(
                onsets, durations, self.cells(self.events), strict=True
            )
            if onset is not None and text.lower() not in _NOTHING
        ]


def _length(cell: str, unit: float) -> float | None:
    """Seconds of a duration: a number, ``HH:MM:SS`` or ``MM:SS``."""
    number = number_of(cell)
    if number is not None:
        return number * unit
    parts = cell.replace(",", ".").split(":")
    try:
        values = [float(p) for p in parts]
    except ValueError:
        return None
    if not 2 <= len(values) <= 3 or min(values) < 0:
        return None
    seconds = 0.0
    for value in values:
        seconds = seconds * 60 + value
    return seconds


def _rising(moments: Sequence[Moment | None]) -> bool:
    values = [m.seconds for m in moments if m is not None and not m.clock]
    return len(values) == len(moments) and all(b > a for a, b in itertools.pairwise(values))
