"""A graph of neighbours as a kind of index: chosen, calibrated, filtered, updated and verified."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import TARGETS, WEIGHTS, drawn_segment, drawn_store

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.indexing.maintenance import IndexRequest
from sleepfm_index.indexing.reindex import update_indexes
from sleepfm_index.search import kinds
from sleepfm_index.search.hnsw import HNSW
from sleepfm_index.search.protocol import Mergeable
from sleepfm_index.storage.manifest import (
    INDEX_PARAMETERS,
    IndexEntry,
    SearchSetting,
    read_manifest,
    write_manifest,
)
from sleepfm_index.storage.vectors import Vectors
from sleepfm_index.storage.writer import Writer


def with_graphs(path: Path, sizes: dict[str, int], ef: int = 16, lacking: float = 0.2) -> Path:
    """A store whose targets are all searched by graphs, with too small an ``ef``."""
    drawn_store(path, sizes, index=False, lacking=lacking)
    with Writer(path) as writer:
        vectors = Vectors(path, writer.manifest)
        made = []
        for target in TARGETS:
            blocks = (b for s in writer.manifest.segments for b in vectors.blocks(s.id, target))
            names = tuple(s.id for s in writer.manifest.segments)
            entry = HNSW(4).write(path, target, names, HNSW(4), blocks)
            made.append(dataclasses.replace(entry, settings=(SearchSetting(0.1, 5, {"ef": ef}),)))
        writer.commit(dataclasses.replace(writer.manifest, indexes=tuple(made)))
    return path


def entry_of(path: Path, target: str = "bas") -> IndexEntry:
    return next(i for i in read_manifest(path).indexes if i.target == target)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    newer=st.integers(0, 30),
    target=st.sampled_from(TARGETS),
    k=st.integers(1, 40),
    share=st.sampled_from([0.02, 0.3, 0.8, 1.0]),
    deleted=st.booleans(),
    seed=st.integers(0, 9999),
)
def test_a_graph_never_loses_a_filter_and_no_answer_is_short(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    newer: int,
    target: str,
    k: int,
    share: float,
    deleted: bool,
    seed: int,
) -> None:
    path = with_graphs(
        tmp_path_factory.mktemp("s") / "s", {f"n{i}": n for i, n in enumerate(sizes)}
    )
    if newer:
        with Writer(path, WEIGHTS, ROBUST) as writer:
            writer.append(drawn_segment("newer", newer, seed))
    if deleted:
        sleepfm_index.delete(path, where="clip_id % 5 = 1 OR clip_id = 0")
    rng = np.random.default_rng(seed)
    with sleepfm_index.open(path) as store:
        live = store.metadata.clip_ids()
        allowed = None if share == 1.0 else live[rng.random(len(live)) < share]
        queries = (10.0 ** rng.integers(-30, 30) * rng.standard_normal((3, 512))).astype(np.float32)
        exact = store.find(target, queries, k, allowed, exact=True)
        found = store.find(target, queries, k, allowed)
    may = set((live if allowed is None else allowed).tolist())
    for (ids, scores), (best, best_scores) in zip(found.hits, exact.hits, strict=True):
        assert len(ids) == len(best)
        assert set(ids.tolist()) <= may and len(set(ids.tolist())) == len(ids)
        known = dict(zip(best.tolist(), best_scores.tolist(), strict=True))
        assert all(
            known[i] == s for i, s in zip(ids.tolist(), scores.tolist(), strict=True) if i in known
        )


def test_it_is_chosen_calibrated_described_and_verified(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 500, "b": 300}, index=False)
    said: list[str] = []
    made = sleepfm_index.reindex(path, index="HNSW16", recall=0.9, notice=said.append)
    assert [i.kind for i in made.indexes] == ["HNSW16"] * len(TARGETS)
    assert any("HNSW16 for recall@10 0.9" in line for line in said)
    assert made.features == (INDEX_PARAMETERS,) and read_manifest(path) == made
    entry = entry_of(path)
    assert entry.recall is not None and entry.recall.at_10[2] >= 0.9
    assert set(entry.settings[0].parameters) == {"ef"}
    with sleepfm_index.open(path) as store:
        assert "HNSW16" in store.info().indexes["bas"] and "; ef " in store.info().indexes["bas"]
        queries = store.vectors.of(store.metadata.clip_ids("has_ecg")[:60], "ecg")[0]
        exact, found = (store.find("bas", queries, 10, exact=e) for e in (True, False))
        assert found.method == f"approximate, recall@10 {entry.recall.at_10[0]:.3f} measured"
        pairs = zip(exact.hits, found.hits, strict=True)
        assert np.mean([np.isin(a, b).mean() for (a, _), (b, _) in pairs]) > 0.85
    assert sleepfm_index.verify(path).findings == ()
    again = sleepfm_index.reindex(path)
    assert again.indexes == made.indexes


def test_it_holds_the_stored_vectors(tmp_path: Path) -> None:
    path = with_graphs(tmp_path / "s", {"a": 100})
    graph = HNSW(4).open(path, entry_of(path))
    vectors = Vectors(path, read_manifest(path))
    stored, present = vectors.of(graph.ids(), "bas")
    assert present.all() and np.array_equal(graph.arrays.vectors.astype(np.float32), stored)
    assert not isinstance(graph.kind, Mergeable)


def test_clips_are_added_and_a_graph_is_built_again_when_clips_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepfm_index.indexing.maintenance.UNCOVERED", 10)
    path = drawn_store(tmp_path / "s", {"a": 400, "b": 30}, index=False, lacking=0.0)
    sleepfm_index.reindex(path, index="HNSW8", recall=0.5, targets=("bas",))
    sleepfm_index.delete(path, where="clip_id < 20")
    said: list[str] = []
    with Writer(path, WEIGHTS, ROBUST) as writer:
        writer.append(drawn_segment("c", 50, 51, lacking=0.0))
        update_indexes(writer, IndexRequest(only_present=True, notice=said.append))
    assert "bas: adding clips to HNSW8" in said
    graph = kinds.open_index(path, entry_of(path))
    assert sorted(graph.ids().tolist()) == list(range(480))  # deleted clips are still in it
    assert sleepfm_index.verify(path).findings == ()
    with sleepfm_index.open(path) as store:
        query = store.vectors.of(np.array([450]), "ecg")[0]
        (((first, *rest), _),) = store.search("bas", query, 400)
        assert first == 450 and min(rest) >= 20
    sleepfm_index.compact(path)
    assert entry_of(path).rows == 460 and entry_of(path).kind == "HNSW8"
    assert sleepfm_index.verify(path).findings == ()


def test_shards_are_not_for_graphs(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 200, "b": 200}, index=False)
    made = sleepfm_index.reindex(path, index="HNSW8", recall=0.5, targets=("bas",), shards=3)
    assert [i.kind for i in made.indexes] == ["HNSW8"]
    assert {p.name for p in (path / "indexes").iterdir()} == {c.file for c in made.caches}


def test_a_plan_says_what_a_graph_costs() -> None:
    (plan, *_) = sleepfm_index.plan(1_000_000, index="HNSW32")
    assert plan.kind == "HNSW32" and plan.query_ms > 0
    assert 1.2e9 < plan.disk_bytes < 1.5e9 < plan.memory_bytes
    with pytest.raises(sleepfm_index.QueryError, match="use an inverted file"):
        sleepfm_index.plan(50_000_000, index="HNSW32")


@pytest.mark.parametrize("parameters", [{"probes": 4}, {}, {"ef": 0}, {"ef": 2**60}])
def test_parameters_of_another_kind_are_refused_or_bounded(
    tmp_path: Path, parameters: dict[str, int]
) -> None:
    path = with_graphs(tmp_path / "s", {"a": 60})
    manifest = read_manifest(path)
    setting = SearchSetting(0.0, 2**50, parameters)
    indexes = tuple(dataclasses.replace(i, settings=(setting,)) for i in manifest.indexes)
    write_manifest(path, dataclasses.replace(manifest, indexes=indexes))
    with sleepfm_index.open(path) as store:
        query = np.ones((1, 512), np.float32)
        if "ef" in parameters:
            assert len(store.search("bas", query, 5)[0][0]) == 5
        else:
            with pytest.raises(sleepfm_index.FormatError, match="states no ef"):
                store.search("bas", query, 5)
