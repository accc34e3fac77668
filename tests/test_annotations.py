"""Scoring in every format: stages, events, codings, alignment."""

from datetime import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_files import Signal, noise, psg, stages, write_edf

from sleepfm.errors import AnnotationError
from sleepfm.recordings import read_recording
from sleepfm.recordings.scoring.clock import clock_seconds, offset_seconds
from sleepfm.recordings.scoring.event_words import event_of
from sleepfm.recordings.scoring.hypnogram import clip_to_signals, scoring_from_texts
from sleepfm.recordings.scoring.read import read_scoring
from sleepfm.recordings.scoring.stage_words import stage_of
from sleepfm.recordings.scoring.vocabulary import STAGES, Annotation, Event, ScoredStage, Scoring


def read(path: Path, text: str | bytes, clock=None, coding=None) -> Scoring:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_scoring(path, clock, [], coding)


def brief(scoring: Scoring):
    return [(s.onset_s, s.duration_s, s.stage) for s in scoring.stages]


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("Sleep stage W", "W"), ("Sleep stage 1", "N1"), ("Sleep stage N2", "N2"),
        ("Sleep stage 4", "N3"), ("Sleep stage R", "R"), ("Sleep stage ?", "UNS"),
        ("Movement time", "UNS"), ("Stage 2 sleep|2", "N2"), ("Stage 4 sleep|4", "N3"),
        ("REM sleep|5", "R"), ("Wake|0", "W"), ("Unscored|9", "UNS"), ("N3", "N3"), ("NREM2", "N2"),
        ("wake", "W"), ("Artifact", "ART"), ("SLEEP-S3", "N3"), ("S3", "N3"), ("stage", None),
        ("2", None), ("", None), ("Lights off", None), ("sleep stage", None),
    ],
)  # fmt: skip
def test_words_for_stages(text: str, stage: str | None) -> None:
    assert stage_of(text) == stage


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("Obstructive apnea|Obstructive Apnea", ("apnea", "obstructive")),
        ("resp_obstructiveapnea", ("apnea", "obstructive")),
        ("resp_centralapnea", ("apnea", "central")),
        ("apnea_mixed", ("apnea", "mixed")),
        ("Apnea", ("apnea", "")),
        ("Apnoea central", ("apnea", "central")),
        ("Hypopnea|Hypopnea", ("hypopnea", "")),
        ("resp_hypopnea", ("hypopnea", "")),
        ("Obstructive Hypopnea", ("hypopnea", "obstructive")),
        ("SpO2 desaturation|SpO2 desaturation", ("desaturation", "")),
        ("Arousal|Arousal ()", ("arousal", "")),
        ("arousal_rera", ("rera", "")),
        ("Limb movement - left", ("limb_movement", "")),
        ("resp_partialobstructive", None),
        ("SpO2 artifact|SpO2 artifact", None),
        ("Dr Miller enters the room", None),
        ("x" * 5000, None),
    ],
)
def test_words_for_events(text: str, event: tuple[str, str] | None) -> None:
    assert event_of(text) == event


NSRR = """<?xml version="1.0" encoding="UTF-8"?>
<PSGAnnotation><EpochLength>30</EpochLength><ScoredEvents>
<ScoredEvent><EventType/><EventConcept>Recording Start Time</EventConcept><Start>0</Start>
<Duration>150.0</Duration><ClockTime>01.02.03 23.00.00</ClockTime></ScoredEvent>
<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>Wake|0</EventConcept>
<Start>0</Start><Duration>60.0</Duration></ScoredEvent>
<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>Stage 4 sleep|4</EventConcept>
<Start>60</Start><Duration>30.0</Duration></ScoredEvent>
<ScoredEvent><EventType>Respiratory|Respiratory</EventType>
<EventConcept>Central apnea|Central Apnea</EventConcept><Start>70.5</Start><Duration>12</Duration>
</ScoredEvent></ScoredEvents></PSGAnnotation>"""

PROFUSION = """<CMPStudyConfig><EpochLength>30</EpochLength>
<ScoredEvents><ScoredEvent><Name>Hypopnea</Name><Start>10</Start><Duration>15</Duration>
</ScoredEvent></ScoredEvents>
<SleepStages><SleepStage>0</SleepStage><SleepStage>2</SleepStage><SleepStage>5</SleepStage>
<SleepStage>9</SleepStage></SleepStages></CMPStudyConfig>"""


