"""The weights that come with the package."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import welch
from sklearn.linear_model import Ridge

import sleepfm_index
from sleepfm.contract import BODY
from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import load_weights
from sleepfm.simulate import simulate_cohort
from sleepfm.stages import SCORED
from sleepfm.training.geometry import stage_auroc
from sleepfm_index.building.preparation import Preparation


def test_they_say_what_they_were_trained_on() -> None:
    weights = load_weights("demo")
    assert weights.trained
    assert weights.modalities == BODY.modalities
    assert weights.contract == BODY
    assert "simulated nights" in weights.record["data"]
    assert "mgh" in weights.record["data"] and "ODC-By" in weights.record["data"]
    kernels = [v for own in weights.tensors.values() for v in own.values() if v.ndim > 1]
    assert {k.dtype for k in kernels} == {np.dtype(np.float16)}


def test_they_are_the_default_and_find_a_clip_by_its_other_signals(tmp_path: Path) -> None:
    nights = tmp_path / "nights"
    simulate_cohort(nights, subjects=4, hours=0.25, seed=7777)
    report = sleepfm_index.build(tmp_path / "s", [nights], subjects=nights / "subjects.csv")
    assert report.weights.name == "demo"
    assert "simulated nights" in report.weights.note
    assert "For science" in report.weights.note
    with sleepfm_index.open(tmp_path / "s") as store:
        rows = store.evaluate().to_pandas().set_index(["query", "target"])
    # chance is 0.08
    assert rows["recall_at_10"].min() > 0.5


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """What a ridge regression reads off the vectors of 32 new simulated people."""
    nights = tmp_path_factory.mktemp("people")
    known: list[Mapping[str, NDArray[np.float32]]] = []
    paths = simulate_cohort(
        nights,
        subjects=32,
        hours=0.1,
        seed=8888,
        excerpts=True,
        known=lambda _, truth: known.append(truth),
    )
    weights = load_weights("demo")
    encoder = Encoder(weights, "cpu", backend="auto")
    preparation = Preparation(weights.contract)
    clips = [preparation.prepare(path)[2] for path in paths]
    owner = np.repeat(np.arange(len(clips)), [len(c) for c in clips])
    heart = np.concatenate([np.log(truth["rr_mean_s"]) for truth in known])
    breath = np.concatenate([np.log(truth["breath_hz"]) for truth in known])
    stage = np.concatenate([np.array(c.stage) for c in clips])
    one_hot = np.stack([stage == name for name in SCORED], axis=1).astype(float)
    bands = np.concatenate([_band_powers(c.signals["bas"]) for c in clips])
    found = {"band power": {"stage": stage_auroc(bands, one_hot, owner)}}
    for modality in BODY.modalities:
        vectors = np.concatenate([encoder.encode(modality, c.signals[modality]) for c in clips])
        found[str(modality)] = {
            "heart": _read(vectors, heart, owner),
            "breath": _read(vectors, breath, owner),
            "stage": stage_auroc(vectors, one_hot, owner),
        }
    return found


def _read(
    vectors: NDArray[np.float32], values: NDArray[np.floating], owner: NDArray[np.integer]
) -> float:
    """Correlate values of every second person with a ridge regression fitted to the others."""
    fitted = owner % 2 == 1  # with the slowest hearts: a ridge regression does not extrapolate
    ridge = Ridge(1e-2).fit(vectors[fitted], values[fitted])
    return float(np.corrcoef(ridge.predict(vectors[~fitted]), values[~fitted])[0, 1])


def _band_powers(signals: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log power in seven bands, mean over the slots: what staging takes at the least."""
    rate = load_weights("demo").contract.sample_rate
    f, power = welch(signals, rate, nperseg=4 * rate, axis=2)
    edges = (0.5, 1, 4, 8, 12, 16, 25, min(45, rate / 2))
    bands = [power[..., (f >= a) & (f < b)].mean(axis=2) for a, b in pairwise(edges)]
    return np.asarray(np.log(np.stack(bands, axis=2) + 1e-9).mean(axis=1))


def test_they_know_the_heart(decoded: dict[str, dict[str, float]]) -> None:
    assert min(decoded[m]["heart"] for m in BODY.modalities) > 0.9


def test_they_know_breathing_and_stages(decoded: dict[str, dict[str, float]]) -> None:
    assert decoded["resp"]["breath"] > 0.8
    assert decoded["bas"]["stage"] > decoded["band power"]["stage"] - 0.1
