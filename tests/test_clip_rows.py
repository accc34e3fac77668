from __future__ import annotations

import ctypes
import dataclasses
import gc
import mmap
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import WEIGHTS, drawn_segment, drawn_store

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.storage import row_cache
from sleepfm_index.storage.manifest import RowCacheEntry, read_manifest
from sleepfm_index.storage.metadata import Metadata
from sleepfm_index.storage.readahead import COUNTERS
from sleepfm_index.storage.row_cache import write_rows
from sleepfm_index.storage.row_pages import joined, request_rows
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.writer import Writer
from sleepfm_index.store import Store

IDS = np.array([77, 3, 3, 41, 0, 89, 12, 50, 90, 93])


def no_tables(self: Metadata, *_: object) -> None:
    raise AssertionError("the tables were read")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sleepfm_index.indexing.maintenance.SMALL_ROWS", 50)
    # Several record batches: ids 0 to 31, 32 to 63, 64 to 95.
    monkeypatch.setattr(row_cache, "SPAN", 32)
    path = drawn_store(tmp_path / "s", {"a": 40, "b": 30, "c": 20}, index=False)
    sleepfm_index.reindex(path, index="exact")
    return path


def entries(path: Path) -> list[RowCacheEntry]:
    cache = read_manifest(path).row_cache
    return [] if cache is None else [cache]


def rows_file(path: Path) -> Path:
    (entry,) = entries(path)
    return path / "indexes" / entry.file


def append(path: Path, *segments: SegmentData) -> None:
    with Writer(path, WEIGHTS, ROBUST) as writer:
        for segment in segments:
            writer.append(segment)


def with_column(segment: SegmentData, name: str, values: pa.Array) -> SegmentData:
    return dataclasses.replace(segment, clips=segment.clips.append_column(name, values))


def rows(store: Store, ids: np.ndarray) -> pa.Table:
    """Rows of the clips that are there; ``store.rows`` refuses a list that names others."""
    return store._resources().clip_rows.rows(ids)


def check(store: Store, ids: np.ndarray) -> None:
    """Whatever is mapped, the answer is that of the tables, type for type."""
    check_rows(store, ids)
    named = store.metadata.select("SELECT DISTINCT recording_id, subject_id FROM clips")
    for column in named.column_names:
        for value in [*named[column].to_pylist(), "nobody", "o'clock"]:
            assert store.runs(column, value) == store.metadata.runs(column, value)


def check_rows(store: Store, ids: np.ndarray) -> None:
    found, expected = rows(store, ids), store.metadata.rows(ids)
    assert found.schema.equals(expected.schema, check_metadata=True)
    assert found.equals(expected)


def test_rows_are_those_of_the_tables(path: Path) -> None:
    assert read_manifest(path).features == ()
    with sleepfm_index.open(path) as store:
        check(store, IDS)
        for ids in (IDS[:0], IDS[IDS < 90], np.array([5000, -1, 3]), np.array([2**40])):
            check_rows(store, ids)


def test_an_answer_needs_no_tables(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sleepfm_index.open(path) as store:
        clip = int(store.metadata.clip_ids("has_ecg AND clip_id > 30")[0])
        one = store.query("ecg", to="bas", clip=clip).to_pylist()
        many = store.query_many("ecg", to="bas", recording="a", min_gap=60).read_all().to_pylist()
    sleepfm_index.delete(path, where="clip_id IN (0, 1, 30)")
    monkeypatch.setattr(Metadata, "__init__", no_tables)
    with sleepfm_index.open(path) as store:
        assert rows(store, np.array([0, 2]))["clip_id"].to_pylist() == [2]
        assert len(store.query("ecg", to="bas", clip=clip)) == len(one) == 10
        found = store.query_many("ecg", to="bas", recording="a", min_gap=60).read_all()
    asking = set(found["query_clip_id"].to_pylist())
    assert asking == {row["query_clip_id"] for row in many} - {0, 1, 30}


def test_a_small_store_renews_it_for_every_new_clip(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 10}, index=False)
    said: list[str] = []
    for count in (10, 11):
        sleepfm_index.reindex(path, notice=said.append)
        assert entries(path)[0].rows == count and not said
        append(path, drawn_segment("d", 1, 77))


def test_deleted_and_newer_clips_are_as_they_are(path: Path) -> None:
    sleepfm_index.delete(path, where="clip_id IN (3, 41, 42, 89)")
    append(path, drawn_segment("d", 5, 77), drawn_segment("b2", 3, 78))
    with sleepfm_index.open(path) as store:
        assert rows(store, IDS)["clip_id"].to_pylist() == [77, 0, 12, 50, 90, 93]
        assert store.runs("recording_id", "b") == ((40, 40), (43, 69))
        assert store.runs("recording_id", "d") == ((90, 94),)
        check(store, IDS)
    before = rows_file(path)
    sleepfm_index.reindex(path, index="exact")
    assert rows_file(path) == before
    sleepfm_index.compact(path)
    assert sleepfm_index.verify(path).findings == ()
    assert rows_file(path) != before and not before.exists()
    with sleepfm_index.open(path) as store:
        assert entries(path)[0].rows == len(store) == 94
        check(store, IDS)
        assert store.runs("recording_id", "b") == ((40, 40), (43, 69))


