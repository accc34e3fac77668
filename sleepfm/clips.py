"""A recording becomes clips: 30 s, one rate, labelled, flagged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import Modality
from sleepfm.recordings.annotations import Event


@dataclass(frozen=True)
class Clips:
    """One recording cut into ``n`` clips, ready for the encoders.

    Parameters
    ----------
    start_s : ndarray of float64, shape [n]
        Offset of each clip from the recording's start, in seconds.
    clock_s : ndarray of float64, shape [n], or None
        Time of day of each clip, in seconds after midnight.
    stage, raw_stage : tuple of str, length n
        AASM stage (``UNS`` where nothing was scored) and the label as written (``""`` if none).
    signals : dict of Modality to ndarray of float32, shape [n, slots, samples]
        Only modalities with at least one slot filled; a missing slot is zero.
    filled : dict of Modality to ndarray of uint16, shape [n]
        Bit ``i`` set where slot ``i`` carries signal in that clip; 0 means the modality is absent.
    quality : dict of str to ndarray of shape [n]
        Per modality fractions in 0..1 of flat, clipped, NaN and out-of-range samples, keyed by the
        column name, e.g. ``quality_bas_flat``.
    event_seconds : dict of str to ndarray of float32, shape [n]
        Seconds of overlap per event type, keyed by the column name, e.g. ``hypopnea_s``.
    events : tuple of Event
        The events themselves.
    """

    start_s: NDArray[np.float64]
    clock_s: NDArray[np.float64] | None
    stage: tuple[str, ...]
    raw_stage: tuple[str, ...]
    signals: dict[Modality, NDArray[np.float32]]
    filled: dict[Modality, NDArray[np.uint16]]
    quality: dict[str, NDArray[np.float32]]
    event_seconds: dict[str, NDArray[np.float32]]
    events: tuple[Event, ...]

    def __len__(self) -> int:
        return len(self.start_s)
