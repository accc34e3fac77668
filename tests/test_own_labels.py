"""Labels that people give: each line as it was written, or a sentence; for the group as well."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from stores import drawn_store

import sleepfm_index
from sleepfm_index.errors import FormatError
from sleepfm_index.storage.labels import append_labels, check_labels, read_labels
from sleepfm_index.storage.modes import set_mode


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_store(tmp_path_factory.mktemp("labels") / "s", {"a": 20}, index=False)


@pytest.fixture
def file(path: Path) -> Path:
    file = path / "labels" / "mine.jsonl"
    file.unlink(missing_ok=True)
    append_labels(path, "mine", [4, 5], "odd", "ak")
    append_labels(path, "mine", [4], None, "ak")
    append_labels(path, "mine", [6], 'a "quoted", "sha256": "0123456789abcdef"}', "ak")
    return file


def labelled(path: Path) -> list[int]:
    with sleepfm_index.open(path) as store:
        rows = store.sql("SELECT clip_id FROM labels ORDER BY clip_id").to_pylist()
    return [row["clip_id"] for row in rows]


def test_a_changed_byte_is_never_believed(path: Path, file: Path) -> None:
    whole, expected = file.read_bytes(), read_labels(path, "mine")
    assert sorted(expected) == [5, 6]
    believed = []
    for at in range(len(whole)):
        for bit in (1, 1 << (at % 8)):
            changed = bytearray(whole)
            changed[at] ^= bit
            file.write_bytes(changed)
            try:
                check_labels(path)
                believed.append((at, bit))
            except FormatError as error:
                assert "mine.jsonl" in str(error) and "\n" not in str(error)
    assert believed == []
    file.write_bytes(whole)
    check_labels(path)


def test_damaged_labels_are_an_error_of_who_asks_for_them_alone(path: Path, file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"odd"', b'"odt"', 1))
    with sleepfm_index.open(path) as store:
        assert store.sql("SELECT count(*) AS n FROM clips").to_pylist() == [{"n": 20}]
        with pytest.raises(FormatError, match=r"line 1 of .*mine\.jsonl is not as it was written"):
            store.sql("SELECT * FROM labels")
    (found,) = sleepfm_index.verify(path).findings
    assert (found.where, found.what) == ("labels/mine.jsonl", "damaged")
    with pytest.raises(FormatError, match="--repair"):
        sleepfm_index.compact(path)
    damaged = file.read_bytes()
    (found,) = sleepfm_index.verify(path, repair=True).findings
    assert found.repaired.startswith("its undamaged lines stay")
    assert (path / "quarantine" / "labels-mine.jsonl").read_bytes() == damaged
    assert labelled(path) == [5, 6]
    assert sleepfm_index.verify(path).findings == ()


def test_a_line_cut_short_was_never_acknowledged(path: Path, file: Path) -> None:
    whole = file.read_bytes()
    for cut in (1, 2, 20, 60):
        file.write_bytes(whole[:-cut])
        assert (6 in read_labels(path, "mine")) == (cut == 1)
        append_labels(path, "mine", [7], "x", "ak")
        assert set(read_labels(path, "mine")) == ({5, 6, 7} if cut == 1 else {5, 7})
        assert sleepfm_index.verify(path).findings == ()


def test_lines_without_a_checksum_are_those_of_an_earlier_program(path: Path, file: Path) -> None:
    line = '{"clip_id": 8, "value": "x", "by": "ak", "at": "2026-01-01T00:00:00Z"}\n'
    file.write_text(line)
    assert labelled(path) == [8]
    file.write_text(line.replace("}", ', "sha257": "0123456789abcdef"}'))
    with pytest.raises(FormatError):
        labelled(path)
    file.write_text(line)
    append_labels(path, "mine", [9], "y", "ak")
    assert labelled(path) == [8, 9] and sleepfm_index.verify(path).findings == ()


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_line_without_a_checksum_after_one_with_it_is_refused(
    path: Path, file: Path, end: str
) -> None:
    with file.open("a") as appended:
        appended.write(
            '{"clip_id": 8, "value": "x", "by": "ak", "at": "2026-01-01T00:00:00Z"}' + end
        )
    with pytest.raises(FormatError, match="line 5 of"):
        labelled(path)
    sleepfm_index.verify(path, repair=True)
    assert labelled(path) == [5, 6]


@pytest.mark.parametrize("what", ["labels", "labels/.lock", "labels/mine.jsonl"])
def test_labels_are_not_written_through_a_link(tmp_path: Path, what: str) -> None:
    store = drawn_store(tmp_path / "s", {"a": 5}, index=False)
    append_labels(store, "mine", [1], "x", "ak")
    outside = tmp_path / "outside"
    (store / what).rename(outside)
    (store / what).symlink_to(outside)
    held = {p: p.read_bytes() for p in (outside, *outside.rglob("*")) if p.is_file()}
    with pytest.raises(FormatError, match=r"is a (symbolic )?link"):
        append_labels(store, "mine", [2], "x", "ak")
    if what == "labels":
        with pytest.raises(FormatError, match=r"is a (symbolic )?link"):
            read_labels(store, "mine")
        with pytest.raises(FormatError, match=r"is a (symbolic )?link"):
            sleepfm_index.delete(store, where="clip_id = 1")
    assert {p: p.read_bytes() for p in held} == held


def test_labels_in_a_pipe_do_not_hang(tmp_path: Path) -> None:
    store = drawn_store(tmp_path / "s", {"a": 5}, index=False)
    (store / "labels").mkdir()
    os.mkfifo(store / "labels" / "mine.jsonl")
    with pytest.raises(FormatError, match="not a plain file"):
        append_labels(store, "mine", [1], "x", "ak")
    assert labelled(store) == []


def test_a_compaction_cut_short_shows_no_labels_of_deleted_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = drawn_store(tmp_path / "s", {"a": 6}, index=False)
    append_labels(store, "mine", [1, 2, 5], "x", "ak")
    sleepfm_index.delete(store, where="clip_id IN (2, 5)")
    assert labelled(store) == [1]

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sleepfm_index.lifecycle.compact._remove_labels", killed)
    with pytest.raises(KeyboardInterrupt):
        sleepfm_index.compact(store)
    assert labelled(store) == [1]
    monkeypatch.undo()
    sleepfm_index.compact(store)
    assert labelled(store) == [1] and len(read_labels(store, "mine")) == 1


def test_the_group_reads_them(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 5}, index=False)
    set_mode(path, "group")
    append_labels(path, "mine", [1], "x", "ak")
    sleepfm_index.delete(path, where="clip_id = 1")
    append_labels(path, "mine", [2], "x", "ak")
    sleepfm_index.compact(path)
    folder = path / "labels"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert stat.S_IMODE((folder / "mine.jsonl").stat().st_mode) == 0o640
    assert stat.S_IMODE((folder / ".lock").stat().st_mode) == 0o600


def test_what_is_no_column_of_labels_is_told(path: Path, file: Path) -> None:
    (file.parent / "Notes.txt").write_text("x")
    (file.parent / "other.jsonl").symlink_to(file)
    found = {f.where: f.what for f in sleepfm_index.verify(path).findings}
    assert found == {"labels/Notes.txt": "leftover", "labels/other.jsonl": "damaged"}
    sleepfm_index.verify(path, repair=True)
    assert labelled(path) == [5, 6] and sleepfm_index.verify(path).findings == ()
