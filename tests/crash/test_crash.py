"""A few of the points that ``make crash`` tries all of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("harness.py")


def test_nothing_is_lost_at_some_of_the_points() -> None:
    # In a process of its own: a process that has used threads must not fork.
    done = subprocess.run(
        [sys.executable, str(HARNESS), "--every", "90", "--times", "6"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 losses" in done.stdout


_BROKEN = """
import sys
sys.argv = ["harness", "--only", "delete", "--times", "0", "--kind", {kind!r}]
sys.path[:0] = [{folder!r}, {tests!r}]
import sleepfm_index.storage.files as disk
{breakage}
import harness
harness.main()
"""


@pytest.mark.parametrize(
    ("kind", "breakage"),
    [
        # The old manifest is removed before the next one has its name.
        pytest.param(
            *("kill", "disk.Path.replace = lambda a, b: (b.unlink(), a.rename(b))"),
            marks=pytest.mark.slow,
        ),
        # Nothing is ever synced: when the power goes, it is empty.
        (
            "power",
            "disk._Disk.sync = lambda self: disk.FileEntry(self._size, self._digest.hexdigest())",
        ),
        # Names are not synced: when the power goes after the commit, the commit is gone.
        ("power", "disk.sync_folder = lambda path: None"),
    ],
    ids=["a moment without", "content not synced", "names not synced"],
)
def test_the_harness_finds_a_store_that_loses(kind: str, breakage: str) -> None:
    folder, tests = str(HARNESS.parent), str(HARNESS.parents[1])
    code = _BROKEN.format(folder=folder, tests=tests, kind=kind, breakage=breakage)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and " losses\n" in done.stdout, done.stdout + done.stderr
    assert ", 0 losses" not in done.stdout


def test_every_byte_of_a_store_goes_through_the_steps_that_are_counted(tmp_path: Path) -> None:
    code = f"""
import json, os, sys
sys.path[:0] = [{str(HARNESS.parent)!r}, {str(HARNESS.parents[1])!r}]
from pathlib import Path
written = 0
real = os.write
def write(fd, data):
    global written
    done = real(fd, data)
    written += done
    return done
os.write = write
from scenarios import SCENARIOS
path = Path({str(tmp_path / "s")!r})
SCENARIOS["append to nothing"].run(path)
seen = {{}}
for file in path.rglob("*"):
    if file.is_file():
        seen[file.stat().st_ino] = file.stat().st_size
print(json.dumps([written, sum(seen.values())]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    written, there = json.loads(done.stdout)
    assert written == there > 10_000


def test_readers_see_whole_snapshots_while_a_writer_writes() -> None:
    trial = str(HARNESS.with_name("concurrency.py"))
    done = subprocess.run(
        [sys.executable, trial, "--seconds", "3", "--readers", "3"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "0 errors" in done.stdout, done.stdout + done.stderr
