"""What vectors are held against: plain features, untrained vectors, and AUROC within folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cohorts import cohort_store
from nights import write_night
from scipy.signal import welch
from sklearn.metrics import roc_auc_score

import sleepfm_index
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.models.baseline_features import PLAIN, BaselineFeatures
from sleepfm_index.evaluation.models.plain_features import (
    EEG_BANDS_HZ,
    band_powers,
    beat_statistics,
    breaths,
    plain_features,
)

RATE = 64
TIME = np.arange(30 * RATE) / RATE


def test_band_powers_are_welchs_over_the_filled_slots() -> None:
    x = np.random.default_rng(0).standard_normal((3, 2, 30 * RATE))
    x[1, 1] = 0
    found = band_powers(x, RATE)
    for clip, slots in ((0, [0, 1]), (1, [0]), (2, [0, 1])):
        f, power = welch(x[clip, slots], RATE, nperseg=16 * RATE)
        for band, (low, high) in enumerate(EEG_BANDS_HZ):
            own = np.log(power[:, (f >= low) & (f < high)].mean(axis=1) + 1e-9).mean()
            assert found[clip, band] == pytest.approx(own)


def test_breaths_have_the_rate_and_the_depth_of_a_sine() -> None:
    x = np.stack([[2 * np.sin(2 * np.pi * 0.25 * TIME)], [1 * np.sin(2 * np.pi * 0.4 * TIME)]])
    found = breaths(x, RATE)
    assert found[:, 0] == pytest.approx([0.25, 0.4], abs=0.01)
    assert found[0, 1] - found[1, 1] == pytest.approx(np.log(2), abs=0.02)


def test_beats_have_their_interval() -> None:
    whole = np.zeros(4 * 30 * RATE)
    whole[(np.arange(0.4, 120, 0.8) * RATE).astype(int)] = 1.0
    whole = np.convolve(whole, np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2), mode="same")
    noisy = whole + np.random.default_rng(1).normal(0, 0.01, len(whole))
    found = beat_statistics(noisy.reshape(4, -1), RATE)
    assert np.exp(found[1:, 0]) == pytest.approx(0.8, abs=0.02)
    assert np.isnan(beat_statistics(np.zeros((4, 30 * RATE)), RATE)).all()


def test_what_cannot_be_measured_takes_the_recordings_median() -> None:
    x = np.random.default_rng(0).standard_normal((3, 1, 30 * RATE))
    x[2] = 0
    found = plain_features(("C4-M1",), x, RATE)
    assert found[2] == pytest.approx(np.median(found[:2], axis=0))
    assert plain_features(("ECG",), np.zeros((2, 1, 30 * RATE)), RATE).tolist() == [[0, 0, 0]] * 2


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baselines")
    (folder / "in").mkdir()
    for i in range(6):
        write_night(folder / "in" / f"n{i}.edf", seed=i, stages=("W", "R", "R", "W"))
    sleepfm_index.build(folder / "s", [folder / "in"])
    return folder / "s"


def test_baselines_stand_in_the_probes_table_with_paired_differences(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        asked = {"on": "bas,resp", "classes": ["W", "R"], "folds": 2}
        result = store.probe("stage", baselines=True, **asked)
        macro = [row for row in result.to_pylist() if row["class"] == "macro"]
        names = [f"{k}{m}" for m in ("bas", "resp") for k in ("", "plain ", "untrained ")]
        assert [row["features"] for row in macro] == [*names, "majority class"]
        assert {row["clips"] for row in macro} == {24}
        against = result.differences.column("against").to_pylist()
        assert against[::3] == [name for name in names if " " in name]
        assert "7 log band powers" in result.note and "breaths per second" in result.note
        own = BaselineFeatures((PLAIN,))
        ids = store.metadata.clip_ids()
        forth = own.of(store, ids, PLAIN, "bas+resp")
        np.testing.assert_array_equal(
            own.of(store, ids[::-1].copy(), PLAIN, "bas+resp")[::-1], forth
        )
        assert forth.shape == (24, 9) and np.isfinite(forth).all()


def test_recordings_that_moved_are_an_error(path: Path, tmp_path: Path) -> None:
    drawn = cohort_store(tmp_path / "s", ["a", "b"], 10)
    with sleepfm_index.open(drawn) as store, pytest.raises(QueryError):
        store.probe("stage", on="bas", folds=2, baselines=True)


def test_auroc_is_given_within_folds_beside_the_pooled_one(tmp_path: Path) -> None:
    store = sleepfm_index.open(cohort_store(tmp_path / "s", [f"n{i}" for i in range(6)], 20))
    result = store.probe("stage", on="bas", folds=2, classes=["W", "N3"])
    made = result.predictions["bas", "clip"]
    within = [
        roc_auc_score(made.truth[own], made.scores[own, 1])
        for own in (made.folds == fold for fold in (0, 1))
    ]
    row = result.to_pylist()[0]
    assert row["auroc_per_fold"] == pytest.approx(np.mean(within))
    assert row["auroc"] == pytest.approx(roc_auc_score(made.truth, made.scores[:, 1]))
    fixed = store.probe(
        "stage", on="bas", test_where="site = 'north'", train_where="site = 'south'"
    )
    assert fixed.to_pylist()[0]["auroc_per_fold"] is None
