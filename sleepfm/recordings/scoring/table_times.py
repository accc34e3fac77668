"""Columns of a scoring table that contain times: their selection and conversion."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import Moment, align, moment_of, number_of
from sleepfm.recordings.scoring.headings import END_WORDS, EPOCH_WORDS, Heading
from sleepfm.recordings.scoring.vocabulary import Reason, Scored

_SAMPLED_ROWS: Final = 200
_MIN_STEP_S: Final = 5.0
"""Minimum step between epochs; smaller steps are epoch numbers rather than seconds."""
EMPTY_CELLS: Final = ("", "n/a", "na", "nan", "none", "null", "-")
"""Cells without a value, in lower case."""


@dataclass(frozen=True)
class TimeColumns:
    """A scoring table.

    Parameters
    ----------
    headings : tuple of Heading
        Interpreted headings.
    rows : list of list of str
        Cells of each row.
    first_line : int
        Line number of the first row in the file, from 1.
    """

    headings: tuple[Heading, ...]
    rows: list[list[str]]
    first_line: int

    def cells(self, column: int) -> list[str]:
        """Return the cells of a column; cells missing in short rows are empty.

        Parameters
        ----------
        column : int
            Index of the column, from 0.
        """
        return [row[column] if column < len(row) else "" for row in self.rows]

    def with_role(self, *roles: str) -> list[int]:
        """Return the indices of the columns with one of the given roles.

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
            If there is such a column; the message names its heading.
        """
        timed = self.with_role("onset", "epoch", "number")
        for i, heading in enumerate(self.headings):
            values = [c for c in self.cells(i)[:_SAMPLED_ROWS] if c.lower() not in EMPTY_CELLS]
            if heading.role == "unknown time" and values:
                moments = [moment_of(v) for v in values]
                if all(m is None for m in moments):
                    continue
                if heading.words == {"offset"} and (
                    len(set(values)) == 1 or self.with_role("duration", "end")
                ):
                    continue  # FieldTrip and BIDS have one in addition to onset and duration
                raise AnnotationError(
                    f"has a column '{heading.written}' that may contain times and is not "
                    "understood; rename it (onset, end, duration), or remove it"
                )
            if heading.role == "sample" and not self.with_role("onset"):
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
        """Select the column of onsets.

        Returns
        -------
        int or None
            Index of the column; None if there is none.

        Raises
        ------
        AnnotationError
            If two columns give different times, or one may contain times or epoch numbers.
        """
        onsets = self.with_role("onset")
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
            for moment, other_moment in zip(self.moments(chosen), self.moments(other), strict=True):
                difference_s = (
                    None
                    if moment is None or other_moment is None
                    else other_moment.seconds - moment.seconds
                )
                if difference_s is not None and 1 < difference_s % 86400 < 86399:
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
        if len(steps) and float(np.median(steps)) < _MIN_STEP_S:
            raise AnnotationError(
                f"has a column '{heading.written}' that may be the number of an epoch or its time; "
                "name it epoch or onset"
            )

    def is_numeric(self, column: int) -> bool:
        """Return whether a column contains only numbers.

        Parameters
        ----------
        column : int
            Index of the column, from 0.
        """
        values = [c for c in self.cells(column)[:_SAMPLED_ROWS] if c.lower() not in EMPTY_CELLS]
        return bool(values) and all(number_of(v) is not None for v in values)

    def moments(self, column: int) -> list[Moment | None]:
        """Parse a column of times, with dates from a date column if there is one.

        Parameters
        ----------
        column : int
            Index of the column, from 0.

        Returns
        -------
        list of Moment or None
            One per row; None where a cell is empty or not a time.
        """
        heading = self.headings[column]
        dates = self.with_role("date")
        # "End Date" belongs to end times; other dates to onsets, and to end times without one.
        ends = [i for i in dates if self.headings[i].words & END_WORDS]
        dates = ends if ends and heading.role == "end" else [i for i in dates if i not in ends]
        days = self.cells(dates[0]) if dates else [""] * len(self.rows)
        parsed = []
        for cell, day in zip(self.cells(column), days, strict=True):
            moment = None
            if cell.lower() not in EMPTY_CELLS:
                moment = moment_of(cell, "" if number_of(cell) is not None else day)
                if moment is not None and not moment.clock:
                    moment = replace(moment, seconds=moment.seconds * heading.unit_s)
            parsed.append(moment)
        return parsed

    def aligned_times(
        self,
        column: int,
        scored: Scored,
        warnings: list[str],
        dropped: Counter[Reason],
        *,
        required: bool,
    ) -> list[float | None]:
        """Convert a column of times to seconds from the start of the signals.

        Parameters
        ----------
        column : int
            Index of the column, from 0.
        scored : Scored
            Properties of the scored signals.
        warnings : list of str
            Warnings for the user are appended here.
        dropped : Counter
            Rows without a required time are counted here.
        required : bool
            Whether rows without a time count as dropped.

        Returns
        -------
        list of float or None
            One per row, in seconds from the start of the signals; None where there is no time.
        """
        moments = self.moments(column)
        bad = 0
        for number, (cell, moment) in enumerate(zip(self.cells(column), moments, strict=True)):
            if moment is not None:
                continue
            empty = cell.lower() in EMPTY_CELLS
            if required:
                dropped["no time" if empty else "unreadable"] += 1
            bad += not empty
            if bad > 0.1 * len(moments):
                raise AnnotationError(
                    f"has no time in line {self.first_line + number}, column "
                    f"'{self.headings[column].written}'"
                )
        self._refuse_minutes(column, moments)
        return align(moments, scored, warnings, elapsed=self.headings[column].elapsed)

    def _refuse_minutes(self, column: int, moments: Sequence[Moment | None]) -> None:
        """Refuse times without seconds if several rows have the same minute."""
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
        """Return the duration of each row, from a column of durations or of ends.

        Parameters
        ----------
        onsets : sequence of float or None
            Onset of each row, in seconds from the start of the signals.
        scored, warnings, dropped
            As for :meth:`aligned_times`.

        Returns
        -------
        list of float or None
            Durations, in seconds; None where a row has none, negative where it is unreadable.
        """
        columns = self.with_role("duration")
        if columns:
            unit = self.headings[columns[0]].unit_s
            durations = []
            for cell in self.cells(columns[0]):
                length = None if cell.lower() in EMPTY_CELLS else _length(cell, unit)
                durations.append(
                    -1.0 if length is None and cell.lower() not in EMPTY_CELLS else length
                )
            return durations
        ends = self.with_role("end")
        if ends:
            end_times = self.aligned_times(ends[0], scored, warnings, dropped, required=False)
            return [
                None if a is None or b is None else b - a
                for a, b in zip(onsets, end_times, strict=True)
            ]
        return [None] * len(onsets)

    def origin_clock(
        self, column: int, onsets: Sequence[float | None]
    ) -> tuple[float | None, int | None]:
        """Find the time of day at which numeric onsets are zero, from a second column of times.

        Parameters
        ----------
        column : int
            Index of the column of onsets, from 0.
        onsets : sequence of float or None
            Onset of each row, in seconds.

        Returns
        -------
        clock_s : float or None
            Seconds after midnight; None without a second column.
        day : int or None
            Calendar day (``date.toordinal``); None without a date.
        """
        if not self.is_numeric(column):
            return None, None
        clocks = [i for i in self.with_role("onset") if i != column and not self.is_numeric(i)]
        if not clocks:
            return None, None
        for onset, moment in zip(onsets, self.moments(clocks[0]), strict=True):
            if onset is not None and moment is not None and moment.clock:
                day = moment.dates[0] if len(moment.dates) == 1 else None
                origin_s = moment.seconds - onset
                return origin_s % 86400.0, None if day is None else day + int(origin_s // 86400)
        return None, None


def with_date_columns(
    headings: Sequence[Heading], rows: Sequence[list[str]]
) -> tuple[Heading, ...]:
    """Assign the role ``date`` to columns that contain only dates, such as ``Start Date``.

    Parameters
    ----------
    headings : sequence of Heading
        Interpreted headings.
    rows : sequence of list of str
        Cells of each row.

    Returns
    -------
    tuple of Heading
        The headings, with roles corrected by the cells.
    """
    corrected = list(headings)
    for i, heading in enumerate(headings):
        if heading.role not in ("onset", "end"):
            continue
        cells = [row[i] for row in rows[:_SAMPLED_ROWS] if i < len(row)]
        cells = [c for c in cells if c.lower() not in EMPTY_CELLS]
        if cells and all(":" not in c and (m := moment_of(c)) and m.dates for c in cells):
            corrected[i] = replace(heading, role="date")
    return tuple(corrected)


def _length(cell: str, unit: float) -> float | None:
    """Parse a duration as seconds: a number, ``HH:MM:SS``, ``MM:SS`` or ``0 days 00:00:30``."""
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
