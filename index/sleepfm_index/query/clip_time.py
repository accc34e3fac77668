"""Which clip of a recording covers a time."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError


def clip_position(
    at: str, start_s: NDArray[np.float64], clock_s: NDArray[np.float64] | None, clip_seconds: float
) -> int:
    """Which of a recording's clips covers a time.

    Parameters
    ----------
    at : str
        ``HH:MM:SS`` or ``HH:MM`` (time of day if it falls within the recording, else offset), or
        ``+SECONDS`` from the start.
    start_s : ndarray of float64, shape [n]
        Offset of each clip, in seconds.
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
        If the time cannot be read or no clip covers it.
    """
    plus = re.fullmatch(r"\+(\d+(?:\.\d+)?)", at)
    clock = re.fullmatch(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?", at)
    if plus:
        wanted = [(start_s, float(plus[1]))]
    elif clock:
        seconds = int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3] or 0)
        wanted = [(start_s, seconds)]
        if clock_s is not None:
            wanted.insert(0, (clock_s, seconds))
    else:
        raise QueryError(f"{at!r} is not a time; write HH:MM:SS, or +SECONDS from the start")
    for starts, seconds in wanted:
        since = np.mod(seconds - starts, 86400.0)
        hits = np.flatnonzero(since < clip_seconds)
        if len(hits):
            return int(hits[0])
    raise QueryError(f"no clip of the recording covers {at}")
