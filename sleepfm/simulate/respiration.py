"""Breathing: rate, depth, phase, effort in respiratory events, and the respiratory sensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, sosfilt

from sleepfm.simulate.events import CENTRAL, HYPOPNEA, MIXED, OBSTRUCTIVE, Spans
from sleepfm.simulate.grid import (
    GRID_HZ,
    Floats,
    drift,
    envelope,
    highpass,
    lowpass,
    poisson_process,
    smooth,
    stamp,
    times,
)
from sleepfm.simulate.streams import Streams
from sleepfm.simulate.subject import Subject

# Relative to light sleep: Penzel et al. 2016 (Front Physiol 7:460), table 1.
_RATE: Final = np.array([1.07, 1.0, 1.0, 0.97, 1.05])
# Regular in deep sleep, irregular in REM and wake (Cabiddu et al. 2012, Front Physiol 3:45).
_RATE_SD: Final = np.array([0.12, 0.07, 0.045, 0.025, 0.09])
_DEPTH: Final = np.array([1.1, 1.0, 1.0, 1.05, 0.85])
_DEPTH_SD: Final = np.array([0.30, 0.15, 0.10, 0.06, 0.20])
_SIGHS_PER_HOUR: Final = 10.0
_RESTING_LAG: Final = 0.25


@dataclass(frozen=True)
class Breathing:
    """Breathing on the 4 Hz grid; every field has shape [samples].

    ``phase`` is in breaths (an inspiration starts at each integer). ``depth`` and ``effort`` are
    relative to quiet breathing. ``flow`` is the share of effort that results in airflow (0 in
    apnea). ``lag`` is the phase lag of the abdomen behind the chest in radians (pi: paradoxical).
    ``chest`` is the excursion of the chest (-1 to 1 in quiet breathing), and ``oxygen`` the true
    saturation in percent.
    """

    phase: Floats
    depth: Floats
    effort: Floats
    flow: Floats
    lag: Floats
    chest: Floats
    oxygen: Floats


def simulate_breathing(
    streams: Streams,
    subject: Subject,
    stage: Floats,
    sleep_depth: Floats,
    phasic: Floats,
    arousal: Floats,
    a_phase: Floats,
    events: Spans,
) -> Breathing:
    """Simulate breathing over a night, from states on the grid and the respiratory events.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    subject : Subject
        The simulated person and sensors.
    stage : ndarray of float64, shape [samples, 5]
        Share of each stage on the grid.
    sleep_depth, phasic, arousal, a_phase : ndarray of float64, shape [samples]
        On the grid: depth of sleep (SD 1), phasic REM sleep (0 to 1), and the strength of arousals
        and of A phases.
    events : Spans
        Respiratory events.
    """
    rng = streams("breathing")
    n = len(stage)
    wobble = (stage @ _RATE_SD) * (1 + phasic) * np.exp(-0.35 * sleep_depth)
    slow = 0.05 * drift(rng, n, 300.0) + 0.04 * drift(rng, n, 60.0)
    log_rate = slow + wobble * drift(rng, n, 4.0) + 0.12 * arousal
    rate = subject.breaths_per_min / 60 * (stage @ _RATE) * np.exp(log_rate)
    phase = rng.random() + np.cumsum(rate) / GRID_HZ
    slow = 0.18 * drift(rng, n, 200.0) + 0.12 * drift(rng, n, 40.0)
    log_depth = slow + (stage @ _DEPTH_SD) * drift(rng, n, 5.0)
    depth = (stage @ _DEPTH) * np.exp(log_depth) * (1 - 0.35 * phasic)
    depth *= 1 + 0.4 * arousal + 0.2 * a_phase
    sighs = poisson_process(rng, np.full(n, _SIGHS_PER_HOUR))
    depth += smooth(envelope(n, sighs, np.full(len(sighs), 3.0), np.full(len(sighs), 1.3)), 1.0)
    recovery = 0.35 + 0.7 * events.strength
    depth *= 1 + envelope(n, events.end_s, np.full(len(events), 6.0), recovery, decay_s=4.0)
    effort, flow, lag = _obstruct(rng, n, events)
    chest = depth * effort * (2 * breath_shape(phase, subject) - 1)
    oxygen = _saturate(rng, subject, effort * flow)
    return Breathing(phase, depth, effort, flow, lag, chest, oxygen)


def breath_shape(phase: Floats, subject: Subject) -> Floats:
    """Return lung volume over a breath, 0 to 1: inspiration, expiration and a pause.

    Parameters
    ----------
    phase : ndarray of float64
        Phase in breaths; an inspiration starts at each integer.
    subject : Subject
        The simulated person and sensors.
    """
    turn = np.interp(phase % 1.0, [0.0, subject.inspiration, 1.0], [0.0, np.pi, 2 * np.pi])
    return np.asarray((0.5 - 0.5 * np.cos(turn)) ** subject.expiratory_rest)


def _obstruct(rng: np.random.Generator, n: int, events: Spans) -> tuple[Floats, Floats, Floats]:
    """Return effort, flow and lag on the grid, by type of event (AASM manual).

    Obstructive apnea: increasing effort, no flow, paradoxical belts. Central: no effort. Mixed:
    first central, then obstructive. Hypopnea: reduced flow and effort, belts partly out of phase.
    """
    effort, flow, lag = np.ones(n), np.ones(n), np.full(n, _RESTING_LAG)
    opposed = rng.uniform(2.3, np.pi, len(events))
    for i in range(len(events)):
        first, last = (np.array([events.onset_s[i], events.end_s[i]]) * GRID_HZ).astype(int)
        middle = {CENTRAL: last, MIXED: (first + last) // 2}.get(int(events.kind[i]), first)
        if events.kind[i] == HYPOPNEA:
            effort[first:last] = 0.8 - 0.2 * events.strength[i]
            flow[first:last] = 0.75 - 0.45 * events.strength[i]
            lag[first:last] = 0.5 + 0.3 * opposed[i]
            continue
        flow[first:last] = 0.0
        effort[first:middle] = 0.02
        if events.kind[i] in (OBSTRUCTIVE, MIXED):
            effort[middle:last] = np.linspace(0.4, 1.0, last - middle)
            lag[middle:last] = opposed[i]
    return smooth(effort, 1.5), smooth(flow, 1.5), smooth(lag, 1.5)


def _saturate(rng: np.random.Generator, subject: Subject, ventilation: Floats) -> Floats:
    """Return saturation in percent: time constant of 15 s, delayed by the circulation time."""
    deficit = lowpass(np.clip(1 - ventilation, 0, 1), 15.0)
    delay = round(subject.circulation_s * GRID_HZ)
    delayed = np.concatenate([np.full(delay, deficit[0]), deficit])[: len(deficit)]
    resting = subject.oxygen + 0.5 * drift(rng, len(deficit), 900.0)
    return np.asarray(np.clip(resting - subject.oxygen_drop * delayed, 50.0, 99.5))


def find_desaturations(breathing: Breathing, subject: Subject, events: Spans) -> Spans:
    """Find desaturations of at least 3 % caused by respiratory events, from onset to recovery.

    Parameters
    ----------
    breathing : Breathing
        Breathing of the night.
    subject : Subject
        The simulated person and sensors.
    events : Spans
        Respiratory events.
    """
    oxygen = breathing.oxygen
    delay_s = subject.circulation_s
    onset, duration, drop = [], [], []
    for i in range(len(events)):
        start = int((events.onset_s[i] + delay_s) * GRID_HZ)
        stop = int((events.end_s[i] + delay_s + 4) * GRID_HZ)
        if stop >= len(oxygen):
            break
        nadir = start + int(np.argmin(oxygen[start:stop]))
        fall = oxygen[start] - oxygen[nadir]
        following = events.onset_s[i + 1] + delay_s if i + 1 < len(events) else np.inf
        limit = int(min(nadir / GRID_HZ + 60.0, following) * GRID_HZ)
        rising = oxygen[nadir:limit] >= oxygen[nadir] + 2 / 3 * fall
        recovery = nadir + (int(np.argmax(rising)) if rising.any() else len(rising))
        if fall >= 3.0:
            onset.append(start / GRID_HZ)
            duration.append((recovery - start) / GRID_HZ)
            drop.append(fall)
    return Spans(np.array(onset), np.array(duration), np.array(drop), np.zeros(len(onset), np.int8))


def belt(
    streams: Streams,
    subject: Subject,
    breathing: Breathing,
    position: NDArray[np.intp],
    movement: Floats,
    beats_s: Floats,
    *,
    abdomen: bool,
) -> NDArray[np.float32]:
    """Render an effort belt at its sampling rate, in the unit of the device, float32.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    subject : Subject
        The simulated person and sensors.
    breathing : Breathing
        Breathing of the night.
    position : ndarray of intp, shape [samples]
        Body position on the grid.
    movement : ndarray of float64, shape [samples]
        Strength of body movement on the grid.
    beats_s : ndarray of float64, shape [beats]
        Times of the R peaks, in seconds.
    abdomen : bool
        Whether the belt is on the abdomen rather than the chest.
    """
    rng = streams("noise ABD" if abdomen else "noise CHEST")
    rate = subject.belt_rate
    n = len(breathing.phase)
    samples = n * rate // GRID_HZ
    t, grid = times(samples, rate), times(n, GRID_HZ)
    side = -0.5 if abdomen else 0.5
    phase = breathing.phase + side * breathing.lag / (2 * np.pi)
    share = np.exp((1 if abdomen else -1) * subject.abdominal / 2)
    # belt amplitude depends on body position
    posture = np.exp(rng.normal(0, 0.25, 4))[position]
    size = smooth(posture, 4.0) * share * breathing.depth * breathing.effort
    signal = 2 * np.interp(t, grid, size) * breath_shape(np.interp(t, grid, phase), subject)
    # the recorder removes the mean; the end-expiratory level is constant
    signal += np.interp(t, grid, 0.12 * drift(rng, n, 40.0) - 0.8 * smooth(size, 60.0))
    # cardiogenic oscillations, visible in central apnea
    cardiogenic = np.zeros(samples, np.float32)
    size_heart = subject.cardiogenic * float(np.exp(rng.normal(0, 0.15)))
    stamp(
        cardiogenic,
        rate,
        beats_s + 0.12,
        (0.25, 0.35),
        lambda tau, _: size_heart * _cardiogenic_wave(tau),
    )
    signal += cardiogenic
    swing = lfilter([0.05], [1, -0.95], rng.standard_normal(samples)) * np.sqrt(39.0)
    signal += np.interp(t, grid, movement) * 1.2 * swing
    signal = _damped(signal, rate, subject)
    signal += subject.belt_noise * rng.standard_normal(samples)
    signal = highpass(signal.astype(np.float32), rate, subject.belt_highpass_hz)
    return np.asarray(subject.belt_sign * subject.belt_gain * signal, np.float32)


def airflow(
    streams: Streams, subject: Subject, breathing: Breathing, movement: Floats, beats_s: Floats
) -> NDArray[np.float32]:
    """Render nasal airflow at its sampling rate, float32, inspiration up, in the device's unit.

    A cannula measures pressure, which grows with the square of the flow; a thermistor is low-pass
    filtered. Neither responds to effort against a closed airway.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    subject : Subject
        The simulated person and sensors.
    breathing : Breathing
        Breathing of the night.
    movement : ndarray of float64, shape [samples]
        Strength of body movement on the grid.
    beats_s : ndarray of float64, shape [beats]
        Times of the R peaks, in seconds.
    """
    rng = streams("noise Flow")
    rate = subject.flow_rate
    n = len(breathing.phase)
    samples = n * rate // GRID_HZ
    t, grid = times(samples, rate), times(n, GRID_HZ)
    pace = smooth(np.gradient(breathing.phase) * GRID_HZ, 10.0)
    size = np.interp(t, grid, breathing.depth * breathing.effort * breathing.flow)
    volume = breath_shape(np.interp(t, grid, breathing.phase), subject)
    flow = size * np.gradient(volume) * rate / (np.pi * np.interp(t, grid, pace))
    if subject.flow_kind == "cannula":
        signal = np.sign(flow) * np.abs(flow) ** 1.8
    else:
        decay = np.exp(-1 / (0.5 * rate))
        signal = lfilter([1 - decay], [1, -decay], flow)
    # cardiogenic airflow, if the airway is open
    cardiogenic = np.zeros(samples, np.float32)
    share = 0.5 * subject.cardiogenic * float(np.exp(rng.normal(0, 0.3)))
    stamp(
        cardiogenic,
        rate,
        beats_s + 0.15,
        (0.25, 0.35),
        lambda tau, _: share * _cardiogenic_wave(tau),
    )
    signal += cardiogenic * np.interp(t, grid, np.sqrt(np.clip(breathing.flow, 0, 1)))
    signal *= np.exp(np.interp(t, grid, 0.25 * drift(rng, n, 600.0)))
    swing = lfilter([0.05], [1, -0.95], rng.standard_normal(samples)) * np.sqrt(39.0)
    signal += np.interp(t, grid, movement) * 0.4 * swing
    signal = _damped(signal, rate, subject)
    signal += subject.belt_noise * rng.standard_normal(samples)
    return highpass(signal.astype(np.float32), rate, subject.flow_highpass_hz)


def _damped(signal: Floats, rate: int, subject: Subject) -> Floats:
    """Return a signal after the recorder's low-pass filter (Butterworth, second order)."""
    if subject.belt_lowpass_hz >= rate / 2:
        return signal
    sos = butter(2, subject.belt_lowpass_hz, fs=rate, output="sos")
    return np.asarray(sosfilt(sos, signal))


def _cardiogenic_wave(tau: Floats) -> Floats:
    return np.asarray(
        np.exp(-0.5 * (tau / 0.06) ** 2) - 0.6 * np.exp(-0.5 * ((tau - 0.15) / 0.07) ** 2)
    )


def oximeter(
    streams: Streams, subject: Subject, breathing: Breathing, movement: Floats
) -> NDArray[np.float32]:
    """Render oximeter saturation in percent: averaged over 3 s, quantised, 50 to 100.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    subject : Subject
        The simulated person and sensors.
    breathing : Breathing
        Breathing of the night.
    movement : ndarray of float64, shape [samples]
        Strength of body movement on the grid.
    """
    rng = streams("noise SaO2")
    n = len(breathing.oxygen)
    samples = n * subject.oxygen_rate // GRID_HZ
    saturation = smooth(breathing.oxygen, 3.0) + 0.15 * drift(rng, n, 10.0)
    saturation -= smooth(np.clip(movement - 0.8, 0, None), 6.0) * 4.0
    values = np.interp(times(samples, subject.oxygen_rate), times(n, GRID_HZ), saturation)
    step = subject.oxygen_step
    return np.asarray(np.clip(np.round(values / step) * step, 50.0, 100.0), np.float32)
