from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from stores import TARGETS, WEIGHTS, content, drawn_segment, drawn_store

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.errors import FormatError
from sleepfm_index.search.ivf_format import CODES
from sleepfm_index.storage.files import fingerprint
from sleepfm_index.storage.manifest import read_manifest, write_manifest
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.writer import Writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return drawn_store(tmp_path / "s", {"a": 30, "b": 20, "c": 10})


def test_a_sound_store_is_read_whole(path: Path) -> None:
    seen = []
    found = sleepfm_index.verify(path, progress=lambda done, total: seen.append((done, total)))
    assert found.ok and found.findings == ()
    named = sum(e.bytes for s in read_manifest(path).segments for e in s.files.values())
    named += sum(i.entry.bytes for i in read_manifest(path).indexes)
    assert found.bytes == named == seen[-1][0] == seen[-1][1]
    assert found.clips == 60


def segment_of(path: Path, at: int) -> Path:
    return path / "segments" / read_manifest(path).segments[at].id


def flip(file: Path, at: int = -70) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


Damage = Callable[[Path], object]
TRUTH: dict[str, Damage] = {
    "a flipped bit in the vectors": lambda p: flip(segment_of(p, 1) / "bas.arrow", 3000),
    "a flipped bit in the clips": lambda p: flip(segment_of(p, 1) / "clips.parquet", 100),
    "a flipped bit in the events": lambda p: flip(segment_of(p, 1) / "events.parquet", 10),
    "vectors cut short": lambda p: (segment_of(p, 1) / "ecg.arrow").write_bytes(b"ARROW1"),
    "a file missing": lambda p: (segment_of(p, 1) / "recordings.parquet").unlink(),
    "a folder missing": lambda p: shutil.rmtree(segment_of(p, 1)),
    "a file that is a link": lambda p: (
        (segment_of(p, 1) / "bas.arrow").rename(p.parent / "elsewhere"),
        (segment_of(p, 1) / "bas.arrow").symlink_to(p.parent / "elsewhere"),
    ),
    "a folder that is a link": lambda p: (
        segment_of(p, 1).rename(p.parent / "elsewhere"),
        segment_of(p, 1).symlink_to(p.parent / "elsewhere"),
    ),
}


@pytest.mark.parametrize("damage", TRUTH.values(), ids=TRUTH.keys())
def test_damaged_truth_is_found_and_put_away(path: Path, damage: Damage) -> None:
    with sleepfm_index.open(path) as store:
        before = content(store)
    damage(path)
    found = sleepfm_index.verify(path)
    assert not found.ok
    name = segment_of(path, 1).name
    assert {f.what for f in found.findings if name in f.where} == {"damaged"}
    mended = sleepfm_index.verify(path, repair=True)
    assert mended.ok and mended.clips == 40
    assert sleepfm_index.verify(path).ok
    with sleepfm_index.open(path) as store:
        assert content(store) == {i: c for i, c in before.items() if not 30 <= i < 50}
        assert {i.target for i in store.manifest.indexes} == set(TARGETS)
        for target in TARGETS:
            ((ids, _),) = store.search(target, np.ones((1, 512), np.float32), 100)
            assert not set(ids.tolist()) & set(range(30, 50))
    with Writer(path, WEIGHTS, ROBUST) as writer:  # the recording can be built again
        assert drawn_segment("b", 20, 1).key not in writer.manifest.sources
        writer.append(drawn_segment("b", 20, 1))
    if "missing" not in next(f.why for f in found.findings if name in f.where):
        assert list((path / "quarantine").iterdir())
    outside = path.parent / "elsewhere"
    assert not outside.exists() or outside.is_file() or list(outside.iterdir())


def change_index(path: Path, change: Callable[[bytearray, int], None]) -> None:
    """Change the first index file, and let the manifest say that it is as it should be."""
    manifest = read_manifest(path)
    first = manifest.indexes[0]
    file = path / "indexes" / first.file
    content = bytearray(file.read_bytes())
    change(content, first.rows)
    file.write_bytes(content)
    changed = dataclasses.replace(first, entry=fingerprint(file))
    indexes = (changed, *manifest.indexes[1:])
    write_manifest(path, dataclasses.replace(manifest, indexes=indexes))


def other_ids(content: bytearray, rows: int) -> None:
    """Name one clip twice: the ids of the last list end where the arrays begin."""
    end = rows * (CODES["SQ4"] + 8)
    content[end - 8 : end] = content[end - 16 : end - 8]


def other_counts(content: bytearray, rows: int) -> None:
    """Move a row from one list to the next."""
    start = rows * (CODES["SQ4"] + 8)
    counts = np.frombuffer(bytes(content[start : start + 16]), "<i8") + np.array([1, -1])
    content[start : start + 16] = counts.astype("<i8").tobytes()


CACHE: dict[str, Damage] = {
    "a flipped bit": lambda p: flip(next((p / "indexes").glob("bas-*"))),
    "missing": lambda p: next((p / "indexes").glob("others_of_ecg-*")).unlink(),
    "empty": lambda p: next((p / "indexes").glob("ecg-*")).write_bytes(b""),
    "other counts": lambda p: change_index(p, other_counts),
    "other ids": lambda p: change_index(p, other_ids),
}


