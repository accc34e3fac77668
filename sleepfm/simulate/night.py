"""A simulated night: its shared physiology and its signals."""

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
from sleepfm.simulate.failures import add_failures
from sleepfm.simulate.faint import make_faint
from sleepfm.simulate.grid import drift, rhythm
from sleepfm.simulate.heart import LEADS, Beats, Drive, ecg, simulate_beats
from sleepfm.simulate.hypnogram import EPOCH_S, W, draw_hypnogram, stage_weights
from sleepfm.simulate.respiration import (
    Breathing,
    airflow,
    belt,
    find_desaturations,
    oximeter,
    simulate_breathing,
)
from sleepfm.simulate.signal import Signal
from sleepfm.simulate.streams import Streams
from sleepfm.simulate.subject import Subject, draw_subject
from sleepfm.simulate.vessels import pulse


@dataclass(frozen=True)
class Night:
    """Ground truth of a simulated night.

    ``stages`` has one index into ``hypnogram.STAGES`` per 30 s epoch. ``respiratory_events`` are
    all simulated events; ``scored_events`` are those that meet the scoring criteria (all apneas,
    and hypopneas with a desaturation of 3 % or an arousal; AASM manual 2.6, rule 1A).
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
        """Scored apneas and hypopneas per hour of sleep; NaN without sleep."""
        asleep_h = float((self.stages != W).sum()) * EPOCH_S / 3600
        return len(self.scored_events) / asleep_h if asleep_h else float("nan")


def simulate_night(
    seed: int,
    subject_number: int,
    epochs: int,
    *,
    night: int = 1,
    first_epoch: int = 0,
    faint: bool = False,
) -> Night:
    """Simulate the physiology of one night; the same arguments give the same night.

    Parameters
    ----------
    seed, subject_number : int
        Seed of the cohort, and number of the subject from 1.
    epochs : int
        Length of the recording, in epochs of 30 s.
    night : int
        Number of the subject's night, from 1; nights differ in sensors and sleep.
    first_epoch : int
        Number of epochs between lights out and the start of the recording.
    faint : bool
        Whether modalities show little of each other (:mod:`sleepfm.simulate.faint`).
    """
    streams = Streams(seed, subject_number, night)
    subject = draw_subject(streams)
    if faint:
        subject = make_faint(streams, subject)
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
    breathing = simulate_breathing(
        streams, subject, stage, sleep_depth, phasic, arousal, a_phase, events
    )
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
    beats = simulate_beats(streams, subject, stage, position, breathing, events, drive)
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
    delay_s = subject.circulation_s
    with_desaturation = _near(events.onset_s + delay_s, desaturations.onset_s, 1.0)
    with_arousal = _near(events.end_s, arousals.onset_s, 3.0)
    return np.asarray((events.kind != HYPOPNEA) | with_desaturation | with_arousal)


def _near(
    times_s: NDArray[np.float64], others: NDArray[np.float64], within_s: float
) -> NDArray[np.bool_]:
    if not len(others):
        return np.zeros(len(times_s), bool)
    return np.asarray((np.abs(times_s[:, None] - others) <= within_s).any(axis=1))


def render_night(night: Night, lead: str = "II", failures: float = 0.0) -> dict[str, Signal]:
    """Render the signals of a night by channel name, in the order of a recorder's montage.

    Parameters
    ----------
    night : Night
        The simulated night.
    lead : str
        Lead of the ECG, a key of :data:`sleepfm.simulate.heart.LEADS`.
    failures : float
        Probability that a channel fails (:func:`sleepfm.simulate.failures.add_failures`).
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
    saturation = oximeter(streams, subject, night.breathing, movement)
    signals["SaO2"] = Signal(saturation, subject.oxygen_rate, "%")
    flow = airflow(streams, subject, night.breathing, movement, night.beats.at_s)
    signals["Flow"] = Signal(flow, subject.flow_rate, subject.belt_unit)
    wave = pulse(streams, subject, night.beats, night.breathing, night.arousals, movement)
    signals["Pleth"] = Signal(wave, subject.pulse_rate, "")
    return add_failures(streams, signals, failures) if failures else signals
