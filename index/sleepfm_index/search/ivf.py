"""Searching an inverted file: FAISS over a mapped file, under a filter."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.runtime.threads import faiss
from sleepfm_index.search.fastscan import read_list
from sleepfm_index.search.index_format import CODES, Structure, read_arrays
from sleepfm_index.search.transform_coding import STAGES
from sleepfm_index.storage.manifest import IndexEntry
from sleepfm_index.storage.readahead import prefetch

_AGAIN_S: Final = 5.0
"""For so long the system is trusted to keep the lists that it was asked for, until one is slow."""
_IN_MEMORY: Final = 8e9
"""Bytes of lists a second; those that come more slowly were not in the page cache."""
_BY_LISTS: Final = 15
"""FAISS's number for a fast scan whose threads share the lists, so that one query has them all."""
_BY_QUERIES: Final = 13
"""And for one that reads a list once for all queries that want it."""
_TOGETHER: Final = 1024
"""Queries whose scores with all centroids are in memory at once."""
_QUERY_BITS: Final = 4
"""RaBitQ: bits a number of the query takes; more finds no more, and unquantised is 20x slower."""


@dataclass(frozen=True)
class InvertedFile:
    """An open inverted file.

    Parameters
    ----------
    structure : Structure
    counts : ndarray of int64, shape [lists]
    path : Path
    index : faiss.IndexIVF
        Over the mapped lists.
    """

    structure: Structure
    counts: NDArray[np.int64]
    path: Path
    index: Any
    _asks: NDArray[np.float32] | None
    _mapped: NDArray[np.uint8]
    _starts: NDArray[np.int64]
    _asked: NDArray[np.float64]
    _held: tuple[Any, ...]

    @classmethod
    def open(cls, store: Path, entry: IndexEntry) -> InvertedFile:
        """Map a published file, whose extents are checked first.

        Raises
        ------
        FormatError
            If the file is not one over the rows that the manifest states.
        """
        path, structure, counts = read_arrays(store, entry)
        index, held = empty_index(structure)
        lists = _map_lists(path, structure, counts)
        index.replace_invlists(lists, False)
        index.ntotal = entry.rows
        starts = np.r_[0, np.cumsum(structure.kind.room(counts))]
        asked = np.full(structure.kind.lists, -np.inf)
        mapped = np.memmap(path, np.uint8, "r")
        code = structure.transform
        asks = None if code is None else np.ascontiguousarray(code.asks.T)
        return cls(structure, counts, path, index, asks, mapped, starts, asked, (*held, lists))

    def search(
        self,
        queries: NDArray[np.float32],
        depth: int,
        probes: int,
        selector: Any | None = None,
    ) -> NDArray[np.int64]:
        """Clip ids that score highest by their codes, int64 [q, depth]; -1 where there are fewer.

        Parameters
        ----------
        queries : ndarray of float32, shape [q, 512]
        depth : int
            How many a query gets.
        probes : int
            How many lists are read.
        selector : faiss.IDSelector, optional
            Says which clip ids may be found.
        """
        if len(queries) > _TOGETHER:
            parts = range(0, len(queries), _TOGETHER)
            return np.concatenate(
                [self.search(queries[at : at + _TOGETHER], depth, probes, selector) for at in parts]
            )
        lists, near = self._nearest(queries, min(probes, self.structure.kind.lists))
        asked = queries if self._asks is None else _products(queries, self._asks)
        if len(queries) > 1:
            return self._read(asked, depth, lists, near, selector)
        start = time.perf_counter()
        size = self._fetch(lists[0])
        ids = self._read(asked, depth, lists, near, selector)
        if time.perf_counter() - start > size / _IN_MEMORY:
            self._asked.fill(-np.inf)
        return ids

    def _nearest(
        self, queries: NDArray[np.float32], probes: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Give the lists of the nearest centroids, int64 [q, probes], best first, and scores."""
        scores = _products(queries, self.structure.centroids)
        best = np.argpartition(scores, -probes, axis=1)[:, -probes:]
        near = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-near, axis=1)
        lists = np.take_along_axis(best, order, axis=1).astype(np.int64)
        return lists, np.ascontiguousarray(np.take_along_axis(near, order, axis=1), np.float32)

    def _read(
        self,
        queries: NDArray[np.float32],
        depth: int,
        lists: NDArray[np.int64],
        near: NDArray[np.float32],
        selector: Any | None,
    ) -> NDArray[np.int64]:
        """Read lists, int64 [q, n], whose centroids score ``near``, as the codes are asked."""
        x = np.ascontiguousarray(queries, np.float32)
        scores = np.empty((len(x), depth), np.float32)
        ids = np.empty((len(x), depth), np.int64)
        wanted: dict[str, Any] = {} if selector is None else {"sel": selector}
        wanted["nprobe"] = lists.shape[1]
        if self.structure.kind.code.startswith("RaBitQ"):
            parameters = faiss().IVFRaBitQSearchParameters(qb=_QUERY_BITS, **wanted)
        else:
            parameters = faiss().SearchParametersIVF(**wanted)
        if self.structure.kind.code.endswith("fs"):
            self.index.implem = _BY_LISTS if len(x) == 1 else _BY_QUERIES
        # FAISS's own wrapper of it takes no parameters.
        pointers = [faiss().swig_ptr(array) for array in (lists, near, scores, ids)]
        self.index.search_preassigned_c(
            len(x), faiss().swig_ptr(x), depth, *pointers, False, parameters
        )
        return ids

    def _fetch(self, lists: NDArray[np.int64]) -> int:
        """Ask for the lists that were not asked for a moment ago; give the bytes of all."""
        width = self.structure.kind.row_bytes
        starts, ends = self._starts[lists] * width, self._starts[lists + 1] * width
        now = time.monotonic()
        due = now - self._asked[lists] > _AGAIN_S
        self._asked[lists] = now
        prefetch(self._mapped, starts[due], ends[due])
        return int((ends - starts).sum())

    def rows(self, one: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Codes, uint8 [n, width], and clip ids of one list."""
        start, end = self._extent(one)
        return read_list(self.structure.kind, self._mapped[start:end], int(self.counts[one]))

    def list_ids(self) -> NDArray[np.int64]:
        """Clip ids of all rows, list by list."""
        width, room = CODES[self.structure.kind.code], self.structure.kind.room(self.counts)
        ids = np.empty(int(self.counts.sum()), np.int64)
        at = 0
        for one, count in enumerate(self.counts.tolist()):
            start = self._extent(one)[0] + int(room[one]) * width
            ids[at : at + count] = self._mapped[start : start + 8 * count].view("<i8")
            at += count
        return ids

    def _extent(self, one: int) -> tuple[int, int]:
        """First byte of a list, and the byte after its last."""
        width = self.structure.kind.row_bytes
        start, end = self._starts[one : one + 2].tolist()
        return start * width, end * width


def _products(queries: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner products, float32 [q, n], of queries with rows, float32 [n, 512]."""
    if len(queries) == 1:
        # Threads of BLAS spin for a while when they are done, and FAISS's would wait for the cores.
        return np.asarray(np.einsum("d,nd->n", queries[0], rows)[None])
    return queries @ rows.T


def quantizer(centroids: NDArray[np.float32]) -> Any:
    """FAISS's index that finds the nearest centroids, by inner product."""
    flat = faiss().IndexFlatIP(centroids.shape[1])
    flat.add(centroids)
    return flat


def empty_index(structure: Structure) -> tuple[Any, tuple[Any, ...]]:
    """FAISS's index without lists, and what must outlive it."""
    kind, metric = structure.kind, faiss().METRIC_INNER_PRODUCT
    code = structure.transform
    if code is not None:
        none = faiss().IndexFlatIP(STAGES)  # lists are chosen by centroids of 512 numbers
        make = faiss().IndexIVFPQFastScan if kind.code.endswith("fs") else faiss().IndexIVFPQ
        index = make(none, STAGES, kind.lists, STAGES, 4, metric)
        index.by_residual = True
        faiss().copy_array_to_vector(np.ascontiguousarray(code.levels).ravel(), index.pq.centroids)
        index.is_trained = True
        return index, (none,)
    nearest = quantizer(structure.centroids)
    if kind.code.startswith("RaBitQ"):
        bits = int(kind.code.removeprefix("RaBitQ"))
        index = faiss().IndexIVFRaBitQ(nearest, EMBEDDING_DIM, kind.lists, metric, False, bits)
    else:
        bits = getattr(faiss().ScalarQuantizer, f"QT_{kind.code.removeprefix('SQ')}bit")
        index = faiss().IndexIVFScalarQuantizer(
            nearest, EMBEDDING_DIM, kind.lists, bits, metric, True, False
        )
        if len(structure.learned):
            faiss().copy_array_to_vector(structure.learned, index.sq.trained)
    index.is_trained = True
    return index, (nearest,)


def _map_lists(path: Path, structure: Structure, counts: NDArray[np.int64]) -> Any:
    kind = structure.kind
    lists = faiss().OnDiskInvertedLists(kind.lists, CODES[kind.code], str(path))
    # One row of this table a list: its size, its capacity, and where it starts.
    table = np.zeros((kind.lists, 3), np.uint64)
    table[:, 0], table[:, 1] = counts, kind.room(counts)
    table[1:, 2] = np.cumsum(kind.room(counts))[:-1] * kind.row_bytes
    faiss().memcpy(lists.lists.data(), faiss().swig_ptr(table), table.nbytes)
    lists.totsize = path.stat().st_size
    lists.read_only = True
    lists.prefetch_nthread = 0  # a thread a list costs more than it brings
    lists.do_mmap()
    return lists
