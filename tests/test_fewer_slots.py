"""Fewer channels: with an encoder that only passes on what it is given, the curve is known."""

import json
from pathlib import Path

import numpy as np
import pytest
from nights import write_night
from typer.testing import CliRunner

import sleepfm_index
from sleepfm.contract import BODY
from sleepfm.encoders.load import untrained
from sleepfm.errors import RecordingError
from sleepfm.simulate import simulate_cohort
from sleepfm_cli.main import app
from sleepfm_index.building.pipeline import build
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


def test_one_eeg_lead_and_one_nasal_flow_are_embedded(tmp_path: Path) -> None:
    write_night(tmp_path / "classic.edf", 300, labels=("EEG C4-A1", "Nasal Flow"))
    weights = untrained(0, BODY).save(tmp_path / "body.safetensors")
    (outcome,) = build(
        tmp_path / "store", [tmp_path / "classic.edf"], weights=str(weights)
    ).outcomes
    assert (outcome.status, outcome.clips) == ("added", 10)
    assert outcome.slots == {"C4-M1": "EEG C4-A1", "FLOW": "Nasal Flow"}
    store = sleepfm_index.open(tmp_path / "store")
    counted = (
        "SELECT sum(has_bas::INT) AS bas, sum(has_resp::INT) AS resp, sum(has_ecg::INT) AS ecg"
    )
    assert store.sql(f"{counted} FROM clips").to_pylist() == [{"bas": 10, "resp": 10, "ecg": 0}]
    for modality in ("bas", "resp"):
        vectors, present = store.vectors.of(np.arange(10), modality)
        assert present.all() and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-2)
    assert len(store.query("bas", "resp", clip=3, k=10, exclude="none")) == 10
    # and what fewer slots cost is measured over the modalities that are there
    asked = [
        "evaluate",
        "--without-slots",
        str(tmp_path / "classic.edf"),
        "--weights",
        str(weights),
    ]
    shown = CliRunner().invoke(app, [*asked, "--format", "json"])
    assert [(r["modality"], r["slots_left"]) for r in json.loads(shown.stdout)] == [
        ("bas", 1),
        ("resp", 1),
    ]
