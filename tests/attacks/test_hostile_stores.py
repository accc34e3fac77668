"""Stores made to harm whoever opens them: each must fail closed, with one sentence.

The attacker here may write every file of the store, the manifest with its hashes included.
"""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import WEIGHTS, drawn_store

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.errors import FormatError, StoreError
from sleepfm_index.storage.files import fingerprint
from sleepfm_index.storage.manifest import read_manifest, write_manifest
from sleepfm_index.storage.segments import map_vectors
from sleepfm_index.storage.writer import Writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return drawn_store(tmp_path / "s", {"a": 30}, lacking=0.0)


def agree(path: Path) -> None:
    """Let the manifest state the sizes and hashes of whatever lies on the disk."""
    manifest = read_manifest(path)
    segments = [
        dataclasses.replace(
            s, files={name: fingerprint(path / "segments" / s.id / name) for name in s.files}
        )
        for s in manifest.segments
    ]
    indexes = [
        dataclasses.replace(i, entry=fingerprint(path / "indexes" / i.file))
        for i in manifest.indexes
    ]
    changed = dataclasses.replace(manifest, segments=tuple(segments), indexes=tuple(indexes))
    write_manifest(path, changed)


def ask_everything(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        store.sql("SELECT count(*), max(start_s) FROM clips").to_pylist()
        store.vectors.of(np.arange(3), "bas")
        store.search("bas", np.ones((1, 512), np.float32), 3)


def index_file(path: Path, target: str = "bas") -> Path:
    (index,) = (i for i in read_manifest(path).indexes if i.target == target)
    return path / "indexes" / index.file


@pytest.mark.parametrize("count", [2**62, 2**40, 2**31, 31, -1, -(2**63)])
def test_lists_of_absurd_lengths(path: Path, count: int) -> None:
    file = index_file(path)
    content = bytearray(file.read_bytes())
    at = 30 * (256 + 8)
    counts = struct.unpack_from("<2q", content, at)
    assert sum(counts) == 30
    # Alone, and so that the sum stays what it should be.
    for pair in ((count, counts[1]), (count, (30 - count + 2**63) % 2**64 - 2**63)):
        struct.pack_into("<2q", content, at, *pair)
        file.write_bytes(content)
        agree(path)
        with sleepfm_index.open(path) as store, pytest.raises(FormatError, match="damaged"):
            store.search("bas", np.ones((1, 512), np.float32), 3)
        assert not sleepfm_index.verify(path).ok


@pytest.mark.parametrize("content", [b"", b"IwSq", b"IwSq" + b"\xff" * 300, bytes(1 << 20)])
def test_an_index_of_rubbish(path: Path, content: bytes) -> None:
    index_file(path).write_bytes(content)
    agree(path)
    with sleepfm_index.open(path) as store, pytest.raises(FormatError):
        store.search("bas", np.ones((1, 512), np.float32), 3)


def test_an_index_of_numbers_that_are_none(path: Path) -> None:
    file = index_file(path)
    content = bytearray(file.read_bytes())
    content[-4:] = struct.pack("<f", float("nan"))
    file.write_bytes(content)
    agree(path)
    with sleepfm_index.open(path) as store, pytest.raises(FormatError, match="damaged"):
        store.search("bas", np.ones((1, 512), np.float32), 3)


@pytest.mark.parametrize(
    "kind",
    [
        "IVF2",
        "IVF0,SQ4",
        "IVF99999999,SQ4",
        "IVF2,SQ5",
        "IVF2,SQ4;rm",
        "IVF3,SQ4",
        "IVF2,TC96x4",
        "IVF2,TC96x4fs",
    ],
)
def test_an_index_of_another_kind(path: Path, kind: str) -> None:
    edit(path, "indexes/0/kind", kind)
    with sleepfm_index.open(path) as store, pytest.raises(FormatError):
        store.search("bas", np.ones((1, 512), np.float32), 3)


@pytest.mark.parametrize("clip", [10**6, 2**31, 2**62, -2, -(2**62)])
def test_an_index_that_names_clips_of_nobody(path: Path, clip: int) -> None:
    file = index_file(path)
    content = bytearray(file.read_bytes())
    first = struct.unpack_from("<q", content, 30 * 264)[0]
    for row in range(first):
        struct.pack_into("<q", content, first * 256 + 8 * row, clip)
    file.write_bytes(content)
    agree(path)
    with sleepfm_index.open(path) as store:
        if clip >= 0:
            with pytest.raises(StoreError):
                store.search("bas", np.ones((1, 512), np.float32), 30)
        else:  # no clip at all
            ((ids, _),) = store.search("bas", np.ones((1, 512), np.float32), 30)
            assert (ids >= 0).all()
        ((ids, _),) = store.search("bas", np.ones((1, 512), np.float32), 30, np.arange(30))
        assert set(ids.tolist()) <= set(range(30))
    assert not sleepfm_index.verify(path).ok


_MAP = """
import sys
from pathlib import Path
from sleepfm_index.errors import FormatError
from sleepfm_index.storage.manifest import read_manifest
from sleepfm_index.storage.segments import map_vectors
path = Path(sys.argv[1])
(segment,) = read_manifest(path).segments
file = path / "segments" / segment.id / "bas.arrow"
whole = file.read_bytes()
body = 30 * 1024
start = whole.index(bytes.fromhex(sys.argv[2]))
places = [*range(start), *range(start + body, len(whole))]
refused = 0
for at in places:
    for value in (0x00, 0x7F, 0x80, 0xFF):
        changed = bytearray(whole)
        changed[at] = value
        file.write_bytes(changed)
        try:
            vectors = map_vectors(path, segment, "bas")
            assert vectors.shape == (30, 512) and vectors.dtype == "float16"
            vectors.sum()
        except FormatError:
            refused += 1
print(len(places), refused)
"""


def test_an_arrow_file_that_lies_in_any_byte_is_refused_or_harmless(path: Path) -> None:
    (segment,) = read_manifest(path).segments
    first = (path / "segments" / segment.id / "bas.arrow").read_bytes()
    vectors = read_vectors(path)
    start = vectors[0].tobytes()[:32].hex()
    assert bytes.fromhex(start) in first
    # In a process of its own: what fails is not Python's memory.
    done = subprocess.run(
        [sys.executable, "-c", _MAP, str(path), start], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    places, refused = map(int, done.stdout.split())
    assert places > 500 and refused > 100


def read_vectors(path: Path) -> np.ndarray:

    (segment,) = read_manifest(path).segments
    return map_vectors(path, segment, "bas")


@pytest.mark.parametrize("rows", [29, 31])
def test_an_arrow_file_of_other_rows(path: Path, rows: int) -> None:
    (segment,) = read_manifest(path).segments
    file = path / "segments" / segment.id / "bas.arrow"
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(rows * 512, np.float16)), 512)
    table = pa.table({"vector": column})
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    agree(path)
    with pytest.raises(FormatError, match=r"rows|not a vector file"):
        ask_everything(path)


