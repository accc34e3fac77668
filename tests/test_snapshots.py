from __future__ import annotations

from pathlib import Path

import pytest
from stores import WEIGHTS, content, drawn_segment, drawn_store, index_all

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.storage.manifest import read_manifest
from sleepfm_index.storage.snapshots import KEPT
from sleepfm_index.storage.writer import Writer


def test_every_commit_keeps_the_manifest_before_it(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 5, "b": 6})
    found = sleepfm_index.snapshots(path)
    assert [(s.number, s.clips, s.recordings) for s in found] == [
        (3, 11, 2),
        (2, 11, 2),
        (1, 5, 1),
        (0, 0, 0),
    ]
    assert [s.current for s in found] == [True, False, False, False]
    assert not any(s.missing for s in found)


def test_only_the_last_few_are_kept(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {f"n{i}": 2 for i in range(KEPT + 5)}, index=False)
    numbers = [s.number for s in sleepfm_index.snapshots(path)]
    assert numbers == list(range(KEPT + 5, 4, -1))


def test_going_back_and_forth(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 5, "b": 6})
    with sleepfm_index.open(path) as store:
        both = content(store)
    sleepfm_index.delete(path, recording="a")
    with sleepfm_index.open(path) as store:
        one = content(store)
    now = sleepfm_index.restore(path, 3)
    assert (now.number, now.clips) == (5, 11)
    with sleepfm_index.open(path) as store:
        assert content(store) == both
        assert store.manifest.withdrawn == ()
    sleepfm_index.restore(path, 4)
    with sleepfm_index.open(path) as store:
        assert content(store) == one
    assert sleepfm_index.verify(path).findings == ()


def test_clip_ids_and_names_are_never_given_twice(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 5, "b": 6})
    old = read_manifest(path).segments[1]
    sleepfm_index.restore(path, 1)
    with Writer(path, WEIGHTS, ROBUST) as writer:
        again = writer.append(drawn_segment("b", 6, 1))
    assert again.sources == old.sources
    assert again.id != old.id
    assert (again.first_clip_id, again.last_clip_id) == (11, 16)
    sleepfm_index.restore(path, 3)
    assert sleepfm_index.verify(path).ok


def test_what_is_not_there_is_not_restored(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 5, "b": 6})
    with pytest.raises(QueryError, match="no snapshot 99; choose from 0, 1, 2"):
        sleepfm_index.restore(path, 99)
    sleepfm_index.compact(path, keep_snapshots=1)
    (file,) = (path / "segments" / read_manifest(path, "snapshots/3.json").segments[0].id).glob(
        "bas.arrow"
    )
    file.unlink()
    before = read_manifest(path)
    with pytest.raises(FormatError, match="missing"):
        sleepfm_index.restore(path, 3)
    assert read_manifest(path) == before
    assert "missing" in sleepfm_index.snapshots(path)[1].missing


def test_a_snapshot_of_another_store_is_not_restored(tmp_path: Path) -> None:
    one = drawn_store(tmp_path / "one", {"a": 5})
    two = drawn_store(tmp_path / "two", {"b": 5})
    (one / "snapshots" / "1.json").write_bytes((two / "snapshots" / "1.json").read_bytes())
    with pytest.raises(FormatError, match="another store"):
        sleepfm_index.restore(one, 1)


def test_a_lost_index_is_left_out_of_what_is_restored(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 5})
    with Writer(path, WEIGHTS, ROBUST) as writer:
        writer.append(drawn_segment("b", 6, 1))
        for index in (path / "indexes").iterdir():
            index.unlink()
        index_all(writer)
    sleepfm_index.restore(path, 2)
    with sleepfm_index.open(path) as store:
        assert store.manifest.indexes == ()
        assert len(store) == 5
    sleepfm_index.reindex(path)
    assert sleepfm_index.verify(path).ok
