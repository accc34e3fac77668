"""How far an index must be searched, and what it then finds: measured across modalities.

A query of the index's own modality finds its neighbours far more easily than one of another, so
only others are asked. Every second one leaves out the clips around its own, as a query by clip
does, and the rest leave out nothing, as with ``--exclude none``. Half of the queries choose how
the index is searched; the other half, which had no say, measure it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import Modality
from sleepfm_index.schema import target_parts
from sleepfm_index.search.exact import candidates, rank
from sleepfm_index.search.ivf import InvertedFile
from sleepfm_index.search.selection import Selection
from sleepfm_index.storage.manifest import IndexEntry, Manifest, Probing, Recall
from sleepfm_index.storage.vectors import Vectors

SHARES: Final = (1.0, 0.3, 0.1, 0.03)
"""Shares of the clips under which an index is tried; a filter takes the next smaller one."""
DEPTHS: Final = (20, 30, 50, 70, 100, 150, 200, 300, 400)
K: Final = 10
FEWEST: Final = 8
"""With fewer queries nothing is measured, and search is exact."""
_AROUND: Final = 1440
"""Clips on either side of its own that a query leaves out, twelve hours; in a small store, a
twentieth of its clips."""
_RUN: Final = 256
"""A filter is tried by runs of as many clips, because cohorts are filtered by night."""
_A_CANDIDATE: Final = 800
"""To compare a candidate from its vector costs as much as to read so many codes: 1 to 3 us of one
thread, as the settings of benchmarks/search.py show."""
_TIMED: Final = 20
_SELECTED: Final = 20_000
_MARGIN: Final = 0.25
"""Of what is asked, the queries that choose miss a quarter less, since chance favours a choice."""
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
    modalities : tuple of Modality
        What they are drawn from, none of them a part of the target.
    """

    vectors: NDArray[np.float32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    modalities: tuple[Modality, ...]

    def __len__(self) -> int:
        return len(self.vectors)


def draw_queries(
    vectors: Vectors, manifest: Manifest, target: str, count: int, seed: int
) -> Queries:
    """Draw queries over the whole snapshot, from the modalities that are no part of the target."""
    sources = tuple(m for m in Modality if m not in target_parts(target))
    drawn = [
        vectors.draw(str(m), -(-count // len(sources)), seed + at) for at, m in enumerate(sources)
    ]
    ids = np.concatenate([ids for ids, _ in drawn])
    # Mixed, so that both halves are of every modality.
    order = np.random.default_rng(seed).permutation(len(ids))
    ids, found = ids[order], np.concatenate([v for _, v in drawn])[order]
    around = min(_AROUND, manifest.rows // 20)
    first, last = ids - around, ids + around
    last[1::2] = first[1::2] - 1
    return Queries(found, first, last, sources)


def calibrate(
    vectors: Vectors,
    manifest: Manifest,
    entry: IndexEntry,
    index: InvertedFile,
    asked: float,
    queries: Queries,
) -> tuple[tuple[Probing, ...], Recall] | None:
    """Choose how an index is searched and measure what it finds.

    Clips that the index does not cover are searched exactly beside it, so they count as found.

    Parameters
    ----------
    entry : IndexEntry
    index : InvertedFile
        The open index of the entry.
    asked : float
        The recall@10 to be reached.

    Returns
    -------
    probing : tuple of Probing
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
    beside = np.concatenate([*(vectors.having(name, target) for name in newer), _NONE])
    chosen: list[Probing] = []
    measured: Recall | None = None
    row_seconds = _seconds_a_row(vectors, manifest, target)
    half = len(queries) // 2
    for share in SHARES:
        selection = _selection(manifest, share)
        truth = _truth(vectors, manifest, target, queries, selection)
        trial = _Trial(index, queries, truth, beside, selection)
        # under a filter no fewer lists will do
        fewest = chosen[-1].probes if chosen else 1
        probing = trial.choose(share, asked, slice(0, half), fewest)
        if probing is None:
            break
        if share < 1:
            exact = row_seconds * share * manifest.rows
            if trial.seconds(probing) > exact:
                break
        else:
            found = trial.found(probing.probes, probing.depth, slice(half, None))
            at_1, at_10 = found[:, 0], found.mean(axis=1)
            measured = Recall(
                asked,
                _rounded(wilson(float(at_1.mean()), len(at_1))),
                _rounded(clustered(at_10, found.shape[1])),
                len(at_10),
                index.index.ntotal + len(beside),
            )
        chosen.append(probing)
    return (tuple(chosen), measured) if measured is not None else None


class _Trial:
    """An index and the exact answers of some queries."""

    def __init__(
        self,
        index: InvertedFile,
        queries: Queries,
        truth: list[NDArray[np.int64]],
        beside: NDArray[np.int64],
        selection: Selection,
    ) -> None:
        self._index = index
        self._queries = queries
        self._truth = truth
        self._beside = beside
        self._selection = selection
        selection.selector()  # made once: what is made of it for a query shares its bits

    def choose(self, share: float, asked: float, part: slice, fewest: int) -> Probing | None:
        """Give lists and candidates that reach the recall with least to read; None if half do not.

        More lists with fewer candidates may be less than fewer lists with more.
        """
        lists = self._index.structure.kind.lists
        best, least = None, np.inf
        for probes in _ladder(lists, fewest):
            scanned = probes / lists * self._index.index.ntotal
            if scanned >= least:
                break
            ids = self._ids(probes, DEPTHS[-1], part)
            for depth in DEPTHS:
                cost = scanned + _A_CANDIDATE * depth
                found = self._hits(ids[:, :depth], part)
                if len(found) and found.mean() >= asked + _MARGIN * (1 - asked):
                    if cost < least:
                        best, least = Probing(share, probes, depth), cost
                    break
        return best

    def found(self, probes: int, depth: int, part: slice) -> NDArray[np.bool_]:
        """Which of the exact answers are among the candidates, bool [q, 10]."""
        return self._hits(self._ids(probes, depth, part), part)

    def seconds(self, probing: Probing) -> float:
        """Seconds that one query takes."""
        return _best(lambda: self._ids(probing.probes, probing.depth, slice(0, _TIMED))) / _TIMED

    def _hits(self, ids: NDArray[np.int64], part: slice) -> NDArray[np.bool_]:
        there = [
            np.isin(truth, found) | np.isin(truth, self._beside)
            for found, truth in zip(ids, self._truth[part], strict=True)
            if len(truth) == K
        ]
        return np.array(there, bool).reshape(-1, K)

    def _ids(self, probes: int, depth: int, part: slice) -> NDArray[np.int64]:
        asked = self._queries
        found = [
            self._index.search(
                query[None], depth, probes, self._selection.but(first, last).selector()
            )
            for query, first, last in zip(
                asked.vectors[part], asked.first[part], asked.last[part], strict=True
            )
        ]
        return np.concatenate(found)


def wilson(share: float, n: float) -> tuple[float, float, float]:
    """Give a share of n trials with its 95 % interval (Wilson 1927)."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return share, float(max(0.0, centre - half)), float(min(1.0, centre + half))


def clustered(shares: NDArray[np.float64], size: int) -> tuple[float, float, float]:
    """Give the mean of shares of ``size`` trials each, with its interval.

    Trials of one query hang together, so they count as fewer, by the variance between queries over
    that of independent trials (the design effect of Kish 1965).
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


def _seconds_a_row(vectors: Vectors, manifest: Manifest, target: str) -> float:
    """Seconds that exact search takes a row, where the rows were selected."""
    ids, _ = vectors.draw(target, min(_SELECTED, manifest.rows), 0)
    if not len(ids):
        return 0.0
    query = np.ones(512, np.float32)
    return _best(lambda: vectors.of(ids, target)[0] @ query) / len(ids)


def _best(work: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _ladder(lists: int, fewest: int) -> list[int]:
    """Give numbers of lists to try, each 1.2 times the one before, up to half of all."""
    steps = sorted({round(2 ** (at / 4)) for at in range(4 * 20)})
    return [step for step in steps if fewest <= step <= lists // 2] or [max(1, lists // 2)]


def _rounded(values: tuple[float, float, float]) -> tuple[float, float, float]:
    estimate, low, high = (round(min(1.0, v), 6) for v in values)
    return estimate, low, high
