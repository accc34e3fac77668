"""Transform coding: what it promises of levels, directions and scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from stores import drawn_store
from threadpoolctl import threadpool_limits

import sleepfm_index
from sleepfm_index.runtime.threads import one_thread
from sleepfm_index.search import transform_coding
from sleepfm_index.search.ivf import InvertedFile
from sleepfm_index.search.transform_coding import LEVELS, STAGES, TransformCode, learn
from sleepfm_index.storage.manifest import read_manifest
from sleepfm_index.storage.writer import Writer

Floats = NDArray[np.float32]


def low_rank(rows: int, seed: int, *, basis: int = 0, decay: float = 1.5) -> Floats:
    """Rows whose variance falls off along the directions that ``basis`` draws."""
    turned, _ = np.linalg.qr(np.random.default_rng(basis).standard_normal((512, 512)))
    x = np.random.default_rng(seed).standard_normal((rows, 512))
    x *= np.arange(1, 513) ** (-decay / 2)
    return np.asarray(x @ turned / 8, np.float32)


def decoded(code: TransformCode, codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What each stage stands for, float64 [n, 96]."""
    stages = np.empty((len(codes), STAGES), np.int64)
    stages[:, 0::2], stages[:, 1::2] = codes & 15, codes >> 4
    return code.codebook.astype(np.float64)[np.arange(STAGES), stages]


def missed(code: TransformCode, left: Floats, queries: Floats) -> float:
    """Mean squared error of the scores, as a share of their variance."""
    true = queries.astype(np.float64) @ left.T.astype(np.float64)
    given = (queries.astype(np.float64) @ code.query_basis) @ decoded(code, code.encode(left)).T
    return float(np.mean((given - true) ** 2) / np.var(true))


def test_scores_are_kept() -> None:
    left, queries = low_rank(4000, 1), low_rank(500, 2)
    assert missed(learn(left, queries), left[:500], queries) < 1e-3


def test_a_code_is_for_the_queries_it_learned_from() -> None:
    # vectors vary in all directions alike, queries only in some
    left = np.random.default_rng(1).standard_normal((4000, 512)).astype(np.float32)
    some, others = (low_rank(500, 2, basis=b, decay=4) for b in (0, 1))
    assert missed(learn(left, some), left[:500], some) < 0.01
    assert missed(learn(left, others), left[:500], some) > 0.1


def test_stages_go_where_variance_is_left() -> None:
    code = learn(low_rank(4000, 1), low_rank(500, 2))
    again = (code.vector_basis[:, 1:] == code.vector_basis[:, :-1]).all(axis=0)
    runs = np.diff(np.r_[-1, np.flatnonzero(~again), STAGES - 1])
    assert runs.sum() == STAGES and runs.max() <= 4
    # directions come by falling variance, so the first get no fewer stages than the last
    assert runs[0] >= runs[-1] == 1 and len(runs) > 40
    assert (np.diff(code.codebook) >= 0).all()


def test_a_direction_coded_in_stages_is_known_more_finely() -> None:
    # four directions hold nearly everything, as in embeddings of little training
    left, queries = (low_rank(4000, seed, decay=12) for seed in (1, 2))
    code = learn(left, queries)
    once = dataclasses.replace(code, codebook=np.where(_again(code)[:, None], 0, code.codebook))
    fine, coarse = (missed(c, left[:500], queries) for c in (code, once))
    assert fine < 1e-6 < 1e-3 < coarse


def _again(code: TransformCode) -> NDArray[np.bool_]:
    again = (code.vector_basis[:, 1:] == code.vector_basis[:, :-1]).all(axis=0)
    return np.asarray(np.r_[False, again], bool)


@given(seed=st.integers(0, 99), shape=st.sampled_from(["normal", "two", "heavy"]))
@settings(max_examples=15, deadline=None)
def test_levels_are_as_good_as_those_of_scikit_learn(seed: int, shape: str) -> None:
    rng = np.random.default_rng(seed)
    x = {
        "normal": lambda: rng.standard_normal(2000),
        "two": lambda: rng.standard_normal(2000) + 8 * rng.integers(0, 2, 2000),
        "heavy": lambda: rng.standard_t(3, 2000),
    }[shape]().astype(np.float32)
    levels = transform_coding._lloyd(x)
    error = np.min((x[:, None] - levels) ** 2, axis=1).sum()
    start = np.quantile(x, (np.arange(LEVELS) + 0.5) / LEVELS)[:, None]
    known = KMeans(LEVELS, init=start, n_init=1, max_iter=20).fit(x[:, None])
    assert error <= 1.001 * known.inertia_


