"""Approximate search against exact search, and what an index is told by its calibration."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import TARGETS, WEIGHTS, drawn_segment, drawn_store, index_all, target_parts

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.indexing import calibration
from sleepfm_index.indexing.maintenance import IndexRequest
from sleepfm_index.indexing.reindex import update_indexes
from sleepfm_index.search.exact import rank, ranked
from sleepfm_index.search.ivf import InvertedFile
from sleepfm_index.search.ivf_format import BLOCK_LAYOUT, CODES, Layout
from sleepfm_index.storage.files import fingerprint
from sleepfm_index.storage.manifest import (
    IndexEntry,
    Manifest,
    SearchSetting,
    read_manifest,
    write_manifest,
)
from sleepfm_index.storage.vectors import Vectors
from sleepfm_index.storage.writer import Writer


def searched(path: Path, settings: tuple[SearchSetting, ...]) -> Path:
    """Let every index of a store be searched in a given way."""
    manifest = read_manifest(path)
    indexes = tuple(dataclasses.replace(i, settings=settings) for i in manifest.indexes)
    write_manifest(path, dataclasses.replace(manifest, indexes=indexes))
    return path


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(2, 60), min_size=1, max_size=4),
    newer=st.integers(0, 30),
    target=st.sampled_from(TARGETS),
    k=st.integers(1, 40),
    share=st.sampled_from([0.02, 0.3, 0.8, 1.0]),
    deleted=st.booleans(),
    apart=st.booleans(),
    seed=st.integers(0, 9999),
)
def test_an_index_never_loses_a_filter(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    newer: int,
    target: str,
    k: int,
    share: float,
    deleted: bool,
    apart: bool,
    seed: int,
) -> None:
    names = {f"n{i}": n for i, n in enumerate(sizes)}
    path = drawn_store(tmp_path_factory.mktemp("s") / "s", names, index=False)
    with Writer(path, WEIGHTS, ROBUST) as writer:
        index_all(writer, (target,))
    searched(
        path, (SearchSetting(0.1, 5, {"probes": 1}),)
    )  # one list is read and five are compared
    if newer:
        with Writer(path, WEIGHTS, ROBUST) as writer:
            writer.append(drawn_segment("newer", newer, seed))
    if deleted:
        sleepfm_index.delete(path, where="clip_id % 5 = 1 OR clip_id = 0")
    rng = np.random.default_rng(seed)
    with sleepfm_index.open(path) as store:
        live = store.metadata.clip_ids()
        allowed = None if share == 1.0 else live[rng.random(len(live)) < share]
        without = ((3, 9), (20, 21)) if apart else ()
        queries = rng.standard_normal((3, 512)).astype(np.float32)
        exact = store.find(target, queries, k, allowed, without=without, exact=True)
        found = store.find(target, queries, k, allowed, without=without)
        may = set((live if allowed is None else allowed).tolist())
        may -= {i for a, b in without for i in range(a, b + 1)}
    assert exact.method == "exact"
    for (ids, scores), (best, best_scores) in zip(found.hits, exact.hits, strict=True):
        assert len(ids) == len(best) == min(k, len(best))
        assert set(ids.tolist()) <= may and len(set(ids.tolist())) == len(ids)
        assert np.all(np.diff(scores) <= 0) and np.all(scores <= best_scores + 1e-12)
        known = dict(zip(best.tolist(), best_scores.tolist(), strict=True))
        assert all(
            known[i] == s for i, s in zip(ids.tolist(), scores.tolist(), strict=True) if i in known
        )


@pytest.mark.parametrize("copies", [1, 7, 300])
def test_equal_scores_are_in_order_of_clip_id(tmp_path: Path, copies: int) -> None:
    """Against a float64 oracle, where many clips have the very same vector."""
    with Writer(tmp_path / "s", WEIGHTS, ROBUST) as writer:
        for at in range(3):
            data = drawn_segment(f"n{at}", copies, 1, lacking=0.0)
            same = {m: np.repeat(v[:1], copies, axis=0) for m, v in data.vectors.items()}
            mixed = {m: v if at == 1 else same[m] for m, v in data.vectors.items()}
            writer.append(dataclasses.replace(data, key=f"{at:064x}", vectors=mixed))
    with sleepfm_index.open(tmp_path / "s") as store:
        ids = store.metadata.clip_ids()
        query = store.vectors.of(ids[:1], "ecg")[0]
        for target in TARGETS:
            vectors = store.vectors.of(ids, target)[0].astype(np.float64)
            scores = [float(np.sum(v * query[0].astype(np.float64))) for v in vectors]
            order = sorted(range(len(ids)), key=lambda i: (-scores[i], ids[i]))[:10]
            ((found, given),) = store.search(target, query, 10)
            assert found.tolist() == ids[order].tolist()
            assert given.tolist() == [scores[i] for i in order]


def test_constant_vectors_do_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepfm_index.search.exact._SPARE", 50)
    with Writer(tmp_path / "s", WEIGHTS, ROBUST) as writer:
        data = drawn_segment("a", 900, 1, lacking=0.0)
        same = {m: np.repeat(v[:1], 900, axis=0) for m, v in data.vectors.items()}
        writer.append(dataclasses.replace(data, vectors=same))
    with sleepfm_index.open(tmp_path / "s") as store:
        query = store.vectors.of(np.arange(2), "ecg")[0]
        for ids, _ in store.search("bas", query, 5):
            assert ids.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("code", [pytest.param("TC96x4fs", marks=pytest.mark.slow), "SQ4"])
def test_a_rebuilt_index_is_the_same_to_the_byte(tmp_path: Path, code: str) -> None:
    path = drawn_store(tmp_path / "s", {"a": 60, "b": 50}, index=False)
    sums = []
    for threads in (1, 2, 1):
        manifest = sleepfm_index.reindex(
            path, index=f"IVF4,{code}", recall=0.3, rebuild=True, threads=threads
        )
        sums.append([(i.target, i.entry.sha256) for i in manifest.indexes])
    assert sums[0] == sums[1] == sums[2] and len(sums[0]) == len(TARGETS)


@pytest.mark.parametrize("code", [c for c in CODES if c not in BLOCK_LAYOUT.values()])
def test_reading_all_lists_finds_what_exact_search_finds(tmp_path: Path, code: str) -> None:
    path = drawn_store(tmp_path / "s", {"a": 400}, index=False)
    sleepfm_index.reindex(path, index=f"IVF8,{code}", recall=0.2, targets=("bas",))
    # these vectors vary in all 512 directions alike, of which a transform code keeps 96
    searched(path, (SearchSetting(0.0, 200 if code.startswith("TC") else 60, {"probes": 8}),))
    with sleepfm_index.open(path) as store:
        queries = store.vectors.of(store.metadata.clip_ids("has_ecg")[:50], "ecg")[0]
        exact, found = (store.find("bas", queries, 10, exact=e) for e in (True, False))
        assert found.method.startswith("approximate, recall@10 ")
        same = [np.isin(a, b).mean() for (a, _), (b, _) in zip(exact.hits, found.hits, strict=True)]
        assert np.mean(same) > 0.99


def test_calibration_asks_with_other_modalities_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drawn_store(tmp_path / "s", {"a": 300}, index=False)
    asked: list[tuple[str, str]] = []
    real = Vectors.draw

    def watched(self: Vectors, target: str, count: int, seed: int) -> object:
        asked.append(("draw", target))
        return real(self, target, count, seed)

    def calibrate(vectors: Vectors, manifest: Manifest, entry: object, *rest: object) -> object:
        asked.append(("calibrate", entry.target))  # type: ignore[attr-defined]
        return known(vectors, manifest, entry, *rest)  # type: ignore[arg-type]

    known = calibration.calibrate
    monkeypatch.setattr(Vectors, "draw", watched)
    monkeypatch.setattr("sleepfm_index.indexing.maintenance.calibrate", calibrate)
    sleepfm_index.reindex(path, index="IVF4,SQ4", recall=0.3)
    for target in TARGETS:
        queries = calibration.draw_queries(
            Vectors(path, read_manifest(path)), read_manifest(path), target, 100, 0
        )
        assert queries.modalities and not set(queries.modalities) & set(target_parts(target))
    assert [t for what, t in asked if what == "calibrate"] == list(TARGETS)


def test_a_finer_code_is_taken_where_the_first_does_not_reach_the_recall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calibrate(vectors: Vectors, manifest: Manifest, entry: IndexEntry, *rest: object) -> object:
        if entry.kind.endswith("TC96x4fs"):
            return None
        return known(vectors, manifest, entry, *rest)  # type: ignore[arg-type]

    known = calibration.calibrate
    monkeypatch.setattr("sleepfm_index.indexing.maintenance.calibrate", calibrate)
    monkeypatch.setattr("sleepfm_index.indexing.planner.EXACT_ROWS", 100)
    path = drawn_store(tmp_path / "s", {"a": 300}, index=False)
    said: list[str] = []
    made = sleepfm_index.reindex(path, recall=0.3, targets=("bas",), notice=said.append)
    assert [i.kind for i in made.indexes] == ["IVF16,SQ8"] and made.indexes[0].settings
    assert any("IVF16,TC96x4fs does not reach a recall of 0.3" in line for line in said)
    assert {p.name for p in (path / "indexes").iterdir()} == {c.file for c in made.caches}
    again = sleepfm_index.reindex(path, targets=("bas",))
    assert again.indexes == made.indexes


def test_a_finer_code_is_taken_where_an_index_does_not_reach_a_higher_recall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepfm_index.indexing.planner.EXACT_ROWS", 100)
    path = drawn_store(tmp_path / "s", {"a": 300}, index=False)
    made = sleepfm_index.reindex(path, recall=0.3, targets=("bas",))
    assert [i.kind for i in made.indexes] == ["IVF16,TC96x4fs"]
    known = calibration.calibrate

    def calibrate(vectors: Vectors, manifest: Manifest, entry: IndexEntry, *rest: object) -> object:
        if entry.kind.endswith("TC96x4fs"):
            return None
        return known(vectors, manifest, entry, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("sleepfm_index.indexing.maintenance.calibrate", calibrate)
    higher = sleepfm_index.reindex(path, recall=0.4, targets=("bas",))
    assert [i.kind for i in higher.indexes] == ["IVF16,SQ8"] and higher.indexes[0].settings
    assert sleepfm_index.verify(path).findings == ()


def test_centroids_that_are_not_of_length_one_are_refused(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 60})
    manifest = read_manifest(path)
    first = manifest.indexes[0]
    file = path / "indexes" / first.file
    kind = Layout.parse(first.kind)
    assert kind is not None
    content = bytearray(file.read_bytes())
    start = len(content) - kind.array_bytes + 8 * kind.lists
    content[start : start + 4] = np.float32(3e38).tobytes()
    file.write_bytes(content)
    changed = dataclasses.replace(first, entry=fingerprint(file))
    write_manifest(path, dataclasses.replace(manifest, indexes=(changed, *manifest.indexes[1:])))
    with sleepfm_index.open(path) as store, pytest.raises(sleepfm_index.FormatError):
        store.find(first.target, np.ones((1, 512), np.float32), 5)


def test_what_is_measured_is_stored_shown_and_returned(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 600}, index=False)
    manifest = sleepfm_index.reindex(path, index="IVF16,SQ4", recall=0.5, targets=("bas",))
    with sleepfm_index.open(path) as store:
        entry = next(i for i in store.manifest.indexes if i.target == "bas")
        assert entry.recall is not None and entry.recall.goal == 0.5
        low = entry.recall.at_10[1]
        assert low <= entry.recall.at_10[0] <= entry.recall.at_10[2]
        assert entry.settings[0].share == 1.0
        assert store.manifest == read_manifest(path) == manifest
        assert store.manifest.features == ("inverted-lists",)
        text = store.info().indexes["bas"]
        assert "IVF16,SQ4" in text and f"recall@10 {entry.recall.at_10[0]:.3f}" in text
        clip = int(store.metadata.clip_ids("has_ecg")[0])
        result = store.query("ecg", to="bas", clip=clip, exclude="none")
        assert result.note.endswith(f"approximate, recall@10 {entry.recall.at_10[0]:.3f} measured")
        some = store.query("ecg", to="bas", clip=clip, exclude="none", exact=True)
        assert some.note.endswith("; exact")
        # The truth, by brute force, of clips that took no part: the recall is about what it says.
        ids = store.metadata.clip_ids("has_ecg")
        queries = store.vectors.of(ids, "ecg")[0]
        exact, found = (store.find("bas", queries, 10, exact=e) for e in (True, False))
        pairs = zip(exact.hits, found.hits, strict=True)
        recall = np.mean([np.isin(a, b).mean() for (a, _), (b, _) in pairs])
        assert recall >= low - 0.1


def test_selective_filters_are_searched_exactly(tmp_path: Path) -> None:
    path = searched(
        drawn_store(tmp_path / "s", {"a": 400}), (SearchSetting(0.3, 20, {"probes": 1}),)
    )
    with sleepfm_index.open(path) as store:
        query = store.vectors.of(np.array([0]), "ecg")[0]
        assert store.find("bas", query, 5, np.arange(300)).method != "exact"
        assert store.find("bas", query, 5, np.arange(100)).method == "exact"


def test_few_newer_clips_lie_beside_the_index_and_many_are_taken_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepfm_index.indexing.maintenance.UNCOVERED", 10)
    path = drawn_store(tmp_path / "s", {"a": 1000}, lacking=0.0)
    before = read_manifest(path).indexes
    with Writer(path, WEIGHTS, ROBUST) as writer:
        writer.append(drawn_segment("b", 8, 50, lacking=0.0))
        update_indexes(writer)
    assert read_manifest(path).indexes == before
    with Writer(path, WEIGHTS, ROBUST) as writer:
        writer.append(drawn_segment("c", 40, 51, lacking=0.0))
        update_indexes(writer, IndexRequest(recall=0.3))
    after = read_manifest(path).indexes
    assert [i.rows for i in after] == [1048] * len(TARGETS)
    assert all(i.recall is not None and i.recall.clips == 1048 for i in after)  # measured again
    assert sleepfm_index.verify(path).findings == ()


def test_the_plan_follows_rows_memory_and_recall() -> None:
    (small, *_) = sleepfm_index.plan(1_000)
    assert (small.kind, small.disk_bytes) == ("Flat", 16)
    (large, *_) = sleepfm_index.plan(12_000_000, memory=8 << 30)
    assert large.kind == "IVF4096,TC96x4fs" and large.memory_bytes < 3e9
    assert 0.67e9 < large.disk_bytes < 0.7e9
    (tight, *_) = sleepfm_index.plan(12_000_000, memory=1 << 30)
    assert tight.memory_bytes <= 1 << 30
    assert sleepfm_index.plan(12_000_000, recall=1.0)[0].kind == "Flat"
    assert sleepfm_index.plan(12_000_000, index="exact")[0].kind == "exact"
    assert sleepfm_index.plan(9, index="IVF4,SQ8")[0].kind == "IVF4,SQ8"
    for wrong in ("HNSW0", "HNSW999", "HNSW32,SQ8", "IVF0,SQ4", "IVF20,SQ4", "IVF4,TC96x4"):
        with pytest.raises(sleepfm_index.QueryError):
            sleepfm_index.plan(9, index=wrong)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sleepfm_index.Store]:
    path = drawn_store(tmp_path_factory.mktemp("n") / "s", {"a": 80, "b": 70, "c": 30}, index=False)
    with sleepfm_index.open(path) as store:
        yield store


@pytest.mark.parametrize("seconds", [30.0, 31.0, 300.0, 1e6])
def test_hits_are_spread_and_none_that_fits_is_missing(
    nights: sleepfm_index.Store, seconds: float
) -> None:
    clip = int(nights.metadata.clip_ids("has_ecg")[0])
    everything = nights.query("ecg", to="bas", clip=clip, exclude="none", k=1000).to_pylist()
    for k in (1, 3, 20, 500):
        asked = {"clip": clip, "exclude": "none", "k": k, "min_gap": seconds, "to": "bas"}
        hits = nights.query("ecg", **asked).to_pylist()  # type: ignore[arg-type]
        kept: list[dict[str, object]] = []
        for hit in everything:
            near = (
                abs(hit["start_s"] - one["start_s"]) < seconds  # type: ignore[operator]
                for one in kept
                if one["recording_id"] == hit["recording_id"]
            )
            if not any(near):
                kept.append(hit)
        assert [h["clip_id"] for h in hits] == [h["clip_id"] for h in kept[:k]]


def test_two_modalities_ask_together(nights: sleepfm_index.Store) -> None:
    clip = int(nights.metadata.clip_ids("has_ecg AND has_resp")[0])
    (hit, *_) = nights.query("ecg,resp", clip=clip, exclude="none").to_pylist()
    found = np.array([hit["clip_id"]])
    bas = nights.vectors.of(found, "bas")[0][0].astype(np.float64)
    cosines = [nights.vectors.of(np.array([clip]), m)[0][0] @ bas for m in ("ecg", "resp")]
    assert hit["score"] == pytest.approx(np.mean(cosines), abs=1e-6)
    lacking = int(nights.metadata.clip_ids("has_ecg AND NOT has_resp")[0])
    with pytest.raises(sleepfm_index.QueryError, match="has no resp signal"):
        nights.query("ecg,resp", clip=lacking)
    with pytest.raises(sleepfm_index.QueryError, match="there are no others"):
        nights.query("ecg,resp,bas", clip=clip)


@pytest.mark.parametrize("spread", [None, 120.0])
def test_a_whole_night_gets_the_answers_of_its_clips(
    nights: sleepfm_index.Store, spread: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepfm_index.query.batch.BATCH", 16)
    where = "stage <> 'N2'"
    reader = nights.query_many("ecg", to="bas", recording="c", k=4, where=where, min_gap=spread)
    rows = reader.read_all()
    assert reader.schema.metadata[b"note"] == b"exact, where stage <> 'N2'"
    asking = nights.metadata.clip_ids("recording_id = 'c' AND has_ecg")
    assert len(asking) > 16
    alone = [
        (int(clip), h["rank"], h["score"], h["clip_id"], h["stage"])
        for clip in asking
        for h in nights.query(
            "ecg", to="bas", clip=int(clip), k=4, where=where, min_gap=spread
        ).to_pylist()
    ]
    names = ("query_clip_id", "rank", "score", "clip_id", "stage")
    assert list(zip(*(rows[n].to_pylist() for n in names), strict=True)) == alone


@pytest.mark.parametrize("exclude", ["subject", "none"])
def test_a_whole_night_finds_only_what_the_lists_allow(
    nights: sleepfm_index.Store, exclude: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepfm_index.query.batch.BATCH", 16)
    everybody = nights.sql("SELECT DISTINCT subject_id FROM clips WHERE recording_id <> 'c'")
    gone = everybody.to_pylist()[0]["subject_id"]
    listed = [*nights.metadata.clip_ids("clip_id % 3 = 0").tolist(), 10**6]
    scope = {"where": "stage <> 'N2'", "allowed": listed, "exclude_subjects": [gone]}
    reader = nights.query_many("ecg", "bas", recording="c", k=40, exclude=exclude, **scope)  # type: ignore[arg-type]
    note = reader.schema.metadata[b"note"].decode()
    assert f"among {len(listed)} listed clips (1 of them not in this store)" in note
    assert "without 1 listed subject" in note
    found: dict[int, list[tuple[int, float]]] = {}
    for row in reader.read_all().to_pylist():
        found.setdefault(row["query_clip_id"], []).append((row["clip_id"], row["score"]))
    own = "true" if exclude == "none" else "subject_id NOT IN (SELECT subject_id FROM clips "
    own += "" if exclude == "none" else "WHERE recording_id = 'c')"
    may = nights.metadata.clip_ids(
        f"clip_id % 3 = 0 AND stage <> 'N2' AND subject_id <> '{gone}' AND has_bas AND {own}"
    )
    assert len(may)
    asking = nights.metadata.clip_ids("recording_id = 'c' AND has_ecg")
    assert sorted(found) == asking.tolist()
    candidates = nights.vectors.of(may, "bas")[0].astype(np.float64)
    for clip, hits in found.items():
        scores = candidates @ nights.vectors.of(np.array([clip]), "ecg")[0][0].astype(np.float64)
        expected = may[np.argsort(-scores, kind="stable")][:40]
        assert [i for i, _ in hits] == expected.tolist()
        np.testing.assert_allclose([s for _, s in hits], np.sort(scores)[::-1][:40], atol=1e-6)


def test_many_questions_that_do_not_fit(nights: sleepfm_index.Store) -> None:
    for asked in ({}, {"recording": "zz"}, {"clips": np.array([1]), "recording": "a"}):
        with pytest.raises(sleepfm_index.QueryError):
            nights.query_many("ecg", **asked)  # type: ignore[arg-type]
    lacking = nights.metadata.clip_ids("NOT has_ecg")
    with pytest.raises(sleepfm_index.QueryError, match="none of these clips"):
        nights.query_many("ecg", clips=lacking)


def test_samples_are_drawn_over_the_whole_store(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 500, "b": 500, "c": 500}, index=False, lacking=0.3)
    vectors = Vectors(path, read_manifest(path))
    ids, drawn = vectors.draw("bas", 300, 1)
    again, _ = vectors.draw("bas", 300, 1)
    assert np.array_equal(ids, again) and np.all(np.diff(ids) > 0)
    assert np.all(np.bincount(ids // 500, minlength=3) > 30)
    assert np.allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-3)  # none that lacks it


def test_wilson_is_the_textbooks() -> None:
    # Newcombe 1998, table I, method 3: 81/263 and 15/148.
    assert calibration.wilson(81 / 263, 263)[1:] == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert calibration.wilson(15 / 148, 148)[1:] == pytest.approx((0.0624, 0.1605), abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**20),
    queries=st.integers(1, 70),
    candidates=st.integers(0, 40),
    k=st.integers(1, 12),
)
def test_many_queries_rank_their_candidates_as_one_does(
    seed: int, queries: int, candidates: int, k: int
) -> None:
    """With candidates in common, equal vectors, and fewer candidates for some queries."""
    rng = np.random.default_rng(seed)
    stored = rng.standard_normal((60, 512)).astype(np.float16).astype(np.float32)
    stored[30:40] = stored[20:30]
    asked = rng.standard_normal((queries, 512)).astype(np.float32)
    ids = np.full((queries, candidates), -1)
    for row in ids:
        some = rng.permutation(60)[: rng.integers(0, candidates + 1)]
        row[: len(some)] = some
        rng.shuffle(row)
    found = ranked(lambda wanted: stored[wanted], asked, ids, k)
    assert len(found) == queries
    for query, row, (near, scores) in zip(asked, ids, found, strict=True):
        alone = rank(lambda wanted: stored[wanted], query, row[row >= 0], k)
        assert near.tolist() == alone[0].tolist()
        np.testing.assert_allclose(scores, alone[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (np.zeros(512), "all zeros"),
        (np.full(512, np.nan), "NaN"),
        (np.r_[np.inf, np.zeros(511)], "infinity"),
        (np.full(512, 3e38), None),  # its squares overflow in float32
        (np.full(512, 1e-40), None),  # and these underflow
    ],
)
def test_only_queries_without_direction_are_refused(
    tmp_path: Path, query: np.ndarray, message: str | None
) -> None:
    drawn_store(tmp_path / "s", {"a": 30})
    with sleepfm_index.open(tmp_path / "s") as store:
        asked = query.astype(np.float32)[None]
        if message is None:
            ((ids, _),) = store.search("bas", asked, 5)
            assert len(ids) == 5
        else:
            with pytest.raises(sleepfm_index.QueryError, match=message):
                store.search("bas", asked, 5)


def test_a_query_of_doubles_is_answered_as_one_of_floats(tmp_path: Path) -> None:
    drawn_store(tmp_path / "s", {"a": 300})
    with Writer(tmp_path / "s", WEIGHTS, ROBUST) as writer:
        update_indexes(writer, IndexRequest(recall=0.5, index="IVF4,TC96x4fs"))
    query = np.random.default_rng(0).normal(size=(1, 512))
    with sleepfm_index.open(tmp_path / "s") as store:
        ((ids, scores),) = store.search("bas", query, 5)
        ((same, near),) = store.search("bas", query.astype(np.float32), 5)
        assert ids.tolist() == same.tolist()
        assert scores.tolist() == near.tolist()
        with pytest.raises(sleepfm_index.QueryError, match="infinity"):
            store.search("bas", np.full((1, 512), 1e200), 5)


def test_a_query_has_the_hits_that_it_has_among_others(tmp_path: Path) -> None:
    # Many clips are equal to the resolution of the codes, so that the order of lists would matter.
    path = drawn_store(tmp_path / "s", {"a": 900})
    with Writer(path, WEIGHTS, ROBUST) as writer:
        update_indexes(writer, IndexRequest(recall=0.5, index="IVF8,TC96x4fs"))
    searched(path, (SearchSetting(1.0, 60, {"probes": 4}),))
    queries = np.random.default_rng(1).normal(size=(60, 512)).astype(np.float32)
    with sleepfm_index.open(path) as store:
        together = store.search("bas", queries, 10)
        for query, (ids, _) in zip(queries, together, strict=True):
            ((alone, _),) = store.search("bas", query[None], 10)
            assert alone.tolist() == ids.tolist()


def test_a_store_without_clips_names_the_clip_that_is_missing(tmp_path: Path) -> None:
    with Writer(tmp_path / "s", WEIGHTS, ROBUST):
        pass
    with (
        sleepfm_index.open(tmp_path / "s") as store,
        pytest.raises(sleepfm_index.QueryError, match="no clip 3"),
    ):
        store.vectors.of(np.array([3]), "bas")


def test_a_busy_machine_does_not_make_filters_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = InvertedFile.search

    def slow(*args: object) -> np.ndarray:
        time.sleep(0.003)
        return search(*args)

    shares = []
    for name, searched_by in (("idle", search), ("busy", slow)):
        monkeypatch.setattr(InvertedFile, "search", searched_by)
        path = drawn_store(tmp_path / name, {"a": 400}, index=False)
        manifest = sleepfm_index.reindex(path, index="IVF8,SQ4", recall=0.3, targets=("bas",))
        shares.append([s.share for s in manifest.indexes[0].settings])
    # comparing a tenth of 400 clips costs less than a search
    assert shares[0] == shares[1] == [1.0, 0.3]


def test_a_filter_between_two_calibrated_shares_takes_the_wider_search_and_more_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = searched(
        drawn_store(tmp_path / "s", {"a": 400}),
        (SearchSetting(1.0, 60, {"probes": 1}), SearchSetting(0.3, 20, {"probes": 2})),
    )
    search, asked = InvertedFile.search, []

    def recorded(index: InvertedFile, queries: np.ndarray, k: int, *others: Any) -> np.ndarray:
        asked.append((k, others[0]["probes"]))
        return search(index, queries, k, *others)

    monkeypatch.setattr(InvertedFile, "search", recorded)
    with sleepfm_index.open(path) as store:
        query = store.vectors.of(np.array([0]), "ecg")[0]
        for allowed in (400, 200, 120):
            store.find("bas", query, 5, np.arange(allowed))
        assert asked == [(60, 1), (60, 2), (20, 2)]
