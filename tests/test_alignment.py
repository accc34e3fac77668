"""What is looked up for some clips belongs to those clips, whatever was deleted meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stores import drawn_store

import sleepfm_index
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns

SIZES = {"a": 40, "b": 40, "c": 40, "d": 40}
DELETED = 5


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = drawn_store(tmp_path_factory.mktemp("aligned") / "s", SIZES, lacking=0.0)
    sleepfm_index.delete(path, where=f"clip_id IN ({DELETED}, 81)")
    return path


@pytest.fixture
def store(path: Path) -> sleepfm_index.Store:
    return sleepfm_index.open(path)


def owner(clip: int) -> str:
    return f"subject-{'abcd'[clip // 40]}"


BAD = [[DELETED, 50, 90], [50, DELETED], [50, 160], [-1, 50], [2**40], [81, 81]]


@pytest.mark.parametrize("clips", BAD)
def test_a_list_with_a_clip_that_is_not_there_is_refused_by_every_verb(
    store: sleepfm_index.Store, clips: list[int]
) -> None:
    ids = np.array(clips)
    for ask in (
        lambda: store.query_many("ecg", to="bas", clips=clips, k=1),
        lambda: store.neighbours("ecg", "ecg", clips=clips, k=2),
        lambda: store.rows(ids),
        lambda: store.vectors.of(ids, "bas"),
        lambda: clip_columns(store, ids, ["subject_id"]),
    ):
        with pytest.raises(QueryError, match=r"no clip -?\d+ in this store"):
            ask()


def test_one_deleted_clip_is_refused(store: sleepfm_index.Store) -> None:
    with pytest.raises(QueryError, match=f"no clip {DELETED} in this store"):
        store.query("ecg", clip=DELETED)


@pytest.mark.parametrize("clips", [[1.5, 2.0], [[1, 2]], ["1"], [True]])
def test_clips_are_whole_numbers(store: sleepfm_index.Store, clips: list[object]) -> None:
    with pytest.raises(QueryError, match="integer clip ids"):
        store.query_many("ecg", clips=clips)  # type: ignore[arg-type]


@pytest.mark.parametrize("exclude", ["subject", "recording"])
def test_every_clip_leaves_out_its_own_after_deletions(
    store: sleepfm_index.Store, exclude: str
) -> None:
    clips = [159, 82, 6, 40, 6, 120]
    found = store.query_many("ecg", to="ecg", clips=clips, k=3, exclude=exclude).read_all()
    rows = found.to_pylist()
    assert [row["query_clip_id"] for row in rows] == [c for c in clips for _ in range(3)]
    for row in rows:
        assert row["subject_id"] == owner(row["clip_id"])
        assert owner(row["query_clip_id"]) != owner(row["clip_id"])
        assert row["clip_id"] not in (DELETED, 81)
    one = [store.query("ecg", to="ecg", clip=c, k=3, exclude=exclude) for c in clips]
    assert [r["clip_id"] for r in rows] == [h["clip_id"] for o in one for h in o.to_pylist()]
    near = store.neighbours("ecg", "ecg", clips=clips, k=3, exclude=exclude).to_pylist()
    assert [r["neighbour"] for r in near] == [r["clip_id"] for r in rows]


def test_columns_come_in_the_order_asked(store: sleepfm_index.Store) -> None:
    ids = np.array([159, 0, 82, 0, 40])
    table = clip_columns(store, ids, ["subject_id", "start_s"])
    assert table["clip_id"].to_pylist() == ids.tolist()
    assert table["subject_id"].to_pylist() == [owner(i) for i in ids]


def test_queries_of_no_direction_are_refused(store: sleepfm_index.Store) -> None:
    for vector in (np.zeros((1, 512)), np.full((1, 512), np.nan), np.full((1, 512), np.inf)):
        with pytest.raises(QueryError):
            store.search("bas", vector.astype(np.float32), 3)