def test_nsrr_xml(tmp_path: Path) -> None:
    scoring = read(tmp_path / "n-nsrr.xml", NSRR)
    assert brief(scoring) == [(0, 60, "W"), (60, 30, "N3")]
    assert scoring.stages[1].raw == "Stage 4 sleep|4"
    assert scoring.events == (Event(70.5, 12, "apnea", "central"),)


def test_nsrr_xml_is_aligned_by_clock(tmp_path: Path) -> None:
    warnings: list[str] = []
    (tmp_path / "n.xml").write_text(NSRR)
    scoring = read_scoring(tmp_path / "n.xml", 22 * 3600 + 3540, warnings)
    assert brief(scoring)[0] == (60, 60, "W")
    assert warnings == ["scoring starts +60 s from the signals, by their clocks"]


def test_profusion_xml(tmp_path: Path) -> None:
    scoring = read(tmp_path / "n.xml", PROFUSION)
    assert [s.stage for s in scoring.stages] == ["W", "N2", "R", "UNS"]
    assert [s.raw for s in scoring.stages] == ["Wake|0", "Stage 2|2", "REM|5", "Unscored|9"]
    assert scoring.events == (Event(10, 15, "hypopnea"),)


LUNA = """# comment
class\tinstance\tchannel\tstart\tstop\tmeta
W\t.\t.\t0\t30\t.
N1\t.\t.\t22:00:30\t+30\t.
N2\t.\t.\t0+00:01:00\t...\t.
R\t.\t.\te:4\te:4\t.
apnea_obstructive\t.\t.\t35.5\t50\t.
"""


def test_luna_annot(tmp_path: Path) -> None:
    scoring = read(tmp_path / "n.annot", LUNA, clock=22 * 3600)
    assert brief(scoring) == [(0, 30, "W"), (30, 30, "N1"), (60, 30, "N2"), (90, 30, "R")]
    assert scoring.events == (Event(35.5, 14.5, "apnea", "obstructive"),)
    with pytest.raises(AnnotationError, match="has no start time"):
        read(tmp_path / "n.annot", LUNA)


def test_luna_eannot(tmp_path: Path) -> None:
    scoring = read(tmp_path / "n.eannot", "wake\nNREM1\nNREM4\nREM\n")
    assert [s.stage for s in scoring.stages] == ["W", "N1", "N3", "R"]


@pytest.mark.parametrize(
    "text",
    [
        "onset\tduration\ttrial_type\n0\t30\tSleep stage W\n30\t30\tSleep stage N2\n",
        "onset\tstage\n0\tW\n30\tN2\n",
        "start,end,stage\n0,30,W\n30,60,N2\n",
        "start;duration;stage\n22:00:00;30;W\n22:00:30;30;N2\n",
        "Date, Time, Recording onset, Duration, Annotation, Linked channel\n"
        "2001-01-01,22:00:00,0,30,Sleep stage W,\n2001-01-01,22:00:30,30,30,Sleep stage N2,\n",
        "stage\nW\nN2\n",
        "epoch,stage\n1,W\n2,N2\n",
        "W\nN2\n",
    ],
    ids=["bids", "no-duration", "end", "clock", "hmc", "one-column", "epoch", "bare"],
)
def test_tables(tmp_path: Path, text: str) -> None:
    scoring = read(tmp_path / "n.csv", text, clock=22 * 3600)
    assert brief(scoring) == [(0, 30, "W"), (30, 30, "N2")]


@pytest.mark.parametrize(
    ("coding", "wanted"),
    [
        ("yasa", ["W", "N1", "N3", "R", "ART"]),
        ("profusion", None),
        ("rk", ["W", "N1", "N3", "N3", "UNS"]),
    ],
)
def test_integers_need_a_named_coding(tmp_path: Path, coding, wanted) -> None:
    text = "stage\n0\n1\n3\n4\n-1\n"
    with pytest.raises(AnnotationError, match="name one of yasa, profusion, rk"):
        read(tmp_path / "n.csv", text)
    if wanted is None:
        with pytest.raises(AnnotationError, match="code -1, which is not in the coding profusion"):
            read(tmp_path / "n.csv", text, coding=coding)
        return
    assert [s.stage for s in read(tmp_path / "n.csv", text, coding=coding).stages] == wanted
    timed = "onset,stage\n" + "".join(f"{30 * i},{c}\n" for i, c in enumerate("013"))
    with pytest.raises(AnnotationError, match="name one of"):
        read(tmp_path / "m.csv", timed)
    assert [s.stage for s in read(tmp_path / "m.csv", timed, coding=coding).stages] == wanted[:3]


