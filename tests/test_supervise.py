"""The supervised baseline on the probe's split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nights import COARSE, write_night

import sleepfm_index
from sleepfm.encoders.classifier import load_classifier
from sleepfm.encoders.load import untrained
from sleepfm.training.recipe import SHORT
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.splits import Split
from sleepfm_index.evaluation.models.few_shot_network import supervise_few_shot
from sleepfm_index.evaluation.models.prepared_nights import Nights
from sleepfm_index.evaluation.models.recipe import Recipe
from sleepfm_index.evaluation.models.supervised_baseline import Training, supervise
from sleepfm_index.evaluation.models.train_test import divide

pytestmark = pytest.mark.usefixtures("no_curves")
TINY = Training(
    replace(SHORT, epochs=1, batch_size=4), device="cpu", precision="float32", threads=1
)
ASKED = {"classes": ["W", "R"], "split": Split(folds=2), "seed": 3}


def build(folder: Path, weights: Path) -> None:
    sleepfm_index.build(
        folder / "s",
        [folder / "in"],
        subjects=folder / "subjects.csv",
        weights=str(weights),
        backend="torch",
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six subjects of W, R, R, an unscored clip; one of them in two recordings."""
    folder = tmp_path_factory.mktemp("supervise")
    rows = ["recording_id,subject_id,nsrr_sex"]
    (folder / "in").mkdir()
    for i in range(7):
        write_night(folder / "in" / f"n{i}.edf", seed=i, stages=("W", "R", "R", "?"))
        rows.append(f"n{i},p{min(i, 5)},{('male', 'female')[min(i, 5) % 2]}")
    (folder / "subjects.csv").write_text("\n".join(rows) + "\n")
    build(folder, untrained(0, COARSE).save(folder / "coarse.safetensors"))
    return folder / "s"


@pytest.fixture(scope="module")
def made(path: Path) -> Path:
    out = path.parent / "cnn.parquet"
    with sleepfm_index.open(path) as store:
        supervise(store, "stage", out, TINY, features="bas+ecg", **ASKED)
    return out


