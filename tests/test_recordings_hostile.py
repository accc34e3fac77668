"""Damaged and hostile files: a clear error or a flagged read; no crash, no hang, bounded memory."""

import os
import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording_files import Signal, noise, psg, stages, write_edf

from sleepfm.clips import cut_clips
from sleepfm.contract import ROBUST
from sleepfm.errors import AnnotationError, RecordingError, SleepFMError
from sleepfm.recordings import find_recordings, read_recording
from sleepfm.recordings.channels import match_channels
from sleepfm.recordings.scoring.read import read_scoring

MAIN = {
    "version": (0, 8), "patient": (8, 80), "recording": (88, 80), "startdate": (168, 8),
    "starttime": (176, 8), "header size": (184, 8), "reserved": (192, 44),
    "number of data records": (236, 8), "data record duration": (244, 8),
    "number of signals": (252, 4),
}  # fmt: skip
WIDTHS = {
    "label": 16, "transducer": 80, "unit": 8, "physical minimum": 8, "physical maximum": 8,
    "digital minimum": 8, "digital maximum": 8, "prefiltering": 80, "samples per record": 8,
    "signal reserved": 32,
}  # fmt: skip
NUMBERS = [
    "header size", "number of data records", "data record duration", "number of signals",
    "physical minimum", "physical maximum", "digital minimum", "digital maximum",
    "samples per record",
]  # fmt: skip
SIGNALS = 2
SECRET = "Jane"


def field(name: str) -> tuple[int, int]:
    """Where a header field stands; of the first signal, for fields of signals."""
    if name in MAIN:
        return MAIN[name]
    start = 256
    for other, width in WIDTHS.items():
        if other == name:
            return start, width
        start += width * SIGNALS
    raise KeyError(name)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    signals = {"ECG": Signal(noise(40, 100), 100), "C3-M2": Signal(noise(40, 100), 100)}
    return write_edf(tmp_path_factory.mktemp("edf") / "n.edf", signals).read_bytes()


def survive(path: Path) -> list[str]:
    """Read, match and cut; give the warnings, or the one sentence of the error."""
    try:
        recording = read_recording(path)
        channels = match_channels(recording, ROBUST)
        clips = cut_clips(recording, channels, ROBUST)
    except SleepFMError as error:
        text = str(error)
        assert not text.endswith("."), text
        assert SECRET not in text
        assert str(path.parent) not in text
        return [text]
    for block in clips.signals.values():
        assert np.isfinite(block).all()
    warnings = [*recording.warnings, *channels.warnings, *clips.warnings]
    assert SECRET not in " ".join(warnings)
    return warnings


