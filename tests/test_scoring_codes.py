"""Codes of respiratory events, words of other scripts, and scoring in derivatives."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_files import psg, write_edf
from test_scoring_variants import NIGHT, at, by_epoch, scored, table

from sleepfm.errors import AnnotationError
from sleepfm.recordings import read_recording
from sleepfm.recordings.find_scoring import find_annotations
from sleepfm.recordings.scoring.event_words import CODES, event_of
from sleepfm.recordings.scoring.hypnogram import scoring_from_texts
from sleepfm.recordings.scoring.stage_words import stage_in_column
from sleepfm.recordings.scoring.vocabulary import Annotation, Event, Scoring

APNEAS = {"OA": "obstructive", "CA": "central", "MA": "mixed"}


def of(*notes: tuple[str, float | None]) -> Scoring:
    """Scoring of annotations of a text and a length, a minute apart."""
    return scoring_from_texts([Annotation(60.0 * i, d, t) for i, (t, d) in enumerate(notes)], [])


def kinds(scoring: Scoring) -> list[tuple[str, str]]:
    return [(e.type, e.subtype) for e in scoring.events]


@given(
    st.lists(
        st.tuples(st.sampled_from(["OA", "CA", "MA"]), st.floats(10, 90)), min_size=1, max_size=30
    ),
    st.sampled_from(["{}", "{} ", "{}@@Flow", "{} with arousal"]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_codes_of_apneas_are_counted_as_the_file_has_them(marks, form: str, lower: bool) -> None:
    marks = [("OA", 20.0), *marks]
    found = of(*((form.format(code.lower() if lower else code), d) for code, d in marks))
    wanted = Counter(APNEAS[code] for code, _ in marks)
    assert Counter(e.subtype for e in found.events) == wanted
    assert {e.type for e in found.events} == {"apnea"} and not found.dropped


@pytest.mark.parametrize(
    ("notes", "read"),
    [
        ([("MA", 12.0)] * 3, 0),  # alone, it may be a micro-arousal
        ([("MA", 5.0), ("MA", 8.0), ("OA", 15.0)], 1),  # so short, it is one
        ([("MA", 15.0), ("Mixed apnea", 15.0), ("OA", 20.0)], 2),  # another word for the mixed
        ([("CA", 4.0), ("CA", 6.0)], 0),  # cortical arousals
        ([("OA", None), ("CA", None)], 2),
        ([("OA", None)], 0),
        ([("OA", 900.0)], 0),
        ([("OA", 12.0), ("H", 14.0), ("HY", 11.0)], 3),
        ([("H", 14.0)], 0),
    ],
)
def test_a_code_is_an_event_only_where_the_file_shows_it(notes, read: int) -> None:
    found = of(*notes)
    assert len(found.events) == read
    assert found.dropped.get("unknown word", 0) == len(notes) - read
    assert sum(found.words.values()) == len(notes) - read


@pytest.mark.parametrize("code", CODES)
def test_a_code_is_an_event_where_its_label_says_respiratory(code: str) -> None:
    for label in (f"RESP_{code.upper()}", f"Respiratory event ({code})", f"Apnea {code}"):
        assert event_of(label) == CODES[code]


def test_an_apnea_with_an_arousal_is_no_arousal() -> None:
    assert kinds(of(("OA with arousal", 20.0), ("CA+desat", 12.0), ("Arousal", 4.0))) == [
        ("apnea", "obstructive"), ("apnea", "central"), ("arousal", ""),
    ]  # fmt: skip


def test_a_respiratory_column_beside_the_stages_is_read(tmp_path: Path) -> None:
    cells = ["", "OA", "Hypopnea", "MA"]
    text = table(
        "onset,duration,stage,Respiratory event,Comment",
        lambda i, s: f"{30 * i},30,{s},{cells[i % 4]},{'snored after an apnea' if i == 3 else ''}",
    )
    found = scored(tmp_path, text)
    assert by_epoch(found) == NIGHT and found.dropped == {"unknown word": 1}
    assert Counter(kinds(found)) == {
        ("apnea", "obstructive"): 5, ("hypopnea", ""): 5, ("apnea", "mixed"): 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "onset,duration,Respiratory event\n10,20,OA\n50,12,MA\n90,15,Hypopnea\n",
        "onset,duration,class,type\n10,20,Respiratory,OA\n50,12,Respiratory,MA\n"
        "90,15,Respiratory,Hypopnea\n",
        "start_sec,duration_sec,group,name\n10,20,Respiratory,OA\n50,12,Respiratory,MA\n"
        "90,15,Respiratory,Hypopnea\n",
    ],
)
def test_events_in_one_column_or_two(tmp_path: Path, text: str) -> None:
    found = scored(tmp_path, text)
    assert found.events == (
        Event(10, 20, "apnea", "obstructive"), Event(50, 12, "apnea", "mixed"),
        Event(90, 15, "hypopnea", ""),
    )  # fmt: skip
    assert not found.dropped


def test_several_columns_of_events_are_all_read_and_repeats_once(tmp_path: Path) -> None:
    text = table(
        "onset,duration,event,description,category",
        lambda i, s: f"{30 * i},30,{s},{'Hypopnea' if i % 3 == 0 else ''},Sleep",
    )
    text += "600.5,9,Arousal,Arousal (respiratory),Arousal\n"
    found = scored(tmp_path, text)
    assert by_epoch(found) == NIGHT
    assert Counter(e.type for e in found.events) == {"hypopnea": 7, "arousal": 1}


CHINESE = {"W": "清醒", "N1": "非REM1期", "N2": "N2期", "N3": "N3期", "R": "快速眼动期"}
JAPANESE = {"W": "覚醒", "N1": "ノンレム1", "N2": "ノンREM2", "N3": "睡眠段階3", "R": "レム睡眠"}
RUSSIAN = {"W": "Бодрствование", "N1": "Стадия N1", "N2": "Стадия 2", "N3": "N3", "R": "БДГ"}


@pytest.mark.parametrize(
    "text",
    [
        table("开始时间,持续时间(秒),睡眠分期", lambda i, s: f"{at(30 * i)},30,{CHINESE[s]}"),
        table("开始时间（秒）,stage", lambda i, s: f"{30 * i},{CHINESE[s]}"),
        table("時刻\t睡眠ステージ", lambda i, s: f"{at(30 * i)}\t{JAPANESE[s]}"),
        table("エポック,ステージ", lambda i, s: f"{i + 1},{JAPANESE[s]}"),
        table("Время;Стадия", lambda i, s: f"{at(30 * i)};{RUSSIAN[s]}"),
    ],
    ids=["Chinese clock", "Chinese seconds", "Japanese clock", "Japanese epochs", "Russian"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tables_in_other_scripts(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "n.csv").write_text(text, encoding=encoding)
    assert by_epoch(scored_file(tmp_path / "n.csv")) == NIGHT


def scored_file(path: Path) -> Scoring:
    text = path.read_bytes()
    return scored(path.parent, text.decode("utf-16" if text[:2] == b"\xff\xfe" else "utf-8"))


@pytest.mark.parametrize("word", ["ノンREM", "非REM", "非R", "不N2", "ノンレム", "비렘"])
def test_a_word_in_another_script_is_not_read_by_its_latin_letters(word: str) -> None:
    assert stage_in_column(word) is None


@pytest.mark.parametrize(
    ("word", "event"),
    [
        ("阻塞性睡眠呼吸暂停", ("apnea", "obstructive")), ("中枢性無呼吸", ("apnea", "central")),
        ("混合性呼吸暂停", ("apnea", "mixed")), ("低通气", ("hypopnea", "")),
        ("微觉醒", ("arousal", "")), ("覚醒反応", ("arousal", "")),
        ("血氧饱和度下降", ("desaturation", "")), ("周期性肢体运动", ("limb_movement", "periodic")),
        ("无apnea", None), ("覚醒", None),
    ],
)  # fmt: skip
def test_events_in_other_scripts(word: str, event: tuple[str, str] | None) -> None:
    assert event_of(word) == event


@pytest.mark.parametrize("heading", ["epoch,stage", ",stage", "index,stage"])
@pytest.mark.parametrize("step", [20, 30])
def test_seconds_under_the_heading_of_a_number_are_refused(
    tmp_path: Path, heading: str, step: int
) -> None:
    with pytest.raises(AnnotationError, match=f"steps of {step}, which may be seconds"):
        scored(tmp_path, table(heading, lambda i, s: f"{step * i},{s}"))


def nsrr(rows: list[tuple[str, str, float, str]]) -> str:
    form = "<ScoredEvent><EventType>{}</EventType><EventConcept>{}</EventConcept><Start>{}</Start>"
    events = "".join(
        form.format(*r[:3]) + f"<Duration>{r[3]}</Duration></ScoredEvent>" for r in rows
    )
    return f"<PSGAnnotation><ScoredEvents>{events}</ScoredEvents></PSGAnnotation>"


def test_wake_without_a_duration_is_a_stage_where_nsrr_says_so(tmp_path: Path) -> None:
    words = {"W": "Wake|0", "R": "REM sleep|5"}
    rows = [
        ("Stages|Stages", words.get(s, f"Stage {s[-1]} sleep|{s[-1]}"), 30.0 * i, "")
        for i, s in enumerate(NIGHT)
    ]
    assert by_epoch(scored(tmp_path, nsrr(rows), "n.xml")) == NIGHT


@pytest.mark.parametrize(
    ("length", "stated"),
    [
        (400, ""),
        (400, "<EpochLength>20</EpochLength>"),
        (600, ""),
        (600, "<EpochLength>0</EpochLength>"),
    ],
)
def test_profusion_without_an_epoch_length_is_read_by_the_signals(
    tmp_path: Path, length: float, stated: str
) -> None:
    stages = "".join(f"<SleepStage>{s}</SleepStage>" for s in NIGHT)
    text = f"<CMPStudyConfig>{stated}<SleepStages>{stages}</SleepStages></CMPStudyConfig>"
    found = scored(tmp_path, text, "n.xml", duration_s=length)
    assert [s.stage for s in found.stages] == NIGHT
    assert {s.duration_s for s in found.stages} == {length / len(NIGHT)}


def test_luna_codes_by_their_class(tmp_path: Path) -> None:
    lines = ["resp\tCA\t.\t50\t61\t.", "apnea\tMA\t.\t90\t102\t.", "note\tapnea\t.\t10\t20\t."]
    found = scored(tmp_path, "\n".join(lines), "n.annot")
    assert kinds(found) == [("apnea", "central"), ("apnea", "mixed")]
    assert found.dropped == {"unknown word": 1}


def test_scoring_in_the_derivatives_of_a_dataset(tmp_path: Path) -> None:
    raw = tmp_path / "rawdata" / "sub-01" / "ses-1" / "eeg"
    raw.mkdir(parents=True)
    path = write_edf(raw / "sub-01_ses-1_task-sleep_eeg.edf", psg(90))
    rows = "onset\tduration\tstage\n0\t30\tW\n30\t30\tN1\n60\t30\tN2\n"
    folders = (
        tmp_path / "rawdata" / "derivatives" / "yasa" / "sub-01" / "ses-1" / "eeg",
        tmp_path / "derivatives" / "scoring" / "sub-01" / "ses-1",
        tmp_path / "derivatives" / "sub-01",
        tmp_path / "derivatives" / "flat",
    )
    for folder in folders:
        folder.mkdir(parents=True)
        file = folder / "sub-01_ses-1_task-sleep_desc-manual_events.tsv"
        file.write_text(rows)
        (folder / "sub-02_ses-1_task-sleep_events.tsv").write_text(rows)
        (folder / "sub-01_ses-2_task-sleep_events.tsv").write_text(rows)
        assert find_annotations(path) == (file,)
        assert [s.stage for s in read_recording(path).scoring.stages] == ["W", "N1", "N2"]
        file.unlink()
    assert find_annotations(path) == ()


def test_another_scorer_in_the_derivatives_is_said(tmp_path: Path) -> None:
    (tmp_path / "sub-01").mkdir()
    path = write_edf(tmp_path / "sub-01" / "sub-01_task-sleep_eeg.edf", psg(90))
    rows = "onset\tduration\tstage\n0\t30\tW\n30\t30\tN1\n60\t30\t{}\n"
    (path.parent / "sub-01_task-sleep_events.tsv").write_text(rows.format("N2"))
    other = tmp_path / "derivatives" / "usleep" / "sub-01"
    other.mkdir(parents=True)
    (other / "sub-01_task-sleep_events.tsv").write_text(rows.format("N2"))
    assert not any("differ" in said for said in read_recording(path).warnings)
    (other / "sub-01_task-sleep_events.tsv").write_text(rows.format("N3"))
    recording = read_recording(path)
    assert [s.stage for s in recording.scoring.stages] == ["W", "N1", "N2"]
    assert any("differ in 1 of 3 epochs" in said for said in recording.warnings)


def test_the_marks_of_cap_are_not_missed_beside_its_table(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "n1.edf", psg(90))
    (tmp_path / "n1.edf.st").write_bytes(b"\x00\x58")
    (tmp_path / "n1.txt").write_text("onset,duration,stage\n0,30,W\n30,30,N1\n60,30,N2\n")
    recording = read_recording(path)
    assert [s.stage for s in recording.scoring.stages] == ["W", "N1", "N2"]
    assert not recording.unread and not any("CAP" in said for said in recording.warnings)
