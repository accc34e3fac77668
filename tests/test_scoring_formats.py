"""Every scoring format: its stages, and as many events as a plain count over the file gives."""

from __future__ import annotations

import datetime
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from recording_files import Signal, noise, psg, write_edf

from sleepfm.errors import AnnotationError
from sleepfm.recordings import read_recording
from sleepfm.recordings.find_scoring import find_annotations
from sleepfm.recordings.scoring.formats import ENDINGS, READERS
from sleepfm.recordings.scoring.read import read_scoring

NIGHT = ["W", "N1", "N2", "N2", "N3", "N3", "R", "R", "W", "N2"]
EVENTS = [
    (35.0, 14.0, "Hypopnea"), (70.5, 22.0, "Obstructive apnea"), (95.0, 12.5, "Central apnea"),
    (130.0, 11.0, "Hypopnea"), (160.0, 5.0, "Arousal"), (200.0, 18.0, "Mixed apnea"),
    (250.0, 8.0, "Apnea artifact"),
]  # fmt: skip
APNEAS = sum("pnea" in text and "artifact" not in text for _, _, text in EVENTS)
START = 22 * 3600.0


def clock(seconds: float, form: str = "%H:%M:%S") -> str:
    return (datetime.datetime(2021, 2, 3, 22) + datetime.timedelta(seconds=seconds)).strftime(form)


def nsrr() -> str:
    one = (
        "<ScoredEvent><EventType>x</EventType><EventConcept>{}</EventConcept><Start>{}</Start>"
        "<Duration>{}</Duration></ScoredEvent>"
    )
    names = {"W": "Wake|0", "R": "REM sleep|5"}
    rows = [one.format(names.get(s, f"Stage {s[1:]} sleep|{s[1:]}"), 30 * i, 30.0)
            for i, s in enumerate(NIGHT)]  # fmt: skip
    rows += [one.format(f"{text}|{text}", onset, length) for onset, length, text in EVENTS]
    return f"<PSGAnnotation><ScoredEvents>{''.join(rows)}</ScoredEvents></PSGAnnotation>"


def profusion() -> str:
    codes = {"W": 0, "N1": 1, "N2": 2, "N3": 3, "R": 5}
    events = "".join(
        f"<ScoredEvent><Name>{text}</Name><Start>{onset}</Start><Duration>{length}</Duration>"
        "</ScoredEvent>"
        for onset, length, text in EVENTS
    )
    stages = "".join(f"<SleepStage>{codes[s]}</SleepStage>" for s in NIGHT)
    return (
        f"<CMPStudyConfig><EpochLength>30</EpochLength><ScoredEvents>{events}</ScoredEvents>"
        f"<SleepStages>{stages}</SleepStages></CMPStudyConfig>"
    )


def rml() -> str:
    names = {"W": "Wake", "R": "REM", "N1": "NonREM1", "N2": "NonREM2", "N3": "NonREM3"}
    changes = [(i, s) for i, s in enumerate(NIGHT) if i == 0 or NIGHT[i - 1] != s]
    stages = "".join(f'<Stage Type="{names[s]}" Start="{30 * i}"/>' for i, s in changes)
    events = "".join(
        f'<Event Family="Respiratory" Type="{text.title().replace(" ", "")}" Start="{onset}" '
        f'Duration="{length}"/>'
        for onset, length, text in EVENTS
    )
    return (
        '<PatientStudy xmlns="http://www.respironics.com/PatientStudy.xsd"><Acquisition><Sessions>'
        "<Session><RecordingStart>2021-02-03T22:00:00</RecordingStart><Duration>300</Duration>"
        "</Session></Sessions></Acquisition><ScoringData><StagingData><UserStaging>"
        f"<NeuroAdultAASMStaging>{stages}</NeuroAdultAASMStaging></UserStaging></StagingData>"
        f"<Events>{events}</Events></ScoringData></PatientStudy>"
    )


def luna(columns: int) -> str:
    rows = [(s, 30.0 * i, 30.0 * i + 30) for i, s in enumerate(NIGHT)]
    rows += [(text.replace(" ", "_"), onset, onset + length) for onset, length, text in EVENTS]
    cells = {
        3: "{0}\t{1}\t{2}", 4: "{0}\t.\t{1}\t{2}", 5: "{0}\t.\t.\t{1}\t{2}",
        6: "{0}\t.\t.\t{1}\t{2}\t.",
    }  # fmt: skip
    return "# comment\n" + "\n".join(cells[columns].format(*row) for row in rows)


def table(start: str, length: str, label: str, words: str = "{}") -> str:
    rows = [(30.0 * i, 30.0, words.format(s)) for i, s in enumerate(NIGHT)]
    rows = sorted([*rows, *EVENTS])
    lines = [f"{start},{length},{label}"]
    return "\n".join([*lines, *(f"{clock(a)},{b},{text}" for a, b, text in rows)])


