"""EDF, EDF+ and BDF as they come, against the values that were written or stand in the file."""

import os
import tracemalloc
from datetime import time
from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording_files import Signal, noise, psg, stages, write_edf

from sleepfm.errors import RecordingError
from sleepfm.recordings import read_recording
from sleepfm.recordings.edf_header import check
from sleepfm.recordings.recording import unique_labels


def channel(recording, label):
    return next(c for c in recording.channels if c.label == label)


@pytest.mark.parametrize("bdf", [False, True], ids=["edf", "bdf"])
def test_values_rates_and_units_equal_what_was_written(tmp_path: Path, bdf: bool) -> None:
    written = psg()
    path = write_edf(tmp_path / "n.edf", written, annotations=stages("W12"), bdf=bdf)
    recording = read_recording(path)
    assert recording.format == ("BDF+C" if bdf else "EDF+C")
    assert recording.duration_s == 90
    assert recording.start_clock_s == 22.5 * 3600
    assert [c.label for c in recording.channels] == list(written)
    for ours, signal in zip(recording.channels, written.values(), strict=True):
        assert ours.sample_rate == signal.rate
        assert ours.unit == signal.unit
        values = ours.read()
        assert values.dtype == np.float32
        step = np.ptp(signal.span) / (2**24 - 1 if bdf else 2**16 - 1)
        np.testing.assert_allclose(values, signal.values, atol=step * 0.51, rtol=1e-6)


@pytest.mark.parametrize("bdf", [False, True], ids=["edf", "bdf"])
def test_the_ends_of_the_range_keep_their_sign(tmp_path: Path, bdf: bool) -> None:
    values = np.resize([-3276.8, 3276.7, 0.0, -0.1], 3000)
    path = write_edf(tmp_path / "n.edf", {"ECG": Signal(values, 100)}, bdf=bdf)
    np.testing.assert_allclose(read_recording(path).channels[0].read(), values, atol=0.051)


def stored(path: Path) -> list[tuple[str, np.ndarray]]:
    """Label and physical values of every signal of an EDF, decoded from its bytes by the format."""
    raw = path.read_bytes()
    count = int(raw[252:256])

    def fields(before: int, width: int) -> list[str]:
        start = 256 + before * count
        return [
            raw[start + i * width : start + (i + 1) * width].decode().strip() for i in range(count)
        ]

    labels = fields(0, 16)
    low, high, digital_low, digital_high = (map(float, fields(b, 8)) for b in (104, 112, 120, 128))
    samples = list(map(int, fields(216, 8)))
    records = np.frombuffer(raw[256 * (count + 1) :], "<i2").reshape(int(raw[236:244]), -1)
    signals = []
    ends = np.cumsum(samples)
    for label, p0, p1, d0, d1, n, end in zip(
        labels, low, high, digital_low, digital_high, samples, ends, strict=True
    ):
        if label != "EDF Annotations":
            digital = records[:, end - n : end].ravel().astype(float)
            signals.append((label, (digital - d0) / (d1 - d0) * (p1 - p0) + p0))
    return signals


def test_every_real_file_equals_its_bytes(recordings_dir: Path) -> None:
    paths = sorted(recordings_dir.glob("*.edf"))
    assert paths
    for path in paths:
        oracle = stored(path)
        recording = read_recording(path)
        assert [c.label for c in recording.channels] == unique_labels(name for name, _ in oracle)
        for ours, (_, values) in zip(recording.channels, oracle, strict=True):
            assert ours.sample_rate == len(values) / recording.duration_s
            scale = max(np.abs(values).max(), 1e-9)
            np.testing.assert_allclose(ours.read(), values, atol=2e-6 * scale)


