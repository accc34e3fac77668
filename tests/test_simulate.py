"""Simulated nights: the physiology is there, nothing else is shared, and files are whole."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import edfio
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import coherence, find_peaks, resample_poly, welch
from scipy.stats import chi2_contingency

from sleepfm.errors import SimulationError
from sleepfm.simulate import (
    Night,
    Signal,
    clip_truth,
    render_night,
    simulate_cohort,
    simulate_night,
)
from sleepfm.simulate.events import CENTRAL, HYPOPNEA, OBSTRUCTIVE
from sleepfm.simulate.grid import GRID_HZ
from sleepfm.simulate.hypnogram import (
    EPOCH_S,
    FIRST_STAGE,
    FRACTION,
    N2,
    N3,
    STAGES,
    TRANSITION,
    R,
    W,
    draw_hypnogram,
)
from sleepfm.simulate.streams import Streams
from sleepfm.simulate.subject import draw_subject
from sleepfm_cli.simulate import simulate

EEG = ("C3-M2", "C4-M1", "O1-M2", "O2-M1", "E1-M2")
ALL = (*EEG, "ECG", "CHEST", "ABD", "SaO2", "Flow", "Pleth")


@pytest.fixture(scope="module")
def night() -> Night:
    """A clinic patient's night of 6 h with every stage and many events."""
    for number in range(1, 200):
        subject = draw_subject(Streams(0, number))
        if subject.event_rate > 40 and min(subject.event_mix) > 0.05:
            return simulate_night(0, number, 720)
    raise AssertionError("no such patient among 200")


@pytest.fixture(scope="module")
def sleeper() -> Night:
    """A young person's night of 2 h with hardly any events."""
    for number in range(1, 200):
        subject = draw_subject(Streams(0, number))
        if subject.age < 35 and subject.event_rate < 5 and subject.rsa > 0.05:
            return simulate_night(0, number, 240)
    raise AssertionError("no such person among 200")


@pytest.fixture(scope="module")
def signals(night: Night) -> dict[str, Signal]:
    return render_night(night)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return simulate_cohort(tmp_path_factory.mktemp("cohort"), subjects=3, hours=0.5, seed=5)


def epochs_of(night: Night, signal: Signal, stage: int) -> NDArray[np.float32]:
    """Undisturbed epochs within a stretch of one stage, shape [epochs, samples]."""
    x = signal.samples.reshape(len(night.stages), -1)
    same = night.stages == stage
    same[1:-1] &= (night.stages[2:] == stage) & (night.stages[:-2] == stage)
    disturbed = (night.state.arousal + night.state.movement).reshape(len(night.stages), -1)
    return x[same & (disturbed.max(axis=1) < 0.05)]


def band(x: NDArray[np.float32], rate: int, low: float, high: float) -> float:
    """Median power within a band of pieces of equal length, shape [pieces, samples]."""
    f, power = welch(x, rate, nperseg=3 * rate, axis=-1)
    inside = (f >= low) & (f <= high)
    return float(np.median(power[:, inside].sum(axis=1)))


def span(signal: Signal, onset: float, end: float) -> NDArray[np.float32]:
    return signal.samples[int(onset * signal.rate) : int(end * signal.rate)]


# --- stages ---------------------------------------------------------------------------------------


def test_transitions_are_those_of_real_hypnograms() -> None:
    rng = np.random.default_rng(1)
    nights = np.stack([draw_hypnogram(rng, 930) for _ in range(400)])
    counts = np.zeros((5, 5))
    np.add.at(counts, (nights[:, :-1].ravel(), nights[:, 1:].ravel()), 1)
    for row, expected in zip(counts, TRANSITION, strict=True):
        error = np.sqrt(expected * (1 - expected) / row.sum()) + 1 / row.sum()
        assert (np.abs(row / row.sum() - expected) < 4 * error).all()
    first = np.bincount(nights[:, 0], minlength=5) / len(nights)
    assert np.abs(first - FIRST_STAGE).max() < 0.06


def test_stage_fractions_are_those_of_real_hypnograms() -> None:
    rng = np.random.default_rng(2)
    nights = np.stack([draw_hypnogram(rng, 930) for _ in range(400)])  # 7.75 h, the source's median
    share = np.stack([(nights == s).mean(axis=1) for s in range(5)], axis=1)
    error = share.std(axis=0) / np.sqrt(len(share))
    assert (np.abs(share.mean(axis=0) - FRACTION) < 4 * error).all()


