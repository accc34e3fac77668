from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import WEIGHTS, drawn_segment, drawn_store
from typer.testing import CliRunner

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm.errors import OutputError
from sleepfm_cli.main import app
from sleepfm_index.errors import QueryError, StoreError
from sleepfm_index.sharing import clip_batches
from sleepfm_index.storage.writer import Writer

SIZES = {"night-2019-01": 30, "night-2019-02": 20, "night-2019-03": 10}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = drawn_store(tmp_path_factory.mktemp("export") / "s", SIZES, index=False)
    sleepfm_index.delete(store, where="clip_id IN (3, 41)")
    return store


def vectors_of(table: pa.Table, modality: str) -> np.ndarray:
    """A column of vectors as float16 [n, 512], zero where null."""
    rows = table[modality].to_pylist()
    return np.array([np.zeros(512) if r is None else r for r in rows], np.float16)


def test_every_clip_with_all_that_the_store_holds_of_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_batches, "BLOCK_ROWS", 7)
    done = sleepfm_index.export(path, tmp_path / "all.parquet")
    table = pq.read_table(done.path)
    with sleepfm_index.open(path) as store:
        stored = store.sql("SELECT * FROM clips ORDER BY clip_id").table
        ids = stored["clip_id"].to_numpy()
        assert done.clips == len(ids) == 58
        assert table.select(stored.column_names).cast(stored.schema).equals(stored)
        for modality in ROBUST.modalities:
            wanted, present = store.vectors.of(ids, modality)
            assert np.array_equal(vectors_of(table, modality), wanted.astype(np.float16))
            assert table[modality].is_valid().to_pylist() == present.tolist()
    assert table.schema.field("ecg").type == pa.list_(pa.float16(), 512)
    origin = json.loads(table.schema.metadata[b"sleepfm_index"])
    assert origin["weights"]["sha256"] == WEIGHTS.sha256


def test_a_condition_and_another_reader(path: Path, tmp_path: Path) -> None:
    sleepfm_index.export(path, tmp_path / "n2.parquet", where="stage = 'N2' AND has_ecg")
    found = duckdb.sql(
        f"SELECT clip_id, list_dot_product(ecg, ecg) AS norm FROM '{tmp_path}/n2.parquet'"
    ).fetchnumpy()
    with sleepfm_index.open(path) as store:
        assert (
            found["clip_id"].tolist()
            == store.metadata.clip_ids("stage = 'N2' AND has_ecg").tolist()
        )
    assert found["norm"] == pytest.approx(1.0, abs=2e-3)


