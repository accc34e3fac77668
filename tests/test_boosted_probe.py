"""Boosting as a probe: its trees against scikit-learn, its file, and its place in the verbs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cohorts import cohort_store
from safetensors.numpy import load_file, save_file
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

import sleepfm_index
from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.evaluation.models import boosted_probe
from sleepfm_index.evaluation.models.boosted_probe import BINS, LEAVES, BoostedProbe
from sleepfm_index.evaluation.models.predict import write_predictions
from sleepfm_index.evaluation.models.probe import fit_probe
from sleepfm_index.evaluation.models.probe_kinds import PROBES, load_probe, save_probe
from sleepfm_index.evaluation.models.recipe import Recipe

ROUNDS = 4
RECIPE = Recipe(model="boosting")
SETTINGS = {
    "max_iter": ROUNDS, "max_leaf_nodes": LEAVES, "max_bins": BINS, "l2_regularization": 1.0,
    "early_stopping": False, "random_state": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosted_probe, "ITERATIONS", ROUNDS)


def drawn(classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(classes)
    x = rng.standard_normal((300, 8)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(int) + (x[:, 2] > 0.5) * (classes == 3)


@pytest.mark.parametrize("classes", [2, 3])
def test_its_trees_predict_what_scikit_learn_predicts(classes: int) -> None:
    x, y = drawn(classes)
    with threadpool_limits(1):
        oracle = HistGradientBoostingClassifier(class_weight="balanced", **SETTINGS).fit(x, y)
        expected = oracle.predict_proba(x)
    made = BoostedProbe.fit(x.copy(), y, tuple("abc")[:classes], RECIPE)
    np.testing.assert_allclose(made.predict(x), expected, atol=1e-12)


def test_its_trees_predict_a_number_as_scikit_learn() -> None:
    x, _ = drawn(2)
    y = x[:, 0] * 3.0 + x[:, 1] ** 2 + 40
    with threadpool_limits(1):
        expected = HistGradientBoostingRegressor(**SETTINGS).fit(x, y).predict(x)
    made = BoostedProbe.fit(x.copy(), y, (), RECIPE)
    np.testing.assert_allclose(made.predict(x), expected, atol=1e-10)


def test_a_class_that_was_not_learned_has_no_probability() -> None:
    x, y = drawn(2)
    made = BoostedProbe.fit(x, y * 2, ("a", "b", "c"), RECIPE).predict(x)
    assert (made[:, 1] == 0).all()
    np.testing.assert_allclose(made.sum(axis=1), 1)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort_store(tmp_path_factory.mktemp("boosting") / "s", [f"n{i}" for i in range(6)], 20)


def test_it_is_saved_loaded_and_predicted_from_like_the_linear_one(
    path: Path, tmp_path: Path
) -> None:
    assert set(PROBES) == {"linear", "boosting"}
    with sleepfm_index.open(path) as store:
        ids = store.metadata.clip_ids()
        x = store.vectors.of(ids, "bas")[0]
        for model in PROBES:
            fitted = fit_probe(store, "stage", "bas", recipe=Recipe(model=model))
            file = save_probe(fitted, tmp_path / f"{model}.safetensors")
            again = load_probe(file)
            assert again.kind == model and again.about["label"] == "stage"
            np.testing.assert_array_equal(again.predict(x), fitted.predict(x))
            result = store.predict(file)
            stages = store.sql("SELECT stage FROM clips ORDER BY clip_id").table["stage"]
            right = [a == b for a, b in zip(result.table["predicted"].to_pylist(),
                                            stages.to_pylist(), strict=True)]  # fmt: skip
            assert np.mean(right) > 0.7
            assert len(write_predictions(result, tmp_path / model, again)) == 1 + 2 * 6


def test_it_is_measured_on_the_probes_folds(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        result = store.probe("stage", on="bas", folds=2, recipe=RECIPE)
        linear = store.probe("stage", on="bas", folds=2)
        assert result.note.startswith("boosting probe")
        one, two = (r.predictions["bas", "clip"] for r in (result, linear))
        np.testing.assert_array_equal(one.clip_ids, two.clip_ids)
        assert result.to_pylist()[0]["auroc"] > 0.7
        with pytest.raises(QueryError, match="no model 'forest'; choose from linear, boosting"):
            store.probe("stage", recipe=Recipe(model="forest"))


@pytest.mark.parametrize("damage", ["circle", "far", "short", "kind", "class"])
def test_trees_that_do_not_agree_are_refused(tmp_path: Path, damage: str) -> None:
    x, y = drawn(3)
    file = save_probe(BoostedProbe.fit(x, y, ("a", "b", "c"), RECIPE), tmp_path / "p.safetensors")
    tensors = dict(load_file(file))
    header = {"format_version": 1, "kind": "boosting", "classes": ["a", "b", "c"],
              "converged": True, "about": {}}  # fmt: skip
    if damage == "circle":
        tensors["left"] = tensors["left"].copy()
        tensors["left"][1] = 0
    elif damage == "far":
        tensors["feature"] = tensors["feature"] + 99
    elif damage == "short":
        tensors["value"] = tensors["value"][:-1].copy()
    elif damage == "kind":
        header["kind"] = "forest"
    else:
        header["classes"] = ["a", "b"]
    save_file(tensors, file, {"sleepfm_probe": json.dumps(header)})
    with pytest.raises(FormatError, match=r"p\.safetensors is not a saved probe"):
        load_probe(file)
