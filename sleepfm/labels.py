"""Stage and event seconds of each clip, computed from the scoring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.recordings.scoring.vocabulary import STAGES, Event, ScoredStage

EVENT_COLUMNS: Final[dict[str, tuple[str, str | None]]] = {
    "apnea_obstructive_s": ("apnea", "obstructive"),
    "apnea_central_s": ("apnea", "central"),
    "apnea_mixed_s": ("apnea", "mixed"),
    "apnea_unspecified_s": ("apnea", ""),
    "hypopnea_s": ("hypopnea", None),
    "desaturation_s": ("desaturation", None),
    "arousal_s": ("arousal", None),
    "rera_s": ("rera", None),
    "limb_movement_s": ("limb_movement", None),
    "unsure_s": ("unsure", None),
}
"""Event type and subtype (None: any) counted in each column of seconds."""

_ALSO_COUNTED: Final = {"arousal_s": ("rera",)}
"""A respiratory effort-related arousal also counts as an arousal."""
_TOLERANCE_S: Final = 0.05
_EPOCHS_S: Final = (30.0, 20.0, 15.0, 10.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0)


def scoring_grid(stages: Sequence[ScoredStage], clip_s: float) -> float:
    """Return the offset of clips, in seconds, at which they are aligned with the scored epochs.

    If all epochs share one offset, it is that offset. If they do not, or if a clip is not a whole
    number of epochs, it is 0: clips start with the recording.

    Parameters
    ----------
    stages : sequence of ScoredStage
        Sorted by onset.
    clip_s : float
        Length of a clip, in seconds.

    Returns
    -------
    float
        Offset, 0 to ``clip_s``, in seconds.
    """
    # the first epoch may have been truncated at the start of the signals
    onsets = np.array([s.onset_s for s in stages if s.onset_s > 0 or len(stages) == 1])
    for epoch_s in _EPOCHS_S:
        if epoch_s > clip_s or clip_s % epoch_s or not len(onsets):
            continue
        phase = float(np.median(onsets % epoch_s))
        deviation = (onsets - phase + epoch_s / 2) % epoch_s - epoch_s / 2
        if np.abs(deviation).max() <= _TOLERANCE_S:
            return phase if _TOLERANCE_S < phase < epoch_s - _TOLERANCE_S else 0.0
    return 0.0


def clip_stages(
    stages: Sequence[ScoredStage], clips: int, clip_s: float, offset_s: float = 0.0
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Assign a stage to each clip.

    A clip has the stage that covers most of it, the earlier one in a tie. Unscored time counts as
    ``UNS``, which is assigned only if it covers more of the clip than any stage.

    Parameters
    ----------
    stages : sequence of ScoredStage
        Intervals without overlap; times in seconds from the start of the recording.
    clips : int
        Number of clips.
    clip_s : float
        Length of a clip, in seconds.
    offset_s : float
        Start of the first clip, in seconds.

    Returns
    -------
    stages : tuple of str, length clips
        Stages of :data:`~sleepfm.recordings.scoring.vocabulary.STAGES`.
    labels : tuple of str, length clips
        Labels as written; ``""`` if most of a clip is unscored.
    """
    seconds, first, raw = _covered(stages, clips, clip_s, offset_s)
    total, best = _winners(seconds, first, clip_s)
    labels = []
    for i, k in enumerate(best):
        scored = seconds[i, k] >= total[i, k] / 2 and raw[i, k] >= 0
        labels.append(stages[raw[i, k]].raw if scored else "")
    return tuple(STAGES[k] for k in best), tuple(labels)


def clip_stage_shares(
    stages: Sequence[ScoredStage], clips: int, clip_s: float, offset_s: float = 0.0
) -> NDArray[np.float32]:
    """Return the fraction of each clip covered by its stage; below 1, a clip has other stages too.

    Parameters
    ----------
    stages, clips, clip_s, offset_s
        As for :func:`clip_stages`.

    Returns
    -------
    ndarray of float32, shape [clips]
        0 to 1; for ``UNS`` the fraction that is unscored.
    """
    seconds, first, _ = _covered(stages, clips, clip_s, offset_s)
    total, best = _winners(seconds, first, clip_s)
    share = total[np.arange(clips), best] / clip_s
    return np.clip(share, 0, 1).astype(np.float32)