def test_sleep_comes_in_cycles_with_deep_sleep_early_and_rem_late() -> None:
    rng = np.random.default_rng(3)
    nights = np.stack([draw_hypnogram(rng, 900) for _ in range(300)])  # 7.5 h
    thirds = nights.reshape(300, 3, 300)
    deep, rem = ((thirds == s).mean(axis=(0, 2)) for s in (N3, R))
    assert deep[0] > 0.5 * deep.sum() and (np.diff(deep) < 0).all()
    assert rem[2] > 0.45 * rem.sum() and (np.diff(rem) > 0).all() and rem[0] < 0.2 * rem.sum()
    lengths: list[list[float]] = [[], [], []]
    gaps, latency = [], []
    for night in nights:
        at = np.flatnonzero(night == R)
        episodes = np.split(at, np.flatnonzero(np.diff(at) > 30) + 1)  # 15 min apart
        episodes = [e for e in episodes if len(e) >= 10]
        for own, episode in zip(lengths, episodes, strict=False):
            own.append(len(episode) / 2)
        gaps += list(np.diff([e[0] for e in episodes]) / 2)
        latency.append((at[0] - np.flatnonzero(night != W)[0]) / 2)
    means = [float(np.mean(own)) for own in lengths]
    assert means[0] + 2 < means[1] and means[1] + 1 < means[2]  # minutes of REM per episode
    assert 80 < np.median(gaps) < 110  # from one episode to the next
    assert 60 < np.median(latency) < 110
    # the rhythm itself: two epochs a cycle apart are more alike in REM than half a cycle apart
    centred = (nights == R) - (nights == R).mean(axis=0)
    alike = {lag: (centred[:, :-lag] * centred[:, lag:]).mean() for lag in (96, 192)}
    assert alike[96] < 0 < alike[192]


# --- the brain ------------------------------------------------------------------------------------


def test_slow_waves_mark_deep_sleep(night: Night, signals: dict[str, Signal]) -> None:
    c3 = signals["C3-M2"]
    delta = {s: band(epochs_of(night, c3, s), c3.rate, 0.5, 4.0) for s in (W, N2, N3, R)}
    assert delta[N3] > 2.5 * delta[N2] > 2.5 * delta[W]
    assert delta[R] < 0.5 * delta[N2]


def test_alpha_marks_closed_eyes_over_the_occiput(night: Night, signals: dict[str, Signal]) -> None:
    o1, c3, hz = signals["O1-M2"], signals["C3-M2"], night.subject.alpha_hz
    closed = night.state.eyes_closed.reshape(len(night.stages), -1)
    awake = o1.samples.reshape(len(night.stages), -1)
    quiet = (night.stages == W) & (night.state.movement.reshape(closed.shape).max(axis=1) < 0.05)
    shut, opened = quiet & (closed.min(axis=1) > 0.9), quiet & (closed.max(axis=1) < 0.1)
    alpha = band(awake[shut], o1.rate, hz - 1, hz + 1)
    assert opened.any() and alpha > 4 * band(awake[opened], o1.rate, hz - 1, hz + 1)
    assert alpha > 4 * band(epochs_of(night, o1, N2), o1.rate, hz - 1, hz + 1)
    assert alpha > 2 * band(c3.samples.reshape(len(closed), -1)[shut], c3.rate, hz - 1, hz + 1)


def test_spindles_mark_light_sleep(night: Night, signals: dict[str, Signal]) -> None:
    c3, hz = signals["C3-M2"], night.subject.spindle_hz
    # not against wake, where a fast alpha rhythm may reach into the band
    sigma = {s: band(epochs_of(night, c3, s), c3.rate, hz - 1, hz + 1) for s in (N2, R)}
    assert sigma[N2] > 2 * sigma[R]
    asleep = (night.stages == N2).sum() * EPOCH_S / 60
    in_n2 = night.stages[(night.state.transients.spindles_s / EPOCH_S).astype(int)] == N2
    assert (
        1.5 < in_n2.sum() / asleep < 6
    )  # per minute; Purcell et al. 2017 report 2 to 3 per channel


def test_eyes_move_in_rem_sleep(night: Night, signals: dict[str, Signal]) -> None:
    eye = signals["E1-M2"]
    spread = {
        s: np.percentile(np.abs(epochs_of(night, eye, s)), 99, axis=1).mean() for s in (N2, R)
    }
    assert spread[R] > 1.5 * spread[N2]


def test_arousals_bring_alpha_and_beta(night: Night, signals: dict[str, Signal]) -> None:
    o1 = signals["O1-M2"]
    inside = np.stack([span(o1, t, t + 3)[: 3 * o1.rate] for t in night.arousals.onset_s])
    before = np.stack([span(o1, t - 8, t - 5)[: 3 * o1.rate] for t in night.arousals.onset_s])
    for low, high in ((8, 12), (16, 30)):
        assert band(inside, o1.rate, low, high) > 2 * band(before, o1.rate, low, high)


# --- the heart ------------------------------------------------------------------------------------


