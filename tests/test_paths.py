"""No folder name is data, and no path is a pattern or an address."""

from __future__ import annotations

import inspect
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import columns, drawn_store

import sleepfm_index
from sleepfm_index.errors import QueryError
from sleepfm_index.storage import metadata

FOLDERS = [
    "stage=X",
    "subject_id=007",
    "recording_id=",
    "clip_id=5",
    "source=y",
    "cohort=shhs",
    "start_s=__HIVE_DEFAULT_PARTITION__",
    "has_bas=false",
    "a*",
    "*",
    "**",
    "a?",
    "[ab]",
    "{a,b}",
    "s3:",
    "file:x",
    "a%20b",
    "a#b?c",
    "~",
    ".hidden",
    "_under",
    'it\'s "quoted"',
    "né e",
    "n\u0065\u0301",
    "back\\slash",
    "stage=N2/subject_id=7",
]


def told(store: Path) -> list[object]:
    """All that a store says of itself."""
    with sleepfm_index.open(store) as opened:
        tables = [
            opened.sql(f"SELECT * FROM {view} ORDER BY ALL").to_pylist()
            for view in ("clips", "events", "recordings")
        ]
        hits = opened.query("ecg", clip=17, to="bas", k=5)
        many = opened.query_many("ecg", recording="a", k=2).read_all()
        labels = opened.metadata.clip_ids("stage <> 'N2'").tolist()
    return [tables, columns(hits.table, "clip_id", "score"), many.to_pylist(), labels]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_store(
        tmp_path_factory.mktemp("original") / "store", {"a": 40, "b": 25}, lacking=0.0
    )


@pytest.fixture(scope="module")
def expected(original: Path) -> list[object]:
    return told(original)


