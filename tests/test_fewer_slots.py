"""Fewer channels: with an encoder that only passes on what it is given, the curve is known."""

from pathlib import Path

import numpy as np
import pytest

from sleepfm.contract import BODY
from sleepfm.errors import RecordingError
from sleepfm.simulate import simulate_cohort
from sleepfm_index.building.preparation import Preparation
from sleepfm_index.evaluation.retrieval.fewer_slots import fewer_slots


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights")
    simulate_cohort(folder, subjects=2, hours=0.5, seed=6)
    return folder


def test_each_modality_loses_its_slots_one_by_one(nights: Path) -> None:
    seen: list[tuple[str, set[int]]] = []

    def encode(modality: str, clips: np.ndarray) -> np.ndarray:
        filled = (np.abs(clips).max(axis=2) > 0).sum(axis=1)
        seen.append((modality, set(filled.tolist())))
        # the same vector in every modality for a clip that keeps all of its slots, else noise
        draw = np.random.default_rng(len(clips))
        whole = draw.standard_normal((len(clips), 512))
        noise = np.random.default_rng(len(seen)).standard_normal(whole.shape)
        full = (filled == len(BODY.slots_of(modality)))[:, None]
        vectors = np.where(full, whole + 0.01 * noise, noise).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    # one recording, so that all clips share one draw
    result = fewer_slots([nights / "sim-0001.edf"], encode, Preparation(BODY))
    rows = result.to_pylist()
    expected = [(m, left) for m in BODY.modalities for left in range(len(BODY.slots_of(m)), 0, -1)]
    assert [(r["modality"], r["slots_left"]) for r in rows] == [(str(m), n) for m, n in expected]
    for row in rows:
        if row["slots_left"] == row["slots"]:
            assert row["recall_at_10"] == 1
        else:
            assert row["recall_at_10"] < 1
    for (modality, left), (called, counts) in zip(
        [(m, n) for m, n in expected if n < len(BODY.slots_of(m))], seen[3:], strict=True
    ):
        assert called is modality and counts == {left}


def test_stages_are_measured_between_subjects(nights: Path) -> None:
    def encode(modality: str, clips: np.ndarray) -> np.ndarray:
        spread = np.log(clips.std(axis=2) + 1e-3)
        out = np.zeros((len(clips), 512), np.float32)
        out[:, : spread.shape[1]], out[:, -1] = spread, 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    rows = fewer_slots([nights], encode, Preparation(BODY), clips=48, seed=1).to_pylist()
    assert all(r["stage_auroc"] is None or 0 <= r["stage_auroc"] <= 1 for r in rows)
    assert {r["chance_at_10"] for r in rows} == {10 / 48}


def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no recording"):
        fewer_slots([tmp_path], lambda m, x: x, Preparation(BODY))
