"""Formats that mne opens, written by mne."""

from datetime import UTC, datetime
from pathlib import Path

import mne
import numpy as np
import pytest
from recording_files import noise

from sleepfm.clips import cut_clips
from sleepfm.contract import ROBUST
from sleepfm.errors import RecordingError
from sleepfm.recordings import read_recording
from sleepfm.recordings.channels import match_channels

RATE = 128


@pytest.fixture(scope="module")
def fif(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mne") / "n_raw.fif"
    info = mne.create_info(["C3-M2", "ECG", "SpO2", "Chest"], RATE, ["eeg", "ecg", "eeg", "misc"])
    data = np.stack([noise(90, RATE, 30e-6, seed=i) for i in range(4)])
    data[2] = 97e-6 + np.tile([0, 1e-6], 45 * RATE)
    raw = mne.io.RawArray(data, info, verbose="ERROR")
    raw.set_meas_date(datetime(2001, 2, 3, 22, 0, tzinfo=UTC))
    raw.set_annotations(
        mne.Annotations([0, 30, 40], [30, 30, 12], ["Sleep stage W", "Sleep stage N2", "Hypopnea"])
    )
    raw.save(path, fmt="double", verbose="ERROR")
    return path


def test_fif(fif: Path) -> None:
    recording = read_recording(fif)
    assert recording.format == "Raw" or recording.format == ""  # mne's name of its own format
    assert recording.start_clock_s == 22 * 3600
    assert recording.duration_s == 90
    assert [(c.label, c.unit) for c in recording.channels] == [
        ("C3-M2", "V"), ("ECG", "V"), ("SpO2", ""), ("Chest", "")
    ]  # fmt: skip
    assert [s.stage for s in recording.scoring.stages] == ["W", "N2"]
    assert [e.type for e in recording.scoring.events] == ["hypopnea"]
    np.testing.assert_allclose(recording.channels[0].read(), noise(90, RATE, 30e-6), rtol=1e-5)
    saturation = recording.channels[2].read()
    assert 96.9 < saturation.min() < saturation.max() < 98.1  # not 9.7e-5 V


def test_all_files_of_a_recording_are_its_sources(tmp_path: Path) -> None:
    """BrainVision: header, data; written by hand, as mne writes it only with another package."""
    (tmp_path / "n.eeg").write_bytes(noise(40, 100, 300).astype("<i2").tobytes())
    (tmp_path / "n.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nDataFile=n.eeg\n"
        "[Marker Infos]\n"
    )
    (tmp_path / "n.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nDataFile=n.eeg\n"
        "MarkerFile=n.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=1\n"
        "SamplingInterval=10000\n[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\n"
        "Ch1=C3-M2,,0.1,uV\n"
    )
    recording = read_recording(tmp_path / "n.vhdr")
    assert [p.name for p in recording.sources] == ["n.vhdr", "n.eeg"]
    (channel,) = recording.channels
    assert (channel.label, channel.unit, channel.sample_rate) == ("C3-M2", "V", 100)
    stored = noise(40, 100, 300).astype("<i2")
    np.testing.assert_allclose(channel.read(), stored * 0.1e-6, rtol=1e-5)


def test_fif_to_clips(fif: Path) -> None:
    recording = read_recording(fif)
    channels = match_channels(recording, ROBUST)
    assert set(channels.slots) == {"C3-M2", "ECG", "SaO2", "CHEST"}
    clips = cut_clips(recording, channels, ROBUST)
    assert len(clips) == 3
    assert clips.stage == ("W", "N2", "UNS")


@pytest.mark.parametrize("name", ["n.fif", "n.set", "n.vhdr", "n.gdf", "n.cnt"])
def test_a_text_file_under_any_ending_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("not a recording")
    with pytest.raises(RecordingError, match="has an unsupported file format"):
        read_recording(tmp_path / name)


def test_an_unknown_ending(tmp_path: Path) -> None:
    (tmp_path / "n.docx").write_text("x")
    with pytest.raises(RecordingError, match=r"has an unsupported file format.*\.edf"):
        read_recording(tmp_path / "n.docx")
