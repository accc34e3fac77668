"""A store written by the first version of the format: it is read as it is, for ever.

``fixtures/store-v1`` was made once, from drawn vectors: three recordings of 6, 4 and 3 clips, clip
7 and the recording c deleted, every target indexed. ``fixtures/store-v1.json`` says what it holds.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from stores import WEIGHTS, drawn_segment

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.indexing.reindex import update_indexes
from sleepfm_index.storage.manifest import read_manifest
from sleepfm_index.storage.writer import Writer

FIXTURES = Path(__file__).with_name("fixtures")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "store-v1", tmp_path / "store"))


def test_a_store_of_version_1_is_read(path: Path) -> None:
    expected = json.loads((FIXTURES / "store-v1.json").read_text())
    with sleepfm_index.open(path) as store:
        ids = store.metadata.clip_ids()
        assert ids.tolist() == expected["clip_ids"]
        stages = store.sql("SELECT stage FROM clips ORDER BY clip_id").to_pylist()
        assert [row["stage"] for row in stages] == expected["stages"]
        for modality, digest in expected["vectors"].items():
            stored = store.vectors.of(ids, modality)[0].astype("<f2")
            assert hashlib.sha256(stored.tobytes()).hexdigest() == digest
        for target, nearest in expected["nearest"].items():
            ((found, _),) = store.search(target, np.eye(1, 512, dtype=np.float32), 3)
            assert found.tolist() == nearest
        names = store.sql("SELECT recording_id AS r FROM recordings ORDER BY r").to_pylist()
        assert [row["r"] for row in names] == ["a", "b"]
    assert sleepfm_index.verify(path).findings == ()


def test_a_store_of_version_1_is_changed(path: Path) -> None:
    with Writer(path, WEIGHTS, ROBUST) as writer:
        writer.append(drawn_segment("d", 5, 9))
        update_indexes(writer)
    sleepfm_index.delete(path, recording="b")
    sleepfm_index.compact(path)
    manifest = read_manifest(path)
    assert (manifest.rows, manifest.next_clip_id, len(manifest.withdrawn)) == (11, 18, 2)
    assert sleepfm_index.verify(path).findings == ()
