"""A query that finds nothing says why, and what the columns of its condition hold."""

from __future__ import annotations

import pytest
from stores import drawn_store

import sleepfm_index
from sleepfm_index import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("none") / "s"
    return sleepfm_index.open(drawn_store(path, {"a": 20, "b": 20}, index=False, lacking=0.0))


@pytest.mark.parametrize(
    ("condition", "held"),
    [
        ("nsrr_sex = 'F'", "nsrr_sex holds female"),
        ("stage == 'REM'", "stage holds "),
        ("nsrr_age > 50", "nsrr_age is between 40 and 40"),
        ("\"Nsrr_Age\" < 3 AND stage = 'recording_id'", "nsrr_age is between 40 and 40; stage"),
    ],
)
def test_a_condition_that_no_clip_meets(store: Store, condition: str, held: str) -> None:
    found = store.query("ecg", to="bas", clip=0, where=condition)
    assert len(found) == 0
    assert "no clip meets the condition" in found.note and held in found.note


def test_a_condition_that_only_own_clips_meet(store: Store) -> None:
    found = store.query("ecg", to="bas", clip=0, where="recording_id = 'a'")
    assert len(found) == 0
    assert "20 clips meet the condition, none with bas outside" in found.note
    assert "--exclude none" in found.note


def test_an_answer_with_hits_says_none_of_it(store: Store) -> None:
    assert "holds" not in store.query("ecg", to="bas", clip=0, where="stage = 'N2'").note
