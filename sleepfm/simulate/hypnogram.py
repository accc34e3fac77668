"""Sleep stages of a simulated night: a Markov chain with the transition rates of real hypnograms.

Figures: sleep stages of the 994 training recordings of the PhysioNet/CinC 2018 challenge (Ghassemi
et al. 2018, "You Snooze, You Win"; ODC-By 1.0), reduced to 30 s epochs and counted.
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
"""Share of each stage among the scored epochs of the source."""

FIRST_STAGE: Final = np.array([0.92, 0.068, 0.009, 0.0, 0.003])
"""Probability of each stage to be the first one scored."""

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


def draw_hypnogram(rng: np.random.Generator, epochs: int) -> NDArray[np.int8]:
    """Stages of a night from lights out, as indices into ``STAGES``, shape ``[epochs]``.

    Parameters
    ----------
    rng : numpy.random.Generator
    epochs : int
        Number of 30 s epochs.
    """
    rows = np.cumsum(TRANSITION / TRANSITION.sum(axis=1, keepdims=True), axis=1)
    dice = rng.random(epochs)
    stages = np.empty(epochs, np.int8)
    row = np.cumsum(FIRST_STAGE)
    for i in range(epochs):
        stages[i] = min(int(np.searchsorted(row, dice[i], side="right")), R)
        row = rows[stages[i]]
    return stages


def stage_weights(stages: NDArray[np.int8]) -> Floats:
    """Share of each stage at each instant of the grid, shape ``[samples, 5]``.

    Stages are scored as steps, physiology glides: each step is spread over 10 s.

    Parameters
    ----------
    stages : ndarray of int8, shape [epochs]
        Indices into ``STAGES``.
    """
    steps = np.eye(len(STAGES))[stages.repeat(EPOCH_S * GRID_HZ)]
    return smooth(steps, 10.0)
