"""Calibration: choose the search parameters of an index and measure its recall.

Queries come from other modalities than the target. Same-modality queries would overestimate recall,
because clips of one night cluster. Every second query excludes the clips around its own clip, as a
query by clip does; the others exclude nothing, as with ``--exclude none``. Half of the queries
choose the search parameters; recall is measured with the other half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.schema import target_parts
from sleepfm_index.search.exact import candidates, rank
from sleepfm_index.search.parameters import Parameters
from sleepfm_index.search.protocol import VectorIndex
from sleepfm_index.search.selection import Selection
from sleepfm_index.storage.manifest import IndexEntry, Manifest, Recall, SearchSetting
from sleepfm_index.storage.vectors import Vectors

SHARES: Final = (1.0, 0.3, 0.1, 0.03)
"""Shares of allowed clips in calibration; a filter uses the next smaller share."""
K: Final = 10
FEWEST: Final = 8
"""Minimum number of queries for calibration; below it, search is exact."""
_EXCLUSION_HOURS: Final = 12
"""Hours on either side of its own clip that a query excludes; in a small store, at most a twentieth
of the clips."""
_RUN: Final = 256
"""Length of the runs of clips in calibration filters, because cohorts are filtered by night."""
RERANK_COST: Final = 800
"""Cost of rescoring one candidate in codes read: 1 to 3 us of one thread (benchmarks/search.py)."""
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
        Query vectors.
    first, last : ndarray of int64, shape [q]
        First and last clip id of the run that each query excludes, both inclusive; if the last is
        before the first, nothing is excluded.
    modalities : tuple of str
        Modalities of the queries, none of which is part of the target.
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
        Search target: a modality, or ``others_of_<modality>``.
    count : int
        Approximate number of queries.
    seed : int
        Random seed.
    """
    known = manifest.modalities
    parts = target_parts(target, known)
    # a store with one modality has no other to draw from
    sources = tuple(m for m in known if m not in parts) or known
    per_source = -(-count // len(sources))
    drawn = [vectors.draw(m, per_source, seed + i) for i, m in enumerate(sources)]
    ids = np.concatenate([ids for ids, _ in drawn])
    # Shuffled, so that both halves have queries of every modality.
    order = np.random.default_rng(seed).permutation(len(ids))
    ids, query_vectors = ids[order], np.concatenate([v for _, v in drawn])[order]
    around = min(exclusion_clips(manifest.contract.clip_seconds), manifest.rows // 20)
    first, last = ids - around, ids + around
    last[1::2] = first[1::2] - 1
    return Queries(query_vectors, first, last, sources)


def exclusion_clips(clip_seconds: float) -> int:
    """Clips on either side of its own clip that a query excludes: twelve hours.

    Parameters
    ----------
    clip_seconds : float
        Length of a clip in seconds, from the store's contract.
    """
    return round(_EXCLUSION_HOURS * 3600 / clip_seconds)


def calibrate(
    vectors: Vectors,
    manifest: Manifest,
    entry: IndexEntry,
    index: VectorIndex,
    goal: float,
    queries: Queries,
) -> tuple[tuple[SearchSetting, ...], Recall] | None:
    """Choose the search settings of an index and measure its recall.

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
    goal : float
        The recall@10 to reach, 0 to 1.
    queries : Queries
        Queries for calibration and for measurement.

    Returns
    -------
    settings : tuple of SearchSetting
        Settings by descending share of allowed clips, down to the share at which exact search
        costs less or the index does not reach the goal.
    recall : Recall
        Recall at share 1 of the queries that did not choose the settings. The function returns
        None instead of both if there are too few queries or the goal is not reached.
    """
    if len(queries) < FEWEST:
        return None
    target = entry.target
    newer = [s.id for s in manifest.segments if s.id not in entry.segments]
    uncovered = np.concatenate([*(vectors.having(name, target) for name in newer), _NONE])
    chosen: list[SearchSetting] = []
    measured: Recall | None = None
    half = len(queries) // 2
    for share in SHARES:
        selection = _selection(manifest, share)
        truth = _truth(vectors, manifest, target, queries, selection)
        trial = _Trial(index, queries, truth, uncovered, selection)
        # a stricter filter needs at least the parameters of the larger share
        at_least = chosen[-1].parameters if chosen else None
        setting, cost = trial.choose(share, goal, slice(0, half), at_least)
        if setting is None:
            break
        if share < 1:
            # not timed: on a busy machine that would choose by chance
            if cost > RERANK_COST * share * manifest.rows:
                break
        else:
            hits = trial.hits(setting.parameters, setting.depth, slice(half, None))
            at_1, at_10 = hits[:, 0], hits.mean(axis=1)
            measured = Recall(
                goal,
                _rounded(wilson(float(at_1.mean()), len(at_1))),
                _rounded(clustered(at_10, hits.shape[1])),
                len(at_10),
                index.rows + len(uncovered),
            )
        chosen.append(setting)
    return (tuple(chosen), measured) if measured is not None else None


class _Trial:
    """An index, with queries and their exact results."""

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
        selection.selector()  # creates the bitmap, which the selections of all queries share

    def choose(
        self, share: float, goal: float, part: slice, at_least: Parameters | None
    ) -> tuple[SearchSetting | None, float]:
        """Return the cheapest setting that reaches the goal and its cost; None if none does.

        A wider search with fewer candidates may be cheaper than a narrower one with more.
        """
        best, lowest_cost = None, float("inf")
        for trial in self._index.trials(at_least):
            if trial.cost >= lowest_cost:
                break
            ids = self._ids(trial.parameters, trial.depths[-1], part)
            for depth in trial.depths:
                cost = trial.cost + RERANK_COST * depth
                hits = self._hits(ids[:, :depth], part)
                if len(hits) and hits.mean() >= goal + _MARGIN * (1 - goal):
                    if cost < lowest_cost:
                        best, lowest_cost = SearchSetting(share, depth, trial.parameters), cost
                    break
        return best, lowest_cost

    def hits(self, parameters: Parameters, depth: int, part: slice) -> NDArray[np.bool_]:
        """Mask of the exact results that are among the candidates, bool [q, 10]."""
        return self._hits(self._ids(parameters, depth, part), part)

    def _hits(self, ids: NDArray[np.int64], part: slice) -> NDArray[np.bool_]:
        hits = [
            np.isin(truth, candidate_ids) | np.isin(truth, self._uncovered)
            for candidate_ids, truth in zip(ids, self._truth[part], strict=True)
            if len(truth) == K
        ]
        return np.array(hits, bool).reshape(-1, K)

    def _ids(self, parameters: Parameters, depth: int, part: slice) -> NDArray[np.int64]:
        queries = self._queries
        ids = [
            self._index.search(
                query[None], depth, parameters, self._selection.excluding(first, last).selector()
            )
            for query, first, last in zip(
                queries.vectors[part], queries.first[part], queries.last[part], strict=True
            )
        ]
        return np.concatenate(ids)


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
        Share of hits of each query.
    size : int
        Number of trials per query.
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


def _rounded(values: tuple[float, float, float]) -> tuple[float, float, float]:
    estimate, low, high = (round(min(1.0, v), 6) for v in values)
    return estimate, low, high