def test_r_peaks_stand_where_the_heart_beats(night: Night, signals: dict[str, Signal]) -> None:
    ecg = signals["ECG"]
    found, _ = find_peaks(
        np.abs(ecg.samples), height=0.5 * abs(night.subject.ecg_mv), distance=0.35 * ecg.rate
    )
    nearest = np.abs(night.beats.at_s[:, None][:2000] - found[:2600] / ecg.rate).min(axis=1)
    assert (nearest < 0.02).mean() > 0.97
    rate = 60 / np.median(np.diff(night.beats.at_s))
    assert 35 < rate < 110


def rr_on_grid(night: Night, rate: int = GRID_HZ) -> NDArray[np.float64]:
    beats = night.beats.at_s[~night.beats.ectopic]
    return np.interp(np.arange(night.seconds * rate) / rate, beats[1:], np.diff(beats))


def test_heart_rate_follows_breathing(sleeper: Night) -> None:
    def breath(night: Night) -> NDArray[np.float32]:
        chest = render_night(night)["CHEST"]
        return resample_poly(chest.samples, GRID_HZ, chest.rate)

    hz = sleeper.subject.breaths_per_min / 60
    near = slice(int((hz - 0.03) * 256 / GRID_HZ), int((hz + 0.03) * 256 / GRID_HZ) + 2)
    stranger = breath(simulate_night(0, 1, len(sleeper.stages)))
    own = coherence(rr_on_grid(sleeper), breath(sleeper), GRID_HZ, nperseg=256)[1][near].max()
    chance = coherence(rr_on_grid(sleeper), stranger, GRID_HZ, nperseg=256)[1][near].max()
    assert own > 0.6 and chance < 0.15


def test_respiratory_sinus_arrhythmia_has_the_size_of_the_young(sleeper: Night) -> None:
    """Niizeki and Saitoh (2018) report 68 +- 52 to 82 +- 63 ms in sleep."""
    rr = rr_on_grid(sleeper).reshape(len(sleeper.stages), -1)
    swing = [np.sqrt(8 * band_variance(x)) for x in rr[sleeper.stages == N2]]
    assert 0.02 < np.median(swing) < 0.2


def band_variance(rr: NDArray[np.float64]) -> float:
    """Variance of 30 s of R-R intervals in the band of breathing, 0.15 to 0.4 Hz, in s^2."""
    f, power = welch(rr, GRID_HZ, nperseg=len(rr))
    return float(power[(f >= 0.15) & (f <= 0.4)].sum() * (f[1] - f[0]))


def test_qrs_follows_breathing(sleeper: Night) -> None:
    beats, ecg = sleeper.beats, render_night(sleeper)["ECG"]
    lung = np.interp(beats.at_s, np.arange(sleeper.seconds * 4) / 4, sleeper.breathing.chest)
    index = np.round(beats.at_s[2:-2] * ecg.rate).astype(int)
    near = int(0.05 * ecg.rate)
    size = ecg.samples[index + np.arange(-near, near + 1)[:, None]].std(axis=0)
    clean = ~beats.ectopic[2:-2]
    steps = np.diff(size[clean]), np.diff(lung[2:-2][clean])
    assert np.corrcoef(*steps)[0, 1] < -0.4


def test_another_lead_is_the_same_night(night: Night, signals: dict[str, Signal]) -> None:
    others = render_night(night, "V1")
    for name, signal in signals.items():
        if name != "ECG":
            np.testing.assert_array_equal(others[name].samples, signal.samples)
    beats = night.beats.at_s[~night.beats.ectopic][5:-5]
    waves = []
    for ecg in (signals["ECG"], others["ECG"]):
        index = np.round(beats * ecg.rate).astype(int)
        near = np.arange(-int(0.06 * ecg.rate), int(0.06 * ecg.rate))
        average = ecg.samples[index[:, None] + near].mean(axis=0)
        waves.append((average - np.median(average)) * np.sign(night.subject.ecg_mv))
    two, v1 = waves
    assert two.max() > 2 * -two.min()
    assert -v1.min() > 1.5 * v1.max() > 0