def test_a_real_file_equals_wfdbs_reading_of_its_other_form(recordings_dir: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    record = wfdb.rdrecord(str(recordings_dir / "slp41-60s"))
    recording = read_recording(recordings_dir / "slp41-60s.edf")
    for i, ours in enumerate(recording.channels):
        theirs = record.p_signal[:, i]
        np.testing.assert_allclose(ours.read(), theirs, atol=2e-4 * np.ptp(theirs))


def test_labels_are_utf8_where_they_can_be_and_latin1_otherwise(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "n.edf", {"Abcdefgh": Signal(noise(30, 100), 100)})
    raw = bytearray(path.read_bytes())
    raw[256:272] = "Impédance".encode().ljust(16)
    path.write_bytes(raw)
    assert read_recording(path).channels[0].label == "Impédance"
    raw[256:272] = "Impédance".encode("latin-1").ljust(16)
    path.write_bytes(raw)
    assert read_recording(path).channels[0].label == "Impédance"


def test_numbers_padded_with_nul_or_with_a_decimal_comma(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "n.edf", {"ECG": Signal(noise(30, 100), 100, "uV", (-500.5, 500))})
    wanted = read_recording(path).channels[0].read()
    raw = bytearray(path.read_bytes())
    raw[1:8] = bytes(7)
    raw[252:256] = b"1\0\0\0"
    raw[360:368] = b"-500,5  "
    path.write_bytes(raw)
    np.testing.assert_array_equal(read_recording(path).channels[0].read(), wanted)


def test_a_label_like_that_of_annotations_is_no_stumbling_block(tmp_path: Path) -> None:
    signals = {"ECG": Signal(noise(30, 100), 100), "Leg": Signal(noise(30, 100), 100)}
    path = write_edf(tmp_path / "n.edf", signals)
    raw = bytearray(path.read_bytes())
    for label in (b"EDF Annotations\xa0", b"EDF Annotations\x1f", b" EDF Annotations"):
        raw[256 + 16 : 256 + 32] = label
        path.write_bytes(raw)
        assert [c.label for c in read_recording(path).channels] == ["ECG"]


def test_bytes_after_the_last_record_are_ignored_and_said(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "n.edf", {"ECG": Signal(noise(30, 100), 100)})
    raw = bytearray(path.read_bytes())
    raw[236:244] = b"20      "
    path.write_bytes(raw)
    recording = read_recording(path)
    assert recording.warnings == ("bytes after the last of 20 data records were ignored",)
    assert recording.channels[0].read().size == recording.duration_s * 100 == 2000


def test_a_24_bit_file_is_not_loaded_whole(tmp_path: Path) -> None:
    """64 signals of 1.2 MB each: reading one costs about that one."""
    signals = {f"X{i}": Signal(noise(400, 1000), 1000) for i in range(64)}
    path = write_edf(tmp_path / "n.bdf", signals, bdf=True)
    tracemalloc.start()
    recording = read_recording(path)
    header = tracemalloc.get_traced_memory()[1]
    recording.channels[3].read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 76_000_000
    assert header < 4 * 2**20
    assert peak < 24 * 2**20


def test_repeated_labels_get_stable_suffixes(tmp_path: Path) -> None:
    signals = {"ECG": Signal(noise(30, 100), 100), "ECG#x": Signal(noise(30, 100), 100)}
    recording = read_recording(write_edf(tmp_path / "n.edf", signals))
    assert [c.label for c in recording.channels] == ["ECG", "ECG#2"]
    assert unique_labels(["a", "a#2", "a", "a"]) == ["a", "a#2", "a#3", "a#4"]


def test_stages_of_edf_plus(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "n.edf", psg(180), annotations=stages("W123R?"))
    scoring = read_recording(path).scoring
    assert [s.stage for s in scoring.stages] == ["W", "N1", "N2", "N3", "R", "UNS"]
    assert [s.onset_s for s in scoring.stages] == [0, 30, 60, 90, 120, 150]
    assert scoring.stages[1].raw == "Sleep stage N1"


def test_onsets_count_from_a_fractional_start(tmp_path: Path) -> None:
    path = write_edf(
        tmp_path / "n.edf", psg(60), annotations=stages("W1"), start=time(23, 0, 0, 250_000)
    )
    assert [s.onset_s for s in read_recording(path).scoring.stages] == [0, 30]


def test_a_file_that_ends_early_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "n.edf", psg(90))
    whole = read_recording(path).channels[0].read()
    os.truncate(path, path.stat().st_size - 10)
    cut = read_recording(path)
    assert cut.duration_s == 89
    assert "ends early: 89 of 90" in cut.warnings[0]
    np.testing.assert_array_equal(cut.channels[0].read(), whole[:-200])


