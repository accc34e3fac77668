"""Measures against scikit-learn, and their influences against leaving subjects out."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepfm_index.evaluation.metrics.assessment import Predictions, assess
from sleepfm_index.evaluation.metrics.estimates import (
    Estimate,
    average,
    calibration_error,
    confusion,
    confusion_measures,
    correlation,
    mean,
    median,
    ranking,
)


def drawn_subjects(rng: np.random.Generator, n: int, people: int) -> np.ndarray:
    return np.unique(rng.integers(0, people, n), return_inverse=True)[1]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(2, 200), levels=st.integers(1, 100))
def test_rankings_equal_sklearn_with_ties(seed: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.integers(0, levels, n) / levels
    positive = rng.random(n) < 0.4
    auroc, auprc = ranking(score, positive, drawn_subjects(rng, n, 5))
    if not positive.any():
        assert np.isnan(auprc.value) and np.isnan(auroc.value)
        return
    assert auprc.value == pytest.approx(sk.average_precision_score(positive, score))
    if positive.all():
        assert np.isnan(auroc.value)
        return
    assert auroc.value == pytest.approx(sk.roc_auc_score(positive, score))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 9999), people=st.integers(2, 9), levels=st.integers(2, 60))
def test_influences_are_the_slopes_of_sklearn_by_the_weight_of_a_subject(
    seed: int, people: int, levels: int
) -> None:
    """With the others' share divided out, an influence is a derivative by a subject's weight."""
    rng = np.random.default_rng(seed)
    n = 40 * people
    subjects = drawn_subjects(rng, n, people)
    positive = rng.random(n) < 0.3
    positive[:2] = True, False
    score = np.round((positive + rng.normal(0, 1, n)) * levels) / levels
    predicted = score > 0.5
    matrices = np.stack(
        [sk.confusion_matrix(positive[own], predicted[own], labels=[False, True]) * 1.0
         for own in (subjects == s for s in range(subjects.max() + 1))]
    )  # fmt: skip
    accuracy, kappa, f1 = confusion_measures(matrices)
    auroc, auprc = ranking(score, positive, subjects)

    share = np.bincount(subjects) / n
    checks: list[tuple[Estimate, Callable[[np.ndarray], float], np.ndarray]] = [
        (mean(score, subjects), lambda w: float(np.average(score, weights=w)), share),
        (accuracy, lambda w: sk.accuracy_score(positive, predicted, sample_weight=w), share),
        (kappa, lambda w: sk.cohen_kappa_score(positive, predicted, sample_weight=w), share),
        (
            f1[1],
            lambda w: sk.f1_score(positive, predicted, sample_weight=w),
            np.bincount(subjects, positive * 1.0 + predicted) / (positive.sum() + predicted.sum()),
        ),
    ]
    step = 1e-5
    for estimate, measure, own in checks:
        assert estimate.value == pytest.approx(measure(np.ones(n)))
        slopes = [
            (measure(1 + step * (subjects == s)) - measure(1 - step * (subjects == s))) / (2 * step)
            for s in range(len(own))
        ]
        np.testing.assert_allclose(estimate.influence * (1 - own), slopes, atol=1e-6)
    # the two sides of a ranking are divided each by its own share, so the slopes are recovered by
    # moving the positives and the negatives of a subject one after the other
    for estimate, measure in ((auroc, sk.roc_auc_score), (auprc, sk.average_precision_score)):
        found = np.zeros(len(share))
        for side in (positive, ~positive):
            for s in range(len(share)):
                own = (subjects == s) & side
                weights = (1 + step * own, 1 - step * own)
                up, down = (measure(positive, score, sample_weight=w) for w in weights)
                found[s] += (up - down) / (2 * step) / (1 - own.sum() / side.sum())
        np.testing.assert_allclose(estimate.influence, found, atol=1e-6)


def test_the_variance_of_a_mean_is_the_jackknifes() -> None:
    rng = np.random.default_rng(1)
    subjects = np.repeat(np.arange(7), rng.integers(5, 60, 7))
    values = rng.normal(0, 1, 7)[subjects] + rng.normal(0, 1, len(subjects))
    found = mean(values, subjects)
    without = np.array([values[subjects != s].mean() for s in range(7)])
    np.testing.assert_allclose(found.influence, values.mean() - without)
    assert found.variance == pytest.approx(6 / 7 * ((values.mean() - without) ** 2).sum())


def test_degrees_of_freedom_fall_where_few_subjects_carry_the_variance() -> None:
    even = Estimate(0.5, np.array([1.0, -1.0] * 10), 20)
    one = Estimate(0.5, np.array([1.0] + [-1 / 19] * 19), 20)
    assert even.degrees == 19 and one.degrees == pytest.approx(19 / 3)


def test_a_difference_and_a_mean_of_estimates() -> None:
    a, b = Estimate(0.5, np.array([0.1, -0.1]), 9), Estimate(0.3, np.array([0.1, 0.1]), 9)
    assert a.minus(b).value == pytest.approx(0.2)
    np.testing.assert_allclose(a.minus(b).influence, [0, -0.2])
    np.testing.assert_allclose(average([a, b]).influence, [0.1, 0.0])
    assert average([a, b]).value == pytest.approx(0.4)


def test_the_influence_on_a_median_is_on_the_share_below_it() -> None:
    values, subjects = np.array([1.0, 2.0, 3.0, 9.0]), np.array([0, 0, 1, 1])
    found = median(values, subjects)
    assert found.value == 2.5
    # all of the first lie below: leaving them out moves the share below from 1/2 to 0
    np.testing.assert_allclose(found.influence, [-0.5, 0.5])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(1, 200), classes=st.integers(2, 6))
def test_confusion_measures_equal_sklearn(seed: int, n: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, classes, (2, n))
    matrix = confusion(truth, predicted, classes)
    labels = list(range(classes))
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(truth, predicted, labels=labels))
    accuracy, kappa, f1 = confusion_measures(matrix[None].astype(float))
    assert accuracy.value == pytest.approx(sk.accuracy_score(truth, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = sk.cohen_kappa_score(truth, predicted)
        by_class = sk.f1_score(truth, predicted, labels=labels, average=None, zero_division=0)
    assert kappa.value == pytest.approx(expected, nan_ok=True)
    present = np.isin(labels, truth)
    values = np.array([e.value for e in f1])
    np.testing.assert_allclose(values[present], by_class[present])
    assert np.isnan(values[~present]).all()


def test_correlation_equals_numpy_and_is_not_defined_for_constants() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = 50 + rng.standard_normal((2, 100)) * 10
    subjects = np.arange(100) % 7
    found = correlation(truth, predicted, subjects)
    assert found.value == pytest.approx(np.corrcoef(truth, predicted)[0, 1])
    without = np.array(
        [np.corrcoef(truth[subjects != s], predicted[subjects != s])[0, 1] for s in range(7)]
    )
    np.testing.assert_allclose(found.influence, found.value - without, atol=0.01)
    assert np.isnan(correlation(truth, np.full(100, 0.1), subjects).value)


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.65, 0.65, 1.0])
    right = np.array([True, False, True, True, True])
    found = calibration_error(confidence, right, np.array([0, 0, 1, 1, 1]))
    # bin 0.9..1: |2.9 - 2|, bin 0.6..0.7: |1.3 - 2|; over 5 clips
    assert found.value == pytest.approx((0.9 + 0.7) / 5)


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
    macro, *rows = assess([made], "x").to_pylist()
    for name in ("auroc", "auprc", "f1"):
        assert macro[name] == pytest.approx(np.mean([row[name] for row in rows]))
        assert macro[f"{name}_low"] < macro[name] < macro[f"{name}_high"]
    expected = sk.roc_auc_score(made.truth, made.scores, multi_class="ovr", average="macro")
    assert macro["auroc"] == pytest.approx(expected)
    said = made.scores.argmax(axis=1)
    assert macro["kappa"] == pytest.approx(sk.cohen_kappa_score(made.truth, said))
    assert [row["clips"] for row in rows] == np.bincount(made.truth).tolist()


def test_a_class_without_a_test_example_is_said_and_not_averaged() -> None:
    made = predictions(missing=2)
    result = assess([made], "x")
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
    np.testing.assert_allclose(whole.scores, [[0.7, 0.3], [0.5, 0.5]])
    np.testing.assert_array_equal(whole.truth, [0, 1])
    numbers = Predictions("bas", (), truth * 1.0, said[:, 0], made.subjects, made.clip_ids)
    np.testing.assert_allclose(numbers.per_subject().scores, [0.7, 0.5])