def test_the_heart_shows_in_the_eeg(night: Night, signals: dict[str, Signal]) -> None:
    c3 = signals["C3-M2"]
    index = np.round(night.beats.at_s[5:-5] * c3.rate).astype(int)
    average = c3.samples[index[:, None] + np.arange(-c3.rate // 4, c3.rate // 4)].mean(axis=0)
    peak = np.abs(average).max()
    assert 0.3 * night.subject.cardiac_uv < peak < 2.5 * night.subject.cardiac_uv
    assert abs(int(np.abs(average).argmax()) - c3.rate // 4) <= 0.02 * c3.rate


# --- breathing ------------------------------------------------------------------------------------


def test_belts_show_each_kind_of_event(night: Night, signals: dict[str, Signal]) -> None:
    events, still = night.respiratory_events, night.state.movement
    chest, abdomen = signals["CHEST"], signals["ABD"]

    def measure(kind: int, of: Callable[[float, float], float]) -> float:
        values = [
            of(onset + 2, end - 2)
            for onset, end in zip(
                events.onset_s[events.kind == kind], events.end_s[events.kind == kind], strict=True
            )
            if still[int(onset * GRID_HZ) : int(end * GRID_HZ)].max() < 0.02
        ]
        return float(np.median(values))

    def together(a: float, b: float) -> float:
        return float(np.corrcoef(span(chest, a, b), span(abdomen, a, b))[0, 1])

    def size(a: float, b: float) -> float:
        return float(np.ptp(span(chest, a, b)) / np.ptp(span(chest, a - 30, a - 5)))

    assert measure(OBSTRUCTIVE, together) < -0.5
    assert measure(HYPOPNEA, together) > measure(OBSTRUCTIVE, together)
    assert measure(CENTRAL, size) < 0.2 < measure(HYPOPNEA, size) < 1.0
    assert measure(OBSTRUCTIVE, size) > 0.3
    quiet = epochs_of(night, chest, N3), epochs_of(night, abdomen, N3)
    assert np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(*quiet, strict=True)]) > 0.8


def test_saturation_falls_a_circulation_after_an_event(night: Night) -> None:
    events, oxygen = night.respiratory_events, night.breathing.oxygen
    alone = np.append(np.diff(events.onset_s), np.inf) > 80
    alone[1:] &= np.diff(events.end_s) > 80
    delays = []
    for end in events.end_s[alone & (events.kind != HYPOPNEA)]:
        after = oxygen[int(end * GRID_HZ) : int((end + 60) * GRID_HZ)]
        if len(after) == 60 * GRID_HZ:
            delays.append(after.argmin() / GRID_HZ)
    assert len(delays) >= 3
    assert 15 <= night.subject.circulation_s <= 30
    assert np.median(delays) == pytest.approx(night.subject.circulation_s, abs=4)


def test_heart_slows_in_an_apnea_and_races_after(night: Night) -> None:
    events, rr = night.respiratory_events, rr_on_grid(night)
    shut = events.keep(events.kind == OBSTRUCTIVE)
    late = [rr[int((e - 5) * GRID_HZ) : int(e * GRID_HZ)].mean() for e in shut.end_s[:-1]]
    after = [rr[int((e + 3) * GRID_HZ) : int((e + 8) * GRID_HZ)].mean() for e in shut.end_s[:-1]]
    assert np.mean(after) < 0.93 * np.mean(late)


@pytest.mark.parametrize("which", ["a_phases", "legs", "arousals", "movements"])
def test_heart_quickens_with_every_surge(night: Night, sleeper: Night, which: str) -> None:
    own = night if which == "legs" else sleeper
    at, rr = getattr(own, which).onset_s, rr_on_grid(own)
    at = at[(at > 20) & (at < own.seconds - 20)]
    after = [rr[int((t + 2) * GRID_HZ) : int((t + 8) * GRID_HZ)].mean() for t in at]
    before = [rr[int((t - 10) * GRID_HZ) : int(t * GRID_HZ)].mean() for t in at]
    assert len(at) > 5 and np.mean(after) < 0.985 * np.mean(before)


def test_a_phases_are_surges_of_slow_waves(sleeper: Night) -> None:
    c3 = render_night(sleeper)["C3-M2"]
    strong = sleeper.a_phases.keep(
        (sleeper.a_phases.strength > 0.5) & (sleeper.a_phases.onset_s > 9)
    )
    inside = np.stack([span(c3, t, t + 4)[: 3 * c3.rate] for t in strong.onset_s])
    before = np.stack([span(c3, t - 8, t - 4)[: 3 * c3.rate] for t in strong.onset_s])
    assert band(inside, c3.rate, 0.5, 4) > 1.5 * band(before, c3.rate, 0.5, 4)


def test_movement_disturbs_every_channel_at_once(night: Night, signals: dict[str, Signal]) -> None:
    big = night.movements.keep((night.movements.strength > 0.9) & (night.movements.onset_s > 60))
    for name in (*EEG, "ECG", "CHEST", "ABD"):
        x = signals[name]
        rough = [np.diff(span(x, a + 1, a + 3)).std() for a in big.onset_s]
        calm = [np.diff(span(x, a - 40, a - 20)).std() for a in big.onset_s]
        assert np.median(np.divide(rough, calm)) > 1.3, name


# --- airflow and pulse ----------------------------------------------------------------------------


def test_no_air_moves_in_an_apnea_while_belts_may(night: Night, signals: dict[str, Signal]) -> None:
    events, still = night.respiratory_events, night.state.movement
    share: dict[str, list[float]] = {"Flow": [], "CHEST": []}
    for onset, end in zip(
        events.onset_s[events.kind == OBSTRUCTIVE],
        events.end_s[events.kind == OBSTRUCTIVE],
        strict=True,
    ):
        if onset > 40 and still[int((onset - 30) * GRID_HZ) : int(end * GRID_HZ)].max() < 0.02:
            for name, found in share.items():
                before = span(signals[name], onset - 30, onset - 5).std()
                found.append(float(span(signals[name], onset + 4, end - 1).std() / before))
    assert len(share["Flow"]) > 3
    assert np.median(share["Flow"]) < 0.3 < np.median(share["CHEST"])


def test_the_pulse_follows_each_beat_by_its_transit(
    night: Night, signals: dict[str, Signal]
) -> None:
    wave, beats = signals["Pleth"], night.beats.at_s[~night.beats.ectopic][5:-5]
    around = np.arange(-int(0.2 * wave.rate), int(0.6 * wave.rate))
    index = np.round(beats * wave.rate).astype(int)
    average = wave.samples[index[:, None] + around].mean(axis=0)
    peak = around[average.argmax()] / wave.rate
    assert peak == pytest.approx(night.subject.pulse_transit_s, abs=1.5 / wave.rate + 0.02)


def test_the_pulse_shrinks_after_an_arousal(night: Night, signals: dict[str, Signal]) -> None:
    wave = signals["Pleth"]
    alone = night.arousals.onset_s
    alone = alone[(alone > 60) & (np.diff(alone, prepend=-100) > 60)]
    change = [span(wave, t + 5, t + 12).std() / span(wave, t - 20, t - 3).std() for t in alone]
    assert len(change) > 5 and np.median(change) < 0.9


# --- recorders, failures, nights ------------------------------------------------------------------


def test_each_recorder_has_its_own_high_pass(sleeper: Night) -> None:
    """A first-order high-pass lets a wave of its own frequency through at half the power."""
    low, high = (
        render_night(replace(sleeper, subject=replace(sleeper.subject, ecg_highpass_hz=hz)))["ECG"]
        for hz in (0.05, 0.5)
    )
    f, slow = welch(low.samples, low.rate, nperseg=64 * low.rate)
    filtered = welch(high.samples, high.rate, nperseg=64 * high.rate)[1]
    at = int(np.abs(f - 0.25).argmin())
    expected = (0.25**2 / (0.25**2 + 0.5**2)) / (0.25**2 / (0.25**2 + 0.05**2))
    assert filtered[at] / slow[at] == pytest.approx(expected, rel=0.05)


def test_a_failure_is_one_channels_own() -> None:
    night = simulate_night(0, 3, 40)
    signals = render_night(night)
    spoiled = render_night(night, failures=0.5)
    lost = set(signals) - set(spoiled)
    changed = {n for n, s in spoiled.items() if not np.array_equal(s.samples, signals[n].samples)}
    assert 2 <= len(lost | changed) <= 9
    assert render_night(night, failures=1.0)
    again = render_night(night, failures=0.5)
    assert again.keys() == spoiled.keys()
    assert all(np.array_equal(again[n].samples, s.samples) for n, s in spoiled.items())


def test_a_second_night_is_the_same_person_with_other_sensors() -> None:
    first, second = (simulate_night(4, 7, 20, night=n) for n in (1, 2))
    person = ("age", "sex", "bmi", "heart_bpm", "cardiac_uv", "qrs_width", "alpha_hz")
    assert all(getattr(first.subject, k) == getattr(second.subject, k) for k in person)
    assert first.subject.belt_gain != second.subject.belt_gain
    assert not np.array_equal(first.beats.at_s[:50], second.beats.at_s[:50])


def test_a_faint_person_shows_less_of_the_heart_in_belts_and_of_the_breath_in_the_heart() -> None:
    def heart_share(night: Night) -> float:
        without = replace(night, subject=replace(night.subject, cardiogenic=0.0))
        belt, silent = (render_night(n)["CHEST"].samples for n in (night, without))
        return float((belt - silent).std() / belt.std())

    shares, arrhythmia, events = [], [], []
    for number in range(1, 6):
        plain, faint = (simulate_night(2, number, 20, faint=f) for f in (False, True))
        assert np.array_equal(plain.stages, faint.stages)
        assert faint.subject.heart_bpm == plain.subject.heart_bpm
        shares.append(heart_share(faint) / heart_share(plain))
        arrhythmia.append(faint.subject.rsa / plain.subject.rsa)
        events.append(faint.subject.event_rate / plain.subject.event_rate)
    assert max(shares) < 1 and np.median(shares) < 0.5
    assert all(0.15 <= ratio <= 1 for ratio in arrhythmia) and all(1 <= r <= 4 for r in events)


def test_the_share_of_faint_people_changes_no_other_night(tmp_path: Path) -> None:
    files = {}
    for share in (0.0, 0.5, 1.0):
        paths = simulate_cohort(tmp_path / str(share), subjects=6, hours=0.01, seed=5, faint=share)
        files[share] = [p.read_bytes() for p in paths]
    none, half, everyone = files[0.0], files[0.5], files[1.0]
    assert all(a != b for a, b in zip(none, everyone, strict=True))
    assert all(h in (n, e) for n, h, e in zip(none, half, everyone, strict=True))
    assert 0 < sum(h == n for n, h in zip(none, half, strict=True)) < 6
    with pytest.raises(SimulationError, match="faint"):
        simulate_cohort(tmp_path, faint=1.5)


def test_processes_write_the_same_cohort(tmp_path: Path) -> None:
    found = {}
    for workers in (1, 2):
        truth: dict[str, Mapping[str, NDArray[np.float32]]] = {}
        seen: list[tuple[int, int]] = []
        paths = simulate_cohort(
            tmp_path / str(workers),
            subjects=3,
            hours=0.02,
            seed=9,
            second_nights=0.5,
            workers=workers,
            progress=lambda *done, seen=seen: seen.append(done),  # type: ignore[misc]
            known=truth.__setitem__,
        )
        table = (tmp_path / str(workers) / "subjects.csv").read_bytes()
        found[workers] = ([p.name for p in paths], [p.read_bytes() for p in paths], table, seen)
        assert list(truth) == [p.stem for p in paths]
        expected = clip_truth(simulate_night(9, 3, 2))
        assert all(np.array_equal(truth["sim-0003"][k], v) for k, v in expected.items())
    assert found[1] == found[2]


def test_an_error_in_a_process_is_that_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "sim-0002.edf").mkdir()
    with pytest.raises(SimulationError, match="cannot write to the folder"):
        simulate_cohort(tmp_path, subjects=2, hours=0.01, workers=2)


