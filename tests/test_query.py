from __future__ import annotations

import numpy as np
import pytest
from stores import drawn_store

import sleepfm_index
from sleepfm_index.errors import QueryError
from sleepfm_index.query.clip_time import clip_position


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> sleepfm_index.Store:
    path = drawn_store(
        tmp_path_factory.mktemp("query") / "s", {"a": 50, "b": 40, "it's": 10}, lacking=0.1
    )
    return sleepfm_index.open(path)


def with_all(store: sleepfm_index.Store) -> int:
    return int(store.metadata.clip_ids("has_bas AND has_ecg AND has_resp")[0])


@pytest.mark.parametrize("to", ["bas", "resp", "others"])
def test_a_clip_finds_its_counterpart_when_nothing_is_excluded(
    store: sleepfm_index.Store, to: str
) -> None:
    clip = with_all(store)
    hits = store.query("ecg", to=to, clip=clip, exclude="none").to_pylist()
    assert hits[0]["clip_id"] == clip
    assert [hit["rank"] for hit in hits] == list(range(1, 11))
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_the_score_is_the_mean_cosine_to_the_others(store: sleepfm_index.Store) -> None:
    clip = with_all(store)
    (hit,) = store.query("resp", clip=clip, exclude="none", k=1).to_pylist()
    one = np.array([hit["clip_id"]])
    query = store.vectors.of(np.array([clip]), "resp")[0][0].astype(np.float64)
    cosines = [query @ store.vectors.of(one, m)[0][0].astype(np.float64) for m in ("bas", "ecg")]
    assert hit["score"] == pytest.approx(np.mean(cosines), abs=1e-6)


def test_own_subject_is_left_out_by_default(store: sleepfm_index.Store) -> None:
    hits = store.query("ecg", to="bas", clip=with_all(store), k=100).to_pylist()
    assert {hit["subject_id"] for hit in hits} == {"subject-b", "subject-it's"}


def test_own_recording_can_be_left_out(store: sleepfm_index.Store) -> None:
    clip = int(store.metadata.clip_ids("recording_id = 'it''s' AND has_ecg")[0])
    hits = store.query("ecg", to="bas", clip=clip, exclude="recording", k=100).to_pylist()
    assert {hit["recording_id"] for hit in hits} == {"a", "b"}


def test_a_condition_composes_with_exclusion(store: sleepfm_index.Store) -> None:
    hits = store.query(
        "ecg", to="bas", clip=with_all(store), where="stage IN ('N2', 'R')", k=100
    ).to_pylist()
    wanted = store.metadata.clip_ids("stage IN ('N2', 'R') AND recording_id <> 'a' AND has_bas")
    assert sorted(hit["clip_id"] for hit in hits) == wanted.tolist()


def test_nothing_found_is_an_empty_answer(store: sleepfm_index.Store) -> None:
    assert len(store.query("ecg", clip=with_all(store), where="stage = 'ART'")) == 0


def test_a_recording_and_a_time_name_a_clip(store: sleepfm_index.Store) -> None:
    clip = with_all(store)
    seconds = store.sql(f"SELECT start_s, clock FROM clips WHERE clip_id = {clip}").to_pylist()[0]
    whole = int(seconds["clock"])
    at = f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60 + 7:02d}"
    by_clip = store.query("ecg", clip=clip).to_pylist()
    assert store.query("ecg", recording="a", at=at).to_pylist() == by_clip
    assert (
        store.query("ecg", recording="a", at=f"+{seconds['start_s'] + 29}").to_pylist() == by_clip
    )


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({"modality": "eeg", "clip": 0}, "no modality 'eeg'"),
        ({"modality": "ecg", "to": "all", "clip": 0}, "no target 'all'"),
        ({"modality": "ecg"}, "name one clip"),
        ({"modality": "ecg", "clip": 0, "recording": "a", "at": "+0"}, "name one clip"),
        ({"modality": "ecg", "recording": "a"}, "--at"),
        ({"modality": "ecg", "clip": 10_000}, "no clip 10000 in this store; clip ids run from 0"),
        ({"modality": "ecg", "clip": -1}, "no clip -1"),
        ({"modality": "ecg", "recording": "zz", "at": "+0"}, "no recording 'zz'"),
        ({"modality": "ecg", "recording": "a", "at": "noon"}, "'noon' is not a time"),
        ({"modality": "ecg", "recording": "a", "at": "+99999"}, "no clip of the recording"),
        ({"modality": "ecg", "clip": 0, "k": 0}, "k must be at least 1, got 0"),
        ({"modality": "ecg", "clip": 0, "exclude": "all"}, "cannot exclude 'all'"),
        ({"modality": "ecg", "clip": 0, "where": "stage ="}, "Parser Error"),
    ],
)
def test_a_question_that_does_not_fit_gets_one_sentence(
    store: sleepfm_index.Store, question: dict[str, object], sentence: str
) -> None:
    with pytest.raises(QueryError) as refused:
        store.query(**question)  # type: ignore[arg-type]
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_clip_without_the_modality_cannot_ask_with_it(store: sleepfm_index.Store) -> None:
    clip = int(store.metadata.clip_ids("NOT has_ecg")[0])
    with pytest.raises(QueryError, match="has no ecg signal"):
        store.query("ecg", clip=clip)


def test_a_time_of_day_goes_before_an_offset_and_crosses_midnight() -> None:
    start = 30.0 * np.arange(240)
    clock = np.mod(86400 - 3600 + start, 86400)
    assert clip_position("23:00:31", start, clock, 30) == 1
    assert clip_position("00:00:00", start, clock, 30) == 120
    assert clip_position("01:30:00", start, clock, 30) == 180  # not a time of this night
    assert clip_position("01:30", start, None, 30) == 180
    with pytest.raises(QueryError, match=r"between \+0 and \+7200 s \(23:00:00 to 01:00:00\)"):
        clip_position("12:00:00", start, clock, 30)