def remlogic() -> str:
    kinds = {"W": "SLEEP-S0", "R": "SLEEP-REM", "N1": "SLEEP-S1", "N2": "SLEEP-S2",
             "N3": "SLEEP-S3"}  # fmt: skip
    rows = [(30.0 * i, 30, kinds[s], s) for i, s in enumerate(NIGHT)]
    rows += [(a, b, text.upper().replace(" ", "-"), "S2") for a, b, text in EVENTS]
    rows += [(100.0, 6, "MCAP-A1", "S2")]
    head = "RemLogic Event Export\nPatient:\tX\nEvents Included:\nSLEEP-S0\nMCAP-A1\n\n"
    lines = ["Sleep Stage\tPosition\tTime [hh:mm:ss]\tEvent\tDuration[s]\tLocation"]
    lines += [f"{s}\tUnknown\t{clock(a)}\t{text}\t{b}\tC4-A1" for a, b, text, s in sorted(rows)]
    return head + "\n".join(lines)


def allscore() -> str:
    rows = [(30.0 * i, f"STAGE - {s}") for i, s in enumerate(NIGHT)]
    rows += [
        (a, f"{'AROUSAL' if 'rousal' in text else 'RESPIRATORY EVENT'} - DUR: {b} SEC. - "
            f"{text.upper()} - DESAT 4 %")
        for a, b, text in EVENTS
    ]  # fmt: skip
    rows.append((1.0, "LIGHTS OUT"))
    return "\n".join(f"{clock(a)}.00\t{text}" for a, text in sorted(rows))


def mne_txt() -> str:
    rows = [(30.0 * i, 30.0, f"Sleep stage {s}") for i, s in enumerate(NIGHT)]
    head = "# MNE-Annotations\n# orig_time : 2021-02-03 22:00:00+00:00\n"
    head += "# onset, duration, description\n"
    return head + "\n".join(f"{a}, {b}, {text}" for a, b, text in sorted([*rows, *EVENTS]))


def start_stop() -> str:
    words = {"W": "Wake", "R": "REM", "N1": "Stage 1", "N2": "Stage 2", "N3": "Stage 3"}
    rows = [f"{30.0 * i},{30.0 * i + 30},{words[s]},{k}"
            for i, (k, s) in enumerate(zip(range(10), NIGHT, strict=True))]  # fmt: skip
    return "\n".join(["Start,Stop,StageName,StageNumber", *rows, rows[-1]])


WITH_EVENTS = {
    "n-nsrr.xml": nsrr(),
    "n.xml": profusion(),
    "n.rml": rml(),
    "n3.annot": luna(3), "n4.annot": luna(4), "n5.annot": luna(5), "n6.annot": luna(6),
    "stages.csv": table("Start Time", "Duration (seconds)", "Event"),
    "bids_events.tsv": "\n".join(
        ["onset\tduration\ttrial_type",
         *(f"{30 * i}\t30\tSleep stage {s}" for i, s in enumerate(NIGHT)),
         *(f"{a}\t{b}\t{text}" for a, b, text in EVENTS)]
    ),
    "cap.txt": remlogic(),
    "w.allscore.txt": allscore(),
    "mne.txt": mne_txt(),
}  # fmt: skip


