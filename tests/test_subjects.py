"""subjects.csv as people have it: read as it is meant, or refused with the line."""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepfm.errors import SubjectsError
from sleepfm.recordings.identifying_names import identifying_column
from sleepfm.subjects import alike_id, check_subjects
from sleepfm.subjects import read_subjects as read_table
from sleepfm.training.splits import read_subjects as read_for_training
from sleepfm_index.building.subjects import match_ids, read_subjects
from sleepfm_index.errors import StoreError


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "subjects.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_known_and_further_columns(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "recording_id,subject_id,site,nsrr_age,nsrr_sex,arm\n007,p1,lab,51.5,female,2\n008,,,,,\n",
    )
    subjects = read_subjects(path)
    first = subjects.of("007")
    assert (first.subject_id, first.site) == ("p1", "lab")
    assert (first.facts["nsrr_age"], first.facts["arm"]) == (51.5, 2)
    assert subjects.of("008").subject_id == "008"
    assert subjects.of("unlisted").subject_id == "unlisted"
    assert read_for_training(path) == {"007": "p1", "008": "008"}


def test_the_oldest_are_pooled(tmp_path: Path) -> None:
    subjects = read_subjects(write(tmp_path, "recording_id,nsrr_age\na,93\nb,89\nc,40\n"))
    facts = [subjects.of(r).facts for r in "abc"]
    assert [f["nsrr_age"] for f in facts] == [89.0, 89.0, 40.0]
    assert [f["nsrr_age_gt89"] for f in facts] == [True, False, False]


@pytest.mark.parametrize("age", ["90+", ">89", "> 89", ">=90", "\u226590", "89+", "90 and over"])
def test_an_age_that_is_not_given_is_read_as_90_and_said(age: str) -> None:
    table = check_subjects(
        ["recording_id", "nsrr_age"], [(2, ["a", age]), (3, ["b", age]), (4, ["c", "45,5"])]
    )
    assert [table.rows[r]["nsrr_age"] for r in "abc"] == [89.0, 89.0, 45.5]
    assert [table.rows[r]["nsrr_age_gt89"] for r in "abc"] == [True, True, False]
    assert table.notes == (
        f"nsrr_age: {age} is read as 90 (2 times)",
        "nsrr_age: 45,5 is read with a decimal comma (1 times)",
    )


