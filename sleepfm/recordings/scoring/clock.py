"""Times in scoring files, and their alignment with the signals.

A time is a number of seconds, a time of day, or a date with a time of day. Dates are used only for
alignment and are not stored. Times do not wrap at 24 hours: a time of day is assigned to the one
day on which it lies within the signals, and a table for which several days fit is refused.
"""

from __future__ import annotations

import datetime
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.vocabulary import Scored

DAY_S: Final = 86400.0
_CLOCK: Final = re.compile(
    r"(\d{1,3})[:.](\d{2})(?:[:.](\d{2})(?:[.,:](\d{1,12}))?)?\s*([ap])?\.?(m)?\.?", re.IGNORECASE
)
_ISO: Final = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})[T ]*(.*?)(?:Z|[+-]\d{2}:?\d{2})?$")
_NUMERIC_DATE: Final = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4}|\d{2})[T ]*(.*)$")
_NAMED_DATE: Final = re.compile(
    r"(\d{1,2})[- ]([a-z]{3})[a-z]*[- ,]+(\d{4}|\d{2})[T ]*(.*)$", re.IGNORECASE
)
_MONTHS: Final = [
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
]
_TIMEDELTA: Final = re.compile(r"(\d{1,3}) days?,? \+?(\d{1,2}:\d{2}:\d{2}(?:\.\d+)?)")
"""Elapsed time in the notation of Python and pandas: ``0 days 00:00:30``."""
_IN_WORDS: Final = re.compile(
    r"(\d{1,2}) ?h ?(\d{2})(?: ?m(?:in)? ?(?:(\d{2}) ?s?)?)?", re.IGNORECASE
)
_BEFORE_S: Final = 6 * 3600.0
_UNIX_EPOCH: Final = datetime.date(1970, 1, 1).toordinal()
_NEAR_DAYS: Final = 3
"""Scoring whose dates are further from those of the signals counts as date-shifted."""


def clock_seconds(text: str) -> float | None:
    """Parse a time of day: ``HH:MM:SS``, also with dots, fractions, am or pm.

    Parameters
    ----------
    text : str
        Time as written.

    Returns
    -------
    float or None
        Seconds after midnight; None if the text is not a time of day.
    """
    seconds = _clock(text)
    return None if seconds is None or seconds > DAY_S + 60 or _hours(text) > 23 else seconds


def offset_seconds(clock_s: float, start_clock_s: float) -> float:
    """Return the seconds from a recording's start to a time of day, from 6 h before to 18 h after.

    Parameters
    ----------
    clock_s : float
        Time of day, in seconds after midnight.
    start_clock_s : float
        Time of day at which the recording starts, in seconds after midnight.

    Returns
    -------
    float
        Seconds from the recording's start, at least -21,600 and below 64,800.
    """
    return (clock_s - start_clock_s + _BEFORE_S) % DAY_S - _BEFORE_S


def number_of(text: str) -> float | None:
    """Parse a finite number with a decimal point or comma.

    Parameters
    ----------
    text : str
        Number as written.

    Returns
    -------
    float or None
        The number; None if the text is not a finite number.
    """
    text = text.strip()
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Moment:
    """A time relative to the start of the recording or to midnight.

    Parameters
    ----------
    seconds : float
        Time in seconds, from the recording's start or after midnight.
    clock : bool
        Whether ``seconds`` counts from midnight.
    dates : tuple of int
        Possible calendar days (``date.toordinal``): empty if there is no date, two if a numeric
        date can be read both day first and month first.
    """

    seconds: float
    clock: bool = False
    dates: tuple[int, ...] = ()


def moment_of(text: str, day: str = "") -> Moment | None:
    """Parse a time, with a date in the same cell or in a separate one.

    Parameters
    ----------
    text : str
        Time as written, with or without a date before it.
    day : str
        Date from a separate cell; empty if there is none.

    Returns
    -------
    Moment or None
        The time; None if the text is not a time.
    """
    text = text.strip().strip('"')
    number = number_of(text)
    if number is not None and not day:
        return Moment(number)
    elapsed = _TIMEDELTA.fullmatch(text)
    if elapsed:
        return Moment(int(elapsed[1]) * DAY_S + (_clock(elapsed[2]) or 0.0))
    dates, rest = _date(text)
    if not dates and day:
        dates, _ = _date(day.strip().strip('"'))
        if not dates:
            return None
    seconds = _clock(rest) if rest else 0.0 if dates and not day else None
    if seconds is None:
        seconds = number
    if seconds is None:
        return None
    if dates and dates[0] in (_UNIX_EPOCH, _UNIX_EPOCH + 1) and not day:
        # seconds since 1970, which mne writes for onsets without a known date
        return Moment(seconds + (dates[0] - _UNIX_EPOCH) * DAY_S)
    return Moment(seconds, True, dates)


