"""Inputs that were read wrongly somewhere, with what is right; and scoring files of public data."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from recording_files import Signal, noise, write_edf

import sleepfm_index
from sleepfm.clips import cut_clips
from sleepfm.contract import ICML2024, ROBUST
from sleepfm.errors import AnnotationError
from sleepfm.recordings import find_recordings, read_recording
from sleepfm.recordings.channels import match_channels
from sleepfm.recordings.find_scoring import find_annotations
from sleepfm.recordings.recording import Channel, Recording, unique_labels
from sleepfm.recordings.scoring.read import read_scoring
from sleepfm.recordings.scoring.vocabulary import Scoring
from sleepfm.recordings.wfdb import Wfdb
from sleepfm.scan import scan
from sleepfm_index.building.subjects import read_subjects
from sleepfm_index.errors import StoreError

TEN = ("W", "W", "N1", "N2", "N2", "N3", "N3", "N2", "R", "R")
TWENTY = (*TEN, *TEN[:1], *TEN[2:], "W")


def per_30_s(recording: Recording, start: float, end: float) -> tuple[str, ...]:
    """Stage at the middle of every 30 s; "-" where there is none."""
    found = []
    for middle in np.arange(start + 15, end, 30):
        here = [
            s.stage
            for s in recording.scoring.stages
            if s.onset_s <= middle < s.onset_s + s.duration_s
        ]
        found.append(here[0] if here else "-")
    return tuple(found)


def events(recording: Recording) -> list[tuple[float, float, str, str]]:
    return [
        (round(e.onset_s, 3), e.duration_s, e.type, e.subtype) for e in recording.scoring.events
    ]


@pytest.mark.parametrize(
    ("case", "start", "stages"),
    [
        ("t01_starttime_label", 300, TEN),
        ("t04_epoch_column_offset", 300, TEN),
        ("t07_20s_epochs_bare", 0, "W W W W N1 N1 N2 N2 N2 N2 N3 N3 N3 N3 N2 N2 R R R R"),
        ("t08_stages_csv", 0, "W W N1 N2 N2 N3 R UNS"),
        ("t08b_stages_csv_24h", 0, "W W N1 N2 N2 N3 R UNS"),
        ("t10_decimal_comma", 0, "W - N2"),
        ("t11_utf16_tsv", 0, "W N2"),
        ("t12_luna_eannot_unknown", 0, "UNS UNS W W N1 N2 N3 R UNS UNS"),
        ("b03_channel_linked_annotations", 0, TWENTY),
        ("b06b_stage_marks_and_movement_marks", 0, TWENTY),
        ("b10c_subsecond_start", 0, TWENTY),
        ("f05_hypnogram_edf_other_clock", 0, TWENTY),
        ("f15_nsrr_folders", 0, TWENTY),
        ("f50_brainvision_comments", 0, TWENTY),
        ("b07_nsrr_unsure", 0, TWENTY),
        ("b08b_events_table_outside", 0, TWENTY),
        ("b01_events_duration_zero", 0, TWENTY),
    ],
)
def test_stages_are_where_they_were_scored(cases_dir: Path, case: str, start, stages) -> None:
    (item,) = find_recordings([cases_dir / case]).recordings
    recording = read_recording(item.path)
    wanted = tuple(stages.split()) if isinstance(stages, str) else stages
    assert per_30_s(recording, start, start + 30 * len(wanted)) == wanted
    before = per_30_s(recording, 0, start)
    assert set(before) <= {"-"}


def test_onsets_since_1970_count_from_the_start(cases_dir: Path) -> None:
    recording = read_recording(cases_dir / "t03d_mne_csv_orig_none_long" / "n.edf")
    assert recording.scoring.stages[0].onset_s == 0
    assert per_30_s(recording, 590, 620) == ("N1",)
    assert recording.duration_s == 3 * 3600


def test_events_without_a_length_are_kept_as_such(cases_dir: Path) -> None:
    recording = read_recording(cases_dir / "b01_events_duration_zero" / "n.edf")
    assert events(recording) == [
        (100, 0, "apnea", "obstructive"), (200, 0, "hypopnea", ""),
        (300, 0, "apnea", "central"), (400, 0, "hypopnea", ""),
    ]  # fmt: skip


def test_of_two_scorers_neither_is_settled_in_silence(cases_dir: Path) -> None:
    recording = read_recording(cases_dir / "b04_two_scorers" / "n.edf")
    stages = per_30_s(recording, 0, 600)
    agreed = (0, 2, 3, 5, 7, 8, 10, 13, 15, 16, 17, 19)
    assert [i for i, s in enumerate(stages) if s != "-"] == list(agreed)
    assert recording.scoring.dropped == {"overlapping": 16}
    assert any("two scorers" in w for w in recording.warnings)


def test_unsure_is_a_kind_of_its_own_that_a_rule_can_count(cases_dir: Path, tmp_path: Path) -> None:
    recording = read_recording(cases_dir / "b07_nsrr_unsure" / "shhs2-200001.edf")
    assert Counter(e.type for e in recording.scoring.events) == {"hypopnea": 1, "unsure": 2}
    sleepfm_index.build(tmp_path / "s", [cases_dir / "b07_nsrr_unsure"])
    with sleepfm_index.open(tmp_path / "s") as store:
        (row,) = store.sql("SELECT sum(unsure_s) AS u, sum(hypopnea_s) AS h FROM clips").to_pylist()
    assert (row["u"], row["h"]) == (50, 20)


def test_events_outside_the_signals_are_counted_in_the_store(
    cases_dir: Path, tmp_path: Path
) -> None:
    report = sleepfm_index.build(tmp_path / "s", [cases_dir / "b08b_events_table_outside"])
    assert report.outcomes[0].dropped == {"outside the signals": 3}
    with sleepfm_index.open(tmp_path / "s") as store:
        (row,) = store.sql("SELECT dropped['outside the signals'] AS n FROM recordings").to_pylist()
    assert row["n"] == 3


def test_an_unknown_code_costs_one_epoch_and_is_named(cases_dir: Path) -> None:
    (file,) = scan([cases_dir / "b09c_profusion_code"]).files
    assert file.words == {"code 10": 1}
    assert file.dropped == {"unknown word": 1}
    recording = read_recording(cases_dir / "b09c_profusion_code" / "n.xml".replace("xml", "edf"))
    wanted = [*TEN, "-", "UNS", *TWENTY[12:]]
    assert per_30_s(recording, 0, 600) == tuple(wanted)


def test_a_start_keeps_its_fraction(cases_dir: Path) -> None:
    assert read_recording(cases_dir / "b10c_subsecond_start" / "n.edf").start_clock_s == 79200.75


def test_an_ecg_the_other_way_round_is_turned_and_said(cases_dir: Path) -> None:
    # The files hold the same samples under three names: ECG1-ECG2, ECG2-ECG1, and ECG1, ECG2.
    signals, said = [], []
    for name in ("a", "b", "c"):
        recording = read_recording(cases_dir / "c07_ecg_direction" / f"{name}.edf")
        channels = match_channels(recording, ROBUST)
        said.append([w for w in channels.warnings if "is inverted" in w])
        signals.append(cut_clips(recording, channels, ROBUST).signals["ecg"].ravel())
    assert np.corrcoef(signals[0], signals[2])[0, 1] > 0.99
    assert np.corrcoef(signals[0], signals[1])[0, 1] < -0.99
    assert [len(s) for s in said] == [0, 1, 0]


@pytest.mark.parametrize("contract", [ROBUST, ICML2024], ids=lambda c: c.name)
@pytest.mark.parametrize("name", ["nounit", "c127"])
def test_a_saturation_is_a_percentage_under_both_contracts(
    cases_dir: Path, name: str, contract
) -> None:
    recording = read_recording(cases_dir / "c08_spo2_codes" / f"{name}.edf")
    clips = cut_clips(recording, match_channels(recording, contract), contract)
    values = clips.signals["resp"][:, 1]
    if contract is ICML2024:  # 655.35 counts per % above -32,768
        assert 80 < np.median((values + 32768) / 655.35) < 100
    assert not any("unknown unit" in w for w in clips.warnings if "SaO2" in w)


def test_a_skew_is_applied_and_said(cases_dir: Path) -> None:
    pytest.importorskip("wfdb")
    recording = read_recording(cases_dir / "d01_wfdb_skew" / "sk.hea")
    assert "ECG by 400 samples" in recording.warnings[0]
    raw = np.fromfile(cases_dir / "d01_wfdb_skew" / "sk.dat", "<i2").reshape(-1, 2)
    ecg = recording.channels[1].read()
    np.testing.assert_array_equal(ecg[:-400], raw[400:, 1])
    assert np.isnan(ecg[-400:]).all()


def test_files_of_one_name_are_told_and_can_be_named_by_folder(
    cases_dir: Path, tmp_path: Path
) -> None:
    folder = cases_dir / "d06_same_stem"
    assert all("2 files would be named psg" in f.warnings[0] for f in scan([folder]).files)
    report = sleepfm_index.build(tmp_path / "s", [folder], ids="folder")
    assert [o.recording_id for o in report.of("added")] == ["sub1_psg", "sub2_psg"]


def test_rows_and_recordings_that_do_not_meet_are_said(cases_dir: Path, tmp_path: Path) -> None:
    folder = cases_dir / "d07_subjects_unmatched"
    report = sleepfm_index.build(tmp_path / "s", [folder], subjects=folder / "subjects.csv")
    said = " ".join(report.notes)
    assert "no recording" in said or "no row" in said


@pytest.mark.parametrize("name", ["bom", "semicolon", "space", "na", "NA_", "dot"])
def test_ages_as_tables_write_them(cases_dir: Path, name: str) -> None:
    subjects = read_subjects(cases_dir / "d08_subjects_codes" / f"{name}.csv")
    missing = name in ("na", "NA_", "dot")
    assert subjects.of("r0").facts["nsrr_age"] == (None if missing else 45.0)


def test_a_heading_in_another_case_is_said(cases_dir: Path) -> None:
    with pytest.raises(StoreError, match="write recording_id for the column Recording_ID"):
        read_subjects(cases_dir / "d08_subjects_codes" / "case.csv")


def test_codes_of_missing_values_are_missing_or_refused(cases_dir: Path) -> None:
    try:
        subjects = read_subjects(cases_dir / "d08_subjects_codes" / "subjects.csv")
    except StoreError as error:
        assert "nsrr_age" in str(error) or "nsrr_" in str(error)
        return
    ages = [subjects.of(f"r{i}").facts["nsrr_age"] for i in range(5)]
    assert ages[0] is None and ages[1] is None and ages[2] == 45


def test_event_kinds_go_by_what_happened_not_by_the_first_word(cases_dir: Path) -> None:
    recording = read_recording(cases_dir / "e02_wrong_event_kinds" / "n.edf")
    assert [(e[0], e[2], e[3]) for e in events(recording)] == [
        (100, "arousal", "respiratory"), (200, "arousal", "respiratory"),
        (400, "apnea", "obstructive"), (500, "apnea", "obstructive"),
        (600, "apnea", "obstructive"), (700, "apnea", "central"),
    ]  # fmt: skip
    assert recording.scoring.dropped == {"artifact": 2}


def test_43_annotations_exported_by_mne(cases_dir: Path) -> None:
    scoring = read_recording(cases_dir / "f42_cropped_and_exported_by_mne" / "n.edf").scoring
    assert (len(scoring.stages), len(scoring.events), dict(scoring.dropped)) == (40, 3, {})
    assert scoring.events[0].onset_s == pytest.approx(87.43)


def test_scoring_that_is_there_and_not_read_is_named(cases_dir: Path) -> None:
    found = scan([cases_dir / "t15_unread_scoring"])
    by_name = {f.file: f for f in found.files}
    assert by_name["n.edf"].unread == ("n.rml",)
    assert by_name["n.edf"].scored_epochs == {"W": 1, "N2": 1}  # n.STA
    assert by_name["01-03-0001 PSG.edf"].scored_epochs["N2"] == 3
    assert [name for name, _ in found.left_out] == ["01-03-0001 Annotations.edf"]


def hours(path: Path, seconds: float) -> Path:
    """Write a recording of a given length with one slow signal."""
    return write_edf(path, {"ECG": Signal(noise(seconds, 1), 1)})


def test_the_levels_of_a_bids_sidecar_name_the_stages(cases_dir: Path, tmp_path: Path) -> None:
    for file in (cases_dir / "real" / "ds004348").glob("sub-001*"):
        shutil.copy(file, tmp_path)
    path = hours(tmp_path / "sub-001_ses-001_task-sleep_eeg.edf", 27780)
    assert next(p.name for p in find_annotations(path)).endswith("acq-scoring_events.tsv")
    recording = read_recording(path)
    table = [
        line.split("\t")[2]
        for line in next(tmp_path.glob("*acq-scoring_events.tsv")).read_text().split("\n")[1:]
        if line
    ]
    levels = {"1": "W", "2": "R", "3": "N1", "4": "N2", "5": "N3"}
    wanted = Counter(levels[code] for code in table if levels.get(code))
    assert Counter(s.stage for s in recording.scoring.stages) == wanted
    assert not any(s.stage == "ART" for s in recording.scoring.stages)
    marks = next(tmp_path.glob("*task-sleep_events.tsv")).read_text().split("\n")
    arousals = sum(line.endswith("\tArousal") for line in marks)
    assert sum(e.type == "arousal" for e in recording.scoring.events) == arousals


def test_codes_without_a_sidecar_are_refused_and_read_by_a_coding(
    cases_dir: Path, tmp_path: Path
) -> None:
    name = "sub-001_ses-001_task-sleep_acq-PSGScoring_events.tsv"
    source = cases_dir / "real" / "ds005207" / name
    with pytest.raises(AnnotationError, match="name one of yasa"):
        read_scoring(source, None, [], duration_s=43080)
    shutil.copy(source, tmp_path)
    levels = {"1": "Wake", "2": "REM", "3": "N1", "4": "N2", "5": "N3", "6": "Disconnected"}
    (tmp_path / "task-sleep_events.json").write_text(json.dumps({"staging": {"Levels": levels}}))
    scoring = read_scoring(tmp_path / name, None, [], duration_s=43080)
    counted = Counter(s.stage for s in scoring.stages)
    assert counted == {"W": 683, "R": 99, "N1": 110, "N2": 402, "N3": 142, "UNS": 1}
    assert {s.duration_s for s in scoring.stages} == {30.0}


def test_boas_has_two_columns_of_stages_and_the_human_one_counts(cases_dir: Path) -> None:
    path = cases_dir / "real" / "boas" / "sub-2_task-Sleep_acq-psg_events.tsv"
    rows = [line.split("\t") for line in path.read_text().split("\n")[1:] if line]
    scoring = read_scoring(path, None, [], "yasa", duration_s=30.0 * len(rows))
    names = {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "R"}
    assert [s.stage for s in scoring.stages] == [names[row[5]] for row in rows]


@pytest.mark.parametrize(
    ("name", "coding", "epoch_s", "duration_s"),
    [
        ("yasa/notebooks_data_full_6hrs_100Hz_hypno.hyp", "rk", 1.0, 21829.0),
        ("yasa/notebooks_data_full_6hrs_100Hz_hypno_30s.txt", None, 30.0, 21629.0),
        ("yasa/notebooks_sub-02_hypno_30s.txt", None, 30.0, 2940.0),
        ("ucddb/ucddb002_stage.txt", "ucddb", 30.0, 22462.0),
    ],
)
def test_bare_lists_of_public_data(
    cases_dir: Path, name: str, coding, epoch_s: float, duration_s: float
) -> None:
    path = cases_dir / "real" / name
    rows = [
        x
        for x in path.read_text().split()
        if x in ["0", "1", "2", "3", "4", "5", "W", "N1", "N2", "N3", "R"]
    ]
    scoring = read_scoring(path, None, [], coding, duration_s=duration_s)
    assert {s.duration_s for s in scoring.stages} == {epoch_s}
    assert abs(len(scoring.stages) - len(rows)) < 12  # a heading's and a comment's numbers
    pairs = itertools.pairwise(scoring.stages)
    assert all(b.onset_s - a.onset_s == pytest.approx(epoch_s) for a, b in pairs)


def test_all_headers_of_slpdb_are_read(cases_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("wfdb")
    headers = sorted((cases_dir / "real" / "slpdb_headers").glob("*.hea"))
    assert len(headers) == 18
    for header in headers:
        shutil.copy(header, tmp_path)
        (tmp_path / f"{header.stem}.dat").write_bytes(b"\0" * 250 * 30 * 12)
        recording = Wfdb().read(tmp_path / header.name)
        assert recording.start_clock_s is not None
        assert "ECG" in [c.label for c in recording.channels]
        assert len(recording.channels[0].read())


def test_the_montages_of_38_cohorts_fill_what_they_hold_and_nothing_else(cases_dir: Path) -> None:
    montages = json.loads((cases_dir / "montages.json").read_text())
    assert len(montages) == 38
    for cohort, montage in montages.items():
        labels = unique_labels(name for name, _, _ in montage["channels"])
        recording = Recording(
            (Path("n.edf"),), "EDF", 600.0, None,
            tuple(
                Channel(label, float(rate), unit, lambda: np.zeros(1, np.float32))
                for label, (_, unit, rate) in zip(labels, montage["channels"], strict=True)
            ),
            Scoring(),
        )  # fmt: skip
        if montage["slots"]:
            found = match_channels(recording, ROBUST)
            assert set(found.slots) == set(montage["slots"]), cohort
            # stand-ins never refuse what the plain build takes, and change nothing of it
            more = match_channels(recording, ROBUST, substitute=True)
            assert found.slots.items() <= more.slots.items(), cohort
