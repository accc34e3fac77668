"""Questions by examples, stretches, nights, lists and words, against brute force."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import drawn_store

import sleepfm_index
from sleepfm_index.errors import QueryError
from sleepfm_index.query.lists import read_clip_ids, read_subjects
from sleepfm_index.query.stretch import Stretch, stretches
from sleepfm_index.query.windows import likely_windows


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"a": 60, "b": 50, "c": 40, "d": 30}
    return drawn_store(tmp_path_factory.mktemp("query") / "s", sizes, lacking=0.1, index=False)


@pytest.fixture(scope="module")
def store(path: Path) -> sleepfm_index.Store:
    return sleepfm_index.open(path)


def everything(store: sleepfm_index.Store, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of all clips in float64, and which clips have the target."""
    vectors, present = store.vectors.of(np.arange(len(store)), target)
    return vectors.astype(np.float64), present


def ids(result: sleepfm_index.store.Result) -> list[int]:
    found: list[int] = result.table["clip_id"].to_pylist()
    return found


# Examples


def test_examples_ask_by_their_mean_less_that_of_those_to_be_unlike(
    store: sleepfm_index.Store,
) -> None:
    like, unlike = [3, 70, 71], [120, 121]
    ecg, has = everything(store, "ecg")
    wanted = ecg[[i for i in like if has[i]]].mean(axis=0)
    wanted -= 0.2 * ecg[[i for i in unlike if has[i]]].mean(axis=0)
    wanted /= np.linalg.norm(wanted)
    bas, present = everything(store, "bas")
    scores = bas @ wanted
    left = [i for i in range(len(store)) if present[i] and i not in like + unlike]
    best = sorted(left, key=lambda i: -scores[i])[:7]
    found = store.query("ecg", "bas", clip=like, unlike=unlike, exclude="none", k=7)
    assert ids(found) == best
    assert found.table["score"].to_pylist() == pytest.approx(scores[best], abs=1e-6)
    assert "3 examples, unlike 2 -> bas" in found.note


@pytest.mark.parametrize("unlike", [None, [120, 121]])
@pytest.mark.parametrize("min_gap", [None, 90.0])
def test_the_nearest_of_any_example(
    store: sleepfm_index.Store, unlike: list[int] | None, min_gap: float | None
) -> None:
    like = [3, 70, 71, 130]
    ecg, has = everything(store, "ecg")
    queries = ecg[[i for i in like if has[i]]]
    if unlike:
        queries = queries - 0.2 * ecg[[i for i in unlike if has[i]]].mean(axis=0)
    bas, present = everything(store, "bas")
    scores = (bas @ queries.T).max(axis=1)
    left = [i for i in range(len(store)) if present[i] and i not in like + (unlike or [])]
    rows = store.sql("SELECT recording_id, start_s FROM clips ORDER BY clip_id").to_pylist()
    best: list[int] = []
    for i in sorted(left, key=lambda i: -scores[i]):
        near = (
            rows[i]["recording_id"] == rows[j]["recording_id"]
            and abs(rows[i]["start_s"] - rows[j]["start_s"]) < (min_gap or 0)
            for j in best
        )
        if not any(near):
            best.append(i)
    found = store.query(
        "ecg", "bas", clip=like, unlike=unlike, combine="max", exclude="none", k=9, min_gap=min_gap
    )
    assert ids(found) == best[:9]
    assert found.table["score"].to_pylist() == pytest.approx(scores[best[:9]], abs=1e-6)


def test_a_condition_names_examples_and_those_to_be_unlike(store: sleepfm_index.Store) -> None:
    like, unlike = "stage = 'R' AND recording_id = 'a'", "stage = 'W' AND recording_id = 'b'"
    listed = [store.metadata.clip_ids(condition) for condition in (like, unlike)]
    by_ids = store.query("bas", "resp", clip=listed[0], unlike=listed[1])
    by_condition = store.query("bas", "resp", like_where=like, unlike=unlike)
    assert by_ids.to_pylist() == by_condition.to_pylist()
    assert {row["subject_id"] for row in by_ids.to_pylist()} <= {
        "subject-b", "subject-c", "subject-d",
    }  # fmt: skip


