from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import run
from nights import write_night
from stores import drawn_store

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_store(tmp_path_factory.mktemp("cli") / "store", {"a": 30, "b": 30}, lacking=0.0)


def test_query_prints_ranked_rows(path: Path) -> None:
    words = ["query", "--modality", "ecg", "--clip", "3", "--to", "bas", "--store", str(path)]
    command = [sys.executable, "-m", "sleepfm_cli.main", *words]
    done = subprocess.run(command, capture_output=True, timeout=300)
    assert run(*words).stdout == done.stdout  # what the other tests rely on
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert lines[0].split() == [
        "rank",
        "cosine",
        "clip_id",
        "recording",
        "subject",
        "time",
        "stage",
        "events",
    ]
    assert lines[1].split()[:3] == ["query", "ecg", "3"]
    assert len(lines) == 12
    assert b"untrained weights" in done.stderr


def test_json_is_for_machines(path: Path) -> None:
    done = run("query", "--modality", "ecg", "--clip", "3", "--format", "json", "--store", path)
    rows = json.loads(done.stdout)
    assert [row["rank"] for row in rows] == list(range(1, 11))
    assert {row["subject_id"] for row in rows} == {"subject-b"}


def test_csv_and_parquet(path: Path, tmp_path: Path) -> None:
    words = ("sql", "SELECT clip_id, stage FROM clips ORDER BY clip_id", "--store", path)
    csv = run(*words, "--format", "csv").stdout.decode().splitlines()
    assert csv[0] == '"clip_id","stage"' and len(csv) == 61
    (tmp_path / "x.parquet").write_bytes(run(*words, "--format", "parquet").stdout)
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 60
    nested = run("sql", "FROM recordings", "--store", path, "--format", "csv")
    assert nested.returncode == 0


def test_evaluate_and_info(path: Path) -> None:
    table = run("evaluate", "--store", path).stdout.decode()
    assert "ecg -> bas" in table and "resp -> others" in table
    shown = json.loads(run("info", "--format", "json", "--store", path).stdout)
    assert (shown["clips"], shown["weights"]["trained"]) == (60, False)


def test_the_store_is_found_by_default(path: Path, tmp_path: Path) -> None:
    (tmp_path / "sleepfm-store").symlink_to(path)
    done = run("query", "--modality", "ecg", "--clip", "3", cwd=tmp_path)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["query", "--modality", "eeg", "--clip", "1"], 2, "eeg"),
        (["query", "--modality", "ecg", "--clip", "999"], 2, "no clip 999"),
        (["query", "--modality", "ecg"], 2, "name one clip"),
        (["query", "--modality", "ecg", "--clip", "1", "--where", "stage ="], 2, "Parser Error"),
        (["query", "--modality", "ecg", "--clip", "1", "-k", "0"], 2, "-k"),
        (["query", "--modality", "ecg", "--file", "none.edf", "--at", "+0"], 2, "none.edf"),
        (["sql", "SELEC 1"], 2, "Parser Error"),
        (["sql", "DROP VIEW clips"], 2, "only SELECT-like"),
        (["evaluate", "--where", "stage = 'ART'"], 2, "nothing to evaluate"),
        (["sql", "FROM nope"], 2, "name nope does not exist; the tables are clips, events"),
        (["sql", "PIVOT clips ON stage USING count(*)"], 2, "write ON column IN (...)"),
        (["evaluate", "--draws", "3"], 2, "pass --gallery N"),
        (["query", "-k", "0"], 2, "'-k': must be at least 1, got 0"),
        (["query", "-k", "x"], 2, "'-k': must be a whole number, got 'x'"),
        (["query", "--min-gap", "x"], 2, "must be a number, got 'x'"),
        (["query", "--exclude", "X"], 2, "'--exclude': 'X' is not one of 'subject', 'recording'"),
        (["probe", "--folds", "1"], 2, "must be at least 2, got 1"),
        (["--threads", "many", "info"], 2, "must be a whole number, got 'many'"),
        (["nonsense"], 2, "nonsense"),
        (["qurey"], 2, "Did you mean 'query'?"),
    ],
)
def test_mistakes_get_one_sentence_on_stderr(
    path: Path, words: list[str], code: int, sentence: str
) -> None:
    store = ["--store", str(path)] if len(words) > 1 else []
    done = run(*words, *store)
    assert done.returncode == code, done.stderr
    assert done.stdout == b""
    assert sentence in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_a_statement_may_begin_with_a_comment(path: Path) -> None:
    done = run("sql", "-- one number\nSELECT 42 AS x", "--format", "csv", "--store", path)
    assert done.returncode == 0 and done.stdout == b'"x"\n42\n', done.stderr
    pivot = "PIVOT clips ON stage IN ('W', 'N2') USING count(*) GROUP BY site"
    assert run("sql", pivot, "--store", path).returncode == 0