_Seconds = NDArray[np.float64]


def _covered(
    stages: Sequence[ScoredStage], clips: int, clip_s: float, offset_s: float
) -> tuple[_Seconds, _Seconds, NDArray[np.int64]]:
    """Return seconds, first onset and longest interval by clip and stage, [clips, stages]."""
    seconds = np.zeros((clips, len(STAGES)))
    first = np.full((clips, len(STAGES)), np.inf)
    longest = np.zeros((clips, len(STAGES)))
    raw = np.full((clips, len(STAGES)), -1, np.int64)
    for number, scored in enumerate(stages):
        start = scored.onset_s - offset_s
        span, overlap = _overlap(start, start + scored.duration_s, clips, clip_s)
        k = STAGES.index(scored.stage)
        seconds[span, k] += overlap
        first[span, k] = np.minimum(first[span, k], start)
        longer = overlap > longest[span, k]
        longest[span, k] = np.where(longer, overlap, longest[span, k])
        raw[span, k] = np.where(longer, number, raw[span, k])
    return seconds, first, raw


def _winners(
    seconds: _Seconds, first: _Seconds, clip_s: float
) -> tuple[_Seconds, NDArray[np.intp]]:
    """Add unscored time to UNS, and return the stage that covers most of each clip."""
    total = np.round(seconds, 6)
    unscored = STAGES.index("UNS")
    total[:, unscored] += np.maximum(clip_s - total.sum(axis=1), 0)
    priority = first.copy()
    priority[:, unscored] = np.finfo(np.float64).max  # in a tie, a stage precedes UNS
    tied = np.where(total == total.max(axis=1)[:, None], priority, np.inf)
    return total, np.argmin(tied, axis=1)


def clip_event_seconds(
    events: Sequence[Event], clips: int, clip_s: float, offset_s: float = 0.0
) -> dict[str, NDArray[np.float32]]:
    """Return the seconds of each clip covered by events of each type; overlaps count once.

    Parameters
    ----------
    events : sequence of Event
        Onset and duration in seconds from the start of the recording.
    clips : int
        Number of clips.
    clip_s : float
        Length of a clip, in seconds.
    offset_s : float
        Start of the first clip, in seconds.

    Returns
    -------
    dict of str to ndarray of float32, shape [clips]
        Seconds by column of :data:`EVENT_COLUMNS`.
    """
    columns = {}
    for column, (event_type, subtype) in EVENT_COLUMNS.items():
        total = np.zeros(clips)
        further_types = _ALSO_COUNTED.get(column, ())
        chosen = [
            e
            for e in events
            if (e.type == event_type and subtype in (None, e.subtype)) or e.type in further_types
        ]
        for start, end in _union(chosen):
            span, overlap = _overlap(start - offset_s, end - offset_s, clips, clip_s)
            total[span] += overlap
        columns[column] = total.astype(np.float32)
    return columns


def _overlap(
    start: float, end: float, clips: int, clip_s: float
) -> tuple[slice, NDArray[np.float64]]:
    """Find the clips that an interval overlaps, and the seconds of overlap with each."""
    low = int(np.clip(np.floor(start / clip_s), 0, clips))
    high = int(np.clip(np.ceil(end / clip_s), low, clips))
    edges = np.arange(low, high) * clip_s
    return slice(low, high), np.minimum(end, edges + clip_s) - np.maximum(start, edges)


def _union(events: Sequence[Event]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for event in sorted(events, key=lambda e: e.onset_s):
        start, end = event.onset_s, event.onset_s + event.duration_s
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end > start:
            merged.append((start, end))
    return merged
