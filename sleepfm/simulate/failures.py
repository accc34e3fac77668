"""Sensor failures: hum, loose electrode, pops, flat signal, missing channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sleepfm.simulate.signal import Signal
from sleepfm.simulate.streams import Streams

_KINDS = ("hum", "pops", "noise", "flat", "lost")


def add_failures(
    streams: Streams, signals: Mapping[str, Signal], share: float
) -> dict[str, Signal]:
    """Simulate sensor failures, independently for each channel.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    signals : mapping of str to Signal
        Signals by channel name.
    share : float
        Probability, 0 to 1, that a channel has a failure.

    Returns
    -------
    dict of str to Signal
        Signals without the channels that are lost for the whole night; at least one remains.
    """
    kept = {}
    for name, signal in signals.items():
        rng = streams(f"failure {name}")
        if rng.random() >= share:
            kept[name] = signal
            continue
        kind = _KINDS[int(rng.choice(len(_KINDS), p=(0.3, 0.25, 0.15, 0.15, 0.15)))]
        if kind != "lost":
            kept[name] = replace(signal, samples=_with_failure(rng, kind, signal))
    return kept or dict(signals)


def _with_failure(rng: np.random.Generator, kind: str, signal: Signal) -> NDArray[np.float32]:
    samples, rate = signal.samples.copy(), signal.rate
    n = len(samples)
    first = int(rng.uniform(0, 0.8) * n)
    last = min(n, first + int(rng.uniform(0.05, 0.6) * n) + rate)
    part = samples[first:last]
    size = float(np.subtract(*np.quantile(samples, [0.95, 0.05]))) or 1.0
    if kind == "hum":
        # aliased in channels with a low sampling rate, as without an anti-aliasing filter
        hz = float(rng.choice([50.0, 60.0])) + 0.05 * rng.standard_normal()
        phase = rng.uniform(0, 2 * np.pi)
        wave = np.sin(2 * np.pi * hz * np.arange(len(part)) / rate + phase)
        part += (rng.uniform(0.2, 1.5) * size * wave).astype(np.float32)
    elif kind == "pops":
        for start in rng.integers(0, len(part), max(1, int(len(part) / rate / 20))):
            tail = np.exp(-np.arange(min(len(part) - start, 3 * rate)) / (0.4 * rate))
            jump = rng.normal(0, 3) * size
            part[start : start + len(tail)] += (jump * tail).astype(np.float32)
    elif kind == "noise":
        part[:] = 0.3 * size * rng.standard_normal(len(part), np.float32)
    else:
        part[:] = part[0]
    return samples
