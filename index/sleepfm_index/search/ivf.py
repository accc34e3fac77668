"""Search in an inverted file: FAISS over a mapped file, with an optional filter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.runtime.threads import faiss
from sleepfm_index.search.fastscan import read_list
from sleepfm_index.search.ivf_format import CODES, Structure, read_arrays
from sleepfm_index.search.parameters import Parameters, parameter
from sleepfm_index.search.protocol import Trial
from sleepfm_index.search.transform_coding import STAGES
from sleepfm_index.storage.manifest import IndexEntry
from sleepfm_index.storage.readahead import Readahead

_BY_LISTS: Final = 15
"""FAISS's fast-scan implementation whose threads share the lists, for a single query."""
_BY_QUERIES: Final = 13
"""FAISS's fast-scan implementation that reads a list once for all queries that probe it. A single
query has one thread, and the same hits among equal codes as by lists."""
_MIN_CODES: Final = 1000
"""Minimum number of codes to read; fewer save no time relative to rescoring the candidates."""
_ONE_THREAD: Final = 10_000
"""Expected number of codes below which a single query is searched by one thread: some 0.1 ms. A
second thread would save little, and on a busy machine waiting for it takes longer than searching.
"""
_QUERIES: Final = 1024
"""Queries per block, which bounds the memory of a search."""
_QUERY_BITS: Final = 4
"""RaBitQ bits per query number; more do not raise recall, and unquantised is 20 times slower."""


