"""A query by a file leaves out its own clips by what was recorded, not by the name of the file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import sleepfm_index
from sleepfm.simulate.cohort import simulate_cohort


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights")
    simulate_cohort(folder, subjects=3, hours=0.05, seed=21)
    (folder / "s.csv").write_text(
        "recording_id,subject_id\nsim-0001,p1\nsim-0002,p1\nsim-0003,p3\n"
    )
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, nights: Path) -> Path:
    path = tmp_path_factory.mktemp("identity") / "store"
    files = [nights / "sim-0001.edf", nights / "sim-0002.edf"]
    report = sleepfm_index.build(
        path, files, weights="untrained", subjects=nights / "s.csv", ids="hash", backend="torch"
    )
    assert [o.status for o in report.outcomes] == ["added", "added"]
    assert report.notes == ("s.csv: 1 row names no recording: sim-0003",)
    return path


def ask(store: Path, file: Path, exclude: str = "subject") -> sleepfm_index.Result:
    with sleepfm_index.open(store) as opened:
        return opened.query("ecg", to="ecg", file=file, at="+30", k=20, exclude=exclude)


def test_facts_are_joined_before_ids_are_hashed(store: Path) -> None:
    with sleepfm_index.open(store) as opened:
        rows = opened.sql("SELECT DISTINCT recording_id, subject_id FROM clips").to_pylist()
    assert {row["subject_id"] for row in rows} == {"p1"} and len(rows) == 2
    assert not any("sim" in row["recording_id"] for row in rows)


def test_a_renamed_copy_is_the_recording_that_it_is(
    store: Path, nights: Path, tmp_path: Path
) -> None:
    renamed = tmp_path / "sim-0003.edf"
    shutil.copy(nights / "sim-0001.edf", renamed)
    for file in (nights / "sim-0001.edf", renamed):
        assert len(ask(store, file)) == 0  # both nights are of one person
        assert "own subject left out" in ask(store, file).note
        found = ask(store, file, "recording").to_pylist()
        assert len(found) == 6 and found[0]["score"] < 0.99999
        whole = ask(store, file, "none").to_pylist()
        assert len(whole) == 12 and whole[0]["score"] > 0.9999


def test_another_file_of_a_known_name_is_not_that_recording(
    store: Path, nights: Path, tmp_path: Path
) -> None:
    other = tmp_path / "sim-0001.edf"
    shutil.copy(nights / "sim-0003.edf", other)
    answer = ask(store, other)
    assert len(answer) == 12
    assert "the file is not a recording of this store, so nothing was excluded" in answer.note
    assert "nothing was excluded" not in ask(store, other, "none").note


def test_a_table_that_differs_from_the_store_is_told(
    store: Path, nights: Path, tmp_path: Path
) -> None:
    table = tmp_path / "later.csv"
    table.write_text("recording_id,subject_id,nsrr_age\nsim-0001,p1,40\nsim-0002,p1,\n")
    files = [nights / "sim-0001.edf", nights / "sim-0002.edf"]
    report = sleepfm_index.build(
        store, files, weights="untrained", subjects=table, ids="hash", backend="torch"
    )
    (note,) = report.notes
    assert note.startswith("later.csv differs from the stored values of ")
    assert "run `sleepfm-index annotate later.csv` to apply it" in note
    sleepfm_index.annotate(store, table)
    again = sleepfm_index.build(
        store, files, weights="untrained", subjects=table, ids="hash", backend="torch"
    )
    assert again.notes == ()
