"""The vectors of one snapshot: memory-mapped, found by clip id, averaged for ``others``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM, Modality
from sleepfm_index.errors import QueryError
from sleepfm_index.schema import target_parts
from sleepfm_index.storage.manifest import Manifest, as_ranges
from sleepfm_index.storage.readahead import prefetch
from sleepfm_index.storage.segments import CLIPS, map_vectors, read_table
from sleepfm_index.storage.snapshots import held

_BLOCK: Final = 1 << 13
"""Rows read at once where a whole segment is: 16 MB as float32, which a cache holds."""
_ROW_BYTES: Final = 2 * EMBEDDING_DIM
_IN_MEMORY_S: Final = 6e-6
"""A vector that took longer, asking included, was not in the page cache: there it takes two."""
_TRUSTED: Final = 16
"""So many times in a row all were in the page cache; then they are read without asking."""
_WIDENED: Final = 512
"""Rows widened at once, so that the passes over them stay in the second cache."""
_SIGN_AND_BITS: Final = np.int32(~0x70000000)
_REBASE: Final = np.float32(2.0**112)


class Vectors:
    """Vectors of a snapshot; a file is mapped when first asked for, and never read whole."""

    def __init__(self, store: Path, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._segments = sorted(manifest.segments, key=lambda s: s.first_clip_id)
        self._starts = [s.first_clip_id for s in self._segments]
        self._by_name = {s.id: s for s in self._segments}
        self._mapped = cache(self._map)
        self._ids = cache(self._read_ids)
        self._at_once = 0

    def blocks(
        self,
        name: str,
        target: str,
        keep: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None = None,
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Clips of one segment that have the target, a block of rows at a time.

        Parameters
        ----------
        keep : callable, optional
            Says of clip ids which are wanted; the vectors of the others are not read.

        Yields
        ------
        clip_ids : ndarray of int64, shape [m]
        vectors : ndarray of float32, shape [m, 512]
        """
        mapped = [self._mapped(name, m) for m in target_parts(target)]
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
        """Ids of the clips of one segment that have the target."""
        rows = range(0, self._by_name[name].rows, _BLOCK)
        mapped = [self._mapped(name, m) for m in target_parts(target)]
        there = [
            np.logical_or.reduce([_there(part[at : at + _BLOCK]) for part in mapped]) for at in rows
        ]
        return self._ids(name).of_rows(np.flatnonzero(np.concatenate(there)))

    def there(self) -> NDArray[np.bool_]:
        """For every clip id of the store, whether it is a clip that is not deleted."""
        known = np.zeros(self._manifest.stored_ids, bool)
        for segment in self._segments:
            for first, last in self._ids(segment.id).runs():
                known[first : last + 1] = True
        for first, last in self._manifest.deleted:
            known[first : last + 1] = False
        return known

    def draw(
        self, target: str, count: int, seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Clips drawn at random over the whole snapshot, those that have the target.

        Every clip has the same chance, whichever segment it lies in.

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
            mapped = [self._mapped(segment.id, m) for m in target_parts(target)]
            for start in range(0, len(own), _BLOCK):
                some = own[start : start + _BLOCK]
                there = np.logical_or.reduce([_there(part[some]) for part in mapped])
                found.append(self._ids(segment.id).of_rows(some[there]))
        ids = np.concatenate(found)
        return ids[self._manifest.live(ids)]

    def of(
        self, clip_ids: NDArray[np.int64], target: str, *, ahead: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Vectors of the given clips in the given order.

        Parameters
        ----------
        ahead : bool
            Ask the system for all of them before the first is read, unless the last were all in
            memory.

        Returns
        -------
        vectors : ndarray of float32, shape [n, 512]
            Zero rows for clips that lack the target.
        present : ndarray of bool, shape [n]

        Raises
        ------
        QueryError
            If a clip id is not in the snapshot.
        """
        names = target_parts(target)
        parts = [np.zeros((len(clip_ids), EMBEDDING_DIM), np.float16) for _ in names]
        where = np.searchsorted(self._starts, clip_ids, side="right") - 1
        places = []
        ask = ahead and self._at_once < _TRUSTED
        start = time.perf_counter()
        for at in np.unique(where).tolist():
            chosen = np.flatnonzero(where == at)
            rows = self._rows(at, clip_ids[chosen])
            for part, modality in zip(parts, names, strict=True):
                mapped = self._mapped(self._segments[at].id, modality)
                places.append((part, chosen, mapped, rows))
                if ask and mapped.flags.c_contiguous:  # it is not where there is no file
                    prefetch(mapped, rows * _ROW_BYTES, (rows + 1) * _ROW_BYTES)
        for part, chosen, mapped, rows in places:
            part[chosen] = mapped[rows]
        if ahead:
            waited = time.perf_counter() - start > _IN_MEMORY_S * (len(clip_ids) + 20)
            self._at_once = 0 if waited else self._at_once + 1
        return _combine(parts)

    def _rows(self, at: int, clip_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = self._ids(self._segments[at].id).rows(clip_ids) if at >= 0 else None
        if rows is None:
            raise QueryError(f"no clip {clip_ids[0]} in this store")
        return rows

    def _map(self, name: str, modality: Modality) -> NDArray[np.float16]:
        with held(self._store, self._manifest):
            return map_vectors(self._store, self._by_name[name], modality)

    def _read_ids(self, name: str) -> ClipIds:
        entry = self._by_name[name]
        if entry.rows == entry.last_clip_id - entry.first_clip_id + 1:
            return ClipIds.of_runs([(entry.first_clip_id, entry.last_clip_id)])
        with held(self._store, self._manifest):
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
        """Take (first, last) runs, both included."""
        first, last = np.array(runs, np.int64).reshape(-1, 2).T
        return cls(first, np.r_[0, np.cumsum(last - first + 1)])

    def at(self, rows: slice) -> NDArray[np.int64]:
        """Clip ids of a slice of rows."""
        start, stop, _ = rows.indices(int(self.row[-1]))
        if len(self.first) == 1:
            return np.arange(self.first[0] + start, self.first[0] + stop, dtype=np.int64)
        return self.of_rows(np.arange(start, stop, dtype=np.int64))

    def of_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Clip ids of some rows."""
        run = np.searchsorted(self.row, rows, side="right") - 1
        ids: NDArray[np.int64] = self.first[run] + rows - self.row[run]
        return ids

    def runs(self) -> list[tuple[int, int]]:
        """First and last clip id of each run, both included."""
        last = self.first + np.diff(self.row) - 1
        return list(zip(self.first.tolist(), last.tolist(), strict=True))

    def rows(self, clip_ids: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Rows of clip ids; None if one is not among them."""
        if len(self.first) == 1:
            rows: NDArray[np.int64] = clip_ids - self.first[0]
            within = not len(rows) or (rows.min() >= 0 and rows.max() < self.row[-1])
            return rows if within else None
        run = np.searchsorted(self.first, clip_ids, side="right") - 1
        rows = self.row[run] + clip_ids - self.first[run]
        known = bool(np.all((run >= 0) & (rows < self.row[run + 1])))
        return rows if known else None


def widen(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """Turn float16 into float32 by shifts, four times as fast as ``astype``.

    A half's exponent and mantissa, 13 bits to the left, are a float's but for the bias of the
    exponent, which one product mends, subnormal numbers included. Infinities and NaN, which no
    stored vector holds, become finite.
    """
    wide = np.empty(halves.shape, np.float32)
    bits, narrow = wide.view(np.int32), halves.view(np.int16)
    for start in range(0, len(halves), _WIDENED):
        rows = slice(start, start + _WIDENED)
        # the sign was carried through the bits between it and the exponent; they are cleared
        np.left_shift(narrow[rows], 13, out=bits[rows], dtype=np.int32)
        np.bitwise_and(bits[rows], _SIGN_AND_BITS, out=bits[rows])
        np.multiply(wide[rows], _REBASE, out=wide[rows])
    return wide


def _combine(
    parts: list[NDArray[np.float16]],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean of the parts that are there (a zero row is not), not renormalised."""
    total, present = widen(parts[0]), _there(parts[0])
    if len(parts) == 1:
        return total, present
    count = present.astype(np.float32)
    for part in parts[1:]:
        there = _there(part)
        total += widen(part)
        count += there
        present = present | there
    if np.all(count == len(parts)):
        total *= np.float32(1 / len(parts))
    else:
        total /= np.maximum(count, 1.0)[:, None]
    return total, present


def _there(halves: NDArray[np.float16]) -> NDArray[np.bool_]:
    """Which rows are not zero: four numbers at a time, by their bits."""
    if halves.strides[-1] != halves.itemsize:  # zero rows without a file
        return np.zeros(len(halves), bool)
    return np.asarray(np.bitwise_or.reduce(halves.view(np.uint64), axis=1) != 0)
