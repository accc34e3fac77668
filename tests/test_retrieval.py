from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import drawn_store

import sleepfm_index
from sleepfm_index.errors import QueryError
from sleepfm_index.retrieval import DIRECTIONS, true_ranks
from sleepfm_index.schema import target_name


def brute_force(queries: np.ndarray, targets: np.ndarray) -> np.ndarray:
    ranks = []
    for i, query in enumerate(queries.astype(np.float64)):
        scores = [float(np.sum(query * t)) for t in targets.astype(np.float64)]
        ranks.append(sum(score >= scores[i] for score in scores))
    return np.array(ranks)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 70), distinct=st.integers(1, 70), seed=st.integers(0, 9999))
def test_ranks_are_those_of_a_float64_count(n: int, distinct: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((distinct, 512)).astype(np.float16).astype(np.float32)
    # Repeated rows make exact ties.
    queries, targets = x[rng.integers(0, distinct, n)], x[rng.integers(0, distinct, n)]
    queries, targets = queries / 32, targets / 32
    np.testing.assert_array_equal(true_ranks(queries, targets), brute_force(queries, targets))


def test_ranks_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    queries, targets = rng.standard_normal((2, 700, 512)).astype(np.float32) / 23
    whole = true_ranks(queries, targets)
    monkeypatch.setattr("sleepfm_index.retrieval._BLOCK", 64)
    np.testing.assert_array_equal(true_ranks(queries, targets), whole)


def test_constant_embeddings_score_as_bad_as_can_be() -> None:
    one = np.full((300, 512), 1 / np.sqrt(512), np.float32)
    assert set(true_ranks(one, one)) == {300}


def test_perfect_embeddings_score_as_perfect() -> None:
    x = np.eye(512, dtype=np.float32)[:100]
    assert set(true_ranks(x, x)) == {1}


def test_every_direction_agrees_with_brute_force(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 60, "b": 50})
    with sleepfm_index.open(path) as store:
        rows = store.evaluate().to_pylist()
        assert [(row["query"], row["target"]) for row in rows] == list(DIRECTIONS)
        for row in rows:
            ids = store.metadata.clip_ids()
            queries, has_query = store.vectors.of(ids, row["query"])
            targets, has_target = store.vectors.of(ids, target_name(row["query"], row["target"]))
            both = has_query & has_target
            ranks = brute_force(queries[both], targets[both])
            assert row["gallery"] == both.sum()
            assert row["recall_at_1"] == np.mean(ranks <= 1)
            assert row["recall_at_10"] == np.mean(ranks <= 10)
            assert row["median_rank"] == np.median(ranks)
            assert row["mrr"] == pytest.approx(np.mean(1 / ranks))
            assert row["chance_at_5"] == pytest.approx(5 / both.sum())


def test_a_gallery_is_drawn_by_its_seed(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 80}, lacking=0.0)
    with sleepfm_index.open(path) as store:
        one = store.evaluate(gallery=20, seed=3).table
        assert one["gallery"].to_pylist() == [20] * 9
        assert one.equals(store.evaluate(gallery=20, seed=3).table)
        assert not one.equals(store.evaluate(gallery=20, seed=4).table)
        assert store.evaluate(where="start_s < 300").to_pylist()[0]["gallery"] == 10


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 10}, lacking=1.0)
    with sleepfm_index.open(path) as store, pytest.raises(QueryError, match="two modalities"):
        store.evaluate()
