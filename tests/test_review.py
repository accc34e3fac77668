"""What `review` names: changed stages, outliers, copies and embeddings that hardly vary."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from cohorts import cohort_store
from stores import STAGES, WEIGHTS, drawn_segment
from typer.testing import CliRunner

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_cli.main import app
from sleepfm_index.errors import QueryError, StoreError
from sleepfm_index.evaluation.review.review import columns_of
from sleepfm_index.storage.writer import Writer

FLIPPED = (5, 190, 290)
NIGHT = 60


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five nights whose brain signals know the stage; the third is the second once more."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((5, 512))
    path = tmp_path_factory.mktemp("review") / "s"
    second = {}
    for number, name in enumerate("abcde"):
        data = drawn_segment(name, NIGHT, number, lacking=0.0)
        stages = data.clips["stage"].to_pylist()
        x = centres[[STAGES.index(s) for s in stages]] + 0.7 * rng.standard_normal((NIGHT, 512))
        data.vectors["bas"][:] = x / np.linalg.norm(x, axis=1, keepdims=True)
        if name == "b":
            second = {m: np.array(v) for m, v in data.vectors.items()}
            second_stages = stages
        if name == "c":
            for modality, vectors in second.items():
                data.vectors[modality][:] = vectors
            stages = list(second_stages)
        if name == "d":
            data.vectors["ecg"][7] = data.vectors["ecg"][8]  # one modality alone is no copy
            data.vectors["resp"][:] = data.vectors["resp"][0]  # a sensor that fell off
        if name == "e":
            for modality in data.vectors:
                data.vectors[modality][9] = data.vectors[modality][30]
            odd = rng.standard_normal(512)
            data.vectors["bas"][40] = odd / np.linalg.norm(odd)
        for clip in FLIPPED:
            if clip // NIGHT == number:
                stages[clip % NIGHT] = STAGES[(STAGES.index(stages[clip % NIGHT]) + 2) % 5]
        at = data.clips.schema.get_field_index("stage")
        object.__setattr__(data, "clips", data.clips.set_column(at, "stage", pa.array(stages)))
        with Writer(path, WEIGHTS, ROBUST) as writer:
            writer.append(data)
    return path


@pytest.fixture
def store(path: Path) -> sleepfm_index.Store:
    return sleepfm_index.open(path)


def test_changed_stages_are_named_with_what_they_were(store: sleepfm_index.Store) -> None:
    pytest.importorskip("cleanlab")
    rows = store.review(on="bas", kinds=["label"]).to_pylist()
    assert set(FLIPPED) <= {row["clip_id"] for row in rows}
    assert len(rows) <= 6
    for row in rows:
        if row["clip_id"] in FLIPPED:
            was = STAGES[(STAGES.index(row["stage"]) - 2) % 5]
            assert row["suggested"] == was
            assert f"stage is {row['stage']}, clips of other subjects say {was}" in row["reason"]


def test_vectors_that_know_no_stage_are_said_to(store: sleepfm_index.Store) -> None:
    pytest.importorskip("cleanlab")
    assert "too low" in store.review(on="ecg", kinds=["label"]).note
    assert "too low" not in store.review(on="bas", kinds=["label"]).note


def test_copies_and_nights_that_lie_there_twice(store: sleepfm_index.Store) -> None:
    rows = store.review(kinds=["duplicate"]).to_pylist()
    pairs = {(row["clip_id"], row["other_clip_id"]): row["reason"] for row in rows}
    night = {(2 * NIGHT + at, NIGHT + at) for at in range(NIGHT)}
    copy = (4 * NIGHT + 30, 4 * NIGHT + 9)
    assert set(pairs) == night | {copy}
    assert pairs[copy] == f"copy of clip {copy[1]} of the same recording"
    assert {pairs[pair] for pair in night} == {f"the same night as b: {NIGHT} of {NIGHT} clips"}


def test_a_sensor_that_fell_off_and_a_clip_like_no_other(store: sleepfm_index.Store) -> None:
    flat = store.review(kinds=["flat"]).to_pylist()
    assert [row["clip_id"] for row in flat] == list(range(3 * NIGHT, 4 * NIGHT))
    assert all("resp embeddings of d hardly vary" in row["reason"] for row in flat)
    odd = store.review(kinds=["outlier"], where="recording_id <> 'd'").to_pylist()
    assert 4 * NIGHT + 40 in [row["clip_id"] for row in odd]
    assert len(odd) < 10


def test_a_review_becomes_columns(path: Path) -> None:
    with sleepfm_index.open(path) as opened:
        found = opened.review(kinds=["duplicate", "flat"])
        opened.annotate(columns_of(found))
        named = opened.sql("SELECT clip_id FROM clips WHERE review IS NOT NULL ORDER BY clip_id")
        assert named.table["clip_id"].to_pylist() == sorted(set(found.table["clip_id"].to_pylist()))


@pytest.fixture
def no_cleanlab(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cleanlab", "cleanlab.filter"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("no_cleanlab")
def test_without_cleanlab_the_other_findings_are_listed(
    path: Path, store: sleepfm_index.Store
) -> None:
    sentence = (
        'label errors were not looked for, because label errors need cleanlab; pip install "sl'
    )
    result = store.review()
    assert sentence in result.note and "outliers in bas" in result.note
    others = store.review(kinds=["outlier", "duplicate", "flat"])
    assert result.table.equals(others.table) and "label" not in others.note
    shown = CliRunner().invoke(app, ["review", "--store", str(path), "--format", "csv"])
    assert shown.exit_code == 0 and "duplicate" in shown.stdout
    assert sentence in " ".join(shown.stderr.split())


@pytest.mark.usefixtures("no_cleanlab")
def test_label_errors_that_are_asked_for_need_cleanlab(
    path: Path, store: sleepfm_index.Store
) -> None:
    with pytest.raises(StoreError, match="need cleanlab"):
        store.review(kinds=["label", "flat"])
    asked = ["review", "--look-for", "label", "--store", str(path)]
    assert isinstance(CliRunner().invoke(app, asked).exception, StoreError)


def test_labels_that_nobody_can_judge_leave_the_other_findings(tmp_path: Path) -> None:
    pytest.importorskip("cleanlab")
    alone = cohort_store(tmp_path / "one", "a", 10, index=False)
    unscored = cohort_store(tmp_path / "unscored", "ab", 10, unscored=10, index=False)
    seen = cohort_store(tmp_path / "seen", "ab", 10, seen=dict.fromkeys("ab", "pretrain"))
    for one, why in ((alone, "only one subject"), (unscored, "no clip"), (seen, "--include-seen")):
        with sleepfm_index.open(one) as opened:
            note = opened.review().note
            assert "label errors were not looked for, because " in note and why in note
            with pytest.raises(QueryError, match=why):
                opened.review(kinds=["label"])
    with sleepfm_index.open(alone) as opened, pytest.raises(QueryError, match="no column"):
        opened.review(label="stagge")


def test_nothing_else_can_be_looked_for(store: sleepfm_index.Store) -> None:
    with pytest.raises(QueryError, match="choose from label, outlier, duplicate, flat"):
        store.review(kinds=["ghosts"])
