"""Search in one snapshot: exact if that is cheap or required, otherwise with an index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import isfinite
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.search.exact import (
    Hits,
    candidates,
    padded,
    rank,
    ranked,
)
from sleepfm_index.search.kinds import EXACT, is_exact
from sleepfm_index.search.protocol import ExhaustiveIndex, VectorIndex
from sleepfm_index.search.selection import Selection
from sleepfm_index.storage.manifest import IndexEntry, Manifest, SearchSetting, SegmentEntry
from sleepfm_index.storage.vectors import Vectors

_GATHERED: Final = 1 << 13
_SCANNED: Final = 4
"""Maximum number of queries scanned and ranked one by one; more are faster together."""
_CALIBRATED: Final = 10
"""Number of results for which indexes are calibrated."""
_RANKED: Final = 32
"""Queries whose candidates are ranked at once after exact search."""
_SELECTIVE: Final = 0.25
"""Share of allowed clips below which only these are read."""


@dataclass(frozen=True)
class Found:
    """Result of a search.

    Parameters
    ----------
    hits : list of (clip_ids, scores)
        Clip ids, int64 [m], and scores, float64 [m], per query, best first.
    method : str
        ``exact``, or a description of an approximate search with its measured recall.
    """

    hits: list[Hits]
    method: str


class Searcher:
    """Searches one snapshot.

    Parameters
    ----------
    manifest : Manifest
        The snapshot to search.
    vectors : Vectors
        Vectors of the snapshot.
    open_index : callable
        Function that opens the index of an entry of the manifest.
    """

    def __init__(
        self,
        manifest: Manifest,
        vectors: Vectors,
        open_index: Callable[[IndexEntry], VectorIndex],
    ) -> None:
        self._manifest = manifest
        self._vectors = vectors
        self._open = open_index
        self._entries = {i.target: i for i in manifest.indexes if i.settings}
        self._exhaustive = {i.target: i for i in manifest.indexes if is_exact(i.kind)}
        self._newer = cache(self._find_newer)

    def find(
        self,
        target: str,
        queries: NDArray[np.float32],
        k: int,
        selection: Selection,
        *,
        exact: bool = False,
    ) -> Found:
        """Find the ``k`` nearest of the selected clips.

        Parameters
        ----------
        target : str
            Search target: a modality, or ``others_of_<modality>``.
        queries : ndarray of float32, shape [q, 512]
            Query vectors.
        k : int
            Number of clips to find per query.
        selection : Selection
            Clips that may be found.
        exact : bool
            Whether to compare all clips even if there is an approximate index.

        Returns
        -------
        Found
            Clips by descending score, ties by ascending clip id. Scores are always computed in
            float64 from the stored vectors. A query has fewer than ``k`` results only if the
            selection has no more clips with the target.

        Raises
        ------
        QueryError
            If a query vector is zero or not finite.
        """
        queries = _checked(queries)
        exhaustive = self._exhaustive.get(target)
        if exhaustive is not None:
            return Found(self._by_scan(exhaustive, queries, k, selection), EXACT)
        entry = None if exact else self._entries.get(target)
        share = selection.count / max(1, selection.rows)
        setting = None if entry is None else _setting(entry, share)
        if entry is None or setting is None:
            return Found(self._exact(target, queries, k, selection), EXACT)
        return Found(self._approximate(entry, setting, queries, k, selection), method(entry))

    def _by_scan(
        self, entry: IndexEntry, queries: NDArray[np.float32], k: int, selection: Selection
    ) -> list[Hits]:
        """Exact search by FAISS, query by query; many queries use a matrix product instead."""
        if len(queries) > _SCANNED:
            return self._exact(entry.target, queries, k, selection)
        index, read = cast(ExhaustiveIndex, self._open(entry)), self._read_indexed(entry.target)
        newer = self._newer(entry.target)
        uncovered = (
            candidates(self._blocks(entry.target, selection, newer), queries, k, read)
            if newer
            else None
        )
        selector = selection.selector()
        hits: list[Hits] = []
        for row, query in enumerate(queries):
            ids = index.candidates(query, k, selector)
            if ids is None:
                hits += self._exact(entry.target, query[None], k, selection)
                continue
            if uncovered is not None:
                ids = np.concatenate([ids, uncovered[row]])
            hits.append(rank(read, query, ids, k))
        return hits

    def _find_newer(self, target: str) -> list[SegmentEntry]:
        """Return the segments that the index of a target does not cover."""
        (entry,) = (i for i in self._manifest.indexes if i.target == target)
        covered = set(entry.segments)
        return [s for s in self._manifest.segments if s.id not in covered]

    def _exact(
        self, target: str, queries: NDArray[np.float32], k: int, selection: Selection
    ) -> list[Hits]:
        if selection.allowed is not None and selection.count < _SELECTIVE * selection.rows:
            blocks = self._selected(target, selection)
        else:
            blocks = self._blocks(target, selection, self._manifest.segments)
        read = self._read(target)
        near = candidates(blocks, queries, k, read)
        if len(queries) <= _SCANNED:
            return [rank(read, query, ids, k) for query, ids in zip(queries, near, strict=True)]
        hits: list[Hits] = []
        # in blocks, because one query with many equal scores makes its whole block wide
        for start in range(0, len(queries), _RANKED):
            rows = slice(start, start + _RANKED)
            hits += ranked(read, queries[rows], padded(near[rows]), k)
        return hits

    def _approximate(
        self,
        entry: IndexEntry,
        setting: SearchSetting,
        queries: NDArray[np.float32],
        k: int,
        selection: Selection,
    ) -> list[Hits]:
        index = self._open(entry)
        newer = self._newer(entry.target)
        uncovered = (
            candidates(
                self._blocks(entry.target, selection, newer), queries, k, self._read(entry.target)
            )
            if newer
            else None
        )
        selector = selection.selector()
        factor = max(1.0, k / _CALIBRATED)
        parameters = index.scaled(setting.parameters, factor)
        depth = max(k, round(min(setting.depth, index.rows) * factor))
        hits: list[Hits] = [_NO_HITS] * len(queries)
        pending = list(range(len(queries)))
        while pending:
            some = queries if len(pending) == len(queries) else queries[pending]
            ids = index.search(some, depth, parameters, selector)
            if uncovered is not None:
                ids = np.hstack([ids, padded([uncovered[row] for row in pending])])
            for row, hit in zip(pending, self._ranked(entry.target, some, ids, k), strict=True):
                hits[row] = hit
            # A selection may exclude the clips nearest to a query; then the search is widened.
            pending = [row for row in pending if len(hits[row][0]) < k]
            wider = index.wider(parameters)
            if wider is None:
                break
            parameters = wider
        if pending and not index.complete:
            for row, hit in zip(
                pending, self._exact(entry.target, queries[pending], k, selection), strict=True
            ):
                hits[row] = hit
        return hits

    def _ranked(
        self, target: str, queries: NDArray[np.float32], ids: NDArray[np.int64], k: int
    ) -> list[Hits]:
        """Rank the candidates of each query, int64 [q, m], padded with -1, by float64 score."""
        read = self._read_indexed(target, ahead=len(queries) == 1)
        if len(queries) == 1:
            return [rank(read, queries[0], ids[0][ids[0] >= 0], k)]
        return ranked(read, queries, ids, k)

    def _read(self, target: str) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
        return lambda ids: self._vectors.read(ids, target)

    def _read_indexed(
        self, target: str, *, ahead: bool = False
    ) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
        """Return a function that reads the vectors of clips that an index has named."""

        def read(ids: NDArray[np.int64]) -> NDArray[np.float32]:
            try:
                return self._vectors.read(ids, target, ahead=ahead)
            except QueryError:
                raise FormatError(
                    "the index names clips that are not in the store; run "
                    "`sleepfm-index verify --repair`"
                ) from None

        return read

    def _blocks(
        self, target: str, selection: Selection, segments: Iterable[SegmentEntry]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for segment in segments:
            yield from self._vectors.blocks(segment.id, target, selection.keep)

    def _selected(
        self, target: str, selection: Selection
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        ids = selection.ids()
        for start in range(0, len(ids), _GATHERED):
            block = ids[start : start + _GATHERED]
            vectors, present = self._vectors.of(block, target)
            yield block[present], vectors[present]


def method(entry: IndexEntry) -> str:
    """Describe the recall of an index.

    Parameters
    ----------
    entry : IndexEntry
        Entry of the index in the manifest.
    """
    if entry.recall is None:
        return "approximate, recall not measured"
    return f"approximate, recall@10 {entry.recall.at_10[0]:.3f} measured"


def _checked(queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return queries as float32; refuse those that are not finite or have no direction."""
    if queries.dtype != np.float32:
        with np.errstate(over="ignore"):  # to infinity, which is refused
            queries = queries.astype(np.float32)
    # In float64, the squares of float32 numbers neither overflow nor underflow.
    squares = np.vecdot(queries, queries, dtype=np.float64).tolist()
    if not all(map(isfinite, squares)):
        raise QueryError("the query contains NaN or infinity")
    if not all(squares):
        raise QueryError("the query vector is all zeros, so it has no nearest clips")
    return queries


_NO_HITS: Final[Hits] = (np.empty(0, np.int64), np.empty(0))


def _setting(entry: IndexEntry, share: float) -> SearchSetting | None:
    """Return the setting for a share between two calibrated ones; None if it is below all.

    The smaller share needs the wider search, the larger one more candidates.
    """
    larger: SearchSetting | None = None
    for row in sorted(entry.settings, key=lambda row: -row.share):
        if row.share == share or (row.share < share and larger is None):
            return row
        if row.share < share and larger is not None:
            return replace(row, depth=max(row.depth, larger.depth))
        larger = row
    return None