@pytest.mark.parametrize("name", [*MAIN, *WIDTHS])
@pytest.mark.parametrize("where", ["before", "within"])
def test_truncated_at_every_header_field(tmp_path: Path, sound: bytes, name, where) -> None:
    start, width = field(name)
    path = tmp_path / "n.edf"
    path.write_bytes(sound[: start + (width // 2 if where == "within" else 0)])
    (message,) = survive(path)
    assert "ends within its header" in message or "not an EDF or BDF file" in message


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value", [SECRET, "-1", "0", "99999999", "nan", "inf", "", "1e308", "-0.5"]
)
def test_wrong_numbers_in_every_header_field(tmp_path: Path, sound: bytes, name, value) -> None:
    start, width = field(name)
    path = tmp_path / "n.edf"
    path.write_bytes(sound[:start] + value[:width].ljust(width).encode() + sound[start + width :])
    tracemalloc.start()
    said = survive(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20
    harmless = name == "number of data records" and value == "99999999"
    if (
        name in NUMBERS[:4]
        and not harmless
        and not (name == "number of data records" and value == "-1")
    ):
        assert said, "a wrong number in the header must be told"


@pytest.mark.parametrize("claimed", ["99999999", "-1", "41"])
def test_a_wrong_number_of_records_is_flagged(tmp_path: Path, sound: bytes, claimed: str) -> None:
    start, width = field("number of data records")
    path = tmp_path / "n.edf"
    path.write_bytes(sound[:start] + claimed.ljust(width).encode() + sound[start + width :])
    recording = read_recording(path)
    assert recording.duration_s == 40
    assert len(recording.warnings) == 1


def test_no_data_record_at_all(tmp_path: Path, sound: bytes) -> None:
    (tmp_path / "n.edf").write_bytes(sound[: 256 * 3])
    assert "no complete data record" in survive(tmp_path / "n.edf")[0]
    (tmp_path / "n.edf").write_bytes(b"")
    assert "not an EDF" in survive(tmp_path / "n.edf")[0]


def test_data_that_is_one_value_is_not_a_signal(tmp_path: Path, sound: bytes) -> None:
    (tmp_path / "n.edf").write_bytes(sound[: 256 * 3] + bytes(len(sound) - 256 * 3))
    assert "dead" in survive(tmp_path / "n.edf")[0]


def test_duplicated_labels_that_fit_one_slot_are_named(tmp_path: Path) -> None:
    signals = {"ECG": Signal(noise(40, 100), 100), "ECG#": Signal(noise(40, 100), 100)}
    path = write_edf(tmp_path / "n.edf", signals)
    assert "ECG could be ECG and ECG#2" in survive(path)[0]


@pytest.mark.parametrize(
    ("tal", "problem"),
    [
        (b"+0\x14\x14\x00" + b"+1\x14" * 60, ""),
        (b"\xff\xfe" * 40, "have no onset"),
        (b"+999999999999\x14\x14\x00", "as in the header"),
        (b"-999999999999\x14\x14\x00", "as in the header"),
        (b"+0\x14\x14\x00+5\x15999999999999\x14Sleep stage W\x14\x00", "after the signals"),
        (b"+0\x14\x14\x00-5\x1530\x14Sleep stage W\x14\x00", "before the signals"),
        (b"+0\x14\x14\x00+5\x1530\x14" + SECRET.encode() + b"\x14\x00", "1 unknown word"),
        (b"+1e9\x14\x14\x00", "as in the header"),
        (b"+1ee9\x14\x14\x00", "have no onset"),
    ],
)
def test_hostile_annotations_in_edf_plus(tmp_path: Path, tal: bytes, problem: str) -> None:
    path = write_edf(
        tmp_path / "n.edf", {"ECG": Signal(noise(40, 100), 100)}, [(0, None, "x" * 200)]
    )
    raw = bytearray(path.read_bytes())
    width = (len(raw) - 768) // 40
    start = 768 + width * 20 + 200
    end = 768 + width * 21
    if b"Sleep" in tal or SECRET.encode() in tal or b"+1\x14" in tal:
        start, end = 768 + 200, 768 + width
    raw[start:end] = tal.ljust(end - start, b"\0")[: end - start]
    path.write_bytes(raw)
    said = " ".join(survive(path))
    assert any(part in said for part in problem.split("|"))


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY a{i} "{f"&a{i - 1};" * 10 if i > 1 else "&a;" * 10}">' for i in range(1, 10)
    )
    + "]><PSGAnnotation><ScoredEvents><ScoredEvent><EventConcept>&a9;</EventConcept>"
    "<Start>0</Start></ScoredEvent></ScoredEvents></PSGAnnotation>"
)
EXTERNAL = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    "<PSGAnnotation><ScoredEvents><ScoredEvent><EventConcept>&a;</EventConcept>"
    "<Start>0</Start></ScoredEvent></ScoredEvents></PSGAnnotation>"
)
EVENT = (
    "<ScoredEvent><EventConcept>{}</EventConcept><Start>{}</Start><Duration>{}</Duration>"
    "</ScoredEvent>"
)


