"""Scoring laid over clips: one stage a clip, and seconds of each kind of event."""

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
}
"""Column of seconds, and the event type and subtype (None: any) that it counts."""


def clip_stages(
    stages: Sequence[ScoredStage], clips: int, clip_s: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Stage and raw label of each clip.

    A clip takes the stage that covers most of it, the earlier one on a tie, provided that this is
    at least half the clip; otherwise it is ``UNS`` with an empty raw label.

    Returns
    -------
    tuple of str, length clips
        Stages of :data:`~sleepfm.recordings.scoring.vocabulary.STAGES`.
    tuple of str, length clips
        The labels as written.
    """
    seconds = np.zeros((clips, len(STAGES)))
    first = np.full((clips, len(STAGES)), np.inf)
    longest = np.zeros((clips, len(STAGES)))
    raw = np.full((clips, len(STAGES)), -1)
    for number, scored in enumerate(stages):
        span, overlap = _overlap(scored.onset_s, scored.onset_s + scored.duration_s, clips, clip_s)
        k = STAGES.index(scored.stage)
        seconds[span, k] += overlap
        first[span, k] = np.minimum(first[span, k], scored.onset_s)
        longer = overlap > longest[span, k]
        longest[span, k] = np.where(longer, overlap, longest[span, k])
        raw[span, k] = np.where(longer, number, raw[span, k])
    most = seconds.max(axis=1)
    tied = np.where(seconds == most[:, None], first, np.inf)
    best = np.argmin(tied, axis=1)
    scored_clip = most >= clip_s / 2
    return (
        tuple(STAGES[k] if ok else "UNS" for k, ok in zip(best, scored_clip, strict=True)),
        tuple(
            stages[raw[i, k]].raw if ok else ""
            for i, (k, ok) in enumerate(zip(best, scored_clip, strict=True))
        ),
    )


def clip_event_seconds(
    events: Sequence[Event], clips: int, clip_s: float
) -> dict[str, NDArray[np.float32]]:
    """Seconds of each clip that events of each kind cover; overlapping events count once.

    Returns
    -------
    dict of str to ndarray of float32, shape [clips]
        One entry for every column of :data:`EVENT_COLUMNS`.
    """
    columns = {}
    for column, (kind, subtype) in EVENT_COLUMNS.items():
        total = np.zeros(clips)
        chosen = [e for e in events if e.type == kind and subtype in (None, e.subtype)]
        for start, end in _union(chosen):
            span, overlap = _overlap(start, end, clips, clip_s)
            total[span] += overlap
        columns[column] = total.astype(np.float32)
    return columns


def _overlap(
    start: float, end: float, clips: int, clip_s: float
) -> tuple[slice, NDArray[np.float64]]:
    """Clips that an interval touches, and for how many seconds each."""
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
