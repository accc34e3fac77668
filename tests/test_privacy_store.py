"""A store holds nothing of who slept and when, and nothing of where the files lie."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from test_cli import run
from test_privacy_recordings import PLANTED, planted

import sleepfm_index
from sleepfm_index.storage import paths


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store of one file full of names and dates, and all that the command said of it."""
    folder = tmp_path_factory.mktemp("Emerald-ward")
    planted(folder)
    (folder / "subjects.csv").write_text("recording_id,subject_id,nsrr_age\nn,p1,93\n")
    words = ("build", folder, "--subjects", folder / "subjects.csv", "--weights", "untrained")
    done = run(*words, "--store", folder.parent / "store")
    assert done.returncode == 0, done.stderr
    return folder.parent / "store", (done.stdout + done.stderr).decode()


def test_no_planted_word_reaches_the_store_or_the_log(built: tuple[Path, str]) -> None:
    store, said = built
    files = [p for p in store.rglob("*") if p.is_file() and paths.PRIVATE not in p.parts]
    assert len(files) > 8
    # Parquet is compressed: its tables are searched as text, too.
    texts = [str(pq.read_table(p).to_pydict()) for p in files if p.suffix == ".parquet"]
    assert "Sleep stage N2" in "".join(texts)
    for word in PLANTED:
        assert all(word.encode() not in p.read_bytes() for p in files), word
        assert all(word not in text for text in [*texts, said]), word


def test_the_oldest_are_pooled_in_the_store(built: tuple[Path, str]) -> None:
    with sleepfm_index.open(built[0]) as store:
        rows = store.sql("SELECT DISTINCT nsrr_age, nsrr_age_gt89 FROM clips").to_pylist()
    assert rows == [{"nsrr_age": 89.0, "nsrr_age_gt89": True}]


def test_without_the_private_folder_everything_but_the_file_is_known(
    built: tuple[Path, str], tmp_path: Path
) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(built[0], copy)
    with sleepfm_index.open(copy) as store:
        assert store.files()["n"].name == "n.edf"
    shutil.rmtree(copy / paths.PRIVATE)
    with sleepfm_index.open(copy) as store:
        assert store.files() == {}
        assert len(store.query("ecg", clip=0, exclude="none")) > 0
