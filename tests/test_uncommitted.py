"""What a failed command leaves: none of its own files, and every file of anyone else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stores import WEIGHTS, drawn_segment, drawn_store

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.storage.manifest import Manifest
from sleepfm_index.storage.segments import write_segment
from sleepfm_index.storage.writer import Writer


def _files(store: Path) -> set[str]:
    return {
        str(p.relative_to(store)) for f in ("segments", "indexes") for p in store.glob(f"{f}/*")
    }


def publish(writer: Writer, name: str, n: int = 5) -> Manifest:
    """Publish a segment; return the manifest that would commit it."""
    data, first = drawn_segment(name, n, ord(name)), writer.manifest.next_clip_id
    ids = np.arange(first, first + n)
    entry = write_segment(writer.path, data, ids, writer.manifest.snapshot + 1)
    return writer.manifest.with_segment(entry)


def test_a_failed_command_leaves_nothing_that_it_wrote(tmp_path: Path) -> None:
    store = drawn_store(tmp_path / "s", {"a": 6})
    before = _files(store)
    with pytest.raises(ZeroDivisionError), Writer(store, WEIGHTS, ROBUST) as writer:
        publish(writer, "b")
        assert _files(store) > before
        raise ZeroDivisionError
    assert _files(store) == before


_OTHER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from stores import WEIGHTS
from test_uncommitted import publish
from sleepfm.contract import ROBUST
from sleepfm_index.storage.writer import Writer
with Writer(Path({store!r}), WEIGHTS, ROBUST) as writer:
    following = publish(writer, {name!r})
    print("published", flush=True)
    sys.stdin.readline()
    writer.commit(following)
    print("committed", flush=True)
"""


@pytest.mark.parametrize(
    ("committed", "name"), [(True, "c"), (False, "b")], ids=["committed", "to be committed"]
)
def test_a_failed_command_leaves_what_another_process_wrote(
    tmp_path: Path, committed: bool, name: str
) -> None:
    store = drawn_store(tmp_path / "s", {"a": 6})
    code = _OTHER.format(tests=str(Path(__file__).parent), store=str(store), name=name)
    with pytest.raises(ZeroDivisionError), Writer(store, WEIGHTS, ROBUST) as writer:
        publish(writer, "b")
        # a file system that does not keep the lock, or someone who removes it
        (store / ".lock").unlink()
        other = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "published\n"
        if committed:
            other.stdin.write("\n")
            other.stdin.flush()
            assert other.stdout.readline() == "committed\n"
        raise ZeroDivisionError
    other.communicate("\n")
    assert other.returncode == 0
    assert sleepfm_index.verify(store).ok
    with sleepfm_index.open(store) as opened:
        assert len(opened) == 11


def test_a_failed_command_leaves_what_its_snapshots_name(tmp_path: Path) -> None:
    store = drawn_store(tmp_path / "s", {"a": 6})
    with pytest.raises(ZeroDivisionError), Writer(store, WEIGHTS, ROBUST) as writer:
        writer.commit(publish(writer, "b"))
        with_b = writer.manifest.snapshot
        (store / ".lock").unlink()
        sleepfm_index.delete(store, recording="b")
        sleepfm_index.compact(store, keep_snapshots=5)
        raise ZeroDivisionError
    assert sleepfm_index.verify(store).ok
    sleepfm_index.restore(store, with_b)
    assert sleepfm_index.verify(store).ok
    with sleepfm_index.open(store) as opened:
        assert len(opened) == 11
