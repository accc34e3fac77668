"""Vectors made elsewhere: what comes in is what is found, and what does not fit is refused."""

from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sleepfm_index
from sleepfm.contract import ROBUST
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