def test_many_newer_clips_are_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleepfm_index.indexing.maintenance.UNCOVERED", 4)
    before = rows_file(path)
    append(path, drawn_segment("d", 5, 77))
    sleepfm_index.reindex(path, index="exact", targets=("bas",))
    assert rows_file(path) != before and entries(path)[0].rows == 95
    sleepfm_index.delete(path, recording="a")
    sleepfm_index.delete(path, recording="b")
    sleepfm_index.reindex(path)
    with sleepfm_index.open(path) as store:
        ids = store.metadata.clip_ids("true")
        assert entries(path) and len(ids) == 25
        assert store.rows(ids)["clip_id"].to_pylist() == ids.tolist()


@pytest.mark.parametrize("values", [pa.array([1.5] * 5), pa.array([None] * 5, pa.int64())])
def test_a_column_of_newer_clips_is_in_every_row(path: Path, values: pa.Array) -> None:
    append(path, with_column(drawn_segment("d", 5, 77), "height", values))
    with sleepfm_index.open(path) as store:
        assert "height" in store.rows(IDS[:3]).column_names
        check(store, IDS)
    before = rows_file(path)
    sleepfm_index.reindex(path, index="exact")
    assert rows_file(path) != before
    with sleepfm_index.open(path) as store:
        check(store, IDS)


@st.composite
def _segments(draw: st.DrawFn) -> list[SegmentData]:
    kinds = st.sampled_from([pa.int64(), pa.float32(), pa.string(), pa.bool_(), pa.date32()])
    known = {name: draw(kinds) for name in ("arm", "höhe", 'a "b"')}
    drawn = []
    for at in range(draw(st.integers(1, 4))):
        n = draw(st.integers(1, 9))
        segment = drawn_segment(f"r{at}", n, at, age=draw(st.sampled_from([None, 61.0])))
        for name in draw(st.lists(st.sampled_from(sorted(known)), unique=True)):
            values = draw(st.lists(st.none() | st.integers(0, 1), min_size=n, max_size=n))
            column = pa.array(values, pa.int32()).cast(
                pa.int64() if known[name] != pa.date32() else pa.int32()
            )
            segment = with_column(segment, name, column.cast(known[name]))
        drawn.append(segment)
    return drawn


