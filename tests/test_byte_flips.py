"""One byte flipped in the manifest, now or in an earlier one, is found or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from stores import drawn_store

import sleepfm_index
from sleepfm_index.errors import FormatError


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