def test_columns_that_only_some_recordings_have(tmp_path: Path) -> None:
    with Writer(tmp_path / "s", WEIGHTS, ROBUST) as writer:
        writer.append(drawn_segment("a", 4, 0))
        wider = drawn_segment("b", 3, 1)
        clips = wider.clips.append_column("diagnosis", pa.array(["G47.3"] * 3))
        writer.append(type(wider)(wider.key, clips, wider.events, wider.recordings, wider.vectors))
    sleepfm_index.export(tmp_path / "s", tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    assert table["diagnosis"].to_pylist() == [None] * 4 + ["G47.3"] * 3
    sleepfm_index.export(tmp_path / "s", tmp_path / "y.parquet", deidentified=True)
    assert "diagnosis" not in pq.read_schema(tmp_path / "y.parquet").names


def test_deidentified_leaves_no_word_of_the_store(path: Path, tmp_path: Path) -> None:
    done = sleepfm_index.export(path, tmp_path / "d.parquet", deidentified=True)
    table = pq.read_table(done.path)
    content = done.path.read_bytes()
    with sleepfm_index.open(path) as store:
        uuid = store.manifest.uuid
    for word in (*SIZES, "subject-", "lab", uuid):
        assert word.encode() not in content
    names = set(table.column_names)
    assert not names & {"site", "clock", "raw_stage"}
    assert {"recording_id", "subject_id", "stage", "nsrr_age", "hypopnea_s", "ecg"} <= names
    assert table["clip_id"].to_pylist() == list(range(58))
    assert len(set(table["recording_id"].to_pylist())) == 3
    assert set(table["recording_id"].to_pylist()).isdisjoint(table["subject_id"].to_pylist())
    assert all(age == int(age) for age in table["nsrr_age"].to_pylist())


def test_deidentified_vectors_still_go_with_their_rows(path: Path, tmp_path: Path) -> None:
    sleepfm_index.export(path, tmp_path / "a.parquet")
    sleepfm_index.export(path, tmp_path / "b.parquet", deidentified=True)
    plain, hidden = (pq.read_table(tmp_path / f"{n}.parquet") for n in "ab")
    key = {v.tobytes(): at for at, v in enumerate(vectors_of(plain, "bas")) if v.any()}
    pairs = [(key[v.tobytes()], at) for at, v in enumerate(vectors_of(hidden, "bas")) if v.any()]
    assert len(pairs) > 30
    names: dict[str, set[str]] = {}
    for old, new in pairs:
        for column in ("start_s", "stage", "hypopnea_s", "has_ecg"):
            assert plain[column][old].as_py() == hidden[column][new].as_py()
        names.setdefault(plain["recording_id"][old].as_py(), set()).add(
            hidden["recording_id"][new].as_py()
        )
    assert all(len(hashed) == 1 for hashed in names.values())


def test_the_order_of_recordings_tells_nothing(tmp_path: Path) -> None:
    # One store of one segment per recording, one compacted: neither keeps the order of the names.
    sizes = {f"r{i:02d}": 2 + i for i in range(12)}
    store = drawn_store(tmp_path / "s", sizes, index=False)
    for name in ("parts", "whole"):
        sleepfm_index.export(store, tmp_path / name, deidentified=True)
        hashed = pq.read_table(tmp_path / name)["recording_id"].to_pylist()
        lengths = [hashed.count(h) for h in dict.fromkeys(hashed)]
        assert sorted(lengths) == list(sizes.values()) and lengths != sorted(lengths)
        sleepfm_index.compact(store)


def test_the_same_id_gets_the_same_hash_in_every_export(path: Path, tmp_path: Path) -> None:
    for name in "ab":
        sleepfm_index.export(path, tmp_path / name, deidentified=True)
    first, second = (pq.read_table(tmp_path / n)["subject_id"].to_pylist() for n in "ab")
    assert first == second


def test_what_is_there_is_not_replaced(path: Path, tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("mine")
    with pytest.raises(StoreError, match="already exists"):
        sleepfm_index.export(path, tmp_path / "x.parquet")
    with pytest.raises(QueryError, match="no clips to export where stage = 'ART'"):
        sleepfm_index.export(path, tmp_path / "y.parquet", where="stage = 'ART'")
    with pytest.raises(OutputError, match="no folder"):
        sleepfm_index.export(path, tmp_path / "none" / "y.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


def test_a_failed_export_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("sleepfm_index.sharing.export._lists", fail)
    with pytest.raises(OSError, match="no space"):
        sleepfm_index.export(path, tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())


def test_lance(path: Path, tmp_path: Path) -> None:
    lance = pytest.importorskip("lance", reason="needs pip install 'sleepfm-index[lance]'")
    sleepfm_index.export(path, tmp_path / "x.parquet")
    sleepfm_index.export(path, tmp_path / "x.lance", format="lance")
    rows = lance.dataset(str(tmp_path / "x.lance")).to_table()
    assert rows.to_pylist() == pq.read_table(tmp_path / "x.parquet").to_pylist()


def test_the_verb(path: Path, tmp_path: Path) -> None:
    words = ["export", "--out", str(tmp_path / "x.parquet"), "--deidentified"]
    done = CliRunner().invoke(app, [*words, "--store", str(path)])
    assert done.exit_code == 0
    assert "58 clips, de-identified" in done.stderr and "not anonymous" in done.stderr
