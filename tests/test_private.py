"""What leads back to a person, and what runs: keys, the private folder, files, processes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from stores import drawn_store

import sleepfm_index
from sleepfm.atomic_write import write_bytes, write_file
from sleepfm.contract import ROBUST
from sleepfm.errors import RecordingError
from sleepfm.simulate.cohort import simulate_cohort
from sleepfm.training.clipcache import prepare_clips
from sleepfm_index.errors import FormatError
from sleepfm_index.storage import files, private


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return drawn_store(tmp_path / "s", {"a": 6}, index=False)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_key_is_whole_and_its_owners_alone(path: Path) -> None:
    key = private.key(path)
    assert len(key) == 32 and private.key(path) == key
    assert mode(path / "private") == 0o700 and mode(path / "private" / "key") == 0o600
    assert sorted(p.name for p in (path / "private").iterdir()) == ["key", "key.sha256"]


@pytest.mark.parametrize("content", [b"", b"short", bytes(31), bytes(33), bytes(1000)])
def test_a_key_of_another_length_is_refused(path: Path, content: bytes) -> None:
    files.make_folder(path / "private")
    (path / "private" / "key").write_bytes(content)
    with pytest.raises(FormatError, match="is not a key"):
        private.hashed_id(path, "night")
    with pytest.raises(FormatError, match="is not a key"):
        sleepfm_index.export(path, path.parent / "out.parquet", deidentified=True)
    assert (path / "private" / "key").read_bytes() == content


def test_a_full_disk_leaves_no_key(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files._Disk, "_put", full)
    with pytest.raises(OSError, match="No space"):
        private.key(path)
    monkeypatch.undo()
    assert list((path / "private").iterdir()) == []
    assert len(private.key(path)) == 32


def test_all_who_make_the_key_at_once_get_the_same(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: private.key(path), range(40)))
    assert len(keys) == 1


@pytest.mark.parametrize("name", ["key", "files.jsonl"])
def test_links_and_pipes_in_private_are_refused(path: Path, name: str) -> None:
    victim = path.parent / "victim"
    victim.write_bytes(b"x" * 32)
    files.make_folder(path / "private")
    place = path / "private" / name
    read = private.key if name == "key" else private.files
    place.symlink_to(victim)
    with pytest.raises(FormatError, match=r"is a (symbolic )?link"):
        read(path)
    with pytest.raises(FormatError, match=r"is a (symbolic )?link"):
        private.remember_file(path, "a", victim) if name != "key" else private.key(path)
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(FormatError, match="not a plain file"):
        read(path)
    assert victim.read_bytes() == b"x" * 32


@pytest.mark.parametrize("folder", ["private", "quarantine"])
def test_a_writer_does_not_write_through_a_link(path: Path, folder: str) -> None:
    outside = path.parent / "outside"
    outside.mkdir()
    (outside / "files.jsonl").write_text('{"recording_id": "z", "file": "/z"}\n')
    if (path / folder).is_dir():
        (path / folder).rmdir()
    (path / folder).symlink_to(outside)
    before = {p.name: p.read_bytes() for p in outside.iterdir()}
    for act in (
        lambda: sleepfm_index.compact(path),
        lambda: sleepfm_index.verify(path, repair=True),
        lambda: sleepfm_index.delete(path, where="clip_id = 0"),
    ):
        with pytest.raises(FormatError, match=r"is a (symbolic )?link"):
            act()
    assert {p.name: p.read_bytes() for p in outside.iterdir()} == before


def test_a_torn_line_loses_no_other(path: Path) -> None:
    private.remember_file(path, "a", Path("/n/a.edf"))
    with (path / "private" / "files.jsonl").open("a") as file:
        file.write('{"recording_id": "b", "fi')
    private.remember_file(path, "c", Path("/n/c.edf"))
    assert private.files(path) == {"a": Path("/n/a.edf"), "c": Path("/n/c.edf")}
    private.check(path)  # nothing of the torn line is left


def test_a_whole_last_line_without_its_end_is_kept(path: Path) -> None:
    private.remember_file(path, "a", Path("/n/a.edf"))
    file = path / "private" / "files.jsonl"
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    private.remember_file(path, "c", Path("/n/c.edf"))
    assert private.files(path) == {"a": Path("/n/a.edf"), "c": Path("/n/c.edf")}
    private.check(path)


def test_lines_that_are_none_are_passed_over(path: Path) -> None:
    files.make_folder(path / "private")
    text = (
        '[1]\n"x"\n{"recording_id": 1}\n' + "[" * 5000 + '\n{"recording_id": "a", "file": "/a"}\n'
    )
    (path / "private" / "files.jsonl").write_text(text)
    assert private.files(path) == {"a": Path("/a")}
    (path / "private" / "files.jsonl").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(FormatError, match="is damaged"):
        private.files(path)


def test_a_changed_path_is_not_believed(path: Path) -> None:
    private.remember_file(path, "a", Path("/n/a.edf"))
    private.remember_file(path, "b", Path("/n/b.edf"))
    file = path / "private" / "files.jsonl"
    file.write_bytes(file.read_bytes().replace(b"/n/a.edf", b"/n/b.edf"))
    assert private.files(path) == {"b": Path("/n/b.edf")}
    with pytest.raises(FormatError, match="line 1 is not as it was written"):
        private.check(path)


@pytest.mark.parametrize("umask", [0o022, 0o000, 0o077])
def test_what_is_written_beside_a_store_is_its_owners(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        out = tmp_path / "sub" / "out.bin"
        write_bytes(out, b"x")
        assert mode(out) == 0o600 and mode(out.parent) == 0o700
        out.chmod(0o644)
        write_file(out, lambda aside: aside.write_text("y"))
        assert mode(out) == 0o600 and out.read_text() == "y"
    finally:
        os.umask(before)


MODULES = ("numpy", "pickle", "socket", "sleepfm_index", "openvino", "torch", "tempfile", "signal")


def test_no_process_imports_from_the_folder_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sleepfm import process_pool

    for name in MODULES:
        text = f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\nraise ImportError\n"
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", *sys.path])
    tests = str(Path(__file__).parent)
    monkeypatch.setattr(sys, "path", [*sys.path, tests])
    from worker_calls import squared

    found = list(process_pool.results(squared, 1, [1, 2, 3], 2))
    assert [value for value, _ in found] == [1, 4, 9]
    assert not (tmp_path / "ran").exists()


def test_a_dask_cluster_of_this_machine_is_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    from sleepfm_index.runtime.dask import Cluster, connected

    for name in ("pickle", "socket", "threading", "signal"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('x')\n")
    monkeypatch.chdir(tmp_path)
    with connected(Cluster(None, workers=1)) as client:
        address = client.scheduler.address
        assert address.startswith("tls://")
        assert client.submit(sum, [1, 2]).result() == 3
        with pytest.raises((OSError, ValueError, RuntimeError)):
            distributed.Client(address.replace("tls", "tcp"), timeout=3)
    assert not (tmp_path / "ran").exists()


def test_two_peoples_nights_of_one_name_size_and_time_are_two(tmp_path: Path) -> None:
    simulate_cohort(tmp_path / "nights", subjects=1, hours=0.05, seed=5)
    (edf,) = (tmp_path / "nights").rglob("*.edf")
    one = edf.read_bytes()
    # Another person's, of the same size: left and right are the other way round.
    other = one.replace(b"C3-M2", b"_____").replace(b"C4-M1", b"C3-M2").replace(b"_____", b"C4-M1")
    places = []
    for person, whole in (("p", one), ("q", other)):
        place = tmp_path / person / "night1.edf"
        place.parent.mkdir()
        place.write_bytes(whole)
        os.utime(place, (1e9, 1e9))
        places.append(place)
    cache = tmp_path / "cache"
    found = [prepare_clips([place], cache, ROBUST).recordings[0] for place in places]
    first, second = (r.signals[next(iter(r.signals))] for r in found)
    assert not np.array_equal(first, second)
    assert mode(cache) == 0o700
    # Together they would be one person, because training knows people by the ids of recordings.
    with pytest.raises(RecordingError, match="two recordings are called night1"):
        prepare_clips(places, cache, ROBUST)
    cohort = tmp_path / "cohort.csv"
    cohort.write_text(f"p1,{places[0]}\nq1,{places[1]}\n")
    assert [r.recording_id for r in prepare_clips([cohort], cache, ROBUST).recordings] == [
        "p1",
        "q1",
    ]
    # In the same place, with the same size and time, another person's night.
    places[0].write_bytes(places[1].read_bytes())
    os.utime(places[0], (1e9, 1e9))
    again = prepare_clips([places[0]], cache, ROBUST).recordings[0]
    assert np.array_equal(again.signals[next(iter(again.signals))], second)


def test_a_script_named_like_a_module_of_ours_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text("print('ran')\n")
    command = [str(Path(sys.executable).with_name("sleepfm-index")), "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "ran" not in done.stdout
