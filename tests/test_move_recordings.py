"""A store is told where its recordings were moved to."""

from __future__ import annotations

from pathlib import Path

import pytest
from stores import drawn_store
from typer.testing import CliRunner

import sleepfm_index
from sleepfm_cli.main import app
from sleepfm_index.errors import QueryError, StoreError
from sleepfm_index.storage import private


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = drawn_store(tmp_path / "s", {"a": 3, "b": 3, "c": 3}, index=False)
    for name, place in (("a", "old/x/a.edf"), ("b", "old/b.edf"), ("c", "elsewhere/c.edf")):
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
        private.remember_file(path, name, file)
    return path


def test_files_below_a_moved_folder_are_found_again(path: Path, tmp_path: Path) -> None:
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(QueryError, match="move-recordings OLD NEW"):
        private.recording_file(path, "a")
    (tmp_path / "new" / "b.edf").unlink()
    done = sleepfm_index.move_recordings(path, tmp_path / "old", tmp_path / "new")
    assert (done.moved, done.missing) == (("a",), ("b",))
    assert private.recording_file(path, "a").read_text() == "a"
    assert private.recording_file(path, "c").read_text() == "c"
    assert private.files(path)["b"] == tmp_path / "old" / "b.edf"


@pytest.mark.parametrize(("old", "new"), [("nowhere", "new"), ("old", "nowhere")])
def test_what_is_not_there_changes_nothing(path: Path, tmp_path: Path, old: str, new: str) -> None:
    before = private.files(path)
    with pytest.raises(StoreError):
        sleepfm_index.move_recordings(path, tmp_path / old, tmp_path / new)
    assert private.files(path) == before


def test_the_verb(path: Path, tmp_path: Path) -> None:
    (tmp_path / "old").rename(tmp_path / "new")
    words = ["move-recordings", str(tmp_path / "old"), str(tmp_path / "new"), "--store", str(path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "2 recordings found below" in done.output