@dataclass(frozen=True)
class InvertedFile:
    """An open inverted file, a :class:`~.protocol.VectorIndex`; its parameter is ``probes``.

    Parameters
    ----------
    structure : Structure
        Layout, centroids and code.
    counts : ndarray of int64, shape [lists]
        Number of rows of each list.
    index : faiss.IndexIVF
        FAISS index over the mapped lists.
    """

    structure: Structure
    counts: NDArray[np.int64]
    index: Any
    _directions: NDArray[np.float32]
    _project: Any | None
    _mapped: NDArray[np.uint8]
    _starts: NDArray[np.int64]
    _readahead: Readahead
    _referenced: tuple[Any, ...]

    complete = True

    @classmethod
    def open(cls, store: Path, entry: IndexEntry) -> InvertedFile:
        """Map a published file after checking its extents.

        Parameters
        ----------
        store : Path
            The store's folder.
        entry : IndexEntry
            Entry of the index in the manifest.

        Raises
        ------
        FormatError
            If the file does not match the number of rows in the manifest.
        """
        path, structure, counts = read_arrays(store, entry)
        index, referenced = empty_index(structure)
        lists = _map_lists(path, structure, counts)
        index.replace_invlists(lists, False)
        index.ntotal = entry.rows
        starts = np.r_[0, np.cumsum(structure.layout.padded_rows(counts))]
        mapped = np.memmap(path, np.uint8, "r")
        directions, project = structure.centroids, None
        if structure.transform is not None:
            basis = np.ascontiguousarray(structure.transform.query_basis.T)
            directions = np.concatenate([directions, basis])
            project = _linear(basis)
        readahead = Readahead(parts=structure.layout.lists)
        referenced = (*referenced, lists)
        products = (directions, project)
        return cls(structure, counts, index, *products, mapped, starts, readahead, referenced)

    @property
    def rows(self) -> int:
        """Number of clips in the index."""
        return int(self.index.ntotal)

    @property
    def trained(self) -> Structure:
        """Centroids and code."""
        return self.structure

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        parameters: Parameters,
        selector: Any | None = None,
    ) -> NDArray[np.int64]:
        """Return the clips that score highest by their codes; see :class:`~.protocol.VectorIndex`.

        Parameters
        ----------
        queries : ndarray of float32, shape [q, 512]
            Query vectors.
        k : int
            Number of clips to find per query.
        parameters : mapping of str to int
            ``probes``: number of lists read per query.
        selector : faiss.IDSelector, optional
            Restricts the clips that may be found; by default all.

        Returns
        -------
        ndarray of int64, shape [q, k]
        """
        queries = np.ascontiguousarray(queries)
        if len(queries) > _QUERIES:
            blocks = (queries[i : i + _QUERIES] for i in range(0, len(queries), _QUERIES))
            return np.concatenate([self.search(q, k, parameters, selector) for q in blocks])
        probes = parameter(parameters, "probes", self.structure.layout.lists)
        if len(queries) > 1:
            lists, near = self._nearest(queries, probes)
            projected = queries if self._project is None else self._project.apply(queries)
            return self._read(projected, k, lists, near, selector)
        lists, near, projected = self._nearest_of_one(queries, probes)
        before = self._readahead.begin()
        self._fetch(lists[0])
        ids = self._read(projected, k, lists, near, selector)
        self._readahead.done(before)
        return ids

    def trials(self, at_least: Parameters | None = None) -> Iterator[Trial]:
        """Yield numbers of lists, each 1.2 times the one before, up to half of all.

        Parameters
        ----------
        at_least : mapping of str to int, optional
            Smallest parameters to try; by default the smallest useful ones.
        """
        lists = self.structure.layout.lists
        smallest = max(1, lists * _MIN_CODES // max(1, self.rows))
        smallest = at_least["probes"] if at_least is not None else min(smallest, max(1, lists // 8))
        steps = sorted({round(2 ** (exponent / 4)) for exponent in range(4 * 20)})
        steps = [step for step in steps if smallest <= step <= lists // 2] or [max(1, lists // 2)]
        for probes in steps:
            yield Trial({"probes": probes}, probes / lists * self.rows)

    def scaled(self, parameters: Parameters, factor: float) -> Parameters:
        """Return parameters for ``factor`` times as many results.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        factor : float
            Number of results in multiples of the calibrated number.
        """
        lists = self.structure.layout.lists
        return {"probes": round(parameter(parameters, "probes", lists) * factor**0.5)}

    def wider(self, parameters: Parameters) -> Parameters | None:
        """Return four times as many lists; None if all lists were read.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        """
        probes = parameters["probes"]
        return None if probes >= self.structure.layout.lists else {"probes": 4 * probes}

    # Products by FAISS, not numpy: after one, the threads of numpy's BLAS spin for up to 20 ms, and
    # FAISS's threads would wait for the cores.

    def _nearest(
        self, queries: NDArray[np.float32], probes: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the lists of the nearest centroids, int64 [q, probes], best first, and scores."""
        centroids = self._directions[: self.structure.layout.lists]
        inner_product = faiss().METRIC_INNER_PRODUCT
        near, lists = faiss().knn(queries, centroids, probes, metric=inner_product)
        return lists, near

    def _nearest_of_one(
        self, query: NDArray[np.float32], probes: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Return lists and scores as :meth:`_nearest`, and the projected query, on one thread."""
        products = np.empty((1, len(self._directions)), np.float32)
        pointers = [faiss().swig_ptr(array) for array in (products, query, self._directions)]
        faiss().fvec_inner_products_ny(*pointers, EMBEDDING_DIM, products.size)
        scores = products[:, : self.structure.layout.lists]
        projected = query if self._project is None else products[:, scores.size :]
        lists = np.sort(np.argpartition(scores, -probes)[:, -probes:])
        return lists, scores[:, lists[0]], projected

    def _read(
        self,
        queries: NDArray[np.float32],
        k: int,
        lists: NDArray[np.int64],
        near: NDArray[np.float32],
        selector: Any | None,
    ) -> NDArray[np.int64]:
        """Search lists, int64 [q, n], whose centroids have the scores ``near``."""
        x = np.ascontiguousarray(queries, np.float32)
        scores = np.empty((len(x), k), np.float32)
        ids = np.empty((len(x), k), np.int64)
        parameters = _parameters(self.structure.layout.code, lists.shape[1], selector)
        # FAISS's Python wrapper of this method takes no parameters.
        pointers = [faiss().swig_ptr(array) for array in (lists, near, scores, ids)]
        few = len(x) == 1 and lists.shape[1] * self.rows < _ONE_THREAD * len(self.counts)
        if self.structure.layout.code.endswith("fs"):
            implem = _BY_LISTS if len(x) == 1 and not few else _BY_QUERIES
            if self.index.implem != implem:
                self.index.implem = implem
        self.index.search_preassigned_c(
            len(x), faiss().swig_ptr(x), k, *pointers, False, parameters
        )
        return ids

    def _fetch(self, lists: NDArray[np.int64]) -> None:
        """Request lists that may not be in memory."""
        width = self.structure.layout.row_bytes
        due = self._readahead.due(lists)
        if not len(due):
            return
        starts, ends = self._starts[due] * width, self._starts[due + 1] * width
        self._readahead.request(self._mapped, starts, ends)

    def read_rows(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Read one list.

        Parameters
        ----------
        number : int
            Number of the list.

        Returns
        -------
        codes : ndarray of uint8, shape [n, width]
        clip_ids : ndarray of int64, shape [n]
        """
        start, end = self._extent(number)
        return read_list(self.structure.layout, self._mapped[start:end], int(self.counts[number]))

    def ids(self) -> NDArray[np.int64]:
        """Clip ids of all rows, list by list."""
        layout = self.structure.layout
        width, padded = CODES[layout.code], layout.padded_rows(self.counts)
        ids = np.empty(int(self.counts.sum()), np.int64)
        end = 0
        for number, count in enumerate(self.counts.tolist()):
            start = self._extent(number)[0] + int(padded[number]) * width
            ids[end : end + count] = self._mapped[start : start + 8 * count].view("<i8")
            end += count
        return ids

    def _extent(self, number: int) -> tuple[int, int]:
        """Bounds of a list in bytes, end excluded."""
        width = self.structure.layout.row_bytes
        start, end = self._starts[number : number + 2].tolist()
        return start * width, end * width


def _linear(basis: NDArray[np.float32]) -> Any:
    """Return FAISS's linear map of vectors to their products with the rows of ``basis``."""
    transform = faiss().LinearTransform(basis.shape[1], len(basis))
    faiss().copy_array_to_vector(basis.ravel(), transform.A)
    transform.is_trained = True
    return transform


def _parameters(code: str, probes: int, selector: Any | None) -> Any:
    """Return FAISS's search parameters for a code."""
    if selector is None:
        return _unrestricted(code, probes)
    return _make_parameters(code, nprobe=probes, sel=selector)


@cache
def _unrestricted(code: str, probes: int) -> Any:
    # making them takes as long as reading a thousand codes
    return _make_parameters(code, nprobe=probes)


def _make_parameters(code: str, **options: Any) -> Any:
    if code.startswith("RaBitQ"):
        return faiss().IVFRaBitQSearchParameters(qb=_QUERY_BITS, **options)
    return faiss().SearchParametersIVF(**options)


def quantizer(centroids: NDArray[np.float32]) -> Any:
    """Return a FAISS index of the centroids with the inner product.

    Parameters
    ----------
    centroids : ndarray of float32, shape [lists, 512]
        Centroids of the lists.
    """
    flat = faiss().IndexFlatIP(centroids.shape[1])
    flat.add(centroids)
    return flat


def empty_index(structure: Structure) -> tuple[Any, tuple[Any, ...]]:
    """Return a FAISS index without lists, and the objects that must outlive it.

    Parameters
    ----------
    structure : Structure
        Centroids and code of the index.
    """
    layout, metric = structure.layout, faiss().METRIC_INNER_PRODUCT
    code = structure.transform
    if code is not None:
        no_centroids = faiss().IndexFlatIP(STAGES)  # lists are chosen by centroids of 512 numbers
        make = faiss().IndexIVFPQFastScan if layout.code.endswith("fs") else faiss().IndexIVFPQ
        index = make(no_centroids, STAGES, layout.lists, STAGES, 4, metric)
        index.by_residual = True
        faiss().copy_array_to_vector(
            np.ascontiguousarray(code.codebook).ravel(), index.pq.centroids
        )
        index.is_trained = True
        return index, (no_centroids,)
    centroids_index = quantizer(structure.centroids)
    if layout.code.startswith("RaBitQ"):
        bits = int(layout.code.removeprefix("RaBitQ"))
        index = faiss().IndexIVFRaBitQ(
            centroids_index, EMBEDDING_DIM, layout.lists, metric, False, bits
        )
    else:
        bits = getattr(faiss().ScalarQuantizer, f"QT_{layout.code.removeprefix('SQ')}bit")
        index = faiss().IndexIVFScalarQuantizer(
            centroids_index, EMBEDDING_DIM, layout.lists, bits, metric, True, False
        )
        if len(structure.learned):
            faiss().copy_array_to_vector(structure.learned, index.sq.trained)
    index.is_trained = True
    return index, (centroids_index,)


def _map_lists(path: Path, structure: Structure, counts: NDArray[np.int64]) -> Any:
    layout = structure.layout
    lists = faiss().OnDiskInvertedLists(layout.lists, CODES[layout.code], str(path))
    # One row per list: size, capacity, and offset.
    table = np.zeros((layout.lists, 3), np.uint64)
    table[:, 0], table[:, 1] = counts, layout.padded_rows(counts)
    table[1:, 2] = np.cumsum(layout.padded_rows(counts))[:-1] * layout.row_bytes
    faiss().memcpy(lists.lists.data(), faiss().swig_ptr(table), table.nbytes)
    lists.totsize = path.stat().st_size
    lists.read_only = True
    lists.prefetch_nthread = 0  # a thread per list costs more than it saves
    lists.do_mmap()
    return lists
