"""The server behind the page: what it answers, whom it refuses, what it writes."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import edfio
import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from explored import CHANNELS, TOKEN, Client, explored_store
from hypothesis import given, settings
from hypothesis import strategies as st
from nights import write_night
from stores import drawn_store

import sleepfm_index
from sleepfm.recordings import read_recording
from sleepfm_index.errors import FormatError, QueryError, StoreError
from sleepfm_index.evaluation.models.probe import fit_probe
from sleepfm_index.evaluation.models.probe_kinds import save_probe
from sleepfm_index.explore import openapi
from sleepfm_index.explore.endpoints import ENDPOINTS
from sleepfm_index.explore.server import Explorer
from sleepfm_index.explore.signals import thin
from sleepfm_index.storage.labels import append_labels, read_labels

Served = tuple[Client, Path]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = explored_store(tmp_path_factory.mktemp("explore"))
    with Explorer(path, port=0, token=TOKEN, annotate=True) as explorer:
        yield Client(explorer), path


def test_the_nearest_are_those_that_the_store_finds(served: Served) -> None:
    client, path = served
    with sleepfm_index.open(path) as store:
        for exclude in ("subject", "none"):
            expected = store.query(
                "ecg", "bas", clip=17, k=7, exclude=exclude, where="stage <> 'W'"
            )
            asked = {"modality": "ecg", "to": "bas", "clip": 17, "k": 7, "where": "stage <> 'W'"}
            assert client.json("/query", **asked, exclude=exclude)["rows"] == json.loads(
                json.dumps(expected.to_pylist())
            )
            assert client.arrow("/query", **asked, exclude=exclude).equals(
                expected.table.replace_schema_metadata(None)
            )


def test_examples_are_averaged_and_what_they_must_not_be_like_is_taken_away(served: Served) -> None:
    client, path = served
    like, unlike = [3, 9, 50], [70, 71]
    asked = {"modality": "ecg", "to": "resp", "exclude": "none", "k": 8}
    found = client.json("/query", **asked, like="3,9,50", unlike="70,71")["rows"]
    with sleepfm_index.open(path) as store:
        ecg = store.vectors.of(np.array([*like, *unlike]), "ecg")[0].astype(np.float64)
        wanted = ecg[:3].mean(axis=0) - 0.2 * ecg[3:].mean(axis=0)
        wanted /= np.linalg.norm(wanted)
        ids = np.setdiff1d(np.arange(len(store)), [*like, *unlike])
        scores = store.vectors.of(ids, "resp")[0].astype(np.float64) @ wanted
    best = np.argsort(-scores)[:8]
    assert [row["clip_id"] for row in found] == ids[best].tolist()
    assert [row["score"] for row in found] == pytest.approx(scores[best].tolist(), abs=1e-6)
    own = client.json("/query", **{**asked, "exclude": "subject"}, like="3,50")["rows"]
    assert {row["subject_id"] for row in own} == {"subject-night-2"}


def test_a_stretch_is_all_the_clips_that_it_touches(served: Served) -> None:
    client, _ = served
    asked = {"modality": "bas", "to": "ecg", "k": 5}
    stretch = client.json("/query", **asked, recording="night-1", from_s=70, until_s=125)
    assert "3 examples" in stretch["note"]
    assert stretch["rows"] == client.json("/query", **asked, like="42,43,44")["rows"]
    status, said = client.refused("/query", **asked, recording="night-1", from_s=1e6)
    assert status == 400 and "no clip" in said


def test_tables_are_the_same_in_every_format(served: Served) -> None:
    client, path = served
    statement = "SELECT clip_id, stage, start_s, hypopnea_s FROM clips ORDER BY clip_id"
    with sleepfm_index.open(path) as store:
        expected = store.sql(statement).table
    assert client.json("/sql", statement=statement)["rows"] == expected.to_pylist()
    assert client.arrow("/sql", statement=statement).equals(expected.replace_schema_metadata(None))
    _, csv = client.ask("/sql", statement=statement, format="csv")
    assert (
        pyarrow.csv.read_csv(io.BytesIO(csv))["stage"].to_pylist() == expected["stage"].to_pylist()
    )
    _, parquet = client.ask("/sql", statement=statement, format="parquet")
    assert pq.read_table(io.BytesIO(parquet)).equals(expected)
    cut = client.json("/sql", statement=statement, limit=5)
    assert len(cut["rows"]) == 5 and cut["note"] == "the first 5 of 120 rows"
    twice = client.json("/sql", statement="SELECT 1 AS a, 2 AS a, 'NaN'::float AS b")
    assert twice["rows"] == [{"a": 1, "a_2": 2, "b": None}]


def test_strips_hold_the_least_and_greatest_of_each_pixel_in_the_shown_unit(served: Served) -> None:
    client, path = served
    raw = edfio.read_edf(path.parent / "recordings" / "night-1.edf")
    rows = client.arrow("/strips", clips="45", width=100).to_pylist()
    assert [row["slot"] for row in rows] == list(CHANNELS)
    for row, signal in zip(rows, raw.signals, strict=True):
        rate = signal.sampling_frequency
        own = signal.data[int(150 * rate) : int(180 * rate)]
        assert row["unit"] == {"": "", "uV": "uV", "mV": "mV", "%": "%"}[CHANNELS[row["slot"]][0]]
        if row["high"] is None:
            assert row["low"] == pytest.approx(own.tolist(), rel=1e-5, abs=1e-3)
            assert row["step_s"] == 1 / rate
        else:
            assert len(row["low"]) == len(row["high"]) == 100
            assert min(row["low"]) == pytest.approx(own.min(), rel=1e-5)
            assert max(row["high"]) == pytest.approx(own.max(), rel=1e-5)
    stretch = client.arrow("/strips", recording="night-1", from_s=150, seconds=30, width=100)
    assert stretch.drop_columns("clip_id").to_pylist() == [
        {k: v for k, v in row.items() if k != "clip_id"} for row in rows
    ]


def test_strips_start_before_their_clip_where_the_recording_does(served: Served) -> None:
    client, _ = served
    for clip, start in ((45, 150), (40, 0)):
        first = max(0, start - 15)
        own = client.arrow("/strips", clips=clip, before=15, seconds=60, width=100)
        of_night = client.arrow(
            "/strips", recording="night-1", from_s=first, seconds=start + 45 - first, width=100
        )
        assert own.drop_columns("clip_id").equals(of_night.drop_columns("clip_id"))
        assert own["from_s"].to_pylist() == [first] * own.num_rows


@given(st.lists(st.floats(-1e6, 1e6, width=32) | st.just(float("nan"))), st.integers(1, 60))
@settings(deadline=None)
def test_no_sample_is_lost_by_thinning(values: list[float], width: int) -> None:
    x = np.array(values, np.float32)
    step, low, high = thin(x, width)
    if high is None:
        np.testing.assert_array_equal(low, x)
        return
    edges = [int(np.floor(at * step)) for at in range(width)] + [len(x)]
    for at, (first, last) in enumerate(itertools.pairwise(edges)):
        known = x[first:last][np.isfinite(x[first:last])]
        assert low[at] == known.min() if len(known) else np.isnan(low[at])
        assert high[at] == known.max() if len(known) else np.isnan(high[at])


@given(st.integers(-50, 9000), st.integers(-50, 9000))
@settings(max_examples=40, deadline=None)
def test_a_part_of_a_channel_is_that_part_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, first: int, last: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "part.edf"
    if not path.exists():
        write_night(path, seconds=60)
    for channel in read_recording(path).channels:
        whole = channel.read()
        part = channel.part(first, last)
        np.testing.assert_array_equal(part, whole[max(0, first) : max(0, first, last)])


def test_the_map_has_every_clip_once_and_its_values_in_the_same_order(served: Served) -> None:
    client, path = served
    points = client.arrow("/map", modality="ecg", where="start_s >= 60")
    by = {"modality": "ecg", "where": "start_s >= 60"}
    stages = client.arrow("/map/values", **by, by="stage")["value"].to_pylist()
    seconds = client.arrow("/map/values", **by, by="start_s")["value"].to_pylist()
    with sleepfm_index.open(path) as store:
        rows = store.sql("SELECT * FROM clips WHERE start_s >= 60 ORDER BY clip_id").table
        vectors = store.vectors.of(rows["clip_id"].to_numpy(), "ecg")[0].astype(np.float64)
    assert points["clip_id"].to_pylist() == rows["clip_id"].to_pylist()
    assert (stages, seconds) == (rows["stage"].to_pylist(), rows["start_s"].to_pylist())
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    for name, axis in zip("xy", axes, strict=False):
        correlation = np.corrcoef(centred @ axis, points[name].to_numpy())[0, 1]
        assert abs(correlation) > 0.999
    assert np.abs(points["x"].to_numpy()).max() <= 1


def test_a_probes_probability_colours_the_map(served: Served, tmp_path: Path) -> None:
    _, path = served
    file = tmp_path / "stage.safetensors"
    with sleepfm_index.open(path) as store:
        made = fit_probe(store, "stage", "ecg")
        save_probe(made, file)
        expected = store.predict(file).table["p_N3"].to_pylist()
    with Explorer(path, port=0, token=TOKEN, probes=[file]) as explorer:
        client = Client(explorer)
        assert client.json("/store")["probes"][0]["classes"] == list(made.classes)
        said = client.arrow("/map/values", modality="ecg", by="probe:stage:N3")["value"]
        assert said.to_pylist() == pytest.approx(expected, abs=1e-6)
        assert "no probe" in client.refused("/map/values", by="probe:other:N3")[1]


def test_a_map_of_too_many_clips_shows_some_and_says_so(served: Served) -> None:
    client, path = served
    shown = client.json("/map", limit=40)
    assert 0 < len(shown["rows"]) <= 40 and shown["total"] == 120
    assert "of 120 clips" in shown["note"]
    stages = client.json("/map/values", limit=40, by="stage")["rows"]
    with sleepfm_index.open(path) as store:
        ids = np.array([row["clip_id"] for row in shown["rows"]])
        expected = store.rows(ids)["stage"].to_pylist()
    assert [row["value"] for row in stages] == expected


def test_a_night_is_its_clips_and_events_in_order(served: Served) -> None:
    client, path = served
    night = client.json("/nights/night-2")
    assert night["clips"]["clip_id"] == list(range(80, 120))
    assert night["signals"] and night["events"][0]["type"] == "apnea"
    listed = client.json("/nights")["rows"]
    assert [n["first_clip_id"] for n in listed] == [0, 40, 80]
    assert str(path.parent) not in json.dumps([night, client.json("/store")])


def test_only_this_servers_page_and_tools_with_its_token_may_ask(served: Served) -> None:
    client, _ = served
    assert client.refused("/store", token=None)[0] == 401
    assert client.refused("/store", token="wrong-token-wrong-token")[0] == 401
    assert client.ask("/store", token=None, headers={}, **{"token_": ""})[0] == 401
    for path in [e.path.replace("{id}", "1").replace("{recording_id}", "x") for e in ENDPOINTS]:
        assert client.ask(path, token=None)[0] == 401
    own = f"http://127.0.0.1:{client.explorer.port}"
    assert client.ask("/store", headers={"Origin": own})[0] == 200
    for origin in ("http://evil.example", f"{own}0", "null", "http://127.0.0.1"):
        assert client.refused("/store", headers={"Origin": origin})[0] == 403
    for host in ("evil.example", f"evil.example:{client.explorer.port}", "", "127.0.0.1.evil.org"):
        assert client.refused("/store", headers={"Host": host})[0] == 400
    assert client.refused("/store", headers={"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert client.ask("/", token=None)[0] == 200


def test_the_page_may_load_nothing_from_elsewhere_and_sets_no_cookie(served: Served) -> None:
    import urllib.request

    client, _ = served
    with urllib.request.urlopen(f"http://127.0.0.1:{client.explorer.port}/") as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert answer.headers["Set-Cookie"] is None
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy
    assert "http" not in policy.replace("http://127.0.0.1:*", "")


def test_another_address_needs_a_token_that_was_thought_of(served: Served) -> None:
    _, path = served
    with pytest.raises(QueryError, match="--token"):
        Explorer(path, host="0.0.0.0")
    with pytest.raises(QueryError, match="at least 16 characters"):
        Explorer(path, token="short")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StoreError, match="cannot listen"):
            Explorer(path, port=taken.getsockname()[1])
    with Explorer(path, host="0.0.0.0", port=0, token=TOKEN) as everywhere:
        client = Client(everywhere)
        assert client.ask("/store", headers={"Host": "192.0.2.7:80"})[0] == 200
        assert client.refused("/store", headers={"Host": "evil.example"})[0] == 400


@pytest.mark.parametrize(
    ("path", "query", "said"),
    [
        ("/query", {"modality": "eeg", "clip": 1}, "no modality 'eeg'"),
        ("/query", {"modality": "bas"}, "pass a query"),
        ("/query", {"modality": "bas", "clip": "x"}, "whole number"),
        ("/query", {"modality": "bas", "clip": 1, "kk": 3}, "unknown parameter 'kk'"),
        ("/query", {"modality": "bas", "clip": 1, "min_gap": "nan"}, "must be a number"),
        ("/query", {"modality": "bas", "clip": 999999}, "no clip 999999"),
        ("/query", {"modality": "bas", "like": "1,2", "unlike": "999999"}, "no clip 999999"),
        ("/query", {"modality": "bas", "file": "gone"}, "upload it again"),
        ("/sql", {"statement": "DROP VIEW clips"}, "only SELECT"),
        ("/sql", {}, "statement is missing"),
        ("/map", {"where": "1=1); SELECT 1"}, ""),
        ("/map", {"where": "stage = 'none'"}, "no clip meets the condition"),
        ("/map", {"where": "clip_id < 2"}, "at least 3 clips"),
        ("/map/values", {"by": "slots"}, "no column"),
        ("/strips", {}, "pass one of clips, recording and file"),
        ("/strips", {"clips": "1", "width": 0}, "width"),
        ("/strips", {"clips": "1", "seconds": -1}, "seconds"),
        ("/strips", {"clips": "1", "before": -1}, "before must be 0 to"),
        ("/strips", {"recording": "night-1", "before": 5}, "before needs clips"),
        ("/clips/999999", {}, "no clip 999999"),
        ("/nights/other", {}, "no recording"),
        ("/labels", {"column": "../manifest"}, "no label column"),
        ("/store", {"format": "xml"}, "unknown format"),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_sentence(
    served: Served, path: str, query: dict[str, object], said: str
) -> None:
    status, error = served[0].refused(path, **query)
    assert status == 400 and said in error and "\n" not in error and "Traceback" not in error


def test_labels_lie_beside_the_scorers_with_who_and_when(served: Served) -> None:
    client, path = served
    before = client.json("/clips/5")
    done = client.json(
        "/labels", body={"column": "stage_checked", "clips": [5, 6], "value": "N3", "by": "ak"}
    )
    assert done["clips"] == 2
    after = client.json("/clips/5")
    assert after["stage"] == before["stage"]
    assert after["labels"]["stage_checked"] == {
        "clip_id": 5,
        "value": "N3",
        "by": "ak",
        "at": done["at"],
    }
    client.json("/labels", body={"column": "stage_checked", "clips": [6], "by": "bo"})
    table = client.json("/labels", column="stage_checked")["rows"]
    assert [(row["clip_id"], row["stage_checked"]) for row in table] == [(5, "N3")]
    column = client.arrow("/map/values", by="label:stage_checked")["value"].to_pylist()
    assert [at for at, value in enumerate(column) if value] == [5]
    statement = "SELECT l.* FROM labels l JOIN clips c USING (clip_id) WHERE c.stage <> 'x'"
    said = client.json("/sql", statement=statement)
    assert said["rows"] == [
        {
            "clip_id": 5,
            "label": "stage_checked",
            "value": "N3",
            "labelled_by": "ak",
            "labelled_at": done["at"],
        }
    ]
    history = (path / "labels" / "stage_checked.jsonl").read_text().splitlines()
    assert [json.loads(line)["by"] for line in history] == ["ak", "ak", "bo"]
    assert not sleepfm_index.verify(path).findings
    for body, said in (
        ({"column": "stage", "clips": [1], "value": "W", "by": "ak"}, "another name"),
        ({"column": "Stage-2", "clips": [1], "value": "W", "by": "ak"}, "lower-case letters"),
        ({"column": "x", "clips": [10**6], "value": "W", "by": "ak"}, "no clip 1000000"),
        ({"column": "x", "clips": [], "value": "W", "by": "ak"}, "name clips"),
        ({"column": "x", "clips": [1], "value": "W\nN1", "by": "ak"}, "one line"),
        ({"column": "x", "clips": [1], "value": "W", "by": " "}, "who labels"),
        ({"column": "x", "clips": [1], "value": "W"}, "by is missing"),
        (["not an object"], "JSON object"),
    ):
        status, error = client.refused("/labels", body=body)
        assert status == 400 and said in error


def test_a_server_that_only_reads_writes_nothing(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 20})
    before = sorted(str(p) for p in path.rglob("*"))
    with Explorer(path, port=0, token=TOKEN) as explorer:
        client = Client(explorer)
        body = {"column": "mine", "clips": [1], "value": "x", "by": "ak"}
        assert "--allow-annotate" in client.refused("/labels", body=body)[1]
        client.json("/store")
        client.json("/map")
        client.json("/query", modality="bas", clip=int(client.json("/map")["rows"][0]["clip_id"]))
    assert sorted(str(p) for p in path.rglob("*")) == before


def test_the_view_of_labels_hides_those_of_deleted_clips(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 20})
    append_labels(path, "mine", [3, 4], "odd", "ak")
    sleepfm_index.delete(path, where="clip_id = 3")
    with sleepfm_index.open(path) as store:
        assert store.sql("SELECT clip_id FROM labels").to_pylist() == [{"clip_id": 4}]


def test_a_labels_file_that_is_odd_takes_nothing_from_sql(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 20})
    append_labels(path, "mine", [4], "odd", "ak")
    one = {"clip_id": 5, "value": "x", "by": "ak", "at": "2026-01-01T00:00:00Z"}
    odd = [
        *({**one, "clip_id": i} for i in (2**40, 2**80, -1, True, "5", None)),
        *({**one, "value": v} for v in (0, [], "\ud800")),
        {**one, "by": 1},
        [],
    ]
    with (path / "labels" / "mine.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in odd)
        file.write("[" * 100_000 + "\n")
    (path / "labels" / "linked.jsonl").symlink_to(path / "labels" / "mine.jsonl")
    with sleepfm_index.open(path) as store:
        with pytest.raises(FormatError, match="line 2 of"):
            store.sql("SELECT clip_id, label FROM labels")
        assert len(store.query("ecg", clip=4, where="stage IS NOT NULL", exclude="none"))


def test_a_umap_is_kept_as_columns_where_the_server_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drawn_store(tmp_path / "s", {"a": 20, "b": 20}, lacking=0.2)
    computed: list[int] = []

    def project(vectors: np.ndarray, method: str, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
        computed.append(len(vectors))
        return vectors[:, :2].astype(np.float64), ("UMAP 1", "UMAP 2")

    monkeypatch.setattr("sleepfm_index.explore.embedding_map.project", project)
    found = []
    for annotate in (False, True, True):
        with Explorer(path, port=0, token=TOKEN, annotate=annotate) as explorer:
            found.append(Client(explorer).json("/map", method="umap", modality="ecg"))
    assert len(computed) == 2  # the third server reads the columns
    assert "kept as the columns umap_ecg_x" in found[1]["note"]
    assert "kept" not in found[0]["note"]
    for other in found[1:]:
        for key in ("clip_id", "x", "y"):
            one, two = ([row[key] for row in rows["rows"]] for rows in (found[0], other))
            assert one == pytest.approx(two, abs=1e-6)


def test_labels_of_many_at_once_are_all_kept_and_a_torn_line_costs_only_itself(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "s"
    folder.mkdir()

    def label(who: int) -> None:
        for clip in range(20):
            append_labels(folder, "mine", [100 * who + clip], "x", f"p{who}")

    threads = [threading.Thread(target=label, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_labels(folder, "mine")) == 80
    with (folder / "labels" / "mine.jsonl").open("a") as file:
        file.write('{"clip_id": 7, "val')
    append_labels(folder, "mine", [500], "y", "p9")
    found = read_labels(folder, "mine")
    assert len(found) == 81 and found[500].value == "y"


def test_compaction_forgets_the_labels_of_deleted_clips(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 20, "b": 20})
    append_labels(path, "mine", [3, 25], "x", "ak")
    sleepfm_index.delete(path, recording="a")
    sleepfm_index.compact(path, keep_snapshots=5)
    assert set(read_labels(path, "mine")) == {3, 25}  # an earlier snapshot still holds the clip
    sleepfm_index.compact(path, keep_snapshots=0)
    assert set(read_labels(path, "mine")) == {25}
    assert '"clip_id": 3' not in (path / "labels" / "mine.jsonl").read_text()


def test_answers_go_on_while_the_store_is_built_deleted_from_and_compacted(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 30, "b": 30, "c": 30}, lacking=0)
    with Explorer(path, port=0, token=TOKEN) as explorer:
        client = Client(explorer)
        assert client.json("/store")["clips"] == 90
        statuses: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                statuses.append(client.ask("/query", modality="bas", clip=40, k=3)[0])
                statuses.append(client.ask("/map", modality="ecg")[0])

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            sleepfm_index.delete(path, recording="a")
            sleepfm_index.compact(path, keep_snapshots=0)
            sleepfm_index.delete(path, recording="c")
            sleepfm_index.compact(path, keep_snapshots=0)
        finally:
            stop.set()
            asking.join()
        assert set(statuses) == {200}
        assert client.json("/store")["clips"] == 30
        assert client.refused("/clips/3")[0] == 400


def test_without_recordings_everything_but_signals_works(tmp_path: Path) -> None:
    path = explored_store(tmp_path, nights=2, clips=10)
    shutil.rmtree(tmp_path / "recordings")
    with Explorer(path, port=0, token=TOKEN) as explorer:
        client = Client(explorer)
        assert client.json("/store")["recordings_at_hand"]["there"] == 0
        assert client.json("/nights/night-0")["signals"] is False
        away = client.json("/strips", clips="1,2")
        assert away["rows"] == [] and "night-0" in away["away"]
        shutil.rmtree(path / "private")
        assert "private/" in client.json("/strips", clips="1")["away"]["night-0"]
        assert client.json("/query", modality="bas", clip=1)["rows"]
        none = client.refused("/map", where="stage = 'REM'")
        assert none[0] == 400 and "no clip meets the condition; stage holds" in none[1]
        shutil.rmtree(path)
        gone = client.refused("/store")
        assert gone[0] == 400 and "no store at store" in gone[1]  # where it lay is not said


def test_a_file_of_ones_own_is_encoded_and_searched(tmp_path: Path) -> None:
    night = write_night(tmp_path / "night.edf", seconds=90)
    path = tmp_path / "store"
    sleepfm_index.build(path, [night], weights="demo")
    with Explorer(path, port=0, token=TOKEN) as explorer:
        client = Client(explorer)
        given_ = client.json("/files", body=night.read_bytes(), name="other.edf")
        assert given_["clips"] == 3 and "ECG" in given_["slots"]
        asked = {"modality": "ecg", "to": "ecg", "file": given_["file"], "from_s": 30}
        best = client.json("/query", **asked)["rows"][0]
        assert best["start_s"] == 30 and best["score"] == pytest.approx(1, abs=2e-3)
        strips = client.json("/strips", file=given_["file"], from_s=30, seconds=10)["rows"]
        assert {row["slot"] for row in strips} >= {"ECG", "C3-M2"}
        status, said = client.refused("/files", body=b"no recording", name="x.edf")
        assert status == 400 and "EDF" in said
        assert client.refused("/files", body=b"x", name="../../etc/passwd")[0] == 400


def test_openapi_and_the_page_of_documentation_name_every_endpoint(served: Served) -> None:
    client, _ = served
    described = client.json("/openapi.json")
    for endpoint in ENDPOINTS:
        operation = described["paths"][endpoint.path][endpoint.method.lower()]
        assert operation["summary"] == endpoint.summary
    page = Path(__file__).parents[1] / "docs" / "http.md"
    assert openapi.tables() in page.read_text(encoding="utf-8")


def test_the_built_page_is_what_its_sources_give_and_is_small(tmp_path: Path) -> None:
    room = Path(sleepfm_index.__file__).parent / "explore"
    built = {p.name: p.read_bytes() for p in (room / "static").iterdir()}
    assert sum(map(len, built.values())) < 600_000
    node = shutil.which("node")
    if node is None or not (room / "web" / "node_modules").is_dir():
        pytest.skip("node or the page's packages are not installed: make web")
    subprocess.run([node, str(room / "web" / "build.js"), str(tmp_path)], check=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == built


def test_a_notebook_shows_the_page_and_tables(served: Served) -> None:
    _, path = served
    with sleepfm_index.open(path) as store:
        with store.explore() as explorer:
            frame = explorer._repr_html_()
            assert explorer.url in frame and frame.startswith("<iframe")
            assert explorer.token not in repr(explorer)
        assert "<td" in store._repr_html_() and "120" in store._repr_html_()
        shown = store.sql("SELECT '<b>' AS x, 1.5 AS y FROM range(30)")._repr_html_()
        assert "&lt;b&gt;" in shown and "10 more rows" in shown