def test_a_vector_asks_as_the_clip_that_it_is_of(store: sleepfm_index.Store) -> None:
    clip = int(store.metadata.clip_ids("has_ecg")[0])
    vector = store.vectors.of(np.array([clip]), "ecg")[0][0]
    by_vector = store.query("ecg", "bas", vector=7 * vector)
    by_clip = store.query("ecg", "bas", clip=clip, exclude="none")
    assert ids(by_vector) == ids(by_clip)
    assert by_vector.table["score"].to_pylist() == pytest.approx(
        by_clip.table["score"].to_pylist(),
        abs=1e-4,  # the stored vector is of length one up to float16
    )
    assert "nothing was excluded as its own" in by_vector.note


def test_the_note_says_what_was_compared_and_what_asked(store: sleepfm_index.Store) -> None:
    (row,) = store.sql("SELECT * FROM clips WHERE has_resp ORDER BY clip_id LIMIT 1").to_pylist()
    one = store.query("resp", "resp", clip=row["clip_id"]).note
    assert "-> resp:" in one and "score: cosine to resp" in one
    assert f", {row['stage']}, hypopnea {max(1, round(row['hypopnea_s']))} s)" in one
    others = store.query("resp", clip=row["clip_id"]).note
    assert "-> the mean of bas and ecg:" in others and "mean cosine to bas and ecg" in others


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({"vector": np.zeros(512)}, "is all zero"),
        ({"vector": np.ones(100)}, "a vector has 512 numbers"),
        ({"vector": ["x"]}, "no array of numbers"),
        ({"vector": np.ones(512), "clip": 1}, "name one clip"),
        ({"clip": [1, 10_000]}, "no clip 10000"),
        ({"clip": 1, "unlike": [10_000]}, "no clip 10000"),
        ({"like_where": "stage = 'X'"}, "no example"),
        ({"clip": 1, "unlike": "stage = 'X'"}, "none to be unlike"),
        ({"clip": [1, 2], "combine": "min"}, "choose from mean, max"),
        ({"like_where": "has_bas"}, "the examples come from every subject"),
        ({"clip": 1, "allowed": [0.5]}, "integer"),
    ],
)
def test_a_question_that_does_not_fit_gets_one_sentence(
    store: sleepfm_index.Store, question: dict[str, object], sentence: str
) -> None:
    with pytest.raises(QueryError, match=sentence):
        store.query("bas", "ecg", **question)  # type: ignore[arg-type]


# Lists


def test_only_listed_clips_are_found_and_listed_subjects_are_not(
    store: sleepfm_index.Store,
) -> None:
    listed = [150, 149, 149, 80, 81, 82, 100_000, -3]
    found = store.query("bas", "bas", clip=1, allowed=listed, exclude="none")
    _, present = everything(store, "bas")
    assert sorted(ids(found)) == [i for i in (80, 81, 82, 149, 150) if present[i]]
    assert "among 7 listed clips (2 of them not in this store)" in found.note
    both = store.query("bas", "bas", clip=1, allowed=listed, where="recording_id = 'b'")
    assert sorted(ids(both)) == [i for i in (80, 81, 82) if present[i]]
    without = store.query("bas", "bas", clip=1, k=200, exclude_subjects=["subject-b", "nobody"])
    assert {row["subject_id"] for row in without.to_pylist()} == {"subject-c", "subject-d"}
    assert "without 2 listed subjects (nobody not in this store)" in without.note


