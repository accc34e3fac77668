"""The vectors of one snapshot: memory-mapped, looked up by clip id, averaged for ``others``."""

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
"""Rows per block when a segment is scanned: 16 MB as float32, which fits in a CPU cache."""


class Vectors:
    """Vectors of a snapshot; a file is mapped on first use and only read where needed.

    Parameters
    ----------
    store : Path
        The store's folder.
    manifest : Manifest
        The snapshot to read.
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
        """Clips of one segment that have the target, in blocks of rows.

        Parameters
        ----------
        name : str
            Name of the segment.
        target : str
            Search target: a modality, or ``others_of_<modality>``.
        keep : callable, optional
            Function that maps clip ids, int64 [n], to the mask of clips to read, bool [n]; by
            default all are read.

        Yields
        ------
        clip_ids : ndarray of int64, shape [m]
        vectors : ndarray of float32, shape [m, 512]
        """
        mapped = [self._mapped(name, m) for m in self._parts(target)]
        clip_ids = self._ids(name)
        for start in range(0, self._by_name[name].rows, _BLOCK):
            rows = slice(start, start + _BLOCK)
            ids, parts = clip_ids.of_slice(rows), [part[rows] for part in mapped]
            if keep is not None:
                mask = keep(ids)
                if not mask.any():
                    continue
                if not mask.all():
                    ids, parts = ids[mask], [part[mask] for part in parts]
            vectors, present = _combine(parts)
            yield (ids, vectors) if present.all() else (ids[present], vectors[present])

    def having(self, name: str, target: str) -> NDArray[np.int64]:
        """Return the ids of the clips of one segment that have the target.

        Parameters
        ----------
        name : str
            Name of the segment.
        target : str
            Search target: a modality, or ``others_of_<modality>``.
        """
        starts = range(0, self._by_name[name].rows, _BLOCK)
        mapped = [self._mapped(name, m) for m in self._parts(target)]
        present = [
            np.logical_or.reduce(
                [vector_format.present(part[start : start + _BLOCK]) for part in mapped]
            )
            for start in starts
        ]
        return self._ids(name).of_rows(np.flatnonzero(np.concatenate(present)))

    def stored(
        self, clip_ids: NDArray[np.int64], modality: str
    ) -> Iterator[tuple[NDArray[np.int64], Stored]]:
        """Yield views of the mapped vectors, one per run of adjacent rows, without reading them.

        Parameters
        ----------
        clip_ids : ndarray of int64, shape [n]
            Clip ids, which may include deleted clips; all of them have the modality.
        modality : str
            Name of the modality.

        Yields
        ------
        clip_ids : ndarray of int64, shape [m]
        rows : ndarray of float16, shape [m, 512]
            Contiguous rows of one file.

        Raises
        ------
        QueryError
            If a clip was never in the snapshot.
        FormatError
            If the segment of a clip has no vectors of the modality.
        """
        segment_of = np.searchsorted(self._starts, clip_ids, side="right") - 1
        for chosen in np.split(np.arange(len(clip_ids)), np.flatnonzero(np.diff(segment_of)) + 1):
            if not len(chosen):
                continue
            number = int(segment_of[chosen[0]])
            rows = self._rows(number, clip_ids[chosen])
            mapped = self._mapped(self._segments[number].id, modality)
            if not mapped.flags.c_contiguous:  # zero rows without a file
                raise FormatError(f"no clip of segment {self._segments[number].id} has {modality}")
            for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
                first = int(rows[run[0]])
                yield clip_ids[chosen[run]], mapped[first : first + len(run)]

    def known_ids(self, *, deleted: bool = False) -> NDArray[np.bool_]:
        """Mask of the clip ids in use, bool, shape [``manifest.stored_ids``].

        Parameters
        ----------
        deleted : bool
            Whether to include deleted clips that have not been removed by a compaction.
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
        """Draw clips that have the target at random from the snapshot.

        Every clip has the same probability, whatever its segment.

        Parameters
        ----------
        target : str
            Search target: a modality, or ``others_of_<modality>``.
        count : int
            Maximum number of clips.
        seed : int
            Random seed.

        Returns
        -------
        clip_ids : ndarray of int64, shape [m], ascending
            At most ``count`` clips, and at least 90 % of them unless fewer clips have the target.
        vectors : ndarray of float32, shape [m, 512]
        """
        total = sum(s.rows for s in self._segments)
        draws = count
        while True:
            ids = self._drawn(target, draws, total, seed)
            if draws >= total or len(ids) >= 0.9 * count:
                break
            # Few clips have the target: scale the number of draws by the share that has it.
            draws = min(total, int(1.1 * draws * count / max(1, len(ids))) + count)
        if len(ids) > count:
            kept = np.random.default_rng(seed).choice(len(ids), count, replace=False)
            ids = ids[np.sort(kept)]
        return ids, self.of(ids, target)[0]

    def _drawn(self, target: str, count: int, total: int, seed: int) -> NDArray[np.int64]:
        ends = np.cumsum([s.rows for s in self._segments])
        rng = np.random.default_rng(seed)
        rows = np.arange(total) if count >= total else np.unique(rng.integers(0, total, count))
        segment_of = np.searchsorted(ends, rows, side="right")
        drawn = [np.empty(0, np.int64)]
        for number in np.unique(segment_of):
            segment = self._segments[number]
            local = rows[segment_of == number] - (ends[number] - segment.rows)
            mapped = [self._mapped(segment.id, m) for m in self._parts(target)]
            for start in range(0, len(local), _BLOCK):
                block = local[start : start + _BLOCK]
                present = np.logical_or.reduce(
                    [vector_format.present(part[block]) for part in mapped]
                )
                drawn.append(self._ids(segment.id).of_rows(block[present]))
        ids = np.concatenate(drawn)
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
            Search target: a modality, or ``others_of_<modality>``.
        ahead : bool
            Whether to request all vectors from the system before reading the first, unless the
            last reads did not access the disk (:mod:`.readahead`).

        Returns
        -------
        vectors : ndarray of float32, shape [n, 512]
            Zero rows for clips that lack the target.
        present : ndarray of bool, shape [n]
            Mask of the clips that have the target.

        Raises
        ------
        QueryError
            If a clip was deleted or never in the snapshot.
        """
        live = self._manifest.live(clip_ids)
        if not live.all():
            raise QueryError(f"no clip {clip_ids[~live][0]} in this store; it was deleted")
        names = self._parts(target)
        parts = [np.empty((len(clip_ids), EMBEDDING_DIM), vector_format.STORED) for _ in names]
        segment_of = np.searchsorted(self._starts, clip_ids, side="right") - 1
        reads = []
        request = ahead and self._readahead.active
        before = self._readahead.begin() if ahead else None
        width = vector_format.ROW_BYTES
        numbers = (np.flatnonzero(np.bincount(segment_of + 1)) - 1).tolist()
        for number in numbers:
            chosen = slice(None) if len(numbers) == 1 else np.flatnonzero(segment_of == number)
            rows = self._rows(number, clip_ids[chosen])
            for part, modality in zip(parts, names, strict=True):
                mapped = self._mapped(self._segments[number].id, modality)
                reads.append((part, chosen, mapped, rows))
                if request and mapped.flags.c_contiguous:  # zero rows without a file are not
                    self._readahead.request(mapped, rows * width, (rows + 1) * width)
        for part, chosen, mapped, rows in reads:
            part[chosen] = mapped[rows]
        self._readahead.done(before)
        return _combine(parts)

    def _rows(self, number: int, clip_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = self._ids(self._segments[number].id).rows(clip_ids) if number >= 0 else None
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
    """The clip ids of a segment as runs of consecutive ids, in little memory.

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
        """Create the ids from runs.

        Parameters
        ----------
        runs : list of (int, int)
            First and last clip id of each run, both inclusive, ascending.
        """
        first, last = np.array(runs, np.int64).reshape(-1, 2).T
        return cls(first, np.r_[0, np.cumsum(last - first + 1)])

    def of_slice(self, rows: slice) -> NDArray[np.int64]:
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
        """Clip ids of rows.

        Parameters
        ----------
        rows : ndarray of int64, shape [n]
            Row numbers within the segment.
        """
        run = np.searchsorted(self.row, rows, side="right") - 1
        ids: NDArray[np.int64] = self.first[run] + rows - self.row[run]
        return ids

    def runs(self) -> list[tuple[int, int]]:
        """First and last clip id of each run, both inclusive."""
        last = self.first + np.diff(self.row) - 1
        return list(zip(self.first.tolist(), last.tolist(), strict=True))

    def rows(self, clip_ids: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Row numbers of clip ids, int64 [n]; None if the segment lacks one of them.

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
    """Mean of the parts that are present (not zero), without normalising it."""
    total, present = vector_format.widen(parts[0]), vector_format.present(parts[0])
    if len(parts) == 1:
        return total, present
    count = present.astype(np.float32)
    for part in parts[1:]:
        part_present = vector_format.present(part)
        total += vector_format.widen(part)
        count += part_present
        present = present | part_present
    if np.all(count == len(parts)):
        total *= np.float32(1 / len(parts))
    else:
        total /= np.maximum(count, 1.0)[:, None]
    return total, present
