"""What a recording gives holds nothing of who slept and when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recording_files import Signal, noise, psg, stages, write_edf

from sleepfm.clips import cut_clips
from sleepfm.contract import ROBUST
from sleepfm.errors import SleepFMError
from sleepfm.recordings import read_recording
from sleepfm.recordings.channels import match_channels
from sleepfm.recordings.identifying_names import without_identity
from sleepfm.scan import scan
from sleepfm_cli.scan import _show
from sleepfm_index.building.subjects import Subjects
from sleepfm_index.building.tables import segment_rows
from sleepfm_index.schema import SUBJECT_COLUMNS

PLANTED = ("Dorothea", "Gale", "03.05.61", "1961", "AZ-99172", "Emerald")
NOTES = [
    (10.0, None, "Dorothea Gale asks for water"),
    (20.0, 5.0, "Arousal|Dorothea Gale"),
    (40.0, 30.0, "Sleep stage N2|Dorothea 03.05.61"),
    (50.0, 5.0, "Dr Emerald: hypopnea of Dorothea Gale"),
]


def planted(tmp_path: Path) -> Path:
    """A file with a person in every field of its header that is not needed to read it."""
    path = write_edf(tmp_path / "n.edf", psg(90), [*stages("W")[:1], *NOTES])
    raw = bytearray(path.read_bytes())
    count = int(raw[252:256])
    raw[8:88] = b"AZ-99172 F 03-MAY-1961 Dorothea_Gale".ljust(80)
    raw[88:168] = b"Startdate 03-MAY-1961 AZ-99172 Emerald Dorothea".ljust(80)
    raw[168:176] = b"03.05.61"
    raw[197:236] = b" Dorothea Gale".ljust(39)
    for start, width in ((16, 80), (136, 80), (224, 32)):  # transducer, prefiltering, reserved
        for i in range(count):
            at = 256 + start * count + width * i
            raw[at : at + width] = b"Dorothea Gale 03.05.61"[:width].ljust(width)
    path.write_bytes(raw)
    return path


def everything(*things: object) -> str:
    return " ".join(map(repr, things))


def test_what_a_recording_gives_holds_no_planted_word(tmp_path: Path) -> None:
    recording = read_recording(planted(tmp_path))
    channels = match_channels(recording, ROBUST)
    clips = cut_clips(recording, channels, ROBUST)
    kept = everything(
        recording.format, recording.channels, recording.scoring, recording.warnings, channels,
        clips.raw_stage, clips.stage, clips.events, clips.warnings,
    )  # fmt: skip
    for word in PLANTED:
        assert word not in kept
    assert clips.raw_stage[:2] == ("Sleep stage W", "Sleep stage N2")
    assert [e.type for e in clips.events] == ["arousal", "hypopnea"]
    assert str(tmp_path) not in kept


def test_scan_holds_no_planted_word_and_no_path(tmp_path: Path) -> None:
    said = everything(scan([planted(tmp_path)]))
    for word in (*PLANTED, str(tmp_path)):
        assert word not in said


@pytest.mark.parametrize("field", [184, 236, 244, 252])
def test_an_error_does_not_show_what_stands_in_a_field(tmp_path: Path, field: int) -> None:
    path = planted(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[field : field + 4] = b"Gale"
    path.write_bytes(raw)
    with pytest.raises(SleepFMError) as caught:
        read_recording(path)
    assert not any(word in str(caught.value) for word in (*PLANTED, str(tmp_path)))


def test_a_name_as_unit_is_not_repeated(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "n.edf", {"ECG": Signal(noise(60, 100), 100, "Dorothea")})
    recording = read_recording(path)
    clips = cut_clips(recording, match_channels(recording, ROBUST), ROBUST)
    assert clips.warnings == ("ECG: ECG has an unknown unit; values are used unscaled",)


def test_a_scoring_file_is_not_named_in_what_is_stored(tmp_path: Path) -> None:
    write_edf(tmp_path / "Gale_Dorothea.edf", psg(60))
    (tmp_path / "Gale_Dorothea.xml").write_text("<x>")
    recording = read_recording(tmp_path / "Gale_Dorothea.edf")
    assert recording.warnings
    assert "Dorothea" not in everything(recording.warnings)


def test_the_clock_is_a_time_of_day_without_a_date(tmp_path: Path) -> None:
    recording = read_recording(planted(tmp_path))
    assert recording.start_clock_s == 22.5 * 3600
    clips = cut_clips(recording, match_channels(recording, ROBUST), ROBUST)
    assert clips.clock_s is not None
    assert np.all((clips.clock_s >= 0) & (clips.clock_s < 86400))


def test_a_name_in_a_channel_or_a_unit_is_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {
        "Dorothea Gale": Signal(noise(90, 25), 25),
        "Chest Dorothea": Signal(noise(90, 25), 25),
    }
    ordinary = ("Nasal Pressure", "Body Position", "Left Leg", "SpO2 Quality", "Light 2")
    named |= {label: Signal(noise(90, 25), 25) for label in ordinary}
    signals = {**psg(90), **named}
    signals["ECG"] = Signal(noise(90, 200), 200, "Gale")
    path = write_edf(tmp_path / "n.edf", signals, [*stages("W")[:1]])
    recording = read_recording(path)
    kept = [without_identity(channel.label) for channel in recording.channels]
    assert "... ..." in kept and "Chest ..." in kept
    assert set(ordinary) <= set(kept) and {*psg(90)} <= set(kept)
    _show(scan([path]))
    shown = capsys.readouterr().out
    assert "unknown unit" in shown and "Gale)" not in shown


def test_a_store_names_no_person_in_a_channel(tmp_path: Path) -> None:
    signals = {**psg(90), "Dorothea Gale": Signal(noise(90, 25), 25)}
    recording = read_recording(write_edf(tmp_path / "n.edf", signals, [*stages("W")[:1]]))
    channels = match_channels(recording, ROBUST)
    assert "Dorothea Gale" in channels.unmatched
    clips = replace(
        cut_clips(recording, channels, ROBUST), warnings=("'Dorothea Gale': it is flat",)
    )
    rows = segment_rows(
        "k" * 64, "n", recording, channels, clips, {}, Subjects({}, SUBJECT_COLUMNS), ("bas",)
    )
    (row,) = rows.recordings.to_pylist()
    assert "... ..." in row["unmatched"] and "Gale" not in repr(row)
