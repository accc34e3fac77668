from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepfm_index.evaluation.metrics.bootstrap import (
    draw_subjects,
    interval,
    resampled_means,
    resampled_medians,
    student_quantile,
)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(1, 80), people=st.integers(1, 9))
def test_resamples_are_those_of_repeating_the_subjects(seed: int, n: int, people: int) -> None:
    rng = np.random.default_rng(seed)
    _, subjects = np.unique(rng.integers(0, people, n), return_inverse=True)
    people = int(subjects.max()) + 1
    values = rng.integers(0, 10, (n, 2)).astype(float)
    counts = draw_subjects(people, 20, seed)
    assert (counts.sum(axis=1) == people).all()
    means = resampled_means(values, subjects, counts)
    medians = resampled_medians(values[:, 0], subjects, counts)
    for b, drawn in enumerate(counts):
        sample = np.repeat(values, drawn[subjects], axis=0)
        np.testing.assert_allclose(means[b], sample.mean(axis=0))
        assert medians[b] == np.median(sample[:, 0])


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    subjects = rng.integers(0, 7, 200)
    values, counts = rng.standard_normal(200), draw_subjects(7, 50)
    whole = resampled_medians(values, subjects, counts)
    monkeypatch.setattr("sleepfm_index.evaluation.metrics.bootstrap._CELLS", 3 * 200)
    np.testing.assert_array_equal(resampled_medians(values, subjects, counts), whole)


@pytest.mark.parametrize("degrees", [3, 5, 18, 200])
def test_student(degrees: int) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(
        scipy.stats.t.ppf(0.975, degrees), rel=0.01
    )


@pytest.mark.parametrize("people", [8, 40])
def test_intervals_over_subjects_cover_at_their_nominal_rate(people: int) -> None:
    """Clips of a person agree, so an interval over clips would cover far too rarely."""
    trials, clips = 800, 25
    rng = np.random.default_rng(people)
    subjects = np.repeat(np.arange(people), clips)
    covered = by_clip = 0
    for trial in range(trials):
        of_person = rng.normal(0.5, 0.2, people)
        values = of_person[subjects] + rng.normal(0, 0.2, len(subjects))
        means = resampled_means(values, subjects, draw_subjects(people, 400, trial))
        low, high = interval(means, people)
        covered += low <= 0.5 <= high
        spread = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
        by_clip += abs(values.mean() - 0.5) <= spread
    # 95 % +- 3 standard errors of 800 trials, and a point for the percentiles of 400 resamples
    assert 0.917 <= covered / trials <= 0.983
    assert by_clip / trials < 0.6


def test_one_subject_has_no_interval() -> None:
    assert np.isnan(interval(np.ones(10), 1)).all()
    assert np.isnan(interval(np.full(10, np.nan), 5)).all()
    assert interval(np.array([1.0, np.nan, 1.0]), 5) == (1.0, 1.0)
