from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stores import drawn_store

import sleepfm_index
from sleepfm_index.errors import QueryError
from sleepfm_index.storage.segments import CLIPS, read_table


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = drawn_store(tmp_path_factory.mktemp("sql") / "store", {"a": 30, "b": 20})
    (path / "private").mkdir()
    (path / "private" / "secret.csv").write_text("name\nJane\n")
    return path


@pytest.fixture
def store(path: Path) -> sleepfm_index.Store:
    return sleepfm_index.open(path)


def test_counts_by_stage_add_up(store: sleepfm_index.Store) -> None:
    rows = store.sql("SELECT stage, count(*) AS n FROM clips GROUP BY stage").to_pylist()
    assert sum(row["n"] for row in rows) == 50
    assert {row["stage"] for row in rows} <= {"W", "N1", "N2", "N3", "R"}


@pytest.mark.parametrize(
    "use",
    [
        "s.sql('SELECT 1')",
        "kept = s.metadata.stream('FROM clips'); kept.__enter__().read_next_batch()",
        "kept = s.query_many('ecg', to='bas', clips=[*range(9)], k=2)",
    ],
)
def test_a_script_that_closes_nothing_ends_in_silence(path: Path, use: str) -> None:
    script = f"import sleepfm_index; s = sleepfm_index.open({str(path)!r}); {use}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stderr == b""


def test_events_and_recordings_are_there(store: sleepfm_index.Store) -> None:
    (event, _) = store.sql("SELECT * FROM events ORDER BY recording_id").to_pylist()
    assert (event["type"], event["subtype"], event["onset_s"]) == ("apnea", "obstructive", 12.0)
    (recording, _) = store.sql("SELECT * FROM recordings ORDER BY recording_id").to_pylist()
    assert recording["slots"] == [("ECG", "alias: EKG")]
    assert recording["clips"] == 30


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('{store}/manifest.json')",
        "SELECT * FROM read_csv('{store}/private/secret.csv')",
        "SELECT * FROM glob('/**')",
        "COPY clips TO '/tmp/stolen.csv'",
        "COPY clips TO '{store}/segments/stolen.csv'",
        "ATTACH '/tmp/other.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "SET enable_external_access = true",
        "CREATE TABLE t (x INT)",
        "DROP VIEW clips",
        "DELETE FROM clips",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW clips",
        "",
        "SELEC stage FROM clips",
        "SELECT nope FROM clips",
    ],
)
def test_everything_but_one_select_over_the_store_is_refused(
    store: sleepfm_index.Store, path: Path, statement: str
) -> None:
    with pytest.raises(QueryError) as refused:
        store.sql(statement.format(store=path))
    assert "\n" not in str(refused.value)
    assert not list(path.rglob("stolen*"))
    assert store.sql("SELECT count(*) AS n FROM clips").to_pylist() == [{"n": 50}]


@pytest.mark.parametrize(
    "where",
    [
        "true) OR (true",
        "true) UNION ALL SELECT (1",
        "true; DROP VIEW clips",
        "stage = ",
        "nope = 1",
        "stage",
        "true -- ) \n; SELECT 1",
        "",
        "clip_id IN (SELECT column0 FROM read_csv('/etc/passwd'))",
    ],
)
def test_a_condition_is_one_expression(store: sleepfm_index.Store, where: str) -> None:
    with pytest.raises(QueryError):
        store.metadata.clip_ids(where)


def test_a_condition_selects(store: sleepfm_index.Store) -> None:
    ids = store.metadata.clip_ids("recording_id = 'b' AND start_s < 60")
    assert ids.tolist() == [30, 31]


def test_settings_do_not_leak_between_statements(store: sleepfm_index.Store) -> None:
    with pytest.raises(QueryError):
        store.sql("SELECT * FROM duckdb_secrets() WHERE getenv('HOME') = ''")


