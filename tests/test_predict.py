from __future__ import annotations

import csv
import itertools
from pathlib import Path

import mne
import numpy as np
import pyarrow.parquet as pq
import pytest
from cohorts import cohort_store
from stores import STAGES, drawn_store
from typer.testing import CliRunner

import sleepfm_index
from sleepfm.errors import AnnotationError
from sleepfm.recordings.find_scoring import find_annotations, find_lookalikes
from sleepfm.recordings.scoring.read import read_scoring
from sleepfm_cli.main import app
from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.evaluation.models.predict import predict, write_predictions
from sleepfm_index.evaluation.models.probe import fit_probe
from sleepfm_index.evaluation.models.probe_kinds import load_probe, save_probe
from sleepfm_index.evaluation.models.recipe import Recipe
from sleepfm_index.evaluation.models.stage_transitions import Night, Transitions
from sleepfm_index.storage.manifest import WeightsIdentity


def test_predictions_are_files_that_other_tools_open(tmp_path: Path) -> None:
    learned = cohort_store(tmp_path / "one", ["a", "b", "c", "d", "e", "f"])
    applied = cohort_store(tmp_path / "two", ["x", "y"], 20)
    with sleepfm_index.open(learned) as store:
        made = fit_probe(store, "stage", "bas")
        save_probe(made, tmp_path / "p.safetensors")
    with sleepfm_index.open(applied) as store:
        result = store.predict(tmp_path / "p.safetensors")
        truth = store.sql("SELECT stage FROM clips ORDER BY clip_id").table["stage"].to_pylist()
    rows = result.to_pylist()
    assert np.mean([row["predicted"] == t for row, t in zip(rows, truth, strict=True)]) > 0.8
    assert sum(rows[0][f"p_{c}"] for c in made.classes) == pytest.approx(1)

    files = write_predictions(result, tmp_path / "out", made)
    assert {f.name for f in files} == {
        "predictions.parquet",
        "x.predicted.csv", "x.predicted.edf", "y.predicted.csv", "y.predicted.edf",
    }  # fmt: skip
    assert pq.read_table(files[0]).equals(result.table)
    said = [row["predicted"] for row in rows if row["recording_id"] == "x"]
    with (tmp_path / "out" / "x.predicted.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["predicted_stage"] for line in lines] == said
    assert lines[1]["onset_s"] == "30" and lines[1]["duration_s"] == "30"
    notes = mne.read_annotations(tmp_path / "out" / "x.predicted.edf")
    assert list(notes.description) == [f"Sleep stage {stage}" for stage in said]
    np.testing.assert_allclose(notes.onset, 30.0 * np.arange(20))
    assert (notes.duration == 30).all()


def test_predictions_beside_recordings_never_become_scoring(tmp_path: Path) -> None:
    path = cohort_store(tmp_path / "s", ["a", "b"], 20)
    recording = tmp_path / "a.edf"
    recording.write_bytes(b"0")
    with sleepfm_index.open(path) as store:
        made = fit_probe(store, "stage", "bas")
        files = write_predictions(predict(store, made), tmp_path, made)
    assert find_annotations(recording) == () and find_lookalikes(recording) == ()
    for file in files[1:3]:
        renamed = tmp_path / f"a.hypnogram{file.suffix}"
        file.rename(renamed)
        with pytest.raises(AnnotationError, match="predicted by a probe"):
            read_scoring(renamed, 82800.0, [], duration_s=600.0)


def test_a_clip_without_the_features_gets_no_label(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 60, "b": 60}, lacking=0.3)
    with sleepfm_index.open(path) as store:
        made = fit_probe(store, "stage", "bas+resp")
        result = predict(store, made)
        lacking = store.metadata.clip_ids("NOT (has_bas AND has_resp)")
    rows = {row["clip_id"]: row for row in result.to_pylist()}
    assert len(rows) == 120 and len(lacking)
    for clip_id, row in rows.items():
        assert (row["predicted"] is None) == (row["p_N2"] is None) == (clip_id in lacking)
    files = write_predictions(result, tmp_path / "out", made)
    stages = list(mne.read_annotations(files[2]).description)
    assert "Sleep stage ?" in stages
    assert f"{len(lacking)} lack bas+resp" in result.note


def test_a_number_is_predicted_as_a_number(tmp_path: Path) -> None:
    path = cohort_store(tmp_path / "s", ["a", "b", "c"], 20)
    with sleepfm_index.open(path) as store:
        made = fit_probe(store, "age", "ecg", task="regression")
        result = predict(store, made)
    assert {type(row["predicted"]) for row in result.to_pylist()} == {float}
    assert [f.name for f in write_predictions(result, tmp_path / "o", made)] == [
        "predictions.parquet"
    ]


