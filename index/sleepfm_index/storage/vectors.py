"""The vectors of one snapshot: memory-mapped, looked up by clip id, averaged for ``others``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.schema import target_parts
from sleepfm_index.storage import vector_format
from sleepfm_index.storage.clip_ids import ClipIds, is_run
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
        self._starts = np.array([s.first_clip_id for s in self._segments], np.int64)
        self._counts = np.array([s.rows for s in self._segments], np.int64)
        self._sparse = np.array([not is_run(s) for s in self._segments], bool)
        self._by_name = {s.id: s for s in self._segments}
        self._mapped = cache(self._map)
        self._ids = cache(self._read_ids)
        self._parts = cache(self._target_parts)
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
        return _combine(self._stored(clip_ids, target, ahead=ahead))

    def read(
        self, clip_ids: NDArray[np.int64], target: str, *, ahead: bool = False
    ) -> NDArray[np.float32]:
        """Vectors of clips as by :meth:`of`, in less time because there is no mask.

        Parameters
        ----------
        clip_ids, target, ahead
            As in :meth:`of`.

        Returns
        -------
        ndarray of float32, shape [n, 512]
        """
        parts = self._stored(clip_ids, target, ahead=ahead)
        return vector_format.widen(parts[0]) if len(parts) == 1 else _combine(parts)[0]

    def _stored(self, clip_ids: NDArray[np.int64], target: str, *, ahead: bool) -> list[Stored]:
        """Return stored vectors of clips in each modality of a target; see :meth:`of`."""
        if self._manifest.deleted:
            live = self._manifest.live(clip_ids)
            if not live.all():
                raise QueryError(f"no clip {clip_ids[~live][0]} in this store; it was deleted")
        names = self._parts(target)
        reads: list[list[_Read]] = [[] for _ in names]
        request = ahead and self._readahead.active
        before = self._readahead.begin() if ahead else None
        width = vector_format.ROW_BYTES
        for number, chosen, rows in self._by_segment(clip_ids):
            for of_part, modality in zip(reads, names, strict=True):
                mapped = self._mapped(self._segments[number].id, modality)
                of_part.append((chosen, mapped, rows))
                if request and mapped.flags.c_contiguous:  # zero rows without a file are not
                    self._readahead.request(mapped, rows * width, (rows + 1) * width)
        parts = [_gather(of_part, len(clip_ids)) for of_part in reads]
        self._readahead.done(before)
        return parts

    def _by_segment(
        self, clip_ids: NDArray[np.int64]
    ) -> Iterator[tuple[int, slice | NDArray[np.intp], NDArray[np.int64]]]:
        """Yield each segment of the clips, the positions of its clips, and their rows."""
        if not self._segments and len(clip_ids):
            raise QueryError(f"no clip {clip_ids[0]} in this store")
        if len(self._segments) == 1:
            yield 0, slice(None), self._rows(0, clip_ids)
            return
        segment_of = np.searchsorted(self._starts, clip_ids, side="right") - 1
        rows = clip_ids - self._starts[segment_of]
        for number in np.unique(segment_of[self._sparse[segment_of]]).tolist():
            of_segment = segment_of == number
            rows[of_segment] = self._rows(number, clip_ids[of_segment])
        known = (segment_of >= 0) & (rows < self._counts[segment_of])
        if not known.all():
            raise QueryError(f"no clip {clip_ids[~known][0]} in this store")
        order = np.argsort(segment_of, kind="stable")
        numbers, sorted_rows = segment_of[order], rows[order]
        starts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
        for start, end in pairwise([*starts, len(order)]):
            yield int(numbers[start]), order[start:end], sorted_rows[start:end]

    def _rows(self, number: int, clip_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = self._ids(self._segments[number].id).rows(clip_ids) if number >= 0 else None
        if rows is None:
            raise QueryError(f"no clip {clip_ids[0]} in this store")
        return rows

    def _target_parts(self, target: str) -> tuple[str, ...]:
        return target_parts(target, self._manifest.modalities)

    def _map(self, name: str, modality: str) -> Stored:
        with snapshot_guard(self._store, self._manifest):
            return map_vectors(self._store, self._by_name[name], modality)

    def _read_ids(self, name: str) -> ClipIds:
        entry = self._by_name[name]
        if is_run(entry):
            return ClipIds.of_runs([(entry.first_clip_id, entry.last_clip_id)])
        with snapshot_guard(self._store, self._manifest):
            table = read_table(self._store, entry, CLIPS, ["clip_id"])
        return ClipIds.of_runs(as_ranges(table["clip_id"].to_numpy()))


_Read = tuple[slice | NDArray[np.intp], Stored, NDArray[np.int64]]
"""Positions in a result, a mapped file, and its rows."""


def _gather(reads: list[_Read], count: int) -> Stored:
    """Read rows of mapped files into one array."""
    if len(reads) == 1 and len(reads[0][2]) == count:
        _, mapped, rows = reads[0]  # one segment: its rows are in the order of the result
        return mapped.take(rows, axis=0)
    part = np.empty((count, EMBEDDING_DIM), vector_format.STORED)
    for chosen, mapped, rows in reads:
        part[chosen] = mapped[rows]
    return part


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
