"""Hits spread in time: at most one clip per so many seconds of a recording."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def spread_out(
    recordings: Sequence[str], start_s: NDArray[np.float64], seconds: float
) -> NDArray[np.int64]:
    """Places of the hits that stay, best first.

    A hit stays unless a better one that stays starts less than ``seconds`` before or after it in
    the same recording.

    Parameters
    ----------
    recordings : sequence of str
        The recording of each hit, best first.
    start_s : ndarray of float64, shape [n]
        When each hit starts, in seconds from its recording's start.
    seconds : float
    """
    kept: list[int] = []
    taken: dict[str, list[float]] = {}
    for place, (recording, start) in enumerate(zip(recordings, start_s.tolist(), strict=True)):
        times = taken.setdefault(recording, [])
        after = bisect_left(times, start)
        near = times[max(0, after - 1) : after + 1]
        if all(abs(start - time) >= seconds for time in near):
            insort(times, start)
            kept.append(place)
    return np.array(kept, np.int64)