def nsrr(*events: str) -> str:
    return f"<PSGAnnotation><ScoredEvents>{''.join(events)}</ScoredEvents></PSGAnnotation>"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bomb.xml", BOMB),
        ("external.xml", EXTERNAL),
        ("deep.xml", "<a>" * 100_000 + "</a>" * 100_000),
        ("cut.xml", nsrr(EVENT.format("Wake|0", 0, 30))[:-30]),
        ("empty.xml", ""),
        ("html.xml", "<html><body>404</body></html>"),
        ("nan.xml", nsrr(EVENT.format("Wake|0", "nan", 30))),
        ("text.xml", nsrr(EVENT.format("Wake|0", "soon", 30))),
        ("encoding.xml", '<?xml version="1.0" encoding="x-no-such"?><a/>'),
        ("stage.xml", "<C><SleepStages><SleepStage>77</SleepStage></SleepStages></C>"),
        ("binary.annot", b"\0\1\2\3" * 100),
        ("short.annot", "W\t.\t.\n"),
        ("late.annot", "W\t.\t.\tsoon\tlater\t.\n"),
        ("backwards.annot", "W\t.\t.\t60\t30\t.\n"),
        ("odd.eannot", "W\nN1\n" + SECRET + "\n"),
        ("none.csv", "a,b,c\n1,2,3\n"),
        ("time.csv", "onset,stage\nnever,W\n"),
        ("wide.csv", "stage\n" + "W" * 200_000 + "\n"),
        ("code.csv", "stage\n0\n1\n2\n"),
        ("blank.txt", "\n\n\n"),
        ("nul.tsv", "onset\tstage\n0\tW\0\n"),
        ("not.st", b"nothing of the kind"),
        ("not.arousal", b"\x00\x01"),
        ("not-arousal.mat", b"MATLAB 5.0 MAT-file" + bytes(200)),
        ("signals.edf", b"0       " + bytes(10)),
        ("who.docx", "W\n"),
    ],
)  # fmt: skip
def test_hostile_scoring_files(tmp_path: Path, name: str, content: str | bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(AnnotationError) as caught:
        read_scoring(path, None, [])
    assert str(caught.value).startswith(name)
    assert not str(caught.value).endswith(".")
    assert SECRET not in str(caught.value)
    assert "root:" not in str(caught.value)


def test_a_hypnogram_longer_than_the_signal_and_one_before_it(tmp_path: Path) -> None:
    write_edf(tmp_path / "n.edf", psg(60))
    (tmp_path / "n.eannot").write_text("W\n" * 1000)
    recording = read_recording(tmp_path / "n.edf")
    assert sum(s.duration_s for s in recording.scoring.stages) == 60
    assert "continues for 29940 s after the signals" in recording.warnings[0]


def test_links_pipes_and_folders_are_no_recordings(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.edf")
    os.mkfifo(tmp_path / "pipe.hea")
    (tmp_path / "gone.edf").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.edf").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    write_edf(tmp_path / "n.edf", psg(30))
    os.mkfifo(tmp_path / "n.xml")
    found = find_recordings([tmp_path])
    assert "n.edf" in [item.path.name for item in found.recordings]
    for item in found.recordings:
        said = survive(item.path)
        if item.path.name != "n.edf":
            assert "is not a file" in said[0] or "cannot be opened" in said[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "n.edf", psg(30))
    path.chmod(0)
    assert "cannot be opened: permission denied" in survive(path)[0]


def test_a_folder_that_may_not_be_listed_is_passed_over(tmp_path: Path, monkeypatch) -> None:
    write_edf(tmp_path / "n.edf", psg(30))
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert len(find_recordings([tmp_path]).recordings) == 1


@pytest.mark.parametrize("text", ["id,a\0.edf\n", "id," + "x" * 200_000 + ".edf\n"])
def test_hostile_cohort_lists(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(RecordingError, match="cannot be read as text"):
        find_recordings([tmp_path / "c.csv"])


def test_a_gap_of_days_is_not_held_in_memory(tmp_path: Path) -> None:
    from test_recordings_edf import discontinuous

    path = discontinuous(tmp_path, [0, 1, 200_000, 200_001])
    with pytest.raises(RecordingError, match="almost entirely of gaps"):
        read_recording(path)


header_text = st.binary(min_size=0, max_size=16)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_header_is_an_error_or_a_read(
    tmp_path: Path, sound: bytes, data: st.DataObject
) -> None:
    """Any bytes in any fields of the header: one sentence, or finite clips."""
    raw = bytearray(sound)
    names = data.draw(st.lists(st.sampled_from([*MAIN, *WIDTHS]), min_size=1, max_size=4))
    for name in names:
        start, width = field(name)
        number = st.one_of(
            st.integers(-10, 10**8).map(str), st.floats(width=32).map(lambda x: f"{x:g}")
        ).map(str.encode)
        value = data.draw(st.one_of(header_text, number), label=name)
        raw[start : start + width] = value[:width].ljust(width)
    path = tmp_path / "n.edf"
    path.write_bytes(raw)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    survive(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rate=st.sampled_from([1, 8, 25, 50, 100, 128, 200, 256]),
    seconds=st.integers(1, 70),
    unit=st.sampled_from(["uV", "mV", "V", "", "%", "µV".encode("latin-1").decode("latin-1")[:0]]),
    low=st.floats(-1e4, -1), high=st.floats(1, 1e4), seed=st.integers(0, 9),
)  # fmt: skip
def test_what_was_written_is_what_is_read(
    tmp_path: Path, rate: int, seconds: int, unit: str, low: float, high: float, seed: int
) -> None:
    """Round trip of generated headers: rate, length, unit, and values within one step."""
    span = (round(low, 1), round(high, 1))
    values = np.random.default_rng(seed).uniform(*span, seconds * rate)
    path = write_edf(tmp_path / "n.edf", {"ECG": Signal(values, rate, unit, span)})
    (channel,) = read_recording(path).channels
    assert (channel.sample_rate, channel.unit) == (rate, unit)
    step = (span[1] - span[0]) / 65535
    np.testing.assert_allclose(channel.read(), values, atol=step)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=300), ending=st.sampled_from(
    [".xml", ".annot", ".eannot", ".csv", ".tsv", ".txt"]))  # fmt: skip
def test_any_bytes_are_scoring_or_an_error(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"n{ending}"
    path.write_bytes(content)
    try:
        assert read_scoring(path, 0.0, [])
    except AnnotationError as error:
        assert str(error).startswith(path.name)


def test_stages_survive_a_truncated_file(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "n.edf", psg(90), annotations=stages("W12"))
    os.truncate(path, path.stat().st_size // 2)
    said = " ".join(survive(path))
    assert "ends early" in said
