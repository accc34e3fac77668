"""Recordings made to reach other files, or to take all memory: one sentence each."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from recording_files import psg, write_edf

from sleepfm.errors import RecordingError
from sleepfm.recordings.edf_annotations import read_annotations
from sleepfm.recordings.edf_header import check
from sleepfm.recordings.scoring.read import read_scoring
from sleepfm.recordings.signals import read_signals
from sleepfm.scan import scan
from sleepfm.simulate import simulate_cohort

h5py = pytest.importorskip("h5py", reason="needs the extra [wfdb]")

VHDR = """Brain Vision Data Exchange Header File Version 1.0
[Common Infos]
DataFile={data}
MarkerFile={marks}
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels={channels}
SamplingInterval=4000
[Binary Infos]
BinaryFormat=INT_16
[Channel Infos]
Ch1=EEG,,0.1
"""
VMRK = """Brain Vision Data Exchange Marker File, Version 1.0
[Common Infos]
DataFile=a.eeg
[Marker Infos]
"""


def brainvision(
    folder: Path, data: str = "a.eeg", marks: str = "a.vmrk", channels: int = 1
) -> Path:
    (folder.parent / "secret.eeg").write_bytes(bytes(5000))
    (folder / "a.eeg").write_bytes(bytes(5000))
    (folder / "a.vmrk").write_text(VMRK)
    file = folder / "x.vhdr"
    file.write_text(VHDR.format(data=data, marks=marks, channels=channels))
    return file


def linked(folder: Path) -> Path:
    (folder / "l.eeg").symlink_to("/etc/passwd")
    return brainvision(folder, "l.eeg")


def piped(folder: Path, marks: bool) -> Path:
    os.mkfifo(folder / "f.eeg")
    return brainvision(folder, marks="f.eeg") if marks else brainvision(folder, "f.eeg")


def packed_fif(folder: Path) -> Path:
    with gzip.open(folder / "x.fif.gz", "wb") as file:
        for _ in range(120):
            file.write(bytes(1 << 20))
    return folder / "x.fif.gz"


def packed_set(folder: Path) -> Path:
    body = zlib.compress(bytes(120 << 20))
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (folder / "x.set").write_bytes(head + struct.pack("<II", 15, len(body)) + body)
    return folder / "x.set"


def hdf5(folder: Path, kind: str) -> Path:
    with h5py.File(folder / "x.h5", "w") as file:
        signals = file.create_group("signals")
        signals.attrs["fs"] = 100.0
        if kind == "external":
            signals.create_dataset(
                "eeg", shape=(100,), dtype="f4", external=[("/etc/passwd", 0, 400)]
            )
        elif kind == "link":
            signals["eeg"] = h5py.ExternalLink("other.h5", "/x")
        else:
            layout = h5py.VirtualLayout((100,), "f4")
            layout[:] = h5py.VirtualSource("other.h5", "x", (100,))
            signals.create_virtual_dataset("eeg", layout)
    return folder / "x.h5"


CASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "data above": (lambda f: brainvision(f, "../secret.eeg"), "outside its own folder"),
    "an absolute path": (lambda f: brainvision(f, "/etc/passwd"), "outside its own folder"),
    "marks above": (lambda f: brainvision(f, marks="../../x.vmrk"), "outside its own folder"),
    "a link": (linked, "outside its own folder"),
    "a pipe": (lambda f: piped(f, False), "not a plain file"),
    "a pipe of marks": (lambda f: piped(f, True), "not a plain file"),
    "channels": (lambda f: brainvision(f, channels=99_999_999), "99999999 channels"),
    "packed fif": (packed_fif, "would unpack"),
    "packed set": (packed_set, "would unpack"),
    "external storage": (lambda f: hdf5(f, "external"), "another file"),
    "an external link": (lambda f: hdf5(f, "link"), "another file"),
    "a virtual dataset": (lambda f: hdf5(f, "virtual"), "another file"),
}


@pytest.mark.parametrize(("make", "says"), CASES.values(), ids=CASES.keys())
def test_a_hostile_recording(make: Callable[[Path], Path], says: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    file = make(folder)
    with pytest.raises(RecordingError, match=says) as refused:
        read_signals(file)
    assert "/etc" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_recording_of_its_own_files_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    assert len(read_signals(brainvision(folder)).channels) == 1


def test_scoring_whose_values_lie_elsewhere(tmp_path: Path) -> None:
    from sleepfm.errors import AnnotationError

    with h5py.File(tmp_path / "x-arousal.mat", "w") as file:
        group = file.create_group("data/sleep_stages")
        group.create_dataset("wake", shape=(99,), dtype="u1", external=[("/etc/passwd", 0, 99)])
    with pytest.raises(AnnotationError, match="another file"):
        read_scoring(tmp_path / "x-arousal.mat", None, [])


def hollow_edf(file: Path, *, signals: int, samples: int, label: str, whole: bool) -> Path:
    """An EDF file of 3600 data records that are holes on the disk, or the first of them is not."""
    fields = ((label, 16), ("", 80), ("uV", 8), ("-1", 8), ("1", 8), ("-9", 8), ("9", 8), ("", 80))
    head = "0".ljust(168) + "01.01.8500.00.00" + str(256 * (signals + 1)).ljust(8) + " " * 44
    head += "3600".ljust(8) + "1".ljust(8) + str(signals).ljust(4)
    for text, width in (*fields, (str(samples), 8), ("", 32)):
        head += text.ljust(width) * signals
    record = bytes(2 * samples * signals)
    with file.open("wb") as opened:
        opened.write(head.encode())
        for _ in range(3600 if whole else 0):
            opened.write(record)
        opened.truncate(len(head) + 3600 * len(record))
    return file


@pytest.mark.parametrize(
    ("label", "samples", "says"),
    [("EEG", 1_000_000, "7.2 GB"), ("EDF Annotations", 4_000_000, "28.8 GB")],
)
def test_a_file_of_holes_stops_nothing(tmp_path: Path, label: str, samples: int, says: str) -> None:
    file = hollow_edf(tmp_path / "a.edf", signals=1, samples=samples, label=label, whole=False)
    with pytest.raises(RecordingError, match=rf"{says}, of which .* was it downloaded whole"):
        read_signals(file)
    simulate_cohort(tmp_path, subjects=1, hours=0.05)
    found = {f.file: f.problem for f in scan([tmp_path]).files}
    assert found.pop("sim-0001.edf") == ""
    # A file of annotations alone is no recording.
    assert all("downloaded whole" in problem for problem in found.values())
    assert len(found) == (label == "EEG")


def test_more_annotations_than_any_recording_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepfm.recordings.signals._SPARSE_FROM", 1 << 60)
    file = hollow_edf(
        tmp_path / "a.edf", signals=1, samples=4_000_000, label="EDF Annotations", whole=False
    )
    with pytest.raises(RecordingError, match=r"28\.8 GB of annotations"):
        read_signals(file)


def test_annotations_are_read_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = [(float(i), None, f"note {i}") for i in range(50)]
    file = write_edf(tmp_path / "a.edf", psg(60), notes)
    whole = read_annotations(check(file, []), [])
    assert len(whole.annotations) == 50
    monkeypatch.setattr("sleepfm.recordings.edf_annotations._BLOCK", 1)
    assert read_annotations(check(file, []), []) == whole


@pytest.mark.parametrize("apart", [1, 1 << 30])
def test_a_file_that_is_cut_short_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: int
) -> None:
    file = write_edf(tmp_path / "a.edf", psg(60))
    monkeypatch.setattr("sleepfm.recordings.edf_file._APART", apart)
    monkeypatch.setattr("sleepfm.recordings.edf_file._BLOCK", 1)
    recording, real = read_signals(file), os.preadv
    whole = [channel.read() for channel in recording.channels]
    monkeypatch.setattr("sleepfm.recordings.edf_file._BLOCK", 1 << 22)
    for channel, values in zip(read_signals(file).channels, whole, strict=True):
        assert (channel.read() == values).all() and channel.part(30, 99).tolist() == values[
            30:99
        ].tolist()
    monkeypatch.setattr("sleepfm.recordings.edf_file._BLOCK", 1)
    calls: list[int] = []

    def cutting(*asked: object) -> int:
        calls.append(1)
        if len(calls) == 20:
            os.truncate(file, file.stat().st_size // 4)
        return real(*asked)  # type: ignore[arg-type]

    monkeypatch.setattr("os.preadv", cutting)
    with pytest.raises(RecordingError, match="it changed since it was opened"):
        recording.channels[0].read()


def test_a_disk_that_gives_some_bytes_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_edf(tmp_path / "a.edf", psg(60))
    whole = [channel.read() for channel in read_signals(file).channels]
    real = os.preadv
    monkeypatch.setattr("os.preadv", lambda fd, into, at: real(fd, [into[0][:1000]], at))
    for apart in (1, 1 << 30):
        monkeypatch.setattr("sleepfm.recordings.edf_file._APART", apart)
        for channel, values in zip(read_signals(file).channels, whole, strict=True):
            assert (channel.read() == values).all()


def test_a_sparse_file_of_usual_size_is_read(tmp_path: Path) -> None:
    """A recorder that is off for half of the night, on a file system that keeps no zeros."""
    file = write_edf(tmp_path / "a.edf", psg(60))
    whole, content = read_signals(file).channels[0].read(), file.read_bytes()
    with file.open("wb") as sparse:
        for at in range(0, len(content), 4096):
            block = content[at : at + 4096]
            if block.strip(b"\0"):
                sparse.seek(at)
                sparse.write(block)
        sparse.truncate(len(content))
    assert (read_signals(file).channels[0].read() == whole).all()
