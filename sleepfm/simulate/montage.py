"""Optional channels: chin and leg EMG, a second ECG lead, more EEG, thermistor and snore.

They follow the same physiology as the standard channels, in a simple form that is not fitted to
recordings (docs/simulation.md). They do not change the standard channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from sleepfm.errors import SimulationError
from sleepfm.simulate import brain
from sleepfm.simulate.grid import GRID_HZ, Floats, envelope, times
from sleepfm.simulate.heart import LEADS, ecg
from sleepfm.simulate.night import Night, render_night
from sleepfm.simulate.respiration import breath_shape
from sleepfm.simulate.signal import Signal

_EEG: Final = ("F3-M2", "F4-M1", "E2-M2")
_AIR_HZ: Final = 32
_EVERY_NIGHT: Final = (*brain.CHANNELS, "ECG", "CHEST", "SaO2", "ABD", "FLOW", "PULSE")


def further_slots(slots: Sequence[str]) -> tuple[str, ...]:
    """Return the slots that are not among the standard channels.

    Parameters
    ----------
    slots : sequence of str
        Slots of a contract.

    Raises
    ------
    SimulationError
        If a slot cannot be simulated.
    """
    further = tuple(slot for slot in slots if slot not in _EVERY_NIGHT)
    unknown = [slot for slot in further if slot not in FURTHER]
    if unknown:
        known = ", ".join((*_EVERY_NIGHT, *FURTHER))
        raise SimulationError(
            f"the slot {unknown[0]} cannot be simulated; those that can are {known}"
        )
    return further


def render_montage(
    night: Night, lead: str = "II", further: Sequence[str] = ()
) -> dict[str, Signal]:
    """Render the signals of a night by slot, standard channels first.

    Parameters
    ----------
    night : Night
        The simulated night.
    lead : str
        Lead of the ECG, a key of :data:`sleepfm.simulate.heart.LEADS`.
    further : sequence of str
        Optional channels, from :data:`FURTHER`.
    """
    slots = {label: slot for slot, label in LABELS.items()}
    signals = {slots.get(name, name): x for name, x in render_night(night, lead).items()}
    eeg = [name for name in further if name in _EEG]
    if eeg:
        rendered = brain.render(
            night.streams, night.subject, night.state, night.breathing, night.beats, eeg
        )
    for name in further:
        if name in eeg:
            signals[name] = Signal(rendered[name], night.subject.eeg_rate, "uV")
        else:
            signals[name] = _OTHERS[name](night)
    return signals


def _chin(night: Night) -> Signal:
    """Render chin EMG: tone by stage, lowest in REM sleep; bursts in arousals and movements."""
    tone = 12.0 * night.state.tone + 25.0 * night.state.arousal + 90.0 * night.state.movement
    return _muscle(night, "CHIN", tone)


def _legs(night: Night) -> Signal:
    """Render leg EMG: resting tone, with bursts in periodic leg and body movements."""
    legs = night.legs
    kicks = envelope(len(night.state.tone), legs.onset_s, legs.duration_s, 400 * legs.strength, 0.2)
    return _muscle(night, "LEGS", 3.0 + 3.0 * night.state.tone + kicks + 60 * night.state.movement)


def _muscle(night: Night, name: str, size_uv: Floats) -> Signal:
    rate = night.subject.eeg_rate
    samples = len(size_uv) * rate // GRID_HZ
    white = night.streams(f"noise {name}").standard_normal(samples, dtype=np.float32)
    # 10 Hz is the lower filter of the AASM manual for EMG
    sos = butter(2, 10.0, "highpass", fs=rate, output="sos")
    noise = sosfilt(sos, white)
    size = np.interp(times(samples, rate), times(len(size_uv), GRID_HZ), size_uv)
    return Signal(np.asarray(size * noise, np.float32), rate, "uV")


def _second_lead(night: Night) -> Signal:
    """Render lead V1, with the baseline wander and muscle noise of the first lead."""
    state = night.state
    lead = LEADS["V1"]
    samples = ecg(
        night.streams, night.subject, night.beats, night.breathing, state.movement, state.tone, lead
    )
    rng = night.streams("noise ECG2")
    samples += np.float32(0.01) * rng.standard_normal(len(samples), dtype=np.float32)
    return Signal(samples, night.subject.ecg_rate, "mV")


def _thermistor(night: Night) -> Signal:
    """Render a thermistor: low-pass filtered airflow."""
    sos = butter(1, 0.5, fs=_AIR_HZ, output="sos")
    slow = np.asarray(sosfilt(sos, _airflow(night)), np.float32)
    return Signal(_noisy(night, "THERM", slow, 0.03), _AIR_HZ, "V")


def _airflow(night: Night) -> NDArray[np.float32]:
    breathing = night.breathing
    t = times(night.seconds * _AIR_HZ, _AIR_HZ)
    grid = times(len(breathing.phase), GRID_HZ)
    volume = breath_shape(np.interp(t, grid, breathing.phase), night.subject)
    amplitude = np.interp(t, grid, breathing.depth * breathing.effort * breathing.flow)
    return np.asarray(amplitude * np.gradient(volume) * _AIR_HZ / 2, np.float32)


def _snore(night: Night) -> Signal:
    """Render snoring sound: louder in inspiration, loudest in hypopneas."""
    breathing = night.breathing
    asleep = 1 - night.state.stage[:, 0]
    narrow = asleep * (0.1 + np.clip(1 - breathing.flow, 0, 0.8) * (breathing.flow > 0.1))
    inspiration = breathing.phase % 1.0 < night.subject.inspiration
    t = times(night.seconds * _AIR_HZ, _AIR_HZ)
    loudness = np.interp(t, times(len(narrow), GRID_HZ), narrow * inspiration)
    sound = night.streams("sound SNORE").standard_normal(len(loudness), dtype=np.float32)
    return Signal(
        _noisy(night, "SNORE", np.asarray(loudness * sound, np.float32), 0.02), _AIR_HZ, "V"
    )


def _noisy(
    night: Night, name: str, signal: NDArray[np.float32], size: float
) -> NDArray[np.float32]:
    rng = night.streams(f"noise {name}")
    return signal + np.float32(size) * rng.standard_normal(len(signal), dtype=np.float32)


_OTHERS: Final[dict[str, Callable[[Night], Signal]]] = {
    "CHIN": _chin,
    "LEGS": _legs,
    "ECG2": _second_lead,
    "THERM": _thermistor,
    "SNORE": _snore,
}
LABELS: Final = {"FLOW": "Flow", "PULSE": "Pleth", "ECG2": "ECG V1"}
"""Channel names in files, where they differ from the slot."""
FURTHER: Final = (*_EEG, *_OTHERS)
"""Optional channels, by slot."""
