"""Geometry and decoding of vectors, against plain formulas and scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from sleepfm.training.geometry import (
    alignment,
    decode,
    effective_rank,
    stage_auroc,
    uniformity,
)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("rank", [1, 5, 32])
def test_effective_rank_counts_directions_of_equal_spread(rank: int) -> None:
    draw = np.random.default_rng(0)
    basis = np.linalg.qr(draw.standard_normal((64, 64)))[0][:rank]
    scores = np.linalg.qr(draw.standard_normal((400, rank + 1)))[0][:, :rank]
    scores -= scores.mean(axis=0)
    scores = np.linalg.qr(scores)[0]
    assert effective_rank(scores @ basis + 3.0) == pytest.approx(rank, rel=1e-3)


def test_alignment_and_uniformity_of_known_sets() -> None:
    draw = np.random.default_rng(1)
    a = unit(draw.standard_normal((2000, 128)))
    assert alignment(a, a) == 0
    assert alignment(a, -a) == pytest.approx(4)
    assert uniformity(np.repeat(a[:1], 50, axis=0)) == pytest.approx(0, abs=1e-6)
    assert uniformity(a) == pytest.approx(-4, abs=0.1)  # all distances near the square root of 2


def test_decoding_is_a_ridge_regression_on_other_people() -> None:
    draw = np.random.default_rng(2)
    x = draw.standard_normal((600, 16)).astype(np.float32)
    owner = np.arange(600) // 60
    y = x[:, 0] + 0.5 * draw.standard_normal(600)
    y[::7] = np.nan
    found = decode(x, {"rate": y, "nothing": np.full(600, np.nan)}, owner)
    there, learned = np.isfinite(y), owner % 2 == 0
    train, test = there & learned, there & ~learned
    scaled = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    model = Ridge(alpha=0.01 * train.sum()).fit(scaled[train], y[train])
    expected = np.corrcoef(model.predict(scaled[test]), y[test])[0, 1]
    assert found == {"rate": pytest.approx(expected, abs=1e-6)}


def test_stage_auroc_is_the_mean_over_stages() -> None:
    draw = np.random.default_rng(3)
    stage = draw.integers(0, 3, 400)
    x = np.eye(3)[stage] + draw.standard_normal((400, 3))
    owner = np.arange(400) % 20
    one_hot = np.eye(3)[stage].astype(float)
    found = stage_auroc(x, one_hot, owner)
    train, test = owner % 2 == 0, owner % 2 == 1
    scaled = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    scores = (
        Ridge(alpha=0.01 * train.sum()).fit(scaled[train], one_hot[train]).predict(scaled[test])
    )
    expected = np.mean([roc_auc_score(stage[test] == k, scores[:, k]) for k in range(3)])
    assert found == pytest.approx(expected, abs=1e-6)
    assert np.isnan(stage_auroc(x, np.full((400, 3), np.nan), owner))
