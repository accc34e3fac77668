"""Sleep stages of a simulated night: a Markov chain whose rates vary with the sleep cycle.

Over a whole night the transitions are those of real hypnograms: sleep stages of the 994 training
recordings of the PhysioNet/CinC 2018 challenge (Ghassemi et al. 2018, "You Snooze, You Win"; ODC-By
1.0), reduced to 30 s epochs and counted. Within a night, cycles of about 96 min favour N3 in their
first half and REM towards their end, N3 is more likely early in the night and REM late, and REM
episodes last longer towards morning (Carskadon and Dement, Normal human sleep: an overview;
Feinberg and Floyd 1979, Psychophysiology 16). The sizes of these variations are assumed.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.simulate.grid import GRID_HZ, Floats, smooth

EPOCH_S: Final = 30
"""Length of an epoch, in seconds (AASM manual)."""

STAGES: Final = ("W", "N1", "N2", "N3", "R")
W, N1, N2, N3, R = range(5)

FRACTION: Final = np.array([0.177, 0.1535, 0.4235, 0.115, 0.131])
"""Fraction of each stage among the scored epochs of the source."""

FIRST_STAGE: Final = np.array([0.92, 0.068, 0.009, 0.0, 0.003])
"""Probability that each stage is the first one scored."""

TRANSITION: Final = np.array(
    [
        [0.85368, 0.14048, 0.00478, 0.00005, 0.00100],
        [0.10308, 0.68574, 0.18966, 0.00015, 0.02136],
        [0.01702, 0.04374, 0.89850, 0.03142, 0.00933],
        [0.00572, 0.00432, 0.10486, 0.88413, 0.00098],
        [0.01316, 0.03411, 0.00924, 0.00019, 0.94330],
    ]
)
"""Probability of the next epoch's stage (column) given this one's (row)."""


CYCLE_MIN: Final = (96.0, 10.0)
"""Mean and SD of the length of a cycle, over nights, in minutes."""

CYCLE_BOUNDS_MIN: Final = (75.0, 120.0)

NIGHT_EPOCHS: Final = 900
"""Epochs over which the trend of the night extends, 7.5 h; it is constant afterwards."""

BASE: Final = np.array(
    [
        [0.0, 0.1404814, 0.00478, 0.0000277, 0.0003796],
        [0.103081, 0.0, 0.1896619, 0.0000827, 0.0085724],
        [0.0170198, 0.0437396, 0.0, 0.0174728, 0.0039611],
        [0.0070645, 0.0053354, 0.1295077, 0.0, 0.0016799],
        [0.0250413, 0.0649058, 0.0175822, 0.0006003, 0.0],
    ]
)
"""Transition rates from each stage (row) to each other one, before modulation; fitted so that a
night of 7.5 h has those of ``TRANSITION`` on average (``experiments/fit_cycles.py``)."""

_REM_PHASE, _DEEP_PHASE = 0.9, 0.4
"""Phase of the cycle at which REM and N3 are most likely."""
_INTO_REM: Final = (2.2, 1.8)
_OUT_OF_REM: Final = (0.8, 1.2)
_INTO_DEEP: Final = (1.2, 2.6)
_OUT_OF_DEEP: Final = 0.4
_MAX_LEAVING: Final = 0.9
"""Maximum probability of leaving a stage in one epoch."""


def transition_rates(epochs: int, cycle_min: float, base: Floats = BASE) -> Floats:
    """Return transition probabilities for each epoch from lights out, shape [epochs, 5, 5].

    Parameters
    ----------
    epochs : int
        Number of 30 s epochs.
    cycle_min : float
        Length of a sleep cycle, in minutes.
    base : ndarray of float64, shape [5, 5]
        Transition rates without cycles and trend; the diagonal is ignored.
    """
    epoch = np.arange(epochs)
    cycles = epoch * EPOCH_S / 60 / cycle_min
    late = np.minimum(epoch / NIGHT_EPOCHS, 1.0) - 0.5
    rem = np.cos(2 * np.pi * (cycles - _REM_PHASE))
    deep = np.cos(2 * np.pi * (cycles - _DEEP_PHASE))
    rates = np.tile(base, (epochs, 1, 1))
    rates[:, :, R] *= np.exp(_INTO_REM[0] * rem + _INTO_REM[1] * late)[:, None]
    rates[:, R] *= np.exp(-_OUT_OF_REM[0] * rem - _OUT_OF_REM[1] * late)[:, None]
    rates[:, :, N3] *= np.exp(_INTO_DEEP[0] * deep - _INTO_DEEP[1] * late)[:, None]
    rates[:, N3] *= np.exp(-_OUT_OF_DEEP * deep)[:, None]
    same = np.arange(len(STAGES))
    rates[:, same, same] = 0
    leaving = rates.sum(axis=2, keepdims=True)
    rates *= np.minimum(1.0, _MAX_LEAVING / np.maximum(leaving, 1e-12))
    rates[:, same, same] = 1 - rates.sum(axis=2)
    return rates


def draw_hypnogram(rng: np.random.Generator, epochs: int) -> NDArray[np.int8]:
    """Draw the stages of a night from lights out, as indices into ``STAGES``, shape [epochs].

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of random numbers.
    epochs : int
        Number of 30 s epochs.
    """
    cycle_min = float(np.clip(rng.normal(*CYCLE_MIN), *CYCLE_BOUNDS_MIN))
    rows = np.cumsum(transition_rates(epochs, cycle_min), axis=2)
    dice = rng.random(epochs)
    stages = np.empty(epochs, np.int8)
    row = np.cumsum(FIRST_STAGE)
    for i in range(epochs):
        stages[i] = min(int(np.searchsorted(row, dice[i], side="right")), R)
        row = rows[i, stages[i]]
    return stages


def stage_weights(stages: NDArray[np.int8]) -> Floats:
    """Return the share of each stage on the grid, shape [samples, 5].

    Stages are scored as steps, but physiology changes gradually: each step is spread over 10 s.

    Parameters
    ----------
    stages : ndarray of int8, shape [epochs]
        Indices into ``STAGES``.
    """
    steps = np.eye(len(STAGES))[stages.repeat(EPOCH_S * GRID_HZ)]
    return smooth(steps, 10.0)
