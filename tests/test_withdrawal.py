"""Consent that was withdrawn: nothing of a person comes back in silence, and there is a receipt."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

import sleepfm_index
from sleepfm.recordings import read_recording
from sleepfm.recordings.signal_digest import signal_digest
from sleepfm.simulate.cohort import simulate_cohort
from sleepfm_index.errors import StoreError
from sleepfm_index.storage.manifest import read_manifest

SUBJECTS = "recording_id,subject_id\nsim-0001,p1\nsim-0002,p2\nsim-0003,p1\n"


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights")
    simulate_cohort(folder, subjects=3, hours=0.05, seed=11)
    (folder / "subjects.csv").write_text(SUBJECTS)
    return folder


def build(store: Path, *files: Path, subjects: Path | None = None, **options: bool) -> list[str]:
    report = sleepfm_index.build(
        store, files, weights="untrained", subjects=subjects, workers=1, backend="torch", **options
    )
    return [f"{o.status}: {o.reason}" if o.reason else o.status for o in report.outcomes]


@pytest.fixture
def store(tmp_path: Path, nights: Path, built: Path) -> Path:
    shutil.copytree(built, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, nights: Path) -> Path:
    path = tmp_path_factory.mktemp("built") / "store"
    files = [nights / "sim-0001.edf", nights / "sim-0002.edf"]
    assert build(path, *files, subjects=nights / "subjects.csv") == ["added", "added"]
    return path


def rescored(source: Path, out: Path) -> Path:
    """The same samples under another name, with another scoring and another header."""
    content = bytearray(source.read_bytes())
    content[8:88] = b"X X X X".ljust(80)
    for word in (b"Sleep stage N2", b"Sleep stage N3", b"Sleep stage W"):
        at = content.find(word)
        while at >= 0:
            content[at + 12 : at + len(word)] = b"R".ljust(len(word) - 12)
            at = content.find(word, at + 1)
    out.write_bytes(content)
    return out


def test_samples_tell_a_recording_whatever_else_is_changed(nights: Path, tmp_path: Path) -> None:
    one = nights / "sim-0001.edf"
    other = rescored(one, tmp_path / "x.edf")
    assert one.read_bytes() != other.read_bytes()
    digests = [signal_digest(read_recording(p)) for p in (one, other, nights / "sim-0002.edf")]
    assert digests[0] == digests[1] != digests[2]
    content = bytearray(one.read_bytes())
    content[-3] ^= 1
    (tmp_path / "y.edf").write_bytes(content)
    # The last bytes are of the last signal or of the annotations, which do not count.
    flipped = bytearray(one.read_bytes())
    flipped[len(flipped) // 2 // 2 * 2] ^= 1
    (tmp_path / "z.edf").write_bytes(flipped)
    assert signal_digest(read_recording(tmp_path / "z.edf")) != digests[0]


def test_a_withdrawn_recording_does_not_come_back(
    store: Path, nights: Path, tmp_path: Path
) -> None:
    sleepfm_index.delete(store, recording="sim-0001")
    one = nights / "sim-0001.edf"
    (outcome,) = build(store, one)
    assert outcome.startswith("left out: it was deleted from this store; build with --readmit")
    other = rescored(one, tmp_path / "other-name.edf")
    (outcome,) = build(store, other)
    assert outcome.startswith("left out: its signals equal those of a recording that was deleted")
    sleepfm_index.compact(store)
    for file in (one, other):
        (outcome,) = build(store, file)
        assert outcome.startswith("left out")
    assert build(store, other, readmit=True) == ["added"]
    with sleepfm_index.open(store) as opened:
        names = opened.sql("SELECT recording_id FROM recordings ORDER BY 1").to_pylist()
    assert [row["recording_id"] for row in names] == ["other-name", "sim-0002"]
    assert build(store, other) == ["already there"]


def test_a_withdrawn_subjects_other_night_is_left_out(store: Path, nights: Path) -> None:
    sleepfm_index.delete(store, subject="p1")
    table = nights / "subjects.csv"
    outcomes = build(store, nights / "sim-0003.edf", subjects=table)
    assert outcomes == [
        "left out: its subject was deleted from this store; build with --readmit to add it again"
    ]
    text = (store / "manifest.json").read_text()
    assert '"p1"' not in text and "withdrawals" in text
    with pytest.raises(StoreError, match="the subject p1 was deleted from this store"):
        sleepfm_index.annotate(store, {"recording_id": ["sim-0002"], "subject_id": ["p1"]})
    assert build(store, nights / "sim-0003.edf", subjects=table, readmit=True) == ["added"]
    assert build(store, nights / "sim-0001.edf", subjects=table)[0].startswith("left out: it was")
    assert build(store, nights / "sim-0001.edf", subjects=table, readmit=True) == ["added"]
    assert sleepfm_index.verify(store).findings == ()
    with sleepfm_index.open(store) as opened:
        rows = opened.sql("SELECT recording_id, count(*) n FROM recordings GROUP BY 1 ORDER BY 1")
        assert [tuple(r.values()) for r in rows.to_pylist()] == [
            ("sim-0001", 1),
            ("sim-0002", 1),
            ("sim-0003", 1),
        ]
        clips = opened.sql("SELECT count(*) n FROM clips WHERE subject_id = 'p1'").to_pylist()
    assert clips == [{"n": 12}]


def test_restore_undoes_a_withdrawal(store: Path, nights: Path) -> None:
    before = read_manifest(store).snapshot
    sleepfm_index.delete(store, subject="p1")
    sleepfm_index.restore(store, before)
    assert build(store, nights / "sim-0001.edf") == ["already there"]
    assert build(store, nights / "sim-0003.edf", subjects=nights / "subjects.csv") == ["added"]


def test_what_lies_among_others_is_compacted_before_it_is_readmitted(
    store: Path, nights: Path
) -> None:
    sleepfm_index.compact(store)
    sleepfm_index.delete(store, recording="sim-0001")
    (outcome,) = build(store, nights / "sim-0001.edf", readmit=True)
    assert outcome.startswith("failed: the recording was withdrawn but still shares a segment")
    sleepfm_index.compact(store)
    assert build(store, nights / "sim-0001.edf", readmit=True) == ["added"]
    assert sleepfm_index.verify(store).findings == ()


def test_erased_at_once_with_a_receipt(store: Path, tmp_path: Path) -> None:
    sleepfm_index.annotate(store, {"recording_id": ["sim-0001"], "arm": ["x"]})
    (store / "quarantine").mkdir()
    (store / "quarantine" / "segments-x").write_bytes(b"somebody")
    before = {p.name: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    with sleepfm_index.open(store) as opened:
        (vector,) = opened.vectors.of(opened.metadata.clip_ids("subject_id = 'p1'")[:1], "bas")[0]
    receipt = tmp_path / "receipt.json"
    done = sleepfm_index.delete(store, subject="p1", now=True, receipt=receipt)
    assert done.erased is not None and done.erased.clips_removed == done.clips == 6
    told = json.loads(receipt.read_text())
    assert told["deleted"] == {"subject": "p1"} and told["clips"] == 6
    assert told["erased_from_disk"] is True and told["files_removed_from_quarantine"] == 1
    assert [r["recording_id"] for r in told["recordings_withdrawn"]] == ["sim-0001"]
    assert told["files_removed"] and all(len(f["sha256"]) == 64 for f in told["files_removed"])
    for file in told["files_removed"]:
        assert not (store / file["file"]).exists()
    assert stat.S_IMODE(receipt.stat().st_mode) == 0o600
    assert not (store / "quarantine").exists()
    halves = vector.astype("float16").tobytes()[:64]
    after = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    assert any(halves in content for content in before.values())
    for path, content in after.items():
        assert halves not in content, path
        assert b"sim-0001" not in content and b'"p1"' not in content, path
    assert sleepfm_index.verify(store).findings == ()


def test_a_receipt_without_erasing_says_what_still_lies_there(store: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    sleepfm_index.delete(store, recording="sim-0001", receipt=receipt)
    told = json.loads(receipt.read_text())
    assert told["erased_from_disk"] is False
    assert told["files_that_still_hold_them"] and told["snapshots_that_still_hold_them"]


@pytest.mark.parametrize("place", ["there", "none/receipt.json", "store/receipt.json"])
def test_a_receipt_that_cannot_be_written_deletes_nothing(
    store: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "there").write_text("x")
    before = read_manifest(store).snapshot
    with pytest.raises(StoreError):
        sleepfm_index.delete(store, recording="sim-0001", receipt=tmp_path / place)
    assert read_manifest(store).snapshot == before


def test_names_outside_the_store_are_told(store: Path, tmp_path: Path) -> None:
    kept = tmp_path / "backup.arrow"
    vectors = sorted(store.glob("segments/*/bas.arrow"))[0]
    os.link(vectors, kept)
    done = sleepfm_index.delete(store, where="true", now=True)
    assert done.erased is not None
    assert done.erased.linked == (str(vectors.relative_to(store)),)


def test_an_older_store_keeps_what_it_withdrew(nights: Path, store: Path) -> None:
    """A manifest written before samples were hashed: content keys still count."""
    sleepfm_index.delete(store, recording="sim-0001")
    manifest = json.loads((store / "manifest.json").read_text())
    del manifest["withdrawals"]
    manifest["features"] = []
    (store / "manifest.json").write_text(json.dumps(manifest))
    (outcome,) = build(store, nights / "sim-0001.edf")
    assert outcome.startswith("left out: it was deleted")
