"""How a probe is learned: the penalty by inner folds, and the settings of the authors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cohorts import cohort_store
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sleepfm_index
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.labels import Labels
from sleepfm_index.evaluation.labels.splits import deal_folds
from sleepfm_index.evaluation.models.linear_probe import LinearProbe
from sleepfm_index.evaluation.models.recipe import PENALTIES, Recipe
from sleepfm_index.evaluation.models.train_test import choose_penalty


def drawn(signal: float, dimensions: int) -> tuple[np.ndarray, Labels]:
    """Twelve people of ten clips; each has a direction of its own that tells nothing of others."""
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(12), 10)
    y = rng.integers(0, 2, 120)
    x = rng.standard_normal((120, dimensions)) + 2 * rng.standard_normal((12, dimensions))[subjects]
    x[:, 0] += signal * y
    names = tuple(f"p{i}" for i in range(12))
    labels = Labels("y", "", np.arange(120), y, ("no", "yes"), subjects, names, {})
    return x.astype(np.float32), labels


@pytest.mark.parametrize(("signal", "dimensions"), [(1.0, 4), (1.0, 60), (2.0, 200)])
def test_the_penalty_is_the_best_of_scikit_learns_in_folds_of_subjects(
    signal: float, dimensions: int
) -> None:
    x, labels = drawn(signal, dimensions)
    fold = deal_folds(labels, 3, 0)
    areas = []
    for c in PENALTIES:
        found = []
        for part in range(3):
            own = fold != part
            model = make_pipeline(
                StandardScaler(), LogisticRegression(C=c, class_weight="balanced", max_iter=1000)
            ).fit(x[own], labels.values[own])
            score = model.predict_proba(x[~own])[:, 1]
            found.append(roc_auc_score(labels.values[~own], score))
        areas.append(np.mean(found))
    chosen = choose_penalty(Recipe(c=None), x, labels)
    # float32 against float64 may turn one pair round
    assert areas[PENALTIES.index(chosen)] >= max(areas) - 0.002


def test_inner_folds_need_subjects() -> None:
    x, labels = drawn(1.0, 4)
    own = labels.subjects < 2
    with pytest.raises(QueryError, match="choosing C needs 3 training subjects"):
        choose_penalty(Recipe(c=None), x[own], labels.take(own))


def test_the_choice_is_said(tmp_path: Path) -> None:
    path = cohort_store(tmp_path / "s", [f"n{i}" for i in range(6)], 20)
    with sleepfm_index.open(path) as store:
        result = store.probe("stage", on="bas", folds=2, recipe=Recipe(c=None))
        assert "C chosen in inner folds of subjects: " in result.note
        age = store.probe("age", task="regression", on="bas", folds=2, recipe=Recipe(c=None))
        assert "C chosen in inner folds of subjects: " in age.note


def test_the_authors_settings_are_sklearns_defaults_on_the_vectors_as_they_are() -> None:
    x, labels = drawn(2.0, 20)
    oracle = LogisticRegression(class_weight="balanced", max_iter=100).fit(x, labels.values)
    made = LinearProbe.fit(x.copy(), labels.values, labels.classes, Recipe.as_authors())
    np.testing.assert_allclose(made.predict(x), oracle.predict_proba(x), atol=1e-4)