def discontinuous(tmp_path: Path, onsets: list[float]) -> Path:
    """A file of 1 s records that start at the given onsets."""
    path = write_edf(tmp_path / "n.edf", {"ECG": Signal(noise(4, 100), 100)}, [(0, 1, "x" * 40)])
    raw = path.read_bytes()
    record = (len(raw) - 768) // 4
    data = bytearray(raw)
    data[192:197] = b"EDF+D"
    for i, onset in enumerate(onsets):
        at = 768 + i * record + 200
        stamp = f"{onset:+g}\x14\x14\x00".encode()
        data[at : 768 + (i + 1) * record] = stamp.ljust(record - 200, b"\x00")[: record - 200]
    path.write_bytes(data)
    return path


def test_gaps_of_a_discontinuous_file_stay_gaps(tmp_path: Path) -> None:
    recording = read_recording(discontinuous(tmp_path, [0, 1, 4, 5]))
    written = noise(4, 100)
    values = recording.channels[0].read()
    assert recording.format == "EDF+D"
    assert recording.duration_s == 6
    assert recording.warnings == ("the recording has 1 gap, 2.0 s in total, without signal",)
    assert np.isnan(values[200:400]).all()
    np.testing.assert_allclose(values[:200], written[:200], atol=0.06)
    np.testing.assert_allclose(values[400:], written[200:], atol=0.06)


def test_a_discontinuous_file_without_gaps_is_whole(tmp_path: Path) -> None:
    recording = read_recording(discontinuous(tmp_path, [0, 1, 2, 3]))
    assert recording.duration_s == 4
    assert recording.warnings == ()


def test_records_that_overlap_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="overlap in time"):
        read_recording(discontinuous(tmp_path, [0, 1, 1.5, 3]))


def test_a_text_file_named_edf_is_an_error_of_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "notes.edf"
    path.write_text("dear diary")
    with pytest.raises(RecordingError, match=r"^notes.edf is not an EDF or BDF file"):
        read_recording(path)


def test_only_the_channels_asked_for_are_read(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "n.edf", psg())
    recording = read_recording(path)
    path.unlink()  # nothing is held open or in memory
    with pytest.raises(RecordingError, match="can no longer be read"):
        recording.channels[0].read()


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rates=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    block=st.sampled_from([1, 100, 1 << 22]),
    apart=st.sampled_from([1, 1 << 14]),
    first=st.integers(-3, 25),
    last=st.integers(-3, 25),
)
def test_any_part_of_a_signal_is_what_the_file_has(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rates: list[int],
    block: int,
    apart: int,
    first: int,
    last: int,
) -> None:
    """Read in blocks of any size, and counted from the raw bytes of the file."""
    rng = np.random.default_rng(len(rates) + sum(rates))
    file = tmp_path / "a.edf"
    signals = [
        edfio.EdfSignal.from_digital(
            rng.integers(-2048, 2048, 20 * rate, dtype=np.int16),
            rate,
            label=f"s{number}",
            physical_range=(-100, 300),
            digital_range=(-2048, 2047),
        )
        for number, rate in enumerate(rates)
    ]
    edfio.Edf(signals, data_record_duration=1).write(file)
    monkeypatch.setattr("sleepfm.recordings.edf_file._BLOCK", block)
    monkeypatch.setattr("sleepfm.recordings.edf_file._APART", apart)
    checked = check(file, [])
    raw = np.fromfile(file, "<i2", offset=256 * (len(rates) + 1)).reshape(20, sum(rates))
    channels = read_recording(file).channels
    starts = np.cumsum([0, *rates])
    for number, rate in enumerate(rates):
        stored = raw[:, starts[number] : starts[number] + rate]
        content = checked.content(checked.streams[number], slice(first, last))
        assert (content.view("<i2") == stored[first:last]).all()
        assert len(content) == len(stored[first:last])
        expected = -100 + (stored.ravel() + 2048.0) * 400 / 4095
        np.testing.assert_allclose(channels[number].read(), expected, atol=1e-4)
        np.testing.assert_allclose(channels[number].part(7, 99), expected[7:99], atol=1e-4)
