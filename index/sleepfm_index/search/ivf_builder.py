"""Building an inverted file: train centroids on a sample, encode all rows, write the lists."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.runtime.threads import faiss
from sleepfm_index.search.blocks import Blocks, gathered
from sleepfm_index.search.fastscan import read_list, write_list
from sleepfm_index.search.ivf import InvertedFile, empty_index, quantizer
from sleepfm_index.search.ivf_format import CODES, Layout, Structure, write_arrays
from sleepfm_index.search.protocol import SEED
from sleepfm_index.search.transform_coding import learn
from sleepfm_index.storage import paths
from sleepfm_index.storage.files import Sink, publish_file, remove
from sleepfm_index.storage.manifest import IndexEntry

SAMPLE: Final = 40
"""Training vectors per centroid."""
ITERATIONS: Final = 10
LEARNED_FROM: Final = 1 << 17
"""Maximum number of training vectors of the code."""
_WRITTEN: Final = 1 << 26
"""Bytes of lists gathered per pass."""

Encode = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.uint8]]


def train(
    layout: Layout, sample: NDArray[np.float32], queries: NDArray[np.float32], seed: int = SEED
) -> Structure:
    """Find centroids by k-means, and learn the code.

    The result does not depend on the number of threads.

    Parameters
    ----------
    layout : Layout
        Layout of the lists and their codes.
    sample : ndarray of float32, shape [n, 512], n >= 1
        Random sample of the vectors to index; if it has fewer rows than the layout has lists, one
        list per row is used.
    queries : ndarray of float32, shape [m, 512], m >= 1
        Sample of query vectors, to which a transform code is fitted.
    seed : int
        Random seed.
    """
    layout = Layout(min(layout.lists, len(sample)), layout.code)
    means = faiss().Kmeans(
        EMBEDDING_DIM,
        layout.lists,
        niter=ITERATIONS,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=1 << 30,
    )
    means.train(sample)
    structure = Structure(layout, means.centroids, np.empty(0, np.float32))
    if layout.code.startswith("RaBitQ"):
        return structure
    # The sample is in order of clip id, so rows are taken at regular intervals.
    subset = np.ascontiguousarray(sample[:: max(1, len(sample) // LEARNED_FROM)])
    residual = subset - structure.centroids[_nearest(quantizer(structure.centroids), subset)]
    if layout.code.startswith("TC"):
        return replace(structure, learned=learn(residual, queries).learned)
    index, _referenced = empty_index(structure)
    index.sq.train(np.ascontiguousarray(residual))
    return replace(structure, learned=faiss().vector_to_array(index.sq.trained))


def write(
    store: Path,
    target: str,
    segments: tuple[str, ...],
    structure: Structure,
    blocks: Blocks,
    kept: tuple[InvertedFile, NDArray[np.bool_]] | None = None,
) -> IndexEntry:
    """Encode all rows and publish the file.

    Codes go to a temporary file and from there into the lists, so that only one block of vectors
    and 24 bytes per row are in memory.

    Parameters
    ----------
    store : Path
        The store's folder.
    target : str
        Search target: a modality, or ``others_of_<modality>``.
    segments : tuple of str
        Names of the segments that the index covers.
    structure : Structure
        Centroids and code of the index.
    blocks : iterable of (clip_ids, vectors)
        Clip ids, int64 [m], and vectors, float32 [m, 512], of the rows to encode.
    kept : tuple of (InvertedFile, ndarray of bool, shape [rows]), optional
        An index with the same centroids, and the mask of its rows to keep, list by list; they come
        first.
    """
    layout = structure.layout
    with tempfile.TemporaryFile(dir=store / paths.INDEXES) as spool:
        keys, ids = _code(structure, blocks, spool)
        spool.flush()
        width = CODES[layout.code]
        codes = np.memmap(spool, np.uint8, "r").reshape(-1, width) if len(ids) else None
        order = np.argsort(keys, kind="stable")
        new_counts = np.bincount(keys, minlength=layout.lists)
        old = _Kept(*kept) if kept is not None else None
        counts = new_counts if old is None else new_counts + old.counts

        def content(sink: Sink) -> None:
            end = 0
            for first, last in _batches(new_counts, _WRITTEN // width):
                rows = order[end : end + int(new_counts[first:last].sum())]
                batch_codes = codes[rows] if codes is not None else np.empty((0, width), np.uint8)
                batch_ids, start = ids[rows], 0
                for number in range(first, last):
                    of_list = slice(start, start + int(new_counts[number]))
                    parts = [(batch_codes[of_list], batch_ids[of_list])]
                    if old is not None:
                        parts.insert(0, old.rows(number))
                    write_list(sink, layout, *map(np.concatenate, zip(*parts, strict=True)))
                    start = of_list.stop
                end += len(rows)
            write_arrays(sink, structure, counts)

        # Names are never reused, because an earlier snapshot may refer to the earlier file.
        file = f"{target}-{uuid.uuid4().hex[:16]}.ivf"
        entry = publish_file(store / paths.INDEXES / file, content)
    return IndexEntry(target, file, str(layout), int(counts.sum()), segments, entry)


class _Kept:
    """Rows of an earlier file, list by list."""

    def __init__(self, earlier: InvertedFile, keep: NDArray[np.bool_]) -> None:
        self._earlier = earlier
        self._row = np.r_[0, np.cumsum(earlier.counts)]
        self._keep = keep
        self.counts = np.add.reduceat(np.r_[keep, False], self._row[:-1], dtype=np.int64)
        self.counts[earlier.counts == 0] = 0

    def rows(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Codes and clip ids of one list."""
        keep = self._keep[self._row[number] : self._row[number + 1]]
        codes, ids = self._earlier.read_rows(number)
        return codes[keep], ids[keep]


