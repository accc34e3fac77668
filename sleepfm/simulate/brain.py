"""EEG and EOG whose spectrum depends on sleep stage, arousal and breathing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfftfreq

from sleepfm.simulate.grid import (
    GRID_HZ,
    Floats,
    drift,
    highpass,
    poisson_process,
    smooth,
    stamp,
    times,
)
from sleepfm.simulate.heart import Beats, add_qrs
from sleepfm.simulate.respiration import Breathing
from sleepfm.simulate.streams import Streams
from sleepfm.simulate.subject import Subject

Signal = NDArray[np.float32]

CHANNELS: Final = ("C3-M2", "C4-M1", "O1-M2", "O2-M1", "E1-M2")

_BANDS: Final = ("aperiodic", "slow", "delta", "theta", "alpha", "sigma", "beta", "muscle", "roll")
# Root mean square in uV at C3 per stage W, N1, N2, N3, R; alpha in W is with the eyes closed.
_LEVEL_UV: Final = {
    "aperiodic": (7.0, 6.5, 7.5, 8.5, 6.0),
    "slow": (4.0, 5.0, 12.0, 30.0, 5.0),
    "delta": (4.0, 5.0, 9.0, 17.0, 5.0),
    "theta": (3.5, 6.0, 5.5, 5.5, 6.0),
    "alpha": (1.0, 0.30, 0.15, 0.10, 0.18),  # times the subject's alpha
    "sigma": (1.2, 1.3, 2.2, 1.8, 1.1),
    "beta": (3.5, 2.6, 1.8, 1.2, 2.2),
    "muscle": (3.0, 1.4, 0.8, 0.7, 0.5),
    "roll": (6.0, 35.0, 0.0, 0.0, 8.0),  # slow rolling eyes, at E1
}
# Gain of each band in the channels of a region: central, frontal, occipital, eye.
_REGION_GAIN: Final = {
    "C": (1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 0.7, 0.08),
    "F": (1.1, 1.1, 1.1, 0.9, 0.4, 0.9, 1.0, 0.9, 0.2),
    "O": (1.0, 0.6, 0.7, 0.8, 1.0, 0.5, 0.9, 1.0, 0.0),
    "E": (0.9, 0.5, 0.6, 0.6, 0.3, 0.4, 0.9, 1.2, 1.0),
}
_AROUSED_UV: Final = (0.0, 0.0, 3.0, 4.0, 10.0, 2.0, 6.0, 6.0, 20.0)
_A_PHASE_UV: Final = (0.0, 26.0, 14.0, 5.0, 3.0, 0.0, 2.0, 0.0, 0.0)
_MOVING_UV: Final = (40.0, 60.0, 30.0, 8.0, 6.0, 4.0, 15.0, 30.0, 30.0)
_WINDOW_S: Final = 4
_SPINDLES_PER_HOUR: Final = np.array([0.0, 15.0, 170.0, 70.0, 0.0])
_K_COMPLEXES_PER_HOUR: Final = np.array([0.0, 8.0, 80.0, 30.0, 0.0])
# Preferred phases in turns from the inhalation peak: Schreiner et al. 2023 (-21 and +14 degrees).
_K_PHASE: Final = -21 / 360
_SPINDLE_PHASE: Final = 14 / 360


@dataclass(frozen=True)
class Transients:
    """Times in seconds of spindles, K-complexes, rapid eye movements and blinks."""

    spindles_s: Floats
    k_complexes_s: Floats
    saccades_s: Floats
    blinks_s: Floats


@dataclass(frozen=True)
class BrainState:
    """State of the brain on the grid: ``stage`` ``[samples, 5]``, the rest ``[samples]``."""

    stage: Floats
    sleep_depth: Floats
    infraslow: Floats
    arousal: Floats
    a_phase: Floats
    tone: Floats
    movement: Floats
    eyes_closed: Floats
    transients: Transients


def eyes_closed(streams: Streams, samples: int) -> Floats:
    """Draw whether the eyes are closed when awake, 0 to 1 on the grid; mostly they are.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    samples : int
        Length of the grid.
    """
    return smooth((drift(streams("eyes"), samples, 60.0) > -0.6).astype(float), 2.0)


def draw_transients(
    streams: Streams,
    subject: Subject,
    stage: Floats,
    infraslow: Floats,
    phasic: Floats,
    closed: Floats,
    breathing: Breathing,
) -> Transients:
    """Draw times of spindles and K-complexes, coupled to the breathing phase, and eye movements.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    subject : Subject
        The simulated person and sensors.
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    infraslow, phasic, closed : ndarray of float64, shape [samples]
        On the grid: infraslow rhythm (SD 1), phasic REM sleep and closed eyes (both 0 to 1).
    breathing : Breathing
        Breathing of the night.
    """
    rng = streams("transients")
    peak = subject.inspiration
    spindles = poisson_process(
        rng, (stage @ _SPINDLES_PER_HOUR) * np.exp(0.6 * infraslow - 0.18) * 1.5
    )
    spindles = spindles[_couple_to_breathing(rng, spindles, breathing, peak + _SPINDLE_PHASE, 0.3)]
    complexes = poisson_process(rng, (stage @ _K_COMPLEXES_PER_HOUR) * 1.5)
    complexes = complexes[_couple_to_breathing(rng, complexes, breathing, peak + _K_PHASE, 0.4)]
    saccades = poisson_process(
        rng, 2400 * phasic + 40 * stage[:, 4] + 900 * stage[:, 0] * (1 - closed)
    )
    blinks = poisson_process(rng, 700 * stage[:, 0] * (1 - closed))
    return Transients(spindles, complexes, saccades, blinks)


def _couple_to_breathing(
    rng: np.random.Generator, times_s: Floats, breathing: Breathing, phase: float, strength: float
) -> NDArray[np.bool_]:
    """Select events so that they cluster around a breathing phase (two thirds remain)."""
    breath_phase = np.interp(times_s, times(len(breathing.phase), GRID_HZ), breathing.phase)
    probability = (1 + strength * np.cos(2 * np.pi * (breath_phase - phase))) / 1.5
    return np.asarray(rng.random(len(times_s)) < probability)


def render(
    streams: Streams,
    subject: Subject,
    state: BrainState,
    breathing: Breathing,
    beats: Beats,
    names: Sequence[str] = CHANNELS,
) -> dict[str, Signal]:
    """Render EEG and EOG channels, in uV, float32, at the EEG sampling rate, by name.

    A channel does not depend on the other channels rendered with it.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    subject : Subject
        The simulated person and sensors.
    state : BrainState
        State of the brain on the grid.
    breathing : Breathing
        Breathing of the night.
    beats : Beats
        Heart beats of the night.
    names : sequence of str
        Channels to render.
    """
    channels = _background(streams, subject, state, names)
    _add_spindles(streams, subject, state, channels)
    _add_k_complexes(streams, subject, state, channels)
    _add_eye_movements(streams, subject, state.transients, channels)
    for name, signal in channels.items():
        signal *= np.float32(subject.eeg_gain)
        _add_body(streams, subject, breathing, beats, name, signal)
    return channels


def _spectra(subject: Subject, rate: int) -> NDArray[np.float32]:
    """Return the power density of each band at unit variance, [bands, frequencies], per Hz."""
    f = rfftfreq(_WINDOW_S * rate, 1 / rate)
    density = {
        "aperiodic": (f + 0.3) ** -2.0,
        "slow": np.exp(-0.5 * (np.log((f + 1e-9) / 0.8) / 0.35) ** 2),
        "delta": np.exp(-0.5 * ((f - 1.8) / 0.9) ** 2),
        "theta": np.exp(-0.5 * ((f - 5.5) / 1.1) ** 2),
        "alpha": np.exp(-0.5 * ((f - subject.alpha_hz) / 0.55) ** 2),
        "sigma": np.exp(-0.5 * ((f - subject.spindle_hz) / 1.0) ** 2),
        "beta": np.exp(-0.5 * ((f - 21.0) / 4.5) ** 2),
        "muscle": 1 / (1 + np.exp(-(f - 25.0) / 3.0)),
        "roll": np.exp(-0.5 * ((f - 0.35) / 0.12) ** 2),
    }
    table = np.stack([density[band] for band in _BANDS])
    table[:, f < 0.2] = 0.0
    table /= table.sum(axis=1, keepdims=True) / _WINDOW_S
    return table.astype(np.float32)


def _levels(subject: Subject, state: BrainState) -> Floats:
    """Return the amplitude of each band in each window in uV, before regional gains."""
    awake_open = state.stage[:, 0] * (1 - state.eyes_closed)
    levels = np.stack([state.stage @ np.array(_LEVEL_UV[band]) for band in _BANDS], axis=1)
    levels[:, 4] *= subject.alpha_uv * (1 - 0.75 * awake_open)
    levels[:, 1:3] *= (subject.slow_gain * np.exp(0.30 * state.sleep_depth))[:, None]
    levels[:, 5] *= np.exp(0.35 * state.infraslow)
    levels[:, 6:8] *= np.exp(-0.20 * state.sleep_depth)[:, None]
    # an arousal replaces slow waves by alpha, theta and beta (AASM manual)
    levels[:, 1] *= 1 - 0.7 * state.arousal
    levels[:, 7] *= 0.5 + state.tone
    surge = subject.slow_gain * np.array(_A_PHASE_UV)
    levels = np.hypot(levels, state.a_phase[:, None] * surge)
    levels = np.hypot(levels, state.arousal[:, None] * np.array(_AROUSED_UV))
    levels = np.hypot(levels, state.movement[:, None] * np.array(_MOVING_UV))
    hop = _WINDOW_S // 2 * GRID_HZ
    # a window centred at each hop has the mean of the two seconds around it
    return smooth(levels, 2.0)[::hop]


def _background(
    streams: Streams, subject: Subject, state: BrainState, names: Sequence[str]
) -> dict[str, Signal]:
    """Shape noise by the spectrum of each window, in half-overlapping windows of 4 s.

    Half of the power below the beta band is common to all channels (volume conduction); the rest is
    independent per channel.
    """
    rate = subject.eeg_rate
    size, hop = _WINDOW_S * rate, _WINDOW_S * rate // 2
    spectra = _spectra(subject, rate)
    power = _levels(subject, state).astype(np.float32) ** 2
    samples = len(state.stage) * rate // GRID_HZ
    windows = samples // hop + 1
    power = np.concatenate([power, power[-1:].repeat(max(0, windows - len(power)), 0)])
    taper = np.sin(np.pi * (np.arange(size, dtype=np.float32) + np.float32(0.5)) / size)
    taper *= np.float32(np.sqrt(rate * size / 4))
    f = rfftfreq(size, 1 / rate)
    shared = np.sqrt(0.55 / (1 + np.exp((f - 18) / 3))).astype(np.float32)
    independent = np.sqrt(1 - shared**2)
    common = streams("EEG common")
    sources = {name: streams(f"noise {name}") for name in names}
    out = {name: np.zeros((windows + 1) * hop, np.float32) for name in names}
    for first in range(0, windows, 512):
        block = power[first : min(first + 512, windows)]
        common_part = shared * _white(common, len(block), len(f))
        for name, rng in sources.items():
            density = (block * np.square(_REGION_GAIN[name[0]], dtype=np.float32)) @ spectra
            spectrum = np.sqrt(density) * (
                common_part + independent * _white(rng, len(block), len(f))
            )
            segments = irfft(spectrum, size, axis=1) * taper
            end = first + len(block)
            out[name][first * hop : end * hop] += segments[:, :hop].ravel()
            out[name][(first + 1) * hop : (end + 1) * hop] += segments[:, hop:].ravel()
    # the first window is centred on the start
    return {name: signal[hop : hop + samples].copy() for name, signal in out.items()}


def _white(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.complex64]:
    return rng.standard_normal((rows, 2 * columns), dtype=np.float32).view(np.complex64)


def _add_spindles(
    streams: Streams, subject: Subject, state: BrainState, channels: dict[str, Signal]
) -> None:
    rng = streams("spindles")
    onset_s = state.transients.spindles_s
    n = len(onset_s)
    height = subject.spindle_uv * np.exp(0.3 * rng.standard_normal(n))
    width = rng.uniform(0.20, 0.38, n)
    hz = subject.spindle_hz + 0.4 * rng.standard_normal(n)
    phase = rng.uniform(0, 2 * np.pi, n)
    for name, signal in channels.items():
        gain = {"C": 1.0, "F": 0.8, "O": 0.35, "E": 0.3}[name[0]]
        size = height * gain * np.exp(0.2 * streams(f"spindles {name}").standard_normal(n))

        def wave(tau: Floats, k: NDArray[np.intp], size: Floats = size) -> Floats:
            bell = np.exp(-0.5 * (tau / width[k, None]) ** 2)
            angle = 2 * np.pi * hz[k, None] * tau + phase[k, None]
            return np.asarray(size[k, None] * bell * np.cos(angle))

        stamp(signal, subject.eeg_rate, onset_s, (1.1, 1.1), wave)


def _add_k_complexes(
    streams: Streams, subject: Subject, state: BrainState, channels: dict[str, Signal]
) -> None:
    rng = streams("K-complexes")
    onset_s = state.transients.k_complexes_s
    height = subject.slow_gain * rng.uniform(50, 110, len(onset_s))
    stretch = rng.uniform(0.85, 1.25, len(onset_s))
    for name, signal in channels.items():
        gain = {"C": 1.0, "F": 1.2, "O": 0.45, "E": 0.6}[name[0]]

        def wave(tau: Floats, k: NDArray[np.intp], gain: float = gain) -> Floats:
            t = tau / stretch[k, None]
            sharp = -np.exp(-0.5 * (t / 0.11) ** 2)
            after = 0.6 * np.exp(-0.5 * ((t - 0.38) / 0.17) ** 2)
            return np.asarray(gain * height[k, None] * (sharp + after))

        stamp(signal, subject.eeg_rate, onset_s, (0.5, 1.2), wave)


def _add_eye_movements(
    streams: Streams, subject: Subject, transients: Transients, channels: dict[str, Signal]
) -> None:
    """Add saccades (steps with exponential return) and blinks (bumps)."""
    rng = streams("eye movements")
    saccades, blinks = transients.saccades_s, transients.blinks_s
    jump = subject.eye_uv * np.exp(0.4 * rng.standard_normal(len(saccades)))
    jump *= np.where(rng.random(len(saccades)) < 0.5, -1, 1)
    blink = -1.2 * subject.eye_uv * np.exp(0.2 * rng.standard_normal(len(blinks)))

    for name, signal in channels.items():
        gain = {"C": 0.10, "F": 0.25, "O": 0.02, "E": 1.0}[name[0]]
        # both eyes move in the same direction, so E1 and E2 have opposite signs
        saccade_gain = -gain if name.startswith("E2") else gain

        def saccade(tau: Floats, k: NDArray[np.intp], gain: float = saccade_gain) -> Floats:
            step = np.clip(tau / 0.05, 0, 1) * np.exp(-np.clip(tau, 0, None) / 0.8)
            return np.asarray(gain * jump[k, None] * step)

        def closing(tau: Floats, k: NDArray[np.intp], gain: float = gain) -> Floats:
            return np.asarray(gain * blink[k, None] * np.exp(-0.5 * (tau / 0.09) ** 2))

        stamp(signal, subject.eeg_rate, saccades, (0.0, 3.0), saccade)
        stamp(signal, subject.eeg_rate, blinks, (0.35, 0.35), closing)


def _add_body(
    streams: Streams,
    subject: Subject,
    breathing: Breathing,
    beats: Beats,
    name: str,
    signal: Signal,
) -> None:
    """Add cardiac and respiratory artifacts to a mastoid-referenced channel, and sensor noise.

    The cardiac field has opposite signs at M1 and M2, each beat causes a pulse artifact, and
    breathing moves the electrode and its skin potential.
    """
    rng = streams(f"body {name}")
    rate = subject.eeg_rate
    n = len(breathing.phase)
    side = 1.0 if name.endswith("M2") else -0.7
    cardiac = subject.cardiac_uv * side * float(np.exp(rng.normal(0, 0.25)))
    add_qrs(signal, rate, beats, subject, cardiac)
    pulse = 0.25 * subject.cardiac_uv * float(np.exp(rng.normal(0, 0.4)))
    size = pulse * beats.size

    def wave(tau: Floats, k: NDArray[np.intp]) -> Floats:
        return np.asarray(size[k, None] * np.exp(-0.5 * (tau / 0.07) ** 2))

    stamp(signal, rate, beats.at_s + 0.25, (0.25, 0.25), wave)
    sway = subject.sway_uv * float(rng.normal(0.8, 0.3)) * breathing.chest
    sway *= np.exp(0.4 * drift(rng, n, 900.0))
    t = times(len(signal), rate)
    signal += np.interp(t, times(n, GRID_HZ), smooth(sway, 0.5)).astype(np.float32)
    # electrodes and amplifier
    signal += np.float32(0.6) * streams(f"sensor {name}").standard_normal(len(signal), np.float32)
    signal[:] = highpass(signal, rate, subject.eeg_highpass_hz)