def test_a_parquet_bomb_is_not_unpacked(path: Path) -> None:
    (segment,) = read_manifest(path).segments
    file = path / "segments" / segment.id / "clips.parquet"
    table = pq.read_table(file)
    huge = pa.array(["0" * 10_000_000] * 30).dictionary_encode()
    bomb = table.set_column(
        table.column_names.index("raw_stage"), "raw_stage", huge.cast(pa.string())
    )
    pq.write_table(bomb, file, compression="zstd", use_dictionary=False)
    assert file.stat().st_size < 1_000_000
    agree(path)
    with pytest.raises(FormatError, match="would unpack to more than 30 clips can need"):
        ask_everything(path)
    with pytest.raises(FormatError, match="would unpack"):
        sleepfm_index.delete(path, where="clip_id = 0")


def test_a_parquet_file_of_a_hundred_million_rows(path: Path) -> None:
    (segment,) = read_manifest(path).segments
    file = path / "segments" / segment.id / "clips.parquet"
    pq.write_table(pa.table({"clip_id": pa.repeat(pa.scalar(1, pa.int64()), 10**7)}), file)
    agree(path)
    with pytest.raises(FormatError, match="does not hold the 30 rows"):
        ask_everything(path)


def change(path: Path, **values: object) -> None:
    plain = json.loads((path / "manifest.json").read_text())
    plain.update(values)
    (path / "manifest.json").write_text(json.dumps(plain))