def test_smoothed_stages_are_the_saved_probabilities_smoothed(tmp_path: Path) -> None:
    learned = cohort_store(tmp_path / "one", "abcdef", noise=2.0, signal=0.3, index=False)
    applied = drawn_store(tmp_path / "two", {"x": 30, "y": 30}, lacking=0.2, index=False)
    with sleepfm_index.open(learned) as store:
        save_probe(fit_probe(store, "stage", "bas"), tmp_path / "p.safetensors")
        facts = store.sql("SELECT recording_id, stage FROM clips ORDER BY clip_id").to_pylist()
    counts, shares = np.ones((5, 5)), np.ones(5)
    for before, after in itertools.pairwise(facts):
        if before["recording_id"] == after["recording_id"]:
            counts[STAGES.index(before["stage"]), STAGES.index(after["stage"])] += 1
    for fact in facts:
        shares[STAGES.index(fact["stage"])] += 1
    counted = Transitions(shares / shares.sum(), counts / counts.sum(axis=1, keepdims=True))

    with sleepfm_index.open(applied) as store:
        plain = store.predict(tmp_path / "p.safetensors")
        smooth = store.predict(tmp_path / "p.safetensors", smooth=True)
    assert "smoothed over each recording" in smooth.note and "smoothed" not in plain.note
    changed = 0
    for name in "xy":
        of_night = [r for r in plain.to_pylist() if r["recording_id"] == name]
        at = np.array([i for i, r in enumerate(of_night) if r["predicted"] is not None])
        assert 0 < len(at) < 30
        likelihood = np.array([[of_night[i][f"p_{c}"] for c in STAGES] for i in at])
        steps = np.concatenate([[0], np.diff(at)])
        expected = counted.smooth(likelihood, Night(np.arange(len(at)), steps))
        rows = [r for r in smooth.to_pylist() if r["recording_id"] == name]
        found = np.array([[rows[i][f"p_{c}"] for c in STAGES] for i in at])
        np.testing.assert_allclose(found, expected)
        stages = [STAGES[code] for code in expected.argmax(axis=1)]
        assert [rows[i]["predicted"] for i in at] == stages
        assert all(r["predicted"] is None for i, r in enumerate(rows) if i not in at)
        changed += sum(of_night[i]["predicted"] != rows[i]["predicted"] for i in at)
    assert changed

    asked = ["predict", str(tmp_path / "p.safetensors"), "--smooth", "--store", str(applied)]
    ran = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "out")])
    assert ran.exit_code == 0 and "smoothed over" in " ".join(ran.stderr.split()), ran.output
    assert pq.read_table(tmp_path / "out" / "predictions.parquet").equals(smooth.table)


def test_a_probe_without_transitions_is_not_smoothed(tmp_path: Path) -> None:
    path = cohort_store(tmp_path / "s", "abc", 20, index=False)
    with sleepfm_index.open(path) as store:
        stage = fit_probe(store, "stage", "bas")
        earlier = {k: v for k, v in stage.about.items() if k != "transitions"}
        file = save_probe(stage.with_about(earlier), tmp_path / "earlier.safetensors")
        assert len(store.predict(file)) == 60
        boosted = fit_probe(store, "stage", "bas", recipe=Recipe(model="boosting"))
        for made in (load_probe(file), fit_probe(store, "sdb", "bas"), boosted):
            assert "transitions" not in made.about
            with pytest.raises(QueryError, match=r"no stage transitions .* probe --label stage"):
                predict(store, made, smooth=True)
        whole = stage.about["transitions"]
        for part, value in (
            ("matrix", [[1.0]]),
            ("initial", [2.0] * 5),
            ("initial", 1),
            ("matrix", "none"),
        ):
            damaged = earlier | {"transitions": whole | {part: value}}
            with pytest.raises(FormatError, match="transitions are damaged"):
                predict(store, stage.with_about(damaged), smooth=True)


def test_vectors_of_other_weights_are_refused(tmp_path: Path) -> None:
    one = cohort_store(tmp_path / "one", ["a", "b"], 20)
    two = cohort_store(
        tmp_path / "two", ["a"], 20, weights=WeightsIdentity("other", "1" * 64, True)
    )
    with sleepfm_index.open(one) as store:
        made = fit_probe(store, "stage", "bas")
    with sleepfm_index.open(two) as store, pytest.raises(QueryError, match="vectors of drawn"):
        predict(store, made)