def test_second_nights_are_files_of_the_same_subject(tmp_path: Path) -> None:
    paths = simulate_cohort(tmp_path, subjects=6, hours=0.01, seed=9, second_nights=0.5)
    again = [p.stem for p in paths if p.stem.endswith("-night2")]
    assert 0 < len(again) < 6
    with (tmp_path / "subjects.csv").open(newline="", encoding="utf-8") as file:
        subject = {r["recording_id"]: r["subject_id"] for r in csv.DictReader(file)}
    assert subject.keys() == {p.stem for p in paths}
    assert all(subject[name] == subject[name.removesuffix("-night2")] for name in again)


def test_excerpts_begin_anywhere_in_the_night(tmp_path: Path) -> None:
    paths = simulate_cohort(tmp_path, subjects=8, hours=0.01, seed=9, excerpts=True)
    hours = [edfio.read_edf(p).starttime.hour for p in paths]
    assert len(set(hours)) > 3


def test_some_are_children() -> None:
    people = [draw_subject(Streams(3, number)) for number in range(1, 400)]
    ages = np.array([p.age for p in people])
    assert 5 <= ages.min() < 8 and ages.max() <= 80
    assert 0.07 < (ages < 18).mean() < 0.16
    young, old = (
        np.mean([p.heart_bpm for p in people if low <= p.age < high])
        for low, high in ((5, 10), (20, 80))
    )
    assert young > old + 8


