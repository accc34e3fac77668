"""The verbs that change a store, as commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from stores import drawn_store
from typer.testing import CliRunner, Result

from sleepfm.errors import SleepFMError
from sleepfm_cli.main import app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return drawn_store(tmp_path / "s", {"a": 12, "b": 8}, lacking=0.0)


def run(path: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--store", str(path)])


def test_delete_compact_verify(path: Path) -> None:
    done = run(path, "delete", "--subject", "subject-b")
    assert done.exit_code == 0
    assert "8 clips deleted; withdrawn: b" in done.stderr and "compact" in done.stderr
    done = run(path, "compact")
    assert done.exit_code == 0
    assert "2 segments became 1; 8 deleted clips removed" in done.stderr
    done = run(path, "verify")
    assert done.exit_code == 0 and "12 clips: no damage" in done.stderr
    assert done.stdout == ""


def test_verify_fails_until_it_is_repaired(path: Path) -> None:
    next((path / "indexes").glob("bas-*")).unlink()
    done = run(path, "verify")
    assert done.exit_code == 1
    assert "cache" in done.stdout and "verify --repair" in done.stderr
    report = json.loads(run(path, "verify", "--format", "json").stdout)
    assert report["ok"] is False and report["findings"][0]["what"] == "cache"
    assert run(path, "verify", "--repair").exit_code == 0
    assert run(path, "verify").exit_code == 0


def test_snapshots_and_restore(path: Path) -> None:
    run(path, "delete", "--recording", "a")
    table = run(path, "snapshots").stdout
    assert re.search(r"^\s*4 .* 8 +1 +current *$", table, re.MULTILINE)
    numbers = [s["number"] for s in json.loads(run(path, "snapshots", "--format", "json").stdout)]
    assert numbers == [4, 3, 2, 1, 0]
    done = run(path, "restore", "3")
    assert done.exit_code == 0 and "20 clips of 2 recordings" in done.stderr


def test_reindex_says_what_is_indexed(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 12}, index=False)
    done = run(path, "reindex")
    assert done.exit_code == 0 and "others_of_resp" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["delete"],
        ["delete", "--recording", "nobody"],
        ["delete", "--where", "stage ="],
        ["restore", "77"],
    ],
)
def test_mistakes_get_one_sentence(path: Path, words: list[str]) -> None:
    done = run(path, *words)
    assert isinstance(done.exception, SleepFMError)
    assert "\n" not in str(done.exception)


@pytest.mark.parametrize("verb", ["compact", "reindex", "verify", "snapshots"])
def test_no_store(tmp_path: Path, verb: str) -> None:
    done = run(tmp_path / "none", verb)
    assert "no store at" in str(done.exception)
    assert not (tmp_path / "none").exists()