def test_every_clip_is_predicted_by_the_network_that_never_saw_its_subject(
    path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    with sleepfm_index.open(path) as store:
        from sleepfm.training import supervised

        def train_nothing(recordings_of: dict, *args: object, **options: object) -> list:
            seen.append(
                {k: [(r.recording_id, r.stage) for r in rows] for k, rows in recordings_of.items()}
            )
            return []

        monkeypatch.setattr(supervised, "supervise_prepared", train_nothing)
        out = made.with_name("again.parquet")
        made.with_name("cnn.folds").rename(made.with_name("again.folds"))
        supervise(store, "stage", out, TINY, features="bas+ecg", **ASKED)
        made.with_name("again.folds").rename(made.with_name("cnn.folds"))
        rows = {r["clip_id"]: r for r in store.sql("SELECT * FROM clips").to_pylist()}
    table = pq.read_table(made).to_pylist()
    assert sorted(r["clip_id"] for r in table) == [i for i in rows if rows[i]["stage"] in "WR"]
    assert all(r["p_W"] + r["p_R"] == pytest.approx(1, abs=1e-5) for r in table)
    subject = {r["recording_id"]: r["subject_id"] for r in rows.values()}
    for fold, sides in enumerate(seen, start=1):
        tested = {rows[r["clip_id"]]["subject_id"] for r in table if r["fold"] == fold}
        train, valid = ({subject[name] for name, _ in sides[k]} for k in ("train", "valid"))
        assert train and valid and not train & valid
        assert train | valid | tested == set(subject.values())
        assert not (train | valid) & tested
        for _, stages in (*sides["train"], *sides["valid"]):
            assert stages == ("W", "R", "R", "")


def test_probabilities_are_those_of_the_saved_network(path: Path, made: Path) -> None:
    (file,) = made.with_name("cnn.folds").glob("fold-1-*-bas+ecg.safetensors")
    network = load_classifier(file)
    with sleepfm_index.open(path) as store:
        plan = divide(store, "stage", **ASKED)
        (test, *_) = [test for _, test in plan.sides("bas+ecg")]
        clips = plan.test.clip_ids[test]
        nights = Nights.read(store, plan.test.clip_ids, made.with_name("cnn.folds") / "clips")
        said = network.probabilities(nights.signals(clips, list(network.modalities)))
    table = {r["clip_id"]: r for r in pq.read_table(made).to_pylist()}
    for clip, own in zip(clips.tolist(), said, strict=True):
        assert [table[clip]["p_W"], table[clip]["p_R"]] == pytest.approx(own.tolist(), abs=1e-6)


def test_it_stands_beside_the_probe_of_the_same_split_only(path: Path, made: Path) -> None:
    asked = {"classes": ["W", "R"], "folds": 2, "on": ["bas"], "compare_with": made}
    with sleepfm_index.open(path) as store:
        both = store.probe("stage", recipe=Recipe(seed=3), **asked).predictions
        assert list(both) == [("cnn", "clip"), ("bas", "clip")]
        np.testing.assert_array_equal(both["cnn", "clip"].clip_ids, both["bas", "clip"].clip_ids)
        assert len(both["cnn", "clip"].truth) == 21
        with pytest.raises(QueryError, match="has another split"):
            store.probe("stage", recipe=Recipe(seed=4), **asked)
        table = pq.read_table(made).replace_schema_metadata(None)
        pq.write_table(table, made.with_name("foreign.parquet"))
        asked["compare_with"] = made.with_name("foreign.parquet")
        assert len(store.probe("stage", recipe=Recipe(seed=4), **asked)) == 9


def test_what_is_of_the_subject_is_measured_per_subject_too(path: Path, tmp_path: Path) -> None:
    with sleepfm_index.open(path) as store:
        ids = store.metadata.clip_ids()
        said = {
            "clip_id": ids,
            "p_female": np.full(len(ids), 0.4),
            "p_male": np.full(len(ids), 0.6),
        }
        pq.write_table(pa.table(said), tmp_path / "m.parquet")
        asked = {"folds": 2, "on": ["bas"]}
        rows = store.probe("sex", compare_with=tmp_path / "m.parquet", **asked).to_pylist()
    levels = [(r["features"], r["level"]) for r in rows if r["class"] == "macro"]
    names = ("m", "bas", "majority class")
    assert levels == [(name, level) for name in names for level in ("clip", "subject")]


def test_a_number_is_refused(path: Path, tmp_path: Path) -> None:
    with sleepfm_index.open(path) as store, pytest.raises(QueryError, match="start_s is numeric"):
        supervise(store, "start_s", tmp_path / "x.parquet", TINY)


def test_another_store_is_tested_by_a_network_of_the_first(path: Path, tmp_path: Path) -> None:
    rows = ["recording_id,subject_id"]
    (tmp_path / "in").mkdir()
    for i in (20, 21):
        write_night(tmp_path / "in" / f"n{i}.edf", seed=i, stages=("W", "R", "R", "W"))
        rows.append(f"n{i},q{i}")
    (tmp_path / "subjects.csv").write_text("\n".join(rows) + "\n")
    build(tmp_path, path.parent / "coarse.safetensors")
    out = tmp_path / "cnn.parquet"
    with sleepfm_index.open(path) as store, sleepfm_index.open(tmp_path / "s") as other:
        split = Split(test_store=other)
        supervise(store, "stage", out, TINY, features="bas", classes=["W", "R"], split=split)
        assert pq.read_table(out)["clip_id"].to_pylist() == other.metadata.clip_ids().tolist()
        both = store.probe(
            "stage", on="bas", classes=["W", "R"], test_store=other, compare_with=out
        )
        assert {row["features"] for row in both.to_pylist()} == {"cnn", "bas", "majority class"}


def test_the_learning_curve_of_the_network_stands_beside_the_probes(
    path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "curve.parquet"
    asked = {"classes": ["W", "R"], "split": Split(folds=2), "seed": 3}
    with sleepfm_index.open(path) as store:
        supervise_few_shot(store, "stage", [1], out, TINY, features="bas", repeats=1, **asked)
        curve = store.few_shot(
            "stage", [1], on="bas", classes=["W", "R"], folds=2, repeats=2,
            recipe=Recipe(seed=3), compare_with=out,
        )  # fmt: skip
    rows = curve.to_pylist()
    assert [(r["features"], r["shots"], r["draws"]) for r in rows] == [
        ("bas", 1, 2), ("cnn bas", 1, 1),
    ]  # fmt: skip
    pq.write_table(pa.table({"clip_id": [0]}), out)
    with (
        sleepfm_index.open(path) as store,
        pytest.raises(QueryError, match="cannot be read as a learning curve"),
    ):
        store.few_shot("stage", [1], on="bas", folds=2, repeats=1, compare_with=out)
