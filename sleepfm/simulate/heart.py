"""Heart beats and the electrocardiogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from sleepfm.simulate.events import CENTRAL, HYPOPNEA, Spans
from sleepfm.simulate.grid import (
    GRID_HZ,
    Floats,
    Shape,
    drift,
    envelope,
    highpass,
    response,
    rhythm,
    smooth,
    stamp,
    times,
)
from sleepfm.simulate.respiration import Breathing
from sleepfm.simulate.streams import Streams
from sleepfm.simulate.subject import Subject

# Log heart rate and strength of RSA relative to light sleep: Penzel et al. 2016, table 1.
_LOG_RATE: Final = np.array([0.078, 0.02, 0.0, 0.01, 0.02])
_RSA: Final = np.array([0.68, 1.0, 1.0, 1.03, 0.75])
_MAYER: Final = np.array([1.6, 1.2, 0.9, 0.6, 1.4])


@dataclass(frozen=True)
class Beats:
    """Heart beats; every field has shape [beats].

    Parameters
    ----------
    at_s : ndarray of float64
        Times of the R peaks, in seconds.
    rr_s : ndarray of float64
        R-R interval before each beat, in seconds.
    size : ndarray of float64
        Amplitude of each QRS complex relative to the mean.
    ectopic : ndarray of bool
        Whether a beat is ectopic (ventricular).
    """

    at_s: Floats
    rr_s: Floats
    size: Floats
    ectopic: NDArray[np.bool_]


@dataclass(frozen=True)
class Lead:
    """Amplitude of each wave in a lead, relative to lead II."""

    p: float = 1.0
    q: float = 1.0
    r: float = 1.0
    s: float = 1.0
    t: float = 1.0


LEADS: Final = {"II": Lead(), "V1": Lead(p=0.4, q=0.0, r=0.25, s=4.0, t=-0.3)}
"""V1: a small R before a deep S, no Q, a flat or inverted T; magnitudes assumed
(docs/simulation.md)."""


@dataclass(frozen=True)
class Drive:
    """Influences on the heart other than breathing, on the grid (depth and infraslow: SD 1)."""

    sleep_depth: Floats
    infraslow: Floats
    phasic: Floats
    arousals: Spans
    movements: Spans
    legs: Spans
    a_phases: Spans
    k_complexes_s: Floats


def simulate_beats(
    streams: Streams,
    subject: Subject,
    stage: Floats,
    position: NDArray[np.intp],
    breathing: Breathing,
    events: Spans,
    drive: Drive,
) -> Beats:
    """Simulate the beats of a night, with a heart rate modulated by stage, breathing and events.

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
    breathing : Breathing
        Breathing of the night.
    events : Spans
        Respiratory events.
    drive : Drive
        Other influences on the heart.
    """
    rng = streams("heart")
    n = len(stage)
    log_rate = stage @ _LOG_RATE + 0.05 * drift(rng, n, 600.0) + 0.028 * drift(rng, n, 45.0)
    log_rate += 0.011 * (stage @ _MAYER) * rhythm(rng, n, 0.1, 0.03)
    log_rate += -0.02 * drive.sleep_depth + 0.03 * drive.phasic
    # spindle power and heart rate oscillate in antiphase with a period of 50 s (Lecci et al. 2017)
    log_rate -= 0.012 * drive.infraslow * (stage[:, 2] + stage[:, 3])
    log_rate += _respiratory_sinus_arrhythmia(subject, stage, breathing, drive.sleep_depth)
    log_rate += _reactions(rng, n, events, drive)
    rate = subject.heart_bpm / 60 * np.exp(log_rate)
    cycles = np.cumsum(rate) / GRID_HZ
    r_peaks_s = np.interp(np.arange(1, int(cycles[-1])), cycles, times(n, GRID_HZ))
    r_peaks_s += rng.normal(0, 0.003, len(r_peaks_s))
    ectopic = rng.random(len(r_peaks_s)) < subject.ectopic_per_hour / (3600 * rate.mean())
    ectopic[:2] = False
    r_peaks_s[ectopic] -= 0.32 / rate.mean()
    rr = np.diff(r_peaks_s, prepend=r_peaks_s[0] - 1 / rate[0])
    return Beats(r_peaks_s, rr, _qrs_size(rng, subject, position, breathing, r_peaks_s), ectopic)


def _respiratory_sinus_arrhythmia(
    subject: Subject, stage: Floats, breathing: Breathing, sleep_depth: Floats
) -> Floats:
    """Return the log heart rate change by breathing (Hirsch and Bishop 1981)."""
    pace = smooth(np.gradient(breathing.phase) * GRID_HZ, 10.0)
    vagal = subject.rsa * (stage @ _RSA) * np.exp(0.2 * sleep_depth) * (0.25 / pace) ** 0.7
    # effort without airflow has a smaller effect on heart rate
    return np.asarray(vagal * breathing.chest * np.sqrt(np.clip(breathing.flow, 0.09, 1.0)))


def _reactions(rng: np.random.Generator, n: int, events: Spans, drive: Drive) -> Floats:
    """Return the log rate change with events: slower in apneas, faster after, and in arousals.

    Cyclical variation of heart rate: Guilleminault et al. 1984; arousals and K-complexes:
    de Zambotti et al. 2018.
    """
    deceleration = np.where(
        events.kind == CENTRAL, 0.03, np.where(events.kind == HYPOPNEA, 0.02, 0.07)
    )
    slowing = envelope(n, events.onset_s, events.duration_s, deceleration, decay_s=2.0)
    rebound = rng.uniform(0.04, 0.14, len(events)) * np.clip(events.duration_s / 25, 0.5, 1.5)
    acceleration = response(n, events.end_s, rebound, 5.0)
    acceleration += response(n, drive.arousals.onset_s, 0.12 * drive.arousals.strength, 5.0)
    acceleration += response(n, drive.movements.onset_s, 0.12 * drive.movements.strength, 6.0)
    acceleration += response(n, drive.legs.onset_s, 0.07 * np.sqrt(drive.legs.strength / 0.2), 4.0)
    acceleration += response(n, drive.a_phases.onset_s, 0.05 * drive.a_phases.strength, 4.0)
    acceleration += response(n, drive.k_complexes_s, np.full(len(drive.k_complexes_s), 0.025), 3.0)
    return np.asarray(np.minimum(acceleration, 0.45) - smooth(slowing, 8.0))


def _qrs_size(
    rng: np.random.Generator,
    subject: Subject,
    position: NDArray[np.intp],
    breathing: Breathing,
    at: Floats,
) -> Floats:
    """Return relative QRS amplitude; varies with lung volume (Moody et al. 1985) and posture."""
    n = len(position)
    posture = smooth(np.exp(rng.normal(0, 0.12, 4))[position], 4.0)
    size = posture * (1 - subject.qrs_respiration * breathing.chest * (0.3 + 0.7 * breathing.flow))
    size *= 1 + 0.04 * drift(rng, n, 300.0)
    return np.asarray(np.interp(at, times(n, GRID_HZ), size))


def ecg(
    streams: Streams,
    subject: Subject,
    beats: Beats,
    breathing: Breathing,
    movement: Floats,
    tone: Floats,
    lead: Lead = LEADS["II"],
) -> NDArray[np.float32]:
    """Render the electrocardiogram in mV, with Gaussian waves (McSharry et al. 2003).

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    subject : Subject
        The simulated person and sensors.
    beats : Beats
        Heart beats of the night.
    breathing : Breathing
        Breathing of the night.
    movement, tone : ndarray of float64, shape [samples]
        Strength of body movement and muscle tone on the grid.
    lead : Lead
        Amplitude of each wave in the lead.
    """
    rng = streams("noise ECG")
    rate = subject.ecg_rate
    n = len(movement)
    samples = n * rate // GRID_HZ
    signal = np.zeros(samples, np.float32)
    add_qrs(signal, rate, beats, subject, subject.ecg_mv, lead)
    add_p_and_t(signal, rate, beats, subject, lead)
    t, grid = times(samples, rate), times(n, GRID_HZ)
    wander = subject.ecg_wander_mv * breathing.chest + 0.06 * drift(rng, n, 8.0)
    signal += np.interp(t, grid, wander).astype(np.float32)
    noise = rng.standard_normal(samples, dtype=np.float32)
    muscle = subject.ecg_noise_mv * (0.6 + 1.2 * tone)
    signal += np.interp(t, grid, muscle).astype(np.float32) * noise
    swing = lfilter([0.02], [1, -0.98], rng.standard_normal(samples, dtype=np.float32)) * 7.0
    signal += (np.interp(t, grid, movement) * (0.5 * swing + 0.12 * noise)).astype(np.float32)
    return highpass(signal, rate, subject.ecg_highpass_hz)


def add_qrs(
    signal: NDArray[np.float32],
    rate: float,
    beats: Beats,
    subject: Subject,
    size: float,
    lead: Lead = LEADS["II"],
) -> None:
    """Add the QRS complexes, in place.

    Parameters
    ----------
    signal : ndarray of float32, shape [samples]
        Signal, at ``rate``.
    rate : float
        Samples per second.
    beats : Beats
        Heart beats of the night.
    subject : Subject
        The simulated person and sensors.
    size : float
        Amplitude of a mean R wave, in the unit of the signal.
    lead : Lead
        Amplitude of each wave in the lead.
    """
    height = size * beats.size
    for mask, factor, width in ((~beats.ectopic, 1.0, 1.0), (beats.ectopic, 1.5, 3.2)):
        width *= subject.qrs_width
        reach = 0.07 * width
        wave = _qrs(subject, factor * height[mask], width, lead)
        stamp(signal, rate, beats.at_s[mask], (reach, reach), wave)


def _qrs(subject: Subject, height: Floats, width: float, lead: Lead) -> Shape:
    def wave(tau: Floats, k: NDArray[np.intp]) -> Floats:
        t = tau / width
        q = lead.q * subject.q_share * np.exp(-0.5 * ((t + 0.026) / 0.009) ** 2)
        r = lead.r * np.exp(-0.5 * (t / 0.011) ** 2)
        s = lead.s * subject.s_share * np.exp(-0.5 * ((t - 0.027) / 0.010) ** 2)
        return np.asarray(height[k, None] * (r - q - s))

    return wave


def add_p_and_t(
    signal: NDArray[np.float32],
    rate: float,
    beats: Beats,
    subject: Subject,
    lead: Lead = LEADS["II"],
) -> None:
    """Add P waves, ST level and T waves, in place; T wave timing follows R-R (Bazett).

    Parameters
    ----------
    signal : ndarray of float32, shape [samples]
        Signal in mV, at ``rate``.
    rate : float
        Samples per second.
    beats : Beats
        Heart beats of the night.
    subject : Subject
        The simulated person and sensors.
    lead : Lead
        Amplitude of each wave in the lead.
    """
    sign = np.sign(subject.ecg_mv)
    stretch = np.sqrt(np.clip(beats.rr_s, 0.45, 1.6))
    p = np.where(beats.ectopic, 0.0, sign * lead.p * subject.p_mv)
    t = np.where(beats.ectopic, -1.3, 1.0) * sign * lead.t * subject.t_mv * beats.size

    def wave(tau: Floats, which: NDArray[np.intp]) -> Floats:
        s = stretch[which, None]
        before = p[which, None] * np.exp(-0.5 * ((tau + 0.16) / 0.022) ** 2)
        st = subject.st_mv * np.exp(-0.5 * ((tau - 0.14 * s) / 0.05) ** 2)
        after = t[which, None] * np.exp(-0.5 * ((tau - 0.28 * s) / (0.048 * s)) ** 2)
        return np.asarray(before + st + after)

    stamp(signal, rate, beats.at_s, (0.24, 0.50), wave)
