from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from stores import TARGETS, WEIGHTS, content, drawn_segment, drawn_store

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.errors import SnapshotGone
from sleepfm_index.indexing.reindex import update_indexes
from sleepfm_index.lifecycle.compact import _of_live_clips, compact, plan
from sleepfm_index.search import ivf_builder
from sleepfm_index.storage import files, private
from sleepfm_index.storage.manifest import Manifest, SegmentEntry, read_manifest
from sleepfm_index.storage.writer import Writer

SIZES = {"a": 30, "b": 20, "c": 25, "d": 5}


def holds(path: Path, piece: bytes) -> list[Path]:
    """Files below a folder that hold some bytes."""
    found = []
    for file in path.rglob("*"):
        if file.is_file() and file.stat().st_size:
            with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as m:
                if m.find(piece) >= 0:
                    found.append(file)
    return found


def test_merged_clips_are_what_they_were(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", SIZES)
    with sleepfm_index.open(path) as store:
        before = content(store)
        answers = [store.search(t, np.ones((1, 512), np.float32), 9) for t in TARGETS]
        others = [store.sql(f"FROM {t} ORDER BY ALL").to_pylist() for t in ("events", "recordings")]
    done = compact(path)
    assert (done.segments_before, done.segments_after, done.clips_removed) == (4, 1, 0)
    with sleepfm_index.open(path) as store:
        assert content(store) == before
        assert {i.target for i in store.manifest.indexes} == set(TARGETS)
        for target, answer in zip(TARGETS, answers, strict=True):
            again = store.search(target, np.ones((1, 512), np.float32), 9)
            np.testing.assert_array_equal(again[0], answer[0])
        for table, rows in zip(("events", "recordings"), others, strict=True):
            assert store.sql(f"FROM {table} ORDER BY ALL").to_pylist() == rows
    assert len(list((path / "segments").iterdir())) == 1
    assert len(list((path / "indexes").iterdir())) == len(TARGETS)
    assert sleepfm_index.verify(path).findings == ()


def test_deleted_vectors_are_nowhere_on_the_disk(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", SIZES, lacking=0.0)
    with sleepfm_index.open(path) as store:
        ids = store.metadata.clip_ids("recording_id = 'b' OR clip_id IN (3, 60)")
        pieces = []
        for target in TARGETS:
            vectors, _ = store.vectors.of(ids, target)
            pieces += [v.astype(kind).tobytes()[:64] for v in vectors for kind in ("<f2", "<f4")]
        kept = store.vectors.of(np.array([0]), "bas")[0][0].astype("<f2").tobytes()
    assert all(holds(path, piece) for piece in pieces[::2][:20])
    sleepfm_index.delete(path, where="recording_id = 'b' OR clip_id IN (3, 60)")
    assert compact(path).clips_removed == 22
    assert not [piece for piece in pieces if holds(path, piece)]
    assert holds(path, kept)
    assert not holds(path, b"subject-b")
    with sleepfm_index.open(path) as store:
        assert store.metadata.clip_ids().tolist() == sorted(set(range(80)) - set(ids.tolist()))
        assert store.manifest.deleted == ()
        assert store.manifest.next_clip_id == 80


def test_clip_ids_stay_and_holes_are_read(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", SIZES)
    sleepfm_index.delete(path, where="clip_id % 3 = 1")
    with sleepfm_index.open(path) as store:
        before = content(store)
    compact(path)
    with sleepfm_index.open(path) as store:
        assert content(store) == before
        with pytest.raises(sleepfm_index.QueryError, match="no clip 1 "):
            store.vectors.of(np.array([1]), "bas")
    with Writer(path, WEIGHTS, ROBUST) as writer:
        entry = writer.append(drawn_segment("e", 4, 50))
    assert entry.first_clip_id == 80
    sleepfm_index.delete(path, where="recording_id = 'e'")
    compact(path)
    with Writer(path, WEIGHTS, ROBUST) as writer:
        assert writer.append(drawn_segment("f", 4, 51)).first_clip_id == 84


def test_again_changes_nothing(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", SIZES)
    compact(path)
    before = read_manifest(path)
    done = compact(path)
    assert read_manifest(path) == before
    assert (done.segments_after, done.bytes_freed) == (1, 0)


def test_everything_deleted_leaves_an_empty_store_that_works(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", SIZES)
    sleepfm_index.delete(path, where="true")
    compact(path)
    with sleepfm_index.open(path) as store:
        assert len(store) == 0
        assert store.search("bas", np.ones((1, 512), np.float32), 3)[0][0].size == 0
        assert len(store.sql("FROM clips")) == 0
    assert list((path / "segments").iterdir()) == []
    with Writer(path, WEIGHTS, ROBUST) as writer:
        writer.append(drawn_segment("g", 4, 52))
        update_indexes(writer)
    assert sleepfm_index.verify(path).ok


def test_segments_are_no_larger_than_asked_for(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {f"n{i}": 7 for i in range(20)})
    compact(path, segment_clips=30)
    rows = [s.rows for s in read_manifest(path).segments]
    assert sum(rows) == 140 and max(rows) <= 30 and len(rows) == 5


def entry(first: int, rows: int) -> SegmentEntry:
    return SegmentEntry(f"s{first}", rows, first, first + rows - 1, (), (), {})


def test_a_large_segment_is_rewritten_only_when_clips_of_it_were_deleted() -> None:
    large, small = entry(0, 60), [entry(60, 5), entry(65, 5)]
    manifest = Manifest("", None, None, 1, 70, (large, *small))  # type: ignore[arg-type]
    assert plan(manifest, 100) == [[large], small]
    dirty = Manifest("", None, None, 1, 70, (large, *small), (), ((3, 4),))  # type: ignore[arg-type]
    assert plan(dirty, 100) == [[large, *small]]


def test_a_reader_goes_on_while_its_snapshot_is_kept(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", SIZES)
    reader = sleepfm_index.open(path)  # has opened nothing but the manifest
    with sleepfm_index.open(path) as store:
        before = content(store)
    sleepfm_index.delete(path, recording="b")
    compact(path, keep_snapshots=2)
    assert content(reader) == before
    assert reader.search("bas", np.ones((1, 512), np.float32), 200)[0][0].size
    compact(path)
    with sleepfm_index.open(path) as store:
        assert len(content(store)) == 60


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s.sql("SELECT count(*) FROM clips"),
        lambda s: s.vectors.of(np.array([0]), "bas"),
        lambda s: s.search("bas", np.ones((1, 512), np.float32), 3),
        lambda s: s.query("ecg", clip=0),
        lambda s: s.info(),
    ],
)
def test_a_reader_whose_files_are_gone_is_told_to_open_again(tmp_path: Path, ask: object) -> None:
    path = drawn_store(tmp_path / "s", SIZES, lacking=0.0)
    fresh, warm = sleepfm_index.open(path), sleepfm_index.open(path)
    warm.metadata.clip_ids()
    compact(path)
    for store in (fresh, warm):
        with pytest.raises(SnapshotGone, match="open it again"):
            ask(store)  # type: ignore[operator]
    with sleepfm_index.open(path) as store:
        ask(store)  # type: ignore[operator]


def test_a_folder_that_is_being_removed_is_gone(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", SIZES, lacking=0.0)
    with sleepfm_index.open(path) as reader:
        old = [path / "segments" / s.id for s in reader.manifest.segments]
        reader.metadata.clip_ids()
        compact(path)
        for folder in old:
            folder.mkdir()  # as rmtree leaves it for a moment
        with pytest.raises(SnapshotGone):
            reader.sql("SELECT count(*) FROM clips")


def test_columns_of_different_cohorts_are_merged(tmp_path: Path) -> None:
    def with_column(name: str, seed: int, values: list[object]) -> object:
        data = drawn_segment(name, 2, seed)
        return type(data)(**{**vars(data), "clips": data.clips.append_column("visit", [values])})

    with Writer(tmp_path / "s", WEIGHTS, ROBUST) as writer:
        writer.append(drawn_segment("a", 2, 1))
        writer.append(with_column("b", 2, [1, 2]))  # type: ignore[arg-type]
        writer.append(with_column("c", 3, ["first", None]))  # type: ignore[arg-type]
    compact(tmp_path / "s")
    with sleepfm_index.open(tmp_path / "s") as store:
        rows = store.sql("SELECT visit FROM clips ORDER BY clip_id").to_pylist()
    assert [row["visit"] for row in rows] == [None, None, "1", "2", "first", None]


def test_the_file_of_a_withdrawn_recording_is_forgotten(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", SIZES)
    for name in SIZES:
        private.remember_file(path, name, Path(f"/data/Jane-{name}.edf"))
    sleepfm_index.delete(path, recording="b")
    compact(path, keep_snapshots=1)
    assert "b" in private.files(path)
    compact(path)
    assert sorted(private.files(path)) == ["a", "c", "d"]
    assert not holds(path, b"Jane-b")


def test_a_full_disk_leaves_the_old_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drawn_store(tmp_path / "s", SIZES)
    before, files = read_manifest(path), sorted(path.rglob("*"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sleepfm_index.search.ivf_builder.publish_file", full)
    with pytest.raises(OSError, match="No space left"):
        compact(path)
    assert read_manifest(path) == before
    assert sorted(path.rglob("*")) == files


def test_a_disk_that_fails_after_the_commit_takes_nothing_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drawn_store(tmp_path / "s", SIZES)
    with sleepfm_index.open(path) as store:
        before = content(store)
    real = files.sync_folder

    def failing(folder: Path) -> None:
        if folder == path:
            raise OSError(5, "Input/output error")
        real(folder)

    with monkeypatch.context() as patched:
        patched.setattr("sleepfm_index.storage.files.sync_folder", failing)
        with pytest.raises(OSError, match="Input/output"):
            compact(path)
    with sleepfm_index.open(path) as store:
        assert content(store) == before
    compact(path)
    with sleepfm_index.open(path) as store:
        assert content(store) == before
    assert sleepfm_index.verify(path).findings == ()


def test_events_of_deleted_hours_leave_the_disk(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", SIZES, index=False)
    with sleepfm_index.open(path) as store:
        ids = store.metadata.clip_ids("recording_id = 'b' AND start_s < 60")
    assert len(ids) == 2  # the one event lasts from 12 to 32 s, over both

    def events() -> list[str]:
        with sleepfm_index.open(path) as store:
            rows = store.sql("SELECT recording_id FROM events ORDER BY ALL").to_pylist()
        return [row["recording_id"] for row in rows]

    sleepfm_index.delete(path, where=f"clip_id = {ids[0]}")
    compact(path)
    assert events() == ["a", "b", "c", "d"]  # the second clip has it, too
    sleepfm_index.delete(path, where=f"clip_id = {ids[1]}")
    compact(path)
    assert events() == ["a", "c", "d"]
    assert sleepfm_index.verify(path).findings == ()


@pytest.mark.parametrize(
    ("onset", "duration", "stays"),
    [
        (29.0, 0.5, True), (30.0, 0.0, False), (30.0, 30.0, False), (29.9, 60.2, True),
        (30.0, 30.1, True), (59.9, 0.0, False), (60.0, 0.0, True), (500.0, 5.0, True),
        (-20.0, 5.0, True),
    ],
)  # fmt: skip
def test_an_event_stays_with_any_clip_that_it_touches(
    onset: float, duration: float, stays: bool
) -> None:
    # clips at 0, 30, 60 and 90 s, of which the second is deleted
    clips = pa.table({"recording_id": ["a"] * 4, "start_s": [0.0, 30.0, 60.0, 90.0]})
    events = pa.table({"recording_id": ["a"], "onset_s": [onset], "duration_s": [duration]})
    live = np.array([True, False, True, True])
    assert (len(_of_live_clips(events, clips, live, 30.0)) == 1) == stays


def test_indexing_again_on_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drawn_store(tmp_path / "s", SIZES)
    files, real, calls = sorted(path.rglob("*")), ivf_builder.publish_file, []

    def full(place: Path, write: object) -> object:
        calls.append(place)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        return real(place, write)  # type: ignore[arg-type]

    monkeypatch.setattr(ivf_builder, "publish_file", full)
    with pytest.raises(OSError, match="No space left"):
        sleepfm_index.reindex(path, index="IVF2,SQ4", recall=0.1, rebuild=True)
    assert len(calls) == 3 and sorted(path.rglob("*")) == files
