"""Paired differences between models, rows by group, and the baselines of every table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
from cohorts import cohort_store

import sleepfm_index
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.metrics.assessment import Predictions
from sleepfm_index.evaluation.metrics.differences import differences
from sleepfm_index.storage.manifest import WeightsIdentity

NAMES = [f"n{i}" for i in range(8)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort_store(tmp_path_factory.mktemp("pairs") / "s", NAMES, 20)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same recordings but one, in another order, by weights that know less."""
    weights = WeightsIdentity("weak", "2" * 64, True)
    folder = tmp_path_factory.mktemp("pairs") / "weak"
    return cohort_store(folder, NAMES[::-1][:-1], 20, signal=0.05, weights=weights)


def test_a_store_against_itself_does_not_differ(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        for result in (
            store.probe("stage", on="bas", folds=2, against=store),
            store.knn("stage", against=store),
        ):
            assert result.differences is not None
            for row in result.differences.to_pylist():
                assert row["auroc_difference"] == row["auroc_difference_low"] == 0
                assert row["auroc_p"] is None


def test_weights_that_know_less_are_found_worse_on_the_shared_clips(
    path: Path, noisy: Path
) -> None:
    with sleepfm_index.open(path) as store, sleepfm_index.open(noisy) as other:
        result = store.probe("stage", on="bas", folds=3, against=other)
        ours, theirs = (result.predictions[f, "clip"] for f in ("bas", "bas [against]"))
        np.testing.assert_array_equal(ours.clip_ids, theirs.clip_ids)
        np.testing.assert_array_equal(ours.truth, theirs.truth)
        held = {r["recording_id"] for r in store.rows(ours.clip_ids).to_pylist()}
        assert held == set(NAMES[1:])
        assert result.differences is not None
        macro, *classes = result.differences.to_pylist()
        assert (macro["features"], macro["against"]) == ("bas", "bas [against]")
        assert macro["auroc_difference"] == pytest.approx(macro["auroc"] - macro["auroc_against"])
        assert macro["auroc_difference_low"] > 0
        assert macro["auroc_p"] < macro["auroc_p_holm"] < 0.05
        assert all(row["accuracy"] is None for row in classes)
        votes = store.knn("stage", against=other)
        assert votes.differences is not None
        assert votes.differences.to_pylist()[0]["auroc_difference_low"] > 0


def test_the_difference_is_a_paired_t_test_over_subjects() -> None:
    """One clip per subject: the mean absolute errors' difference by scipy."""
    rng = np.random.default_rng(0)
    truth, subjects = rng.normal(50, 10, 40), np.arange(40)
    one, two = (
        Predictions(name, (), truth, truth + rng.normal(0, spread, 40), subjects, subjects)
        for name, spread in (("a", 3), ("b", 4))
    )
    (row,) = differences([(one, two)]).to_pylist()
    gap = np.abs(one.scores - truth) - np.abs(two.scores - truth)
    assert row["mae_difference"] == pytest.approx(gap.mean())
    half = row["mae_difference_high"] - gap.mean()
    error = gap.std(ddof=1) / np.sqrt(40)
    # between Student's t of 39 degrees of freedom and of a third of them
    low, high = (scipy.stats.t.ppf(0.975, df) * error for df in (39, 13))
    assert low - 1e-9 <= half <= high + 1e-9


def test_rows_by_the_values_of_a_column(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        result = store.probe("stage", on="bas", folds=2, by="nsrr_sex")
        rows = [r for r in result.to_pylist() if r["class"] == "macro" and r["features"] == "bas"]
        assert [r["group"] for r in rows] == [None, "female", "male"]
        assert rows[0]["clips"] == rows[1]["clips"] + rows[2]["clips"]
        made = result.predictions["bas", "clip"]
        sex = np.array([r["nsrr_sex"] for r in store.rows(made.clip_ids).to_pylist()])
        own = made.take(sex == "male")
        expected = sk.accuracy_score(own.truth, own.scores.argmax(axis=1))
        assert rows[2]["accuracy"] == pytest.approx(expected)
        with pytest.raises(QueryError, match="no column 'colour'"):
            store.probe("stage", on="bas", folds=2, by="colour")


def test_every_table_says_what_no_model_reaches(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        for result in (store.probe("stage", on="bas", folds=2), store.knn("stage")):
            rows = [r for r in result.to_pylist() if r["features"] == "majority class"]
            macro, *classes = rows
            shares = [r["share"] for r in classes]
            assert macro["accuracy"] == pytest.approx(max(shares)) and macro["kappa"] == 0
            assert [r["auroc"] for r in classes] == [0.5] * 5
            assert [r["auprc"] for r in classes] == pytest.approx(shares)
        rows = store.probe("age", task="regression", on="bas", folds=2).to_pylist()
        mean = [r for r in rows if r["features"] == "mean"]
        ages = store.sql("SELECT nsrr_age FROM clips").table["nsrr_age"].to_numpy()
        assert [r["level"] for r in mean] == ["clip", "subject"]
        assert mean[0]["mae"] == pytest.approx(np.abs(ages - ages.mean()).mean())
        assert mean[0]["r"] is None


def test_what_does_not_go_together_is_refused(path: Path, tmp_path: Path) -> None:
    foreign = cohort_store(tmp_path / "s", ["x1", "x2"], 20)
    with sleepfm_index.open(path) as store, sleepfm_index.open(foreign) as other:
        with pytest.raises(QueryError, match="one at a time"):
            store.probe("stage", against=store, compare_with="x.parquet")
        with pytest.raises(QueryError, match="omit --test-store"):
            store.probe(
                "stage", on="bas", against=store, test_store=other, test_where="site = 'north'"
            )