def align(
    moments: Sequence[Moment | None],
    scored: Scored,
    warnings: list[str],
    *,
    elapsed: bool | None = None,
) -> list[float | None]:
    """Convert times to seconds from the start of the signals.

    Parameters
    ----------
    moments : sequence of Moment or None
        Times in the order of the file; None where a row has none.
    scored : Scored
        Start and duration of the signals.
    warnings : list of str
        Warnings for the user are appended here.
    elapsed : bool, optional
        Whether ``HH:MM:SS`` is time since the start (True) or a time of day (False), according to
        the heading; None if the heading does not specify it.

    Returns
    -------
    list of float or None
        Seconds from the start of the signals; None where there is no time.

    Raises
    ------
    AnnotationError
        If the times cannot be aligned unambiguously.
    """
    known = [m for m in moments if m is not None]
    if not any(m.clock for m in known):
        return [None if m is None else m.seconds for m in moments]
    if not all(m.clock for m in known):
        raise AnnotationError("mixes seconds and times of day in one column")
    if any(m.dates for m in known):
        if not all(m.dates for m in known):
            raise AnnotationError("has dates with only some of its times")
        return _by_date(moments, scored, warnings)
    seconds = [m.seconds for m in known]
    if elapsed or (elapsed is None and _is_elapsed(seconds, scored)):
        aligned = iter(_unwrap(seconds))
    else:
        if scored.start_clock_s is None:
            raise AnnotationError("has times of day, but the recording has no start time")
        aligned = iter(_by_clock(seconds, scored.start_clock_s, scored.duration_s))
    return [None if m is None else next(aligned) for m in moments]