# --- what is not shared ---------------------------------------------------------------------------


@pytest.mark.slow
def test_without_physiology_the_channels_share_nothing(night: Night) -> None:
    nothing = np.zeros_like(night.breathing.depth)
    still = replace(
        night,
        breathing=replace(night.breathing, depth=nothing, chest=nothing, oxygen=nothing + 80.0),
        beats=replace(
            night.beats,
            at_s=night.beats.at_s[:0],
            rr_s=night.beats.rr_s[:0],
            size=night.beats.size[:0],
            ectopic=night.beats.ectopic[:0],
        ),
        state=replace(night.state, movement=nothing),
        subject=replace(night.subject, oxygen_step=0.001, oxygen_rate=4),
    )
    rendered = render_night(still)
    common = {n: resample_poly(s.samples, 8, s.rate) for n, s in rendered.items()}
    brain = [common[n] - common[n].mean() for n in EEG]
    rest = [common[n] for n in ALL if n not in EEG]
    pairs = [(a, b) for i, a in enumerate(rest) for b in (*rest[i + 1 :], *brain)]
    worst = max(float(coherence(a, b, 8, nperseg=256)[1].max()) for a, b in pairs)
    averages = 2 * night.seconds * 8 / 256  # half-overlapping segments
    assert worst < 15 / averages