def _code(
    structure: Structure, blocks: Blocks, spool: Any
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    centroids = quantizer(structure.centroids)
    encode = _encoder(structure)
    keys: list[NDArray[np.int32]] = []
    ids: list[NDArray[np.int64]] = []
    for clip_ids, vectors in gathered(blocks):
        nearest = _nearest(centroids, vectors)
        spool.write(encode(vectors, nearest).data)
        keys.append(nearest.astype(np.int32))
        ids.append(clip_ids)
    none: tuple[Any, Any] = (np.empty(0, np.int32), np.empty(0, np.int64))
    return np.concatenate([*keys, none[0]]), np.concatenate([*ids, none[1]])


def _encoder(structure: Structure) -> Encode:
    """Return a function that encodes vectors, float32 [n, 512], of lists, int64 [n]."""
    code = structure.transform
    if code is not None:
        return lambda vectors, lists: code.encode(vectors - structure.centroids[lists])
    index, referenced = empty_index(structure)

    def encode(vectors: NDArray[np.float32], lists: NDArray[np.int64]) -> NDArray[np.uint8]:
        codes = np.empty((len(vectors), CODES[structure.layout.code]), np.uint8)
        assert referenced  # must outlive the index
        index.encode_vectors(len(vectors), _pointer(vectors), _pointer(lists), _pointer(codes))
        return codes

    return encode


def _nearest(centroids: Any, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = centroids.search(vectors, 1)[1][:, 0]
    return np.ascontiguousarray(numbers)


def _batches(counts: NDArray[np.int64], rows: int) -> Iterable[tuple[int, int]]:
    """Return ranges of lists with about the given number of rows each."""
    batch = np.cumsum(counts) // max(1, rows)
    starts = np.flatnonzero(np.r_[True, np.diff(batch) != 0])
    yield from zip(starts.tolist(), [*starts[1:].tolist(), len(counts)], strict=True)


def _pointer(array: NDArray[Any]) -> Any:
    return faiss().swig_ptr(array)


def merge(store: Path, shards: list[IndexEntry], layout: Layout) -> IndexEntry:
    """Merge shards, in their order, into one file by FAISS's merge of lists on disk.

    Parameters
    ----------
    store : Path
        The store's folder.
    shards : list of IndexEntry
        Entries of the shards, in row layout.
    layout : Layout
        Layout of the merged file.
    """
    opened = [InvertedFile.open(store, shard) for shard in shards]
    structure = replace(opened[0].structure, layout=layout)
    counts = np.sum([shard_index.counts for shard_index in opened], axis=0)
    pointers = faiss().InvertedListsPtrVector()
    for shard_index in opened:
        pointers.push_back(shard_index.index.invlists)
    target = shards[0].target
    temporary = store / paths.INDEXES / f".{target}-merged.{uuid.uuid4().hex[:8]}.tmp"
    try:
        lists = faiss().OnDiskInvertedLists(layout.lists, CODES[layout.code], str(temporary))
        with _quiet():
            rows = int(lists.merge_from_multiple(pointers.data(), pointers.size(), False))
        del lists  # closes the mapped file

        def content(sink: Sink) -> None:
            merged, end = np.memmap(temporary, np.uint8, "r") if rows else np.empty(0, np.uint8), 0
            for count in counts.tolist():
                start, end = end, end + count * layout.row_bytes
                write_list(sink, layout, *read_list(layout.row_layout, merged[start:end], count))
            write_arrays(sink, structure, counts)

        file = f"{target}-{uuid.uuid4().hex[:16]}.ivf"
        entry = publish_file(store / paths.INDEXES / file, content)
    finally:
        remove(temporary)
    names = tuple(name for shard in shards for name in shard.segments)
    return IndexEntry(target, file, str(layout), rows, names, entry)


@contextmanager
def _quiet() -> Iterator[None]:
    """Discard what FAISS prints to stdout, which includes paths of files."""
    sys.stdout.flush()
    null_device = os.open(os.devnull, os.O_WRONLY)
    stdout = os.dup(1)
    os.dup2(null_device, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(null_device)
