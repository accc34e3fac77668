"""Events of a simulated night: movements, respiratory events, arousals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.simulate.grid import GRID_HZ, Floats, drift, envelope, happen, smooth, spread_out
from sleepfm.simulate.hypnogram import W
from sleepfm.simulate.streams import Streams
from sleepfm.simulate.subject import Subject

HYPOPNEA, OBSTRUCTIVE, CENTRAL, MIXED = range(4)
"""Kinds of respiratory event, in the order of ``Subject.event_mix``."""

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
_SHORTEST_EVENT_S: Final = 10.0
_BETWEEN_EVENTS_S: Final = 15.0
_BETWEEN_AROUSALS_S: Final = 10.0


@dataclass(frozen=True)
class Spans:
    """Things that last: onset and duration in seconds, strength (a factor), and a kind."""

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

    def keep(self, which: NDArray[np.bool_]) -> Spans:
        """Those marked True.

        Parameters
        ----------
        which : ndarray of bool, shape [events]
        """
        return Spans(
            self.onset_s[which], self.duration_s[which], self.strength[which], self.kind[which]
        )

    def envelope(self, samples: int, decay_s: float = 1.0) -> Floats:
        """Their strength over time on the grid.

        Parameters
        ----------
        samples : int
            Length of the grid.
        decay_s : float
            Time constant of the decay after each end, in seconds.
        """
        return envelope(samples, self.onset_s, self.duration_s, self.strength, decay_s)


def draw_positions(streams: Streams, samples: int) -> tuple[NDArray[np.intp], Floats]:
    """Body position at each instant of the grid, and the times of turning over.

    Parameters
    ----------
    streams : Streams
    samples : int
        Length of the grid.
    """
    rng = streams("position")
    turns = happen(rng, np.full(samples, _TURNS_PER_HOUR))
    each = rng.choice(len(_POSITION_SHARE), size=len(turns) + 1, p=_POSITION_SHARE)
    index = np.searchsorted(turns, np.arange(samples) / GRID_HZ)
    return each[index].astype(np.intp), turns


def draw_movements(streams: Streams, stage: Floats, turns: Floats) -> Spans:
    """Body movements: one at each turn, the others as often as the stage has them.

    Parameters
    ----------
    streams : Streams
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    turns : ndarray of float64
        Times of turning over, in seconds.
    """
    rng = streams("movement")
    small = happen(rng, stage @ _MOVES_PER_HOUR)
    at = np.concatenate([turns, small])
    strength = np.concatenate(
        [np.ones(len(turns)), 0.45 * np.exp(0.5 * rng.normal(size=len(small)))]
    )
    duration = 2 + rng.gamma(2.0, 2.0, len(at)) * (0.5 + strength)
    order = np.argsort(at, kind="stable")
    return Spans(at[order], duration[order], strength[order], np.zeros(len(at), np.int8))


def draw_leg_movements(streams: Streams, subject: Subject, stage: Floats) -> Spans:
    """Periodic leg movements of sleep: trains of four or more, 15 to 45 s apart (AASM manual).

    Parameters
    ----------
    streams : Streams
    subject : Subject
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    """
    rng = streams("legs")
    per_hour = subject.leg_movements_per_hour / _LEGS_IN_A_TRAIN * (stage @ _LEG_MOVEMENTS)
    trains = [
        start + np.cumsum(np.clip(rng.normal(rng.uniform(20, 35), 3.0, length), 15, 45))
        for start, length in (
            (start, 4 + rng.poisson(_LEGS_IN_A_TRAIN - 4)) for start in happen(rng, per_hour)
        )
    ]
    at = np.sort(np.concatenate([np.zeros(0), *trains]))
    at = at[at < len(stage) / GRID_HZ]
    at = at[stage[(at * GRID_HZ).astype(int), W] < 0.5]
    at = at[spread_out(at, 10.0)]
    strength = rng.uniform(0.08, 0.3, len(at))
    return Spans(at, rng.uniform(0.5, 3.0, len(at)), strength, np.zeros(len(at), np.int8))


def draw_a_phases(streams: Streams, stage: Floats, infraslow: Floats) -> Spans:
    """Draw A phases of the cyclic alternating pattern: NREM sleep surges every 20 to 60 s.

    They come and go over minutes and fall into the troughs of the infraslow rhythm.

    Parameters
    ----------
    streams : Streams
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    infraslow : ndarray of float64, shape [samples]
        Infraslow rhythm on the grid, SD 1.
    """
    rng = streams("A phases")
    cyclic = smooth((drift(rng, len(stage), 240.0) > -0.2).astype(float), 10.0)
    at = happen(rng, (stage @ _A_PHASES_PER_HOUR) * cyclic * np.exp(-0.8 * infraslow - 0.3) * 2)
    at = at[spread_out(at, 16.0)]
    duration = np.clip(rng.gamma(3.0, 2.0, len(at)), 2.0, 12.0)
    return Spans(at, duration, rng.uniform(0.2, 1.0, len(at)), np.zeros(len(at), np.int8))


def muscle_tone(streams: Streams, stage: Floats) -> Floats:
    """Tone of the muscles near the sensors on the grid: 1 in quiet wake, least in REM sleep.

    Parameters
    ----------
    streams : Streams
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    """
    level = stage @ np.array([1.0, 0.5, 0.35, 0.3, 0.12])
    return np.asarray(level * np.exp(0.35 * drift(streams("tone"), len(stage), 150.0)))


def draw_respiratory_events(
    streams: Streams, subject: Subject, stage: Floats, position: NDArray[np.intp]
) -> Spans:
    """Apneas and hypopneas, in sleep only, more often supine and in REM, in clusters.

    They last 10 s or more (AASM manual 2.6) and at least 15 s lie between two of them.

    Parameters
    ----------
    streams : Streams
    subject : Subject
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    position : ndarray of intp, shape [samples]
        Body position on the grid.
    """
    rng = streams("respiratory events")
    samples = len(stage)
    clustering = np.exp(0.8 * drift(rng, samples, 400.0) - 0.32)
    supine = np.where(position == SUPINE, 1.5, 0.6)
    onset = happen(rng, subject.event_rate * (stage @ _EVENT_HAZARD) * supine * clustering)
    in_rem = stage[(onset * GRID_HZ).astype(int), -1]
    duration = _SHORTEST_EVENT_S + rng.gamma(2.2, 5.0, len(onset)) * (1 + 0.3 * in_rem)
    kind = rng.choice(4, size=len(onset), p=subject.event_mix).astype(np.int8)
    strength = rng.uniform(0.0, 1.0, len(onset))
    asleep_until = _end_of_sleep(stage)[(onset * GRID_HZ).astype(int)]
    duration = np.minimum(np.minimum(duration, 75.0), asleep_until - onset)
    keep = np.zeros(len(onset), bool)
    free = 0.0
    for i in range(len(onset)):
        if duration[i] >= _SHORTEST_EVENT_S and onset[i] >= free:
            keep[i] = True
            free = onset[i] + duration[i] + _BETWEEN_EVENTS_S
    return Spans(onset, duration, strength, kind).keep(keep)


def _end_of_sleep(stage: Floats) -> Floats:
    """For each instant of the grid, the time at which the person next wakes, in seconds."""
    samples = len(stage)
    awake = np.append(np.flatnonzero(stage[:, W] > 0.5), samples)
    return awake[np.searchsorted(awake, np.arange(samples))] / GRID_HZ


def draw_arousals(
    streams: Streams, subject: Subject, stage: Floats, breathing: Spans, movements: Spans
) -> Spans:
    """Arousals: spontaneous, at the end of respiratory events, and with movements in sleep.

    They last 3 to 15 s and follow 10 s of sleep (AASM manual).

    Parameters
    ----------
    streams : Streams
    subject : Subject
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    breathing, movements : Spans
        Respiratory events and body movements.
    """
    rng = streams("arousals")
    spontaneous = happen(rng, stage @ _AROUSALS_PER_HOUR)
    ending = breathing.end_s[rng.random(len(breathing)) < subject.arousability]
    moving = movements.onset_s[rng.random(len(movements)) < 0.7] - 1.0
    at = np.sort(np.concatenate([spontaneous, ending, moving]))
    duration = np.minimum(3 + rng.gamma(2.0, 2.5, len(at)), 15.0)
    strength = rng.uniform(0.5, 1.0, len(at))
    last = len(stage) / GRID_HZ
    asleep = _asleep_before(stage)[np.clip((at * GRID_HZ).astype(int), 0, len(stage) - 1)]
    inside = (at > 0) & (at + duration < last) & asleep
    arousals = Spans(at, duration, strength, np.zeros(len(at), np.int8)).keep(inside)
    return arousals.keep(spread_out(arousals.onset_s, _BETWEEN_AROUSALS_S + 15.0))


def _asleep_before(stage: Floats) -> NDArray[np.bool_]:
    """For each instant of the grid, whether the 10 s before it were sleep."""
    awake = np.concatenate([[0.0], np.cumsum(stage[:, W] > 0.5)])
    back = int(_BETWEEN_AROUSALS_S * GRID_HZ)
    index = np.arange(len(stage))
    return np.asarray((awake[index] == awake[np.maximum(index - back, 0)]) & (index >= back))


def phasic_rem(streams: Streams, stage: Floats) -> Floats:
    """Phasic activity of REM sleep, 0 to 1 on the grid: bursts of eye movements.

    Parameters
    ----------
    streams : Streams
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    """
    rng = streams("phasic")
    burst = drift(rng, len(stage), 20.0) > 0.4
    return np.asarray(smooth(burst.astype(float), 2.0) * stage[:, -1])
