"""The vectors of one snapshot: memory-mapped, found by clip id, averaged for ``others``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.schema import target_parts
from sleepfm_index.storage import vector_format
from sleepfm_index.storage.manifest import Manifest, as_ranges
from sleepfm_index.storage.readahead import Readahead
from sleepfm_index.storage.segments import CLIPS, map_vectors, read_table
from sleepfm_index.storage.snapshots import snapshot_guard
from sleepfm_index.storage.vector_format import Stored

_BLOCK: Final = 1 << 13
"""Rows read at once where a whole segment is: 16 MB as float32, which a cache holds."""


class Vectors:
    """Vectors of a snapshot; a file is mapped when first asked for, and never read whole.

    Parameters
    ----------
    store : Path
    manifest : Manifest
    """

    def __init__(self, store: Path, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._segments = sorted(manifest.segments, key=lambda s: s.first_clip_id)
        self._starts = [s.first_clip_id for s in self._segments]
        self._by_name = {s.id: s for s in self._segments}
        self._mapped = cache(self._map)
        self._ids = cache(self._read_ids)
        self._readahead = Readahead()

    def blocks(
        self,
        name: str,
        target: str,
        keep: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None = None,
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Clips of one segment that have the target, a block of rows at a time.

        Parameters
        ----------
        name : str
            The segment.
        target : str
            What is searched: a modality, or ``others_of_<modality>``.
        keep : callable, optional
            Says of clip ids which are wanted; the vectors of the others are not read.

        Yields
        ------
        clip_ids : ndarray of int64, shape [m]
        vectors : ndarray of float32, shape [m, 512]
        """
        mapped = [self._mapped(name, m) for m in self._parts(target)]
        clip_ids = self._ids(name)
        for start in range(0, self._by_name[name].rows, _BLOCK):
            rows = slice(start, start + _BLOCK)
            ids, parts = clip_ids.at(rows), [part[rows] for part in mapped]
            if keep is not None:
                wanted = keep(ids)
                if not wanted.any():
                    continue
                if not wanted.all():
                    ids, parts = ids[wanted], [part[wanted] for part in parts]
            vectors, present = _combine(parts)
            yield (ids, vectors) if present.all() else (ids[present], vectors[present])

    def having(self, name: str, target: str) -> NDArray[np.int64]:
        """Return the ids of the clips of one segment that have the target.

        Parameters
        ----------
        name : str
            The segment.
        target : str
            What is searched: a modality, or ``others_of_<modality>``.
        """
        rows = range(0, self._by_name[name].rows, _BLOCK)
        mapped = [self._mapped(name, m) for m in self._parts(target)]
        there = [
            np.logical_or.reduce([vector_format.present(part[at : at + _BLOCK]) for part in mapped])
            for at in rows
        ]
        return self._ids(name).of_rows(np.flatnonzero(np.concatenate(there)))

    def stored(
        self, clip_ids: NDArray[np.int64], modality: str
    ) -> Iterator[tuple[NDArray[np.int64], Stored]]:
        """Return the vectors of clips where they lie in mapped files, run by run; nothing is read.

        Parameters
        ----------
        clip_ids : ndarray of int64, shape [n]
            Clip ids, deleted ones too; all of them have the modality.
        modality : str
            Name of the modality.

        Yields
        ------
        clip_ids : ndarray of int64, shape [m]
        rows : ndarray of float16, shape [m, 512]
            Contiguous; neighbours in one file.

        Raises
        ------
        QueryError
            If a clip was never in the snapshot.
        FormatError
            If a clip lies in a segment without the modality.
        """
        where = np.searchsorted(self._starts, clip_ids, side="right") - 1
        for chosen in np.split(np.arange(len(clip_ids)), np.flatnonzero(np.diff(where)) + 1):
            if not len(chosen):
                continue
            at = int(where[chosen[0]])
            rows = self._rows(at, clip_ids[chosen])
            mapped = self._mapped(self._segments[at].id, modality)
            if not mapped.flags.c_contiguous:  # zero rows without a file
                raise FormatError(f"no clip of segment {self._segments[at].id} has {modality}")
            for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
                first = int(rows[run[0]])
                yield clip_ids[chosen[run]], mapped[first : first + len(run)]

    def known_ids(self, *, deleted: bool = False) -> NDArray[np.bool_]:
        """Return, for every clip id of the store, whether it is a clip.

        Parameters
        ----------
        deleted : bool
            Whether deleted clips count that have not been compacted away.
        """
        known = np.zeros(self._manifest.stored_ids, bool)
        for segment in self._segments:
            for first, last in self._ids(segment.id).runs():
                known[first : last + 1] = True
        for first, last in () if deleted else self._manifest.deleted:
            known[first : last + 1] = False
        return known

    def draw(
        self, target: str, count: int, seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Clips drawn at random over the whole snapshot, those that have the target.

        Every clip has the same chance, whichever segment it lies in.

        Parameters
        ----------
        target : str
            What is searched: a modality, or ``others_of_<modality>``.
        count : int
            Number of draws.
        seed : int
            Random seed.

        Returns
        -------
        clip_ids : ndarray of int64, shape [m], ascending
            At most ``count``; fewer where clips lack the target or were drawn twice.
        vectors : ndarray of float32, shape [m, 512]
        """
        total = sum(s.rows for s in self._segments)
        wanted = count
        while True:
            ids = self._drawn(target, wanted, total, seed)
            if wanted >= total or len(ids) >= 0.9 * count:
                break
            # Few clips have the target: as many more are drawn as bring enough that have it.
            wanted = min(total, int(1.1 * wanted * count / max(1, len(ids))) + count)
        if len(ids) > count:
            kept = np.random.default_rng(seed).choice(len(ids), count, replace=False)
            ids = ids[np.sort(kept)]
        return ids, self.of(ids, target)[0]

    def _drawn(self, target: str, count: int, total: int, seed: int) -> NDArray[np.int64]:
        ends = np.cumsum([s.rows for s in self._segments])
        rng = np.random.default_rng(seed)
        rows = np.arange(total) if count >= total else np.unique(rng.integers(0, total, count))
        where = np.searchsorted(ends, rows, side="right")
        found = [np.empty(0, np.int64)]
        for at in np.unique(where):
            segment = self._segments[at]
            own = rows[where == at] - (ends[at] - segment.rows)
            mapped = [self._mapped(segment.id, m) for m in self._parts(target)]
            for start in range(0, len(own), _BLOCK):
                some = own[start : start + _BLOCK]
                there = np.logical_or.reduce([vector_format.present(part[some]) for part in mapped])
                found.append(self._ids(segment.id).of_rows(some[there]))
        ids = np.concatenate(found)
        return ids[self._manifest.live(ids)]

    def of(
        self, clip_ids: NDArray[np.int64], target: str, *, ahead: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Vectors of the given clips in the given order.

        Parameters
        ----------
        clip_ids : ndarray of int64, shape [n]
            Clip ids.
        target : str
            What is searched: a modality, or ``others_of_<modality>``.
        ahead : bool
            Ask the system for all of them before the first is read, unless the last reads did not
            touch the disk (:mod:`.readahead`).

        Returns
        -------
        vectors : ndarray of float32, shape [n, 512]
            Zero rows for clips that lack the target.
        present : ndarray of bool, shape [n]

        Raises
        ------
        QueryError
            If a clip was deleted or never in the snapshot.
        """
        live = self._manifest.live(clip_ids)
        if not live.all():
            raise QueryError(f"no clip {clip_ids[~live][0]} in this store; it was deleted")
        names = self._parts(target)
        parts = [np.zeros((len(clip_ids), EMBEDDING_DIM), vector_format.STORED) for _ in names]
        where = np.searchsorted(self._starts, clip_ids, side="right") - 1
        places = []
        ask = ahead and self._readahead.asking
        before = self._readahead.begin() if ahead else None
        width = vector_format.ROW_BYTES
        for at in np.unique(where).tolist():
            chosen = np.flatnonzero(where == at)
            rows = self._rows(at, clip_ids[chosen])
            for part, modality in zip(parts, names, strict=True):
                mapped = self._mapped(self._segments[at].id, modality)
                places.append((part, chosen, mapped, rows))
                if ask and mapped.flags.c_contiguous:  # it is not where there is no file
                    self._readahead.ask(mapped, rows * width, (rows + 1) * width)
        for part, chosen, mapped, rows in places:
            part[chosen] = mapped[rows]
        self._readahead.done(before)
        return _combine(parts)

    def _rows(self, at: int, clip_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = self._ids(self._segments[at].id).rows(clip_ids) if at >= 0 else None
        if rows is None:
            raise QueryError(f"no clip {clip_ids[0]} in this store")
        return rows

    def _parts(self, target: str) -> tuple[str, ...]:
        return target_parts(target, self._manifest.modalities)

    def _map(self, name: str, modality: str) -> Stored:
        with snapshot_guard(self._store, self._manifest):
            return map_vectors(self._store, self._by_name[name], modality)

    def _read_ids(self, name: str) -> ClipIds:
        entry = self._by_name[name]
        if entry.rows == entry.last_clip_id - entry.first_clip_id + 1:
            return ClipIds.of_runs([(entry.first_clip_id, entry.last_clip_id)])
        with snapshot_guard(self._store, self._manifest):
            table = read_table(self._store, entry, CLIPS, ["clip_id"])
        return ClipIds.of_runs(as_ranges(table["clip_id"].to_numpy()))


@dataclass(frozen=True)
class ClipIds:
    """The clip ids of a segment, as runs without a hole: a few numbers, however long it is.

    Parameters
    ----------
    first : ndarray of int64, shape [r]
        First clip id of each run, ascending.
    row : ndarray of int64, shape [r + 1]
        Row at which each run starts, then the number of rows.
    """

    first: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def of_runs(cls, runs: list[tuple[int, int]]) -> ClipIds:
        """Select (first, last) runs, both inclusive.

        Parameters
        ----------
        runs : list of (first, last)
            First and last clip id of each run.
        """
        first, last = np.array(runs, np.int64).reshape(-1, 2).T
        return cls(first, np.r_[0, np.cumsum(last - first + 1)])

    def at(self, rows: slice) -> NDArray[np.int64]:
        """Clip ids of a slice of rows.

        Parameters
        ----------
        rows : slice
            Row numbers.
        """
        start, stop, _ = rows.indices(int(self.row[-1]))
        if len(self.first) == 1:
            return np.arange(self.first[0] + start, self.first[0] + stop, dtype=np.int64)
        return self.of_rows(np.arange(start, stop, dtype=np.int64))

    def of_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Clip ids of some rows.

        Parameters
        ----------
        rows : ndarray of int64, shape [n]
            Row numbers.
        """
        run = np.searchsorted(self.row, rows, side="right") - 1
        ids: NDArray[np.int64] = self.first[run] + rows - self.row[run]
        return ids

    def runs(self) -> list[tuple[int, int]]:
        """First and last clip id of each run, both included."""
        last = self.first + np.diff(self.row) - 1
        return list(zip(self.first.tolist(), last.tolist(), strict=True))

    def rows(self, clip_ids: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Rows of clip ids; None if one is not among them.

        Parameters
        ----------
        clip_ids : ndarray of int64, shape [n]
            Clip ids.
        """
        if len(self.first) == 1:
            rows: NDArray[np.int64] = clip_ids - self.first[0]
            within = not len(rows) or (rows.min() >= 0 and rows.max() < self.row[-1])
            return rows if within else None
        run = np.searchsorted(self.first, clip_ids, side="right") - 1
        rows = self.row[run] + clip_ids - self.first[run]
        known = bool(np.all((run >= 0) & (rows < self.row[run + 1])))
        return rows if known else None


def _combine(
    parts: list[Stored],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean of the parts that are there (a zero row is not), not renormalised."""
    total, present = vector_format.widen(parts[0]), vector_format.present(parts[0])
    if len(parts) == 1:
        return total, present
    count = present.astype(np.float32)
    for part in parts[1:]:
        there = vector_format.present(part)
        total += vector_format.widen(part)
        count += there
        present = present | there
    if np.all(count == len(parts)):
        total *= np.float32(1 / len(parts))
    else:
        total /= np.maximum(count, 1.0)[:, None]
    return total, present