@pytest.mark.parametrize("name", WITH_EVENTS)
def test_stages_and_a_plain_count_of_events(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(WITH_EVENTS[name])
    scoring = read_scoring(tmp_path / name, START, [], duration_s=300.0, start_day=737824)
    per_epoch = [
        next(s.stage for s in scoring.stages if s.onset_s <= t < s.onset_s + s.duration_s)
        for t in range(15, 300, 30)
    ]
    assert per_epoch == NIGHT
    counted = Counter(e.type for e in scoring.events)
    assert counted["apnea"] + counted["hypopnea"] == APNEAS
    assert counted["arousal"] == 1
    assert scoring.dropped["artifact"] == 1
    lengths = {round(e.onset_s, 1): e.duration_s for e in scoring.events}
    whole_seconds = name in ("cap.txt", "stages.csv", "w.allscore.txt")
    assert lengths[70.0 if whole_seconds else 70.5] == pytest.approx(22.0)


def test_edf_plus_with_events(tmp_path: Path) -> None:
    notes = [(30.0 * i, 30.0, f"Sleep stage {s}") for i, s in enumerate(NIGHT)]
    path = write_edf(tmp_path / "n.edf", psg(300), annotations=[*notes, *EVENTS])
    counted = Counter(e.type for e in read_recording(path).scoring.events)
    assert counted["apnea"] + counted["hypopnea"] == APNEAS


def test_start_stop_and_stage_name_of_sleepfm_clinical(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text(start_stop())
    scoring = read_scoring(tmp_path / "n.csv", None, [], duration_s=300.0)
    assert [s.stage for s in scoring.stages] == NIGHT
    assert not scoring.dropped


def test_respevt_of_ucddb(tmp_path: Path) -> None:
    text = (
        "\nTime    \tType\t\tPB/CS\tDuration\tDesaturation\tSnore\tArousal\tB/T\n"
        "\t\t\t\t\tLow\t%Drop\t\t\tRate\tChange\n\n"
        "22:00:35\tHYP-C\t\t\t16\t93.4\t3.8\t-\t+\n"
        "22:01:40\tAPNEA-O\t\t\t21\t88\t6\t+\t+\n"
        "22:03:00\tHYP-O\t\tPB\t12\t91\t4\t-\t-\n\x1a"
    )
    (tmp_path / "u_respevt.txt").write_text(text)
    scoring = read_scoring(tmp_path / "u_respevt.txt", START, [], duration_s=300.0)
    assert [(e.onset_s, e.duration_s, e.type, e.subtype) for e in scoring.events] == [
        (35, 16, "hypopnea", "central"), (100, 21, "apnea", "obstructive"),
        (180, 12, "hypopnea", "obstructive"),
    ]  # fmt: skip


def test_dreams_has_epochs_of_five_seconds(tmp_path: Path) -> None:
    rows = [code for code in (5, 3, 2, 1, 4) for _ in range(12)]
    (tmp_path / "HypnogramAASM_n.txt").write_text("\n".join(["[HypnogramAASM]", *map(str, rows)]))
    write_edf(tmp_path / "n.edf", {"ECG": Signal(noise(300, 10), 10)})
    scoring = read_recording(tmp_path / "n.edf").scoring
    assert {s.duration_s for s in scoring.stages} == {5.0}
    assert [s.stage for s in scoring.stages[::12]] == ["W", "N1", "N2", "N3", "R"]


def test_domino_exports_of_one_recording_are_joined(tmp_path: Path) -> None:
    folder = tmp_path / "P1" / "Analysedaten"
    folder.mkdir(parents=True)
    head = "Signal ID: {}\nStart Time: 03.02.2021 22:00:00\nUnit: \nSignal Type: {}\n{}\n"
    stages = [f"{clock(30 * i)},000; {'Rem' if s == 'R' else 'Wake' if s == 'W' else s}"
              for i, s in enumerate(NIGHT)]  # fmt: skip
    extra = "Events list: N3,N2,N1,Rem,Wake,Artefakt\nRate: 30 s\n"
    (folder / "Schlafprofil.txt").write_text(
        head.format("SchlafProfil\\profil", "Discret", extra) + "\n".join(stages)
    )
    flow = [f"{clock(a)},500-{clock(a + b)},500; {b:.0f};{text}" for a, b, text in EVENTS[:4]]
    (folder / "Flow Events.txt").write_text(
        head.format("FlowD\\flow", "Impuls", "") + "\n".join(flow)
    )
    (folder / "Arousals.txt").write_text(
        head.format("Arousal\\a", "Impuls", "") + f"{clock(160)},000-{clock(165)},000; 5;Arousal\n"
    )
    path = write_edf(tmp_path / "P1" / "night.edf", psg(300), start=datetime.time(22))
    scoring = read_recording(path).scoring
    assert [s.stage for s in scoring.stages] == NIGHT
    assert Counter(e.type for e in scoring.events) == {"apnea": 2, "hypopnea": 2, "arousal": 1}


def test_mass_finds_its_base_and_reads_epochs_of_20_s(tmp_path: Path) -> None:
    write_edf(tmp_path / "01-02-0001 PSG.edf", psg(200))
    base = [(20.0 * i, 20.0, f"Sleep stage {s[-1]}") for i, s in enumerate(NIGHT)]
    write_edf(tmp_path / "01-02-0001 Base.edf", {}, annotations=base, start=datetime.time(22, 30))
    scoring = read_recording(tmp_path / "01-02-0001 PSG.edf").scoring
    assert [s.stage for s in scoring.stages] == NIGHT
    assert {s.duration_s for s in scoring.stages} == {20.0}


def test_wsc_stages_in_columns_of_codes(tmp_path: Path) -> None:
    codes = {"W": 0, "N1": 1, "N2": 2, "N3": 3, "R": 5}
    rows = [f"{i}\t{codes[s]}\t{codes[s]}" for i, s in enumerate(NIGHT, 1)]
    (tmp_path / "w.stg.txt").write_text(
        "Epoch\tUser-Defined Stage\tCAST-Defined Stage\n" + "\n".join(rows)
    )
    scoring = read_scoring(tmp_path / "w.stg.txt", None, [], duration_s=310.0)
    assert [s.stage for s in scoring.stages] == NIGHT


def test_sta_of_stanford_stages(tmp_path: Path) -> None:
    codes = [0, 1, 2, 2, 4, 3, 5, 5, 7, 2]
    (tmp_path / "n.STA").write_text("\n".join(f"{i} {c} 0" for i, c in enumerate(codes, 1)))
    scoring = read_scoring(tmp_path / "n.STA", None, [], duration_s=300.0)
    wanted = ["W", "N1", "N2", "N2", "N3", "N3", "R", "R", "UNS", "N2"]
    assert [s.stage for s in scoring.stages] == wanted


def test_hdf5_of_dod_gives_signals_and_stages(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    values = noise(300, 250)
    with h5py.File(tmp_path / "n.h5", "w") as file:
        file["hypnogram"] = np.array([0, 1, 2, 2, 3, 3, 4, 4, -1, 2])
        eeg = file.create_group("signals/eeg")
        eeg.attrs["fs"] = 250
        eeg["C3_M2"] = values
        file["signals/ecg/ECG"] = values
        file["signals/ecg"].attrs["fs"] = 250
    recording = read_recording(tmp_path / "n.h5")
    assert [s.stage for s in recording.scoring.stages] == [
        "W", "N1", "N2", "N2", "N3", "N3", "R", "R", "UNS", "N2"
    ]  # fmt: skip
    by_label = {c.label: c for c in recording.channels}
    assert by_label["C3_M2"].sample_rate == 250 and by_label["C3_M2"].unit == "uV"
    np.testing.assert_allclose(by_label["C3_M2"].read(), values, rtol=1e-6)


def test_hdf5_of_bdsp_gives_stages_and_events(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    codes = {"W": 5, "R": 4, "N1": 3, "N2": 2, "N3": 1}
    resp = np.zeros(3000)
    for onset, length, text in EVENTS[:4]:
        kind = {"Hypopnea": 4, "Obstructive apnea": 1, "Central apnea": 2}[text]
        resp[round(10 * onset) : round(10 * (onset + length))] = kind
    resp[2500:2600] = 9
    with h5py.File(tmp_path / "n.h5", "w") as file:
        file.attrs["sampling_rate"] = 10
        file["annotations/stage"] = np.repeat([codes[s] for s in NIGHT], 300)[:, None]
        file["annotations/resp"] = resp[:, None]
    scoring = read_scoring(tmp_path / "n.h5", None, [], duration_s=300.0)
    changes = [s for i, s in enumerate(NIGHT) if i == 0 or NIGHT[i - 1] != s]
    assert [s.stage for s in scoring.stages] == changes
    assert [(e.onset_s, e.type) for e in scoring.events] == [
        (35, "hypopnea"), (70.5, "apnea"), (95, "apnea"), (130, "hypopnea")
    ]  # fmt: skip
    assert scoring.dropped == {"unknown word": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0,30,W\n30,30,N2\n60,30,N2\n90,30,R\n", "duration"),
        ("0,30,W\n30,60,N2\n60,90,N2\n90,120,R\n", "end"),
    ],
)
def test_rows_without_a_heading(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "n.csv").write_text(text)
    scoring = read_scoring(tmp_path / "n.csv", None, [], duration_s=120.0)
    assert [(s.onset_s, s.duration_s) for s in scoring.stages] == [(30.0 * i, 30) for i in range(4)]


def test_a_second_column_that_may_be_either_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("10,20,Hypopnea\n40,50,Hypopnea\n")
    with pytest.raises(AnnotationError, match="a duration or an end"):
        read_scoring(tmp_path / "n.csv", None, [], duration_s=120.0)


def test_scoring_beside_in_parallel_and_inner_folders(tmp_path: Path) -> None:
    signals = tmp_path / "edfs" / "visit1"
    signals.mkdir(parents=True)
    path = write_edf(signals / "p.edf", psg(60))
    for folder in ("annotations-events-nsrr/visit1", "edfs/visit1/annotations", "other/visit1"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "p-nsrr.xml").write_text(nsrr())
    found = {p.relative_to(tmp_path).parts[0] for p in find_annotations(path)}
    assert found == {"annotations-events-nsrr", "edfs"}


def test_a_hypnogram_beside_outranks_a_remark_in_the_signal_file(tmp_path: Path) -> None:
    notes = [(40.0, None, "Sleep stage W"), (100.0, 30.0, "Sleep stage R")]
    path = write_edf(tmp_path / "n.edf", psg(300), annotations=notes, start=datetime.time(22))
    (tmp_path / "n.eannot").write_text("\n".join(NIGHT))
    assert [s.stage for s in read_recording(path).scoring.stages] == NIGHT


def test_every_reader_has_its_endings_and_a_sniffer() -> None:
    for reader in READERS:
        assert reader.endings and all(e == e.lower() for e in reader.endings)
        assert reader.sniff(b"") in (True, False)
    assert len(ENDINGS) == len(set(ENDINGS))
