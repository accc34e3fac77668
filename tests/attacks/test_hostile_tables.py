"""Tables that are none: found by verify, and a sentence wherever they are read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import drawn_store
from test_hostile_stores import agree

import sleepfm_index
from sleepfm.errors import SleepFMError
from sleepfm_index.storage.arrow_files import mapped_batches
from sleepfm_index.storage.manifest import read_manifest

ROWS = 30
Change = Callable[[pa.Table], pa.Table]


def setting(name: str, values: pa.Array) -> Change:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(name)
        return table.append_column(name, values) if at < 0 else table.set_column(at, name, values)

    return change


def one_null(name: str) -> Change:
    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        return setting(name, pa.array([None, *values[1:]], table.schema.field(name).type))(table)

    return change


def drop(name: str) -> Change:
    return lambda table: table.drop_columns([name])


def twice(name: str, as_: str) -> Change:
    return lambda table: table.append_column(as_, table[name])


CLIPS: dict[str, Change] = {
    "no stage": drop("stage"),
    "no subject": drop("subject_id"),
    "no has_bas": drop("has_bas"),
    "recording_id NULL": one_null("recording_id"),
    "subject_id NULL": one_null("subject_id"),
    "clip_id NULL": one_null("clip_id"),
    "stage NULL": one_null("stage"),
    "has_bas NULL": one_null("has_bas"),
    "start_s NaN": setting("start_s", pa.array([float("nan")] * ROWS)),
    "start_s text": setting("start_s", pa.array(["soon"] * ROWS)),
    "clip_id text": setting("clip_id", pa.array(list(map(str, range(ROWS))))),
    "has_bas numbers": setting("has_bas", pa.array([1] * ROWS)),
    "slots_bas wide": setting("slots_bas", pa.array([1] * ROWS)),
    "10,000 columns": lambda t: pa.table(
        {**{n: t[n] for n in t.column_names}, **{f"x{i}": t["start_s"] for i in range(10_000)}}
    ),
    "a column more": twice("start_s", "further"),
    "a name in two cases": twice("stage", "STAGE"),
    "a nested column": setting("nested", pa.array([[1]] * ROWS)),
    "a column of nothing": setting("nothing", pa.nulls(ROWS)),
    "a text of 1 MB": setting("raw_stage", pa.array(["0" * (1 << 20)] * ROWS)),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_store(tmp_path_factory.mktemp("tables") / "s", {"a": ROWS}, index=False)


def changed(sound: Path, place: Path, name: str, change: Change) -> Path:
    import shutil

    shutil.copytree(sound, place)
    (segment,) = read_manifest(place).segments
    file = place / "segments" / segment.id / name
    with pa.OSFile(str(file), "rb") as source:
        table = pq.read_table(source)
    file.unlink()
    pq.write_table(change(table), file, compression="zstd")
    agree(place)
    return place


def ask(path: Path) -> None:
    """Every way in which tables are read; each ends in an answer or in a sentence."""
    questions = (
        lambda s: s.sql("SELECT * FROM clips LIMIT 3").to_pylist(),
        lambda s: s.query("bas", "ecg", clip=0, k=3).to_pylist(),
        lambda s: s.query("bas", "ecg", recording="a", at="+30", k=3).to_pylist(),
        lambda s: s.info(),
        lambda s: sleepfm_index.annotate(s.path, {"recording_id": ["a"], "x": [1]}),
        lambda s: sleepfm_index.compact(s.path),
    )
    for question in questions:
        try:
            with sleepfm_index.open(path) as store:
                question(store)
        except SleepFMError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("change", CLIPS.values(), ids=CLIPS.keys())
def test_a_table_of_clips(sound: Path, tmp_path: Path, change: Change) -> None:
    path = changed(sound, tmp_path / "s", "clips.parquet", change)
    assert not sleepfm_index.verify(path).ok
    ask(path)


OTHERS: dict[str, tuple[str, Change]] = {
    "events without a type": ("events.parquet", drop("type")),
    "events of text": ("events.parquet", setting("onset_s", pa.array(["soon"]))),
    "recordings without clips": ("recordings.parquet", drop("clips")),
    "events of others": ("events.parquet", setting("source", pa.array(["f" * 64]))),
    "a hundred recordings": (
        "recordings.parquet",
        lambda t: pa.concat_tables([t] * 100),
    ),
    "300,000 events": ("events.parquet", lambda t: t.take(pa.array(np.zeros(300_000, np.int64)))),
}


@pytest.mark.parametrize(("name", "change"), OTHERS.values(), ids=OTHERS.keys())
def test_tables_of_events_and_recordings(
    sound: Path, tmp_path: Path, name: str, change: Change
) -> None:
    path = changed(sound, tmp_path / "s", name, change)
    assert not sleepfm_index.verify(path).ok
    ask(path)


def test_compact_refuses_events_of_text(tmp_path: Path) -> None:
    sound = drawn_store(tmp_path / "sound", {"a": ROWS}, index=False)
    sleepfm_index.delete(sound, where="clip_id = 0")
    text = setting("duration_s", pa.array(["long"]))
    path = changed(sound, tmp_path / "s", "events.parquet", text)
    with pytest.raises(sleepfm_index.FormatError, match="duration_s is of string, not of"):
        sleepfm_index.compact(path)


def test_a_long_text_in_a_dictionary_is_not_repeated(sound: Path, tmp_path: Path) -> None:
    text = pa.array(["0" * (1 << 25)] * ROWS).dictionary_encode()
    path = changed(sound, tmp_path / "s", "clips.parquet", setting("raw_stage", text))
    (segment,) = read_manifest(path).segments
    assert segment.files["clips.parquet"].bytes < 1 << 16
    assert not sleepfm_index.verify(path).ok
    with pytest.raises(SleepFMError, match="holds a text of 33,554,432 bytes"):
        sleepfm_index.open(path).sql("SELECT max(length(raw_stage)) FROM clips")


def lying_footer(file: Path) -> None:
    """Let the footer state that every column unpacks to one byte; the pages say what they are."""
    content = bytearray(file.read_bytes())
    size = int.from_bytes(content[-8:-4], "little")
    footer = bytes(content[-8 - size : -8])
    with pa.BufferReader(bytes(content)) as source:
        metadata = pq.read_metadata(source)
    stated = metadata.row_group(0).total_byte_size
    sizes = [
        metadata.row_group(0).column(i).total_uncompressed_size for i in range(len(metadata.schema))
    ]
    for number in sorted({stated, *sizes}, reverse=True):
        if number > 1 << 20:
            footer = footer.replace(_varint(number), _varint(1, len(_varint(number))))
    content[-8 - size : -8] = footer
    file.write_bytes(content)


def _varint(number: int, length: int = 0) -> bytes:
    left, out = number << 1, bytearray()
    while left > 127:
        out.append(left & 127 | 128)
        left >>= 7
    out.append(left)
    while len(out) < length:  # padded with zeros, which the protocol allows
        out[-1] |= 128
        out.append(0)
    return bytes(out)


def test_a_footer_that_lies_about_the_size(sound: Path, tmp_path: Path) -> None:
    huge = pa.array(["0" * 10_000_000] * ROWS)
    path = tmp_path / "s"

    import shutil

    shutil.copytree(sound, path)
    (segment,) = read_manifest(path).segments
    file = path / "segments" / segment.id / "clips.parquet"
    with pa.OSFile(str(file), "rb") as source:
        table = setting("raw_stage", huge)(pq.read_table(source))
    file.unlink()
    pq.write_table(table, file, compression="zstd", use_dictionary=False)
    lying_footer(file)
    with pa.OSFile(str(file), "rb") as source:
        assert pq.read_metadata(source).row_group(0).total_byte_size < 1 << 20
    agree(path)
    assert not sleepfm_index.verify(path).ok
    with pytest.raises(SleepFMError, match="would unpack"):
        sleepfm_index.open(path).sql("SELECT 1 FROM clips")


def test_a_compressed_batch_is_not_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "bomb.arrow"
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(512 * 1000, np.float16)), 512)
    table = pa.table({"vector": rows})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        pa.OSFile(str(file), "wb") as sink,
        pa.ipc.new_file(sink, table.schema, options=options) as writer,
    ):
        writer.write_table(table)
    before = pa.total_allocated_bytes()
    with pytest.raises(pa.ArrowInvalid, match="compressed"):
        mapped_batches(file, 1)
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_no_command_ends_in_a_traceback(sound: Path, tmp_path: Path) -> None:
    path = changed(sound, tmp_path / "s", "clips.parquet", CLIPS["no stage"])
    done = subprocess.run(
        [sys.executable, "-c", _COMMANDS, str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr and done.stderr.count("error: ") == 9
    assert "unexpected" not in done.stderr


_COMMANDS = """
import sys
from sleepfm_cli.main import main
store = sys.argv[1]
for words in (
    ["info"], ["sql", "SELECT 1 FROM clips"], ["query", "--modality", "bas", "--clip", "1"],
    ["evaluate"], ["probe", "--label", "stage"], ["knn", "--label", "stage"],
    ["export", "--out", store + ".parquet"], ["delete", "--recording", "a"],
    ["query", "--modality", "bas", "--recording", "a", "--at", "+30"],
):
    sys.argv = ["sleepfm-index", *words, "--store", store]
    try:
        main()
    except SystemExit as end:
        assert end.code, words
"""


@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("clips.parquet", b"raw_stage"),
        ("events.parquet", b"subtype"),
        ("recordings.parquet", b"slots"),
    ],
)
def test_a_name_of_a_column_that_is_no_text(
    sound: Path, tmp_path: Path, file: str, name: bytes, everywhere: bool
) -> None:
    path = changed(sound, tmp_path / "s", file, lambda table: table)
    (segment,) = read_manifest(path).segments
    table = path / "segments" / segment.id / file
    content = table.read_bytes()
    # In the schema and in each chunk of the column; or in the first chunk alone.
    count = content.count(name) if everywhere else 1
    table.unlink()
    table.write_bytes(content.replace(name, b"\xff" + name[1:], count))
    agree(path)
    with suppress(SleepFMError):
        assert not sleepfm_index.verify(path).ok
    ask(path)