def test_the_coding_goes_through_read_recording(tmp_path: Path) -> None:
    write_edf(tmp_path / "n.edf", psg(60))
    (tmp_path / "n.txt").write_text("4\n4\n")
    assert not read_recording(tmp_path / "n.edf").scoring
    assert "integer codes" in read_recording(tmp_path / "n.edf").warnings[0]
    for coding, stage in (("yasa", "R"), ("rk", "N3")):
        recording = read_recording(tmp_path / "n.edf", coding=coding)
        assert {s.stage for s in recording.scoring.stages} == {stage}


def test_slpdb_st(tmp_path: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    signal = noise(120, 250)[:, None]
    wfdb.wrsamp("slp", fs=250, units=["mV"], sig_name=["ECG"], p_signal=signal, fmt=["16"],
                write_dir=str(tmp_path))  # fmt: skip
    wfdb.wrann("slp", "st", np.array([1, 7500, 15000, 22500]), ["\""] * 4, fs=250,
               aux_note=["W", "4 HA", "2 OA L", "R"], write_dir=str(tmp_path))  # fmt: skip
    scoring = read_recording(tmp_path / "slp.hea").scoring
    assert [s.stage for s in scoring.stages] == ["W", "N3", "N2", "R"]
    assert [(round(e.onset_s), e.type, e.subtype) for e in scoring.events] == [
        (30, "hypopnea", ""), (30, "arousal", ""), (60, "apnea", "obstructive"),
        (60, "limb_movement", ""),
    ]  # fmt: skip


def test_cinc_arousal_marks_and_mat(tmp_path: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    h5py = pytest.importorskip("h5py")
    signal = noise(120, 200)[:, None]
    wfdb.wrsamp("tr", fs=200, units=["uV"], sig_name=["C3-M2"], p_signal=signal, fmt=["16"],
                write_dir=str(tmp_path))  # fmt: skip
    wfdb.wrann(
        "tr", "arousal", np.array([1, 6000, 7000, 9000, 12000]), ["\""] * 5, fs=200,
        aux_note=["W", "N2", "(resp_hypopnea", "resp_hypopnea)", "R"], write_dir=str(tmp_path),
    )  # fmt: skip
    scoring = read_recording(tmp_path / "tr.hea").scoring
    assert [(round(s.onset_s), s.stage) for s in scoring.stages] == [
        (0, "W"),
        (30, "N2"),
        (60, "R"),
    ]
    assert scoring.events == (Event(35, 10, "hypopnea"),)
    with h5py.File(tmp_path / "tr-arousal.mat", "w") as file:
        group = file.create_group("data/sleep_stages")
        for name, (a, b) in {"wake": (0, 6000), "nonrem3": (6000, 24000)}.items():
            track = np.zeros((1, 24000), np.uint8)
            track[0, a:b] = 1
            group[name] = track
    scoring = read_scoring(tmp_path / "tr-arousal.mat", None, [])
    assert brief(scoring) == [(0, 30, "W"), (30, 90, "N3")]


def test_sleep_edf_pair(tmp_path: Path) -> None:
    write_edf(tmp_path / "SC4001E0-PSG.edf", {"ECG": Signal(noise(90, 100), 100)})
    write_edf(tmp_path / "SC4001EC-Hypnogram.edf", {}, annotations=[
        (0, 30, "Sleep stage W"), (30, 30, "Sleep stage 4"), (60, 30, "Movement time")
    ])  # fmt: skip
    recording = read_recording(tmp_path / "SC4001E0-PSG.edf")
    assert [s.stage for s in recording.scoring.stages] == ["W", "N3", "UNS"]
    assert [p.name for p in recording.sources][1:] == ["SC4001EC-Hypnogram.edf"]


def test_scoring_beside_the_recording_is_found_and_the_named_one_wins(tmp_path: Path) -> None:
    write_edf(tmp_path / "n.edf", psg(120), annotations=stages("WWWW"), start=time(23))
    (tmp_path / "n-nsrr.xml").write_text(NSRR)
    beside = read_recording(tmp_path / "n.edf")
    assert {s.stage for s in beside.scoring.stages} == {"W"}  # the signal file's own stages
    assert [e.type for e in beside.scoring.events] == ["apnea"]  # what it lacks, from beside it
    (tmp_path / "other.eannot").write_text("N2\nN2\n")
    named = read_recording(tmp_path / "n.edf", tmp_path / "other.eannot")
    assert [s.stage for s in named.scoring.stages] == ["N2", "N2"]


def test_a_broken_file_beside_is_a_warning_and_a_broken_named_one_an_error(tmp_path: Path) -> None:
    write_edf(tmp_path / "n.edf", psg(60))
    (tmp_path / "n.xml").write_text("<PSGAnnotation>")
    recording = read_recording(tmp_path / "n.edf")
    assert recording.warnings == (
        "the scoring file next to it (.xml) is not well-formed XML that is safe to read",
    )
    with pytest.raises(AnnotationError, match=r"^n.xml is not well-formed"):
        read_recording(tmp_path / "n.edf", tmp_path / "n.xml")
    with pytest.raises(AnnotationError, match="cannot be opened: no such file"):
        read_recording(tmp_path / "n.edf", tmp_path / "gone.xml")


def test_scoring_is_kept_where_it_overlaps_the_signals_and_the_rest_reported() -> None:
    warnings: list[str] = []
    scoring = Scoring(
        (ScoredStage(-30, 60, "W", "W"), ScoredStage(30, 120, "N2", "2")),
        (Event(-10, 5, "apnea"), Event(80, 60, "arousal"), Event(500, 5, "apnea")),
    )
    kept = clip_to_signals(scoring, 100, warnings)
    assert brief(kept) == [(0, 30, "W"), (30, 70, "N2")]
    assert kept.events == (Event(80, 20, "arousal"),)
    assert warnings == [
        "scoring starts 30 s before the signals; that part is ignored",
        "scoring continues for 50 s after the signals; that part is ignored",
    ]
    warnings.clear()
    clip_to_signals(Scoring((ScoredStage(0, 30, "W", "W"),)), 100, warnings)
    assert warnings == ["the last 70 s of the signals are not scored"]


def test_sleep_wake_only_scoring_is_flagged() -> None:
    warnings: list[str] = []
    clip_to_signals(
        Scoring((ScoredStage(0, 600, "W", "W"), ScoredStage(600, 6600, "N2", "2"))), 7200, warnings
    )
    assert warnings == ["only wake and N2 occur: this looks like sleep/wake scoring"]


def test_free_text_is_dropped_and_only_counted() -> None:
    warnings: list[str] = []
    notes = [Annotation(0, 30, "Sleep stage W"), Annotation(5, None, "John Smith snores")]
    scoring = scoring_from_texts(notes, warnings)
    assert "Smith" not in repr((scoring, warnings))
    assert scoring.dropped == {"unknown word": 1}
    assert scoring.words == {"John Smith snores": 1}


def test_a_lone_letter_among_markers_is_no_stage() -> None:
    peaks = [Annotation(1.0 + 0.8 * i, None, "R") for i in range(20)]
    assert not scoring_from_texts(peaks, [], markers=True)
    assert not scoring_from_texts(peaks[:2], [])
    assert scoring_from_texts([Annotation(30.0 * i, None, "R") for i in range(6)], []).stages


@given(st.text(max_size=40))
def test_any_text_is_a_stage_or_none(text: str) -> None:
    assert stage_of(text) in (None, *STAGES)
    event_of(text)


@given(st.floats(0, 86399), st.floats(0, 86399))
def test_clock_offsets_are_the_same_moment(clock: float, start: float) -> None:
    offset = offset_seconds(clock, start)
    assert -6 * 3600 <= offset < 18 * 3600
    assert abs((start + offset - clock + 43200) % 86400 - 43200) < 1e-6


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("23:30:02", 84602), ("11:30:02 pm", 84602), ("12.00.00", 43200), ("00:00", 0),
     ("22:30:15.5", 81015.5), ("25:00:00", None), ("noon", None)],
)  # fmt: skip
def test_times_of_day(text: str, seconds: float | None) -> None:
    assert clock_seconds(text) == seconds
