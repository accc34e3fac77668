"""SQL that means harm: nothing is written, nothing outside is read, deleted rows stay deleted."""

from __future__ import annotations

import hashlib
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import run
from stores import drawn_store

import sleepfm_index
from sleepfm_index.errors import QueryError
from sleepfm_index.explore.queries import sql
from sleepfm_index.explore.session import TIME_LIMIT_S, Session
from sleepfm_index.storage import metadata

INSIDE = [
    "COPY (SELECT 1) TO '{file}'",
    "COPY clips TO '{file}' (FORMAT parquet)",
    "COPY (SELECT 1) TO '{segment}/new.csv'",
    "COPY (SELECT 1) TO '.tmp/new.csv'",
    "COPY (SELECT 1) TO ':memory:'",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW clips AS SELECT 5 AS clip_id",
    "CREATE OR REPLACE TEMP VIEW clips AS SELECT 5 AS clip_id",
    "DROP VIEW clips",
    "DROP VIEW temp.clips",
    "DELETE FROM clips",
    "INSERT INTO clips SELECT * FROM clips",
    "UPDATE clips SET stage = 'W'",
    "ATTACH '{file}' AS x",
    "DETACH memory",
    "USE memory",
    "SET threads = 1",
    "SET enable_external_access = true",
    "RESET ALL",
    "INSTALL httpfs",
    "LOAD parquet",
    "EXPORT DATABASE '{segment}'",
    "CREATE SECRET s (TYPE s3)",
    "CREATE MACRO f(x) AS x",
    "COMMIT",
    "BEGIN",
    "PRAGMA enable_profiling",
    "CHECKPOINT",
]
WRAPPED = ["{}", "EXPLAIN {}", "EXPLAIN ANALYZE {}", "WITH x AS ({}) SELECT * FROM x"]
READING = [
    "SELECT * FROM read_parquet('{file}')",
    "SELECT * FROM parquet_scan('{file}')",
    "SELECT * FROM '{file}'",
    "SELECT * FROM parquet_metadata('{file}')",
    "SELECT * FROM read_parquet('{segment}/*.parquet')",
    "SELECT * FROM read_blob('{file}')",
    "SELECT * FROM read_text('{store}/manifest.json')",
    "SELECT * FROM read_text('/etc/hostname')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_json('{store}/manifest.json')",
    "SELECT * FROM glob('{store}/*')",
    "SELECT * FROM sniff_csv('{store}/manifest.json')",
    "SELECT * FROM sqlite_scan('x', 'y')",
    "SELECT * FROM iceberg_scan('{store}')",
    "SELECT * FROM read_duckdb('{file}')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{segment}/q.csv''')",
    "SELECT * FROM query_table('other')",
    "SELECT * FROM python_arrow_scan()",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM store",
    "SELECT * FROM path",
    "SELECT * FROM _deleted",
    "SELECT * FROM _withdrawn",
    "FROM '{file}'",
    "SELECT getenv('HOME')",
    "SELECT current_setting('secret_directory'), * FROM read_text('/etc/hostname')",
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = drawn_store(tmp_path_factory.mktemp("attack") / "s", {"a": 30, "b": 20}, index=False)
    sleepfm_index.delete(path, recording="b")
    return path


def digests(path: Path) -> dict[str, str]:
    return {
        str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in path.rglob("*")
        if p.is_file()
    }


@pytest.mark.parametrize("wrap", WRAPPED)
def test_no_statement_writes(
    path: Path, wrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".tmp").mkdir()
    before = digests(path)
    segment = next((path / "segments").iterdir())
    with sleepfm_index.open(path) as store:
        expected = store.sql("SELECT * FROM clips ORDER BY clip_id").table
        for attack in INSIDE:
            named = attack.format(file=segment / "clips.parquet", segment=segment)
            try:
                store.sql(wrap.format(named))
            except QueryError as error:
                assert "\n" not in str(error)
            assert store.sql("SELECT * FROM clips ORDER BY clip_id").table.equals(expected), attack
            assert store.metadata.clip_ids("true").tolist() == list(range(30))
        settings = store.sql("SELECT current_setting('enable_external_access') AS e").to_pylist()
        assert settings == [{"e": False}]
    assert digests(path) == before
    assert [p.name for p in tmp_path.rglob("*")] == [".tmp"]


@pytest.mark.parametrize("attack", READING)
def test_no_statement_reads_a_file(path: Path, attack: str) -> None:
    segment = next((path / "segments").iterdir())
    named = attack.format(file=segment / "clips.parquet", segment=segment, store=path)
    with sleepfm_index.open(path) as store:
        with pytest.raises(QueryError) as refused:
            store.sql(named)
        assert "\n" not in str(refused.value)
        with pytest.raises(QueryError):
            store.metadata.clip_ids(f"clip_id IN (SELECT 1 FROM ({named.removeprefix('SELECT ')}))")


@pytest.mark.parametrize("view", ["clips", "events", "recordings"])
def test_deleted_rows_are_in_nothing_that_can_be_named(path: Path, view: str) -> None:
    with sleepfm_index.open(path) as store:
        names = [row["name"] for row in store.sql("SHOW ALL TABLES").to_pylist()]
        assert view in names
        assert set(names) >= {"clips", "events", "recordings", "labels"}
        for name in set(names) - {"labels"}:  # tests/test_explore.py looks into that one
            found = store.sql(f'SELECT recording_id FROM "{name}"').to_pylist()
            assert {row["recording_id"] for row in found} == {"a"}


def test_what_does_not_fit_in_memory_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "RESULT_LIMIT", 1 << 20)
    with sleepfm_index.open(path) as store:
        with pytest.raises(QueryError, match="larger than"):
            store.sql("SELECT range FROM range(2000000000)")
        with store.metadata.stream("SELECT range FROM range(1000000)") as reader:
            assert sum(len(batch) for batch in reader) == 1_000_000


