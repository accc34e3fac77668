"""Intervals: how often they hold the truth, and what they never do."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepfm_index.evaluation.metrics import intervals, student_t
from sleepfm_index.evaluation.metrics.assessment import Predictions, assess
from sleepfm_index.evaluation.metrics.estimates import Estimate, mean, ranking
from sleepfm_index.evaluation.metrics.paired_difference import difference, holm, p_value

SAMPLES = 120
"""Samples of the fast test; that of `make test-slow` has MANY."""
MANY = 1000
LOW, HIGH = 0.93, 0.97
"""The range that docs/evaluation.md claims; what is outside it there is listed below."""
OVER = ("per subject, AUPRC", "recall@1 = .01, 100")
"""Measures whose bounds are cautious: at complete separation, and of a handful of hits."""


def error(share: float, samples: int) -> float:
    """Standard error of a share of independent samples."""
    return math.sqrt(share * (1 - share) / samples)


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    file = Path(__file__).resolve().parents[1] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_benchmark", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("people", [8, 12, 40])
def test_intervals_hold_the_truth_as_often_as_they_say(coverage: ModuleType, people: int) -> None:
    """The full table is of benchmarks/coverage.py; this is it with fewer samples.

    Three standard errors above .95 are more than 1 for so few samples, so that an interval is too
    wide if it holds the truth in all of them.
    """
    most = min(0.95 + 3 * error(0.95, SAMPLES), 1 - 1 / SAMPLES)
    for name, row in coverage.coverage(people, SAMPLES, seed=1).items():
        assert row["covered"] >= LOW - 4 * error(0.95, SAMPLES), name
        assert name.startswith(OVER) or row["covered"] <= most, name
        assert row["outside"] == 0 and row["points"] == 0, name


@pytest.mark.slow
@pytest.mark.parametrize("people", [12, 40])
def test_intervals_cover_93_to_97_percent(coverage: ModuleType, people: int) -> None:
    """The measures that are cheap to draw, with enough samples to see a per cent."""
    drawn = (coverage.recall, coverage.clips_of_classes, coverage.errors, coverage.pairs)
    names = ("recall@", "per clip, AUROC", "MAE", "difference of ")
    table = coverage.coverage(people, MANY, seed=1, scenarios=drawn)
    checked = {name: row for name, row in table.items() if name.startswith(names)}
    assert len(checked) == 13
    for name, row in checked.items():
        assert row["covered"] >= LOW - 2 * error(LOW, MANY), name
        assert row["covered"] <= HIGH + 2 * error(HIGH, MANY), name
        assert row["outside"] == 0 and row["points"] == 0, name


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    people=st.integers(1, 12),
    clips=st.integers(1, 12),
    levels=st.integers(1, 4),
    classes=st.integers(2, 3),
)
def test_no_estimate_lies_outside_its_interval(
    seed: int, people: int, clips: int, levels: int, classes: int
) -> None:
    rng = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(people), clips)
    truth = rng.integers(0, classes, len(subjects))
    if seed % 3 == 0:
        truth = truth[::clips][subjects] if clips > 1 else truth
    scores = rng.integers(0, levels, (len(subjects), classes)) + (seed % 4) * np.eye(classes)[truth]
    scores = (scores + 0.01) / (scores + 0.01).sum(axis=1, keepdims=True)
    made = Predictions("x", tuple("abc"[:classes]), truth, scores, subjects, subjects)
    parts = [made, made.per_subject()] if seed % 3 == 0 else [made]
    for row in assess(parts, "").to_pylist():
        check(row, ("auroc", "auprc", "f1", "accuracy", "kappa", "calibration_error"))
    number = Predictions("x", (), truth * 1.0, scores[:, 0] * levels, subjects, subjects)
    for row in assess([number], "").to_pylist():
        check(row, ("mae", "r"))


def check(row: dict[str, object], names: tuple[str, ...]) -> None:
    for name in names:
        value, low, high = (row[name + end] for end in ("", "_low", "_high"))
        assert (low is None) == (high is None)
        if low is not None:
            assert low - 1e-9 <= value <= high + 1e-9, (name, row)
        if row["subjects"] < intervals.FEWEST and row["class"] in (None, "macro"):
            assert low is None


@pytest.mark.parametrize(
    ("degrees", "probability"), [(2.4, 0.975), (5, 0.975), (18.3, 0.9), (200, 0.995)]
)
def test_student(degrees: float, probability: float) -> None:
    expected = scipy.stats.t.ppf(probability, degrees)
    assert student_t.student_quantile(probability, degrees) == pytest.approx(expected, rel=1e-6)
    assert student_t.student_cdf(expected, degrees) == pytest.approx(probability, rel=1e-9)


@pytest.mark.parametrize("people", [6, 8, 40])
def test_bounds_at_0_and_1_are_those_of_clopper_and_pearson_over_subjects(people: int) -> None:
    subjects = np.repeat(np.arange(people), 30)
    low, high = intervals.proportion(mean(np.zeros(len(subjects)), subjects))
    exact = scipy.stats.binomtest(0, people).proportion_ci(0.95, "exact")
    assert (low, high) == pytest.approx((exact.low, exact.high))
    low, high = intervals.proportion(mean(np.ones(len(subjects)), subjects))
    assert (low, high) == pytest.approx((1 - exact.high, 1.0))


def test_a_proportion_of_independent_subjects_is_wilsons() -> None:
    values = np.array([1.0] * 30 + [0.0] * 70)
    found = intervals.proportion(mean(values, np.arange(100)))
    wilson = scipy.stats.binomtest(30, 100).proportion_ci(0.95, "wilson")
    # Student's t and S - 1 widen it by some 2 %
    assert found == pytest.approx((wilson.low, wilson.high), abs=0.004)


def test_complete_separation_is_no_certainty() -> None:
    """Newcombe's bounds for 4 against 4 without an overlap, by a search over a fine grid."""
    score, positive = np.arange(8.0), np.arange(8) >= 4
    area, _ = ranking(score, positive, np.arange(8))
    low, high = intervals.auroc(area, (4, 4), (4, 4))
    grid = np.linspace(0.01, 0.999, 9891)
    spread = 1 + 3 * ((1 - grid) / (2 - grid) + grid / (1 + grid))
    inside = 1 - grid <= 1.959964 * np.sqrt(grid * (1 - grid) * spread / 16)
    assert high == 1.0 and low == pytest.approx(grid[inside].min(), abs=2e-4)


