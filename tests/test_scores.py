from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepfm_index.evaluation.metrics.assessment import Predictions, assess
from sleepfm_index.evaluation.metrics.scores import (
    calibration_error,
    calibration_sums,
    confusion,
    confusion_scores,
    ranking_scores,
    regression_scores,
    regression_sums,
)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(2, 200), levels=st.integers(1, 100))
def test_rankings_equal_sklearn_with_ties_and_weights(seed: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.integers(0, levels, n) / levels
    positive = rng.random(n) < 0.4
    weights = rng.integers(0, 4, (5, n))
    auroc, auprc = ranking_scores(score, positive, weights)
    for b, w in enumerate(weights):
        if not (w * positive).any():
            assert np.isnan(auprc[b]) and np.isnan(auroc[b])
            continue
        expected = sk.average_precision_score(positive, score, sample_weight=w)
        assert auprc[b] == pytest.approx(expected)
        if not (w * ~positive).any():
            assert np.isnan(auroc[b])
            continue
        assert auroc[b] == pytest.approx(sk.roc_auc_score(positive, score, sample_weight=w))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(1, 200), classes=st.integers(2, 6))
def test_confusion_scores_equal_sklearn(seed: int, n: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth, said = rng.integers(0, classes, (2, n))
    matrix = confusion(truth, said, classes)
    labels = list(range(classes))
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(truth, said, labels=labels))
    found = confusion_scores(matrix.astype(float))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, said))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kappa = sk.cohen_kappa_score(truth, said)
        f1 = sk.f1_score(truth, said, labels=labels, average=None, zero_division=0)
    assert found["kappa"] == pytest.approx(kappa, nan_ok=True)
    present = np.isin(labels, truth)
    np.testing.assert_allclose(found["f1"][present], f1[present])
    assert np.isnan(found["f1"][~present]).all()


def test_regression_scores_equal_sklearn_and_scipy() -> None:
    rng = np.random.default_rng(0)
    truth, said = 50 + rng.standard_normal((2, 100)) * 10
    found = regression_scores(regression_sums(truth, said).sum(axis=0))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth, said))
    assert found["r"] == pytest.approx(np.corrcoef(truth, said)[0, 1])
    constant = regression_sums(truth, np.full(100, 3.0)).sum(axis=0)
    assert np.isnan(regression_scores(constant)["r"])


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.65, 0.65, 1.0])
    right = np.array([True, False, True, True, True])
    sums = calibration_sums(confidence, right).sum(axis=0)
    # bin 0.9..1: |2.9 - 2|, bin 0.6..0.7: |1.3 - 2|; over 5 clips
    assert calibration_error(sums) == pytest.approx((0.9 + 0.7) / 5)


def predictions(n: int = 300, people: int = 12, missing: int | None = None) -> Predictions:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 4, n)
    if missing is not None:
        truth[truth == missing] = (missing + 1) % 4
    score = rng.random((n, 4)) + 0.7 * np.eye(4)[truth]
    said = score / score.sum(axis=1, keepdims=True)
    return Predictions(
        "bas", ("a", "b", "c", "d"), truth, said, rng.integers(0, people, n), np.arange(n)
    )


def test_the_table_equals_sklearn_and_the_macro_is_the_mean() -> None:
    made = predictions()
    macro, *rows = assess([made], "x", replicates=50).to_pylist()
    for name in ("auroc", "auprc", "f1"):
        assert macro[name] == pytest.approx(np.mean([row[name] for row in rows]))
        assert macro[f"{name}_low"] < macro[name] < macro[f"{name}_high"]
    expected = sk.roc_auc_score(made.truth, made.said, multi_class="ovr", average="macro")
    assert macro["auroc"] == pytest.approx(expected)
    said = made.said.argmax(axis=1)
    assert macro["kappa"] == pytest.approx(sk.cohen_kappa_score(made.truth, said))
    assert [row["clips"] for row in rows] == np.bincount(made.truth).tolist()


def test_a_class_without_a_test_example_is_said_and_not_averaged() -> None:
    made = predictions(missing=2)
    result = assess([made], "x", replicates=20)
    macro, *rows = result.to_pylist()
    assert rows[2]["auroc"] is None and rows[2]["f1"] is None and rows[2]["clips"] == 0
    for name in ("auroc", "auprc", "f1"):
        assert macro[name] == pytest.approx(np.mean([rows[i][name] for i in (0, 1, 3)]))
    assert "no test example of c" in result.note


def test_subjects_are_the_mean_of_their_clips() -> None:
    truth = np.array([0, 0, 1, 1, 1])
    said = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.5, 0.5], [0.8, 0.2]])
    made = Predictions("bas", ("f", "m"), truth, said, np.array([4, 4, 7, 7, 7]), np.arange(5))
    whole = made.per_subject()
    np.testing.assert_allclose(whole.said, [[0.7, 0.3], [0.5, 0.5]])
    np.testing.assert_array_equal(whole.truth, [0, 1])
    numbers = Predictions("bas", (), truth * 1.0, said[:, 0], made.subjects, made.clip_ids)
    np.testing.assert_allclose(numbers.per_subject().said, [0.7, 0.5])
