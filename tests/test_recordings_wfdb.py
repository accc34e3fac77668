"""WFDB records: the same night in two formats, damage, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from recording_files import noise

from sleepfm.clips import cut_clips
from sleepfm.contract import ICML2024, ROBUST
from sleepfm.errors import RecordingError
from sleepfm.recordings import read_recording
from sleepfm.recordings.channels import match_channels

wfdb = pytest.importorskip("wfdb")


def write(tmp_path: Path, seconds: float = 60, **options) -> Path:
    signals = np.stack([noise(seconds, 250, seed=1), noise(seconds, 250, seed=2)], axis=1)
    wfdb.wrsamp(
        "n", fs=250, units=["uV", "mV"], sig_name=["C3-M2", "ECG"], p_signal=signals,
        fmt=["16", "16"], write_dir=str(tmp_path), **options,
    )  # fmt: skip
    return tmp_path / "n.hea"


def edit(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_values_rates_units_and_clock(tmp_path: Path) -> None:
    from datetime import datetime

    path = write(tmp_path, base_datetime=datetime(2001, 2, 3, 22, 30, 5))
    recording = read_recording(path)
    assert recording.format == "WFDB"
    assert recording.duration_s == 60
    assert recording.start_clock_s == 22.5 * 3600 + 5
    assert [(c.label, c.unit, c.sample_rate) for c in recording.channels] == [
        ("C3-M2", "uV", 250), ("ECG", "mV", 250)
    ]  # fmt: skip
    for i, channel in enumerate(recording.channels):
        np.testing.assert_allclose(channel.read(), noise(60, 250, seed=i + 1), atol=0.01)


@pytest.mark.parametrize("contract", [ROBUST, ICML2024], ids=lambda c: c.name)
def test_both_forms_of_slp41_give_the_same_clips(recordings_dir: Path, contract) -> None:
    """To 16-bit accuracy: within one step of the coarser of the two quantisations."""
    clips = []
    for name in ("slp41-60s.edf", "slp41-60s.hea"):
        recording = read_recording(recordings_dir / name)
        clips.append(cut_clips(recording, match_channels(recording, contract), contract))
    one, other = clips
    assert list(one.signals) == list(other.signals)
    for modality, block in one.signals.items():
        for slot in range(block.shape[1]):
            a, b = block[:, slot], other.signals[modality][:, slot]
            assert np.abs(a - b).max() <= np.ptp(a) * 2**-14
    assert {k: v.tolist() for k, v in one.filled.items()} == {
        k: v.tolist() for k, v in other.filled.items()
    }


def test_a_signal_file_that_ends_early(tmp_path: Path) -> None:
    path = write(tmp_path)
    data = tmp_path / "n.dat"
    data.write_bytes(data.read_bytes()[: 45 * 250 * 4 + 3])
    recording = read_recording(path)
    assert recording.duration_s == 45
    assert recording.warnings == ("the file ends early: 45.0 of 60.0 s",)
    assert len(recording.channels[0].read()) == 45 * 250


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("n.dat", "../n.dat", "outside its own folder|not a readable WFDB header"),
        ("n.dat", "http://x/n.dat", "outside its own folder|not a readable WFDB header"),
        ("n.dat", "gone.dat", "is not next to it"),
        ("n 2 250", "n 2 0", "not positive|not a readable WFDB header"),
        ("n 2 250", "n 2 -250", "not positive|not a readable WFDB header"),
        ("n 2 250", "n 7 250", "not describe each|not a readable WFDB header"),
        ("n 2 250", "n/3 2 250", "several segments|not a readable WFDB header"),
        ("15000", "15000000000", "claims to last"),
        ("15000", "0", "has no length|not a readable WFDB header"),
        ("n 2 250", "\x00\x01", "not a readable WFDB header|several segments"),
    ],
)
def test_damaged_headers(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(RecordingError, match=says):
        read_recording(edit(write(tmp_path), old, new))


def test_an_empty_signal_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "n.dat").write_bytes(b"")
    with pytest.raises(RecordingError, match="is empty"):
        read_recording(path)
