"""Quality of a channel, against a recount sample by sample."""

from itertools import pairwise

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sleepfm.quality import ISSUES, level, measure


def recount(
    values: NDArray[np.float32], rate: float, clips: int, clip_s: int
) -> dict[str, NDArray[np.float64]]:
    """Fractions of clipped and flat samples, by loops over seconds and samples."""
    edges = [round(second * rate) for second in range(clips * clip_s + 1)]
    counted = dict(zip(ISSUES, np.zeros((len(ISSUES), clips)), strict=True))
    seconds = [values[a:b] for a, b in pairwise(edges)]
    whole = [second for second in seconds if np.isfinite(second).all()]
    inside = values[: edges[-1]]
    rails = {f(f(second) for second in whole) for f in (min, max)} if whole else set()
    for number, second in enumerate(seconds):
        clip = number // clip_s
        counted["nan"][clip] += np.sum(~np.isfinite(second))
        if any(second is one for one in whole) and min(second) == max(second):
            counted["flat"][clip] += len(second)
            continue
        for at in range(edges[number], edges[number + 1]):
            beside = [inside[i] for i in (at - 1, at + 1) if 0 <= i < len(inside)]
            for rail in rails if whole else ():
                counted["clipped"][clip] += bool(inside[at] == rail and rail in beside)
    sizes = np.array([edges[(c + 1) * clip_s] - edges[c * clip_s] for c in range(clips)])
    return {name: count / sizes for name, count in counted.items()}


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**20),
    rate=st.sampled_from([4.0, 5.5, 8.0]),
    clips=st.integers(1, 12),
    levels=st.integers(2, 40),
    gaps=st.integers(0, 3),
)
@example(seed=40, rate=4.0, clips=1, levels=2, gaps=1)  # highest and lowest value are the same
def test_clipped_flat_and_missing_samples_are_those_of_a_recount(
    seed: int, rate: float, clips: int, levels: int, gaps: int
) -> None:
    """Few and many seconds that reach the highest value of the night, in runs over their bounds."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, levels, int(clips * 3 * rate) + 5).astype(np.float32)
    for _ in range(4):
        start = rng.integers(len(values))
        values[start : start + rng.integers(1, 20)] = rng.choice([0, levels - 1])
    values[rng.integers(0, len(values), gaps)] = np.nan
    measured = dict(zip(ISSUES, measure(values, rate, clips, 3, None), strict=True))
    for name, expected in recount(values, rate, clips, 3).items():
        np.testing.assert_allclose(measured[name], expected, atol=1e-6, err_msg=name)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**20), count=st.integers(1, 300), most=st.integers(1, 400))
def test_a_level_is_that_of_every_nth_finite_sample(seed: int, count: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(5, 2, count).astype(np.float32)
    values[rng.random(count) < 0.2] = np.nan
    sample = values[:: max(1, -(-count // most))]
    sample = sample[np.isfinite(sample)]
    found = level(values, most)
    if not len(sample):
        assert found.constant
        return
    low, median, high = np.quantile(sample, [0.25, 0.5, 0.75])
    assert found.median == median
    if high > low:
        assert found.deviation == float(high - low) / 1.349