def test_few_subjects_have_no_interval_and_it_is_said() -> None:
    subjects = np.repeat(np.arange(5), 10)
    truth = np.tile([0, 1], 25)
    scores = np.column_stack([1 - truth * 0.6, truth * 0.6])
    result = assess([Predictions("x", ("a", "b"), truth, scores, subjects, subjects)], "note")
    assert all(row["auroc_low"] is None for row in result.to_pylist())
    assert "5 subjects are too few for intervals; the minimum is 6" in result.note
    assert intervals.too_few(1) == "1 subject is too few for intervals; the minimum is 6"


def test_a_class_of_few_subjects_is_said() -> None:
    subjects = np.repeat(np.arange(20), 5)
    truth = (subjects < 3).astype(int)
    scores = np.random.default_rng(0).dirichlet([1, 1], 100)
    result = assess([Predictions("x", ("no", "yes"), truth, scores, subjects, subjects)], "note")
    assert "few subjects of a class: yes (3)" in result.note


def test_a_difference_of_a_model_with_itself_is_nothing() -> None:
    rng = np.random.default_rng(2)
    one = mean(rng.random(80), np.arange(80) // 8)
    span = intervals.proportion(one)
    assert difference(one, one, span, span, same=True) == (0.0, 0.0)
    perfect = mean(np.ones(80), np.arange(80) // 8)
    span = intervals.proportion(perfect)
    low, high = difference(perfect, perfect, span, span)
    assert low < 0 < high


def test_few_degrees_of_freedom_where_few_subjects_determine_a_measure() -> None:
    influence = np.linspace(-1, 1, 13)
    per_subject, per_clip = Estimate(0.5, influence, 13), Estimate(0.5, influence, 130)
    assert per_subject.degrees_up_to(0.5) == per_subject.degrees
    assert per_clip.degrees_up_to(0.5) == 6
    assert per_clip.degrees_up_to(1.0) == per_clip.degrees
    assert intervals.limit_near_bounds(0.5) == 1
    assert intervals.limit_near_bounds(0.2, 0.8) == pytest.approx(1)
    assert intervals.limit_near_bounds(0.0, 0.5) == pytest.approx(1 / 3)
    assert intervals.limit_near_bounds(0.9) == pytest.approx(0.75)
    assert intervals.limit_near_bounds(1.0, clustered=False) == 0.5


def test_the_p_of_a_difference_is_below_5_percent_where_its_interval_leaves_0_out() -> None:
    rng = np.random.default_rng(5)
    subjects = np.repeat(np.arange(12), 40)
    for shift in np.linspace(0, 2, 21):
        own = rng.normal(0, 1, 12)[subjects]
        one = mean(np.abs(own + rng.normal(shift, 1, 480)), subjects)
        two = mean(np.abs(own), subjects)
        hits = [mean((np.abs(own) > at).astype(float), subjects) for at in (shift, 9.0)]
        for a, b, measure in ((one, two, "score"), (one, two, "error"), (*hits, "recall")):
            spans = (
                [intervals.proportion(e) for e in (a, b)] if measure == "recall" else [(0, 1)] * 2
            )
            low, high = difference(a, b, *spans, measure=measure)
            p = p_value(a, b, (low, high), measure=measure)
            assert (p < 0.05) == (low > 0 or high < 0)


def test_a_difference_of_recalls_without_variance_is_no_certainty() -> None:
    subjects = np.repeat(np.arange(8), 100)
    none, tenth, more = (
        mean((np.arange(800) % 100 < n).astype(float), subjects) for n in (0, 10, 13)
    )
    mixed = mean((np.arange(800) % 100 < subjects * 4).astype(float), subjects)
    for one, two in ((tenth, more), (mixed, none), (tenth, mixed)):
        spans = [intervals.proportion(e, e.value * (1 - e.value) / 800) for e in (one, two)]
        low, high = difference(one, two, *spans, measure="recall")
        assert high - low > 0.05
        p = p_value(one, two, (low, high), measure="recall")
        assert math.isnan(p) or (p < 0.05) == (low > 0 or high < 0)


def test_holm_is_by_hand() -> None:
    assert holm([0.01, 0.04, math.nan, 0.03]) == pytest.approx(
        [0.03, 0.06, math.nan, 0.06], nan_ok=True
    )
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_p_of_a_difference_is_that_of_a_paired_t_test() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.2, 1, 30), rng.normal(0, 1, 30)
    one, two = mean(a, np.arange(30)), mean(b, np.arange(30))
    apart = Estimate(one.value - two.value, one.influence - two.influence, 30)
    expected = 2 * scipy.stats.t.sf(
        abs(apart.value) / np.sqrt((a - b).var(ddof=1) / 30), apart.degrees
    )
    span = difference(one, two, (0, 1), (0, 1))
    assert p_value(one, two, span) == pytest.approx(expected)
