"""A store for its owner alone, or for the owner's group, after every commit."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from stores import WEIGHTS, drawn_segment, drawn_store

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.storage import private
from sleepfm_index.storage.writer import Writer


def modes(store: Path) -> set[tuple[str, int]]:
    """(kind, mode) of everything in a store that is not the owner's whatever is asked."""
    found = {("folder", stat.S_IMODE(store.stat().st_mode))}
    for path in store.rglob("*"):
        if "private" in path.parts or path.name == ".lock":
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
            continue
        kind = "folder" if path.is_dir() else "file"
        found.add((kind, stat.S_IMODE(path.stat().st_mode)))
    return found


def changed_by_every_verb(path: Path) -> None:
    private.remember_file(path, "a", path / "a.edf")
    sleepfm_index.annotate(path, {"recording_id": ["a"], "x": [1]})
    sleepfm_index.tag(path, "kept")
    sleepfm_index.reindex(path, index="IVF2,SQ4", recall=0.1)
    sleepfm_index.delete(path, where="clip_id = 3")
    sleepfm_index.untag(path, "kept")
    sleepfm_index.compact(path)


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_every_commit_keeps_the_groups_right(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = tmp_path / "s"
        with Writer(path, WEIGHTS, ROBUST, mode="group") as writer:
            for seed, name in enumerate("abc"):
                writer.append(drawn_segment(name, 5, seed))
        assert modes(path) == {("folder", 0o750), ("file", 0o640)}
        changed_by_every_verb(path)
        assert modes(path) == {("folder", 0o750), ("file", 0o640)}
        with Writer(path, mode="private"):
            pass
        sleepfm_index.tag(path, "again")
        assert modes(path) == {("folder", 0o700), ("file", 0o600)}
    finally:
        os.umask(before)


def test_a_store_is_private_wherever_it_lies(tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    path = drawn_store(tmp_path / "s", {"a": 5}, index=False)
    changed_by_every_verb(path)
    assert {mode & 0o777 for _, mode in modes(path)} == {0o700, 0o600}


def test_a_setgid_folder_stays_one(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 5}, index=False)
    path.chmod(0o2700)
    with Writer(path, mode="group"):
        pass
    sleepfm_index.tag(path, "one")
    sleepfm_index.annotate(path, {"recording_id": ["a"], "x": [1]})
    assert stat.S_IMODE(path.stat().st_mode) == 0o2750
    new = sorted((path / "segments").iterdir())[-1]
    assert stat.S_IMODE(new.stat().st_mode) & 0o777 == 0o750


_WORKER = """
import pickle, sys
with pickle.load(open(sys.argv[1], "rb")) as store:
    print(*(hit["clip_id"] for hit in store.query("ecg", "bas", clip=1, k=3).to_pylist()))
"""


def test_a_store_goes_to_another_process_by_its_path(tmp_path: Path) -> None:
    drawn_store(tmp_path / "s", {"a": 12, "b": 9}, index=False)
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        with sleepfm_index.open("s") as store:
            expected = store.query("ecg", "bas", clip=1, k=3).to_pylist()
            os.chdir("/")
            assert store.query("ecg", "bas", clip=1, k=3).to_pylist() == expected
            (tmp_path / "pickled").write_bytes(pickle.dumps(store))
        done = subprocess.run(
            [sys.executable, "-c", _WORKER, str(tmp_path / "pickled")],
            capture_output=True,
            text=True,
        )
        assert done.stdout.split() == [str(hit["clip_id"]) for hit in expected], done.stderr
    finally:
        os.chdir(before)