def edit(path: Path, place: str, value: object) -> None:
    plain = json.loads((path / "manifest.json").read_text())
    *parents, last = place.split("/")
    inside: Any = plain
    for name in parents:
        inside = inside[int(name) if isinstance(inside, list) else name]
    inside[last] = value
    (path / "manifest.json").write_text(json.dumps(plain))


MANIFESTS: dict[str, Callable[[Path], object]] = {
    "a segment outside": lambda p: edit(p, "segments/0/id", "../../outside"),
    "a segment that is a root": lambda p: edit(p, "segments/0/id", "/etc"),
    "an index outside": lambda p: edit(p, "indexes/0/file", "../../../etc/passwd"),
    "a file outside": lambda p: edit(
        p, "segments/0/files", {"../x.parquet": {"bytes": 1, "sha256": ""}}
    ),
    "ids beyond memory": lambda p: change(p, next_clip_id=2**62),
    "rows beyond memory": lambda p: edit(p, "segments/0/rows", 2**62),
    "a last id beyond memory": lambda p: edit(p, "segments/0/last_clip_id", 2**62),
    "deleted clips nobody had": lambda p: change(p, deleted=[[0, 2**62]]),
    "ranges that overlap": lambda p: change(p, deleted=[[0, 5], [3, 8]]),
    "a range backwards": lambda p: change(p, deleted=[[5, 0]]),
    "a deep nest": lambda p: (p / "manifest.json").write_text("[" * 200_000),
    "a long number": lambda p: (p / "manifest.json").write_text('{"snapshot": ' + "9" * 10**6),
    "features that are none": lambda p: change(p, features=None),
    "a link": lambda p: (
        (p / "manifest.json").rename(p.parent / "m.json"),
        (p / "manifest.json").symlink_to(p.parent / "m.json"),
    ),
    "a pipe": lambda p: ((p / "manifest.json").unlink(), os.mkfifo(p / "manifest.json")),
    "millions of entries": lambda p: (p / "manifest.json").write_text(
        "[" + "{}," * (1 << 22) + "{}]"
    ),
    "a terabyte": lambda p: os.truncate(p / "manifest.json", 2**40),
}


@pytest.mark.parametrize("attack", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_hostile_manifest(path: Path, attack: Callable[[Path], object]) -> None:
    attack(path)
    with pytest.raises(FormatError) as refused:
        ask_everything(path)
    assert "\n" not in str(refused.value)
    with pytest.raises(FormatError):
        Writer(path, WEIGHTS, ROBUST).__enter__()


def outside(path: Path, inside: Path) -> None:
    """Move something out of the store, and leave a link in its place."""
    place = path.parent / "outside"
    inside.rename(place)
    inside.symlink_to(place)


LINKS: dict[str, Callable[[Path], Path]] = {
    "the clips": lambda p: next((p / "segments").glob("*/clips.parquet")),
    "the vectors": lambda p: next((p / "segments").glob("*/bas.arrow")),
    "a segment": lambda p: next((p / "segments").iterdir()),
    "all segments": lambda p: p / "segments",
    "an index": index_file,
    "all indexes": lambda p: p / "indexes",
}


@pytest.mark.parametrize("which", LINKS.values(), ids=LINKS.keys())
def test_links_out_of_the_store_are_not_followed(path: Path, which: Callable[[Path], Path]) -> None:
    outside(path, which(path))
    with pytest.raises(FormatError, match="is a symbolic link"):
        ask_everything(path)


@pytest.mark.parametrize("folder", ["segments", "indexes", "snapshots"])
def test_a_writer_does_not_write_through_a_link(path: Path, folder: str) -> None:
    outside(path, path / folder)
    before = sorted((path.parent / "outside").rglob("*"))
    for change_it in (sleepfm_index.compact, sleepfm_index.reindex):
        with pytest.raises(FormatError, match="is a symbolic link"):
            change_it(path)
    assert sorted((path.parent / "outside").rglob("*")) == before


def test_the_lock_is_not_written_through_a_link(path: Path) -> None:
    victim = path.parent / "victim"
    victim.write_text("precious")
    (path / ".lock").unlink(missing_ok=True)
    (path / ".lock").symlink_to(victim)
    with pytest.raises(FormatError, match="is a symbolic link"):
        sleepfm_index.compact(path)
    assert victim.read_text() == "precious"
