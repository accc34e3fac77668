"""One simulated night: the physiology that its signals share, and the signals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sleepfm.simulate import brain
from sleepfm.simulate.brain import BrainState
from sleepfm.simulate.events import (
    HYPOPNEA,
    Spans,
    draw_a_phases,
    draw_arousals,
    draw_leg_movements,
    draw_movements,
    draw_positions,
    draw_respiratory_events,
    muscle_tone,
    phasic_rem,
)
from sleepfm.simulate.failures import fail
from sleepfm.simulate.grid import drift, rhythm
from sleepfm.simulate.heart import LEADS, Beats, Drive, beat, ecg
from sleepfm.simulate.hypnogram import EPOCH_S, W, draw_hypnogram, stage_weights
from sleepfm.simulate.respiration import (
    Breathing,
    airflow,
    belt,
    breathe,
    find_desaturations,
    oximeter,
)
from sleepfm.simulate.signal import Signal
from sleepfm.simulate.streams import Streams
from sleepfm.simulate.subject import Subject, draw_subject
from sleepfm.simulate.vessels import pulse


@dataclass(frozen=True)
class Night:
    """Ground truth of a simulated night.

    ``stages`` holds one index into ``hypnogram.STAGES`` per 30 s epoch. ``respiratory_events`` are
    all that happened; ``scored_events`` those that count (every apnea, and the hypopneas with a
    fall of saturation of 3 % or an arousal; AASM manual 2.6, rule 1A).
    """

    streams: Streams
    subject: Subject
    stages: NDArray[np.int8]
    position: NDArray[np.intp]
    movements: Spans
    legs: Spans
    a_phases: Spans
    respiratory_events: Spans
    scored_events: Spans
    arousals: Spans
    desaturations: Spans
    breathing: Breathing
    beats: Beats
    state: BrainState

    @property
    def seconds(self) -> int:
        """Length of the night, in seconds."""
        return len(self.stages) * EPOCH_S

    @property
    def ahi(self) -> float:
        """Scored apneas and hypopneas per hour of sleep; NaN where nobody slept."""
        asleep_h = float((self.stages != W).sum()) * EPOCH_S / 3600
        return len(self.scored_events) / asleep_h if asleep_h else float("nan")


def simulate_night(
    seed: int, subject_number: int, epochs: int, *, night: int = 1, first_epoch: int = 0
) -> Night:
    """Simulate the physiology of one night; the same arguments give the same night.

    Parameters
    ----------
    seed, subject_number : int
        Who.
    epochs : int
        Length, in epochs of 30 s.
    night : int
        Which of the person's nights, from 1: the person stays, the sensors and the sleep are
        others.
    first_epoch : int
        Epochs between lights out and the start of the recording.
    """
    streams = Streams(seed, subject_number, night)
    subject = draw_subject(streams)
    start_s = (subject.start_s + first_epoch * EPOCH_S) % 86400
    subject = replace(subject, start_s=start_s)
    stages = draw_hypnogram(streams("hypnogram"), first_epoch + epochs)[first_epoch:]
    stage = stage_weights(stages)
    n = len(stage)
    position, turns = draw_positions(streams, n)
    movements = draw_movements(streams, stage, turns)
    events = draw_respiratory_events(streams, subject, stage, position)
    arousals = draw_arousals(streams, subject, stage, events, movements)
    arousal = arousals.envelope(n)
    phasic = phasic_rem(streams, stage)
    sleep_depth = drift(streams("sleep depth"), n, 240.0)
    infraslow = rhythm(streams("infraslow"), n, 0.02, 0.012)
    legs = draw_leg_movements(streams, subject, stage)
    a_phases = draw_a_phases(streams, stage, infraslow)
    a_phase = a_phases.envelope(n)
    breathing = breathe(streams, subject, stage, sleep_depth, phasic, arousal, a_phase, events)
    closed = brain.eyes_closed(streams, n)
    transients = brain.draw_transients(
        streams, subject, stage, infraslow, phasic, closed, breathing
    )
    drive = Drive(
        sleep_depth=sleep_depth,
        infraslow=infraslow,
        phasic=phasic,
        arousals=arousals,
        movements=movements,
        legs=legs,
        a_phases=a_phases,
        k_complexes_s=transients.k_complexes_s,
    )
    beats = beat(streams, subject, stage, position, breathing, events, drive)
    desaturations = find_desaturations(breathing, subject, events)
    return Night(
        streams=streams,
        subject=subject,
        stages=stages,
        position=position,
        movements=movements,
        legs=legs,
        a_phases=a_phases,
        respiratory_events=events,
        scored_events=events.keep(_scored(subject, events, arousals, desaturations)),
        arousals=arousals,
        desaturations=desaturations,
        breathing=breathing,
        beats=beats,
        state=BrainState(
            stage=stage,
            sleep_depth=sleep_depth,
            infraslow=infraslow,
            arousal=arousal,
            a_phase=a_phase,
            tone=muscle_tone(streams, stage),
            movement=np.maximum(movements.envelope(n), legs.envelope(n)),
            eyes_closed=closed,
            transients=transients,
        ),
    )


def _scored(
    subject: Subject, events: Spans, arousals: Spans, desaturations: Spans
) -> NDArray[np.bool_]:
    late = subject.circulation_s
    falls = _near(events.onset_s + late, desaturations.onset_s, 1.0)
    wakes = _near(events.end_s, arousals.onset_s, 3.0)
    return np.asarray((events.kind != HYPOPNEA) | falls | wakes)


def _near(
    at: NDArray[np.float64], others: NDArray[np.float64], within_s: float
) -> NDArray[np.bool_]:
    if not len(others):
        return np.zeros(len(at), bool)
    return np.asarray((np.abs(at[:, None] - others) <= within_s).any(axis=1))


def render_night(night: Night, lead: str = "II", failures: float = 0.0) -> dict[str, Signal]:
    """Signals of a night by channel name, in the order of a recorder's montage.

    Parameters
    ----------
    night : Night
    lead : str
        Of the ECG, one of :data:`sleepfm.simulate.heart.LEADS`.
    failures : float
        Probability that a channel fails (:func:`sleepfm.simulate.failures.fail`).
    """
    subject, streams = night.subject, night.streams
    movement = night.state.movement
    signals = {
        name: Signal(samples, subject.eeg_rate, "uV")
        for name, samples in brain.render(
            streams, subject, night.state, night.breathing, night.beats
        ).items()
    }
    heart = ecg(
        streams, subject, night.beats, night.breathing, movement, night.state.tone, LEADS[lead]
    )
    signals["ECG"] = Signal(heart, subject.ecg_rate, "mV")
    for name in ("CHEST", "ABD"):
        samples = belt(
            streams,
            subject,
            night.breathing,
            night.position,
            movement,
            night.beats.at_s,
            abdomen=name == "ABD",
        )
        signals[name] = Signal(samples, subject.belt_rate, subject.belt_unit)
    shown = oximeter(streams, subject, night.breathing, movement)
    signals["SaO2"] = Signal(shown, subject.oxygen_rate, "%")
    flow = airflow(streams, subject, night.breathing, movement, night.beats.at_s)
    signals["Flow"] = Signal(flow, subject.flow_rate, subject.belt_unit)
    wave = pulse(streams, subject, night.beats, night.breathing, night.arousals, movement)
    signals["Pleth"] = Signal(wave, subject.pulse_rate, "")
    return fail(streams, signals, failures) if failures else signals