def test_lists_are_read_from_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([5, 1]))
    pq.write_table(pa.table({"clip_id": [5, 1], "x": ["p", "q"]}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("clip_id,stage\n5,N2\n1,W\n")
    (tmp_path / "a.txt").write_text("5\n1\n")
    for name in ("a.npy", "a.parquet", "a.csv", "a.txt"):
        assert read_clip_ids(tmp_path / name).tolist() == [5, 1], name
    (tmp_path / "s.txt").write_text("00123\np2\n")
    (tmp_path / "s.csv").write_text("site,subject_id\nx,00123\ny,p2\n")
    for name in ("s.txt", "s.csv"):
        assert read_subjects(tmp_path / name) == ["00123", "p2"], name
    (tmp_path / "bad.txt").write_text("5\nfive\n")
    (tmp_path / "other.csv").write_text("id,stage\n5,N2\n")
    for name in ("bad.txt", "other.csv", "none.txt"):
        with pytest.raises(QueryError):
            read_clip_ids(tmp_path / name)


# Stretches


def brute_stretches(
    store: sleepfm_index.Store, first: int, length: int, target: str, recordings: str
) -> list[tuple[int, float]]:
    """All windows of the given recordings, best first, none overlapping a better one."""
    vectors, present = everything(store, target)
    rows = store.sql("SELECT recording_id FROM clips ORDER BY clip_id").to_pylist()
    own = np.arange(first, first + length)
    own = own[present[own]]
    scored = []
    for at in range(len(store) - length + 1):
        same = rows[at]["recording_id"] == rows[at + length - 1]["recording_id"]
        places = at + own - first
        if same and rows[at]["recording_id"] in recordings and present[places].all():
            scored.append(
                (at, float(np.mean(np.einsum("nd,nd->n", vectors[own], vectors[places]))))
            )
    best: list[tuple[int, float]] = []
    for at, score in sorted(scored, key=lambda s: -s[1]):
        if all(abs(at - other) >= length for other, _ in best):
            best.append((at, score))
    return best


def test_the_nearest_stretches_are_those_of_brute_force(store: sleepfm_index.Store) -> None:
    found = store.stretches("bas", recording="a", start="+300", until="+450", k=6)
    expected = brute_stretches(store, 10, 5, "bas", "bcd")[:6]
    assert ids(found) == [at for at, _ in expected]
    assert found.table["score"].to_pylist() == pytest.approx([s for _, s in expected], abs=1e-6)
    assert found.table["clips"].to_pylist() == [5] * len(expected)
    ends = found.table["end_s"].to_numpy() - found.table["start_s"].to_numpy()
    assert ends.tolist() == [150.0] * len(expected)


def test_likely_stretches_are_scored_as_all_are(store: sleepfm_index.Store) -> None:
    question = Stretch("bas", "a", "+300", "+450", k=3)
    every = stretches(store, question)
    from sleepfm_index.query.scope import scope

    vectors, present = store.vectors.of(np.arange(10, 15), "bas")
    within = scope(store, without=[(0, 59)])
    found = likely_windows(store, "bas", vectors[present], np.flatnonzero(present), 5, 3, within)
    scores = dict(zip(found.first.tolist(), found.scores.tolist(), strict=True))
    for row in every.to_pylist():
        assert scores[row["clip_id"]] == pytest.approx(row["score"], abs=1e-6)


def test_every_clip_of_a_stretch_meets_the_condition(store: sleepfm_index.Store) -> None:
    where = "recording_id = 'c' AND start_s >= 300 AND start_s < 900"
    found = store.stretches("bas", recording="a", start="+0", until="+90", where=where, k=50)
    assert len(found)
    for row in found.to_pylist():
        assert row["recording_id"] == "c" and row["start_s"] >= 300 and row["end_s"] <= 900
    for one, other in itertools.combinations(found.to_pylist(), 2):
        assert abs(one["clip_id"] - other["clip_id"]) >= 3


def test_a_time_of_day_names_a_stretch_across_midnight(store: sleepfm_index.Store) -> None:
    # Recordings begin at 23:00: the clips from 23:10 until 23:12:30 are 20 to 24.
    by_clock = store.stretches("bas", recording="a", start="23:10", until="23:12:30", k=4)
    by_offset = store.stretches("bas", recording="a", start="+600", until="+750", k=4)
    assert by_clock.table.equals(by_offset.table)
    with pytest.raises(QueryError, match=r"ends .* before it starts"):
        store.stretches("bas", recording="a", start="+600", until="+300")


def test_elastic_stretches_find_what_was_slowed_down(tmp_path: Path) -> None:
    pytest.importorskip("dtaidistance")
    from stores import ROBUST, WEIGHTS, drawn_segment

    from sleepfm_index.storage.writer import Writer

    target = drawn_store(tmp_path / "s", {"a": 40, "b": 40}, lacking=0.0, index=False)
    slow = drawn_segment("slow", 40, 9, lacking=0.0)
    with sleepfm_index.open(target) as opened:
        stretch = opened.vectors.of(np.arange(10, 18), "bas")[0]
    slow.vectors["bas"][20:30] = np.repeat(stretch, [1, 1, 2, 1, 1, 2, 1, 1], axis=0)
    with Writer(target, WEIGHTS, ROBUST) as writer:
        writer.append(slow)
    with sleepfm_index.open(target) as opened:
        asked = {"recording": "a", "start": "+300", "until": "+540", "k": 1}
        (stiff,) = opened.stretches("bas", **asked).to_pylist()
        (elastic,) = opened.stretches("bas", **asked, elastic=True).to_pylist()
    assert elastic["recording_id"] == "slow"
    assert (elastic["start_s"], elastic["end_s"]) == (600.0, 900.0)
    assert elastic["score"] == pytest.approx(1.0, abs=1e-3) and stiff["score"] < 0.9


# Nights


def test_nights_are_ranked_by_energy_distance(store: sleepfm_index.Store) -> None:
    found = store.nights("bas", recording="a")
    vectors, present = everything(store, "bas")
    first = np.cumsum([0, 60, 50, 40, 30])
    sets = [vectors[a:b][present[a:b]] for a, b in itertools.pairwise(first)]

    def apart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x[:, None] - y[None], axis=2)

    def within(x: np.ndarray) -> float:
        return float(apart(x, x).sum() / (len(x) * (len(x) - 1)))

    for row in found.to_pylist():
        other = sets["abcd".index(row["recording_id"])]
        expected = 2 * apart(sets[0], other).mean() - within(sets[0]) - within(other)
        assert row["distance"] == pytest.approx(expected, abs=1e-4)
    assert found.table["distance"].to_pylist() == sorted(found.table["distance"].to_pylist())
    assert len(found) == 3
    with pytest.raises(QueryError, match="a night needs 10"):
        store.nights("bas", recording="a", like_where="start_s < 120")


# Words


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("N3", "stage = 'N3'"),
        ("REM sleep in women over 50", "stage = 'R' AND nsrr_sex = 'female' AND nsrr_age > 50"),
        ("N1, N2 or N3", "stage IN ('N1', 'N2', 'N3')"),
        ("not in REM", "stage <> 'R'"),
        ("light sleep without hypopneas", "stage IN ('N1', 'N2') AND coalesce(hypopnea_s, 0) = 0"),
        ("AHI at least 15, BMI under 30", "nsrr_ahi_hp3r_aasm15 >= 15 AND nsrr_bmi < 30"),
        ("sleep of people with sleep apnea", "stage IN ('N1', 'N2', 'N3', 'R') AND "
         "nsrr_ahi_hp3r_aasm15 >= 5"),
        ("severe obstructive sleep apnea", "nsrr_ahi_hp3r_aasm15 >= 30"),
        ("men older than 40 in the first 2 hours",
         "nsrr_sex = 'male' AND nsrr_age > 40 AND start_s < 7200"),
    ],
)  # fmt: skip
def test_words_become_sql(store: sleepfm_index.Store, text: str, sql: str) -> None:
    assert store.translate(text).sql == sql
    store.metadata.clip_ids(sql)


def test_after_an_apnea(store: sleepfm_index.Store) -> None:
    # Every drawn recording has one apnea, from 12 s to 32 s.
    found = store.metadata.clip_ids(store.translate("after an obstructive apnea").sql)
    starts = store.rows(found)["start_s"].to_pylist()
    assert sorted(set(starts)) == [60.0, 90.0]
    before = store.metadata.clip_ids(store.translate("before an apnoea").sql)
    assert not len(before)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("N3 with snoring and teeth grinding", "'snoring', 'teeth', 'grinding'"),
        ("slow breathing", "needs a column of it"),
        ("N3 in women and REM", "cannot both hold"),
        ("women or men", "'or'"),
        ("and with", "there is no condition"),
    ],
)
def test_unknown_words_are_named(store: sleepfm_index.Store, text: str, sentence: str) -> None:
    with pytest.raises(QueryError, match=sentence):
        store.translate(text)
