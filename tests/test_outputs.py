"""Outputs are looked at before the work, and the answer is printed before a figure can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from cohorts import cohort_store
from commands import run
from stores import drawn_store
from typer.testing import CliRunner

import sleepfm_index
from sleepfm.atomic_write import check_writable
from sleepfm.errors import OutputError
from sleepfm_cli.main import app

# Of a store that is not there: what is said of the output is said before it is looked for.
VERBS = {
    "evaluate --plot": ["evaluate", "--plot", "OUT.png"],
    "probe --plot": ["probe", "--label", "stage", "--plot", "OUT.png"],
    "probe --save": ["probe", "--label", "stage", "--on", "bas", "--save", "OUT.safetensors"],
    "knn --plot": ["knn", "--label", "stage", "--plot", "OUT.png"],
    "query --plot": ["query", "--modality", "bas", "--clip", "1", "--plot", "OUT.png"],
    "report --out": ["report", "--out", "OUT.html"],
    "supervise --out": ["supervise", "--label", "stage", "--out", "OUT.parquet"],
    "export --out": ["export", "--out", "OUT.parquet"],
    "query --out": ["query", "--modality", "bas", "--clip", "1", "--out", "OUT.csv"],
    "sql --out": ["sql", "SELECT 1", "--out", "OUT.csv"],
    "review --out": ["review", "--out", "OUT.csv"],
    "probe --age-gap": ["probe", "--label", "age", "--on", "bas", "--age-gap", "OUT.csv"],
}


@pytest.mark.parametrize("words", VERBS.values(), ids=VERBS.keys())
def test_a_missing_folder_is_said_before_the_work(words: list[str], tmp_path: Path) -> None:
    place = tmp_path / "none" / "out"
    asked = [word.replace("OUT", str(place)) for word in words]
    done = CliRunner().invoke(app, [*asked, "--store", str(tmp_path / "nowhere")])
    assert isinstance(done.exception, OutputError) and "no folder" in str(done.exception)


ANSWERS = ("query --out", "sql --out", "review --out", "probe --age-gap")


@pytest.mark.parametrize("words", [w for n, w in VERBS.items() if "--plot" in n or n in ANSWERS])
def test_an_unknown_ending_is_said_before_the_work(words: list[str], tmp_path: Path) -> None:
    xls = str(tmp_path / "out.xls")
    asked = [xls if word in ("OUT.png", "OUT.csv") else word for word in words]
    done = CliRunner().invoke(app, [*asked, "--store", str(tmp_path / "nowhere")])
    assert isinstance(done.exception, OutputError) and "ending" in str(done.exception)


def test_a_matplotlibrc_of_the_current_folder_is_not_obeyed(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("figure.facecolor: red\ntext.usetex: True\n")
    code = (
        "from sleepfm_cli.outputs import load_matplotlib; load_matplotlib(); import matplotlib;"
        "print(matplotlib.rcParams['figure.facecolor'], matplotlib.rcParams['text.usetex'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["white", "False"]


def test_a_folder_where_a_file_is_meant(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        check_writable(tmp_path)
    (tmp_path / "f").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        check_writable(tmp_path / "f", folder=True)
    with pytest.raises(OutputError, match="no folder"):
        check_writable(tmp_path / "f" / "below", folder=True)
    assert check_writable(tmp_path / "a" / "b", folder=True) == tmp_path / "a" / "b"


def test_what_is_there_is_named_and_the_table_comes_before_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sleepfm_index.evaluation.figures import panels

    store = drawn_store(tmp_path / "s", dict.fromkeys("abcdef", 4), index=False)
    out = tmp_path / "out.png"
    out.write_text("mine")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(panels, "draw_retrieval", fail)
    done = CliRunner().invoke(app, ["evaluate", "--plot", str(out), "--store", str(store)])
    assert "R@1" in done.stdout and isinstance(done.exception, OSError)
    assert out.read_text() == "mine"
    assert "will be replaced" in done.stderr


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_store(tmp_path_factory.mktemp("store") / "s", {"a": 20, "b": 20}, index=False)


@pytest.mark.parametrize(
    "words",
    [
        ["query", "--modality", "ecg", "--to", "bas", "--clip", "3"],
        ["query", "--modality", "ecg", "--to", "bas", "--recording", "a", "--all"],
        ["sql", "SELECT clip_id, stage FROM clips ORDER BY ALL"],
    ],
    ids=["query", "query --all", "sql"],
)
@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_an_answer_in_a_file_is_the_answer_that_is_printed(
    store: Path, tmp_path: Path, words: list[str], ending: str
) -> None:
    asked = [*words, "--store", store]
    printed = run(*asked, "--format", ending)
    out = tmp_path / f"answer.{ending}"
    written = run(*asked, "--out", out)
    assert (printed.returncode, written.returncode) == (0, 0), written.stderr
    assert out.read_bytes() == printed.stdout != b"" == written.stdout
    assert b"wrote" in written.stderr


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_a_review_and_ages_in_a_file_are_of_its_ending(tmp_path: Path, ending: str) -> None:
    path = cohort_store(tmp_path / "s", "abcdefghijkl", 6, index=False)
    with sleepfm_index.open(path) as opened:
        ages = opened.age_gaps("bas", folds=2).table
    out = tmp_path / f"answer.{ending}"
    out.write_text("mine")
    looked = ["review", "--look-for", "outlier,flat", "--store", path]
    printed, written = run(*looked, "--format", ending), run(*looked, "--out", out)
    assert out.read_bytes() == printed.stdout != b"", written.stderr
    assert b"will be replaced" in written.stderr and b"outliers in bas" in written.stderr
    probed = ["probe", "--label", "age", "--task", "regression", "--on", "bas", "--folds", "2"]
    aged = run(*probed, "--age-gap", out, "--store", path)
    assert aged.returncode == 0 and b"12 nights" in aged.stderr, aged.stderr
    frame = ages.to_pandas()
    read = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[ending](out)
    pd.testing.assert_frame_equal(read[frame.columns], frame, check_dtype=False)


def test_an_answer_that_fails_leaves_the_file_as_it_was(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "answer.csv"
    out.write_text("kept")
    failing = "SELECT error('no') FROM clips"
    assert run("sql", failing, "--store", store, "--out", out).returncode == 2
    assert out.read_text() == "kept" and list(tmp_path.iterdir()) == [out]
    contradicted = run("sql", "SELECT 1", "--store", store, "--out", out, "--format", "json")
    assert contradicted.returncode == 2
    assert b"--format json contradicts the name answer.csv" in contradicted.stderr