@pytest.mark.parametrize("rows", [1, 2, 15, 40])
def test_few_rows_or_equal_ones_can_be_learned_from(rows: int) -> None:
    queries = low_rank(1, 2)
    for left in (
        low_rank(rows, 1),
        np.ones((rows, 512), np.float32),
        np.zeros((rows, 512), np.float32),
    ):
        code = learn(left, queries)
        assert np.isfinite(code.learned).all()
        given = (queries @ code.query_basis) @ decoded(code, code.encode(left)).T
        np.testing.assert_allclose(given, queries @ left.T, atol=0.02 * np.abs(left).max() + 1e-6)


def test_a_code_does_not_depend_on_threads_or_blocks() -> None:
    left = low_rank(20_000, 1)
    code = learn(left[:4000], low_rank(500, 2))
    with threadpool_limits(2, user_api="blas"):
        whole = code.encode(left)
    with one_thread():
        assert np.array_equal(code.encode(left), whole)
    parts = [code.encode(left[a:b]) for a, b in ((0, 1), (1, 7345), (7345, 20_000))]
    assert np.array_equal(np.concatenate(parts), whole)


def test_what_is_stored_is_what_was_learned() -> None:
    code = learn(low_rank(200, 1), low_rank(50, 2))
    again = TransformCode.of(code.learned)
    for name in ("vector_basis", "query_basis", "codebook"):
        assert np.array_equal(getattr(again, name), getattr(code, name))
    assert code.learned.shape == (transform_coding.LEARNED,)


def test_an_index_finds_first_what_scores_highest_by_its_codes(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 500}, index=False)
    sleepfm_index.reindex(path, index="IVF4,TC96x4fs", recall=0.1, targets=("bas",))
    (entry,) = read_manifest(path).indexes
    index = InvertedFile.open(path, entry)
    code = index.structure.transform
    assert code is not None
    with sleepfm_index.open(path) as store:
        queries = store.vectors.of(store.metadata.clip_ids("has_ecg")[:40], "ecg")[0]
    rows = [index.read_rows(one) for one in range(4)]
    ids = np.concatenate([ids for _, ids in rows])
    scores = np.concatenate(
        [
            (queries @ code.query_basis) @ decoded(code, codes).T + (queries @ centroid)[:, None]
            for (codes, _), centroid in zip(rows, index.structure.centroids, strict=True)
        ],
        axis=1,
    )
    best = ids[np.argsort(-scores, axis=1)[:, :10]]
    found = index.search(queries, 20, {"probes": 4})
    # FAISS adds up in eight bits a code, so the order of near ones may differ
    assert np.mean([np.isin(a, b).mean() for a, b in zip(best, found, strict=True)]) > 0.99


def test_an_index_of_a_kind_that_is_not_known_is_refused_and_made_again(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 200}, index=False)
    made = sleepfm_index.reindex(path, index="IVF4,SQ8", recall=0.3, targets=("bas",))
    (known,) = made.indexes
    with Writer(path) as writer:
        other = dataclasses.replace(known, kind="IVF4,PQ256x4fs")
        writer.commit(dataclasses.replace(writer.manifest, indexes=(other,)))
    with sleepfm_index.open(path) as store:
        query = store.vectors.of(np.arange(1), "ecg")[0]
        with pytest.raises(sleepfm_index.FormatError, match="reindex"):
            store.find("bas", query, 5)
        assert store.find("bas", query, 5, exact=True).method == "exact"
    assert any("IVF4,PQ256x4fs" in f.why for f in sleepfm_index.verify(path).findings)
    again = sleepfm_index.reindex(path, index="IVF4,SQ8", recall=0.3, targets=("bas",))
    assert [i.kind for i in again.indexes] == ["IVF4,SQ8"]
    assert sleepfm_index.verify(path).findings == ()
