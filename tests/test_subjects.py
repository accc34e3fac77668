from __future__ import annotations

from pathlib import Path

import pytest

from sleepfm_index.building.subjects import read_subjects
from sleepfm_index.errors import StoreError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "subjects.csv"
    path.write_text(text)
    return path


def test_known_and_further_columns(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "recording_id,subject_id,site,nsrr_age,nsrr_sex,visit\n007,p1,lab,51.5,female,2\n008,,,,,\n",
    )
    subjects = read_subjects(path)
    first = subjects.of("007")
    assert (first.subject_id, first.site) == ("p1", "lab")
    assert (first.facts["nsrr_age"], first.facts["visit"]) == (51.5, 2)
    assert subjects.of("008").subject_id == "008"
    assert subjects.of("unlisted").subject_id == "unlisted"


def test_the_oldest_are_pooled(tmp_path: Path) -> None:
    subjects = read_subjects(write(tmp_path, "recording_id,nsrr_age\na,93\nb,89\nc,40\n"))
    facts = [subjects.of(r).facts for r in "abc"]
    assert [f["nsrr_age"] for f in facts] == [89.0, 89.0, 40.0]
    assert [f["nsrr_age_gt89"] for f in facts] == [True, False, False]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("subject_id\np1\n", "needs a column recording_id"),
        ("recording_id\na\na\n", "twice"),
        ("recording_id,stage\na,W\n", "rename the column stage"),
        ("recording_id,x,x\na,1,2\n", "rename the column x"),
        ("recording_id,nsrr_age\na,old\n", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_a_bad_table_gets_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(StoreError, match=sentence):
        read_subjects(write(tmp_path, text))


def test_no_such_table(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        read_subjects(tmp_path / "none.csv")
