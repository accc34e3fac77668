"""Ground truth of simulated nights per clip, as targets for probes and training."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.simulate.events import CENTRAL, HYPOPNEA, MIXED, OBSTRUCTIVE, Spans
from sleepfm.simulate.grid import GRID_HZ, Floats
from sleepfm.simulate.hypnogram import EPOCH_S
from sleepfm.simulate.night import Night

COLUMNS: Final = (
    "rr_mean_s",
    "rr_sd_s",
    "rr_rmssd_s",
    "breath_hz",
    "breath_depth",
    "breath_depth_sd",
    "breath_phase",
    "airflow",
    "oxygen_min",
    "sleep_depth",
    "infraslow",
    "tone",
    "movement",
    "a_phase",
    "arousal_s",
    "apnea_s",
    "hypopnea_s",
)
"""Columns of :func:`clip_truth`. Durations in s, rates in Hz, saturation in %, ``breath_phase`` in
breaths (0 to 1, an inspiration starts at 0) at the start of the clip; ``breath_depth`` and
``airflow`` relative to quiet breathing; ``sleep_depth`` and ``infraslow`` with SD 1 over a night;
``tone``, ``movement`` and ``a_phase`` as the mean strength over the clip."""


def clip_truth(night: Night) -> dict[str, NDArray[np.float32]]:
    """Return the true physiology of each 30 s clip.

    Parameters
    ----------
    night : Night
        The simulated night.

    Returns
    -------
    dict of str to ndarray of float32, shape [clips]
        Values by column of :data:`COLUMNS`; NaN where a clip has too few beats.
    """
    clips, breathing, state = len(night.stages), night.breathing, night.state

    def cut(values: Floats) -> Floats:
        return values.reshape(clips, EPOCH_S * GRID_HZ)

    mean, sd, rmssd = _intervals(night, clips)
    depth = cut(breathing.depth * breathing.effort)
    apneas, hypopneas = (
        _seconds(night.scored_events.keep(np.isin(night.scored_events.kind, kinds)), clips)
        for kinds in ((OBSTRUCTIVE, CENTRAL, MIXED), (HYPOPNEA,))
    )
    columns = {
        "rr_mean_s": mean,
        "rr_sd_s": sd,
        "rr_rmssd_s": rmssd,
        "breath_hz": cut(np.gradient(breathing.phase) * GRID_HZ).mean(axis=1),
        "breath_depth": depth.mean(axis=1),
        "breath_depth_sd": depth.std(axis=1),
        "breath_phase": cut(breathing.phase)[:, 0] % 1.0,
        "airflow": cut(breathing.depth * breathing.effort * breathing.flow).mean(axis=1),
        "oxygen_min": cut(breathing.oxygen).min(axis=1),
        "sleep_depth": cut(state.sleep_depth).mean(axis=1),
        "infraslow": cut(state.infraslow).mean(axis=1),
        "tone": cut(state.tone).mean(axis=1),
        "movement": cut(state.movement).mean(axis=1),
        "a_phase": cut(state.a_phase).mean(axis=1),
        "arousal_s": _seconds(night.arousals, clips),
        "apnea_s": apneas,
        "hypopnea_s": hypopneas,
    }
    return {name: columns[name].astype(np.float32) for name in COLUMNS}


def _intervals(night: Night, clips: int) -> tuple[Floats, Floats, Floats]:
    """Return mean, SD and RMSSD of the R-R intervals of each clip.

    Ectopic beats and the pause after each are excluded, as in measures of normal-to-normal
    intervals (Task Force of the ESC and NASPE, 1996, Circulation 93:1043).
    """
    beats = night.beats
    normal = ~beats.ectopic
    normal[1:] &= ~beats.ectopic[:-1]
    normal[0] = False
    return interval_statistics(beats.at_s, beats.rr_s, normal, clips)


def interval_statistics(
    at_s: Floats, rr_s: Floats, normal: NDArray[np.bool_], clips: int
) -> tuple[Floats, Floats, Floats]:
    """Return mean, SD and RMSSD of the normal R-R intervals that end in each clip of 30 s.

    Parameters
    ----------
    at_s, rr_s : ndarray of float64, shape [beats]
        Time of each beat, and the R-R interval before it, in seconds.
    normal : ndarray of bool, shape [beats]
        Whether the interval is between two normal beats.
    clips : int
        Number of clips.

    Returns
    -------
    mean, sd, rmssd : ndarray of float64, shape [clips]
        In seconds; NaN where a clip has fewer than five normal intervals.
    """
    clip_of_beat = (at_s / EPOCH_S).astype(np.intp)
    mean, sd, rmssd = (np.full(clips, np.nan) for _ in range(3))
    for clip in range(clips):
        in_clip = normal & (clip_of_beat == clip)
        if in_clip.sum() < 5:
            continue
        rr = rr_s[in_clip]
        mean[clip], sd[clip] = rr.mean(), rr.std()
        successive = in_clip[1:] & in_clip[:-1]
        if successive.any():
            rmssd[clip] = np.sqrt(np.mean(np.diff(rr_s)[successive] ** 2))
    return mean, sd, rmssd


def _seconds(spans: Spans, clips: int) -> Floats:
    """Return the number of seconds of each clip that are covered by events."""
    edges = np.arange(clips + 1) * float(EPOCH_S)
    covered = np.zeros(clips)
    for onset, end in zip(spans.onset_s, spans.end_s, strict=True):
        overlap = np.minimum(edges[1:], end) - np.maximum(edges[:-1], onset)
        covered += np.clip(overlap, 0, None)
    return np.minimum(covered, EPOCH_S)
