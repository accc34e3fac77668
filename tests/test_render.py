"""Answers are whole: in a pipe, on a narrow terminal, in every format, of every type."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import run
from hypothesis import given
from hypothesis import strategies as st
from stores import drawn_store

from sleepfm.escaping import escaped
from sleepfm_cli.options import Format
from sleepfm_cli.render import show_batches, unique_names
from sleepfm_index import Result
from sleepfm_index.errors import QueryError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_store(tmp_path_factory.mktemp("render") / "s", {"a": 30, "b": 20}, index=False)


def sql(store: Path, statement: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    return run("sql", statement, "--store", store, *words)


TYPES = (
    "SELECT sum(clips) AS n, 1.5 AS d, 1::HUGEINT << 100 AS big, 'nan'::DOUBLE AS nan, NULL AS nil,"
    " DATE '2020-01-02' AS day, TIME '01:02:03' AS t, INTERVAL '2 days 3 hours' AS i,"
    " MAP {'x': 1} AS m, [1, 2] AS l, {'a': 1} AS s, '\\x00\\xff'::BLOB AS b, true AS y,"
    " uuid() IS NULL AS u FROM recordings"
)


def test_json_numbers_are_numbers(store: Path) -> None:
    done = sql(store, TYPES, "--format", "json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout, parse_constant=pytest.fail)
    assert row["n"] == 50 and row["d"] == 1.5 and row["big"] == 1 << 100
    assert row["nan"] is None and row["nil"] is None and row["y"] is True
    assert row["day"] == "2020-01-02" and row["t"] == "01:02:03"
    assert row["m"] == {"x": 1} and row["l"] == [1, 2] and row["s"] == {"a": 1}
    assert row["b"] == "00ff" and "2 days" in row["i"]


def test_a_float_is_shown_as_it_was_written(store: Path) -> None:
    statement = "SELECT 28.2::FLOAT AS age, 'nan'::FLOAT AS n, NULL::FLOAT AS z"
    done = sql(store, statement, "--format", "json")
    assert json.loads(done.stdout) == [{"age": 28.2, "n": None, "z": None}]


def test_csv_parquet_and_a_table_take_every_type(store: Path) -> None:
    done = sql(store, TYPES, "--format", "csv")
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(io.StringIO(done.stdout.decode()))
    assert (row["n"], row["d"], row["b"], row["m"]) == ("50", "1.5", "00ff", '{"x": 1}')
    done = sql(store, TYPES, "--format", "parquet")
    assert done.returncode == 0, done.stderr
    assert pq.read_table(pa.BufferReader(done.stdout)).num_rows == 1
    done = sql(store, TYPES)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize("form", ["table", "json", "csv", "parquet"])
def test_every_type_of_duckdb_is_answered(store: Path, form: str) -> None:
    # But for dates beyond those of Python.
    beyond = "date, date_array, timestamp, timestamp_s, timestamp_ms, timestamp_ns, timestamp_tz, "
    beyond += "timestamp_tz_ns, timestamp_array, timestamptz_array"
    empty = ", empty_struct" if form == "parquet" else ""  # Parquet has none
    statement = f"SELECT * EXCLUDE ({beyond}{empty}) FROM test_all_types()"
    done = sql(store, statement, "--format", form)
    assert done.returncode == 0, done.stderr
    if form == "parquet":
        assert (
            pq.read_table(pa.BufferReader(done.stdout))["time_tz"][0].as_py() == "00:00:00+15:59:59"
        )
    else:
        assert b"00:00:00+15:59:59" in done.stdout


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_date_beyond_pythons_is_a_sentence(store: Path, form: str) -> None:
    done = sql(store, "SELECT DATE '12020-01-01' AS d", "--format", form)
    assert done.returncode == 2
    assert b"error: the answer has a date or time outside the years 1 to 9999" in done.stderr


@pytest.mark.parametrize("form", ["table", "json", "csv", "parquet"])
def test_columns_of_one_name_are_all_there(store: Path, form: str) -> None:
    statement = (
        "SELECT c.recording_id, r.recording_id, c.clip_id, 1 AS recording_id_1 FROM clips c "
        "JOIN recordings r USING (recording_id) ORDER BY clip_id LIMIT 2"
    )
    done = sql(store, statement, "--format", form)
    assert done.returncode == 0, done.stderr
    names = ["recording_id", "recording_id_2", "clip_id", "recording_id_1"]
    if form == "parquet":
        assert pq.read_table(pa.BufferReader(done.stdout)).column_names == names
    elif form == "json":
        assert [list(row) for row in json.loads(done.stdout)] == [names] * 2
    else:
        first = done.stdout.decode().splitlines()[0]
        assert first.replace(",", " ").replace('"', "").split() == names


def test_a_pipe_is_never_folded(store: Path) -> None:
    done = sql(store, "SELECT * FROM clips ORDER BY clip_id")
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 51
    assert all(line.count("subject-") == 1 for line in lines[1:])


def on_terminal(width: int, command: list[str]) -> tuple[str, int]:
    """Run a command on a terminal of some width; give what it shows."""
    pid, handle = pty.fork()
    if pid == 0:  # pragma: no cover
        os.environ |= {"COLUMNS": str(width), "TERM": "xterm"}
        os.execv(command[0], command)
    shown = b""
    while True:
        try:
            piece = os.read(handle, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_narrow_terminal_shows_every_column(store: Path) -> None:
    code = "import sys; from sleepfm_cli.main import main; sys.argv[0] = 's'; main()"
    command = [sys.executable, "-c", code, "sql", "SELECT * FROM clips LIMIT 2"]
    shown, status = on_terminal(60, [*command, "--store", str(store)])
    assert status == 0
    assert "row 1" in shown and "row 2" in shown
    for name in ("clip_id", "subject_id", "quality_resp_flat", "nsrr_ahi_hp3r_aasm15"):
        assert f"  {name} " in shown
    many = [*command[:-1], "SELECT clip_id FROM clips, range(100)", "--store", str(store)]
    shown, _ = on_terminal(80, many)
    assert "4,800 more rows" in shown
    assert len(shown.splitlines()) < 210


@given(st.text())
def test_nothing_steers_a_terminal(text: str) -> None:
    shown = escaped(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    "text", ["\x1b[31m", "\x1b]0;x\x07", "\x9b31m", "a\nb", "\u202e", "\r", "\ud800"]
)
def test_escapes_are_shown(text: str) -> None:
    assert "\\" in escaped(text) and "\x1b" not in escaped(text) and "\n" not in escaped(text)


@given(st.lists(st.sampled_from(["a", "a_1", "a_2", "b", "b_1"])))
def test_names_become_unique_and_the_first_keeps_its_own(names: list[str]) -> None:
    found = unique_names(names)
    assert len(set(found)) == len(found) == len(names)
    for at, name in enumerate(names):
        if name not in names[:at]:
            assert found[at] == name


HOSTILE = "\x1b[31mred\x1b]0;title\x07\nforged line"


def test_ids_of_strangers_are_shown_escaped(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {HOSTILE: 5}, index=False)
    verbs: list[Callable[[], list[str]]] = [
        lambda: ["sql", "SELECT recording_id FROM recordings"],
        lambda: ["query", "--modality", "ecg", "--clip", "1", "--exclude", "none", "--to", "ecg"],
        lambda: ["sql", f"SELECT {HOSTILE}"],
        lambda: ["delete", "--recording", HOSTILE],
    ]
    for verb in verbs:
        done = run(*verb(), "--store", path)
        told = done.stdout + done.stderr
        assert b"\x1b" not in told and b"\x07" not in told
        assert not any(line.startswith(b"forged") for line in told.splitlines())


class _Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_csv_on_a_terminal_is_escaped_whatever_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pa.array([HOSTILE, "\u202e", None])
    columns = [texts.cast(kind) for kind in (pa.string(), pa.large_string(), pa.string_view())]
    columns += [texts.dictionary_encode(), pa.array([[HOSTILE], [], None])]
    table = pa.table(columns, names=[f"{HOSTILE}{at}" for at in range(len(columns))])
    sink = io.BytesIO()
    monkeypatch.setattr("sys.stdout", _Terminal(sink))
    show_batches(table.to_reader(), Format.csv)
    told = sink.getvalue().decode()
    assert told.count("\n") == 4 and told.replace("\n", "").isprintable()
    assert told.count("\\x1b[31mred") == 9 and told.count("\\u202e") == 4


def test_python_and_notebooks_show_names_of_strangers_escaped() -> None:
    result = Result(pa.table({HOSTILE: [HOSTILE, "\u202e<b>"]}), f"of {HOSTILE}")
    for told in (repr(result).replace("\n", ""), result._repr_html_(), str(QueryError(HOSTILE))):
        assert told.isprintable() and "\\x1b[31mred" in told
    assert len(repr(result).splitlines()) == 5
    assert "\\u202e&lt;b&gt;" in result._repr_html_()
