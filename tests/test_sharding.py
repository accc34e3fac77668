"""An index coded in shards is the index coded at once, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from stores import drawn_store
from test_cluster import command, finished, longer

import sleepfm_index
from sleepfm_index.indexing import shards
from sleepfm_index.search import ivf_builder
from sleepfm_index.search.ivf_format import CODES
from sleepfm_index.search.ivf_kind import InvertedFileKind
from sleepfm_index.storage.manifest import IndexEntry, read_manifest
from sleepfm_index.storage.vectors import Vectors

SIZES = {f"r{at}": 40 + 7 * at for at in range(7)}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_store(tmp_path_factory.mktemp("shards") / "s", SIZES, index=False)


def content(store: Path, entry: IndexEntry) -> bytes:
    return (store / "indexes" / entry.file).read_bytes()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("target", ["ecg", "others_of_ecg"])
@pytest.mark.parametrize("count", [1, 3, 50])
def test_shards_merged_are_the_whole(path: Path, code: str, target: str, count: int) -> None:
    manifest = read_manifest(path)
    vectors = Vectors(path, manifest)
    _, sample = vectors.draw(target, 200, 0)
    kind = InvertedFileKind(8, code)
    structure = kind.train(sample, sample)
    parts = shards.divided(manifest, count)
    assert [name for part in parts for name in part] == [s.id for s in manifest.segments]
    assert len(parts) == min(count, len(SIZES))
    merged = shards.write(path, target, kind, structure, parts, shards.here)
    names = tuple(s.id for s in manifest.segments)
    blocks = (block for name in names for block in vectors.blocks(name, target))
    whole = ivf_builder.write(path, target, names, structure, blocks)
    assert content(path, merged) == content(path, whole)
    assert (merged.rows, merged.segments, merged.kind) == (whole.rows, names, whole.kind)


def test_the_order_of_shards_is_that_of_clips_not_of_who_was_first(path: Path) -> None:
    manifest = read_manifest(path)
    _, sample = Vectors(path, manifest).draw("bas", 200, 0)
    kind = InvertedFileKind(4, "SQ8")
    structure = kind.train(sample, sample)
    parts = shards.divided(manifest, 4)

    def backwards(
        store: str, trained: IndexEntry, parts: list[tuple[str, ...]]
    ) -> list[IndexEntry]:
        return shards.here(store, trained, parts[::-1])[::-1]

    one = shards.write(path, "bas", kind, structure, parts, shards.here)
    other = shards.write(path, "bas", kind, structure, parts, backwards)
    assert content(path, one) == content(path, other)


def test_only_the_merged_file_stays(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = drawn_store(tmp_path / "s", {"a": 300, "b": 300, "c": 200}, index=False)
    made = sleepfm_index.reindex(store, index="IVF4,TC96x4fs", shards=3)
    assert made.indexes
    assert capfd.readouterr().out == ""
    assert {p.name for p in (store / "indexes").iterdir()} == {c.file for c in made.caches}
    assert sleepfm_index.verify(store).findings == ()
    plain = drawn_store(tmp_path / "p", {"a": 300, "b": 300, "c": 200}, index=False)
    alone = sleepfm_index.reindex(plain, index="IVF4,TC96x4fs")
    for mine, theirs in zip(made.indexes, alone.indexes, strict=True):
        assert content(store, mine) == content(plain, theirs)


@longer
def test_shards_coded_by_dask(tmp_path: Path) -> None:
    stores = [drawn_store(tmp_path / n, {"a": 300, "b": 300}, index=False) for n in "ab"]
    words = ["reindex", "--index", "IVF4,TC96x4fs", "--engine", "dask", "--shards", "2"]
    client = command(*words, "--store", str(stores[0]), cwd=tmp_path)
    said = finished(client)
    by_dask = read_manifest(stores[0])
    assert client.returncode == 0 and len(by_dask.indexes) == 6 and "resizing" not in said, said
    alone = sleepfm_index.reindex(stores[1], index="IVF4,TC96x4fs")
    for mine, theirs in zip(by_dask.indexes, alone.indexes, strict=True):
        assert content(stores[0], mine) == content(stores[1], theirs)
