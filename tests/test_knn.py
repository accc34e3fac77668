from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cohorts import cohort_store
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

import sleepfm_index
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.models.knn import Vote
from sleepfm_index.evaluation.models.neighbour_search import nearest

NAMES = [f"n{i}" for i in range(8)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort_store(tmp_path_factory.mktemp("knn") / "s", NAMES, 40, unscored=2)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(1, 60), q=st.integers(1, 20), k=st.integers(1, 9))
def test_neighbours_are_those_of_brute_force(seed: int, n: int, q: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    gallery = (rng.integers(-3, 4, (n, 512)) / 64).astype(np.float32)
    gallery = gallery[rng.integers(0, n, n)]  # exact ties
    queries = (rng.integers(-3, 4, (q, 512)) / 64).astype(np.float32)
    groups, own = rng.integers(0, 4, n), rng.integers(-1, 4, q)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sleepfm_index.evaluation.models.neighbour_search._ROWS", 7)
        patch.setattr("sleepfm_index.evaluation.models.neighbour_search._COLUMNS", 16)
        rows, scores = nearest(queries, own, lambda r: gallery[r], groups, k)
    exact = queries.astype(np.float64) @ gallery.astype(np.float64).T
    for i in range(q):
        allowed = np.flatnonzero(groups != own[i])
        expected = allowed[np.lexsort((allowed, -exact[i, allowed]))][:k]
        np.testing.assert_array_equal(rows[i, : len(expected)], expected)
        np.testing.assert_array_equal(scores[i, : len(expected)], exact[i, expected])
        assert (rows[i, len(expected) :] == -1).all()
        assert not set(groups[rows[i, : len(expected)]]) & {own[i]}


def test_vectors_that_float32_cannot_tell_apart_are_ordered_in_float64() -> None:
    rng = np.random.default_rng(0)
    one = np.full(512, 1 / np.sqrt(512))
    gallery = (one + 1e-6 * rng.standard_normal((300, 512))).astype(np.float32)
    queries = gallery[:20] + np.float32(1e-7)
    rows, _ = nearest(queries, np.full(20, -1), lambda r: gallery[r], np.arange(300), 5)
    exact = queries.astype(np.float64) @ gallery.astype(np.float64).T
    np.testing.assert_array_equal(rows, np.argsort(-exact, axis=1, kind="stable")[:, :5])


def test_votes_are_sklearns_when_subjects_are_apart(path: Path) -> None:
    split = {"train_where": "site = 'north'", "test_where": "site = 'south'"}
    with sleepfm_index.open(path) as store:
        for weighted in (False, True):
            result = store.knn("stage", vote=Vote(k=7, weighted=weighted), **split)
            made = result.predictions["bas -> bas", "clip"]
            train = store.metadata.clip_ids("site = 'north' AND stage <> 'UNS'")
            x, q = (store.vectors.of(ids, "bas")[0] for ids in (train, made.clip_ids))
            stages = np.array(
                [
                    store.sql(f"SELECT stage FROM clips WHERE clip_id = {i}").to_pylist()[0][
                        "stage"
                    ]
                    for i in train
                ]
            )
            model = NearestNeighbors(n_neighbors=7, metric="cosine").fit(x)
            distance, at = model.kneighbors(q)
            weight = 1 - distance if weighted else np.ones_like(distance)
            total = [(weight * (stages[at] == c)).sum(axis=1) for c in made.classes]
            expected = np.stack(total, axis=1) / weight.sum(axis=1, keepdims=True)
            np.testing.assert_allclose(made.scores, expected, atol=2e-3)


def test_neighbours_know_the_stage(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        for modality, to in (("bas", None), ("ecg", "bas"), ("resp", "others")):
            row = store.knn("stage", modality=modality, to=to).to_pylist()[0]
            assert row["auroc"] > 0.9 and row["clips"] == 8 * 38 and row["answered"] == 1
        age = store.knn("age", task="regression", vote=Vote(k=5)).to_pylist()
        assert [(row["features"], row["level"]) for row in age] == [
            ("bas -> bas", "clip"), ("bas -> bas", "subject"), ("mean", "clip"), ("mean", "subject")
        ]  # fmt: skip


def test_own_subject_is_left_out(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        rows = store.neighbours("bas", clips=[5, 50, 6], k=30).to_pylist()
        owner = dict(store.sql("SELECT clip_id, subject_id FROM clips").to_pandas().to_numpy())
        assert [row["query"] for row in rows[::30]] == [5, 50, 6]
        assert all(row["subject_id"] != owner[row["query"]] for row in rows)
        assert all(row["subject_id"] == owner[row["neighbour"]] for row in rows)
        alone = store.neighbours("bas", clips=[5], k=1, exclude="none").to_pylist()
        assert alone[0]["neighbour"] == 5 and alone[0]["score"] == pytest.approx(1, abs=1e-3)
        asked = store.query("bas", to="bas", clip=5, k=30).to_pylist()
        assert [r["clip_id"] for r in asked] == [r["neighbour"] for r in rows[:30]]


def test_a_clip_never_votes_for_itself(tmp_path: Path) -> None:
    blind = cohort_store(tmp_path / "s", NAMES[:4], 30, signal=0.0)
    with sleepfm_index.open(blind) as store:
        row = store.knn("stage", vote=Vote(k=1, exclude="none")).to_pylist()[0]
        assert row["accuracy"] < 0.5


def test_a_margin_abstains(tmp_path: Path) -> None:
    path = cohort_store(tmp_path / "s", NAMES, 40, signal=0.4, noise=2.0)
    with sleepfm_index.open(path) as store:
        bold = store.knn("stage", vote=Vote(k=10)).to_pylist()[0]
        made = store.knn("stage", vote=Vote(k=10, margin=0.3))
        shy = made.to_pylist()[0]
        assert 0 < shy["answered"] < 1 and shy["accuracy"] >= bold["accuracy"]
        assert shy["auroc"] == bold["auroc"]
        pred = made.predictions["bas -> bas", "clip"]
        assert pred.answered is not None
        assert pred.confusion().sum() == pred.answered.sum()


def test_at_most_so_many_are_asked_about(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        result = store.knn("stage", queries=50, seed=3)
        assert result.to_pylist()[0]["clips"] == 50
        assert "asked about 50 clips among 304" in result.note


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"vote": {"k": 300}}, "k is 300, but a clip has only 266"),
        ({"vote": {"k": 0}}, "at least 1"),
        ({"vote": {"exclude": "everyone"}}, "everyone"),
        ({"vote": {"margin": 2}}, "0 to 1"),
        ({"modality": "eeg"}, "eeg"),
        ({"to": "eeg"}, "eeg"),
        ({"where": "stage = 'N2'"}, "two classes are needed"),
        ({"train_where": "start_s < 300", "test_where": "start_s >= 300"}, "both sides"),
    ],
)
def test_bad_questions_get_one_sentence(path: Path, asked: dict, sentence: str) -> None:
    with sleepfm_index.open(path) as store, pytest.raises(QueryError, match=sentence):
        vote = Vote(**asked.pop("vote", {}))
        store.knn("stage", vote=vote, **asked)


def test_an_approximate_index_hides_no_neighbour(tmp_path: Path) -> None:
    indexed = cohort_store(tmp_path / "s", NAMES, 40)
    with sleepfm_index.open(indexed) as store:
        true = store.neighbours("ecg", "bas", clips=range(40), k=20).table
    manifest = sleepfm_index.reindex(indexed, index="IVF8,SQ4", recall=0.1)
    assert manifest.indexes
    with sleepfm_index.open(indexed) as store:
        assert store.neighbours("ecg", "bas", clips=range(40), k=20).table == true