@pytest.mark.parametrize("age", ["80-90", "1,234", "<18", "90+-"])
def test_an_age_that_may_mean_two_things_is_refused(age: str) -> None:
    with pytest.raises(SubjectsError, match="line 2: nsrr_age is"):
        check_subjects(["recording_id", "nsrr_age"], [(2, ["a", age])])


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("recording_id,nsrr_age,café\na,40.5,crème\n".encode(), ""),
        (b"\xef\xbb\xbf" + "recording_id,nsrr_age,café\r\na,40.5,crème\r\n".encode(), ""),
        ("recording_id,nsrr_age,café\na,40.5,crème\n".encode("utf-16"), ""),
        ("recording_id,nsrr_age,café\na,40.5,crème\n".encode("cp1252"), "read as Windows-1252"),
        ("recording_id;nsrr_age;café\na;40,5;crème\n".encode(), ""),
        ("sep=;\nrecording_id;nsrr_age;café\na;40,5;crème\n".encode(), ""),
        ("recording_id\tnsrr_age\tcafé\na\t40.5\tcrème\n".encode(), ""),
        ("recording_id|nsrr_age|café\na|40.5|crème\n".encode(), ""),
        ('"recording_id", "nsrr_age", "café"\n"a", 40.5, crème\n'.replace(", ", ",").encode(), ""),
        (" recording_id , nsrr_age , café \n a , 40.5 , crème \n\n,,\n".encode(), ""),
        ("recording_id,nsrr_age,café,\na,40.5,crème,\n".encode(), ""),
        ("recording_id,nsrr_age,cafe\u0301\na,40.5,cre\u0300me\n".encode(), ""),
    ],
)
def test_as_spreadsheets_write_it(tmp_path: Path, content: bytes, note: str) -> None:
    subjects = read_subjects(write(tmp_path, content))
    facts = subjects.of("a").facts
    assert (facts["nsrr_age"], facts["café"]) == (40.5, "crème")
    assert note in " ".join(subjects.notes)
    assert bool(note) == bool(subjects.notes)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("subject_id\np1\n", "needs a column recording_id"),
        ("ID,nsrr_age\na,4\n", "rename ID to recording_id"),
        ("recording_id\na\na\n", r"names the recording 'a' twice, in lines 2 and 3"),
        ("recording_id\na\n a \n", "twice"),
        ("recording_id\nn\u0303\n\u00f1\n", "twice"),
        ("recording_id,x,x\na,1,2\n", "rename the column x"),
        ("recording_id,x,X\na,1,2\n", "rename the column X"),
        ("recording_id,nsrr_age\na,old\n", "line 2: nsrr_age is 'old', not a number"),
        ("recording_id,nsrr_age\nb,40\na,1960\n", "line 3: nsrr_age is 1960, outside 0 to 120"),
        ("recording_id,nsrr_age\na,-5\n", "outside 0 to 120 years"),
        ("recording_id,nsrr_bmi\na,inf\n", "outside 5 to 150"),
        ("recording_id,nsrr_sex\na,1\n", "write male, female or other"),
        ("recording_id,nsrr_age_gt89\na,perhaps\n", "write true or false"),
        ("recording_id,x\na,1,2\n", "line 2 has 3 cells, the header has 2"),
        ("recording_id,,x\na,1,2\n", "column 2 has values but no name"),
        ("recording_id,x\na,\x1b[31m\n", "control characters"),
        ("recording_id,x\n\x1b[31m,1\n", "control characters"),
        ("recording_id,a;b'\na,1\n", "rename the column"),
        ('recording_id,x\na,"1\n', "cannot be read as CSV"),
        ("Recording_ID,x\na,1\n", "write recording_id for the column Recording_ID"),
        ("", "cannot be read"),
        ("\n\n", "cannot be read"),
        (b"recording_id\n\x81\x8d\n", "not text"),
        (b"recording_id\na\0b\n", "not text"),
    ],
)
def test_a_bad_table_gets_one_sentence(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(StoreError, match=sentence) as refused:
        read_subjects(write(tmp_path, text))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    [
        *("stage", "Stage", "score", "rank", "hypopnea_s", "AROUSAL_S", "quality_bas_flat", "bas"),
        *("has_ecg", "slots_x", "clip_id", "clock", "query_clip_id", "others", "source", "p_N2"),
    ],
)
def test_no_column_takes_a_name_of_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match=f"rename the column {name}: the store uses this name"):
        read_subjects(write(tmp_path, f"recording_id,{name}\na,1\n"))


IDENTIFYING = [
    *("name", "Name", "surname", "LastName", "first_name", "patient name", "initials", "dob"),
    *("birth_date", "date_of_birth", "Geburtsdatum", "visit date", "psg_date", "address", "zip"),
    *("postcode", "phone", "e-mail", "MRN", "patient_id", "ssn", "path", "file_name"),
    *("scorer", "hospital_number", "nsrr_dob"),
]
ORDINARY = [
    *("diagnosis", "ess", "ahi", "cpap", "arm", "visit", "treatment", "race", "nsrr_race"),
    *(
        "birth_weight",
        "education",
        "weight",
        "capacity",
        "update_count",
        "batch",
        "filename_ok_not",
    ),
    *("medication", "psqi", "name_recall_test", "address_memory_test", "cluster", "own score"),
]


@pytest.mark.parametrize("name", IDENTIFYING)
def test_columns_that_tell_who_it_is_are_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, f"recording_id,{name}\na,x\n")
    with pytest.raises(StoreError, match="--allow-identifying"):
        read_subjects(path)
    taken = read_subjects(path, allow_identifying=True)
    assert taken.of("a").facts[name] == "x"


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_columns_are_taken(name: str) -> None:
    assert identifying_column(name) is None


@pytest.mark.parametrize("cell", ["1960-05-17", "17.05.1960", "5/17/60", "jane@doe.org"])
def test_cells_that_tell_who_it_is_are_refused(tmp_path: Path, cell: str) -> None:
    with pytest.raises(StoreError, match="line 3: comment looks like"):
        read_subjects(write(tmp_path, f"recording_id,comment\na,fine\nb,seen {cell}\n"))


