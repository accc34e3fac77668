"""Channel names to slots: cohorts, tiers, conflicts, overrides."""

from pathlib import Path

import numpy as np
import pytest

from sleepfm.contract import BODY, ICML2024, PAPER_MONTAGE, ROBUST
from sleepfm.errors import ChannelError
from sleepfm.recordings import read_recording
from sleepfm.recordings.channel_names import normalise
from sleepfm.recordings.channels import match_channels
from sleepfm.recordings.recording import Channel, Recording
from sleepfm.recordings.scoring.vocabulary import Scoring

BAS = ROBUST.slots["bas"]


def recording(*labels: str, units=None, rates=None) -> Recording:
    """A recording with these channel names and no samples."""
    return Recording(
        sources=(Path("night.edf"),),
        format="EDF",
        duration_s=60,
        start_clock_s=None,
        channels=tuple(
            Channel(x, (rates or {}).get(x, 100.0), (units or {}).get(x, ""), lambda: np.zeros(0))
            for x in labels
        ),
        scoring=Scoring(),
    )


def filled(found):
    return {slot: match.labels for slot, match in found.slots.items()}


COHORTS = {
    "CinC 2018": (
        "F3-M2 F4-M1 C3-M2 C4-M1 O1-M2 O2-M1 E1-M2 Chin1-Chin2 ABD CHEST AIRFLOW SaO2 ECG",
        "C3-M2 C4-M1 O1-M2 O2-M1 E1-M2 ECG CHEST SaO2 ABD",
    ),
    "SHHS": (
        "SaO2|H.R.|EEG(sec)|ECG|EMG|EOG(L)|EOG(R)|EEG|THOR RES|ABDO RES|POSITION|LIGHT|NEW AIR",
        "C3-M2 C4-M1 ECG CHEST SaO2 ABD",
    ),
    "MESA": (
        "EKG|EOG-L|EOG-R|EMG|EEG1|EEG2|EEG3|Pres|Flow|Snore|Thor|Abdo|Leg|Therm|SpO2|HR",
        "C4-M1 ECG CHEST SaO2 ABD",
    ),
    "MrOS": (
        "C3|C4|A1|A2|LOC|ROC|ECG L|ECG R|L Chin|R Chin|Airflow|Thoracic|Abdominal|SaO2",
        "C3-M2 C4-M1 E1-M2 ECG CHEST SaO2 ABD",
    ),
    "CFS": (
        "C3|C4|M1|M2|LOC|ROC|ECG2|ECG1|EMG1|L LEG|AIRFLOW|THOR EFFORT|ABDO EFFORT|SpO2|PULSE",
        "C3-M2 C4-M1 E1-M2 ECG CHEST SaO2 ABD",
    ),
    "WSC": (
        "C3_M2|O1_M2|E1|E2|ECG|thorax|abdomen|spo2|nas_pres",
        "C3-M2 O1-M2 ECG CHEST SaO2 ABD",
    ),
    "HMC": (
        "EEG F4-M1|EEG C4-M1|EEG O2-M1|EEG C3-M2|EMG chin|EOG E1-M2|EOG E2-M2|ECG",
        "C4-M1 O2-M1 C3-M2 E1-M2 ECG",
    ),
    "ISRUC": (
        "LOC-A2|ROC-A1|F3-A2|C3-A2|O1-A2|F4-A1|C4-A1|O2-A1|X1|X2|X3|X4|X5|X6|DC3|X7|X8|SaO2|DC8",
        "E1-M2 C3-M2 O1-M2 C4-M1 O2-M1 ECG ABD SaO2",
    ),
    "DOD-O": (
        "C3_M2|C4_M1|F3_F4|F3_M2|F3_O1|F4_O2|O1_M2|O2_M1|ECG|EMG|EOG1|EOG2",
        "C3-M2 C4-M1 O1-M2 O2-M1 ECG",
    ),
    "Alice": (
        "EEG F3-A2|EEG C3-A2|EEG C4-A1|EEG O1-A2|EEG O2-A1|EOG LOC-A2|EOG ROC-A2|EMG Chin|ECG II"
        "|Effort THO|Effort ABD|SpO2|PulseRate",
        "C3-M2 C4-M1 O1-M2 O2-M1 E1-M2 ECG CHEST SaO2 ABD",
    ),
    "ucddb": (
        "Lefteye|RightEye|EMG|C3A2|C4A1|ECG|SpO2|Sound|Flow|Sum|ribcage|abdo|BodyPos|Pulse",
        "C3-M2 C4-M1 ECG SaO2 CHEST ABD",
    ),
    "Stanford, as SleepFM-clinical groups it": (
        "C3:M2|C4:M1|O1:M2|O2:M1|E1:M2|E2:M2|Chin|EKG|RIP Thora|RIP Abdom|SpO2|SpO2 Masimo",
        "C3-M2 C4-M1 O1-M2 O2-M1 E1-M2 ECG CHEST ABD SaO2",
    ),
    "Stanford against Cz": (
        "C3-Cz|C4-Cz|O1-Cz|M1-Cz|M2-Cz|E1-Cz|EKG_L-Cz|EKG_R-Cz|Chest|Abd",
        "C3-M2 C4-M1 O1-M2 E1-M2 ECG CHEST ABD",
    ),
    "slpdb": (
        "ECG|BP|EEG (C3-O1)|Resp (chest)|Resp (abdominal)|EOG|EMG|SO2",
        "ECG CHEST ABD SaO2",
    ),
}


