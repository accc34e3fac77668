"""Slow processes on a common 4 Hz grid, and transients added to signals of any sampling rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, lfilter_zi

Floats = NDArray[np.float64]

GRID_HZ: Final = 4
"""Sampling rate of all slow processes: stage, breathing, heart rate."""


def times(samples: int, rate: float) -> Floats:
    """Return the time of each sample, in seconds.

    Parameters
    ----------
    samples : int
        Number of samples.
    rate : float
        Samples per second.
    """
    return np.arange(samples) / rate


def drift(rng: np.random.Generator, samples: int, tau_s: float) -> Floats:
    """Draw an Ornstein-Uhlenbeck process on the grid: mean 0, SD 1, correlation time ``tau_s``.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of random numbers.
    samples : int
        Number of samples.
    tau_s : float
        Correlation time, in seconds.
    """
    decay = np.exp(-1.0 / (GRID_HZ * tau_s))
    start = rng.standard_normal()
    white = rng.standard_normal(samples) * np.sqrt(1 - decay**2)
    return np.asarray(lfilter([1.0], [1.0, -decay], white, zi=[decay * start])[0])


def rhythm(rng: np.random.Generator, samples: int, hz: float, bandwidth_hz: float) -> Floats:
    """Draw a noisy oscillation on the grid: mean 0, SD about 1 (an AR(2) resonator).

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of random numbers.
    samples : int
        Number of samples.
    hz, bandwidth_hz : float
        Centre frequency and bandwidth, in Hz.
    """
    radius = np.exp(-np.pi * bandwidth_hz / GRID_HZ)
    poles = [1.0, -2 * radius * np.cos(2 * np.pi * hz / GRID_HZ), radius**2]
    warm_up = int(4 * GRID_HZ / bandwidth_hz)
    wave = lfilter([1.0], poles, rng.standard_normal(warm_up + samples))[warm_up:]
    variance = (1 + radius**2) / ((1 - radius**2) * ((1 + radius**2) ** 2 - poles[1] ** 2))
    return np.asarray(wave / np.sqrt(variance))


def lowpass(values: Floats, tau_s: float) -> Floats:
    """Apply a first-order low-pass filter on the grid, in steady state at the first value.

    Parameters
    ----------
    values : ndarray of float64, shape [samples]
        Values on the grid.
    tau_s : float
        Time constant, in seconds.
    """
    decay = np.exp(-1.0 / (GRID_HZ * tau_s))
    state = [decay * values[0]]
    return np.asarray(lfilter([1 - decay], [1.0, -decay], values, zi=state)[0])


def highpass(signal: NDArray[np.float32], rate: float, hz: float) -> NDArray[np.float32]:
    """Apply a first-order high-pass filter, in steady state at the first value; -3 dB at ``hz``.

    Parameters
    ----------
    signal : ndarray of float32, shape [samples]
        Signal, at ``rate``.
    rate : float
        Samples per second.
    hz : float
        Cut-off frequency, in Hz.
    """
    numerator, denominator = butter(1, hz, "highpass", fs=rate)
    state = lfilter_zi(numerator, denominator) * signal[0]
    return np.asarray(lfilter(numerator, denominator, signal, zi=state)[0], np.float32)


def smooth(values: Floats, width_s: float) -> Floats:
    """Apply a moving average on the grid, along the first axis; edge values are repeated.

    Parameters
    ----------
    values : ndarray of float64, shape [samples, ...]
        Values on the grid.
    width_s : float
        Width of the window, in seconds.
    """
    half = max(1, int(width_s * GRID_HZ / 2))
    padded = np.concatenate([values[:1].repeat(half, 0), values, values[-1:].repeat(half, 0)])
    total = np.cumsum(padded, axis=0)
    total = np.concatenate([np.zeros_like(total[:1]), total])
    width = 2 * half + 1
    return np.asarray((total[width:] - total[:-width]) / width)


def poisson_process(rng: np.random.Generator, per_hour: Floats) -> Floats:
    """Draw the event times of an inhomogeneous Poisson process, sorted, in seconds.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of random numbers.
    per_hour : ndarray of float64, shape [samples]
        Rate on the grid, in events per hour.
    """
    expected = np.concatenate([[0.0], np.cumsum(per_hour) / (3600 * GRID_HZ)])
    count = rng.poisson(expected[-1])
    positions = np.sort(rng.uniform(0, expected[-1], count))
    return np.asarray(np.interp(positions, expected, times(len(expected), GRID_HZ)))


def min_gap_mask(at_s: Floats, gap_s: float) -> NDArray[np.bool_]:
    """Return a mask of events such that selected ones are at least ``gap_s`` apart.

    Parameters
    ----------
    at_s : ndarray of float64, shape [events]
        Sorted times, in seconds.
    gap_s : float
        Minimum interval between two selected events, in seconds.
    """
    mask = np.zeros(len(at_s), bool)
    previous_s = -np.inf
    for i, time_s in enumerate(at_s):
        if time_s - previous_s >= gap_s:
            mask[i] = True
            previous_s = time_s
    return mask


def envelope(
    samples: int,
    onset_s: Floats | Sequence[float],
    duration_s: Floats | Sequence[float],
    height: Floats | Sequence[float],
    decay_s: float = 1.0,
) -> Floats:
    """Return bumps on the grid: a rise within 1 s, a plateau and a decay; overlaps by maximum.

    Parameters
    ----------
    samples : int
        Length of the grid.
    onset_s, duration_s, height : sequence of float, length [events]
        Onset and duration of each bump in seconds, and its height.
    decay_s : float
        Time constant of the decay, in seconds.
    """
    out = np.zeros(samples)
    for onset, duration, high in zip(onset_s, duration_s, height, strict=True):
        first = int(onset * GRID_HZ)
        last = min(samples, int((onset + duration + 5 * decay_s) * GRID_HZ) + 1)
        t = np.arange(first, last) / GRID_HZ - onset
        bump = high * np.clip(t, 0, 1) * np.exp(-np.clip(t - duration, 0, None) / decay_s)
        np.maximum(out[first:last], bump, out=out[first:last])
    return out


def response(samples: int, at_s: Floats, height: Floats, peak_s: float) -> Floats:
    """Return the sum of gamma-shaped responses, on the grid; each peaks ``peak_s`` after its event.

    Parameters
    ----------
    samples : int
        Length of the grid.
    at_s, height : ndarray of float64, shape [events]
        Time of each event in seconds, and the height of its response.
    peak_s : float
        Time from an event to the peak, in seconds.
    """
    impulses = np.zeros(samples)
    index = (at_s * GRID_HZ).astype(int)
    inside = index < samples
    np.add.at(impulses, index[inside], height[inside])
    decay = np.exp(-1.0 / (GRID_HZ * peak_s))
    # (t / peak) exp(1 - t / peak), as two equal poles
    gain = np.e * decay / (GRID_HZ * peak_s)
    return np.asarray(lfilter([0.0, gain], [1.0, -2 * decay, decay**2], impulses))


Shape = Callable[[Floats, NDArray[np.intp]], Floats]
"""Waveform: values from the time since each event in s, shape [m, k], and event indices [m]."""


def stamp(
    signal: NDArray[np.float32],
    rate: float,
    at_s: Floats,
    reach_s: tuple[float, float],
    wave: Shape,
) -> None:
    """Add a transient at each event time, in place, with sub-sample timing.

    Parameters
    ----------
    signal : ndarray of float32, shape [samples]
        Signal, at ``rate``.
    rate : float
        Samples per second.
    at_s : ndarray of float64, shape [events]
        Times of the events, in seconds.
    reach_s : tuple of float
        Extent of the transient before and after the event time, in seconds.
    wave : callable
        Waveform of the transient, see :data:`Shape`.
    """
    offsets = np.arange(-round(reach_s[0] * rate), round(reach_s[1] * rate) + 1)
    for first in range(0, len(at_s), 2048):
        chunk = np.arange(first, min(first + 2048, len(at_s)))
        chunk_s = at_s[chunk]
        index = np.round(chunk_s * rate).astype(np.intp)[:, None] + offsets
        values = wave(index / rate - chunk_s[:, None], chunk)
        inside = (index >= 0) & (index < len(signal))
        if not inside.any():
            continue
        low, high = int(index[inside].min()), int(index[inside].max()) + 1
        signal[low:high] += np.bincount(index[inside] - low, values[inside], high - low)
