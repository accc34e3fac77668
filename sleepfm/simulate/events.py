"""Events of a simulated night: movements, respiratory events, arousals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.simulate.grid import (
    GRID_HZ,
    Floats,
    drift,
    envelope,
    min_gap_mask,
    poisson_process,
    smooth,
)
from sleepfm.simulate.hypnogram import W
from sleepfm.simulate.streams import Streams
from sleepfm.simulate.subject import Subject

HYPOPNEA, OBSTRUCTIVE, CENTRAL, MIXED = range(4)
"""Types of respiratory event, in the order of ``Subject.event_mix``."""

SUPINE: Final = 0
# Supine, left, right, prone, and turns: Skarpsno et al. 2017 (Nat Sci Sleep 9:267).
_POSITION_SHARE: Final = (0.38, 0.275, 0.275, 0.07)
_TURNS_PER_HOUR: Final = 1.6
_MOVES_PER_HOUR: Final = np.array([24.0, 10.0, 4.0, 1.5, 6.0])
_AROUSALS_PER_HOUR: Final = np.array([0.0, 14.0, 10.0, 3.0, 9.0])
_EVENT_HAZARD: Final = np.array([0.0, 1.2, 1.0, 0.3, 1.4])
# A phases of the cyclic alternating pattern (Terzano et al. 2001, Sleep Med 2:537).
_A_PHASES_PER_HOUR: Final = np.array([0.0, 50.0, 90.0, 70.0, 0.0])
_LEG_MOVEMENTS: Final = np.array([0.0, 1.2, 1.2, 0.5, 0.3])
_LEGS_IN_A_TRAIN: Final = 8
_MIN_EVENT_S: Final = 10.0
_BETWEEN_EVENTS_S: Final = 15.0
_BETWEEN_AROUSALS_S: Final = 10.0


@dataclass(frozen=True)
class Spans:
    """Events with onset and duration in seconds, strength (a factor) and type (``kind``)."""

    onset_s: Floats
    duration_s: Floats
    strength: Floats
    kind: NDArray[np.int8]

    @property
    def end_s(self) -> Floats:
        """End of each event, in seconds."""
        return self.onset_s + self.duration_s

    def __len__(self) -> int:
        return len(self.onset_s)

    def keep(self, mask: NDArray[np.bool_]) -> Spans:
        """Select events by a mask.

        Parameters
        ----------
        mask : ndarray of bool, shape [events]
            True for the events to select.
        """
        return Spans(
            self.onset_s[mask], self.duration_s[mask], self.strength[mask], self.kind[mask]
        )

    def envelope(self, samples: int, decay_s: float = 1.0) -> Floats:
        """Return the strength of the events over time, on the grid.

        Parameters
        ----------
        samples : int
            Length of the grid.
        decay_s : float
            Time constant of the decay after each event, in seconds.
        """
        return envelope(samples, self.onset_s, self.duration_s, self.strength, decay_s)


def draw_positions(streams: Streams, samples: int) -> tuple[NDArray[np.intp], Floats]:
    """Draw the body position on the grid, and the times of position changes in seconds.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    samples : int
        Length of the grid.
    """
    rng = streams("position")
    turns = poisson_process(rng, np.full(samples, _TURNS_PER_HOUR))
    positions = rng.choice(len(_POSITION_SHARE), size=len(turns) + 1, p=_POSITION_SHARE)
    index = np.searchsorted(turns, np.arange(samples) / GRID_HZ)
    return positions[index].astype(np.intp), turns


def draw_movements(streams: Streams, stage: Floats, turns: Floats) -> Spans:
    """Draw body movements: one at each position change, others at a rate given by the stage.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    turns : ndarray of float64
        Times of position changes, in seconds.
    """
    rng = streams("movement")
    small = poisson_process(rng, stage @ _MOVES_PER_HOUR)
    onset_s = np.concatenate([turns, small])
    strength = np.concatenate(
        [np.ones(len(turns)), 0.45 * np.exp(0.5 * rng.normal(size=len(small)))]
    )
    duration = 2 + rng.gamma(2.0, 2.0, len(onset_s)) * (0.5 + strength)
    order = np.argsort(onset_s, kind="stable")
    return Spans(onset_s[order], duration[order], strength[order], np.zeros(len(onset_s), np.int8))


def draw_leg_movements(streams: Streams, subject: Subject, stage: Floats) -> Spans:
    """Draw periodic leg movements: series of four or more, 15 to 45 s apart (AASM manual).

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    subject : Subject
        The simulated person and sensors.
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    """
    rng = streams("legs")
    per_hour = subject.leg_movements_per_hour / _LEGS_IN_A_TRAIN * (stage @ _LEG_MOVEMENTS)
    trains = [
        start + np.cumsum(np.clip(rng.normal(rng.uniform(20, 35), 3.0, length), 15, 45))
        for start, length in (
            (start, 4 + rng.poisson(_LEGS_IN_A_TRAIN - 4))
            for start in poisson_process(rng, per_hour)
        )
    ]
    onset_s = np.sort(np.concatenate([np.zeros(0), *trains]))
    onset_s = onset_s[onset_s < len(stage) / GRID_HZ]
    onset_s = onset_s[stage[(onset_s * GRID_HZ).astype(int), W] < 0.5]
    onset_s = onset_s[min_gap_mask(onset_s, 10.0)]
    strength = rng.uniform(0.08, 0.3, len(onset_s))
    return Spans(
        onset_s, rng.uniform(0.5, 3.0, len(onset_s)), strength, np.zeros(len(onset_s), np.int8)
    )


def draw_a_phases(streams: Streams, stage: Floats, infraslow: Floats) -> Spans:
    """Draw A phases of the cyclic alternating pattern, every 20 to 60 s of NREM sleep.

    Their rate varies over minutes, and they occur in the troughs of the infraslow rhythm.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    infraslow : ndarray of float64, shape [samples]
        Infraslow rhythm on the grid, SD 1.
    """
    rng = streams("A phases")
    cyclic = smooth((drift(rng, len(stage), 240.0) > -0.2).astype(float), 10.0)
    onset_s = poisson_process(
        rng, (stage @ _A_PHASES_PER_HOUR) * cyclic * np.exp(-0.8 * infraslow - 0.3) * 2
    )
    onset_s = onset_s[min_gap_mask(onset_s, 16.0)]
    duration = np.clip(rng.gamma(3.0, 2.0, len(onset_s)), 2.0, 12.0)
    return Spans(
        onset_s, duration, rng.uniform(0.2, 1.0, len(onset_s)), np.zeros(len(onset_s), np.int8)
    )


def muscle_tone(streams: Streams, stage: Floats) -> Floats:
    """Return muscle tone on the grid: 1 in quiet wake, lowest in REM sleep.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    """
    level = stage @ np.array([1.0, 0.5, 0.35, 0.3, 0.12])
    return np.asarray(level * np.exp(0.35 * drift(streams("tone"), len(stage), 150.0)))


def draw_respiratory_events(
    streams: Streams, subject: Subject, stage: Floats, position: NDArray[np.intp]
) -> Spans:
    """Draw apneas and hypopneas: in sleep only, in clusters, more often supine and in REM.

    They last at least 10 s (AASM manual 2.6), with at least 15 s between two of them.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    subject : Subject
        The simulated person and sensors.
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    position : ndarray of intp, shape [samples]
        Body position on the grid.
    """
    rng = streams("respiratory events")
    samples = len(stage)
    clustering = np.exp(0.8 * drift(rng, samples, 400.0) - 0.32)
    supine = np.where(position == SUPINE, 1.5, 0.6)
    onset = poisson_process(rng, subject.event_rate * (stage @ _EVENT_HAZARD) * supine * clustering)
    in_rem = stage[(onset * GRID_HZ).astype(int), -1]
    duration = _MIN_EVENT_S + rng.gamma(2.2, 5.0, len(onset)) * (1 + 0.3 * in_rem)
    kind = rng.choice(4, size=len(onset), p=subject.event_mix).astype(np.int8)
    strength = rng.uniform(0.0, 1.0, len(onset))
    asleep_until = _end_of_sleep(stage)[(onset * GRID_HZ).astype(int)]
    duration = np.minimum(np.minimum(duration, 75.0), asleep_until - onset)
    keep = np.zeros(len(onset), bool)
    next_allowed_s = 0.0
    for i in range(len(onset)):
        if duration[i] >= _MIN_EVENT_S and onset[i] >= next_allowed_s:
            keep[i] = True
            next_allowed_s = onset[i] + duration[i] + _BETWEEN_EVENTS_S
    return Spans(onset, duration, strength, kind).keep(keep)


def _end_of_sleep(stage: Floats) -> Floats:
    """Return the time of the next awakening for each sample of the grid, in seconds."""
    samples = len(stage)
    awake = np.append(np.flatnonzero(stage[:, W] > 0.5), samples)
    return awake[np.searchsorted(awake, np.arange(samples))] / GRID_HZ


def draw_arousals(
    streams: Streams, subject: Subject, stage: Floats, breathing: Spans, movements: Spans
) -> Spans:
    """Draw arousals: spontaneous, at the end of respiratory events, and with movements.

    They last 3 to 15 s and follow at least 10 s of sleep (AASM manual).

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    subject : Subject
        The simulated person and sensors.
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    breathing, movements : Spans
        Respiratory events and body movements.
    """
    rng = streams("arousals")
    spontaneous = poisson_process(rng, stage @ _AROUSALS_PER_HOUR)
    after_events = breathing.end_s[rng.random(len(breathing)) < subject.arousability]
    with_movements = movements.onset_s[rng.random(len(movements)) < 0.7] - 1.0
    onset_s = np.sort(np.concatenate([spontaneous, after_events, with_movements]))
    duration = np.minimum(3 + rng.gamma(2.0, 2.5, len(onset_s)), 15.0)
    strength = rng.uniform(0.5, 1.0, len(onset_s))
    end_s = len(stage) / GRID_HZ
    asleep = _asleep_before(stage)[np.clip((onset_s * GRID_HZ).astype(int), 0, len(stage) - 1)]
    inside = (onset_s > 0) & (onset_s + duration < end_s) & asleep
    arousals = Spans(onset_s, duration, strength, np.zeros(len(onset_s), np.int8)).keep(inside)
    return arousals.keep(min_gap_mask(arousals.onset_s, _BETWEEN_AROUSALS_S + 15.0))


def _asleep_before(stage: Floats) -> NDArray[np.bool_]:
    """Return for each sample of the grid whether the preceding 10 s were sleep."""
    awake = np.concatenate([[0.0], np.cumsum(stage[:, W] > 0.5)])
    samples_before = int(_BETWEEN_AROUSALS_S * GRID_HZ)
    index = np.arange(len(stage))
    return np.asarray(
        (awake[index] == awake[np.maximum(index - samples_before, 0)]) & (index >= samples_before)
    )


def phasic_rem(streams: Streams, stage: Floats) -> Floats:
    """Draw phasic activity of REM sleep, 0 to 1 on the grid: bursts of eye movements.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    """
    rng = streams("phasic")
    burst = drift(rng, len(stage), 20.0) > 0.4
    return np.asarray(smooth(burst.astype(float), 2.0) * stage[:, -1])
