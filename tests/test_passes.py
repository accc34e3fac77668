from __future__ import annotations

import numpy as np
import pytest

from sleepfm_index.evaluation.retrieval.tiled_ranks import shared_ranks
from sleepfm_index.schema import OTHERS

NAMES = ("bas", "ecg", "resp")


def drawn(n: int, kind: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Float16 unit vectors as float32: drawn, all the same, or many of them twice."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 64))
    found = {}
    for name in NAMES:
        x = latent + rng.standard_normal((n, 64))
        if kind == "constant":
            x[:] = x[:1]
        elif kind == "twins":
            x[n // 2 :] = x[: n - n // 2]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        found[name] = x.astype(np.float16).astype(np.float32)
    return found


def oracle(queries: np.ndarray, targets: np.ndarray) -> np.ndarray:
    scores = np.array([[np.sum(q * t) for t in targets] for q in queries])
    own = np.diagonal(scores)[:, None]
    return (scores >= own).sum(axis=1)


@pytest.mark.parametrize("kind", ["drawn", "constant", "twins"])
@pytest.mark.parametrize("names", [NAMES, ("ecg", "resp")])
@pytest.mark.parametrize("threads", [1, 3])
def test_ranks_are_those_of_a_float64_oracle(
    kind: str, names: tuple[str, ...], threads: int
) -> None:
    vectors = {name: v for name, v in drawn(70, kind).items() if name in names}
    found = shared_ranks(vectors, tile=16, threads=threads)
    assert len(found) == {3: 9, 2: 2}[len(names)]
    wide = {name: v.astype(np.float64) for name, v in vectors.items()}
    for (query, to), (ranks, hits) in found.items():
        others = [to] if to != OTHERS else [n for n in names if n != query]
        targets = np.mean([wide[n] for n in others], axis=0)
        np.testing.assert_array_equal(ranks, oracle(wide[query], targets))
        scores = (wide[query] @ targets.T).astype(np.float32)
        best = scores[np.arange(70), hits]
        np.testing.assert_allclose(best, scores.max(axis=1), rtol=0, atol=1e-6)
        assert np.all(hits[ranks == 1] == np.flatnonzero(ranks == 1))


@pytest.mark.parametrize("tile", [7, 64, 300, 1000])
def test_tiles_change_nothing(tile: int) -> None:
    vectors = drawn(300, "drawn", 3)
    whole, tiled = (shared_ranks(vectors, tile=t, threads=2) for t in (512, tile))
    for direction, (ranks, hits) in whole.items():
        np.testing.assert_array_equal(ranks, tiled[direction][0])
        np.testing.assert_array_equal(hits, tiled[direction][1])
