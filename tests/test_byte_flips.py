"""One byte flipped in any file of a store is found; a query reads it as it was, or refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from stores import drawn_store

import sleepfm_index
from sleepfm.errors import SleepFMError
from sleepfm_index.errors import FormatError
from sleepfm_index.storage import private
from sleepfm_index.storage.labels import append_labels


@pytest.mark.parametrize("earlier", [False, True])
def test_a_flipped_byte_of_a_manifest_is_found(tmp_path: Path, earlier: bool) -> None:
    path = drawn_store(tmp_path / "s", {"a": 4, "b": 3}, index=False)
    sleepfm_index.delete(path, recording="a")
    file = sorted((path / "snapshots").iterdir())[0] if earlier else path / "manifest.json"
    whole = file.read_bytes()
    assert sleepfm_index.verify(path).findings == ()
    missed = []
    for at in range(0, len(whole), 23):
        changed = bytearray(whole)
        changed[at] ^= 1
        file.unlink()
        file.write_bytes(changed)
        try:
            if sleepfm_index.verify(path).findings == ():
                missed.append(at)
        except FormatError as error:
            assert "\n" not in str(error)
    # The name of the checksum is the one thing that it does not cover.
    assert all(at > len(whole) - 90 for at in missed)
    file.write_bytes(whole)
    assert sleepfm_index.verify(path).findings == ()


def test_repair_leaves_a_manifest_that_was_changed(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 4}, index=False)
    file = path / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"drawn"', b'"drown"'))
    found = sleepfm_index.verify(path, repair=True)
    assert not found.ok and file.is_file()
    assert len(sleepfm_index.open(path)) == 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = drawn_store(tmp_path_factory.mktemp("flips") / "s", {"a": 6, "b": 5})
    for name in "ab":
        private.remember_file(path, name, path / f"{name}.edf")
    private.key(path)
    sleepfm_index.tag(path, "kept")
    sleepfm_index.annotate(path, {"recording_id": ["a"], "x": ["1"]})
    sleepfm_index.reindex(path, index="IVF2,SQ4", recall=0.1)
    sleepfm_index.delete(path, where="clip_id = 3")
    append_labels(path, "mine", [1, 5], "odd", "ak")
    assert sleepfm_index.verify(path).findings == ()
    return path


def answers(path: Path) -> list[object]:
    with sleepfm_index.open(path) as store:
        return [
            store.query("ecg", "bas", clip=1, k=4, exclude="none").to_pylist(),
            store.sql("SELECT * FROM clips ORDER BY clip_id").to_pylist(),
            store.sql("SELECT * FROM events ORDER BY ALL").to_pylist(),
            store.sql("SELECT * FROM recordings ORDER BY recording_id").to_pylist(),
            store.sql("SELECT * FROM labels ORDER BY ALL").to_pylist(),
        ]


def test_a_flipped_byte_of_any_file_is_found(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    shutil.copytree(whole, path)
    expected = answers(path)
    draw = np.random.default_rng(0)
    missed, wrong = [], []
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != ".lock"):
        where = str(file.relative_to(path))
        content = file.read_bytes()
        covered = content.rfind(b'"sha256"') if file.suffix == ".json" else len(content)
        for at in draw.integers(0, covered, 2):
            changed = bytearray(content)
            changed[at] ^= 1 << int(draw.integers(0, 8))
            file.unlink()
            file.write_bytes(changed)
            try:
                if sleepfm_index.verify(path).findings == ():
                    missed.append((where, int(at)))
            except FormatError as error:
                assert "\n" not in str(error)
            try:
                # Vectors are mapped and checked by verify alone.
                if answers(path) != expected and file.suffix != ".arrow":
                    wrong.append((where, int(at)))
            except SleepFMError as error:
                assert "\n" not in str(error)
            file.write_bytes(content)
    assert missed == [] and wrong == []
    assert sleepfm_index.verify(path).ok
