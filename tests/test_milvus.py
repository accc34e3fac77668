from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import STAGES, TARGETS, WEIGHTS, drawn_segment, drawn_store
from typer.testing import CliRunner

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_cli.main import app
from sleepfm_index.errors import QueryError, StoreError
from sleepfm_index.indexing.reindex import update_indexes
from sleepfm_index.sharing.milvus import own_server
from sleepfm_index.storage.writer import Writer

pytest.importorskip("pymilvus", reason="needs pip install 'sleepfm-index[milvus]'")
pytest.importorskip("sqlglot", reason="needs pip install 'sleepfm-index[milvus]'")

SITES = {"a": "lab", "b": None, 'it\'s "c"': 'St. "Mary"', "d": "lab"}


def sited_store(path: Path) -> Path:
    """Four recordings at two sites and an unknown one, with ages and stages, some null."""
    with Writer(path, WEIGHTS, ROBUST) as writer:
        for seed, (name, site) in enumerate(SITES.items()):
            drawn = drawn_segment(name, 30, seed, age=None if name == "a" else 40.1 + seed)
            at = drawn.clips.column_names.index("site")
            clips = drawn.clips.set_column(at, "site", pa.array([site] * 30, pa.string()))
            hours = pa.array([None if i % 3 == 0 else i for i in range(30)], pa.int64())
            writer.append(replace(drawn, clips=clips.append_column("Stunden im Bett", hours)))
        update_indexes(writer)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = sited_store(tmp_path_factory.mktemp("milvus") / "s")
    sleepfm_index.delete(store, where="clip_id IN (5, 47)")
    return store


@pytest.fixture(scope="module")
def uri(path: Path) -> str:
    return str(path.parent / "m.db")


@pytest.fixture(scope="module")
def published(path: Path, uri: str) -> sleepfm_index.Published:
    return sleepfm_index.publish(path, uri)


@pytest.fixture(scope="module")
def served(
    published: sleepfm_index.Published, path: Path, uri: str
) -> Iterator[sleepfm_index.Served]:
    with sleepfm_index.Served(uri) as served:
        yield served


@pytest.fixture(scope="module")
def store(path: Path) -> Iterator[sleepfm_index.Store]:
    with sleepfm_index.open(path) as opened:
        yield opened


def same(answer: sleepfm_index.Result, wanted: sleepfm_index.Result) -> None:
    assert answer.table.schema == wanted.table.schema
    rows, truth = answer.to_pylist(), wanted.to_pylist()
    for row in (*rows, *truth):
        row["score"] = pytest.approx(row["score"], abs=1e-12)
    assert rows == truth


def test_what_was_sent_is_counted_and_checked(published: sleepfm_index.Published) -> None:
    assert (published.clips, published.added, published.removed) == (118, 118, 0)
    assert published.recall == dict.fromkeys(TARGETS, 1.0)


@pytest.mark.parametrize("to", ["bas", "resp", "others"])
@pytest.mark.parametrize("exclude", ["subject", "none"])
def test_the_same_rows_as_the_store(
    served: sleepfm_index.Served, store: sleepfm_index.Store, to: str, exclude: str
) -> None:
    for clip in store.metadata.clip_ids("has_ecg")[::17].tolist():
        asked = {"to": to, "clip": clip, "exclude": exclude, "k": 7}
        same(served.query("ecg", **asked), store.query("ecg", **asked))


def test_a_recording_and_a_time(served: sleepfm_index.Served, store: sleepfm_index.Store) -> None:
    for at in ("+95", "23:03:10"):
        asked = {"recording": 'it\'s "c"', "at": at, "exclude": "recording"}
        same(served.query("bas", **asked), store.query("bas", **asked))


CONDITIONS = [
    "stage = 'N2' AND nsrr_age >= 42",
    "stage IN ('N2', 'R') OR start_s < 120",
    "stage NOT IN ('W')",
    "NOT (stage <> 'W')",
    "nsrr_age = 42.1",
    "NOT nsrr_age > 42",
    "nsrr_age IS NULL",
    "nsrr_age IS NOT NULL AND NOT (nsrr_age BETWEEN 41 AND 42.5)",
    "site = 'lab'",
    "site <> 'lab'",
    "site IS NULL",
    "site IS DISTINCT FROM 'lab'",
    "site = 'St. \"Mary\"'",
    "site NOT LIKE 'St%'",
    "recording_id LIKE 'it''s%'",
    "has_ecg AND NOT has_bas",
    "has_ecg = false",
    "has_ecg IS NOT TRUE",
    "42 < nsrr_age",
    "slots_ecg > 0 AND clip_id >= 7",
    '"Stunden im Bett" >= 20',
    'NOT ("Stunden im Bett" = 20 OR "Stunden im Bett" IS NULL)',
    '"Stunden im Bett" IS DISTINCT FROM 20',
    "hypopnea_s > 12.5",
    "true",
    "NOT true",
    "clips.stage = 'N1'",
    "STAGE == 'N1'",
    "clip_id IN (5, 5.0, 6)",
]


