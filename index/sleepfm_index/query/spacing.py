"""Spacing of hits in time: a minimum distance between two clips of one recording."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def spread_out(
    recordings: Sequence[str], start_s: NDArray[np.float64], seconds: float
) -> NDArray[np.int64]:
    """Select hits with a minimum distance in time.

    A hit is kept unless a better kept hit starts less than ``seconds`` before or after it
    in the same recording.

    Parameters
    ----------
    recordings : sequence of str
        The recording of each hit, best first.
    start_s : ndarray of float64, shape [n]
        Start of each hit, in seconds from the start of its recording.
    seconds : float
        Minimum distance in seconds.

    Returns
    -------
    ndarray of int64, shape [m]
        Indices of the kept hits, best first.
    """
    kept: list[int] = []
    kept_times: dict[str, list[float]] = {}
    for index, (recording, start) in enumerate(zip(recordings, start_s.tolist(), strict=True)):
        times = kept_times.setdefault(recording, [])
        after = bisect_left(times, start)
        near = times[max(0, after - 1) : after + 1]
        if all(abs(start - time) >= seconds for time in near):
            insort(times, start)
            kept.append(index)
    return np.array(kept, np.int64)
