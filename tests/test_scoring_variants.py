"""Scoring as cohorts and vendors write it: what is read, and what is refused, not guessed."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from recording_files import psg, write_edf

from sleepfm.errors import AnnotationError
from sleepfm.recordings import read_recording
from sleepfm.recordings.find_scoring import find_annotations, find_lookalikes
from sleepfm.recordings.scoring.event_words import event_of
from sleepfm.recordings.scoring.hypnogram import scoring_from_texts
from sleepfm.recordings.scoring.read import read_scoring
from sleepfm.recordings.scoring.stage_words import stage_in_column
from sleepfm.recordings.scoring.vocabulary import Annotation, Scoring

NIGHT = [c if c in "WR" else f"N{c}" for c in "WW122332RRW122332RRW"]
START = datetime.datetime(2021, 2, 3, 22)
LENGTH = 600.0


def at(seconds: float, form: str = "%H:%M:%S") -> str:
    return (START + datetime.timedelta(seconds=seconds)).strftime(form)


def scored(folder: Path, text: str, name: str = "n.csv", coding=None, **known) -> Scoring:
    (folder / name).write_text(text, encoding="utf-8")
    known = {"duration_s": LENGTH, "start_day": START.toordinal()} | known
    return read_scoring(folder / name, 22 * 3600.0, known.pop("said", []), coding, **known)


def by_epoch(scoring: Scoring) -> list[str]:
    """One stage for each 30 s of the signals, ``-`` where there is none."""
    found = ["-"] * len(NIGHT)
    for stage in scoring.stages:
        for i in range(len(NIGHT)):
            if stage.onset_s <= 30 * i + 15 < stage.onset_s + stage.duration_s:
                found[i] = stage.stage
    return found


def table(heading: str, row: Callable[[int, str], str]) -> str:
    return "\n".join([heading, *(row(i, s) for i, s in enumerate(NIGHT))]) + "\n"


DUTCH = {"W": "Waak", "R": "REM slaap"}
PORTUGUESE = {"W": "Vigília", "R": "Sono REM"}
R_AND_K = {"W": "W", "N1": "1", "N2": "2", "N3": "4", "R": "R"}
READ = {
    "Dutch": table("Tijd;Duur (s);Slaapstadium",
                   lambda i, s: f"{at(30 * i)};30;{DUTCH.get(s, f'Stadium {s}')}"),
    "Portuguese": table("Início;Duração;Estágio",
                        lambda i, s: f"{at(30 * i)};30;{PORTUGUESE.get(s, f'Estágio {s}')}"),
    "pandas timedelta": table("onset,duration,stage", lambda i, s: (
        f"0 days 00:{i // 2:02d}:{30 * (i % 2):02d},0 days 00:00:30,{s}")),
    "22h00m30s": table("Heure;Stade", lambda i, s: f"{at(30 * i, '%Hh%Mm%Ss')};{s}"),
    "probabilities named by stages": table(
        "epoch\tstage\tN1\tN2\tN3\tR\tW", lambda i, s: f"{i}\t{s}\t.1\t.1\t.1\t.1\t.6"),
    "letters and digits of R&K": table("stage", lambda i, s: R_AND_K[s]),
    "start and end dates apart": table(
        "Start Date,Start Time,End Date,End Time,Event", lambda i, s: (
            f"2021-02-03,{at(30 * i)},2021-02-03,{at(30 * i + 30)},Sleep stage {s}")),
    "label before its times": "".join(f"{s}\t{30 * i}\t30\n" for i, s in enumerate(NIGHT)),
    "every second line empty": "\r\r\n".join(NIGHT),
    "N3 (SWS)": table("onset,duration,stage", lambda i, s: (
        f"{30 * i},30,{'N3 (SWS)' if s == 'N3' else s}")),
}  # fmt: skip


@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_tables_that_are_read(tmp_path: Path, text: str) -> None:
    assert by_epoch(scored(tmp_path, text)) == NIGHT


REFUSED = {
    "milliseconds unsaid": (table("onset,duration,stage", lambda i, s: f"{30000 * i},30000,{s}"),
                            "unit"),
    "minutes unsaid": (table("onset,stage", lambda i, s: f"{0.5 * i},{s}"), "unit"),
    "samples as onsets": (table("onset,stage", lambda i, s: f"{7680 * i},{s}"), "unit"),
    "seconds since 1970": (table("timestamp,stage", lambda i, s: f"{1612389600 + 30 * i},{s}"),
                           "another moment"),
    "days of a spreadsheet": (
        table("time,stage", lambda i, s: f"{44230.9166667 + i / 2880:.8f},{s}"), "unit"),
    "minutes and seconds as hours": (
        table("time,stage", lambda i, s: f"{i // 2:02d}:{30 * (i % 2):02d},{s}"), "unit"),
    "times to the minute": (table("time,stage", lambda i, s: f"{at(30 * i, '%H:%M')},{s}"),
                            "give seconds"),
    "Start Epoch": (table("Start Epoch,End Epoch,Stage", lambda i, s: f"{i + 1},{i + 2},{s}"),
                    "'Start Epoch' that may be the number of an epoch or its time"),
    "two clocks": (table("Start (UTC),Start (local),stage", lambda i, s: (
        f"{at(30 * i - 3600)},{at(30 * i)},{s}")), "two different times"),
    "an empty line among stages": ("\n".join([*NIGHT[:5], "", *NIGHT[6:]]),
                                   "empty line among its stages, line 6"),
    "a label before a lone number": (
        "".join(f"{s}\t{30 * i + 30}\n" for i, s in enumerate(NIGHT)), "columns is unclear"),
    "events in minutes": ("onset,duration,event\n" + "".join(
        f"{i},0.25,Hypopnea\n" for i in range(9)), "last 0.25"),
    "a text": ("Dear colleague\nplease find the night attached.\nBest wishes\n",
               "no sleep stage in line 1"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_tables_that_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(AnnotationError, match=reason):
        scored(tmp_path, text, "n.txt" if "," not in text else "n.csv")


def test_codes_as_numpy_writes_them(tmp_path: Path) -> None:
    codes = {"W": 0, "N1": 1, "N2": 2, "N3": 3, "R": 4}
    text = "\n".join(f"{codes[s]:.18e}" for s in NIGHT)
    assert by_epoch(scored(tmp_path, text, "n.txt", "yasa")) == NIGHT


def test_remarks_make_no_hypnogram() -> None:
    notes = [(100.0, "awake"), (300.0, "REM"), (400.0, "Movement"), (450.0, "Wake")]
    found = scoring_from_texts([Annotation(t, None, text) for t, text in notes], [])
    assert not found.stages and found.dropped == {"no duration": 4}


def test_two_scorers_of_marks_without_a_length() -> None:
    first = [Annotation(30.0 * i, None, f"Sleep stage {s}") for i, s in enumerate(NIGHT)]
    second = [*first[:4], Annotation(120.0, None, "Sleep stage N1"), *first[5:]]
    said: list[str] = []
    found = scoring_from_texts([*first, *second], said)
    assert by_epoch(found) == [*NIGHT[:4], "-", *NIGHT[5:]]
    assert found.dropped == {"overlapping": 2} and "two scorers" in said[0]


WORDS = {
    "Hypopnea without desaturation": ("hypopnea", ""),
    "Hypopnea (no arousal)": ("hypopnea", ""),
    "Hypopnea and arousal": ("hypopnea", ""),
    "no apnea": None,
    "Desaturation (no apnea)": ("desaturation", ""),
    "Obs Apnea": ("apnea", "obstructive"),
    "Ob.A": ("apnea", "obstructive"),
    "Cn.A": ("apnea", "central"),
    "Mix. Apnea": ("apnea", "mixed"),
    "Gemengde apneu": ("apnea", "mixed"),
    "Zentr. Apnoe": ("apnea", "central"),
    "Non-obstructive apnea": ("apnea", ""),
    "Apn?e obstructive": ("apnea", "obstructive"),
    "Hypopnea?": ("unsure", ""),
    "Possible apnea": ("unsure", ""),
    "Arousal?": None,
    "Apnea start": None,
    "End of apnea": None,
    "Obstructive sleep apnea patient": None,
    "SpO2Desat": ("desaturation", ""),
    "Sättigungsabfall": ("desaturation", ""),
    "SpO2-Abfall": ("desaturation", ""),
    "Ontwaakreactie": ("arousal", ""),
    "Mouvement périodique des jambes": ("limb_movement", "periodic"),
    "Limb Movement (Periodic)": ("limb_movement", "periodic"),
    "Movimento da perna": ("limb_movement", ""),
    "Beenbeweging": ("limb_movement", ""),
    "Ronquido": ("snore", ""),
    "Limitation de débit": ("flow_limitation", ""),
    "RMMA": ("bruxism", ""),
}  # fmt: skip


@pytest.mark.parametrize(("word", "event"), WORDS.items())
def test_event_words(word: str, event: tuple[str, str] | None) -> None:
    assert event_of(word) == event


@pytest.mark.parametrize(
    ("word", "stage"),
    [
        ("Stage 3/4", "N3"), ("NREM stage 2", "N2"), ("Estágio N1", "N1"), ("Estadio 2", "N2"),
        ("Slaapstadium 1", "N1"), ("Sueño MOR", "R"), ("Tiefschlaf", "N3"), ("Acordado", "W"),
        ("Stage - MVT", "UNS"), ("Nicht bewertet", "UNS"), ("N1 (NREM1)", "N1"),
        ("N2 (REM)", None), ("Light sleep", None), ("W/N1", None),
    ],
)  # fmt: skip
def test_stage_words(word: str, stage: str | None) -> None:
    assert stage_in_column(word) == stage


def test_luna_instances_are_no_stages_of_events(tmp_path: Path) -> None:
    lines = [f"{s}\t.\t.\t{30 * i}\t{30 * i + 30}\t." for i, s in enumerate(NIGHT)]
    lines += ["arousal\tN2\t.\t65\t70\t.", "apnea\tobstructive\tCannula\t100\t120\tdesat=4"]
    found = scored(tmp_path, "\n".join(lines), "n.annot")
    assert by_epoch(found) == NIGHT
    assert [(e.onset_s, e.type, e.subtype) for e in found.events] == [
        (65.0, "arousal", ""), (100.0, "apnea", "obstructive"),
    ]  # fmt: skip


def test_domino_names_classified_arousals_by_their_cause(tmp_path: Path) -> None:
    day = at(65, "%d.%m.%Y ")
    text = (
        "Signal ID: Arousal\\klassifiziert\nStart Time: 03.02.2021 22:00:00\n\n"
        f"{day}{at(65)},000-{day}{at(68)},000; 3;PLM\n"
        f"{day}{at(165)},000-{day}{at(168)},000; 3;Spontan\n"
    )
    found = scored(tmp_path, text, "Klassifizierte Arousals.txt")
    assert [(e.onset_s, e.duration_s, e.type, e.subtype) for e in found.events] == [
        (65.0, 3.0, "arousal", "limb_movement"), (165.0, 3.0, "arousal", "spontaneous"),
    ]  # fmt: skip


def gamma(epoch: int, event: str, time: str, length: str) -> str:
    cells = [epoch, 100 * epoch, 100 * epoch + 50, 405, event, 50, time, 92, 88, length]
    return "\t".join(map(str, cells))


@pytest.mark.parametrize("heading", ["", "Epoch\tScan\tScan\tCode\tEvent\tLength\tTime\n"])
@pytest.mark.parametrize("form", ["%H:%M:%S", "%I:%M:%S"])
def test_gamma_events_of_wsc(tmp_path: Path, heading: str, form: str) -> None:
    rows = [
        gamma(3, "Hypopnea", at(65, form), "15.0"), gamma(7, "OA", at(200, form), "20.5"),
        gamma(8, "SaO2", at(215, form), "30"), gamma(9, "LMA", at(250, form), ""),
        gamma(12, "Bad ECG epoch", at(330, form), "30"), gamma(14, "Hypopnea", "", "12"),
        gamma(15, "Central Apnea", at(430, form), "0.15"),
    ]  # fmt: skip
    said: list[str] = []
    found = scored(tmp_path, heading + "\n".join(rows), "wsc-n.sco.txt", said=said)
    assert [(e.onset_s, e.duration_s, e.type, e.subtype) for e in found.events] == [
        (65.0, 15.0, "hypopnea", ""), (200.0, 20.5, "apnea", "obstructive"),
        (215.0, 30.0, "desaturation", ""), (250.0, 0.0, "arousal", "limb_movement"),
        (390.0, 12.0, "hypopnea", ""), (430.0, 0.0, "apnea", "central"),
    ]  # fmt: skip
    assert found.dropped == {"artifact": 1}
    assert ("clock of 12 hours" in " ".join(said)) == (form == "%I:%M:%S")
    late = "\n".join(gamma(3 + i, "Hypopnea", at(3665 + 30 * i), "15") for i in range(5))
    with pytest.raises(AnnotationError, match="its clock is not that of the signals"):
        scored(tmp_path, late, "wsc-n.sco.txt")


def test_gamma_stages_without_their_heading(tmp_path: Path) -> None:
    codes = {"W": 0, "N1": 1, "N2": 2, "N3": 4, "R": 5}
    text = "".join(f"{i + 1}\t{codes[s]}\t0\n" for i, s in enumerate(NIGHT))
    assert by_epoch(scored(tmp_path, text, "wsc-n.stg.txt")) == NIGHT


def test_scoring_that_lies_outside_the_signals_is_named_as_unread(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "n.edf", psg(600), start=START.time())
    text = table("time,stage", lambda i, s: f"{at(5 * 3600 + 30 * i)},{s}")
    (tmp_path / "n.csv").write_text(text)
    recording = read_recording(path)
    assert recording.unread == ("n.csv",) and not recording.scoring.stages
    assert "none of the scoring lies in the signals" in recording.warnings


FOUND = {
    "SSC_1.EDF": ["SSC_1.EVTS.csv", "SSC_1.STA"],
    "ucddb002.rec.edf": ["ucddb002_respevt.txt", "ucddb002_stage.txt"],
    "Night1.edf": ["Night1 Flow Events.txt", "Night1 Sleep profile.txt"],
    "a.edf": ["a.edf.csv"],
    "b.edf": ["b (scoring).txt"],
    "c.edf": ["c_Hypnogramm.txt", "c_Schlafstadien.txt"],
    "d.edf": ["d_ipnogramma.csv"],
    "edf/e.edf": ["csv/e.csv"],
}


@pytest.mark.parametrize(("recording", "files"), FOUND.items())
def test_scoring_is_found_by_the_names_that_cohorts_give(
    tmp_path: Path, recording: str, files: list[str]
) -> None:
    for name in (recording, *files):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_annotations(tmp_path / recording)
    assert sorted(str(p.relative_to(tmp_path)) for p in found) == files


def test_scoring_in_another_case_is_named_and_not_taken(tmp_path: Path) -> None:
    for name in ("A1.edf", "a1.csv", "A10.csv", "A1b.csv"):
        (tmp_path / name).touch()
    assert find_annotations(tmp_path / "A1.edf") == ()
    assert find_lookalikes(tmp_path / "A1.edf") == ("a1.csv",)


def test_the_marks_of_cap_are_refused_and_named(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "n1.edf", psg(90))
    (tmp_path / "n1.edf.st").write_bytes(b"\x00\x58")
    recording = read_recording(path)
    assert recording.unread == ("n1.edf.st",)
    assert any("CAP Sleep Database" in said for said in recording.warnings)


def test_tables_say_what_they_hold_beside(tmp_path: Path) -> None:
    said: list[str] = []
    scored(tmp_path, table("epoch,stage_pred,Apnea", lambda i, s: f"{i},{s},{i % 2}"), said=said)
    assert "machine" in " ".join(said) and "1 columns named by an event" in " ".join(said)
    text = table("onset,duration,type,subtype", lambda i, s: f"{30 * i},30,Stage,{s}")
    found = scored(tmp_path, text + "65,15,Apnea,obstructive\n")
    assert by_epoch(found) == NIGHT
    assert [(e.type, e.subtype) for e in found.events] == [("apnea", "obstructive")]
    clocks = table("Start time\tDuration\tStage", lambda i, s: f"{at(30 * i)}\t00:30\t{s}")
    assert by_epoch(scored(tmp_path, clocks, "n.txt")) == NIGHT