def test_no_stream_is_drawn_from_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    original = Streams.__call__

    def note(self: Streams, name: str) -> np.random.Generator:
        names.append(name)
        return original(self, name)

    monkeypatch.setattr(Streams, "__call__", note)
    render_night(simulate_night(0, 1, 10))
    monkeypatch.undo()
    assert len(names) == len(set(names))
    keys = {tuple(Streams(0, 1)(n).integers(0, 2**63, 2)) for n in names}
    assert len(keys) == len(names)


def test_sensors_do_not_tell_the_person() -> None:
    people = [draw_subject(Streams(3, number)) for number in range(1, 400)]
    sensors = ("eeg_rate", "ecg_rate", "belt_rate", "oxygen_rate", "oxygen_step", "belt_sign")
    for i, a in enumerate(sensors):
        for b in (*sensors[i + 1 :], "site"):
            kinds = [sorted({getattr(p, k) for p in people}) for k in (a, b)]
            table = np.zeros([len(k) for k in kinds])
            for p in people:
                table[kinds[0].index(getattr(p, a)), kinds[1].index(getattr(p, b))] += 1
            assert chi2_contingency(table).pvalue > 1e-4, (a, b)


# --- files ----------------------------------------------------------------------------------------


def test_files_hold_every_channel_in_its_unit(cohort: list[Path]) -> None:
    assert [p.name for p in cohort] == ["sim-0001.edf", "sim-0002.edf", "sim-0003.edf"]
    for path in cohort:
        edf = edfio.read_edf(path)
        by_name = {s.label: s for s in edf.signals}
        assert tuple(by_name) == ALL
        units = {n: s.physical_dimension for n, s in by_name.items()}
        assert {units[n] for n in EEG} == {"uV"}
        assert (units["ECG"], units["SaO2"]) == ("mV", "%")
        assert units["CHEST"] == units["ABD"] and units["ABD"] in ("V", "")
        rates = {n: s.sampling_frequency for n, s in by_name.items()}
        assert rates["C3-M2"] in (128, 200, 256) and rates["ECG"] in (128, 200, 256)
        assert rates["CHEST"] in (25, 32) and rates["SaO2"] in (1, 2, 4)
        assert 3 < np.std(by_name["C3-M2"].data) < 80
        assert 0.5 < np.percentile(np.abs(by_name["ECG"].data), 99.5) < 4
        assert 70 < by_name["SaO2"].data.min() <= by_name["SaO2"].data.max() <= 100.01
        assert edf.duration == 1800


def test_header_is_anonymous_and_says_simulated(cohort: list[Path]) -> None:
    edf = edfio.read_edf(cohort[0])
    assert edf.local_patient_identification == "X X X X"
    assert edf.local_recording_identification == "Startdate X X X simulated"
    assert 22 <= edf.starttime.hour + edf.starttime.minute / 60 <= 23.5
    with pytest.raises(edfio.AnonymizedDateError):
        _ = edf.startdate


def test_annotations_come_back(night: Night, tmp_path: Path) -> None:
    from sleepfm.simulate.edf import to_edf

    to_edf(night).write(tmp_path / "night.edf")
    notes = edfio.read_edf(tmp_path / "night.edf").annotations
    stages = [n for n in notes if n.text.startswith("Sleep stage ")]
    assert [n.text.removeprefix("Sleep stage ") for n in stages] == [
        STAGES[s] for s in night.stages
    ]
    assert [n.onset for n in stages] == [i * EPOCH_S for i in range(len(stages))]
    assert {n.duration for n in stages} == {EPOCH_S}
    words = {
        "Obstructive apnea": night.scored_events.kind == OBSTRUCTIVE,
        "Central apnea": night.scored_events.kind == CENTRAL,
        "Hypopnea": night.scored_events.kind == HYPOPNEA,
    }
    for word, which in words.items():
        found = [n for n in notes if n.text == word]
        expected = night.scored_events.keep(which)
        assert len(found) == len(expected) > 0
        assert np.allclose([n.onset for n in found], expected.onset_s, atol=0.006)
        assert min(n.duration or 0 for n in found) >= 9.99
    for word, spans in (("Arousal", night.arousals), ("Desaturation", night.desaturations)):
        assert len([n for n in notes if n.text == word]) == len(spans) > 0
    assert {n.duration for n in notes if n.text == "Arousal"} <= {
        n.duration for n in notes if 2.99 <= (n.duration or 0) <= 15.01
    }


