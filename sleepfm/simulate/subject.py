"""Parameters of simulated subjects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from sleepfm.simulate.streams import Streams

# AASM manual 2.6: 0.3 Hz for EEG, EOG and ECG, 0.1 Hz for belts; in practice DC to 0.5 Hz.
_HIGHPASS_HZ: Final = (0.05, 0.5)
# Amplitude of cardiogenic oscillations in a belt, relative to a breath; assumed.
_CARDIOGENIC: Final = {"inductance": (0.04, 0.08), "piezo": (0.06, 0.12)}


@dataclass(frozen=True)
class Subject:
    """Parameters of a simulated person and the sensors.

    Rates are per minute, per hour or in Hz, and amplitudes in units, as named; the others are
    factors. Sensor properties are drawn independently per sensor, so that recorder settings do not
    reveal which ECG belongs to which EEG.
    """

    site: str
    age: float
    sex: str
    bmi: float
    # heart
    heart_bpm: float
    rsa: float
    ecg_mv: float
    qrs_respiration: float
    qrs_width: float
    q_share: float
    s_share: float
    st_mv: float
    t_mv: float
    p_mv: float
    ectopic_per_hour: float
    # breathing
    breaths_per_min: float
    inspiration: float
    expiratory_rest: float
    abdominal: float
    event_rate: float
    event_mix: tuple[float, float, float, float]
    arousability: float
    leg_movements_per_hour: float
    oxygen: float
    oxygen_drop: float
    circulation_s: float
    # brain
    alpha_hz: float
    alpha_uv: float
    spindle_hz: float
    spindle_uv: float
    slow_gain: float
    eeg_gain: float
    eye_uv: float
    cardiac_uv: float
    sway_uv: float
    # vessels
    pulse_transit_s: float
    pulse_notch: float
    vasoconstriction: float
    # sensors
    start_s: int
    belt_sign: int
    belt_unit: str
    belt_gain: float
    belt_noise: float
    belt_kind: str
    cardiogenic: float
    flow_kind: str
    ecg_noise_mv: float
    oxygen_step: float
    eeg_rate: int
    ecg_rate: int
    belt_rate: int
    oxygen_rate: int
    flow_rate: int
    pulse_rate: int
    eeg_highpass_hz: float
    ecg_highpass_hz: float
    belt_highpass_hz: float
    flow_highpass_hz: float
    ecg_wander_mv: float = 0.07
    belt_lowpass_hz: float = math.inf


def draw_subject(streams: Streams) -> Subject:
    """Draw a person and the sensors; sources of the ranges are in docs/simulation.md.

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    """
    rng = streams.person("subject")

    def normal(mean: float, sd: float) -> float:
        return float(mean + sd * np.clip(rng.standard_normal(), -2.5, 2.5))

    def log_normal(median: float, log_sd: float) -> float:
        return float(median * np.exp(log_sd * np.clip(rng.standard_normal(), -2.5, 2.5)))

    site = ("sim-community", "sim-clinic")[int(rng.random() < 0.5)]
    age = float(np.round(_age(rng.random()), 1))
    young = max(20 - age, 0.0) / 15
    sex = ("female", "male")[int(rng.random() < 0.5)]
    bmi = log_normal(27 if site == "sim-community" else 31, 0.15)
    bmi = float(np.round(bmi * (1 - 0.4 * young), 1))
    older = (age - 50) / 30
    risk = 0.4 * older + 0.06 * (bmi - 28) + (0.25 if sex == "male" else -0.25)
    mix = rng.dirichlet([11.0, 6.0, 2.0, 1.0])
    sensors = streams("sensors")
    recorder = streams("recorder")
    vessels = streams.person("vessels")
    belt_kind = ("inductance", "piezo")[int(recorder.random() < 0.4)]
    low, high = _CARDIOGENIC[belt_kind]
    return Subject(
        site=site,
        age=age,
        sex=sex,
        bmi=bmi,
        heart_bpm=normal(63 if sex == "female" else 60, 9) + 25 * young**1.5,
        rsa=log_normal(0.045, 0.35) * float(np.exp(-0.5 * older)),
        ecg_mv=log_normal(1.0, 0.3) * (-1 if rng.random() < 0.06 else 1),
        qrs_respiration=log_normal(0.10, 0.4),
        qrs_width=log_normal(1.0, 0.13),
        q_share=log_normal(0.10, 0.5),
        s_share=log_normal(0.22, 0.5),
        st_mv=normal(0.0, 0.03),
        t_mv=log_normal(0.28, 0.35),
        p_mv=log_normal(0.12, 0.3),
        ectopic_per_hour=log_normal(2.0, 1.2),
        breaths_per_min=normal(15.0, 2.5) + 6 * young,
        inspiration=normal(0.40, 0.03),
        expiratory_rest=normal(1.5, 0.2),
        abdominal=normal(0.0, 0.3),
        event_rate=log_normal(6.0 if site == "sim-community" else 18.0, 0.9) * float(np.exp(risk)),
        event_mix=(float(mix[0]), float(mix[1]), float(mix[2]), float(mix[3])),
        arousability=float(rng.uniform(0.45, 0.9)),
        leg_movements_per_hour=log_normal(5.0, 1.2) * float(np.exp(0.8 * older)),
        oxygen=normal(96.0, 0.9) - 0.6 * max(older, 0.0),
        oxygen_drop=log_normal(8.0, 0.35),
        circulation_s=float(rng.uniform(15, 30)),
        alpha_hz=normal(10.0, 0.8) - 0.4 * max(older, 0.0) - 1.8 * young,
        alpha_uv=log_normal(11.0, 0.4),
        spindle_hz=normal(13.3, 0.5),
        spindle_uv=log_normal(17.0, 0.3),
        slow_gain=log_normal(1.0, 0.15) * float(np.exp(-0.25 * older)),
        eeg_gain=log_normal(1.0, 0.15),
        eye_uv=log_normal(100.0, 0.3),
        cardiac_uv=between(rng.random(), 10.0, 30.0),
        sway_uv=log_normal(10.0, 0.45),
        pulse_transit_s=float(0.24 - 0.03 * older + 0.02 * vessels.standard_normal()),
        pulse_notch=float(vessels.uniform(0.2, 0.6)) * float(np.exp(-0.3 * older)),
        vasoconstriction=float(vessels.uniform(0.2, 0.8)),
        start_s=int(sensors.integers(22 * 3600, 23 * 3600 + 1800)),
        belt_sign=-1 if sensors.random() < 0.25 else 1,
        belt_unit=("V", "")[int(sensors.random() < 0.5)],
        belt_gain=float(np.exp(sensors.normal(0, 0.4))),
        belt_noise=float(0.015 * np.exp(sensors.normal(0, 0.4))),
        belt_kind=belt_kind,
        cardiogenic=between(recorder.random(), low, high),
        flow_kind=("cannula", "thermistor")[int(recorder.random() < 0.4)],
        ecg_noise_mv=float(0.012 * np.exp(sensors.normal(0, 0.5))),
        oxygen_step=float(sensors.choice([1.0, 0.1])),
        eeg_rate=int(sensors.choice([256, 200, 128])),
        ecg_rate=int(sensors.choice([256, 200, 128])),
        belt_rate=int(sensors.choice([25, 32])),
        oxygen_rate=int(sensors.choice([1, 2, 4])),
        flow_rate=int(recorder.choice([25, 32, 64])),
        pulse_rate=int(recorder.choice([32, 64, 128])),
        eeg_highpass_hz=between(recorder.random(), *_HIGHPASS_HZ),
        ecg_highpass_hz=between(recorder.random(), *_HIGHPASS_HZ),
        belt_highpass_hz=between(recorder.random(), *_HIGHPASS_HZ),
        flow_highpass_hz=between(recorder.random(), *_HIGHPASS_HZ),
    )


def between(share: float, low: float, high: float) -> float:
    """Interpolate on a logarithmic scale.

    Parameters
    ----------
    share : float
        Position between the ends, 0 to 1.
    low, high : float
        Ends, above 0.
    """
    return float(low * (high / low) ** share)


def _age(share: float) -> float:
    """Return an age in years: one eighth of the people are 5 to 20, the others 20 to 80."""
    return 5 + 120 * share if share < 0.125 else 20 + 60 * (share - 0.125) / 0.875