def test_nothing_is_spilled_to_a_disk(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(metadata.SETTINGS, "memory_limit", "100MB")
    with sleepfm_index.open(path) as store, pytest.raises(QueryError, match="Memory"):
        store.sql("SELECT count(*) FROM (SELECT hash(range) h FROM range(30000000) ORDER BY h)")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the data of a process")
def test_lists_made_outside_of_duckdbs_limit_do_not_take_the_machine(path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    done = run("sql", "SELECT len(range(4000000000))", "--store", path)  # 32 GB
    assert done.returncode == 2 and b"Out of Memory" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_the_page_keeps_the_rows_that_it_shows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "RESULT_LIMIT", 1 << 20)  # what a whole answer may take
    with sleepfm_index.open(path) as store:
        found = sql(store, "SELECT range AS a, range AS a FROM range(1000000)", 10)
        none = sql(store, "SELECT clip_id FROM clips WHERE false", 10)
    assert found.rows.column_names == ["a", "a_2"] and found.rows["a"].to_pylist() == [*range(10)]
    assert found.note == "the first 10 of 1,000,000 rows" and found.about == {"total": 1_000_000}
    assert none.rows.num_rows == 0 and none.note == "0 rows" and none.about == {"total": 0}


@pytest.mark.parametrize("again", [lambda s: s, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_store_is_opened_with_a_time_limit(
    path: Path, again: Callable[[sleepfm_index.Store], sleepfm_index.Store]
) -> None:
    endless = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
    with again(sleepfm_index.open(path, time_limit_s=0.2)) as store:
        with pytest.raises(QueryError, match=r"longer than 0\.2 s"):
            store.sql(endless)
        with pytest.raises(QueryError, match=r"longer than 0\.2 s"):
            store.metadata.clip_ids(f"clip_id < ({endless})")
    with again(Session(path).store()) as store:
        assert store._time_limit_s == TIME_LIMIT_S == 60


def test_a_call_that_cannot_be_interrupted_ends_with_its_process(path: Path) -> None:
    code = f"""
import sys
from sleepfm_cli import sql
from sleepfm_index.storage import metadata
sql._GRACE_S, metadata.TIME_LIMIT_S = 0.1, 0.1
sys.argv = ["sleepfm-index", "sql", sys.argv[1], "--store", {str(path)!r}]
from sleepfm_cli.main import main
main()
"""
    words = "SELECT levenshtein(repeat('a', 60000), repeat('b', 60000))"
    done = subprocess.run([sys.executable, "-c", code, words], capture_output=True, text=True)
    assert done.returncode == 2
    assert "error: the statement ran longer than 0.1 s, within one call" in done.stderr
