from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cohorts import cohort_store
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

import sleepfm_index
from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.evaluation.labels.labels import read_labels
from sleepfm_index.evaluation.labels.splits import Split, deal_folds, subjects_of
from sleepfm_index.evaluation.models.linear_probe import fit_classes, fit_number
from sleepfm_index.evaluation.models.probe import fit_probe, probe
from sleepfm_index.evaluation.models.probe_kinds import load_probe, save_probe
from sleepfm_index.evaluation.models.recipe import Recipe
from sleepfm_index.evaluation.models.train_test import divide, learn
from sleepfm_index.storage.manifest import WeightsIdentity

NAMES = [f"n{i}" for i in range(10)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort_store(tmp_path_factory.mktemp("probe") / "s", NAMES, 40, unscored=3)


def test_stage_is_read_from_vectors_that_hold_it(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        result = store.probe("stage", on=["bas", "bas+ecg+resp"])
        macro = [row for row in result.to_pylist() if row["class"] == "macro"]
        assert [row["features"] for row in macro] == ["bas", "bas+ecg+resp", "majority class"]
        assert all(row["auroc"] > 0.95 and row["kappa"] > 0.6 for row in macro[:2])
        assert macro[0]["clips"] == 370 and macro[0]["subjects"] == 10
        assert "30 clips unscored" in result.note and "5 folds of subjects" in result.note
        assert macro[0]["auroc_low"] <= macro[0]["auroc"] <= macro[0]["auroc_high"]


def test_labels_shuffled_among_clips_cannot_be_read(path: Path, tmp_path: Path) -> None:
    blind = cohort_store(tmp_path / "s", NAMES, 40, signal=0.0)
    with sleepfm_index.open(blind) as store:
        macro = store.probe("stage", on=["bas"]).to_pylist()[0]
        assert macro["auroc_low"] < 0.5 < macro["auroc_high"]


def test_breathing_age_sex_and_bmi(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        sdb = store.probe("sdb", on=["resp"])
        assert "apnea_obstructive_s + hypopnea_s >= 10 s" in sdb.note
        assert [row["class"] for row in sdb.to_pylist()] == ["macro", "no", "yes"] * 2
        assert sdb.to_pylist()[0]["auroc"] > 0.9
        age = store.probe("age", task="regression", on=["ecg"]).to_pylist()
        assert [row["level"] for row in age] == ["clip", "subject"] * 2
        assert age[1]["clips"] == 10 and age[1]["r"] > 0.5 and age[1]["mae"] < 20
        sex = store.probe("sex", on=["ecg"], folds=2).to_pylist()
        assert {row["level"] for row in sex} == {"clip", "subject"}
        assert store.probe("bmi", on=["ecg"]).to_pylist()[0]["mae"] > 0
        site = store.probe("site", on=["ecg"], folds=2).to_pylist()
        assert [row["class"] for row in site[:3]] == ["macro", "north", "south"]


def test_no_subject_is_on_both_sides(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        for label in ("stage", "sex"):
            labels = read_labels(store, label)
            fold = deal_folds(labels, 5, seed=1)
            for f in range(5):
                train, test = labels.take(fold != f), labels.take(fold == f)
                assert not subjects_of(train) & subjects_of(test)
                assert subjects_of(train) | subjects_of(test) == subjects_of(labels)


def test_what_belongs_to_the_subject_is_dealt_evenly(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        labels = read_labels(store, "age", task="regression")
        fold = deal_folds(labels, 2)
        means = [labels.values[fold == f].mean() for f in (0, 1)]
        assert abs(means[0] - means[1]) < labels.values.std() / 2


def test_a_split_by_condition(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        split = {"train_where": "site = 'north'", "test_where": "site = 'south'"}
        result = store.probe("stage", on=["bas"], **split)
        tested = store.metadata.clip_ids("site = 'south' AND stage != 'UNS'")
        assert result.to_pylist()[0]["clips"] == len(tested)
        made = result.predictions["bas", "clip"]
        np.testing.assert_array_equal(made.clip_ids, tested)


def test_another_store_must_hold_vectors_of_the_same_weights(path: Path, tmp_path: Path) -> None:
    other = WeightsIdentity("other", "1" * 64, True)
    same = cohort_store(tmp_path / "same", ["x1", "x2", "x3"])
    foreign = cohort_store(tmp_path / "foreign", ["x1"], weights=other)
    with sleepfm_index.open(path) as store:
        with sleepfm_index.open(same) as test:
            row = store.probe("stage", on=["bas"], test_store=test).to_pylist()[0]
            assert row["clips"] == 120 and row["auroc"] > 0.9
        with sleepfm_index.open(foreign) as test, pytest.raises(QueryError, match="different weig"):
            store.probe("stage", test_store=test)


@pytest.mark.parametrize(
    ("label", "asked", "sentence"),
    [
        ("stage", {"where": "stage = 'N2'"}, "training clips of stage contain only N2"),
        ("stage", {"folds": 11}, "fewer than the 11 folds"),
        ("stage", {"folds": 1}, "at least 2 folds"),
        ("nsrr_ahi_hp3r_aasm15", {}, "nsrr_ahi_hp3r_aasm15 is empty in all 400 clips"),
        ("recording_id", {"where": "start_s < 60"}, "no class of recording_id has subjects on b"),
        ("clip_id", {"task": "classification"}, "400 distinct values"),
        ("stage", {"task": "regression"}, "stage has classes and is not numeric"),
        (
            "bmi",
            {"task": "classification", "where": "start_s < 60"},
            "no class of bmi has subjects on",
        ),
        ("nsrr_agee", {}, "no column 'nsrr_agee'; close to it: nsrr_age"),
        ("site", {"task": "regression"}, "not a number"),
        ("colour", {}, "colour"),
        ("stage", {"on": ["eeg"]}, "no features 'eeg'"),
        ("stage", {"classes": ["W", "N9"]}, "no class N9"),
        ("stage", {"train_where": "site = 'north'"}, "--test-where"),
        ("stage", {"train_where": "start_s < 300", "test_where": "start_s >= 300"}, "both sides"),
        ("stage", {"where": "start_s < 0"}, "no clip to label"),
    ],
)
def test_bad_questions_get_one_sentence(path: Path, label: str, asked: dict, sentence: str) -> None:
    with sleepfm_index.open(path) as store, pytest.raises(QueryError, match=sentence):
        store.probe(label, **asked)


def test_a_class_of_one_subject_is_said(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        names = sorted({r["recording_id"] for r in store.sql("SELECT * FROM clips").to_pylist()})
        rare = f"stage <> 'N3' OR recording_id = '{names[0]}'"
        count = len(store.metadata.clip_ids(f"stage = 'N3' AND recording_id = '{names[0]}'"))
        result = store.probe("stage", on=["bas"], where=rare)
        assert f"{count} test clips have a class without training examples" in result.note


def test_two_classes_can_be_picked(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        labels = read_labels(store, "stage", classes=["W", "N3"])
        assert labels.classes == ("W", "N3")
        assert len(labels) == len(store.metadata.clip_ids("stage IN ('W', 'N3')"))
        assert labels.left_out["of other classes"] > 0


def test_the_fit_is_sklearns() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 20)).astype(np.float32) * 5 + 3
    for classes in (2, 3):
        y = (x[:, 0] > 3).astype(int) + (x[:, 1] > 6) * (classes == 3)
        scaled = StandardScaler().fit_transform(x)
        oracle = LogisticRegression(class_weight="balanced", max_iter=1000).fit(scaled, y)
        ours = fit_classes(x.copy(), y, tuple("abc")[:classes])
        np.testing.assert_allclose(ours.predict(x), oracle.predict_proba(scaled), atol=2e-3)
        assert ours.converged
    target = x[:, 2] * 2.0 + 40
    ours = fit_number(x.copy(), target)
    z = (target - target.mean()) / target.std()
    oracle = Ridge(1.0).fit(StandardScaler().fit_transform(x), z)
    expected = oracle.predict(scaled) * target.std() + target.mean()
    np.testing.assert_allclose(ours.predict(x), expected, rtol=1e-3)


def test_a_class_that_was_not_learned_has_no_probability() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 5)).astype(np.float32)
    made = fit_classes(x.copy(), (x[:, 0] > 0) * 2, ("a", "b", "c")).predict(x)
    assert (made[:, 1] == 0).all()
    np.testing.assert_allclose(made.sum(axis=1), 1)


def test_not_converged_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleepfm_index.evaluation.models.linear_probe._ITERATIONS", 2)
    with sleepfm_index.open(path) as store:
        assert "did not converge" in store.probe("stage", on=["bas"]).note


def test_a_cap_on_clips_is_kept(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        seen = []
        plan = divide(store, "stage", Split())
        recipe = Recipe(train_clips=50)

        def read(rows: np.ndarray) -> np.ndarray:
            seen.append(len(rows))
            return store.vectors.of(plan.train.clip_ids[rows], "bas")[0]

        learn(recipe, read, plan.train, np.arange(len(plan.train)))
        assert seen == [50]


def test_a_saved_probe_says_the_same(path: Path, tmp_path: Path) -> None:
    with sleepfm_index.open(path) as store:
        made = fit_probe(store, "stage", "bas+ecg")
        x = np.hstack([store.vectors.of(store.metadata.clip_ids(), m)[0] for m in ("bas", "ecg")])
    again = load_probe(save_probe(made, tmp_path / "p.safetensors"))
    np.testing.assert_array_equal(again.predict(x), made.predict(x))
    assert again.about == made.about
    assert again.about["weights_sha256"] == "0" * 64


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "other"])
def test_what_is_not_a_probe_is_refused(path: Path, tmp_path: Path, damage: str) -> None:
    from safetensors.numpy import save_file

    file = tmp_path / "p.safetensors"
    if damage == "text":
        file.write_text("a probe, honestly")
    elif damage == "cut":
        with sleepfm_index.open(path) as store:
            save_probe(fit_probe(store, "stage", "bas"), file)
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "other":
        save_file({"mean": np.zeros(3)}, file)
    with pytest.raises(FormatError, match=r"p\.safetensors"):
        load_probe(file)


def test_probe_is_a_table(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        result = probe(store, "stage", on=["bas"])
        assert isinstance(result.to_arrow(), pa.Table)
        assert result.to_pylist()[0]["auroc_low"] is not None


def test_another_model_stands_in_the_same_table(path: Path, tmp_path: Path) -> None:
    with sleepfm_index.open(path) as store:
        plain = store.probe("stage", on=["bas"])
        made = plain.predictions["bas", "clip"]
        half = made.clip_ids[::2]
        perfect = np.eye(5)[made.truth[::2].astype(int)]
        columns = {f"p_{c}": perfect[:, i] for i, c in enumerate(made.classes)}
        pq.write_table(
            pa.table({"clip_id": half[::-1], **{k: v[::-1] for k, v in columns.items()}}),
            tmp_path / "cnn.parquet",
        )
        both = store.probe("stage", on=["bas"], compare_with=tmp_path / "cnn.parquet")
        rows = [row for row in both.to_pylist() if row["class"] == "macro"]
        assert [row["features"] for row in rows] == ["cnn", "bas", "majority class"]
        assert [row["clips"] for row in rows] == [len(half)] * 3
        assert both.differences is not None
        first = both.differences.to_pylist()[0]
        assert (first["features"], first["against"]) == ("bas", "cnn")
        assert first["kappa_difference"] == pytest.approx(rows[1]["kappa"] - 1)
        assert rows[0]["auroc"] == rows[0]["kappa"] == 1.0
        pq.write_table(pa.table({"clip_id": half, "p_W": perfect[:, 0]}), tmp_path / "w.parquet")
        with pytest.raises(QueryError, match="p_N1"):
            store.probe("stage", on=["bas"], compare_with=tmp_path / "w.parquet")
        with pytest.raises(QueryError, match=r"none\.parquet"):
            store.probe("stage", on=["bas"], compare_with=tmp_path / "none.parquet")
