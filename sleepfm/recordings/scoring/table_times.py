"""The columns of a table that carry time: which they are, and what their cells say."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import Moment, moment_of, number_of, place
from sleepfm.recordings.scoring.headings import END_WORDS, EPOCH_WORDS, Heading
from sleepfm.recordings.scoring.vocabulary import Reason, Scored

_LOOKED_AT: Final = 200
_SHORTEST_STEP_S: Final = 5.0
"""Rows of a table of epochs nearer to each other than this are numbers rather than seconds."""
NOTHING: Final = ("", "n/a", "na", "nan", "none", "null", "-")
"""Cells that hold no value, in lower case."""


@dataclass(frozen=True)
class TimeColumns:
    """A table by its headings, rows, and the number of the first row's line."""

    headings: tuple[Heading, ...]
    rows: list[list[str]]
    first_line: int

    def cells(self, column: int) -> list[str]:
        """Return the cells of a column, empty where a row is short.

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

    def refuse_unknown_times(self) -> None:
        """Refuse a table with an unknown column that may contain times.

        Raises
        ------
        AnnotationError
            With the heading.
        """
        timed = self.having("onset", "epoch", "number")
        for i, heading in enumerate(self.headings):
            values = [c for c in self.cells(i)[:_LOOKED_AT] if c.lower() not in NOTHING]
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

    def find_onset(self) -> int | None:
        """Choose the column of onsets, by index; None if there is none.

        Raises
        ------
        AnnotationError
            If two columns give different times, or one may hold times or numbers of epochs.
        """
        onsets = self.having("onset")
        numeric = [i for i in onsets if self.is_numeric(i)]
        for i in numeric:
            self._refuse_epoch_number(i)
        if len(numeric) > 1:
            first, second = (
                [(number_of(c) or 0.0) * self.headings[i].unit_s for c in self.cells(i)]
                for i in numeric[:2]
            )
            if not np.allclose(first, second, atol=1.0):
                self._refuse_two(*numeric[:2])
        if numeric:
            return numeric[0]
        words = [i for i in onsets if self.headings[i].words & {"onset", "start", "begin"}]
        chosen = next(iter(words or onsets), None)
        for other in onsets:
            if chosen is None or other == chosen:
                continue
            for one, two in zip(self.moments(chosen), self.moments(other), strict=True):
                apart = None if one is None or two is None else two.seconds - one.seconds
                if apart is not None and 1 < apart % 86400 < 86399:
                    self._refuse_two(chosen, other)
        return chosen

    def _refuse_two(self, first: int, second: int) -> None:
        raise AnnotationError(
            f"gives two different times, '{self.headings[first].written}' and "
            f"'{self.headings[second].written}'; keep only the valid one"
        )

    def _refuse_epoch_number(self, column: int) -> None:
        """Refuse a ``Start Epoch`` whose values are too close to be times."""
        heading = self.headings[column]
        if not heading.words & EPOCH_WORDS:
            return
        numbers = sorted({v for c in self.cells(column) if (v := number_of(c)) is not None})
        steps = np.diff(numbers) * heading.unit_s
        if len(steps) and float(np.median(steps)) < _SHORTEST_STEP_S:
            raise AnnotationError(
                f"has a column '{heading.written}' that may be the number of an epoch or its time; "
                "name it epoch or onset"
            )

    def is_numeric(self, column: int) -> bool:
        """Return whether a column holds numbers and nothing else.

        Parameters
        ----------
        column : int
            Index of the column, from 0.
        """
        values = [c for c in self.cells(column)[:_LOOKED_AT] if c.lower() not in NOTHING]
        return bool(values) and all(number_of(v) is not None for v in values)

    def moments(self, column: int) -> list[Moment | None]:
        """Read a column of times, with the dates of its own column where there is one.

        Parameters
        ----------
        column : int
            Index of the column, from 0.

        Returns
        -------
        list of Moment or None
            Row by row; None where a cell is empty or no time.
        """
        heading = self.headings[column]
        dates = self.having("date")
        # "Start Date" and "End Date" go with the times of their own kind.
        ends = [i for i in dates if self.headings[i].words & END_WORDS]
        dates = ends if ends and heading.role == "end" else [i for i in dates if i not in ends]
        days = self.cells(dates[0]) if dates else [""] * len(self.rows)
        found = []
        for cell, day in zip(self.cells(column), days, strict=True):
            moment = None
            if cell.lower() not in NOTHING:
                moment = moment_of(cell, "" if number_of(cell) is not None else day)
                if moment is not None and not moment.clock:
                    moment = replace(moment, seconds=moment.seconds * heading.unit_s)
            found.append(moment)
        return found

    def placed(
        self,
        column: int,
        scored: Scored,
        warnings: list[str],
        dropped: Counter[Reason],
        *,
        needed: bool,
    ) -> list[float | None]:
        """Place the times of a column in the signals, in seconds from their start.

        Parameters
        ----------
        column : int
            Index of the column, from 0.
        scored, warnings : Scored, list of str
            Signals that are scored; sentences on what to check are added to the list.
        dropped : Counter
            Counts rows without a time, where times are needed.
        needed : bool
            Whether a row without one is dropped.
        """
        moments = self.moments(column)
        bad = 0
        for number, (cell, moment) in enumerate(zip(self.cells(column), moments, strict=True)):
            if moment is not None:
                continue
            empty = cell.lower() in NOTHING
            if needed:
                dropped["no time" if empty else "unreadable"] += 1
            bad += not empty
            if bad > 0.1 * len(moments):
                raise AnnotationError(
                    f"has no time in line {self.first_line + number}, column "
                    f"'{self.headings[column].written}'"
                )
        self._refuse_minutes(column, moments)
        return place(moments, scored, warnings, elapsed=self.headings[column].elapsed)

    def _refuse_minutes(self, column: int, moments: Sequence[Moment | None]) -> None:
        """Refuse times without seconds if rows share a minute, which loses their order."""
        cells = [c for c, m in zip(self.cells(column), moments, strict=True) if m is not None]
        if not cells or not all(re.search(r"(?:^|\D)\d{1,2}:\d{2}(?: ?[ap]\.?m\.?)?$", c, re.I)
                                and c.count(":") == 1 for c in cells):  # fmt: skip
            return
        if len(set(cells)) < len(cells):
            raise AnnotationError(
                f"gives times to the minute in '{self.headings[column].written}', and rows share "
                "one; give seconds"
            )

    def lengths(
        self,
        onsets: Sequence[float | None],
        scored: Scored,
        warnings: list[str],
        dropped: Counter[Reason],
    ) -> list[float | None]:
        """Read the length of each row in seconds, from its duration or its end.

        Parameters
        ----------
        onsets : sequence of float or None
            Start of each row, in seconds from the start of the signals.
        scored, warnings, dropped : Scored, list of str, Counter
            As for :meth:`placed`.

        Returns
        -------
        list of float or None
            None where a row gives none; negative where it cannot be read.
        """
        columns = self.having("duration")
        if columns:
            unit = self.headings[columns[0]].unit_s
            found = []
            for cell in self.cells(columns[0]):
                length = None if cell.lower() in NOTHING else _length(cell, unit)
                found.append(-1.0 if length is None and cell.lower() not in NOTHING else length)
            return found
        ends = self.having("end")
        if ends:
            placed = self.placed(ends[0], scored, warnings, dropped, needed=False)
            return [
                None if a is None or b is None else b - a
                for a, b in zip(onsets, placed, strict=True)
            ]
        return [None] * len(onsets)

    def second_clock(
        self, column: int, onsets: Sequence[float | None]
    ) -> tuple[float | None, int | None]:
        """Find the time of day from which numeric onsets count, where clock times say it.

        Parameters
        ----------
        column : int
            Index of the column of onsets, from 0.
        onsets : sequence of float or None
            Start of each row, in seconds.

        Returns
        -------
        clock_s, day : float or None, int or None
            Seconds after midnight, and the day (``date.toordinal``) where a date is given.
        """
        if not self.is_numeric(column):
            return None, None
        clocks = [i for i in self.having("onset") if i != column and not self.is_numeric(i)]
        if not clocks:
            return None, None
        for onset, moment in zip(onsets, self.moments(clocks[0]), strict=True):
            if onset is not None and moment is not None and moment.clock:
                day = moment.dates[0] if len(moment.dates) == 1 else None
                since = moment.seconds - onset
                return since % 86400.0, None if day is None else day + int(since // 86400)
        return None, None


def dates_apart(headings: Sequence[Heading], rows: Sequence[list[str]]) -> tuple[Heading, ...]:
    """Distinguish columns of dates only, such as ``Start Date``, from times.

    Parameters
    ----------
    headings : sequence of Heading
        What the headings say.
    rows : sequence of list of str
        Cells of each row.

    Returns
    -------
    tuple of Heading
        The same, save that a column of dates is one.
    """
    found = list(headings)
    for i, heading in enumerate(headings):
        if heading.role not in ("onset", "end"):
            continue
        cells = [row[i] for row in rows[:_LOOKED_AT] if i < len(row)]
        cells = [c for c in cells if c.lower() not in NOTHING]
        if cells and all(":" not in c and (m := moment_of(c)) and m.dates for c in cells):
            found[i] = replace(heading, role="date")
    return tuple(found)


def _length(cell: str, unit: float) -> float | None:
    """Seconds of a duration: a number, ``HH:MM:SS``, ``MM:SS`` or ``0 days 00:00:30``."""
    number = number_of(cell)
    if number is not None:
        return number * unit
    elapsed = moment_of(cell)
    if elapsed is not None and not elapsed.clock:
        return elapsed.seconds
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
