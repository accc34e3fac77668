"""Recall with later queries: clips cut later, and recall counted one query at a time."""

import runpy

import numpy as np
import pytest
import scripts

from sleepfm.training.clipcache import CachedRecording


@pytest.fixture(scope="module")
def synchrony() -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(scripts.ROOT / "experiments"))
        return runpy.run_path(str(scripts.ROOT / "experiments" / "synchrony.py"))


def test_later_clips_continue_into_the_next(synchrony: dict) -> None:
    night = np.random.default_rng(0).standard_normal((2, 5 * 40)).astype(np.float32)
    clips = night.reshape(2, 5, 40).transpose(1, 0, 2)
    recording = CachedRecording("n", 5, ("W",) * 5, {"resp": np.ones(5, bool)}, {"resp": clips})
    rows = np.array([0, 3])
    for by in (0, 7, 40):
        later = synchrony["cut"](recording, "resp", rows, by)
        expected = [night[:, 40 * row + by : 40 * row + by + 40] for row in rows]
        np.testing.assert_array_equal(later, np.stack(expected))


def test_recall_among_all_clips_and_within_a_recording(synchrony: dict) -> None:
    draw = np.random.default_rng(1)
    targets = draw.standard_normal((60, 8)).astype(np.float32)
    queries = targets + 2 * draw.standard_normal((60, 8)).astype(np.float32)
    owner = np.repeat(np.arange(4), 15)
    ten = one = 0
    for i, query in enumerate(queries):
        scores = targets @ query
        ten += i in np.argsort(-scores)[:10]
        inside = np.flatnonzero(owner == owner[i])
        one += inside[np.argmax(scores[inside])] == i
    found = synchrony["recall"](queries, targets, owner)
    assert 0 < one < ten < 60
    assert found == pytest.approx((ten / 60, one / 60))
