from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stores import drawn_store

import sleepfm_index
from sleepfm_index.errors import FormatError
from sleepfm_index.storage.manifest import read_manifest, write_manifest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return drawn_store(tmp_path / "s", {"a": 4})


def test_it_reads_what_it_wrote(path: Path) -> None:
    manifest = read_manifest(path)
    write_manifest(path, manifest)
    assert read_manifest(path) == manifest
    assert manifest.rows == 4


def change(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def apply(plain: dict[str, Any]) -> None:
        *parents, last = key.split("/")
        place: Any = plain
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place[name]
        place[int(last) if isinstance(place, list) else last] = value

    return apply


@pytest.mark.parametrize(
    ("apply", "sentence"),
    [
        (change("format", "something else"), "not the manifest"),
        (change("format_version", 2), "upgrade sleepfm-index"),
        (change("features", ["time-travel"]), "time-travel"),
        (change("segments/0/id", "../../etc"), "damaged"),
        (change("segments/0/id", "/etc"), "damaged"),
        (change("segments/0/id", ".."), "damaged"),
        (change("segments/0/files", {"../clips.parquet": {"bytes": 1, "sha256": ""}}), "damaged"),
        (change("segments/0/id", 7), "damaged"),
        (change("segments/0/id", "a\n"), "damaged"),
        (change("segments/0/sources", "abc"), "not a list of strings"),
        (change("segments/0/columns", [1]), "not a list of strings"),
        (change("withdrawn", "abc"), "not a list of strings"),
        (change("segments/0/rows", -1), "damaged"),
        (change("segments/0/rows", 1.5), "damaged"),
        (change("indexes/0/file", "a/../../b.faiss"), "damaged"),
        (change("contract/sample_rate", 100), "damaged"),
        (change("contract/resampling", "nearest"), "damaged"),
        (change("weights", {"name": "x"}), "damaged"),
        (change("deleted", [[1]]), "damaged"),
        (change("segments", None), "damaged"),
    ],
)
def test_a_damaged_or_hostile_manifest_is_refused(
    path: Path, apply: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    file = path / "manifest.json"
    plain = json.loads(file.read_text())
    apply(plain)
    file.write_text(json.dumps(plain))
    with pytest.raises(FormatError, match=sentence):
        sleepfm_index.open(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null"])
def test_a_manifest_that_is_not_json_is_refused(path: Path, content: bytes) -> None:
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(FormatError):
        sleepfm_index.open(path)
