from __future__ import annotations

from pathlib import Path

import pytest
from cohorts import cohort_store

import sleepfm_index
from sleepfm_index.errors import QueryError


def test_more_subjects_teach_more(tmp_path: Path) -> None:
    path = cohort_store(tmp_path / "s", [f"n{i}" for i in range(12)], 40, signal=0.12)
    with sleepfm_index.open(path) as store:
        result = store.few_shot("stage", [1, 8], on=["bas"], repeats=4, folds=4)
        one, eight = result.to_pylist()
        assert (one["shots"], one["draws"], eight["shots"]) == (1, 4, 8)
        assert eight["auroc"] > one["auroc"] + 0.02
        assert one["auroc_low"] <= one["auroc"] <= one["auroc_high"]
        with pytest.raises(QueryError, match="50 subjects cannot be drawn from 9"):
            store.few_shot("stage", [50], on=["bas"], folds=4)


def test_a_draw_of_one_class_is_counted_and_not_averaged(tmp_path: Path) -> None:
    path = cohort_store(tmp_path / "s", [f"n{i}" for i in range(8)], 20)
    with sleepfm_index.open(path) as store:
        (row,) = store.few_shot("sex", [1], on=["ecg"], repeats=3, folds=2).to_pylist()
        assert row["one_class_draws"] == 3 and row["draws"] == 0 and row["auroc"] is None