def test_no_store(tmp_path: Path) -> None:
    done = run("info", "--store", tmp_path / "none")
    assert done.returncode == 1
    assert "no store at" in done.stderr.decode()


def test_build_says_what_is_in_and_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_night(tmp_path / "in" / "good.edf", labels=("C3-M2", "ECG", "Snore"))
    (tmp_path / "in" / "letter.edf").write_text("Dear Sir or Madam")
    done = run("build", tmp_path / "in", "--weights", "untrained", "--store", tmp_path / "s")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert "good" in text and "letter.edf" in text and "failed" in text
    assert ["ECG", "1", "of", "1", "ECG"] in [line.split() for line in text.splitlines()]
    assert max(map(len, text.split("not added")[0].splitlines())) <= 80
    assert "UNTRAINED" in done.stderr.decode()


@pytest.mark.parametrize("make", ["empty folder", "nothing", "only bad files"])
def test_build_of_nothing_fails_clearly(tmp_path: Path, make: str) -> None:
    folder = tmp_path / "in"
    if make != "nothing":
        folder.mkdir()
    if make == "only bad files":
        (folder / "x.edf").write_text("no")
    done = run("build", folder, "--weights", "untrained", "--store", tmp_path / "s")
    assert done.returncode in (1, 2)
    assert b"Traceback" not in done.stderr
    assert done.stderr.strip()


def test_every_verb_is_in_the_pages() -> None:
    from sleepfm_cli.main import app

    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    readme = "".join(page.read_text(encoding="utf-8") for page in pages)
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        assert f"sleepfm-index {name}" in readme or f"`{name}`" in readme, name


@pytest.mark.parametrize("width", ["40", "80"])
def test_help_fits_a_narrow_terminal(width: str) -> None:
    import os

    done = subprocess.run(
        [sys.executable, "-m", "sleepfm_cli.main", "query", "--help"],
        capture_output=True,
        env={**os.environ, "COLUMNS": width},
    )
    assert done.returncode == 0
    assert b"--modality" in done.stdout


def test_the_verbs_of_evaluation(tmp_path: Path) -> None:
    from cohorts import cohort_store

    path = cohort_store(tmp_path / "s", "abcdef", 30)
    few = ("--store", path)
    done = run("evaluate", "--by", "stage", "--plot", tmp_path / "r.png", *few)
    assert done.returncode == 0, done.stderr
    assert "N3" in done.stdout.decode() and (tmp_path / "r.png").stat().st_size > 1000
    done = run("evaluate", "--against", path, *few)
    assert done.returncode == 0 and "+0.000" in done.stdout.decode(), done.stderr
    probe = ("probe", "--label", "stage", "--on", "bas", "--save", tmp_path / "p.safetensors")
    done = run(*probe, "--plot", tmp_path / "p.svg", *few)
    assert done.returncode == 0, done.stderr
    assert "macro" in done.stdout.decode() and "5 folds of subjects" in done.stderr.decode()
    sdb = ("probe", "--label", "sdb", "--on", "bas")
    done = run(*sdb, "--shots", "1,2", "--repeats", "2", *few)
    assert done.returncode == 0 and "draws of one class" in done.stdout.decode(), done.stderr
    assert ">= 10 s" in done.stderr.decode()
    done = run("probe", "--label", "age", "--kind", "number", "--on", "ecg", *few)
    assert done.returncode == 0 and "MAE" in done.stdout.decode(), done.stderr
    done = run("knn", "--label", "stage", "--modality", "ecg", "--to", "bas", "-k", "5", *few)
    assert done.returncode == 0 and "AUROC" in done.stdout.decode(), done.stderr
    words = ("predict", tmp_path / "p.safetensors", "--out", tmp_path / "out", "--store", path)
    done = run(*words)
    assert done.returncode == 0, done.stderr
    listed = done.stdout.decode().split()
    assert len(listed) == 13 and all(Path(name).is_file() for name in listed)
    for words, sentence in (
        (("probe", "--label", "colour"), "colour"),
        (("knn", "--label", "stage", "-k", "9999"), "smaller k"),
        (("predict", tmp_path / "none"), "none"),
        (("probe", "--label", "stage", "--shots", "x"), "list of numbers"),
    ):
        done = run(*words, "--store", path)
        assert done.returncode in (1, 2) and sentence in done.stderr.decode(), done.stderr
        assert b"Traceback" not in done.stderr
