"""Stages smoothed by transitions, age with its bias corrected, survival."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
from cohorts import cohort_store

import sleepfm_index
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.models.age_gap import BiasLine
from sleepfm_index.evaluation.models.recipe import Recipe
from sleepfm_index.evaluation.models.stage_transitions import Night, Transitions
from sleepfm_index.evaluation.models.survival import FollowUp, concordance
from sleepfm_index.truth import write_truth

MODEL = Transitions(
    np.array([0.5, 0.3, 0.2]), np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]])
)


def brute(likelihood: np.ndarray, steps: list[int]) -> np.ndarray:
    """Posterior of each clip by the sum over every path of one night."""
    n, k = likelihood.shape
    found = np.zeros((n, k))
    for path in itertools.product(range(k), repeat=n):
        p = MODEL.initial[path[0]] * likelihood[0, path[0]]
        for at in range(1, n):
            power = np.linalg.matrix_power(MODEL.matrix, steps[at])
            p *= power[path[at - 1], path[at]] * likelihood[at, path[at]]
        for at, state in enumerate(path):
            found[at, state] += p
    return found / found.sum(axis=1, keepdims=True)


def test_smoothing_is_the_sum_over_all_paths() -> None:
    likelihood = np.random.default_rng(0).dirichlet([1, 1, 1], 9)
    steps = np.array([0, 1, 1, 3, 1, 0, 1, 2, 1])
    order = np.random.default_rng(1).permutation(9)
    found = MODEL.smooth(likelihood, Night(order, steps))[order]
    inside = likelihood[order]
    np.testing.assert_allclose(found[:5], brute(inside[:5], list(steps[:5])))
    np.testing.assert_allclose(found[5:], brute(inside[5:], list(steps[5:])))


def test_transitions_are_counted_between_neighbours_only() -> None:
    night = Night(np.array([2, 0, 1, 3]), np.array([0, 1, 2, 1]))
    counted = Transitions.counted(night, np.array([1, 1, 0, 1]), 2)
    # clips in order 0, 1, 1, 1: a step, a gap, a step
    np.testing.assert_allclose(counted.matrix, [[1 / 3, 2 / 3], [1 / 3, 2 / 3]])
    np.testing.assert_allclose(counted.initial, [2 / 6, 4 / 6])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"n{i}" for i in range(24)]
    return cohort_store(tmp_path_factory.mktemp("heads") / "s", names, 5, index=False)


def test_smoothed_stages_stand_beside_the_plain_ones(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        result = store.probe("stage", on="bas", folds=2, smooth=True, classes=["W", "N2", "R"])
        macro = [r for r in result.to_pylist() if r["class"] == "macro"]
        assert [r["features"] for r in macro] == ["bas", "bas + transitions", "majority class"]
        made = result.predictions["bas + transitions", "clip"]
        np.testing.assert_allclose(made.scores.sum(axis=1), 1)
        apart = result.differences.to_pylist()[0]
        assert apart["kappa_difference"] == pytest.approx(macro[1]["kappa"] - macro[0]["kappa"])
        with pytest.raises(QueryError, match="for the label stage"):
            store.probe("sdb", on="bas", smooth=True)


def test_a_bias_line_is_turned_over() -> None:
    age = np.array([20.0, 40, 60, 80])
    line = BiasLine.fitted(age, 30 + 0.4 * age)
    np.testing.assert_allclose(line.corrected(30 + 0.4 * age), age)
    assert np.isnan(BiasLine(50.0, 0.01).corrected(age)).all()


def test_every_night_has_an_age_gap(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        result = store.age_gaps("ecg", folds=2, recipe=Recipe(c=1e-3))
        rows = result.to_pylist()
        ages = dict(store.sql("SELECT recording_id, any_value(nsrr_age) a FROM clips GROUP BY 1")
                    .table.to_pandas().to_numpy().tolist())  # fmt: skip
    assert len(rows) == 24 and {r["clips"] for r in rows} == {5}
    assert {r["recording_id"]: r["age"] for r in rows} == ages
    assert all(r["gap"] == pytest.approx(r["predicted"] - r["age"]) for r in rows)
    raw, corrected = (
        np.corrcoef([r["age"] for r in rows], [r[name] for r in rows])[0, 1]
        for name in ("gap", "corrected_gap")
    )
    assert raw < -0.3 and abs(corrected) < abs(raw)
    assert "slope" in result.note


def test_concordance_is_harrells_within_folds() -> None:
    sksurv = pytest.importorskip("sksurv.metrics")
    rng = np.random.default_rng(0)
    risk = np.round(rng.normal(size=60), 1)
    own = FollowUp(np.round(rng.exponential(np.exp(-risk)) + 0.1, 1), rng.random(60) < 0.7)
    one = concordance(risk, own, np.zeros(60, int))
    assert one.value == pytest.approx(
        sksurv.concordance_index_censored(own.event, own.time, risk, tied_tol=0)[0], abs=0.01
    )
    rows = np.arange(60) != 7
    without = concordance(risk[rows], own.take(rows), np.zeros(59, int))
    assert one.influence[7] == pytest.approx(one.value - without.value)


def test_survival_finds_a_simulated_hazard_and_no_hazard_in_noise(path: Path) -> None:
    pytest.importorskip("sksurv")
    people = sleepfm_index.open(path).sql(
        "SELECT subject_id, any_value(nsrr_age) AS age FROM clips GROUP BY 1 ORDER BY 1"
    ).to_pylist()  # fmt: skip
    rng = np.random.default_rng(3)
    hazard = np.array([np.exp((p["age"] - 45) / 10) for p in people])
    death, censored = rng.exponential(10 / hazard), rng.uniform(5, 30, len(people))
    with sleepfm_index.open(path) as store:
        store.annotate(
            pa.table(
                {
                    "subject_id": [p["subject_id"] for p in people],
                    "years": np.minimum(death, censored),
                    "died": death <= censored,
                }
            )
        )
        result = store.survival("years", "died", on=["ecg"], folds=2)
        ecg, age = result.to_pylist()
        assert ecg["features"] == "ecg" and age["features"] == "age"
        assert age["c_index"] > 0.75 and ecg["c_index"] > 0.6
        assert age["c_index_low"] < age["c_index"] < age["c_index_high"]
        assert ecg["subjects"] == 24 and ecg["events"] == int((death <= censored).sum())
        for asked, sentence in (
            (("years", "nsrr_sex"), "holds text"),
            (("start_s", "died"), "differs between clips"),
            (("years", "nsrr_bmi"), "must be true or false"),
        ):
            with pytest.raises(QueryError, match=sentence):
                store.survival(*asked, on=["ecg"], folds=2)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script experiments/simulated_follow_up.py."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "experiments"))
    monkeypatch.delitem(sys.modules, "simulated_follow_up", raising=False)
    return importlib.import_module("simulated_follow_up")


def test_the_simulated_hazard_is_of_age_and_heart_rate(
    simulated: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "subjects.csv").write_text(
        "recording_id,subject_id,nsrr_age\na,p,40\na2,p,40\nb,q,60\n"
    )
    # p has R-R of 0.75 s and 1.25 s in two nights, 60 beats per minute on average, and q has 80
    nights = {"a": [0.75, np.nan], "a2": [1.25, np.nan], "b": [0.75, 0.75]}
    truth = {name: {"rr_mean_s": np.array(rr, np.float32)} for name, rr in nights.items()}
    write_truth(tmp_path / "truth.parquet", truth)
    people = simulated.read_people(tmp_path)
    assert people.ids == ["p", "q"]
    np.testing.assert_allclose(people.rate, [60, 80])
    # ten years and ten beats on either side of the mean
    expected = simulated.AGE_EFFECT + simulated.RATE_EFFECT
    np.testing.assert_allclose(simulated.log_hazard(people), [-expected, expected])


@pytest.mark.parametrize("risk", [0.0, 1.0])
def test_simulated_events_are_as_many_as_the_hazard_says(
    simulated: ModuleType, risk: float
) -> None:
    drawn = simulated.follow_up(np.full(40_000, risk), seed=1)
    hazard = simulated.EVENTS_PER_YEAR * np.exp(risk)
    first, last = simulated.LEAVE_YEARS
    stays = (np.exp(-hazard * first) - np.exp(-hazard * last)) / (hazard * (last - first))
    assert drawn.event.mean() == pytest.approx(1 - stays, abs=0.01)  # four standard errors
    assert not drawn.event[drawn.time > last].any() and (drawn.time[~drawn.event] >= first).all()
    again = simulated.follow_up(np.full(40_000, risk), seed=1)
    np.testing.assert_array_equal(again.time, drawn.time)
