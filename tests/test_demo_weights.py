"""The weights that come with the package."""

from pathlib import Path

import numpy as np

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm.encoders.load import load_weights
from sleepfm.modality import Modality
from sleepfm.simulate import simulate_cohort


def test_they_say_what_they_were_trained_on() -> None:
    weights = load_weights("demo")
    assert weights.trained
    assert weights.modalities == tuple(Modality)
    assert weights.contract == ROBUST
    assert weights.record["data"].startswith("simulated nights")
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
    # Twice chance at 120 clips; a network that learned nothing has one times.
    for pair in (("ecg", "resp"), ("resp", "ecg"), ("bas", "others")):
        assert rows.loc[pair, "recall_at_10"] > 2 * rows.loc[pair, "chance_at_10"]
