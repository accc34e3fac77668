"""Tables of measures fit a terminal of 80 columns; --wide shows all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from stores import drawn_store
from typer.testing import CliRunner

from sleepfm_cli.main import app


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = dict.fromkeys(("a", "b", "c", "d", "e", "f", "g"), 12)
    return drawn_store(tmp_path_factory.mktemp("wide") / "s", sizes, index=False, lacking=0.0)


@pytest.mark.parametrize(
    "verb",
    [
        "evaluate",
        "knn --label stage",
        "probe --label stage --on bas",
        "query --modality ecg --clip 1 --to bas",
    ],
)
def test_a_table_fits_80_columns(path: Path, verb: str) -> None:
    done = CliRunner().invoke(app, ["--store", str(path), *verb.split()])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) > 3 and max(map(len, lines)) <= 80


def test_wide_shows_every_column(path: Path) -> None:
    few = CliRunner().invoke(app, ["--store", str(path), "evaluate"])
    all_ = CliRunner().invoke(app, ["--store", str(path), "evaluate", "--wide"])
    assert "more columns with --wide: R@5, MRR" in few.stderr
    assert "--wide" not in all_.stderr
    heads = all_.stdout.splitlines()[0]
    assert "MRR" in heads and "MRR" not in few.stdout


def test_many_events_are_shortened_on_a_terminal(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = ", ".join(f"obstructive apnea {n} s" for n in range(10, 20))
    monkeypatch.setattr("sleepfm_index.query.clip_facts.clip_events", lambda row: many)
    verb = ["query", "--modality", "ecg", "--clip", "1", "--to", "bas"]
    done = CliRunner().invoke(app, ["--store", str(path), *verb])
    assert done.stdout.count(many) == 11
    terminal = Console(width=80, force_terminal=True)
    monkeypatch.setattr("sleepfm_cli.query_tables.answers", lambda: terminal)
    done = CliRunner().invoke(app, ["--store", str(path), *verb])
    assert max(map(len, done.stdout.splitlines())) == 80
    assert done.stdout.count("…") == 11
