"""The vectors of one snapshot: memory-mapped, found by clip id, averaged for ``others``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM, Modality
from sleepfm_index.errors import QueryError
from sleepfm_index.history import held
from sleepfm_index.manifest import Manifest, as_ranges
from sleepfm_index.schema import target_parts
from sleepfm_index.segment import CLIPS, map_vectors, read_table

_BLOCK: Final = 1 << 16
"""Rows read at once where a whole segment is: 128 MB as float32."""


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

    def blocks(
        self, name: str, target: str
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Clips of one segment that have the target, a block of rows at a time.

        Yields
        ------
        clip_ids : ndarray of int64, shape [m]
        vectors : ndarray of float32, shape [m, 512]
        """
        mapped = [self._mapped(name, m) for m in target_parts(target)]
        clip_ids = self._ids(name)
        for start in range(0, self._by_name[name].rows, _BLOCK):
            rows = slice(start, start + _BLOCK)
            vectors, present = _combine([part[rows] for part in mapped])
            yield clip_ids.at(rows)[present], vectors[present]

    def of(
        self, clip_ids: NDArray[np.int64], target: str
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Vectors of the given clips in the given order.

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
        parts = [np.zeros((len(clip_ids), EMBEDDING_DIM), np.float16) for _ in target_parts(target)]
        where = np.searchsorted(self._starts, clip_ids, side="right") - 1
        for at in np.unique(where):
            chosen = where == at
            rows = self._rows(int(at), clip_ids[chosen])
            for part, modality in zip(parts, target_parts(target), strict=True):
                part[chosen] = self._mapped(self._segments[at].id, modality)[rows]
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
        wanted = np.arange(*rows.indices(int(self.row[-1])), dtype=np.int64)
        run = np.searchsorted(self.row, wanted, side="right") - 1
        ids: NDArray[np.int64] = self.first[run] + wanted - self.row[run]
        return ids

    def rows(self, clip_ids: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Rows of clip ids; None if one is not among them."""
        run = np.searchsorted(self.first, clip_ids, side="right") - 1
        rows: NDArray[np.int64] = self.row[run] + clip_ids - self.first[run]
        known = bool(np.all((run >= 0) & (rows < self.row[run + 1])))
        return rows if known else None


def _combine(
    parts: list[NDArray[np.float16]],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean of the parts that are there (a zero row is not), not renormalised."""
    total = parts[0].astype(np.float32)
    count = parts[0].any(axis=1).astype(np.float32)
    for part in parts[1:]:
        total += part
        count += part.any(axis=1)
    if len(parts) > 1:
        total /= np.maximum(count, 1.0)[:, None]
    return total, np.asarray(count > 0)
