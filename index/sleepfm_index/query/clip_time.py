"""Finding the clip of a recording that covers a given time."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError

_DAY_S: Final = 86400.0
_MOMENT_S: Final = 0.001


def clip_position(
    at: str, start_s: NDArray[np.float64], clock_s: NDArray[np.float64] | None, clip_seconds: float
) -> int:
    """Index of the clip of a recording that covers a time.

    Parameters
    ----------
    at : str
        ``HH:MM:SS`` or ``HH:MM`` (time of day if it falls within the recording, otherwise offset;
        24:00 and later count from the midnight before the start), or ``+SECONDS`` from the start.
    start_s : ndarray of float64, shape [n]
        Offset of each clip from the recording's start, in seconds, ascending.
    clock_s : ndarray of float64, shape [n], or None
        Time of day of each clip, in seconds after midnight.
    clip_seconds : float
        Length of a clip, in seconds.

    Returns
    -------
    int
        Index into ``start_s``.

    Raises
    ------
    QueryError
        If the time is not valid, no clip covers it, or it occurs on two days of the recording.
    """
    plus = re.fullmatch(r"\+(\d+(?:\.\d+)?)", at)
    clock = re.fullmatch(r"(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?", at)
    if plus:
        hits = _covering(start_s, float(plus[1]), clip_seconds)
    elif clock:
        seconds = int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3] or 0)
        hits = np.empty(0, np.int64)
        if clock_s is not None and len(start_s):
            hits = _at_clock(start_s, clock_s, seconds, clip_seconds)
            if len(hits) > 1:
                offsets = " or ".join(f"+{start_s[i]:.0f}" for i in hits)
                raise QueryError(
                    f"{at} occurs {len(hits)} times in this recording; write {offsets} instead"
                )
        if not len(hits):
            hits = _covering(start_s, seconds, clip_seconds)
    else:
        raise QueryError(f"{at!r} is not a time; write HH:MM:SS, or +SECONDS from the start")
    if not len(hits):
        raise QueryError(
            f"no clip of the recording covers {at}{_span(start_s, clock_s, clip_seconds)}"
        )
    return int(hits[0])


def _span(
    start_s: NDArray[np.float64], clock_s: NDArray[np.float64] | None, clip_seconds: float
) -> str:
    """From when to when the clips of a recording lie, as the end of a sentence."""
    if not np.isfinite(start_s).all() or not len(start_s):
        return ""
    ends = (start_s[0], start_s[-1] + clip_seconds)
    text = f"; its clips lie between +{ends[0]:.0f} and +{ends[1]:.0f} s"
    if clock_s is None or not np.isfinite(clock_s[0]):
        return text
    first, last = (_clock(clock_s[0] + (end - start_s[0])) for end in ends)
    return f"{text} ({first} to {last})"


def _clock(seconds: float) -> str:
    whole = int(seconds % _DAY_S)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def moment_before(time: str) -> str:
    """Return the moment just before a time, so that a stretch does not include the clip at its end.

    Parameters
    ----------
    time : str
        Time as in :func:`clip_position`; other text is returned unchanged.

    Returns
    -------
    str
    """
    plus = re.fullmatch(r"\+(\d+(?:\.\d+)?)", time)
    if plus:
        return f"+{max(0.0, float(plus[1]) - _MOMENT_S):.3f}"
    clock = re.fullmatch(r"(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?", time)
    if not clock:
        return time
    seconds = int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3] or 0) - _MOMENT_S
    milliseconds = round(1000 * (seconds % _DAY_S if seconds < 0 else seconds))
    minutes, remainder = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{remainder / 1000:06.3f}"


def _at_clock(
    start_s: NDArray[np.float64],
    clock_s: NDArray[np.float64],
    seconds: float,
    clip_seconds: float,
) -> NDArray[np.int64]:
    """Clips that cover a time of day, on any day of the recording.

    Hours from 24 on count from the midnight before the first clip: 25:30:00 is half past one.
    """
    absolute = clock_s[0] + (start_s - start_s[0])  # seconds after that midnight, not modulo a day
    if seconds >= _DAY_S:
        return _covering(absolute, seconds, clip_seconds)
    days = range(int(absolute[-1] // _DAY_S) + 1)
    hits = [_covering(absolute, seconds + day * _DAY_S, clip_seconds) for day in days]
    return np.concatenate(hits)


def _covering(
    starts: NDArray[np.float64], seconds: float, clip_seconds: float
) -> NDArray[np.int64]:
    since = seconds - starts
    return np.flatnonzero((since >= 0) & (since < clip_seconds))
