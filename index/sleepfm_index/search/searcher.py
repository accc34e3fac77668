"""Search in one snapshot: exact where that is cheap or nothing else is sure, else by the index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.search.exact import (
    Hits,
    candidates,
    rank,
    ranked,
    together,
)
from sleepfm_index.search.kinds import EXACT, is_exact
from sleepfm_index.search.protocol import ExhaustiveIndex, VectorIndex
from sleepfm_index.search.selection import Selection
from sleepfm_index.storage.manifest import IndexEntry, Manifest, SearchSetting, SegmentEntry
from sleepfm_index.storage.vectors import Vectors

_GATHERED: Final = 1 << 13
_SCANNED: Final = 4
"""Up to as many queries are compared one by one; more are faster as one product."""
_CALIBRATED: Final = 10
"""Number of results for which indexes are calibrated."""
_SELECTIVE: Final = 0.25
"""Share of allowed clips below which only these are read."""


@dataclass(frozen=True)
class Found:
    """Result of a search.

    Parameters
    ----------
    hits : list of (clip_ids, scores)
        One pair per query.
    method : str
        ``exact``, or that the answer is approximate and what recall was measured.
    """

    hits: list[Hits]
    method: str


class Searcher:
    """Searches one snapshot.

    Parameters
    ----------
    manifest : Manifest
    vectors : Vectors
    open_index : callable
        Opens the index of an entry.
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

    def find(
        self,
        target: str,
        queries: NDArray[np.float32],
        k: int,
        selection: Selection,
        *,
        exact: bool = False,
    ) -> Found:
        """Find the ``k`` nearest clips that may be found.

        Parameters
        ----------
        target : str
            What is searched: a modality, or ``others_of_<modality>``.
        queries : ndarray of float32, shape [q, 512]
            Query vectors.
        k : int
            Number of clips to find per query.
        selection : Selection
            Which clips may be found.
        exact : bool
            Compare with every clip, whatever index there is.

        Returns
        -------
        Found
            Best first, equal scores in order of clip id. Scores are computed in float64 from the
            stored vectors, whichever way the clips were found. A query gets fewer than ``k`` only
            where no more clips may be found.
        """
        if not np.isfinite(queries).all():
            raise QueryError("the query contains NaN or infinity")
        if not queries.any(axis=1).all():
            raise QueryError("the query vector is all zeros, so it has no nearest clips")
        whole = self._exhaustive.get(target)
        if whole is not None:
            return Found(self._by_scan(whole, queries, k, selection), EXACT)
        entry = None if exact else self._entries.get(target)
        share = selection.count / max(1, selection.rows)
        setting = None if entry is None else _setting(entry, share)
        if entry is None or setting is None:
            return Found(self._exact(target, queries, k, selection), EXACT)
        return Found(self._approximate(entry, setting, queries, k, selection), method(entry))

    def _by_scan(
        self, entry: IndexEntry, queries: NDArray[np.float32], k: int, selection: Selection
    ) -> list[Hits]:
        """Exact search through FAISS, query by query; many are multiplied as a matrix instead."""
        if len(queries) > _SCANNED:
            return self._exact(entry.target, queries, k, selection)
        index, read = cast(ExhaustiveIndex, self._open(entry)), self._read(entry.target)
        newer = self._newer(entry)
        uncovered = (
            candidates(self._blocks(entry.target, selection, newer), queries, k, read)
            if newer
            else None
        )
        selector = selection.selector()
        hits: list[Hits] = []
        for at, query in enumerate(queries):
            ids = index.candidates(query, k, selector)
            if ids is None:
                hits += self._exact(entry.target, query[None], k, selection)
                continue
            if uncovered is not None:
                ids = np.concatenate([ids, uncovered[at]])
            with _of_the_store():
                hits.append(rank(read, query, ids, k))
        return hits

    def _newer(self, entry: IndexEntry) -> list[SegmentEntry]:
        covered = set(entry.segments)
        return [s for s in self._manifest.segments if s.id not in covered]

    def _exact(
        self, target: str, queries: NDArray[np.float32], k: int, selection: Selection
    ) -> list[Hits]:
        if selection.allowed is not None and selection.count < _SELECTIVE * selection.rows:
            blocks = self._selected(target, selection)
        else:
            blocks = self._blocks(target, selection, self._manifest.segments)
        near = candidates(blocks, queries, k, self._read(target))
        return [
            rank(self._read(target), query, ids, k)
            for query, ids in zip(queries, near, strict=True)
        ]

    def _approximate(
        self,
        entry: IndexEntry,
        setting: SearchSetting,
        queries: NDArray[np.float32],
        k: int,
        selection: Selection,
    ) -> list[Hits]:
        index = self._open(entry)
        read = self._read(entry.target)
        newer = self._newer(entry)
        uncovered = (
            candidates(self._blocks(entry.target, selection, newer), queries, k, read)
            if newer
            else None
        )
        selector = selection.selector()
        more = max(1.0, k / _CALIBRATED)
        parameters = index.for_more(setting.parameters, more)
        depth = max(k, round(min(setting.depth, index.rows) * more))
        hits: list[Hits] = [_NOTHING] * len(queries)
        waiting = np.arange(len(queries))
        while len(waiting):
            ids = index.search(queries[waiting], depth, parameters, selector)
            if uncovered is not None:
                ids = np.hstack([ids, together([uncovered[at] for at in waiting])])
            for at, hit in zip(
                waiting, self._ranked(entry.target, queries[waiting], ids, k), strict=True
            ):
                hits[at] = hit
            # A filter may leave out what lies nearest to a query; then it is searched further.
            waiting = np.array([at for at in waiting if len(hits[at][0]) < k], np.int64)
            wider = index.wider(parameters)
            if wider is None:
                break
            parameters = wider
        if len(waiting) and not index.complete:
            for at, hit in zip(
                waiting, self._exact(entry.target, queries[waiting], k, selection), strict=True
            ):
                hits[at] = hit
        return hits

    def _ranked(
        self, target: str, queries: NDArray[np.float32], ids: NDArray[np.int64], k: int
    ) -> list[Hits]:
        """Order the candidates of each query, int64 [q, m] with -1 for none, by their vectors."""
        read = self._read(target, ahead=len(queries) == 1)
        if len(queries) == 1:
            with _of_the_store():
                return [rank(read, queries[0], ids[0][ids[0] >= 0], k)]
        with _of_the_store():
            return ranked(read, queries, ids, k)

    def _read(
        self, target: str, *, ahead: bool = False
    ) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
        return lambda ids: self._vectors.of(ids, target, ahead=ahead)[0]

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
            some = ids[start : start + _GATHERED]
            vectors, present = self._vectors.of(some, target)
            yield some[present], vectors[present]


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


_NOTHING: Final[Hits] = (np.empty(0, np.int64), np.empty(0))


@contextmanager
def _of_the_store() -> Iterator[None]:
    try:
        yield
    except QueryError:
        raise FormatError(
            "the index names clips that are not in the store; run `sleepfm-index verify --repair`"
        ) from None


def _setting(entry: IndexEntry, share: float) -> SearchSetting | None:
    """Return the setting of the next smaller share that was calibrated; None below the smallest."""
    fitting = [row for row in entry.settings if row.share <= share]
    return max(fitting, key=lambda row: row.share) if fitting else None