@pytest.mark.parametrize(("folder", "absolute"), [(f, i % 2) for i, f in enumerate(FOLDERS)])
def test_a_store_says_the_same_wherever_it_lies(
    tmp_path: Path,
    original: Path,
    expected: list[object],
    folder: str,
    absolute: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / folder / "store"
    shutil.copytree(original, place)
    # A sibling that a pattern would take in, with other rows.
    sibling = tmp_path / "abx" / "store"
    drawn_store(sibling, {"x": 9}, lacking=0.0)
    monkeypatch.chdir(tmp_path)
    named = place if absolute else Path(folder, "store")
    assert told(named) == expected
    out = tmp_path / folder / "clips.parquet"
    assert sleepfm_index.export(named, out).clips == 65
    with pq.ParquetFile(out) as written:
        assert written.read(columns=["stage", "subject_id"]).num_rows == 65
    with sleepfm_index.open(named) as store:
        n2 = store.sql("SELECT count(*) n FROM clips WHERE stage = 'N2'").to_pylist()[0]["n"]
    assert 0 < n2 < 65
    assert sleepfm_index.delete(named, where="stage <> 'N2'").clips == 65 - n2
    sleepfm_index.compact(named)
    assert sleepfm_index.verify(named).ok
    with sleepfm_index.open(named) as store:
        left = store.sql("SELECT stage, subject_id FROM clips").to_pylist()
    assert len(left) == n2
    assert {row["stage"] for row in left} == {"N2"}
    assert {row["subject_id"] for row in left} <= {"subject-a", "subject-b"}
    assert len(sleepfm_index.open(sibling)) == 9


def test_every_setting_of_duckdb_about_files_is_decided_on() -> None:
    connection = metadata.connect(metadata.SETTINGS)
    values = dict(connection.sql("SELECT name, value FROM duckdb_settings()").fetchall())
    about_files = re.compile(
        r"external|extension|director|allowed_|temp|python_|hive|glob|secret|file_search|autoload"
        r"|autoinstall|attach|replacement|home_|unsigned"
    )
    # Looked at one by one: of no effect where no file can be reached.
    harmless = {
        "active_grammar_extensions",
        "allow_extension_repositories",
        "allow_extensions_metadata_mismatch",
        "allow_parser_override_extension",
        "allow_unredacted_secrets",
        "allow_unsigned_extensions",
        "autoinstall_extension_repository",
        "custom_extension_repository",
        "default_secret_storage",
        "enable_external_file_cache",
        "extension_directories",
        "extension_repository_directory",
        "external_file_cache_local_max_block_size",
        "external_file_cache_remote_max_block_size",
        "external_file_cache_remote_min_block_size",
        "external_file_cache_request_sizing",
        "external_file_cache_spill",
        "external_threads",
        "home_directory",
        "max_temp_directory_size",
        "temp_file_encryption",
        "validate_external_file_cache",
    }
    empty = {"allowed_configs", "allowed_directories", "allowed_paths", "file_search_path"}
    undecided = {name for name in values if about_files.search(name)}
    undecided -= harmless | empty | set(metadata.SETTINGS) | {"enable_external_access"}
    assert undecided == set(), "another version of DuckDB: decide on these settings"
    assert {values[name] for name in empty} <= {"[]", ""}
    assert values["enable_external_access"] == "false"
    assert values["lock_configuration"] == "true"
    for name, wanted in metadata.SETTINGS.items():
        if wanted in (True, False, ""):
            assert values[name] == str(wanted).lower(), name


def test_no_file_of_a_reserved_name_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, original: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with sleepfm_index.open(original) as store:
        for name in (":memory:", ":memory:.wal", ".tmp/x", f"{tmp_path}/:memory:", "x"):
            with pytest.raises(QueryError):
                store.sql(f"WITH x AS (COPY (SELECT 1) TO '{name}') SELECT 1")
    assert list(tmp_path.iterdir()) == []


def test_pyarrow_is_handed_open_files_and_fragments() -> None:
    # Whoever adds a parameter to this may have added a guess from the file.
    known = {
        *("self", "source", "metadata", "common_metadata", "read_dictionary", "binary_type"),
        *("list_type", "memory_map", "buffer_size", "pre_buffer", "coerce_int96_timestamp_unit"),
        *("decryption_properties", "thrift_string_size_limit", "thrift_container_size_limit"),
        *("schema_depth_limit", "filesystem", "page_checksum_verification"),
        "arrow_extensions_enabled",
    }
    assert set(inspect.signature(pq.ParquetFile.__init__).parameters) <= known


def test_no_call_that_guesses_from_a_path_is_left() -> None:
    guessing = re.compile(
        r"read_parquet\(\[|(?<!pacsv\.)read_csv\(|duckdb\.read_json|parquet_scan|pq\.read_table\((?!pa\.Buffer)"
        r"|pq\.read_metadata\((?!file)|pq\.ParquetDataset|ds\.dataset\((?!columns)|feather\."
        r"|faiss\(?\)?\.read_index\(|np\.loadtxt|np\.genfromtxt|pacsv\.read_csv\((?!source)"
    )
    package = Path(sleepfm_index.__file__).parent
    found = [
        f"{path.name}: {line.strip()}"
        for path in package.rglob("*.py")
        for line in path.read_text().splitlines()
        if guessing.search(line)
    ]
    assert found == []


def test_predictions_are_read_from_a_folder_named_like_a_column(tmp_path: Path) -> None:
    from sleepfm_index.storage.segments import read_parquet

    folder = tmp_path / "clip_id=7"
    folder.mkdir()
    pq.write_table(pa.table({"clip_id": [1, 2], "p_W": [0.5, 0.25]}), folder / "x.parquet")
    table = read_parquet(folder / "x.parquet", ["clip_id", "p_W"])
    assert table.to_pydict() == {"clip_id": [1, 2], "p_W": [0.5, 0.25]}
    with pytest.raises(pa.ArrowException, match="no column p_N1"):
        read_parquet(folder / "x.parquet", ["p_N1"])


def test_a_store_named_by_a_relative_path_is_the_same_after_chdir(
    tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(original, tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    store = sleepfm_index.open("store")
    os.chdir("/")
    assert len(store.sql("SELECT clip_id FROM clips")) == 65
    assert store.vectors.of(np.arange(3), "bas")[0].shape == (3, 512)
    assert len(store.query("ecg", clip=17, to="bas", exact=True)) == 10