def ids_where(served: sleepfm_index.Served, where: str) -> list[int]:
    expression = served._condition(where)
    return sorted(e["clip_id"] for e in served._entities(expression, "clip_id"))


@pytest.mark.parametrize("where", CONDITIONS)
def test_a_condition_means_what_it_means_in_sql(
    served: sleepfm_index.Served, store: sleepfm_index.Store, where: str
) -> None:
    assert ids_where(served, where) == store.metadata.clip_ids(where).tolist()


_LEAVES = st.one_of(
    st.builds(
        "{} {} {}".format,
        st.sampled_from(["nsrr_age", "start_s", "hypopnea_s", '"Stunden im Bett"', "clip_id"]),
        st.sampled_from(["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM"]),
        st.integers(-3, 60),
    ),
    st.builds(
        "{} {} ('{}', '{}')".format,
        st.sampled_from(["stage", "site"]),
        st.sampled_from(["IN", "NOT IN"]),
        st.sampled_from([*STAGES, "lab"]),
        st.sampled_from(STAGES),
    ),
    st.builds(
        "{} IS {}".format,
        st.sampled_from(["site", "nsrr_age", "has_ecg"]),
        st.sampled_from(["NULL", "NOT NULL"]),
    ),
    st.sampled_from(["has_ecg", "site LIKE 'l%'", "start_s BETWEEN 100 AND 300"]),
)
_WHERE = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds("NOT ({})".format, inner),
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["AND", "OR"]), inner),
    ),
    max_leaves=5,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=_WHERE)
def test_any_condition_means_what_it_means_in_sql(
    served: sleepfm_index.Served, store: sleepfm_index.Store, where: str
) -> None:
    assert ids_where(served, where) == store.metadata.clip_ids(where).tolist()


@pytest.mark.parametrize(
    "where",
    [
        "lower(stage) = 'n2'",
        "clip_id % 2 = 0",
        "clip_id > 3.5",
        "clip_id = '17'",
        "stage = site",
        "stage = NULL",
        "stage IN ('W', NULL)",
        "stage IN (SELECT stage FROM events)",
        "stage LIKE 'N\\%'",
        "stage ILIKE 'n%'",
        "stage LIKE 'N!%' ESCAPE '!'",
        "stage BETWEEN SYMMETRIC 'b' AND 'a'",
        "nsrr_age",
        "stage = 'W'; DROP TABLE clips",
        "1 = 1) OR (1 = 1",
        "stage =",
        "stage <=> 'W'",
        "nsrr_age LIKE '4%'",
        "nsrr_age < 1e400",
        "nsrr_age < 1e308",
        "clip_id = 1e400",
        "hypopnea_s = 'nan'",
    ],
)
def test_what_milvus_cannot_be_asked_is_refused(served: sleepfm_index.Served, where: str) -> None:
    with pytest.raises(QueryError) as refused:
        ids_where(served, where)
    assert "\n" not in str(refused.value)


def test_or_resolved_by_the_store(
    served: sleepfm_index.Served, store: sleepfm_index.Store, path: Path, uri: str
) -> None:
    asked = {"clip": 2, "where": "lower(stage) = 'n2' AND clip_id % 3 = 0", "k": 5}
    with pytest.raises(QueryError, match="--store"):
        served.query("resp", **asked)
    with sleepfm_index.Served(uri, store=path) as both:
        same(both.query("resp", **asked), store.query("resp", **asked))


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({"clip": 10_000}, "no clip 10000"),
        ({"clip": 5}, "no clip 5"),
        ({"recording": "zz", "at": "+0"}, "no recording 'zz'"),
        ({"clip": 2, "where": "stge = 'W'"}, "no column stge"),
        ({"clip": 2, "k": 20_000}, "at most 16,384"),
        ({}, "name one clip"),
    ],
)
def test_a_question_that_does_not_fit(
    served: sleepfm_index.Served, question: dict[str, object], sentence: str
) -> None:
    with pytest.raises(QueryError, match=sentence):
        served.query("bas", **question)


def test_deletes_and_additions_are_published_again(tmp_path: Path) -> None:
    store, uri = sited_store(tmp_path / "s"), str(tmp_path / "m.db")
    sleepfm_index.publish(store, uri, targets=("bas", "others_of_bas"))
    sleepfm_index.delete(store, recording="a")
    sleepfm_index.compact(store)
    with Writer(store, WEIGHTS, ROBUST) as writer:
        drawn = drawn_segment("e", 9, 9)
        hours = pa.nulls(9, pa.int64())
        writer.append(replace(drawn, clips=drawn.clips.append_column("Stunden im Bett", hours)))
    again = sleepfm_index.publish(store, uri)
    assert (again.clips, again.added, again.removed) == (99, 9, 30)
    nothing = sleepfm_index.publish(store, uri)
    assert (nothing.added, nothing.removed) == (0, 0)
    with sleepfm_index.Served(uri) as served, sleepfm_index.open(store) as opened:
        asked = {"clip": 125, "exclude": "none", "k": 99}
        same(served.query("bas", **asked), opened.query("bas", **asked))


