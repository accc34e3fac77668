"""Recordings to clips: parity, scaling, labels, gaps, quality."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nights import write_night
from recording_files import Signal, noise, psg, stages, write_edf

from sleepfm.clips import cut_clips
from sleepfm.contract import ICML2024, ROBUST
from sleepfm.errors import ChannelError, RecordingError
from sleepfm.labels import clip_event_seconds, clip_stages
from sleepfm.recordings import read_recording
from sleepfm.recordings.channels import match_channels
from sleepfm.recordings.recording import Channel, Recording
from sleepfm.recordings.scoring.vocabulary import Event, ScoredStage, Scoring

BAS, ECG, RESP = "bas", "ecg", "resp"


def night(values, rate: float, label: str = "ECG", unit: str = "uV", clock=None) -> Recording:
    """A recording of one channel held in memory."""
    values = np.asarray(values, np.float32)
    return Recording(
        sources=(Path("night.edf"),),
        format="EDF",
        duration_s=len(values) / rate,
        start_clock_s=clock,
        channels=(Channel(label, rate, unit, lambda: values.copy()),),
        scoring=Scoring(),
    )


def clips_of(recording: Recording, contract=ROBUST, **options):
    return cut_clips(recording, match_channels(recording, contract), contract, **options)


def test_parity_with_the_authors_preparation(recordings_dir: Path) -> None:
    reference = recordings_dir.parent / "parity" / "reference.npz"
    if not reference.exists():
        pytest.skip("no parity reference beside the recordings")
    with np.load(reference) as data:
        given, wanted = data["prepare.input_200hz"], data["prepare.output_256hz"]
    recording = night(given[0], 200)
    for row in range(3):
        clips = clips_of(night(given[row], 200), ICML2024)
        got = clips.signals[ECG][:, 0]
        error = np.abs(got - wanted[:, row]).max() / np.abs(wanted[:, row]).max()
        assert error < 1e-5
    assert len(clips_of(recording, ICML2024)) == 3


@pytest.mark.parametrize("contract", [ROBUST, ICML2024], ids=lambda c: c.name)
def test_clips_are_consecutive_and_the_rest_is_dropped(contract) -> None:
    clips = clips_of(night(noise(100, 200), 200, clock=86_000.0), contract)
    assert len(clips) == 3
    np.testing.assert_array_equal(clips.start_s, [0, 30, 60])
    np.testing.assert_array_equal(clips.clock_s, [86_000, 86_030, 86_060])
    assert clips.signals[ECG].shape == (3, 1, 7680)
    assert clips.signals[ECG].dtype == np.float32
    assert list(clips.signals) == [ECG]


def test_the_clock_goes_past_midnight() -> None:
    clips = clips_of(night(noise(90, 100), 100, clock=86_370.0))
    np.testing.assert_array_equal(clips.clock_s, [86_370, 0, 30])


@pytest.mark.parametrize("rate", [50, 100, 125, 200, 256, 500, 512, 999.5])
def test_resampling_keeps_time_and_amplitude(rate: float) -> None:
    """A 7 Hz tone comes out as the same tone, sample by sample, away from the two ends."""
    t = np.arange(round(90 * rate)) / rate
    recording = night(500 + 40 * np.sin(2 * np.pi * 7 * t), rate)
    raw = recording.channels[0].read()
    clips = clips_of(recording)
    got = clips.signals[ECG].ravel()[256:-512]
    low, median, high = np.quantile(raw, [0.25, 0.5, 0.75])
    expected = (500 + 40 * np.sin(2 * np.pi * 7 * np.arange(3 * 7680) / 256))[256:-512]
    np.testing.assert_allclose(got, (expected - median) / ((high - low) / 1.349), atol=5e-3)


def test_robust_scaling_takes_away_gain_offset_and_unit() -> None:
    values = noise(60, 200)
    one = clips_of(night(values, 200)).signals[ECG]
    other = clips_of(night(values / 1000 + 5, 200, unit="mV")).signals[ECG]
    np.testing.assert_allclose(one, other, atol=2e-2)
    assert abs(np.quantile(one, 0.75) - np.quantile(one, 0.25) - 1.349) < 0.05


def test_robust_scaling_is_clipped_at_20() -> None:
    values = noise(60, 200)
    values[3000] = 1e6
    assert np.abs(clips_of(night(values, 200)).signals[ECG]).max() == 20


def test_an_offset_does_not_ring_at_the_ends() -> None:
    recording = night(np.full(180, 97) + np.tile([0, 0, 1], 60), 3, "SpO2", "%")
    for contract in (ROBUST,):
        got = clips_of(recording, contract).signals[RESP][:, 1]
        assert np.abs(got).max() < 5


def test_values_are_as_stored_without_scaling() -> None:
    values = noise(60, 256)
    got = clips_of(night(values, 256), ICML2024).signals[ECG]
    np.testing.assert_array_equal(got.ravel(), values.astype(np.float32))
    got = clips_of(night(values / 1000, 256, unit="mV"), ICML2024).signals[ECG]
    np.testing.assert_allclose(got.ravel(), values, rtol=1e-5)
    got = clips_of(night(97 + np.tile([0, 1], 7680), 256, "SaO2", "%"), ICML2024).signals[RESP]
    np.testing.assert_allclose(got[0, 1, :2], [97 * 655.35 - 32768, 98 * 655.35 - 32768], rtol=1e-5)


def test_missing_samples_are_zero_and_counted() -> None:
    values = noise(90, 200)
    values[200 * 30 : 200 * 60] = np.nan
    values[200 * 75 : 200 * 90] = np.inf
    clips = clips_of(night(values, 200))
    assert np.isfinite(clips.signals[ECG]).all()
    assert not clips.signals[ECG][1].any()
    np.testing.assert_allclose(clips.quality["quality_ecg_nan"], [0, 1, 0.5])
    np.testing.assert_array_equal(clips.filled[ECG], [1, 0, 1])


def test_quality_counts_flat_clipped_and_out_of_range() -> None:
    values = noise(120, 200)
    values[200 * 30 : 200 * 45] = 1.0
    values[200 * 60 : 200 * 66] = 400.0
    values[200 * 70] = 399.0
    values[200 * 90 : 200 * 93] = 20_000.0 + np.arange(600)
    flat = clips_of(night(values[: 200 * 90], 200)).quality
    np.testing.assert_allclose(flat["quality_ecg_flat"], [0, 0.5, 0.2])
    wild = clips_of(night(values, 200)).quality
    np.testing.assert_allclose(wild["quality_ecg_range"], [0, 0, 0, 0.1])
    rails = np.clip(noise(60, 200), -20, 20).astype(np.float32)
    clipped = clips_of(night(rails, 200)).quality["quality_ecg_clipped"]
    held = sum(_beside_itself(rails == rail) for rail in (-20, 20))
    np.testing.assert_allclose(clipped.mean(), held.mean(), atol=2e-3)


def _beside_itself(at):
    """Samples of a mask that have a neighbour in it."""
    return at & (np.append(at[1:], False) | np.append(False, at[:-1]))


def test_a_saturation_that_stands_still_is_not_flat() -> None:
    values = np.full(180, 96.0)
    values[0] = 95
    quality = clips_of(night(values, 3, "SpO2", "%")).quality
    assert quality["quality_resp_flat"].max() == 0
    assert quality["quality_resp_clipped"].max() == 0


def test_a_constant_channel_fills_nothing(tmp_path: Path) -> None:
    signals = psg(60)
    signals["Chest"] = Signal(np.zeros(60 * 25), 25, "V", (-5, 5))
    signals["ECG"] = Signal(np.zeros(60 * 200), 200)
    clips = clips_of(read_recording(write_edf(tmp_path / "n.edf", signals)))
    assert ECG not in clips.signals
    assert clips.filled[RESP][0] == 0b110
    assert "ECG: ECG is constant and was not used" in clips.warnings
    with pytest.raises(ChannelError, match="flat"):
        clips_of(night(np.zeros(6000), 200))


def test_derived_channels_are_the_difference() -> None:
    a, b = noise(60, 256, seed=1), noise(60, 256, seed=2)
    recording = Recording(
        sources=(Path("n.edf"),),
        format="EDF",
        duration_s=60,
        start_clock_s=None,
        channels=(
            Channel("C3", 256, "uV", lambda: a.astype(np.float32)),
            Channel("M2", 256, "uV", lambda: b.astype(np.float32)),
        ),
        scoring=Scoring(),
    )
    got = clips_of(recording, ICML2024).signals[BAS][:, 0].ravel()
    np.testing.assert_allclose(got, a - b, atol=1e-4)


@pytest.mark.parametrize(
    ("values", "label", "unit", "says"),
    [
        (noise(60, 100) * 1, "ECG", "V", "3e+07 uV contradicts its unit"),
        (noise(60, 100) * 100, "C3-M2", "uV", "contradicts its unit"),
        (noise(60, 100) * 1e-6, "C3-M2", "uV", "contradicts its unit"),
        (0.97 + noise(60, 100, 0.01), "SaO2", "%", "looks like a fraction"),
        (31_456 + noise(60, 100, 100), "SaO2", "%", "contradicts its unit"),
    ],
)
def test_values_that_contradict_their_unit(values, label: str, unit: str, says: str) -> None:
    recording = night(values, 100, label, unit)
    assert any(says in w for w in clips_of(recording).warnings)
    with pytest.raises(ChannelError, match="--strict"):
        clips_of(recording, strict=True)


def test_too_short_for_a_clip() -> None:
    with pytest.raises(RecordingError, match="less than one clip"):
        clips_of(night(noise(29, 100), 100))


def test_stages_go_to_the_clips_they_cover(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "n.edf", psg(150), annotations=stages("W23"))
    clips = clips_of(read_recording(path))
    assert clips.stage == ("W", "N2", "N3", "UNS", "UNS")
    assert clips.raw_stage == ("Sleep stage W", "Sleep stage N2", "Sleep stage N3", "", "")


def test_a_clip_takes_the_stage_that_covers_most_of_it() -> None:
    scored = [
        ScoredStage(0, 20, "W", "W"),
        ScoredStage(20, 20, "N1", "1"),
        ScoredStage(40, 20, "N2", "2"),
        ScoredStage(60, 15, "R", "5"),
        ScoredStage(75, 15, "N3", "3"),
        ScoredStage(90, 14, "N3", "3"),
    ]
    assert clip_stages(scored, 4, 30) == (("W", "N2", "R", "UNS"), ("W", "2", "5", ""))


def test_events_become_seconds_of_overlap() -> None:
    events = [
        Event(20, 20, "apnea", "obstructive"),
        Event(35, 10, "apnea", "obstructive"),
        Event(-5, 10, "hypopnea"),
        Event(80, 1000, "arousal"),
        Event(10, 0, "desaturation"),
    ]
    seconds = clip_event_seconds(events, 3, 30)
    np.testing.assert_array_equal(seconds["apnea_obstructive_s"], [10, 15, 0])
    np.testing.assert_array_equal(seconds["hypopnea_s"], [5, 0, 0])
    np.testing.assert_array_equal(seconds["arousal_s"], [0, 0, 10])
    assert not seconds["desaturation_s"].any()
    assert set(seconds) >= {"apnea_central_s", "apnea_mixed_s", "apnea_unspecified_s"}


@pytest.mark.parametrize("contract", [ROBUST, ICML2024], ids=lambda c: c.name)
@pytest.mark.parametrize(
    ("name", "count", "bits"),
    [
        ("nox-a1-2min.edf", 4, {BAS: 0b11111, ECG: 1, RESP: 0b111}),
        ("slp41-60s.edf", 2, {BAS: 0b10, ECG: 1, RESP: 0b100}),
        ("ucddb018-eeg-night.edf", 822, {BAS: 0b10}),
    ],
)
def test_real_recordings(recordings_dir: Path, name, count, bits, contract) -> None:
    clips = clips_of(read_recording(recordings_dir / name), contract)
    assert len(clips) == count
    assert {m: set(b.tolist()) for m, b in clips.filled.items()} == {
        m: {b} for m, b in bits.items()
    }
    for block in clips.signals.values():
        assert np.isfinite(block).all()


def test_ucddb018_stages_equal_the_published_hypnogram(recordings_dir: Path) -> None:
    reference = recordings_dir.parent / "ucddb" / "ucddb018.npz"
    if not reference.exists():
        pytest.skip("no ucddb reference beside the recordings")
    with np.load(reference) as data:
        wanted = data["stage"].tolist()
    clips = clips_of(read_recording(recordings_dir / "ucddb018-eeg-night.edf"))
    assert list(clips.stage) == wanted


def test_nox_saturation_comes_out_in_percent(recordings_dir: Path) -> None:
    """95 % at 3 Hz, in the counts that the published weights take; V-labelled EEG in microvolts."""
    recording = read_recording(recordings_dir / "nox-a1-2min.edf")
    clips = clips_of(recording, ICML2024)
    percent = (clips.signals[RESP][:, 1] + 32768) / 655.35
    assert 92 < percent.min() < np.median(percent) < percent.max() < 98
    native = next(c for c in recording.channels if c.label == "C3-M2").read()
    np.testing.assert_allclose(clips.signals[BAS][:, 0].std(), native.std() * 1e6, rtol=1e-3)


def test_a_boost_adds_what_a_moving_average_does_not_follow(tmp_path: Path) -> None:
    path = write_night(tmp_path / "n.edf", seed=1)
    plain = replace(ROBUST, sample_rate=64)
    boosted = replace(plain, boost={"ECG": (0.25, 2.0)})
    recording = read_recording(path)
    found = [
        cut_clips(recording, match_channels(recording, c), c).signals for c in (plain, boosted)
    ]
    whole, lifted = (f["ecg"][:, 0].ravel().astype(float) for f in found)
    inside = np.abs(whole) < 5  # where nothing is clipped
    slow = np.convolve(whole, np.ones(17) / 17, "same")
    middle = slice(64, -64)
    expected = whole + 2 * (whole - slow)
    quiet = inside[middle] & (np.abs(expected[middle]) < 19)
    np.testing.assert_allclose(lifted[middle][quiet], expected[middle][quiet], atol=2e-3)
    for modality in ("bas", "resp"):
        np.testing.assert_array_equal(found[0][modality], found[1][modality])
