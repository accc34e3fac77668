"""Rows staged on a file system and on object storage; S3 is moto's server on loopback."""

from __future__ import annotations

import importlib.util
import io
import os
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nights import write_night
from pyarrow import fs
from stores import content, drawn_segment
from test_cluster import command, finished, longer

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.building.recording_task import Outcome, Rows
from sleepfm_index.building.staging import Staging, pack, staged_name, unpack, without_query
from sleepfm_index.building.subjects import Subject
from sleepfm_index.errors import StoreError

MOTO = os.environ.get("SLEEPFM_TEST_MOTO", sys.executable)
"""A Python that has moto[server]; its own, because its pins do not go with ours."""


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a bucket in an S3 server."""
    if sys.executable == MOTO and importlib.util.find_spec("moto") is None:
        pytest.skip("needs moto[server]; `make test-cluster` runs it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    port = address.rpartition(":")[2]
    with (tmp_path_factory.mktemp("moto") / "log").open("wb") as log:
        server = subprocess.Popen([MOTO, "-m", "moto.server", "-p", port], stdout=log, stderr=log)
    patched = pytest.MonkeyPatch()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patched.setenv(name, "test")
    try:
        for _ in range(600):
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", int(port))) == 0:
                    break
            time.sleep(0.1)
        options = f"endpoint_override={address}&scheme=http&region=us-east-1"
        system, _ = fs.FileSystem.from_uri(f"s3://nights?{options}&allow_bucket_creation=true")
        system.create_dir("nights")
        yield f"s3://nights/staged?{options}"
    finally:
        patched.undo()
        server.kill()
        server.wait()


@pytest.fixture(params=["folder", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("bucket") if request.param == "s3" else str(tmp_path / "staged")


def test_what_is_written_is_there_whole(uri: str) -> None:
    staging = Staging(uri, "store")
    assert not staging.has("rows/a.zip")
    staging.write("rows/a.zip", b"one")
    staging.write("rows/a.zip", b"two")
    Staging(uri, "other").write("rows/a.zip", b"not mine")
    assert staging.has("rows/a.zip") and staging.read("rows/a.zip") == b"two"
    staging.remove("rows/a.zip")
    staging.remove("rows/a.zip")
    assert not staging.has("rows/a.zip")
    staging.write("rows/b.zip", b"three")
    staging.clear()
    staging.clear()
    assert not staging.has("rows/b.zip")
    assert Staging(uri, "other").read("rows/a.zip") == b"not mine"


def test_rows_come_back_as_they_were() -> None:
    data = drawn_segment("a", 20, 0)
    file = Path("nights/a.edf")
    outcome = Outcome(
        file, "added", "", "a", 20, {"ECG": "EKG"}, ("Snore",), ("odd",), 0.2, {"read": 1}
    )
    rows = Rows(outcome, data.key, data)
    packed = pack(rows)
    assert b"nights" not in packed
    back = unpack(packed, file, ROBUST.modalities)
    assert back.outcome == outcome and back.key == data.key and back.data is not None
    for name in ("clips", "events", "recordings"):
        assert getattr(back.data, name).equals(getattr(data, name))
    assert {m: v.tobytes() for m, v in back.data.vectors.items()} == {
        m: v.tobytes() for m, v in data.vectors.items()
    }


@pytest.mark.parametrize("at", [0, 60, 20_000, -1])
def test_damaged_rows_are_refused(at: int) -> None:
    data = drawn_segment("a", 5, 0)
    packed = bytearray(pack(Rows(Outcome(Path("a.edf"), "added"), data.key, data)))
    packed[at] ^= 0xFF
    with pytest.raises(StoreError, match=r"staged rows of a\.edf are damaged"):
        unpack(bytes(packed[: len(packed) - (at == -1)]), Path("a.edf"), ROBUST.modalities)


def test_the_name_tells_contents_apart() -> None:
    known = Subject("p1", "lab", {"nsrr_age": 50.0})
    names = {
        staged_name("k", "a", known),
        staged_name("l", "a", known),
        staged_name("k", "b", known),
        staged_name("k", "a", Subject("p1", "lab", {"nsrr_age": 51.0})),
    }
    assert len(names) == 4 and staged_name("k", "a", known) in names


def test_a_place_that_is_none() -> None:
    with pytest.raises(StoreError, match="cannot stage rows at nowhere://x"):
        Staging("nowhere://x?secret=1", "store")
    assert without_query("s3://bucket/x?access_key=1") == "s3://bucket/x"


@longer
def test_a_build_whose_rows_go_through_object_storage(bucket: str, tmp_path: Path) -> None:
    nights = tmp_path / "nights"
    nights.mkdir()
    for seed in range(4):
        write_night(nights / f"night-{seed}.edf", seconds=60, seed=seed)
    words = ["build", str(nights), "--backend", "torch", "--threads", "1"]
    single = command(*words, "--store", "single", "--workers", "1", cwd=tmp_path)
    assert "4 recordings added" in finished(single)
    staging = bucket.replace("/staged", "/build")
    more = ["--engine", "dask", "--workers", "2", "--staging", staging]
    said = finished(command(*words, "--store", "shared", *more, cwd=tmp_path))
    assert "4 recordings added" in said and "rows staged at s3://nights/build" in said
    with (
        sleepfm_index.open(tmp_path / "single") as one,
        sleepfm_index.open(tmp_path / "shared") as other,
    ):
        assert content(one) == content(other)
    system, path = fs.FileSystem.from_uri(staging)
    left = system.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    assert not [info for info in left if info.type == fs.FileType.File]


def _packed(**odd: object) -> bytes:
    """The rows of a recording, some of their parts replaced, or packed otherwise."""
    rows = Rows(Outcome(Path("a.edf"), "added", "", "a", 5), "k" * 64, drawn_segment("a", 5, 0))
    whole, buffer = zipfile.ZipFile(io.BytesIO(pack(rows))), io.BytesIO()
    how = zipfile.ZIP_DEFLATED if odd.pop("deflate", False) else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name in whole.namelist():
            content = odd.get(name.partition(".")[0], whole.read(name))
            archive.writestr(name, content(whole.read(name)) if callable(content) else content)
    return buffer.getvalue()


def _array_of(shape: str) -> bytes:
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + bytes(64)


@pytest.mark.parametrize(
    "odd",
    [
        {"deflate": True},
        {"about": b"[]"},
        {"about": b"{}"},
        {"about": b"[" * 100_000},
        {"about": b"\xff"},
        {"about": lambda whole: whole.replace(b'"key"', b'"yek"')},
        {"about": lambda whole: whole.replace(b"{", b'{"extra": 1, ', 1)},
        {"about": lambda whole: whole.replace(b'"unread": []', b'"unread": 1')},
        {"bas": _array_of("(1000000000000, 512)")},
        {"bas": _array_of("(5, -1)")},
        {"bas": b"no array"},
        {"clips": b"no table"},
        {
            "recordings": lambda _: written(
                pa.table({"x": pa.array(["x" * 1000]).take([0] * 99_999)})
            )
        },
    ],
    ids=[
        *("compressed", "list", "no-fields", "nested", "not-text", "unknown-key", "extra-key"),
        *("number-for-list", "huge-array", "negative-shape", "no-array", "no-table", "many-rows"),
    ],
)
def test_odd_rows_are_refused(odd: dict[str, object]) -> None:
    assert unpack(_packed(), Path("a.edf"), ROBUST.modalities).outcome.clips == 5
    with pytest.raises(StoreError, match=r"staged rows of a\.edf are damaged"):
        unpack(_packed(**odd), Path("a.edf"), ROBUST.modalities)


def written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, use_dictionary=False, compression="zstd")
    return bytes(sink.getvalue())
