"""Facts added to a store or corrected in it, without encoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import content, drawn_segment, drawn_store
from typer.testing import CliRunner

import sleepfm_index
from sleepfm_cli.main import app
from sleepfm_index.errors import StoreError
from sleepfm_index.indexing.reindex import update_indexes
from sleepfm_index.storage import private
from sleepfm_index.storage.manifest import read_manifest
from sleepfm_index.storage.writer import Writer

SIZES = {"a": 12, "b": 9, "c": 7}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return drawn_store(tmp_path / "s", SIZES, lacking=0.0)


def rows(path: Path, columns: str, of: str = "clips") -> list[dict[str, object]]:
    with sleepfm_index.open(path) as store:
        found = store.sql(f"SELECT DISTINCT {columns} FROM {of} ORDER BY ALL")
        return found.to_pylist()


def vectors(path: Path) -> dict[int, tuple[object, ...]]:
    with sleepfm_index.open(path) as store:
        return {clip: own[-3:] for clip, own in content(store).items()}


def test_a_corrected_age_and_a_new_column(path: Path, tmp_path: Path) -> None:
    before, bytes_before = vectors(path), _inodes(path)
    table = tmp_path / "subjects.csv"
    table.write_text("recording_id,nsrr_age,diagnosis\na,51,OSA\nb,,\n")
    done = sleepfm_index.annotate(path, table)
    assert (done.clips, done.cleared, done.columns) == (
        21,
        9,
        ("nsrr_age", "diagnosis", "nsrr_age_gt89"),
    )
    assert rows(path, "recording_id, nsrr_age, nsrr_age_gt89, diagnosis, nsrr_sex") == [
        {"recording_id": r, "nsrr_age": a, "nsrr_age_gt89": g, "diagnosis": d, "nsrr_sex": "female"}
        for r, a, g, d in (
            ("a", 51.0, False, "OSA"),
            ("b", None, None, None),
            ("c", 40.0, None, None),
        )
    ]
    assert vectors(path) == before
    assert sleepfm_index.verify(path).findings == ()
    # Nothing was written again but the tables.
    assert {p for p in _inodes(path) if p not in bytes_before} == set()
    with sleepfm_index.open(path) as store:
        assert "approximate" in store.query("ecg", clip=3, to="bas", exclude="none").note
        assert len(store.query("ecg", clip=20, to="bas", where="diagnosis = 'OSA'")) == 10
    again = sleepfm_index.annotate(path, table)
    assert (again.clips, again.snapshot) == (0, done.snapshot)


def _inodes(path: Path) -> set[int]:
    return {f.stat().st_ino for f in path.rglob("*.arrow")}


def test_the_snapshot_before_can_be_restored_and_compacted_away(path: Path) -> None:
    first = read_manifest(path).snapshot
    with sleepfm_index.open(path) as earlier:
        sleepfm_index.annotate(path, {"recording_id": ["a"], "nsrr_age": [70.0]})
        assert {r["nsrr_age"] for r in earlier.sql("SELECT nsrr_age FROM clips").to_pylist()} == {
            40.0
        }
    sleepfm_index.restore(path, first)
    assert rows(path, "nsrr_age") == [{"nsrr_age": 40.0}]
    sleepfm_index.annotate(path, {"recording_id": ["a"], "nsrr_age": [70.0]})
    sleepfm_index.compact(path)
    assert rows(path, "nsrr_age") == [{"nsrr_age": 40.0}, {"nsrr_age": 70.0}]
    assert sleepfm_index.verify(path).findings == ()


def test_two_nights_become_one_persons(path: Path) -> None:
    sleepfm_index.annotate(path, {"recording_id": ["a", "b"], "subject_id": ["p1", "p1"]})
    expected = [
        {"recording_id": r, "subject_id": s}
        for r, s in (("a", "p1"), ("b", "p1"), ("c", "subject-c"))
    ]
    for view in ("clips", "events", "recordings"):
        assert rows(path, "recording_id, subject_id", view) == expected
    with sleepfm_index.open(path) as store:
        found = store.query("ecg", clip=0, to="bas", k=28).to_pylist()
    assert {row["recording_id"] for row in found} == {"c"}
    sleepfm_index.annotate(path, {"subject_id": ["p1"], "arm": [2]})
    assert rows(path, "recording_id, arm") == [
        {"recording_id": r, "arm": a} for r, a in (("a", 2), ("b", 2), ("c", None))
    ]


def test_columns_of_clips(path: Path, tmp_path: Path) -> None:
    table = pa.table(
        {
            "clip_id": np.array([27, 0, 14], np.uint32),
            "cluster": pa.array(["x", "y", None]).dictionary_encode(),
            "own": np.array([0.5, np.nan, 3.0], np.float32),
        }
    )
    pq.write_table(table, tmp_path / "clips.parquet")
    done = sleepfm_index.annotate(path, tmp_path / "clips.parquet")
    assert done.clips == 3
    with sleepfm_index.open(path) as store:
        found = store.sql("SELECT clip_id, cluster, own FROM clips WHERE own > 0 OR clip_id = 0")
        assert sorted(map(tuple, (r.values() for r in found.to_pylist()))) == [
            (0, "y", None),
            (14, None, 3.0),
            (27, "x", 0.5),
        ]
        done = store.annotate(pd.DataFrame({"clip_id": [1], "own": [1]}))
        assert store.manifest.snapshot == done.snapshot
        assert store.rows(np.array([1]))["own"].to_pylist() == [1.0]
    (tmp_path / "clips.csv").write_text("clip_id,own\n2,7.5\n")
    sleepfm_index.annotate(path, tmp_path / "clips.csv")
    assert rows(path, "own") == [{"own": v} for v in (0.5, 1.0, 3.0, 7.5, None)]


def test_a_type_that_does_not_hold_the_new_values_is_widened(path: Path) -> None:
    sleepfm_index.annotate(path, {"recording_id": ["a", "b"], "visit": [1, 2]})
    sleepfm_index.annotate(path, {"recording_id": ["b"], "visit": [2.5]})
    sleepfm_index.annotate(path, {"recording_id": ["c"], "visit": ["third"]})
    assert {r["visit"] for r in rows(path, "visit")} == {"1", "2.5", "third"}
    sleepfm_index.compact(path)
    assert {r["visit"] for r in rows(path, "visit")} == {"1", "2.5", "third"}


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"recording_id": ["a"]}, "no column beside"),
        ({"recording_id": ["x"], "arm": [1]}, "1 row names no recording: x; nothing was changed"),
        ({"recording_id": ["A"], "arm": [1]}, r"A \(perhaps a\)"),
        ({"recording_id": ["a"], "stage": ["W"]}, "the store uses this name"),
        ({"recording_id": ["a"], "Score": [1]}, "the store uses this name"),
        ({"recording_id": ["a"], "name": ["Jane"]}, "--allow-identifying"),
        ({"recording_id": ["a"], "nsrr_age": [1960]}, "outside 0 to 120"),
        ({"recording_id": ["a", "a"], "arm": [1, 2]}, "twice"),
        ({"clip_id": [0, 0], "arm": [1, 2]}, "twice"),
        ({"clip_id": [0.5], "arm": [1]}, "integer"),
        ({"clip_id": [None], "arm": [1]}, "integer"),
        ({"clip_id": [0], "recording_id": ["b"]}, "leave out clip_id"),
        ({"clip_id": [0], "stage": ["W"]}, "the store uses this name"),
        ({"clip_id": [0], "x": [[1, 2]]}, "use numbers, text or Booleans"),
        ({"clip_id": [99], "x": [1]}, "1 row names no clip of the store, 99 for one"),
        ({"arm": [1]}, "needs a column"),
    ],
)
def test_what_cannot_be_meant_changes_nothing(
    path: Path, table: dict[str, list[object]], sentence: str
) -> None:
    before = (path / "manifest.json").read_bytes()
    with pytest.raises(StoreError, match=sentence):
        sleepfm_index.annotate(path, table)
    assert (path / "manifest.json").read_bytes() == before
    assert sleepfm_index.verify(path).findings == ()


def test_what_does_not_meet_is_said_and_refused_when_strict(path: Path) -> None:
    table = {"recording_id": ["a", "b ", "d.edf"], "arm": [1, 2, 3]}
    with pytest.raises(StoreError, match=r"1 row names no recording: d\.edf; nothing"):
        sleepfm_index.annotate(path, table, strict=True)
    done = sleepfm_index.annotate(path, table)
    assert done.matching.matched == ("a", "b")
    assert len(done.notes) == 2 and "1 of 3 recordings has no row: c" in done.notes[1]


def test_recordings_named_by_a_hash_are_met_by_their_files_names(tmp_path: Path) -> None:
    path = tmp_path / "s"
    drawn_store(path, {"seed": 3}, index=False)
    hashed = private.hashed_id(path, "night")
    from stores import WEIGHTS

    from sleepfm.contract import ROBUST

    with Writer(path, WEIGHTS, ROBUST) as writer:
        writer.append(drawn_segment(hashed, 4, 9))
    done = sleepfm_index.annotate(path, {"recording_id": ["night"], "arm": ["x"]})
    assert (done.clips, done.matching.matched) == (4, ("night",))
    assert {"recording_id": hashed, "arm": "x"} in rows(path, "recording_id, arm")


def test_deleted_clips_stay_deleted(path: Path) -> None:
    sleepfm_index.delete(path, recording="b")
    sleepfm_index.delete(path, where="clip_id = 3")
    done = sleepfm_index.annotate(path, {"subject_id": ["subject-a", "subject-b"], "x": [1, 2]})
    assert done.matching.unmatched == ("subject-b",)
    assert rows(path, "recording_id, x") == [
        {"recording_id": "a", "x": 1},
        {"recording_id": "c", "x": None},
    ]
    assert rows(path, "recording_id", "recordings") == [{"recording_id": r} for r in "ac"]


def test_rows_that_can_be_mapped_are_written_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Writer(path) as writer:
        update_indexes(writer)
    sleepfm_index.annotate(path, {"recording_id": ["a"], "arm": [5]})
    with sleepfm_index.open(path) as store:
        assert store.rows(np.array([0, 20]))["arm"].to_pylist() == [5, None]
    assert sleepfm_index.verify(path).findings == ()


def test_the_verb(path: Path, tmp_path: Path) -> None:
    table = tmp_path / "s.csv"
    table.write_text("recording_id;arm\na;1\nzz;2\n")
    done = CliRunner().invoke(app, ["annotate", str(table), "--store", str(path)])
    assert done.exit_code == 0, done.output
    assert "arm: 12 clips changed" in done.output
    assert "1 row names no recording: zz" in done.output


_NAMES = st.sampled_from(["arm", "nsrr_age", "site", "note"])
_VALUES = {
    "arm": st.none() | st.integers(-5, 5),
    "nsrr_age": st.none() | st.floats(0, 88, width=32),
    "site": st.none() | st.sampled_from(["n", "s"]),
    "note": st.none() | st.text("abc", min_size=1, max_size=3).filter(lambda t: t not in ("na",)),
}


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_any_order_of_facts_and_deletions_gives_what_was_said_last(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Against a dictionary that does the same."""
    path = drawn_store(tmp_path_factory.mktemp("model") / "s", SIZES, lacking=0.0, index=False)
    model = {
        clip: {"recording_id": name, "arm": None, "nsrr_age": 40.0, "site": "lab", "note": None}
        for name, clips in (("a", range(12)), ("b", range(12, 21)), ("c", range(21, 28)))
        for clip in clips
    }
    for _ in range(data.draw(st.integers(1, 5))):
        act = data.draw(st.sampled_from(["annotate", "annotate", "delete", "compact"]))
        if act == "annotate":
            column = data.draw(_NAMES)
            listed = data.draw(st.lists(st.sampled_from("abc"), unique=True, min_size=1))
            listed = [r for r in listed if r in {m["recording_id"] for m in model.values()}]
            if not listed:
                continue
            told = [data.draw(_VALUES[column]) for _ in listed]
            sleepfm_index.annotate(path, {"recording_id": listed, column: told})
            for own in model.values():
                if own["recording_id"] in listed:
                    own[column] = told[listed.index(str(own["recording_id"]))]
        elif act == "delete" and len(model) > 1:
            clip = data.draw(st.sampled_from(sorted(model)))
            sleepfm_index.delete(path, where=f"clip_id = {clip}")
            del model[clip]
        elif act == "compact":
            sleepfm_index.compact(path)
    with sleepfm_index.open(path) as store:
        found = {row["clip_id"]: row for row in store.sql("SELECT * FROM clips").to_pylist()}
    assert found.keys() == model.keys()
    for clip, own in model.items():
        for name, value in own.items():
            stored = found[clip].get(name)
            assert (None if stored is None else str(stored)) == (
                None if value is None else str(float(value) if isinstance(stored, float) else value)
            )
