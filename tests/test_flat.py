"""The index of every store: exact through FAISS, over the vector files where they lie."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import TARGETS, WEIGHTS, drawn_segment, drawn_store

import sleepfm_index
from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.indexing.maintenance import IndexRequest
from sleepfm_index.indexing.planner import EXACT_ROWS, plan_rows
from sleepfm_index.indexing.reindex import reindex, update_indexes
from sleepfm_index.search.flat import Flat
from sleepfm_index.search.flat_index import FlatIndex
from sleepfm_index.search.mapped_vectors import MappedVectors
from sleepfm_index.search.protocol import ExhaustiveIndex
from sleepfm_index.storage import paths
from sleepfm_index.storage.manifest import read_manifest, write_manifest
from sleepfm_index.storage.vectors import Vectors
from sleepfm_index.storage.writer import Writer
from sleepfm_index.store import Store


def brute_force(
    store: Store, target: str, query: np.ndarray, k: int, allowed: np.ndarray | None
) -> tuple[list[int], list[float]]:
    """The nearest by float64 products over all vectors, equal scores by clip id."""
    ids = store.metadata.clip_ids(None) if allowed is None else allowed
    vectors, present = store.vectors.of(ids, target)
    ids, wide = ids[present], vectors[present].astype(np.float64)
    scores = np.einsum("nd,d->n", wide, query.astype(np.float64))
    order = np.lexsort((ids, -scores))[:k]
    return ids[order].tolist(), scores[order].tolist()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=3),
    newer=st.integers(0, 30),
    target=st.sampled_from(TARGETS),
    k=st.integers(1, 60),
    share=st.sampled_from([0.05, 0.5, None]),
    deleted=st.booleans(),
    lacking=st.sampled_from([0.0, 0.3]),
    twice=st.booleans(),
    seed=st.integers(0, 9999),
)
def test_answers_are_those_of_brute_force(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    newer: int,
    target: str,
    k: int,
    share: float | None,
    deleted: bool,
    lacking: float,
    twice: bool,
    seed: int,
) -> None:
    """Filters, deletions, clips that came later, and ties, at any number of answers."""
    path = tmp_path_factory.mktemp("flat") / "s"
    drawn_store(path, {f"n{i}": n for i, n in enumerate(sizes)}, index=False, lacking=lacking)
    if twice:  # the same vectors under other clip ids
        with Writer(path, WEIGHTS) as writer:
            again = drawn_segment("twin", sizes[0], 0, lacking=lacking)
            writer.append(dataclasses.replace(again, key="f" * 64))
    reindex(path)
    if newer:
        with Writer(path, WEIGHTS) as writer:
            writer.append(drawn_segment("newer", newer, 99, lacking=lacking))
    if deleted:
        sleepfm_index.delete(path, recording="n0")
    rng = np.random.default_rng(seed)
    with sleepfm_index.open(path) as store:
        ids = store.metadata.clip_ids(None)
        allowed = None if share is None else ids[rng.random(len(ids)) < share]
        near = store.vectors.of(ids[:1], target)[0][0] if len(ids) else np.zeros(512)
        queries = rng.standard_normal((2, 512)).astype(np.float32)
        queries[1] = near + 0.01 * queries[1]
        found = store.find(target, queries, k, allowed)
        assert found.method == "exact"
        for query, (got, scores) in zip(queries, found.hits, strict=True):
            expected = brute_force(store, target, query, k, allowed)
            assert got.tolist() == expected[0]
            np.testing.assert_allclose(scores, expected[1], rtol=0, atol=1e-14)


def test_a_build_leaves_an_index_of_every_target(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 40, "b": 30}, index=False)
    said: list[str] = []
    made = reindex(path, notice=said.append)
    assert [(i.target, i.kind) for i in made.indexes] == [(t, "Flat") for t in TARGETS]
    assert said == []
    for index in made.indexes:
        ids_alone = index.target in ("bas", "ecg", "resp")
        assert (index.entry.bytes < 1024) == ids_alone, "vectors of a modality are not copied"
        opened = Flat().open(path, index, Vectors(path, made))
        assert isinstance(opened, ExhaustiveIndex)
    assert reindex(path).indexes == made.indexes
    with sleepfm_index.open(path) as store:
        assert all(
            text == f"Flat, {i.rows} clips, exact search"
            for i, text in zip(made.indexes, store.info().indexes.values(), strict=True)
        )
    assert sleepfm_index.verify(path).findings == ()


def test_it_is_used_and_looks_into_the_vector_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drawn_store(tmp_path / "s", {"a": 200}, index=False, lacking=0.0)
    reindex(path)
    asked = []
    search = MappedVectors.search

    def watched(self: MappedVectors, *args: object) -> object:
        asked.append(self)
        return search(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(MappedVectors, "search", watched)
    with sleepfm_index.open(path) as store:
        result = store.query("ecg", to="bas", clip=3, exclude="none")
        assert len(result) == 10 and asked
        codes = faiss.downcast_InvertedLists(asked[0].index.invlists).codes.at(0)
        start = store.vectors._mapped(store.manifest.segments[0].id, "bas").ctypes.data
        address = faiss.rev_swig_ptr(codes.data(), 1).ctypes.data
        assert address == start and not codes.is_owned


def test_it_follows_the_store(tmp_path: Path) -> None:
    """Clips that come, go and are compacted; a store from before indexes answers and gets them."""
    path = drawn_store(tmp_path / "s", {"a": 40, "b": 30}, index=False)
    with sleepfm_index.open(path) as store:
        before = store.search("bas", np.eye(1, 512, dtype=np.float32), 5)
    reindex(path)
    with sleepfm_index.open(path) as store:
        after = store.search("bas", np.eye(1, 512, dtype=np.float32), 5)
    np.testing.assert_array_equal(before[0][0], after[0][0])
    with Writer(path, WEIGHTS) as writer:
        writer.append(drawn_segment("c", 20, 7))
        update_indexes(writer)
        assert all(len(i.segments) == 3 for i in writer.manifest.indexes)
    sleepfm_index.delete(path, recording="a")
    sleepfm_index.compact(path)
    made = read_manifest(path)
    assert {i.target for i in made.indexes} == set(TARGETS)
    for index in made.indexes:
        ids = Flat().open(path, index).ids()
        assert ids.min() >= 40 and made.live(ids).all()
    assert sleepfm_index.verify(path).findings == ()


def test_scores_that_float32_cannot_tell_apart_are_told_by_float64() -> None:
    rng = np.random.default_rng(0)
    one = (rng.standard_normal(512) / 30).astype(np.float16)
    rows = np.repeat(one[None], 300, axis=0)
    rows[np.arange(300), rng.integers(0, 512, 300)] *= np.float16(1.001)
    index = FlatIndex("bas", np.array([[10, 309]]), rows, 0.0, None)
    query = rows[5].astype(np.float32)
    found = index.candidates(query, 5)
    exact = rows.astype(np.float64) @ query.astype(np.float64)
    assert found is not None and len(found) > 27
    assert set(10 + np.argsort(-exact, kind="stable")[:5]) <= set(found.tolist())


def test_the_kind_follows_the_clips_and_the_recall() -> None:
    assert plan_rows(EXACT_ROWS).kind == "Flat"
    assert plan_rows(EXACT_ROWS + 1).kind.startswith("IVF")
    assert plan_rows(10 * EXACT_ROWS, recall=1).kind == "Flat"
    assert plan_rows(10, index="exact").kind == "exact"


def test_flat_that_was_asked_for_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleepfm_index.indexing.planner.EXACT_ROWS", 50)
    path = drawn_store(tmp_path / "s", {"a": 120}, index=False)
    assert {i.kind for i in reindex(path, index="Flat", targets=("bas",)).indexes} == {"Flat"}
    with Writer(path, WEIGHTS) as writer:
        writer.append(drawn_segment("c", 200, 7))
        update_indexes(writer, IndexRequest(targets=("bas",)))
        assert {i.kind for i in writer.manifest.indexes if i.target == "bas"} == {"Flat"}


def test_where_no_other_kind_reaches_the_recall_all_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepfm_index.indexing.planner.EXACT_ROWS", 50)
    monkeypatch.setattr("sleepfm_index.indexing.maintenance.calibrate", lambda *_: None)
    path = drawn_store(tmp_path / "s", {"a": 120}, index=False)
    said: list[str] = []
    made = reindex(path, targets=("bas",), notice=said.append)
    assert [i.kind for i in made.indexes] == ["Flat"]
    assert any("SQ8 does not reach a recall of 0.99" in line for line in said)
    assert {p.name for p in (path / paths.INDEXES).iterdir()} == {c.file for c in made.caches}
    said.clear()
    assert reindex(path, targets=("bas",), notice=said.append).indexes == made.indexes
    assert not any("training" in line for line in said), "tried again with twice as many clips"
    with Writer(path, WEIGHTS) as writer:
        writer.append(drawn_segment("b", 150, 7))
        update_indexes(writer, IndexRequest(targets=("bas",), notice=said.append))
    assert any("training" in line for line in said)


@pytest.mark.parametrize("target", ["bas", "others_of_bas"])
@pytest.mark.parametrize("damage", ["twice", "unknown", "count", "rounding"])
def test_a_file_that_is_not_of_the_store_is_refused(
    tmp_path: Path, target: str, damage: str
) -> None:
    path = drawn_store(tmp_path / "s", {"a": 30}, index=False, lacking=0.0)
    made = reindex(path)
    entry = next(i for i in made.indexes if i.target == target)
    file = path / paths.INDEXES / entry.file
    content = bytearray(file.read_bytes())
    runs = {"twice": (0, 14, 14, 28), "unknown": (40, 69), "count": (0, 40), "rounding": (0, 29)}
    content[-16:] = np.array(runs[damage], "<i8").tobytes()
    if damage == "rounding":
        if target == "bas":
            return
        content[-24:-16] = np.array([np.inf], "<f8").tobytes()
    file.write_bytes(content)
    size = dataclasses.replace(entry.entry, bytes=len(content))
    changed = dataclasses.replace(entry, entry=size)
    others = tuple(i for i in made.indexes if i.target != target)
    write_manifest(path, dataclasses.replace(made, indexes=(*others, changed)))
    with sleepfm_index.open(path) as store, pytest.raises(FormatError, match="verify --repair"):
        store.search(target, np.eye(1, 512, dtype=np.float32), 40)


def test_store_faiss_gives_the_answers_of_query(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 60, "b": 50}, index=False)
    reindex(path)
    sleepfm_index.delete(path, recording="a")
    with sleepfm_index.open(path) as store:
        with pytest.raises(QueryError):
            store.faiss("eeg")
        for target in TARGETS:
            index = store.faiss(target)
            assert isinstance(index, faiss.IndexIDMap)
            agrees(store, target, index)
    index.add_with_ids(np.eye(1, 512, dtype=np.float32), np.array([7]))  # the caller's own
    assert index.search(np.eye(1, 512, dtype=np.float32), 1)[1].tolist() == [[7]]


def test_an_export_is_read_by_faiss_alone(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 60, "b": 50}, index=False)
    sleepfm_index.delete(path, recording="a")
    out = tmp_path / "faiss"
    done = sleepfm_index.export(path, out, format="faiss")
    assert {p.name for p in out.iterdir()} == {"origin.json", *(f"{t}.faiss" for t in TARGETS)}
    with sleepfm_index.open(path) as store:
        assert done.clips == len(store)
        for target in TARGETS:
            for flags in (0, faiss.IO_FLAG_MMAP_IFC):
                agrees(store, target, faiss.read_index(str(out / f"{target}.faiss"), flags))
    few = sleepfm_index.export(path, tmp_path / "n3", format="faiss", where="stage = 'N3'")
    with sleepfm_index.open(path) as store:
        wanted = store.metadata.clip_ids("stage = 'N3' AND has_bas")
    index = faiss.read_index(str(few.path / "bas.faiss"))
    assert sorted(faiss.vector_to_array(index.id_map)) == wanted.tolist()
    with pytest.raises(QueryError, match="de-identified"):
        sleepfm_index.export(path, tmp_path / "x", format="faiss", deidentified=True)


def agrees(store: Store, target: str, index: faiss.IndexIDMap) -> None:
    """A FAISS index finds what the store finds, with its scores, and what a selector lets it."""
    ids = store.metadata.clip_ids(None)
    present = store.vectors.of(ids, target)[1]
    assert index.ntotal == present.sum()
    queries = np.random.default_rng(0).standard_normal((4, 512)).astype(np.float32)
    lengths = np.linalg.norm(queries, axis=1)
    scores, found = index.search(queries, 8)
    for query, length, got, own in zip(queries, lengths, found, scores, strict=True):
        ((expected, exact),) = store.search(target, query[None], 8)
        assert got.tolist() == expected.tolist()
        np.testing.assert_allclose(own, exact, atol=2e-4 * length)
    half = faiss.IDSelectorBatch(ids[::2].copy())
    some = index.search(queries, 5, params=faiss.SearchParameters(sel=half))[1]
    for query, got in zip(queries, some, strict=True):
        ((expected, _),) = store.search(target, query[None], 5, ids[::2])
        assert got.tolist() == expected.tolist()
