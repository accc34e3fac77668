"""A store's history is what people did: steps back, names, times."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest
from stores import WEIGHTS, drawn_segment, drawn_store
from typer.testing import CliRunner

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_cli.main import app
from sleepfm_index.errors import QueryError
from sleepfm_index.storage.snapshots import KEPT
from sleepfm_index.storage.writer import Writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return drawn_store(tmp_path / "s", {"a": 6, "b": 5}, index=False)


def clips(path: Path) -> int:
    with sleepfm_index.open(path) as store:
        return len(store)


def build_of(path: Path, *names: str) -> None:
    """What a build of several recordings does: one writer, a commit for each."""
    with Writer(path, WEIGHTS, ROBUST) as writer:
        for seed, name in enumerate(names, 50):
            writer.append(drawn_segment(name, 2, seed))


def test_a_build_of_many_nights_is_one_step_back(path: Path) -> None:
    sleepfm_index.delete(path, recording="b")
    build_of(path, *(f"n{i}" for i in range(KEPT + 3)))
    found = sleepfm_index.snapshots(path)
    assert found[0].clips == 6 + 2 * (KEPT + 3)
    assert [s.clips for s in found[1:3]] == [6, 11]
    # The deletion of before the build can still be undone.
    sleepfm_index.restore(path, found[2].number)
    assert clips(path) == 11


def test_ten_acts_are_kept(path: Path) -> None:
    for at in range(KEPT + 2):
        build_of(path, f"x{at}", f"y{at}")
    assert len(sleepfm_index.snapshots(path)) == KEPT + 1


def test_a_name_keeps_a_snapshot(path: Path) -> None:
    number = sleepfm_index.tag(path, "before-cleanup")
    for at in range(KEPT + 2):
        build_of(path, f"x{at}")
    (named,) = (s for s in sleepfm_index.snapshots(path) if s.tag)
    assert (named.number, named.tag, named.clips) == (number, "before-cleanup", 11)
    sleepfm_index.restore(path, "before-cleanup")
    assert clips(path) == 11
    assert [s.tag for s in sleepfm_index.snapshots(path) if s.tag] == ["before-cleanup"]
    assert sleepfm_index.verify(path).findings == ()
    sleepfm_index.untag(path, "before-cleanup")
    with pytest.raises(QueryError, match="no snapshot is named 'before-cleanup'; names: none"):
        sleepfm_index.restore(path, "before-cleanup")


@pytest.mark.parametrize("name", ["", "12", "../x", ".x", "a b", "a\nb", "x" * 65])
def test_a_name_is_a_plain_word(path: Path, name: str) -> None:
    before = (path / "manifest.json").read_bytes()
    with pytest.raises(QueryError, match="is not a valid name for a snapshot"):
        sleepfm_index.tag(path, name)
    assert (path / "manifest.json").read_bytes() == before


def test_compaction_says_what_a_name_keeps_and_erasing_takes_it(path: Path) -> None:
    sleepfm_index.tag(path, "all")
    sleepfm_index.delete(path, recording="b")
    assert sleepfm_index.compact(path).named == ("all",)
    sleepfm_index.restore(path, "all")
    assert clips(path) == 11
    sleepfm_index.delete(path, recording="b", now=True)
    assert [s.tag for s in sleepfm_index.snapshots(path)] == [""]
    assert sleepfm_index.compact(path).named == ()


def test_times_are_in_the_manifest(path: Path, tmp_path: Path) -> None:
    found = sleepfm_index.snapshots(path)
    assert [s.written for s in found] == sorted((s.written for s in found), reverse=True)
    copy = tmp_path / "copy"
    shutil.copytree(path, copy, copy_function=shutil.copy)
    for file in copy.rglob("*.json"):
        os.utime(file, (1e9, 1e9))
    assert [s.written for s in sleepfm_index.snapshots(copy)] == [s.written for s in found]


def test_the_verbs(path: Path) -> None:
    run = CliRunner().invoke
    done = run(app, ["snapshots", "--tag", "v1", "--store", str(path)])
    assert done.exit_code == 0 and "is named v1" in done.output
    sleepfm_index.delete(path, recording="a")
    done = run(app, ["restore", "v1", "--store", str(path)])
    assert done.exit_code == 0, done.output
    assert clips(path) == 11
    assert run(app, ["snapshots", "--untag", "v1", "--store", str(path)]).exit_code == 0


def test_a_store_goes_to_another_process_at_its_snapshot(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        store.sql("SELECT 1")
        sent = pickle.dumps(store)
        sleepfm_index.delete(path, recording="b")
        received = pickle.loads(sent)
        assert len(received) == 11
        assert received.sql("SELECT count(*) n FROM clips").to_pylist() == [{"n": 11}]


def test_an_empty_store_is_a_store(tmp_path: Path) -> None:
    with sleepfm_index.open(drawn_store(tmp_path / "e", {}, index=False)) as store:
        assert len(store) == 0 and store