def _by_clock(seconds: list[float], start: float, duration: float | None) -> list[float]:
    """Convert times of day to seconds from the start, on the day that lies in the signals."""
    if max(seconds) >= DAY_S:  # hours continue after midnight: 25:10:00
        return [s - start for s in seconds]
    if duration is None or duration <= DAY_S - _BEFORE_S:
        return [offset_seconds(s, start) for s in seconds]
    unwrapped = _unwrap(seconds)
    end = duration + 60
    first = offset_seconds(unwrapped[0], start) - unwrapped[0]
    days = [first + k * DAY_S for k in range(-1, int(duration // DAY_S) + 2)]
    possible = [d for d in days if unwrapped[0] + d >= -_BEFORE_S and unwrapped[-1] + d <= end]
    inside = [d for d in possible if unwrapped[0] + d >= -60]
    chosen = inside or possible
    if not chosen:
        return [offset_seconds(s, start) for s in seconds]
    if len(chosen) > 1:
        raise AnnotationError(
            f"has times of day without dates, which fit several days of a recording of "
            f"{duration / 3600:.0f} h; add a column with the date"
        )
    return [s + chosen[0] for s in unwrapped]


def _by_date(
    moments: Sequence[Moment | None], scored: Scored, warnings: list[str]
) -> list[float | None]:
    known = [m for m in moments if m is not None]
    readings = range(max(len(m.dates) for m in known))

    def days(reading: int) -> np.ndarray:
        return np.array([m.dates[min(reading, len(m.dates) - 1)] for m in known])

    def distance(reading: int) -> tuple[float, int]:
        days_read = days(reading)
        from_start = (
            0 if scored.start_day is None else int(np.abs(days_read - scored.start_day).max())
        )
        return (min(from_start, 10 * _NEAR_DAYS), int(days_read.max() - days_read.min()))

    days_read = days(min(readings, key=distance))
    seconds = np.array([m.seconds for m in known])
    if scored.start_clock_s is None:
        raise AnnotationError("has dates, but the recording has no start time")
    absolute = days_read * DAY_S + seconds
    same = scored.start_day is not None and np.abs(days_read - scored.start_day).min() <= _NEAR_DAYS
    if same:
        aligned = absolute - (scored.start_day * DAY_S + scored.start_clock_s)  # type: ignore[operator]
    else:
        first = int(np.argmin(absolute))
        aligned = absolute - absolute[first]
        start_s = _by_clock([float(seconds[first])], scored.start_clock_s, None)[0]
        aligned = aligned + start_s
        if scored.start_day is not None:
            warnings.append(
                "the dates of the scoring are not those of the signals; aligned by time of day"
            )
        elif scored.duration_s is not None and scored.duration_s > DAY_S:
            raise AnnotationError("gives dates, and the recording of more than a day has none")
    in_order = iter(aligned.tolist())
    return [None if m is None else next(in_order) for m in moments]


def _is_elapsed(seconds: list[float], scored: Scored) -> bool:
    """Return whether unlabelled ``HH:MM:SS`` times are elapsed times rather than times of day.

    They are if they begin at zero and cover the signals, but do not lie in them as times of day.
    """
    unwrapped = _unwrap(seconds)
    if unwrapped[0] > 60 or any(b < a for a, b in itertools.pairwise(unwrapped)):
        return False
    start, duration = scored.start_clock_s, scored.duration_s
    if start is None:
        return duration is not None and unwrapped[-1] <= duration
    if duration is None or unwrapped[-1] > duration:
        return False
    as_clock = [offset_seconds(s, start) for s in seconds]
    in_signals = sum(-60 <= t <= duration for t in as_clock) / len(as_clock)
    if in_signals < 1:
        return True
    if abs(as_clock[0]) < 60:  # the recording starts at midnight: both are the same
        return False
    raise AnnotationError(
        "gives times that fit both as times of day and as time since the start; name the column "
        "'elapsed' or 'clock'"
    )


def _unwrap(seconds: list[float]) -> list[float]:
    """Unwrap times of day in file order: a step back by over half a day is the next day."""
    unwrapped = list(seconds)
    for i in range(1, len(unwrapped)):
        days = math.ceil((unwrapped[i - 1] - unwrapped[i]) / DAY_S - 0.5)
        unwrapped[i] += max(days, 0) * DAY_S
    return unwrapped


def _hours(text: str) -> int:
    match = _CLOCK.fullmatch(text.strip())
    return int(match.group(1)) if match else 0


def _clock(text: str) -> float | None:
    """Parse ``HH:MM:SS`` with any number of hours, or ``22h00m30s``, as seconds."""
    words = _IN_WORDS.fullmatch(text.strip())
    match = _CLOCK.fullmatch(":".join(filter(None, words.groups())) if words else text.strip())
    if match is None:
        return None
    hours, minutes, seconds = (int(match.group(i) or 0) for i in (1, 2, 3))
    half = (match.group(5) or "").lower()
    if half:
        if not 1 <= hours <= 12:
            return None
        hours = hours % 12 + (12 if half == "p" else 0)
    elif match.group(6):
        return None
    if minutes > 59 or seconds > 60:
        return None
    fraction = float(f"0.{match.group(4)}") if match.group(4) else 0.0
    return hours * 3600.0 + minutes * 60 + seconds + fraction


def _date(text: str) -> tuple[tuple[int, ...], str]:
    """Return the possible days of a date, and the text after it."""
    match = _ISO.fullmatch(text)
    if match:
        year, month, day = int(match[1]), int(match[2]), int(match[3])
        return _days([(year, month, day)]), match[4]
    match = _NAMED_DATE.fullmatch(text)
    if match and match[2].lower() in _MONTHS:
        month = _MONTHS.index(match[2].lower()) + 1
        return _days([(_year(match[3]), month, int(match[1]))]), match[4]
    match = _NUMERIC_DATE.fullmatch(text)
    if match and not (text.count(".") == 2 and not match[4] and len(match[3]) == 2):
        a, b, year = int(match[1]), int(match[2]), _year(match[3])
        return _days([(year, b, a), (year, a, b)]), match[4]
    return (), text


def _days(dates: Sequence[tuple[int, int, int]]) -> tuple[int, ...]:
    ordinals = []
    for year, month, day in dates:
        try:
            ordinals.append(datetime.date(year, month, day).toordinal())
        except ValueError:
            continue
    return tuple(dict.fromkeys(ordinals))


def _year(text: str) -> int:
    year = int(text)
    return year if len(text) == 4 else year + (1900 if year >= 85 else 2000)