def test_an_endless_statement_is_stopped(
    store: sleepfm_index.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepfm_index.storage.metadata.TIME_LIMIT_S", 0.3)
    with pytest.raises(QueryError, match="longer than"):
        store.sql("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b")


def test_an_empty_store_has_the_columns(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {})
    with sleepfm_index.open(path) as store:
        assert len(store.sql("SELECT stage, has_ecg, clip_id FROM clips")) == 0
        assert len(store.sql("SELECT slots FROM recordings, events")) == 0


def test_columns_of_later_subjects_are_empty_for_earlier_ones(tmp_path: Path) -> None:
    from stores import WEIGHTS, drawn_segment

    from sleepfm.contract import ROBUST
    from sleepfm_index.storage.writer import Writer

    path = drawn_store(tmp_path / "s", {"a": 3})
    data = drawn_segment("b", 2, 9)
    data = type(data)(**{**vars(data), "clips": data.clips.append_column("nsrr_race", [["x"] * 2])})
    with Writer(path, WEIGHTS, ROBUST) as writer:
        writer.append(data)
    with sleepfm_index.open(path) as store:
        rows = store.sql("SELECT nsrr_race FROM clips ORDER BY clip_id").to_pylist()
    assert [row["nsrr_race"] for row in rows] == [None, None, None, "x", "x"]


def test_columns_that_no_segment_has_are_null(store: sleepfm_index.Store) -> None:
    stored = read_table(store.path, store.manifest.segments[0], CLIPS)
    assert "stage_share" not in stored.column_names
    (row,) = store.sql(
        "SELECT count(*) AS n, count(stage_share) + count(rera_s) AS known FROM clips"
    ).to_pylist()
    assert row == {"n": 50, "known": 0}
    assert store.rows(np.array([0])).to_pylist()[0]["stage_share"] is None


def test_what_arrow_has_no_type_for_is_text(store: sleepfm_index.Store) -> None:
    lost = ("time_tz", "uhugeint", "bignum", "bit", "union", "geometry")
    for name in lost:
        pair = f'"{name}" AS got, "{name}"::VARCHAR AS meant'
        rows = store.sql(f"SELECT {pair} FROM test_all_types()")
        for row in rows:
            assert row["got"] == row["meant"], name
    (row,) = store.sql(
        "SELECT TIMETZ '12:00:00+05' AS t, [TIMETZ '12:00:00+05'] AS l, MAP {'k': '101'::BIT} AS m,"
        " {'a': TIMETZ '12:00:00+05', 'b \"c': 1} AS s, array_value('1'::BIT, '0'::BIT) AS f,"
        " 1 AS n, row(1, '1'::BIT) AS u"
    ).to_pylist()
    assert row == {
        "t": "12:00:00+05", "l": ["12:00:00+05"], "m": [("k", "101")],
        "s": {"a": "12:00:00+05", 'b "c': 1}, "f": ["1", "0"], "n": 1, "u": "(1, 1)",
    }  # fmt: skip


def test_a_long_condition_is_cut_in_the_note(store: sleepfm_index.Store) -> None:
    where = "clip_id IN (" + ",\n".join(map(str, range(2000))) + ")"
    clip = int(store.metadata.clip_ids("has_ecg")[0])
    note = store.query("ecg", "bas", clip=clip, k=1, exclude="none", where=where).note
    assert f"... ({len(where):,} characters)" in note and len(note) < 600 and "\n" not in note


def test_no_answer_names_a_folder_of_this_machine(store: sleepfm_index.Store, path: Path) -> None:
    asked = ("duckdb_settings()", "duckdb_databases()", "duckdb_views()", "duckdb_secrets()")
    for table in asked:
        told = str(store.sql(f"FROM {table}").to_pylist())
        for folder in (Path.home(), Path.cwd(), path):
            assert f"{folder}/" not in told and str(folder) not in told.split("'"), table
    with pytest.raises(QueryError) as refused:
        store.sql("FROM duckdb_extensions()")
    assert str(Path.home()) not in str(refused.value)
