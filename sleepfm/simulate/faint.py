"""People and recorders that show little of one modality in another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sleepfm.simulate.streams import Streams
from sleepfm.simulate.subject import Subject, between


def make_faint(streams: Streams, subject: Subject) -> Subject:
    """Return the person and sensors with weaker coupling between heart, breath and brain.

    As in many patients of sleep clinics: little sinus arrhythmia and little change of the QRS with
    breathing, belts and flow with a low-pass filter that removes the heart beat, noise, and up to
    four times as many respiratory events. Ranges are assumed (docs/simulation.md).

    Parameters
    ----------
    streams : Streams
        Random number streams of the night.
    subject : Subject
        The simulated person and sensors.
    """
    person, sensors = streams.person("faint person"), streams("faint sensors")

    def share(rng: np.random.Generator, lowest: float, highest: float = 1.0) -> float:
        return between(rng.random(), lowest, highest)

    return replace(
        subject,
        rsa=subject.rsa * share(person, 0.15),
        qrs_respiration=subject.qrs_respiration * share(person, 0.2),
        sway_uv=subject.sway_uv * share(person, 0.15),
        event_rate=subject.event_rate * share(person, 1.0, 4.0),
        ecg_wander_mv=subject.ecg_wander_mv * share(sensors, 0.1),
        ecg_noise_mv=subject.ecg_noise_mv * share(sensors, 1.0, 3.0),
        cardiogenic=subject.cardiogenic * share(sensors, 0.08),
        belt_noise=subject.belt_noise * share(sensors, 1.0, 4.0),
        belt_lowpass_hz=share(sensors, 0.6, 8.0),
    )
