"""Fit the base rates of simulated hypnograms, so that cycles leave the night as a whole as it is.

    python experiments/fit_cycles.py

Stage probabilities are propagated through nights of 7.5 h whose cycles are of the lengths that the
simulator draws, and each rate is scaled by wanted over found until both agree. Prints ``BASE`` of
``sleepfm/simulate/hypnogram.py``, and the shares of the stages.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from sleepfm.simulate.hypnogram import (
    CYCLE_BOUNDS_MIN,
    CYCLE_MIN,
    FIRST_STAGE,
    NIGHT_EPOCHS,
    STAGES,
    TRANSITION,
    transition_rates,
)

LENGTHS = np.clip(norm.ppf((np.arange(9) + 0.5) / 9, *CYCLE_MIN), *CYCLE_BOUNDS_MIN)
ROUNDS = 40


def main() -> None:
    """Fit, and print."""
    wanted = TRANSITION / TRANSITION.sum(axis=1, keepdims=True)
    base = wanted.copy()
    for _ in range(ROUNDS):
        rates = np.stack([transition_rates(NIGHT_EPOCHS, c, base) for c in LENGTHS], axis=1)
        share = np.tile(FIRST_STAGE / FIRST_STAGE.sum(), (len(LENGTHS), 1))
        found = np.zeros_like(base)
        for step in rates[:-1]:
            moved = share[:, :, None] * step
            found += moved.sum(axis=0)
            share = moved.sum(axis=1)
        base *= wanted / (found / found.sum(axis=1, keepdims=True))
    occupied = found.sum(axis=1) / found.sum()
    np.fill_diagonal(base, 0)
    print(np.array2string(base, precision=7, suppress_small=True, separator=", "))
    print({name: round(float(x), 4) for name, x in zip(STAGES, occupied, strict=True)})
    print("largest difference:", np.abs(found / found.sum(axis=1, keepdims=True) - wanted).max())


if __name__ == "__main__":
    main()
