from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cohorts import cohort_store
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import drawn_store

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.retrieval.retrieval import directions, true_ranks
from sleepfm_index.schema import target_name

MODALITIES = ROBUST.modalities
DIRECTIONS = directions(MODALITIES)


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
    monkeypatch.setattr("sleepfm_index.evaluation.retrieval.ranks._ROWS", 64)
    monkeypatch.setattr("sleepfm_index.evaluation.retrieval.ranks._COLUMNS", 100)
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
            target = target_name(row["query"], row["target"], MODALITIES)
            targets, has_target = store.vectors.of(ids, target)
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


def test_galleries_of_one_recording_and_of_the_others_agree_with_brute_force(
    tmp_path: Path,
) -> None:
    path = drawn_store(tmp_path / "s", {"a": 30, "b": 20, "c": 1}, lacking=0.0)
    with sleepfm_index.open(path) as store:
        ids = store.metadata.clip_ids()
        night = np.repeat([0, 1, 2], [30, 20, 1])
        queries, targets = (store.vectors.of(ids, m)[0].astype(np.float64) for m in ("ecg", "bas"))
        scores = queries @ targets.T
        at_least = scores >= np.diag(scores)[:, None]
        other = night[:, None] != night[None]
        within = (at_least & ~other).sum(axis=1)
        cross = (at_least & other).sum(axis=1) + 1
        for among, ranks, sizes in (
            ("within-recording", within, np.bincount(night)[night]),
            ("cross-recording", cross, 51 - np.bincount(night)[night] + 1),
        ):
            result = store.evaluate(among=among)
            found = result.ranked["ecg", "bas"]
            np.testing.assert_array_equal(found.ranks, ranks)
            np.testing.assert_array_equal(found.sizes, sizes)
            row = result.to_pylist()[DIRECTIONS.index(("ecg", "bas"))]
            assert row["chance_at_5"] == pytest.approx(np.minimum(1, 5 / sizes).mean())


def test_top_hits_are_those_of_the_scores(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 40, "b": 30}, lacking=0.0)
    with sleepfm_index.open(path) as store:
        rows = store.sql("SELECT * FROM clips ORDER BY clip_id").to_pylist()
        ids = store.metadata.clip_ids()
        queries, targets = (store.vectors.of(ids, m)[0] for m in ("ecg", "bas"))
        top = (queries @ targets.T).argmax(axis=1)
        row = store.evaluate().to_pylist()[DIRECTIONS.index(("ecg", "bas"))]

        def share(same: object) -> float:
            return float(np.mean([same(rows[i], rows[j]) for i, j in enumerate(top)]))  # type: ignore[operator]

        assert row["top_same_stage"] == share(lambda a, b: a["stage"] == b["stage"])
        assert row["top_same_subject"] == share(lambda a, b: a["subject_id"] == b["subject_id"])
        assert row["top_same_minute"] == share(
            lambda a, b: (
                a["recording_id"] == b["recording_id"] and abs(a["start_s"] - b["start_s"]) <= 60
            )
        )


def test_groups_split_the_queries_and_not_the_gallery(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 80, "b": 60}, lacking=0.0)
    with sleepfm_index.open(path) as store:
        result = store.evaluate(by="stage")
        rows = [r for r in result.to_pylist() if (r["query"], r["target"]) == ("ecg", "bas")]
        assert [r["group"] for r in rows] == [None, "N1", "N2", "N3", "R", "W"]
        whole, *parts = rows
        assert sum(r["queries"] for r in parts) == whole["queries"] == 140
        assert {r["gallery"] for r in rows} == {140}
        mean = sum(r["recall_at_1"] * r["queries"] for r in parts) / 140
        assert mean == pytest.approx(whole["recall_at_1"])
        with pytest.raises(QueryError, match="colour"):
            store.evaluate(by="colour")


def test_draws_are_pooled(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 80}, lacking=0.0)
    with sleepfm_index.open(path) as store:
        single = [store.evaluate(gallery=20, seed=s).to_pylist()[0] for s in (3, 4, 5)]
        pooled = store.evaluate(gallery=20, seed=3, draws=3).to_pylist()[0]
        recalls = [row["recall_at_1"] for row in single]
        with pytest.raises(QueryError, match="--gallery N"):
            store.evaluate(draws=3)
        assert pooled["recall_at_1"] == pytest.approx(np.mean(recalls))
        assert pooled["recall_at_1_sd"] == pytest.approx(np.std(recalls, ddof=1))
        assert (pooled["draws"], pooled["gallery"], pooled["queries"]) == (3, 20, 60)


def test_two_modalities_find_the_third_better_than_one(tmp_path: Path) -> None:
    path = cohort_store(tmp_path / "s", "abcd", noise=2.5, signal=0.2)
    with sleepfm_index.open(path) as store:
        rows = store.evaluate(combinations=True).to_pylist()
        by_pair = {(r["query"], r["target"]): r for r in rows}
        assert by_pair["bas+ecg", "resp"]["mrr"] > by_pair["ecg", "resp"]["mrr"] + 0.05


def test_a_combination_needs_both_of_its_modalities(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 200})
    with sleepfm_index.open(path) as store:
        row = store.evaluate(combinations=True).to_pylist()[-1]
        assert (row["query"], row["target"]) == ("bas+ecg", "resp")
        assert row["gallery"] == len(store.metadata.clip_ids("has_bas AND has_ecg AND has_resp"))


def test_intervals_hold_the_estimate_and_need_six_subjects(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", dict.fromkeys("abcdefgh", 15))
    with sleepfm_index.open(path) as store:
        for row in store.evaluate().to_pylist():
            for name in ("recall_at_1", "mrr", "median_rank"):
                assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        alone = store.evaluate(where="recording_id = 'a'").to_pylist()[0]
        assert alone["mrr_low"] is None and alone["subjects"] == 1


def test_two_stores_are_compared_clip_by_clip(tmp_path: Path) -> None:
    one = cohort_store(tmp_path / "one", "abc")
    # the same recordings, one fewer, in another order and with more noise
    two = cohort_store(tmp_path / "two", "ca", noise=3.0)
    with sleepfm_index.open(one) as store, sleepfm_index.open(two) as other:
        same = store.evaluate(against=store)
        assert "3 subjects are too few for intervals; the minimum is 6" in same.note
        same = same.to_pylist()
        assert all(row["mrr_difference"] == 0 for row in same)
        assert all(row["mrr_difference_low"] is None for row in same)
        alone = store.evaluate().to_pylist()
        assert [r["recall_at_5"] for r in same] == [r["recall_at_5"] for r in alone]
        for row in store.evaluate(against=other, gallery=50, seed=2).to_pylist():
            assert row["gallery"] == 50
            assert row["mrr_difference"] == pytest.approx(row["mrr"] - row["mrr_against"])
            assert row["mrr_difference"] > 0
        backwards = other.evaluate(against=store).to_pylist()[0]
        forwards = store.evaluate(against=other).to_pylist()[0]
        assert backwards["mrr_difference"] == pytest.approx(-forwards["mrr_difference"])


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"gallery": 0}, "at least 1"),
        ({"draws": 0}, "draws must be at least 1"),
        ({"among": "everywhere"}, "cross-recording"),
    ],
)
def test_questions_that_make_no_sense(tmp_path: Path, asked: dict, sentence: str) -> None:
    path = drawn_store(tmp_path / "s", {"a": 10})
    with sleepfm_index.open(path) as store, pytest.raises(QueryError, match=sentence):
        store.evaluate(**asked)
