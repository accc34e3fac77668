from __future__ import annotations

import csv
from pathlib import Path

import mne
import numpy as np
import pyarrow.parquet as pq
import pytest
from cohorts import cohort_store
from stores import drawn_store

import sleepfm_index
from sleepfm.errors import AnnotationError
from sleepfm.recordings.find_scoring import find_annotations, find_lookalikes
from sleepfm.recordings.scoring.read import read_scoring
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.models.predict import predict, write_predictions
from sleepfm_index.evaluation.models.probe import fit_probe
from sleepfm_index.evaluation.models.probe_kinds import save_probe
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


def test_vectors_of_other_weights_are_refused(tmp_path: Path) -> None:
    one = cohort_store(tmp_path / "one", ["a", "b"], 20)
    two = cohort_store(
        tmp_path / "two", ["a"], 20, weights=WeightsIdentity("other", "1" * 64, True)
    )
    with sleepfm_index.open(one) as store:
        made = fit_probe(store, "stage", "bas")
    with sleepfm_index.open(two) as store, pytest.raises(QueryError, match="vectors of drawn"):
        predict(store, made)