def test_missing_numbers_are_missing_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path, "recording_id,nsrr_age,nsrr_bmi\na,-9,NA\nb,999,n/a\nc,.,-9\nd,50,20\n")
    subjects = read_subjects(path)
    assert [subjects.of(r).facts["nsrr_age"] for r in "abcd"] == [None, None, None, 50]
    assert [subjects.of(r).facts["nsrr_bmi"] for r in "abcd"] == [None, None, None, 20]
    assert "nsrr_age: -9 is read as missing (1 times)" in subjects.notes


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["00123", "02134"], ["00123", "02134"]),
        (["12345678901234567890", "1"], ["12345678901234567890", "1"]),
        (["1", "2", ""], [1, 2, None]),
        (["1", "2.5"], [1.0, 2.5]),
        (["1", "3b"], ["1", "3b"]),
        (["true", "False"], [True, False]),
        (["yes", "no"], ["yes", "no"]),
        (["1e400", "2"], ["1e400", "2"]),
        (["inf", "2"], ["inf", "2"]),
        (["NaN", "2"], [None, 2]),
        (["+1", "2"], ["+1", "2"]),
        (["=cmd|x", "y"], ["=cmd|x", "y"]),
    ],
)
def test_texts_stay_texts(tmp_path: Path, cells: list[str], expected: list[object]) -> None:
    lines = [f"r{at},{cell}" for at, cell in enumerate(cells)]
    subjects = read_subjects(write(tmp_path, "\n".join(["recording_id,x", *lines])))
    found = [subjects.of(f"r{at}").facts["x"] for at in range(len(cells))]
    assert found == expected
    assert [type(f) for f in found] == [type(e) for e in expected]


def test_an_age_of_another_name_is_pointed_out(tmp_path: Path) -> None:
    subjects = read_subjects(write(tmp_path, "recording_id,age\na,40\n"))
    assert any("rename it to nsrr_age" in note for note in subjects.notes)


def test_ids_that_do_not_meet_are_named() -> None:
    found = match_ids(
        ["sim-0001.edf", "SIM-0002", " sim-0003 ", "nobody", "Jose\u0301"],
        ["sim-0001", "sim-0002", "sim-0003", "sim-0004", "José"],
    )
    assert found.matched == ("sim-0003", "José")
    assert found.unmatched == ("sim-0001.edf", "SIM-0002", "nobody")
    assert found.alike == {"sim-0001.edf": "sim-0001", "SIM-0002": "sim-0002"}
    assert found.without == ("sim-0001", "sim-0002", "sim-0004")
    said = found.sentences("s.csv")
    assert said[0].startswith("s.csv: 3 rows name no recording: sim-0001.edf (perhaps sim-0001)")
    assert said[1] == "s.csv: 3 of 5 recordings have no row: sim-0001, sim-0002, sim-0004"
    assert match_ids(["a"], ["a"]).sentences("s.csv") == []


def test_no_such_table(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(StoreError, match="cannot be read"):
            read_subjects(path)


_CELL = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cf", "Cn", "Co")),
    max_size=8,
)


@given(
    st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=6, unique_by=lambda r: r[0]),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_is_written_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    delimiter: str,
    encoding: str,
) -> None:
    """Whatever stands in the cells: the text comes back, or there is one sentence."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    writer.writerows([("recording_id", "remark"), *rows])
    path = tmp_path_factory.getbasetemp() / "drawn.csv"
    path.write_bytes(buffer.getvalue().encode(encoding))
    try:
        table = read_table(path)
    except SubjectsError as error:
        assert "\n" not in str(error)
        return
    for (name, cell), (found, row) in zip(
        [r for r in rows if r[0].strip() or r[1].strip()], table.rows.items(), strict=True
    ):
        assert alike_id(found) == alike_id(name)
        value = row["remark"]
        assert value is None or isinstance(value, (str, int, float, bool))
        if isinstance(value, str):
            assert value == unicodedata.normalize("NFC", cell).strip()


@given(st.lists(st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.booleans())))
def test_values_of_any_type_end_in_a_table_or_a_sentence(values: list[object]) -> None:
    lines = [(at, (f"r{at}", value)) for at, value in enumerate(values, 1)]
    try:
        table = check_subjects(["recording_id", "x"], lines)  # type: ignore[arg-type]
    except SubjectsError as error:
        assert "\n" not in str(error)
    else:
        assert len(table.rows) == len(values)
