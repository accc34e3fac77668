"""Vectors made elsewhere: what comes in is what is found, and what does not fit is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import content, drawn_store

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm.errors import SleepFMError
from sleepfm_index.building.foreign_vectors import read_vectors
from sleepfm_index.building.import_vectors import import_vectors
from sleepfm_index.errors import StoreError

D = 20


def drawn(seed: int, n: int = 6, d: int = D) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {str(m): draw.standard_normal((n, d)).astype(np.float32) for m in ROBUST.modalities}


def as_parquet(folder: Path, rows: dict[str, dict[str, np.ndarray]]) -> Path:
    tables = [
        pa.table(
            {
                "recording_id": [name] * len(own["bas"]),
                "subject_id": [f"person of {name}"] * len(own["bas"]),
                "stage": (["W", "N2", "R"] * len(own["bas"]))[: len(own["bas"])],
                **{m: pa.array(x.tolist()) for m, x in own.items()},
            }
        )
        for name, own in rows.items()
    ]
    pq.write_table(pa.concat_tables(tables), folder / "vectors.parquet")
    return folder / "vectors.parquet"


def test_a_store_of_imported_vectors_answers_by_their_cosines(tmp_path: Path) -> None:
    rows = {"a": drawn(1), "b": drawn(2), "c": drawn(3)}
    result = import_vectors(tmp_path / "store", [as_parquet(tmp_path, rows)], name="theirs")
    assert [r["outcome"] for r in result.to_pylist()] == ["added"] * 3
    store = sleepfm_index.open(tmp_path / "store")
    found = store.query("ecg", "bas", clip=0, k=5, exclude="none").to_pylist()
    bas, ecg = (np.concatenate([own[m] for own in rows.values()]) for m in ("bas", "ecg"))
    bas, ecg = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bas, ecg))
    scores = bas @ ecg[0]
    assert [r["clip_id"] for r in found] == np.argsort(-scores)[:5].tolist()
    np.testing.assert_allclose([r["score"] for r in found], np.sort(scores)[::-1][:5], atol=2e-3)
    facts = store.sql("SELECT DISTINCT subject_id FROM clips ORDER BY 1").to_pylist()
    assert [f["subject_id"] for f in facts] == [f"person of {n}" for n in "abc"]
    assert store.sql("SELECT count(*) AS n FROM clips WHERE stage = 'N2'").to_pylist() == [{"n": 6}]
    assert len(store.evaluate()) == 9


def test_modalities_are_those_of_the_files(tmp_path: Path) -> None:
    draw = np.random.default_rng(8)
    for name in ("a", "b"):
        own = {m: draw.standard_normal((6, 100)) for m in ("emg", "ecg", "eeg")}
        np.savez(tmp_path / f"{name}.npz", **own)
    import_vectors(tmp_path / "store", [tmp_path / "a.npz", tmp_path / "b.npz"], name="theirs")
    store = sleepfm_index.open(tmp_path / "store")
    assert store.manifest.contract.modalities == ("ecg", "eeg", "emg")
    assert {(r["query"], r["target"]) for r in store.evaluate().to_pylist()} >= {
        ("emg", "eeg"),
        ("ecg", "others"),
    }
    unit = own["eeg"] / np.linalg.norm(own["eeg"], axis=1, keepdims=True)
    np.testing.assert_allclose(
        store.vectors.of(np.arange(6, 12), "eeg")[0][:, :100], unit, atol=1e-3
    )
    hit = store.query("emg", "emg", clip=7, k=1, exclude="none").to_pylist()
    assert hit[0]["clip_id"] == 7
    assert store.info().clips == 12
    np.savez(tmp_path / "c.npz", bas=draw.standard_normal((6, 100)))
    with pytest.raises(StoreError, match="vectors of bas, the store is of ecg, eeg, emg"):
        import_vectors(tmp_path / "store", [tmp_path / "c.npz"], name="theirs")


def test_what_is_there_is_skipped(tmp_path: Path) -> None:
    path = as_parquet(tmp_path, {"a": drawn(1)})
    import_vectors(tmp_path / "store", [path], name="theirs")
    again = import_vectors(tmp_path / "store", [path], name="theirs")
    assert [r["outcome"] for r in again.to_pylist()] == ["already there"]
    with pytest.raises(StoreError):
        import_vectors(tmp_path / "store", [path], name="another encoder")


def test_npz_and_clinical_hdf5(tmp_path: Path) -> None:
    own = drawn(4, n=12, d=128)
    np.savez(tmp_path / "night.npz", **own, start_s=np.arange(12) * 30.0)
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        for name, m in (("BAS", "bas"), ("EKG", "ecg"), ("RESP", "resp")):
            file[name] = own[m]
        file["EMG"] = own["bas"]
    night, other = sorted(read_vectors(tmp_path), key=lambda r: r.recording_id)
    assert (night.recording_id, other.recording_id) == ("night", "other")
    unit = own["ecg"] / np.linalg.norm(own["ecg"], axis=1, keepdims=True)
    np.testing.assert_allclose(night.vectors["ecg"][:, :128], unit, atol=1e-6)
    assert not night.vectors["ecg"][:, 128:].any()
    assert set(other.vectors) == {"bas", "ecg", "resp", "emg"}
    mean = unit.reshape(2, 6, 128).mean(axis=1)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(other.vectors["ecg"][:, :128], mean, atol=1e-6)
    assert other.start_s.tolist() == [0.0, 30.0]


def test_a_clip_without_a_modality_is_no_answer(tmp_path: Path) -> None:
    own = drawn(5)
    own["ecg"][2] = 0
    np.savez(tmp_path / "night.npz", **own)
    import_vectors(tmp_path / "store", [tmp_path / "night.npz"], name="theirs")
    store = sleepfm_index.open(tmp_path / "store")
    rows = store.sql("SELECT clip_id FROM clips WHERE NOT has_ecg").to_pylist()
    assert [r["clip_id"] for r in rows] == [2]
    found = store.query("bas", "ecg", clip=0, k=6, exclude="none").to_pylist()
    assert 2 not in {r["clip_id"] for r in found} and len(found) == 5


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"bas": np.ones((3, 513), np.float32)}, "513 dimensions"),
        ({"bas": np.full((3, 4), np.nan, np.float32)}, "NaN"),
        ({"bas": np.ones((3, 4)), "ecg": np.ones((2, 4))}, "shape"),
        ({"start_s": np.arange(3.0)}, "no vectors"),
        ({"chin EMG": np.ones((3, 4))}, "cannot be a modality"),
        ({"stages": np.ones(3)}, "shape"),
        ({"bas": np.ones((2, 4)), "start_s": np.zeros(2)}, "same time"),
    ],
)
def test_what_does_not_fit_is_refused(
    arrays: dict[str, np.ndarray], says: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "night.npz", **arrays)
    with pytest.raises(StoreError, match=says):
        list(read_vectors(tmp_path / "night.npz"))
    (tmp_path / "text.csv").write_text("a\n")
    with pytest.raises(StoreError, match=r"\.csv"):
        list(read_vectors(tmp_path / "text.csv"))


def exported(folder: Path, **how: Any) -> tuple[Path, Path]:
    store = drawn_store(folder / "first", {"a": 6, "b": 5, "c": 4}, index=False)
    sleepfm_index.annotate(store, {"recording_id": ["a", "b"], "diagnosis": ["G47.3", "none"]})
    sleepfm_index.export(store, folder / "shared.parquet", **how)
    return store, folder / "shared.parquet"


def test_an_export_gives_the_store_again(tmp_path: Path) -> None:
    first, shared = exported(tmp_path)
    done = import_vectors(tmp_path / "second", [shared])
    assert [r["outcome"] for r in done.to_pylist()] == ["added"] * 3
    with sleepfm_index.open(first) as one, sleepfm_index.open(tmp_path / "second") as two:
        assert two.manifest.weights == one.manifest.weights
        assert two.manifest.contract == one.manifest.contract
        assert content(two) == content(one)
        asked = {"clip": 2, "k": 5, "exclude": "none"}
        assert two.query("ecg", "bas", **asked).table.equals(one.query("ecg", "bas", **asked).table)
    assert sleepfm_index.verify(tmp_path / "second").findings == ()
    again = import_vectors(tmp_path / "second", [shared])
    assert [r["outcome"] for r in again.to_pylist()] == ["already there"] * 3


def test_a_deidentified_export_is_searched_with_the_columns_that_were_named(tmp_path: Path) -> None:
    first, shared = exported(tmp_path, deidentified=True, keep=["diagnosis"])
    import_vectors(tmp_path / "second", [shared])
    with sleepfm_index.open(first) as one, sleepfm_index.open(tmp_path / "second") as two:
        asked = "SELECT diagnosis, count(*) n, max(nsrr_age) FROM clips GROUP BY 1 ORDER BY 1"
        assert two.sql(asked).to_pylist() == one.sql(asked).to_pylist()
        scores = [
            sorted(round(h["score"], 6) for h in s.query("ecg", "bas", clip=c, k=9).to_pylist())
            for s, c in ((one, 0), (two, _same_clip(one, two)))
        ]
        assert scores[0] == scores[1]
        columns = two.clip_schema.names
    assert "diagnosis" in columns and not {"a", "b", "c"} & set(columns)
    text = b"".join(p.read_bytes() for p in (tmp_path / "second").rglob("*") if p.is_file())
    assert b"subject-a" not in text


def _same_clip(one: sleepfm_index.Store, two: sleepfm_index.Store) -> int:
    """The clip of the second store whose vector is that of clip 0 of the first."""
    wanted = one.vectors.of(np.array([0]), "ecg")[0]
    ids = two.metadata.clip_ids()
    return int(ids[(two.vectors.of(ids, "ecg")[0] @ wanted[0]).argmax()])


@pytest.mark.parametrize(
    ("keep", "says"),
    [("nothing", "no such column"), ("raw_stage", "never"), ("birth_date", "date of birth")],
)
def test_columns_that_cannot_be_kept(keep: str, says: str, tmp_path: Path) -> None:
    store = drawn_store(tmp_path / "s", {"a": 3}, index=False)
    sleepfm_index.annotate(
        store, {"recording_id": ["a"], "birth_date": ["1960-01-02"]}, allow_identifying=True
    )
    with pytest.raises(SleepFMError, match=says):
        sleepfm_index.export(store, tmp_path / "x.parquet", deidentified=True, keep=[keep])
    assert not (tmp_path / "x.parquet").exists()


def test_a_value_that_tells_who_it_is_is_not_kept(tmp_path: Path) -> None:
    store = drawn_store(tmp_path / "s", {"a": 3}, index=False)
    table = {"recording_id": ["a"], "remark": ["seen on 1960-01-02"]}
    sleepfm_index.annotate(store, table, allow_identifying=True)
    out = tmp_path / "x.parquet"
    with pytest.raises(StoreError, match="a date"):
        sleepfm_index.export(store, out, deidentified=True, keep=["remark"])
    assert not out.exists()
    sleepfm_index.export(store, out, deidentified=True, keep=["remark"], allow_identifying=True)
    assert pq.read_schema(out).names.count("remark") == 1


def test_what_was_deleted_is_not_imported_again_in_silence(tmp_path: Path) -> None:
    _, shared = exported(tmp_path)
    second = tmp_path / "second"
    import_vectors(second, [shared])
    sleepfm_index.delete(second, subject="subject-a")
    sleepfm_index.delete(second, recording="b")
    done = import_vectors(second, [shared]).to_pylist()
    assert [r["outcome"] for r in done] == ["left out", "left out", "already there"]
    assert len(sleepfm_index.open(second)) == 4
    done = import_vectors(second, [shared], readmit=True).to_pylist()
    assert [r["outcome"] for r in done] == ["added", "added", "already there"]
    assert len(sleepfm_index.open(second)) == 15
    assert sleepfm_index.verify(second).ok


def _changed(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    table = pq.read_table(path)
    metadata = table.schema.metadata
    pq.write_table(change(table).replace_schema_metadata(metadata), path)


def test_nan_and_empty_text_are_missing(tmp_path: Path) -> None:
    _, shared = exported(tmp_path)
    for name, values in (("own", [float("nan"), 1.5]), ("site", ["", "x"]), ("note", ["", "y"])):
        _changed(shared, _with(name, values))
    import_vectors(tmp_path / "t", [shared])
    with sleepfm_index.open(tmp_path / "t") as store:
        rows = store.sql("SELECT DISTINCT own, site, note FROM clips ORDER BY own").to_pylist()
    assert rows == [
        {"own": 1.5, "site": "x", "note": "y"},
        {"own": None, "site": None, "note": None},
    ]


def _with(name: str, values: list[object]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(name)
        column = pa.array((values * len(table))[: len(table)])
        return table.append_column(name, column) if at < 0 else table.set_column(at, name, column)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_with("has_ecg", [True, False]), "does not go with"),
        (_with("stage", ["Stage 2"]), "is none of"),
        (_with("rank", [1]), "cannot hold"),
        (_with("nested", [[1]]), "cannot hold"),
        (_with("subject_id", ["x", "y"]), "more than one subject"),
        (_with("start_s", [30.0]), "order of time"),
        (_with("recording_id", ["a", "b"]), "together in order of time"),
        (_with("ecg", [[0.5] * 512]), "halffloat|float16|not of"),
        (_with("own", [float("inf")]), "own holds infinite values"),
        (_with("hypopnea_s", [float("-inf"), 1.0]), "hypopnea_s holds infinite values"),
        (lambda t: t.drop_columns(["bas"]), "no column bas"),
        (lambda t: t.append_column("stage", t["stage"]), "two columns"),
    ],
)  # fmt: skip
def test_an_export_that_was_changed_is_refused(
    change: Callable[[pa.Table], pa.Table], says: str, tmp_path: Path
) -> None:
    _, shared = exported(tmp_path)
    _changed(shared, change)
    with pytest.raises(StoreError, match=says):
        import_vectors(tmp_path / "second", [shared])


def test_vectors_of_nobody_need_a_name(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="--name"):
        import_vectors(tmp_path / "store", [as_parquet(tmp_path, {"a": drawn(1)})])
    assert not (tmp_path / "store").exists()