@pytest.mark.parametrize("damage", CACHE.values(), ids=CACHE.keys())
def test_a_damaged_cache_is_made_again_and_nothing_is_lost(path: Path, damage: Damage) -> None:
    with sleepfm_index.open(path) as store:
        before = content(store)
    damage(path)
    found = sleepfm_index.verify(path)
    assert [f.what for f in found.findings] == ["cache"] and not found.ok
    mended = sleepfm_index.verify(path, repair=True)
    assert [bool(f.repaired) for f in mended.findings] == [True] and mended.ok
    assert sleepfm_index.verify(path).findings == ()
    with sleepfm_index.open(path) as store:
        assert content(store) == before
        assert {i.target for i in store.manifest.indexes} == set(TARGETS)


def changed(data: SegmentData, modality: str, row: int, value: float) -> SegmentData:
    vectors = {m: v.copy() for m, v in data.vectors.items()}
    vectors[modality][row] *= value
    return dataclasses.replace(data, vectors=vectors)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda d: changed(d, "ecg", 3, 1.01), "ecg vectors are not of length 1"),
        (lambda d: changed(d, "bas", 0, 0.0), "bas vectors are not of length 1"),
        (lambda d: changed(d, "resp", 0, np.nan), "resp vectors are not of length 1"),
        (
            lambda d: dataclasses.replace(
                d,
                clips=d.clips.set_column(
                    d.clips.column_names.index("has_ecg"), "has_ecg", [[False] * 8]
                ),
            ),
            "clips without ecg have ecg vectors",
        ),
    ],
)
def test_vectors_are_of_length_1_or_absent(
    tmp_path: Path, make: Callable[[SegmentData], SegmentData], sentence: str
) -> None:
    with Writer(tmp_path / "s", WEIGHTS, ROBUST) as writer:
        writer.append(make(drawn_segment("a", 8, 1, lacking=0.0)))
    (finding,) = sleepfm_index.verify(tmp_path / "s").findings
    assert (finding.what, finding.why) == ("damaged", sentence)


def test_clip_ids_are_those_of_the_manifest(path: Path) -> None:
    manifest = read_manifest(path)
    segment = manifest.segments[1]
    file = path / "segments" / segment.id / "clips.parquet"
    table = pq.read_table(file)
    ids = table["clip_id"].to_numpy()[::-1]
    pq.write_table(table.set_column(0, "clip_id", [ids]), file)
    files = {**segment.files, "clips.parquet": fingerprint(file)}
    segments = list(manifest.segments)
    segments[1] = dataclasses.replace(segment, files=files)
    write_manifest(path, dataclasses.replace(manifest, segments=tuple(segments), indexes=()))
    (finding,) = (f for f in sleepfm_index.verify(path).findings if f.what == "damaged")
    assert finding.why == "its clip ids are not ascending"


def test_leftovers_are_told_and_wrong_nothing(path: Path) -> None:
    (path / "segments" / ".x.12345678.tmp").mkdir()
    (path / "segments" / "orphan-9").mkdir()
    (path / "indexes" / "bas-old.faiss").write_bytes(b"x")
    (path / "notes.txt").write_text("mine")
    (path / "snapshots" / "1.json").write_text("{")
    found = sleepfm_index.verify(path)
    assert found.ok
    assert sorted(f.where for f in found.findings) == [
        "indexes/bas-old.faiss",
        "notes.txt",
        "segments/.x.12345678.tmp",
        "segments/orphan-9",
        "snapshots/1.json",
    ]
    assert {f.what for f in found.findings} == {"leftover"}
    sleepfm_index.verify(path, repair=True)
    assert (path / "quarantine" / "notes.txt").read_text() == "mine"
    assert sleepfm_index.verify(path).findings == ()


def test_deleted_clips_of_a_damaged_segment_are_no_longer_counted(path: Path) -> None:
    sleepfm_index.delete(path, where="clip_id BETWEEN 25 AND 54")
    flip(segment_of(path, 1) / "bas.arrow", 3000)
    assert sleepfm_index.verify(path, repair=True).clips == 30
    with sleepfm_index.open(path) as store:
        assert store.manifest.deleted == ((25, 29), (50, 54))
        assert len(store.metadata.clip_ids()) == len(store) == 30


def test_a_damaged_manifest_is_not_guessed_at(path: Path) -> None:
    (path / "manifest.json").write_text("{")
    for repair in (False, True):
        with pytest.raises(FormatError, match=r"the last kept one is snapshots/3\.json"):
            sleepfm_index.verify(path, repair=repair)
    assert (path / "manifest.json").read_text() == "{"
    assert json.loads((path / "snapshots" / "3.json").read_text())["snapshot"] == 3


def test_a_link_in_place_of_all_segments_is_not_repaired(path: Path) -> None:
    (path / "segments").rename(path.parent / "elsewhere")
    (path / "segments").symlink_to(path.parent / "elsewhere")
    assert not sleepfm_index.verify(path).ok
    before = sorted((path.parent / "elsewhere").rglob("*"))
    with pytest.raises(FormatError, match="symbolic link"):
        sleepfm_index.verify(path, repair=True)
    assert sorted((path.parent / "elsewhere").rglob("*")) == before
