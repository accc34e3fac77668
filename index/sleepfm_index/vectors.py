"""The vectors of one snapshot: memory-mapped, found by clip id, averaged for ``others``."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM, Modality
from sleepfm_index.errors import QueryError
from sleepfm_index.manifest import Manifest
from sleepfm_index.schema import target_parts
from sleepfm_index.segment import CLIPS, FOLDER, map_vectors


class Vectors:
    """Vectors of a snapshot; a file is mapped when first asked for, and never read whole."""

    def __init__(self, store: Path, manifest: Manifest) -> None:
        self._store = store
        self._segments = sorted(manifest.segments, key=lambda s: s.first_clip_id)
        self._starts = [s.first_clip_id for s in self._segments]
        self._by_name = {s.id: s for s in self._segments}
        self._mapped = cache(self._map)
        self._ids = cache(self._read_ids)

    def segment(self, name: str, target: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Clips of one segment that have the target.

        Returns
        -------
        clip_ids : ndarray of int64, shape [m]
        vectors : ndarray of float32, shape [m, 512]
        """
        entry = self._by_name[name]
        vectors, present = _combine([self._mapped(entry.id, m) for m in target_parts(target)])
        return self._ids(entry.id)[present], vectors[present]

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
        if at >= 0:
            known = self._ids(self._segments[at].id)
            rows = np.searchsorted(known, clip_ids)
            if np.all(known[np.minimum(rows, len(known) - 1)] == clip_ids):
                return rows
        raise QueryError(f"no clip {clip_ids[0]} in this store")

    def _map(self, name: str, modality: Modality) -> NDArray[np.float16]:
        return map_vectors(self._store, self._by_name[name], modality)

    def _read_ids(self, name: str) -> NDArray[np.int64]:
        entry = self._by_name[name]
        if entry.rows == entry.last_clip_id - entry.first_clip_id + 1:
            return np.arange(entry.first_clip_id, entry.last_clip_id + 1, dtype=np.int64)
        table = pq.read_table(self._store / FOLDER / name / CLIPS, columns=["clip_id"])
        ids: NDArray[np.int64] = table["clip_id"].to_numpy()
        return ids


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