@pytest.mark.parametrize("cohort", COHORTS)
def test_the_names_of_a_cohort_fill_the_slots_they_mean(cohort: str) -> None:
    names, slots = COHORTS[cohort]
    labels = names.split("|") if "|" in names else names.split()
    found = match_channels(recording(*labels), ROBUST)
    assert set(found.slots) == set(slots.split())
    assert all(match.tier in ("alias", "derive") for match in found.slots.values())
    used = {x for match in found.slots.values() for x in match.labels}
    assert set(found.unmatched) == set(labels) - used


FURTHER = {
    "CinC 2018": "F3-M2=F3-M2 F4-M1=F4-M1 CHIN=Chin1-Chin2 FLOW=AIRFLOW",
    "SHHS": "CHIN=EMG FLOW=NEW_AIR",
    "MESA": "CHIN=EMG LEGS=Leg FLOW=Flow THERM=Therm SNORE=Snore",
    "MrOS": "E2-M2=ROC,A2 CHIN=L_Chin,R_Chin FLOW=Airflow",
    "CFS": "E2-M2=ROC,M2 FLOW=AIRFLOW",
    "HMC": "F4-M1=EEG_F4-M1 E2-M2=EOG_E2-M2 CHIN=EMG_chin",
    "ISRUC": "F3-M2=F3-A2 F4-M1=F4-A1 CHIN=X1",
    "ucddb": "CHIN=EMG FLOW=Flow",
}
"""What fills the further slots of the paper's montage; spaces in names are written _."""


@pytest.mark.parametrize("cohort", FURTHER)
def test_the_names_of_a_cohort_fill_the_further_slots(cohort: str) -> None:
    names, slots = COHORTS[cohort]
    labels = names.split("|") if "|" in names else names.split()
    found = filled(match_channels(recording(*labels), PAPER_MONTAGE))
    wanted = dict(pair.split("=") for pair in FURTHER[cohort].split())
    assert found.keys() == {*slots.split(), *wanted}
    for slot, said in wanted.items():
        assert found[slot] == tuple(said.replace("_", " ").split(","))


def test_no_channel_stands_in_for_a_slot_whose_neighbour_it_is_named_for() -> None:
    """Airflow may stand for a belt, but not where the contract has a slot for airflow."""
    flow = recording("ECG", "Airflow", "Therm", "ECG V1")
    three = match_channels(flow, ROBUST, substitute=True)
    assert filled(three) == {"ECG": ("ECG",), "CHEST": ("Airflow",)}
    whole = match_channels(flow, PAPER_MONTAGE, substitute=True)
    assert filled(whole) == {
        "ECG": ("ECG",),
        "ECG2": ("ECG V1",),
        "FLOW": ("Airflow",),
        "THERM": ("Therm",),
    }


def test_a_pulse_rate_is_no_pulse_wave() -> None:
    found = match_channels(recording("ECG", "Pulse", "PulseRate"), PAPER_MONTAGE)
    assert "PULSE" not in found.slots
    slow = match_channels(recording("ECG", "Pleth", rates={"Pleth": 1.0}), PAPER_MONTAGE)
    assert "PULSE: Pleth is not used: 1 Hz is too slow" in slow.warnings