@settings(max_examples=15, deadline=None)
@given(_segments(), st.data())
def test_any_store_answers_alike_with_and_without(
    drawn: list[SegmentData], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        path = Path(name) / "s"
        patch.setattr(row_cache, "SPAN", 8)
        first = data.draw(st.integers(1, len(drawn)))
        append(path, *drawn[:first])
        with Writer(path) as writer:
            made = write_rows(path, writer.manifest)
            writer.commit(dataclasses.replace(writer.manifest, row_cache=made))
        append(path, *drawn[first:])
        total = sum(segment.clips.num_rows for segment in drawn)
        gone = data.draw(st.lists(st.integers(0, total - 1), unique=True))
        if gone:
            sleepfm_index.delete(path, where=f"clip_id IN ({', '.join(map(str, gone))})")
        ids = data.draw(st.lists(st.integers(0, total + 20), max_size=12))
        with sleepfm_index.open(path) as store:
            check_rows(store, np.array(ids, np.int64))
            left = np.setdiff1d(np.arange(total), gone)
            check(store, left)
        if data.draw(st.booleans()):
            sleepfm_index.compact(path)
            assert sleepfm_index.verify(path).findings == ()
            with sleepfm_index.open(path) as store:
                check(store, left)


def test_nothing_is_left(path: Path) -> None:
    sleepfm_index.delete(path, where="true")
    with sleepfm_index.open(path) as store:
        check(store, IDS)
    sleepfm_index.compact(path)
    assert not entries(path) and not list((path / "indexes").iterdir())
    with sleepfm_index.open(path) as store:
        check(store, IDS)


def test_a_snapshot_has_its_own_rows(path: Path) -> None:
    with sleepfm_index.open(path) as earlier:
        snapshot = earlier.manifest.snapshot
        sleepfm_index.delete(path, recording="a")
        append(path, drawn_segment("d", 5, 77))
        sleepfm_index.reindex(path, index="exact", rebuild=True)
        sleepfm_index.reindex(path, index="exact", rebuild=True)
        check(earlier, IDS)
    assert len(list((path / "indexes").glob("clips-*"))) == 2
    sleepfm_index.restore(path, snapshot)
    assert not entries(path)  # its file is gone
    with sleepfm_index.open(path) as store:
        check(store, IDS)
    sleepfm_index.reindex(path, index="exact")
    assert sleepfm_index.verify(path).ok and len(entries(path)) == 1
    with sleepfm_index.open(path) as store:
        check(store, IDS)


@pytest.mark.parametrize("harm", [Path.unlink, lambda file: file.write_bytes(b"")])
def test_lost_rows_cost_time_alone(path: Path, harm: Callable[[Path], object]) -> None:
    harm(rows_file(path))
    with sleepfm_index.open(path) as store:
        check(store, IDS)
    assert [f.what for f in sleepfm_index.verify(path).findings] == ["cache"]
    assert sleepfm_index.verify(path, repair=True).ok
    assert rows_file(path).exists() and sleepfm_index.verify(path).findings == ()


def test_rows_of_a_damaged_segment_are_written_anew(path: Path) -> None:
    segment = read_manifest(path).segments[0]
    (path / "segments" / segment.id / "bas.arrow").unlink()
    assert sleepfm_index.verify(path, repair=True).ok
    assert entries(path)[0].rows == 50 and sleepfm_index.verify(path).ok
    with sleepfm_index.open(path) as store:
        check(store, IDS)


def test_rows_that_lie_are_passed_over_or_told_by_verify(path: Path) -> None:
    file = rows_file(path)
    whole = file.read_bytes()
    with sleepfm_index.open(path) as store:
        expected = store.metadata.rows(IDS)
    for at in range(0, len(whole), 401):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        file.write_bytes(changed)
        with sleepfm_index.open(path) as store:
            found = rows(store, IDS)
            assert found["clip_id"].equals(expected["clip_id"])
            found.to_pylist()
            for runs in store.runs("subject_id", "subject-a"), store.runs("recording_id", "b"):
                assert all(0 <= first <= last < 90 for first, last in runs)
    assert [f.what for f in sleepfm_index.verify(path).findings] == ["cache"]


def test_a_file_that_lacks_clips_names_no_owners(path: Path) -> None:
    with Writer(path) as writer:
        manifest = writer.manifest
        few = dataclasses.replace(manifest, deleted=((0, 9),))
        made = dataclasses.replace(write_rows(path, few), rows=90)
        writer.commit(dataclasses.replace(manifest, row_cache=made))
    with sleepfm_index.open(path) as store:
        check(store, IDS)


def test_a_file_that_was_deleted_is_made_again(path: Path) -> None:
    rows_file(path).unlink()
    sleepfm_index.reindex(path)
    assert rows_file(path).is_file()
    assert sleepfm_index.verify(path).findings == ()


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system drops no files")
def test_rows_are_requested_at_once(tmp_path: Path) -> None:
    """After the requests every page of the rows is in memory, and reading them reads no disk."""
    path = drawn_store(tmp_path / "s", {"a": 4_000, "b": 4_000}, index=False)
    with Writer(path) as writer:
        entry = write_rows(path, writer.manifest)
        writer.commit(dataclasses.replace(writer.manifest, row_cache=entry))
    ids = np.array([5, 1_900, 3_500, 4_321, 7_999])
    with sleepfm_index.open(path) as store:
        expected = store.rows(ids)
    gc.collect()
    drop(path / "indexes" / entry.file)
    with sleepfm_index.open(path) as store:
        mapped = store._resources().clip_rows._mapped()
        assert mapped is not None
        places = mapped._locate(ids.tolist())
        before = dataclasses.replace(COUNTERS)
        assert places is not None
        rows = [(mapped._pages(part), np.array([row])) for part, row in places]
        request_rows(mapped.readahead, rows)
        assert COUNTERS.requests - before.requests == 2, "one for values and one for texts"
        values = joined(pages.values(numbers) for pages, numbers in rows)
        texts = joined(pages.characters(numbers) for pages, numbers in rows)
        starts, ends = joined([values, texts])
        assert len(starts) > 5 * len(expected.schema)
        end = time.monotonic() + 10
        while not resident(starts).all() or not resident(ends - 1).all():
            assert time.monotonic() < end, "some pages never came"
            time.sleep(0.01)
        assert store.rows(ids).equals(expected)


def drop(path: Path) -> None:
    """Put a file out of the page cache."""
    handle = os.open(path, os.O_RDONLY)
    os.fdatasync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def resident(addresses: np.ndarray) -> np.ndarray:
    """Which addresses of mapped files are in the page cache."""
    call = ctypes.CDLL(None).mincore
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    found = np.zeros(len(addresses), np.uint8)
    for at, address in enumerate(addresses // mmap.PAGESIZE * mmap.PAGESIZE):
        assert call(int(address), 1, found[at:].ctypes.data) == 0
    return (found & 1).astype(bool)
