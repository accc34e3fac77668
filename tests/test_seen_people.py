from __future__ import annotations

from pathlib import Path

import pytest
from cohorts import cohort_store
from typer.testing import CliRunner

import sleepfm_index
from sleepfm_cli.main import app
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.labels import read_labels
from sleepfm_index.evaluation.labels.splits import subjects_of
from sleepfm_index.evaluation.models.probe import fit_probe
from sleepfm_index.results import Result
from sleepfm_index.store import Store

NAMES = [f"n{i}" for i in range(10)]
SEEN = {"n0": "pretrain", "n1": "pretrain", "n2": "valid"}
PEOPLE = {"s-n0", "s-n1", "s-n2"}
COUNT = "3 subjects (36 clips) whom the weights have seen in training"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort_store(tmp_path_factory.mktemp("seen") / "s", NAMES, 12, seen=SEEN)


@pytest.fixture(scope="module")
def store(path: Path) -> Store:
    return sleepfm_index.open(path)


def test_labels_leave_out_whom_the_weights_have_seen(store: Store) -> None:
    assert not subjects_of(read_labels(store, "stage")) & PEOPLE
    assert subjects_of(read_labels(store, "stage", include_seen=True)) >= PEOPLE
    assert fit_probe(store, "stage", "bas").about["subjects"] == 7
    assert fit_probe(store, "stage", "bas", include_seen=True).about["subjects"] == 10


@pytest.mark.parametrize("verb", ["evaluate", "probe", "knn", "few_shot"])
def test_every_measure_leaves_them_out_and_says_so(store: Store, path: Path, verb: str) -> None:
    def measured(include_seen: bool) -> tuple[int, str]:
        if verb == "evaluate":
            result = store.evaluate(include_seen=include_seen)
            return result.to_pylist()[0]["queries"], result.note
        if verb == "few_shot":
            result = store.few_shot("stage", [2], on="bas", repeats=1, include_seen=include_seen)
            return (120 if include_seen else 84), result.note
        if verb == "knn":
            found = store.knn("stage", include_seen=include_seen)
        else:
            found = store.probe("stage", on="bas", include_seen=include_seen)
        return found.to_pylist()[0]["clips"], found.note

    clips, note = measured(False)
    assert clips == 84 and f"left out: {COUNT}" in note
    clips, note = measured(True)
    assert clips == 120 and f"includes {COUNT}" in note


def test_people_whom_the_other_stores_weights_have_seen_are_left_out_too(
    store: Store, tmp_path: Path
) -> None:
    plain = sleepfm_index.open(cohort_store(tmp_path / "plain", NAMES, 12))
    result = plain.probe("stage", on="bas", against=store)
    assert result.to_pylist()[0]["clips"] == 84 and f"other store: left out: {COUNT}" in result.note
    assert plain.probe("stage", on="bas", against=store, include_seen=True).note.count(COUNT) == 1
    pairs = plain.evaluate(against=store)
    assert pairs.to_pylist()[0]["queries"] == 84 and "other store" in pairs.note
    votes = plain.knn("stage", against=store)
    assert votes.to_pylist()[0]["clips"] == 84 and "other store" in votes.note
    assert "seen" not in plain.probe("stage", on="bas").note


def test_nobody_left_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    all_seen = cohort_store(tmp_path / "s", NAMES, 10, seen=dict.fromkeys(NAMES, "pretrain"))
    with sleepfm_index.open(all_seen) as store:
        for ask in (store.evaluate, lambda: store.probe("stage"), lambda: store.knn("stage")):
            with pytest.raises(QueryError, match=r"10 subjects .* add --include-seen"):
                ask()
        assert len(store.evaluate(include_seen=True))
        pytest.importorskip("cleanlab")
        with pytest.raises(QueryError, match=r"10 subjects .* add --include-seen"):
            store.review(kinds=["label"])


def _errors(result: Result) -> list[tuple[object, ...]]:
    names = ("recording_id", "start_s", "stage", "suggested", "value")
    return [tuple(row[n] for n in names) for row in result.to_pylist() if row["kind"] == "label"]


def test_label_errors_are_neither_of_them_nor_judged_by_them(tmp_path: Path) -> None:
    pytest.importorskip("cleanlab")
    noisy = {"signal": 0.12, "noise": 0.1}
    path = cohort_store(tmp_path / "s", NAMES, 12, seen=SEEN, **noisy)
    plain = sleepfm_index.open(cohort_store(tmp_path / "p", NAMES, 12, **noisy))
    others = cohort_store(tmp_path / "o", [n for n in NAMES if n not in SEEN], 12, **noisy)
    with sleepfm_index.open(path) as store:
        result = store.review(on="bas")
        assert "of 84 labels of stage likely wrong" in result.note
        assert result.note.endswith(f"; labels: left out: {COUNT} (--include-seen keeps them)")
        # the same as if they were not in the store, or had not been seen
        assert _errors(result) == _errors(sleepfm_index.open(others).review(on="bas")) != []
        everybody = store.review(on="bas", include_seen=True)
        assert "of 120 labels" in everybody.note
        assert everybody.note.endswith(f"; labels: includes {COUNT}")
        assert _errors(everybody) == _errors(plain.review(on="bas")) != _errors(result)
        # the other kinds look at everybody
        for kind in ("outlier", "duplicate", "flat"):
            assert "labels" not in store.review(kinds=[kind]).note
        rest = [[r for r in x.to_pylist() if r["kind"] != "label"] for x in (result, everybody)]
        assert rest[0] == rest[1]
        assert result.note.startswith("120 clips looked at")


def test_the_only_person_who_was_not_seen_has_no_judge(tmp_path: Path) -> None:
    pytest.importorskip("cleanlab")
    one = cohort_store(tmp_path / "s", NAMES[:4], 10, seen=dict.fromkeys(NAMES[:3], "pretrain"))
    with sleepfm_index.open(one) as store:
        with pytest.raises(QueryError, match="only one subject has labels of stage; left out: 3"):
            store.review(kinds=["label"])
        assert "of 40 labels" in store.review(kinds=["label"], include_seen=True).note


@pytest.mark.parametrize("verb", ["evaluate", "review"])
def test_the_command_line_has_the_option(path: Path, verb: str) -> None:
    if verb == "review":
        pytest.importorskip("cleanlab")
    for more, said in (([], "left out: 3"), (["--include-seen"], "includes 3")):
        ran = CliRunner().invoke(app, [verb, *more, "--store", str(path)])
        assert ran.exit_code == 0, ran.output
        assert said in " ".join(ran.output.split())
