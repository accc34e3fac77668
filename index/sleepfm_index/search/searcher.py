"""Search in one snapshot: exact where that is cheap or nothing else is sure, else by the index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.search.exact import Hits, candidates, exact_scores, margin, rank
from sleepfm_index.search.index_format import is_searchable
from sleepfm_index.search.ivf import InvertedFile
from sleepfm_index.search.selection import Selection
from sleepfm_index.storage.manifest import IndexEntry, Manifest, Probing, SegmentEntry
from sleepfm_index.storage.vectors import Vectors

EXACT: Final = "exact"
_GATHERED: Final = 1 << 13
_TOGETHER: Final = 64
_CALIBRATED: Final = 10
"""How many answers an index was calibrated for."""
_FEW: Final = 0.25
"""Where a smaller share of the clips is allowed, they are read one by one."""


@dataclass(frozen=True)
class Found:
    """What a search found: a pair of (clip_ids, scores) a query, and how surely."""

    hits: list[Hits]
    how: str


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
        open_index: Callable[[IndexEntry], InvertedFile],
    ) -> None:
        self._manifest = manifest
        self._vectors = vectors
        self._open = open_index
        self._entries = {i.target: i for i in manifest.indexes if i.probing}

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

        Returns
        -------
        Found
            Best first, equal scores in order of clip id. Scores are computed in float64 from the
            stored vectors, whichever way the clips were found. A query gets fewer than ``k`` only
            where no more clips may be found.
        """
        if not np.isfinite(queries).all():
            raise QueryError("a query holds numbers that are not finite")
        entry = None if exact else self._entries.get(target)
        if entry is not None and not is_searchable(entry.kind):
            raise FormatError(
                f"the index of {target} is of a kind that is not known here, {entry.kind}; "
                "run `sleepfm-index reindex`, or search exactly"
            )
        share = selection.count / max(1, selection.rows)
        probing = _probing(entry, share) if entry is not None else None
        if entry is None or probing is None:
            return Found(self._exact(target, queries, k, selection), EXACT)
        return Found(self._approximate(entry, probing, queries, k, selection), how(entry))

    def _exact(
        self, target: str, queries: NDArray[np.float32], k: int, selection: Selection
    ) -> list[Hits]:
        if selection.allowed is not None and selection.count < _FEW * selection.rows:
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
        probing: Probing,
        queries: NDArray[np.float32],
        k: int,
        selection: Selection,
    ) -> list[Hits]:
        index = self._open(entry)
        read = self._read(entry.target)
        covered = set(entry.segments)
        newer = [s for s in self._manifest.segments if s.id not in covered]
        beside = (
            candidates(self._blocks(entry.target, selection, newer), queries, k, read)
            if newer
            else None
        )
        selector = selection.selector()
        more = max(1.0, k / _CALIBRATED)
        probes, depth = round(probing.probes * more**0.5), max(k, round(probing.depth * more))
        hits: list[Hits] = [_NOTHING] * len(queries)
        waiting = np.arange(len(queries))
        while len(waiting):
            ids = index.search(queries[waiting], depth, probes, selector)
            if beside is not None:
                ids = _joined(ids, [beside[at] for at in waiting])
            for at, hit in zip(
                waiting, self._ranked(entry.target, queries[waiting], ids, k), strict=True
            ):
                hits[at] = hit
            if probes >= index.structure.kind.lists:
                break
            # A filter may leave the lists nearest to a query empty; then more are read.
            waiting = np.array([at for at in waiting if len(hits[at][0]) < k], np.int64)
            probes *= 4
        return hits

    def _ranked(
        self, target: str, queries: NDArray[np.float32], ids: NDArray[np.int64], k: int
    ) -> list[Hits]:
        """Order the candidates of each query, int64 [q, m] with -1 for none, by their vectors."""
        read = self._read(target, ahead=len(queries) == 1)
        if len(queries) == 1:
            with _of_the_store():
                return [rank(read, queries[0], ids[0][ids[0] >= 0], k)]
        hits: list[Hits] = []
        for start in range(0, len(queries), _TOGETHER):
            some, part = queries[start : start + _TOGETHER], ids[start : start + _TOGETHER]
            there = part >= 0
            distinct, at = np.unique(part[there], return_inverse=True)
            scores = np.full(part.shape, -np.inf)
            if len(distinct):
                with _of_the_store():
                    vectors = read(distinct)
                near = np.full(part.shape, -np.inf, np.float32)
                near[there] = (some @ vectors.T)[np.nonzero(there)[0], at]
                # float64 for those that float32 does not rule out
                last = part.shape[1] - min(k, part.shape[1])
                least = np.take(np.partition(near, last, axis=1), last, axis=1) - margin(some)
                close = there & (near >= least[:, None])
                rows = vectors[at[close[there]]]
                scores[close] = exact_scores(some[np.nonzero(close)[0]], rows)
                there = close
            order = np.lexsort((part, -scores), axis=1)[:, :k]
            for row, best in enumerate(order):
                best = best[there[row, best]]
                hits.append((part[row, best], scores[row, best]))
        return hits

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


def how(entry: IndexEntry) -> str:
    """How surely an index finds the nearest, in words."""
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


def _probing(entry: IndexEntry, share: float) -> Probing | None:
    """Give the row of the next smaller share that was calibrated; None below the smallest."""
    fitting = [row for row in entry.probing if row.share <= share]
    return max(fitting, key=lambda row: row.share) if fitting else None


def _joined(ids: NDArray[np.int64], beside: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    wide = np.full((len(ids), max(map(len, beside), default=0)), -1, np.int64)
    for row, more in zip(wide, beside, strict=True):
        row[: len(more)] = more
    return np.hstack([ids, wide])
