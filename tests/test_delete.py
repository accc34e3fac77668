from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stores import WEIGHTS, drawn_segment, drawn_store

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.errors import QueryError
from sleepfm_index.schema import TARGETS
from sleepfm_index.storage.manifest import as_ranges, read_manifest
from sleepfm_index.storage.writer import Writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return drawn_store(tmp_path / "s", {"a": 30, "b": 20, "it's": 10}, lacking=0.0)


@pytest.mark.parametrize(
    ("what", "ids", "withdrawn"),
    [
        ({"subject": "subject-b"}, range(30, 50), ("b",)),
        ({"recording": "it's"}, range(50, 60), ("it's",)),
        ({"where": "clip_id % 2 = 0 AND recording_id = 'a'"}, range(0, 30, 2), ()),
        ({"where": "true"}, range(60), ("a", "b", "it's")),
    ],
)
def test_deleted_clips_are_in_no_answer(
    path: Path, what: dict[str, str], ids: range, withdrawn: tuple[str, ...]
) -> None:
    done = sleepfm_index.delete(path, **what)  # type: ignore[arg-type]
    assert (done.clips, done.withdrawn) == (len(ids), withdrawn)
    left = sorted(set(range(60)) - set(ids))
    query = np.ones((1, 512), np.float32)
    with sleepfm_index.open(path) as store:
        assert len(store) == len(left)
        assert store.metadata.clip_ids().tolist() == left
        assert store.sql("SELECT count(*) AS n FROM clips").to_pylist() == [{"n": len(left)}]
        for target in TARGETS:
            ((found, _),) = store.search(target, query, 100)
            assert sorted(found.tolist()) == left
        for table in ("recordings", "events"):
            names = store.sql(f"SELECT DISTINCT recording_id AS r FROM {table}").to_pylist()
            assert {row["r"] for row in names} == {"a", "b", "it's"} - set(withdrawn)


def test_it_is_one_commit(path: Path) -> None:
    before = read_manifest(path)
    sleepfm_index.delete(path, where="clip_id < 3 OR clip_id BETWEEN 8 AND 9")
    after = read_manifest(path)
    assert after.snapshot == before.snapshot + 1
    assert after.deleted == ((0, 2), (8, 9))
    sleepfm_index.delete(path, where="clip_id BETWEEN 3 AND 7")
    assert read_manifest(path).deleted == ((0, 9),)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ({}, "one of --subject, --recording and --where"),
        ({"subject": "x", "recording": "a"}, "one of --subject, --recording and --where"),
        ({"recording": "nobody"}, "no clip has recording_id = 'nobody'"),
        ({"recording": "' OR true --"}, "nothing was deleted"),
        ({"where": "true) OR (true"}, "Parser Error"),
        ({"where": "nope = 1"}, "nope"),
    ],
)
def test_a_mistake_deletes_nothing(path: Path, what: dict[str, str], sentence: str) -> None:
    before = read_manifest(path)
    with pytest.raises(QueryError, match=sentence.replace("(", r"\(")):
        sleepfm_index.delete(path, **what)  # type: ignore[arg-type]
    assert read_manifest(path) == before


def test_a_withdrawn_recording_is_remembered_and_a_part_of_one_is_not(path: Path) -> None:
    key = drawn_segment("b", 20, 1).key
    assert key in read_manifest(path).sources
    sleepfm_index.delete(path, where="recording_id = 'b' AND clip_id < 49")
    assert read_manifest(path).withdrawn == ()
    sleepfm_index.delete(path, where="recording_id = 'b'")
    manifest = read_manifest(path)
    assert manifest.withdrawn == (key,)
    assert key not in manifest.sources
    sleepfm_index.compact(path)
    assert read_manifest(path).withdrawn == (key,)


def test_a_deleted_clip_cannot_ask(path: Path) -> None:
    sleepfm_index.delete(path, recording="b")
    with sleepfm_index.open(path) as store, pytest.raises(QueryError, match="no clip 35"):
        store.query("ecg", clip=35)


def test_another_recording_may_take_the_name_of_a_withdrawn_one(path: Path) -> None:
    sleepfm_index.delete(path, recording="b")
    with Writer(path, WEIGHTS, ROBUST) as writer:
        writer.append(drawn_segment("b", 4, 77))
    with sleepfm_index.open(path) as store:
        (row,) = store.sql("SELECT clips FROM recordings WHERE recording_id = 'b'").to_pylist()
        assert row["clips"] == 4
    assert sleepfm_index.delete(path, recording="b").clips == 4
    assert len(read_manifest(path).withdrawn) == 2


def test_runs_of_ids() -> None:
    assert as_ranges(np.array([], np.int64)) == []
    assert as_ranges(np.array([3])) == [(3, 3)]
    assert as_ranges(np.array([0, 1, 2, 5, 7, 8])) == [(0, 2), (5, 5), (7, 8)]