def test_subjects_csv_is_the_truth_of_the_files(cohort: list[Path]) -> None:
    with (cohort[0].parent / "subjects.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "recording_id",
        "subject_id",
        "site",
        "nsrr_age",
        "nsrr_sex",
        "nsrr_bmi",
        "nsrr_ahi_hp3r_aasm15",
    ]
    assert [r["recording_id"] for r in rows] == [p.stem for p in cohort]
    for row, path in zip(rows, cohort, strict=True):
        notes = [n.text for n in edfio.read_edf(path).annotations]
        asleep_h = sum(n.startswith("Sleep stage ") and n[-1] != "W" for n in notes) / 120
        events = sum("apnea" in n or n == "Hypopnea" for n in notes)
        assert float(row["nsrr_ahi_hp3r_aasm15"]) == pytest.approx(events / asleep_h, abs=0.006)
        assert 5 <= float(row["nsrr_age"]) <= 80 and row["nsrr_sex"] in ("female", "male")


def digests(paths: list[Path]) -> list[str]:
    return [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]


def test_same_seed_same_bytes_and_more_subjects_change_nothing(
    cohort: list[Path], tmp_path: Path
) -> None:
    again = simulate_cohort(tmp_path / "again", subjects=2, hours=0.5, seed=5)
    other = simulate_cohort(tmp_path / "other", subjects=1, hours=0.5, seed=6)
    assert digests(again) == digests(cohort)[:2]
    assert digests(other) != digests(cohort)[:1]
    rows = [
        p.parent.joinpath("subjects.csv").read_bytes().split(b"\n") for p in (again[0], cohort[0])
    ]
    assert rows[0][:3] == rows[1][:3]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"subjects": 0}, "subjects must be 1"),
        ({"subjects": 10000}, "subjects must be 1"),
        ({"hours": -1.0}, "hours must be"),
        ({"hours": 0.0}, "hours must be"),
        ({"hours": float("nan")}, "hours must be"),
        ({"hours": 25.0}, "hours must be"),
        ({"lead": "V6"}, "no ECG lead 'V6'"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_bounds(arguments: dict[str, float], says: str, tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match=says):
        simulate_cohort(tmp_path / "none", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "none").exists()


def test_shortest_night_is_one_epoch(tmp_path: Path) -> None:
    (path,) = simulate_cohort(tmp_path, subjects=1, hours=1 / 120)
    assert edfio.read_edf(path).duration == 30


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("taken")
    with pytest.raises(SimulationError, match="cannot write to the folder"):
        simulate_cohort(tmp_path / "file" / "below", subjects=1, hours=0.01)


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = simulate_cohort(tmp_path, subjects=1, hours=0.01)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(self: edfio.Edf, target: Path) -> None:
        Path(target).write_bytes(b"0       half a header")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(edfio.Edf, "write", full)
    with pytest.raises(SimulationError, match="No space left on device"):
        simulate_cohort(tmp_path, subjects=2, hours=0.02)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert whole.name in before


def test_an_interrupted_run_leaves_whole_files_only(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert total == 3
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_cohort(tmp_path, subjects=3, hours=0.01, progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sim-0001.edf", "sim-0002.edf"]


def test_an_interrupted_run_in_processes_leaves_whole_files_only(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            # as a process leaves it that is ended while it writes
            (tmp_path / ".sim-0004-half.tmp").write_bytes(b"0")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_cohort(tmp_path, subjects=4, hours=0.01, progress=stop, workers=2)
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == [f"sim-{i:04d}.edf" for i in range(1, len(left) + 1)] and len(left) >= 2
    assert all(edfio.read_edf(tmp_path / name).num_data_records == 30 for name in left)


def test_somebody_elses_subjects_csv_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "subjects.csv"
    theirs.write_text("recording_id,nsrr_age\nn1,50\n")
    with pytest.raises(SimulationError, match=r"subjects\.csv"):
        simulate_cohort(tmp_path, subjects=1, hours=0.01)
    assert theirs.read_text() == "recording_id,nsrr_age\nn1,50\n"
    assert list(tmp_path.iterdir()) == [theirs]


def test_a_smaller_cohort_keeps_the_rows_of_the_larger(tmp_path: Path) -> None:
    simulate_cohort(tmp_path, subjects=3, hours=0.01)
    rows = (tmp_path / "subjects.csv").read_bytes()
    simulate_cohort(tmp_path, subjects=1, hours=0.01)
    assert (tmp_path / "subjects.csv").read_bytes() == rows


def test_the_command_keeps_stdout_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(tmp_path, subjects=2, hours=0.01, seed=1)
    said = capsys.readouterr()
    assert said.out == "" and "2 simulated nights" in said.err
    assert len(list(tmp_path.glob("sim-*.edf"))) == 2


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob("*.tmp"))