def test_sleep_edf_needs_substitutes() -> None:
    labels = ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "Resp oro-nasal", "EMG submental"]
    night = recording(*labels)
    with pytest.raises(ChannelError, match="no usable channel; it holds EEG Fpz-Cz"):
        match_channels(night, ROBUST)
    found = match_channels(night, ROBUST, substitute=True)
    assert filled(found) == {
        "C3-M2": ("EEG Fpz-Cz",),
        "O1-M2": ("EEG Pz-Oz",),
        "E1-M2": ("EOG horizontal",),
        "CHEST": ("Resp oro-nasal",),
    }
    assert {m.tier for m in found.slots.values()} == {"substitute"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("EEG (C4-A1)", "C4-M1"),
        ("EOG LOC-A2", "E1_M2"),
        ("EKG", "ecg"),
        ("C3A2", "C3/M2"),
        ("Abdomen#2", "ABDOMEN"),
    ],
)
def test_spellings_of_one_derivation_are_one_name(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("C3-M2", "C3-M2 (Imp)"), ("C3-M2", "C3-O1"), ("EEG", "EEG2"), ("E1", "EEG1"), ("ABD", "AB")],
)
def test_different_derivations_stay_different(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


def test_nasal_pressure_is_preferred_to_a_thermistor_and_it_is_said() -> None:
    for labels in (("Airflow", "Nasal Pressure"), ("PTAF", "Flow"), ("Flow", "Airflow", "Nasal")):
        found = match_channels(recording("ECG", *labels), BODY)
        (used,) = filled(found)["FLOW"]
        assert used in ("Nasal Pressure", "PTAF", "Nasal")
        others = ", ".join(x for x in labels if x != used)
        assert found.warnings == (f"FLOW: {used} is used, preferred to {others} by the table",)
    with pytest.raises(ChannelError, match="FLOW could be Airflow and Flow"):
        match_channels(recording("ECG", "Airflow", "Flow"), BODY)


def test_two_candidates_in_one_tier_are_named() -> None:
    with pytest.raises(ChannelError, match=r"SaO2 could be SaO2 and SpO2.*--channels"):
        match_channels(recording("ECG", "SaO2", "SpO2"), ROBUST)


def test_c3_o1_is_not_c3_m2() -> None:
    found = match_channels(recording("EEG (C3-O1)", "ECG"), ROBUST)
    assert filled(found) == {"ECG": ("ECG",)}


def test_right_eye_and_nasal_flow_fill_nothing() -> None:
    found = match_channels(recording("EOG (right)", "Resp (nasal)", "ECG"), ROBUST)
    assert found.unmatched == ("EOG (right)", "Resp (nasal)")
    assert found.substitutes == {"CHEST": ("Resp (nasal)",)}


def test_a_bare_eeg_is_taken_as_in_shhs_and_said() -> None:
    found = match_channels(recording("EEG"), ROBUST)
    assert filled(found) == {"C4-M1": ("EEG",)}
    assert found.slots["C4-M1"].tier == "alias"
    assert found.warnings == ("EEG has no derivation in its label; assumed C4-M1 as in SHHS",)


def test_mesa_eeg2_is_not_the_eeg2_of_shhs() -> None:
    assert "C3-M2" not in match_channels(recording("EEG1", "EEG2", "EEG3"), ROBUST).slots
    assert "C3-M2" in match_channels(recording("EEG", "EEG2"), ROBUST).slots


def test_a_difference_needs_one_unit_and_one_rate() -> None:
    found = match_channels(recording("C3", "M2", units={"C3": "uV", "M2": "µV"}), ROBUST)
    assert found.slots["C3-M2"].labels == ("C3", "M2")
    assert found.slots["C3-M2"].tier == "derive"
    for other in ({"units": {"C3": "uV", "M2": "mV"}}, {"rates": {"C3": 200.0}}):
        found = match_channels(recording("C3", "M2", "ECG", **other), ROBUST)
        assert "C3-M2" not in found.slots
        assert "C3 minus M2 is not used" in found.warnings[0]


def test_a_channel_too_slow_or_in_another_unit_is_no_candidate() -> None:
    found = match_channels(recording("ECG", "C3-M2", rates={"ECG": 1.0}), ROBUST)
    assert filled(found) == {"C3-M2": ("C3-M2",)}
    assert found.warnings == ("ECG: ECG is not used: 1 Hz is too slow",)
    found = match_channels(recording("ECG", "C3-M2", units={"C3-M2": "Ohm"}), ROBUST)
    assert found.warnings == ("C3-M2: C3-M2 is not used: its unit is Ohm",)


def test_overrides_win_and_may_empty_a_slot(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("ECG: EKG 7\nSaO2: [a, b]\nABD: null\nCHEST: not here\n")
    night = recording("EKG 7", "ECG", "a", "b", "ABD", "Thor")
    found = match_channels(night, ROBUST, overrides=file)
    assert filled(found) == {"ECG": ("EKG 7",), "SaO2": ("a", "b"), "CHEST": ("Thor",)}
    assert found.slots["ECG"].tier == "override"
    assert found.warnings == ("CHEST: the channels file names not here, not in this recording",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- ECG\n", "must hold lines"),
        ("EKG: a\n", "names a slot 'EKG'"),
        ("ECG: [a, b, c]\n", "one label, or two"),
        ("ECG: {a: b}\n", "one label, or two"),
        ("ECG: [unclosed\n", "cannot be read as YAML"),
    ],
)
def test_a_bad_channels_file_is_explained(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ChannelError, match=says):
        match_channels(recording("ECG"), ROBUST, overrides=file)


def test_no_usable_channel_names_what_is_there() -> None:
    labels = [f"Z{i}" for i in range(20)]
    with pytest.raises(ChannelError, match=r"holds Z0, Z1, .*Z11 and 8 more"):
        match_channels(recording(*labels), ROBUST)


def test_real_recordings(recordings_dir: Path) -> None:
    nox = match_channels(read_recording(recordings_dir / "nox-a1-2min.edf"), ICML2024)
    assert filled(nox) == {s: (s,) for s in (*BAS, "ECG")} | {
        "CHEST": ("Chest",), "SaO2": ("Saturation",), "ABD": ("Abdomen",)
    }  # fmt: skip
    slp = match_channels(read_recording(recordings_dir / "slp41-60s.edf"), ICML2024)
    assert filled(slp) == {
        "C4-M1": ("EEG (C4-A1)",), "ECG": ("ECG",), "ABD": ("Resp (abdominal)",)
    }  # fmt: skip
    ucd = match_channels(read_recording(recordings_dir / "ucddb018-eeg-night.edf"), ICML2024)
    assert filled(ucd) == {"C4-M1": ("EEG",)}


@pytest.mark.parametrize(
    "label",
    [
        "ECG imp", "EMG/ECG impedances", "ECG quality", "HR ECG", "C3 imp", "C3-imp", "M1 Ohm",
        "RR", "HR", "Resp Rate", "C-Flow", "cRIP Flow", "Flow Patient", "Tidal Vol", "EtCO2",
        "Thorax Impedance", "Chest Position", "Phase Angle", "EMG Abdomen", "Intercostal EMG",
        "SpO2 Status", "OX stat", "SpO2 Quality", "SpO2 trend", "Sat alarm", "PR", "Chest temp",
        "Abdominal Pressure", "Snore (chest)", "Chest ECG", "ABD+", "THO-", "ECG+", "XSum", "DC1",
    ],
)  # fmt: skip
def test_a_channel_beside_the_signals_fills_nothing(label: str) -> None:
    assert filled(match_channels(recording("C4-A1", label), ROBUST)) == {"C4-M1": ("C4-A1",)}


def test_the_two_leads_of_a_belt_are_subtracted() -> None:
    found = match_channels(recording("Thor+", "Thor-", "ABD-", "ABD+", "EKG+", "EKG-"), ROBUST)
    assert filled(found) == {
        "ECG": ("EKG+", "EKG-"), "CHEST": ("Thor+", "Thor-"), "ABD": ("ABD+", "ABD-"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("chest", "abdomen"),
    [
        ("Tórax", "Abdômen"), ("Banda Torácica", "Banda Abdominal"), ("Borst", "Buik"),
        ("Sangle Thoracique", "Sangle Abdominale"), ("Torace", "Addome"), ("Brust", "Bauch"),
    ],
)  # fmt: skip
def test_belts_in_other_languages(chest: str, abdomen: str) -> None:
    found = match_channels(recording(chest, abdomen, "ECG EKG2-EKG1"), ROBUST)
    assert filled(found) == {"ECG": ("ECG EKG2-EKG1",), "CHEST": (chest,), "ABD": (abdomen,)}
    assert found.slots["ECG"].turned