_KILLED = """
import os, signal, sys, sleepfm_index
from sleepfm_index.sharing.milvus import publish
publish.BATCH = 10
def progress(sent, total):
    if sent >= 40: os.kill(os.getpid(), signal.SIGKILL)
targets = ("resp", "others_of_resp")
sleepfm_index.publish(sys.argv[1], sys.argv[2], targets=targets, progress=progress)
"""


def test_a_killed_publication_goes_on(tmp_path: Path) -> None:
    store, uri = drawn_store(tmp_path / "s", {"a": 60, "b": 50}), str(tmp_path / "m.db")
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(store), uri], capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    done = sleepfm_index.publish(store, uri)
    assert done.clips == 110 and 0 < done.added <= 70
    with sleepfm_index.Served(uri) as served, sleepfm_index.open(store) as opened:
        for clip in opened.metadata.clip_ids("has_resp")[::20].tolist():
            same(served.query("resp", clip=clip), opened.query("resp", clip=clip))


@contextmanager
def _raw_client(uri: str) -> Iterator[Any]:
    """A client of the database itself; pymilvus would keep the file open to its end."""
    from pymilvus import MilvusClient

    address, token = own_server.serve(Path(uri))
    client = MilvusClient(address, token=token)
    try:
        yield client
    finally:
        client.close()
        own_server.release(Path(uri))


def test_a_collection_of_others_is_left_alone(tmp_path: Path) -> None:
    uri = str(tmp_path / "m.db")
    one, two = (drawn_store(tmp_path / n, {n: 5}, index=False) for n in "ab")
    sleepfm_index.publish(one, uri, targets=("ecg",))
    with pytest.raises(StoreError, match="holds another store"):
        sleepfm_index.publish(two, uri)
    assert sleepfm_index.publish(two, uri, collection="second", targets=("ecg",)).clips == 5
    with (
        sleepfm_index.Served(uri, "second") as served,
        pytest.raises(QueryError, match="no vectors of others_of_ecg"),
    ):
        served.query("ecg", clip=0)
    with _raw_client(uri) as client:
        client.create_collection("mine", dimension=4)
    with pytest.raises(StoreError, match="not created by sleepfm-index"):
        sleepfm_index.publish(one, uri, collection="mine")
    with pytest.raises(StoreError, match="no collection none"):
        sleepfm_index.Served(uri, "none")


def test_vectors_that_were_changed_are_found_out(tmp_path: Path) -> None:
    store, uri = drawn_store(tmp_path / "s", {"a": 40}, lacking=0.0), str(tmp_path / "m.db")
    sleepfm_index.publish(store, uri, targets=("ecg",))
    with _raw_client(uri) as client:
        client.load_collection("sleepfm_clips")
        rows = client.query("sleepfm_clips", filter="clip_id >= 0", output_fields=["*"], limit=100)
        vectors = [row["ecg"] for row in rows]
        for row, vector in zip(rows, np.roll(np.array(vectors), 1, axis=0), strict=True):
            row["ecg"] = vector
        client.upsert("sleepfm_clips", rows)
    with pytest.raises(StoreError, match="does not find the nearest clips in ecg"):
        sleepfm_index.publish(store, uri)


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("trial", "nor a file ending in .db"),
        ("nowhere/trial.db", "no folder nowhere"),
        ("http://127.0.0.1:1", "cannot connect to Milvus at"),
    ],
)
def test_an_address_without_milvus(path: Path, uri: str, sentence: str) -> None:
    started = time.monotonic()
    with pytest.raises(StoreError, match=sentence):
        sleepfm_index.publish(path, uri)
    assert time.monotonic() - started < 30


def test_the_verbs(path: Path, uri: str, published: sleepfm_index.Published) -> None:
    store = ["--store", str(path)]
    done = CliRunner().invoke(app, ["publish", "--to", "milvus", "--uri", uri, *store])
    assert done.exit_code == 0, done.output
    assert "0 clips sent, 0 removed; 118 clips in sleepfm_clips" in done.stderr
    asked = ["query", "--modality", "ecg", "--clip", "3", "--format", "csv", *store]
    local = CliRunner().invoke(app, asked)
    there = CliRunner().invoke(app, [*asked, "--engine", "milvus", "--uri", uri])
    assert there.exit_code == 0 and there.stdout == local.stdout
    assert CliRunner().invoke(app, [*asked, "--engine", "milvus"]).exit_code == 2


def test_nobody_else_is_answered(published: sleepfm_index.Published, uri: str) -> None:
    import pymilvus

    from sleepfm_index.sharing.milvus import own_server

    address, token = own_server.serve(Path(uri))
    try:
        for given in ("", "guessed"):
            with pytest.raises(pymilvus.MilvusException):
                pymilvus.MilvusClient(address, token=given, timeout=3).list_collections()
        assert pymilvus.MilvusClient(address, token=token).list_collections()
    finally:
        own_server.release(Path(uri))
