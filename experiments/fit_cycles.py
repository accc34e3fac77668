"""Fit the base rates of simulated hypnograms, so that cycles do not change averages over a night.

    python experiments/fit_cycles.py [--rounds 40] [--nights 300]

Stage probabilities are propagated through nights of 7.5 h with cycle lengths as drawn by the
simulator, and each rate is scaled by target over actual rate until both agree. Prints ``BASE`` of
``sleepfm/simulate/hypnogram.py``, the share of each stage, and properties of simulated nights.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from sleepfm.simulate.hypnogram import (
    CYCLE_BOUNDS_MIN,
    CYCLE_MIN,
    EPOCH_S,
    FIRST_STAGE,
    N3,
    NIGHT_EPOCHS,
    STAGES,
    TRANSITION,
    R,
    W,
    draw_hypnogram,
    transition_rates,
)

LENGTHS = np.clip(norm.ppf((np.arange(9) + 0.5) / 9, *CYCLE_MIN), *CYCLE_BOUNDS_MIN)
GAP_EPOCHS, LEAST_EPOCHS = 30, 10
"""REM episodes include gaps below 15 min, and have at least 5 min of REM."""


def describe(nights: NDArray[np.int8]) -> None:
    """Print properties of nights: N3 and REM by thirds, REM episodes, cycle length, latency."""
    for name, stage in (("N3", N3), ("REM", R)):
        thirds = (nights.reshape(len(nights), 3, -1) == stage).sum(axis=(0, 2))
        print(f"{name} in the thirds of the night:", np.round(thirds / thirds.sum(), 2))
    minutes: list[list[float]] = [[], [], []]
    cycle_min, latency = [], []
    for night in nights:
        rem_epochs = np.flatnonzero(night == R)
        if not len(rem_epochs):
            continue
        latency.append((rem_epochs[0] - np.flatnonzero(night != W)[0]) * EPOCH_S / 60)
        episodes = np.split(rem_epochs, np.flatnonzero(np.diff(rem_epochs) > GAP_EPOCHS) + 1)
        episodes = [e for e in episodes if len(e) >= LEAST_EPOCHS]
        for durations, episode in zip(minutes, episodes, strict=False):
            durations.append(len(episode) * EPOCH_S / 60)
        cycle_min += list(np.diff([e[0] for e in episodes]) * EPOCH_S / 60)
    print("minutes of REM in the first three episodes:", [round(np.mean(m), 1) for m in minutes])
    print("median minutes between their starts:", np.median(cycle_min))
    print("median minutes from sleep onset to REM:", np.median(latency))


def main() -> None:
    """Fit, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40, help="of the fit")
    parser.add_argument("--nights", type=int, default=300, help="to describe")
    args = parser.parse_args()
    target = TRANSITION / TRANSITION.sum(axis=1, keepdims=True)
    base = target.copy()
    for _ in range(args.rounds):
        rates = np.stack([transition_rates(NIGHT_EPOCHS, c, base) for c in LENGTHS], axis=1)
        share = np.tile(FIRST_STAGE / FIRST_STAGE.sum(), (len(LENGTHS), 1))
        transitions = np.zeros_like(base)
        for step in rates[:-1]:
            flow = share[:, :, None] * step
            transitions += flow.sum(axis=0)
            share = flow.sum(axis=1)
        base *= target / (transitions / transitions.sum(axis=1, keepdims=True))
    occupied = transitions.sum(axis=1) / transitions.sum()
    np.fill_diagonal(base, 0)
    print(np.array2string(base, precision=7, suppress_small=True, separator=", "))
    print({name: round(float(x), 4) for name, x in zip(STAGES, occupied, strict=True)})
    rng = np.random.default_rng(0)
    describe(np.stack([draw_hypnogram(rng, NIGHT_EPOCHS) for _ in range(args.nights)]))
    print(
        "largest difference:",
        np.abs(transitions / transitions.sum(axis=1, keepdims=True) - target).max(),
    )


if __name__ == "__main__":
    main()
