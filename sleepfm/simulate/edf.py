"""A simulated night as an EDF+ file: signals, hypnogram and events."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Final

import edfio
import numpy as np

from sleepfm.simulate.failures import add_failures
from sleepfm.simulate.hypnogram import EPOCH_S, STAGES
from sleepfm.simulate.montage import LABELS, render_montage
from sleepfm.simulate.night import Night
from sleepfm.simulate.signal import Signal

_EVENT_WORDS: Final = ("Hypopnea", "Obstructive apnea", "Central apnea", "Mixed apnea")
# Physical range of the recorder, by unit; the range of belts follows from their gain.
_RANGE: Final = {"uV": (-1000.0, 1000.0), "mV": (-5.0, 5.0), "%": (0.0, 102.3)}


def to_edf(
    night: Night, lead: str = "II", further: Sequence[str] = (), failures: float = 0.0
) -> edfio.Edf:
    """Render a night into an EDF+ file in memory: signals, hypnogram and events.

    Parameters
    ----------
    night : Night
        The simulated night.
    lead, further
        As for :func:`sleepfm.simulate.montage.render_montage`.
    failures : float
        Probability that a channel fails (:func:`sleepfm.simulate.failures.add_failures`).
    """
    subject = night.subject
    montage = render_montage(night, lead, further)
    signals = {LABELS.get(slot, slot): signal for slot, signal in montage.items()}
    if failures:
        signals = add_failures(night.streams, signals, failures)
    hour, remainder_s = divmod(subject.start_s, 3600)
    return edfio.Edf(
        [_edf_signal(name, signals.pop(name)) for name in list(signals)],
        patient=edfio.Patient(),
        recording=edfio.Recording(equipment_code="simulated"),
        starttime=datetime.time(hour, remainder_s // 60, remainder_s % 60),
        data_record_duration=1,
        annotations=list(_annotations(night)),
    )


def _edf_signal(name: str, signal: Signal) -> edfio.EdfSignal:
    peak = float(f"{1.01 * np.abs(signal.samples).max():.3g}")
    low, high = _RANGE.get(signal.unit, (-peak, peak))
    # edfio works in float64; a sensor at its limit clips
    samples = np.clip(signal.samples, low, high, dtype=np.float64)
    return edfio.EdfSignal(
        samples,
        signal.rate,
        label=name,
        transducer_type="simulated",
        physical_dimension=signal.unit,
        physical_range=(low, high),
    )


def _annotations(night: Night) -> Iterator[edfio.EdfAnnotation]:
    """Yield stages (one per epoch), then events, as EDF+ annotations with durations."""
    for i, stage in enumerate(night.stages):
        yield edfio.EdfAnnotation(i * EPOCH_S, EPOCH_S, f"Sleep stage {STAGES[stage]}")
    scored = night.scored_events
    for onset, duration, kind in zip(scored.onset_s, scored.duration_s, scored.kind, strict=True):
        yield _event(onset, duration, _EVENT_WORDS[kind])
    for spans, word in ((night.desaturations, "Desaturation"), (night.arousals, "Arousal")):
        for onset, duration in zip(spans.onset_s, spans.duration_s, strict=True):
            yield _event(onset, duration, word)


def _event(onset: float, duration: float, word: str) -> edfio.EdfAnnotation:
    return edfio.EdfAnnotation(round(float(onset), 2), round(float(duration), 2), word)
