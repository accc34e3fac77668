"""Calibration: how far an index must be searched, and the recall that this gives.

Queries come from other modalities than the target. Same-modality queries would overestimate recall,
because clips of one night cluster. Every second query leaves out the clips around its own, as a
query by clip does; the rest leave out nothing, as with ``--exclude none``. Half of the queries
choose how the index is searched; recall is measured with the other half.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.schema import target_parts
from sleepfm_index.search.exact import candidates, rank
from sleepfm_index.search.parameters import Parameters
from sleepfm_index.search.protocol import VectorIndex
from sleepfm_index.search.selection import Selection
from sleepfm_index.storage.manifest import IndexEntry, Manifest, Recall, SearchSetting
from sleepfm_index.storage.vectors import Vectors

SHARES: Final = (1.0, 0.3, 0.1, 0.03)
"""Shares of allowed clips under which an index is calibrated; a filter uses the next smaller
one."""
K: Final = 10
FEWEST: Final = 8
"""Minimum number of queries for calibration; below it, search is exact."""
_EXCLUSION_HOURS: Final = 12
"""Time on either side of its own clip that a query leaves out; in a small store, a twentieth of the
clips."""
_RUN: Final = 256
"""Length of the runs of clips in calibration filters, because cohorts are filtered by night."""
RERANK_COST: Final = 800
"""Codes that could be read in the time that one candidate takes to compare from its vector, 1 to
3 us of one thread, as the settings of benchmarks/search.py show."""
_TIMED: Final = 20
_SELECTED: Final = 20_000
_MARGIN: Final = 0.25
"""The selecting queries must miss this much less than allowed, to offset selection bias."""
_Z: Final = 1.959964
_NONE: Final = np.empty(0, np.int64)


@dataclass(frozen=True)
class Queries:
    """Cross-modal queries of a target.

    Parameters
    ----------
    vectors : ndarray of float32, shape [q, 512]
    first, last : ndarray of int64, shape [q]
        Clip ids that a query does not find, both included; none where the last is before the first.
    modalities : tuple of str
        What they are drawn from, none of them a part of the target.
    """

    vectors: NDArray[np.float32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    modalities: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.vectors)


def draw_queries(
    vectors: Vectors, manifest: Manifest, target: str, count: int, seed: int
) -> Queries:
    """Draw queries over the whole snapshot, from modalities that are not part of the target.

    Parameters
    ----------
    vectors : Vectors
        Vectors of the snapshot.
    manifest : Manifest
        The snapshot of the store.
    target : str
        What is searched: a modality, or ``others_of_<modality>``.
    count : int
        About how many.
    seed : int
        Random seed.
    """
    known = manifest.modalities
    parts = target_parts(target, known)
    # of a store of one modality there is no other to draw from
    sources = tuple(m for m in known if m not in parts) or known
    drawn = [vectors.draw(m, -(-count // len(sources)), seed + at) for at, m in enumerate(sources)]
    ids = np.concatenate([ids for ids, _ in drawn])
    # Mixed, so that both halves are of every modality.
    order = np.random.default_rng(seed).permutation(len(ids))
    ids, found = ids[order], np.concatenate([v for _, v in drawn])[order]
    around = min(exclusion_clips(manifest.contract.clip_seconds), manifest.rows // 20)
    first, last = ids - around, ids + around
    last[1::2] = first[1::2] - 1
    return Queries(found, first, last, sources)


def exclusion_clips(clip_seconds: float) -> int:
    """Clips on either side of its own that a query leaves out: twelve hours of them.

    Parameters
    ----------
    clip_seconds : float
        Length of a clip under the store's contract.
    """
    return round(_EXCLUSION_HOURS * 3600 / clip_seconds)


def calibrate(
    vectors: Vectors,
    manifest: Manifest,
    entry: IndexEntry,
    index: VectorIndex,
    wanted: float,
    queries: Queries,
) -> tuple[tuple[SearchSetting, ...], Recall] | None:
    """Choose how an index is searched and measure what it finds.

    Clips that the index does not cover are searched exactly, so they count as found.

    Parameters
    ----------
    vectors : Vectors
        Vectors of the snapshot.
    manifest : Manifest
        The snapshot of the store.
    entry : IndexEntry
        Entry of the index in the manifest.
    index : VectorIndex
        The open index of the entry.
    wanted : float
        The recall@10 to reach.
    queries : Queries
        Queries to calibrate with and to measure with.

    Returns
    -------
    settings : tuple of SearchSetting
        For falling shares of allowed clips, down to where exact search of the allowed is faster or
        the index cannot reach the recall.
    recall : Recall
        Of the queries that did not choose, at share 1. None instead of both where there are too
        few queries or the recall is not reached.
    """
    if len(queries) < FEWEST:
        return None
    target = entry.target
    newer = [s.id for s in manifest.segments if s.id not in entry.segments]
    uncovered = np.concatenate([*(vectors.having(name, target) for name in newer), _NONE])
    chosen: list[SearchSetting] = []
    measured: Recall | None = None
    row_seconds = _seconds_per_row(vectors, manifest, target)
    half = len(queries) // 2
    for share in SHARES:
        selection = _selection(manifest, share)
        truth = _truth(vectors, manifest, target, queries, selection)
        trial = _Trial(index, queries, truth, uncovered, selection)
        # under a filter no less will do
        at_least = chosen[-1].parameters if chosen else None
        setting = trial.choose(share, wanted, slice(0, half), at_least)
        if setting is None:
            break
        if share < 1:
            exact = row_seconds * share * manifest.rows
            if trial.seconds(setting) > exact:
                break
        else:
            found = trial.found(setting.parameters, setting.depth, slice(half, None))
            at_1, at_10 = found[:, 0], found.mean(axis=1)
            measured = Recall(
                wanted,
                _rounded(wilson(float(at_1.mean()), len(at_1))),
                _rounded(clustered(at_10, found.shape[1])),
                len(at_10),
                index.rows + len(uncovered),
            )
        chosen.append(setting)
    return (tuple(chosen), measured) if measured is not None else None


class _Trial:
    """An index and the exact answers of some queries."""

    def __init__(
        self,
        index: VectorIndex,
        queries: Queries,
        truth: list[NDArray[np.int64]],
        uncovered: NDArray[np.int64],
        selection: Selection,
    ) -> None:
        self._index = index
        self._queries = queries
        self._truth = truth
        self._uncovered = uncovered
        self._selection = selection
        selection.selector()  # made once: what is made of it for a query shares its bits

    def choose(
        self, share: float, wanted: float, part: slice, at_least: Parameters | None
    ) -> SearchSetting | None:
        """Return the cheapest setting that reaches the recall; None if none does.

        Searching further with fewer candidates may be cheaper than less far with more.
        """
        best, least = None, np.inf
        for trial in self._index.trials(at_least):
            if trial.cost >= least:
                break
            ids = self._ids(trial.parameters, trial.depths[-1], part)
            for depth in trial.depths:
                cost = trial.cost + RERANK_COST * depth
                found = self._hits(ids[:, :depth], part)
                if len(found) and found.mean() >= wanted + _MARGIN * (1 - wanted):
                    if cost < least:
                        best, least = SearchSetting(share, depth, trial.parameters), cost
                    break
        return best

    def found(self, parameters: Parameters, depth: int, part: slice) -> NDArray[np.bool_]:
        """Mask of the exact answers found among the candidates, bool [q, 10]."""
        return self._hits(self._ids(parameters, depth, part), part)

    def seconds(self, setting: SearchSetting) -> float:
        """Seconds that one query takes."""
        some = slice(0, _TIMED)
        return _best(lambda: self._ids(setting.parameters, setting.depth, some)) / _TIMED

    def _hits(self, ids: NDArray[np.int64], part: slice) -> NDArray[np.bool_]:
        there = [
            np.isin(truth, found) | np.isin(truth, self._uncovered)
            for found, truth in zip(ids, self._truth[part], strict=True)
            if len(truth) == K
        ]
        return np.array(there, bool).reshape(-1, K)

    def _ids(self, parameters: Parameters, depth: int, part: slice) -> NDArray[np.int64]:
        asked = self._queries
        found = [
            self._index.search(
                query[None], depth, parameters, self._selection.but(first, last).selector()
            )
            for query, first, last in zip(
                asked.vectors[part], asked.first[part], asked.last[part], strict=True
            )
        ]
        return np.concatenate(found)


def wilson(share: float, n: float) -> tuple[float, float, float]:
    """Return a share of n trials with its 95 % interval (Wilson 1927).

    Parameters
    ----------
    share, n : float
        The share, 0 to 1, and the number of trials.
    """
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return share, float(max(0.0, centre - half)), float(min(1.0, centre + half))


def clustered(shares: NDArray[np.float64], size: int) -> tuple[float, float, float]:
    """Return the mean of shares of ``size`` trials each, with its interval.

    Hits within a query are correlated; the effective sample size is reduced by the design effect,
    the variance between queries over that of independent trials (Kish 1965).

    Parameters
    ----------
    shares : ndarray of float64, shape [q]
        Of each query.
    size : int
        Trials per query.
    """
    mean = float(shares.mean())
    alone = mean * (1 - mean) / size
    effect = max(1.0, float(shares.var()) / alone) if alone > 0 else 1.0
    return wilson(mean, len(shares) * size / effect)


def _truth(
    vectors: Vectors, manifest: Manifest, target: str, queries: Queries, selection: Selection
) -> list[NDArray[np.int64]]:
    def read(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return vectors.of(ids, target)[0]

    blocks = (b for s in manifest.segments for b in vectors.blocks(s.id, target, selection.keep))
    near = candidates(blocks, queries.vectors, K, read, (queries.first, queries.last))
    return [rank(read, q, ids, K)[0] for q, ids in zip(queries.vectors, near, strict=True)]


def _selection(manifest: Manifest, share: float) -> Selection:
    allowed = None
    if share < 1:
        runs = np.random.default_rng(0).random(manifest.stored_ids // _RUN + 1) < share
        allowed = np.flatnonzero(np.repeat(runs, _RUN)[: manifest.stored_ids])
    return Selection.of(manifest, allowed)


def _seconds_per_row(vectors: Vectors, manifest: Manifest, target: str) -> float:
    """Seconds per row of exact search, where the rows were selected."""
    ids, _ = vectors.draw(target, min(_SELECTED, manifest.rows), 0)
    if not len(ids):
        return 0.0
    query = np.ones(EMBEDDING_DIM, np.float32)
    return _best(lambda: vectors.of(ids, target)[0] @ query) / len(ids)


def _best(work: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _rounded(values: tuple[float, float, float]) -> tuple[float, float, float]:
    estimate, low, high = (round(min(1.0, v), 6) for v in values)
    return estimate, low, high
