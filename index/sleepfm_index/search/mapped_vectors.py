"""A FAISS index over mapped float16 vectors without a copy.

The rows of FAISS's float16 scalar quantiser are byte for byte the rows of a vector file. Each run
of rows becomes one list of an inverted file whose codes are a view of the mapped array. Every query
reads all lists, so the search is exhaustive, and the lists are distributed over the threads. Only
clip ids, 8 bytes per row, are in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.runtime.threads import faiss
from sleepfm_index.storage import vector_format
from sleepfm_index.storage.vector_format import Stored

LIST_ROWS: Final = 4096
"""Maximum number of rows per list, which one thread scans in 0.4 ms."""
_SHORT: Final = 64
"""Shorter runs are copied into joint lists, because each list has a fixed cost."""
_ONE_THREAD: Final = 1 << 14
"""Number of rows up to which one thread is as fast as several."""
_OVER_LISTS: Final = 1
"""FAISS's parallel mode in which threads share the lists of a query."""

Part = tuple[NDArray[np.int64], Stored]
"""Clip ids, int64 [n], and their vectors, float16 [n, 512]."""


@dataclass(frozen=True)
class MappedVectors:
    """Vectors of any number of arrays as one FAISS index.

    Parameters
    ----------
    index : faiss.IndexIVFScalarQuantizer
        Index over views of the arrays, which FAISS does not keep alive.
    referenced : tuple
        Objects that must outlive the index: the arrays and FAISS's views of them.
    """

    index: Any
    referenced: tuple[Any, ...]
    _lists: NDArray[np.int64]
    _centred: NDArray[np.float32]

    @classmethod
    def over(cls, parts: Iterable[Part]) -> MappedVectors:
        """Return an index over arrays.

        Parameters
        ----------
        parts : iterable of (clip_ids, rows)
            Clip ids, int64 [n], and vectors, float16 [n, 512], contiguous; no row is zero.
        """
        cut = [
            (ids[start : start + LIST_ROWS], rows[start : start + LIST_ROWS])
            for ids, rows in _long_enough(parts)
            for start in range(0, len(ids), LIST_ROWS)
        ]
        lists, views = _lists(cut)
        no_centroids = faiss().IndexFlatIP(EMBEDDING_DIM)  # no list is chosen by a centroid
        no_centroids.add(np.zeros((len(cut), EMBEDDING_DIM), np.float32))
        half, product = faiss().ScalarQuantizer.QT_fp16, faiss().METRIC_INNER_PRODUCT
        index = faiss().IndexIVFScalarQuantizer(
            no_centroids, EMBEDDING_DIM, max(1, len(cut)), half, product, False, False
        )
        index.is_trained = True
        index.replace_invlists(lists, False)
        index.ntotal = sum(len(ids) for ids, _ in cut)
        index.nprobe = max(1, len(cut))
        index.parallel_mode = _OVER_LISTS if index.ntotal > _ONE_THREAD else 0
        numbers = np.arange(index.nlist, dtype=np.int64)
        return cls(
            index, (no_centroids, lists, views, cut), numbers, np.zeros(index.nlist, np.float32)
        )

    @property
    def rows(self) -> int:
        """Number of rows of all arrays."""
        return int(self.index.ntotal)

    def search(
        self, query: NDArray[np.float32], k: int, selector: Any | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ``k`` rows that score highest in float32, best first.

        Parameters
        ----------
        query : ndarray of float32, shape [512]
            The query vector.
        k : int
            Number of rows, at most :attr:`rows`.
        selector : faiss.IDSelector, optional
            Restricts the clips that may be found; by default all.

        Returns
        -------
        clip_ids : ndarray of int64, shape [k]
            Clip ids, padded with -1 if the selector allows fewer.
        scores : ndarray of float32, shape [k]
        """
        scores, ids = np.empty(k, np.float32), np.empty(k, np.int64)
        pointers = [*self._all_lists(), *map(faiss().swig_ptr, (scores, ids))]
        x = np.ascontiguousarray(query, np.float32)
        # FAISS's Python wrapper of this method takes no parameters.
        self.index.search_preassigned_c(
            1, faiss().swig_ptr(x), k, *pointers, False, self._parameters(selector)
        )
        return ids, scores

    def above(
        self, query: NDArray[np.float32], threshold: float, selector: Any | None = None
    ) -> NDArray[np.int64]:
        """Return the clips whose float32 score is above a threshold, unordered.

        Parameters
        ----------
        query : ndarray of float32, shape [512]
            The query vector.
        threshold : float
            Score that a clip must exceed.
        selector : faiss.IDSelector, optional
            Restricts the clips that may be found; by default all.
        """
        x, result = np.ascontiguousarray(query, np.float32), faiss().RangeSearchResult(1)
        self.index.range_search_preassigned_c(
            1,
            faiss().swig_ptr(x),
            threshold,
            *self._all_lists(),
            result,
            False,
            self._parameters(selector),
        )
        count = int(faiss().rev_swig_ptr(result.lims, 2)[1])
        ids: NDArray[np.int64] = faiss().rev_swig_ptr(result.labels, count).copy()
        return ids

    def _all_lists(self) -> tuple[Any, Any]:
        """Pointers to the numbers of all lists and to their centroid scores, which are zero."""
        return faiss().swig_ptr(self._lists), faiss().swig_ptr(self._centred)

    def _parameters(self, selector: Any | None) -> Any:
        selection: dict[str, Any] = {} if selector is None else {"sel": selector}
        return faiss().SearchParametersIVF(nprobe=self.index.nlist, **selection)


def _long_enough(parts: Iterable[Part]) -> Iterator[Part]:
    short: list[Part] = []
    pending = 0
    for ids, rows in parts:
        if len(ids) >= _SHORT:
            yield ids, rows
            continue
        short.append((ids, rows))
        pending += len(ids)
        if pending >= LIST_ROWS:
            yield _joined(short)
            short, pending = [], 0
    if short:
        yield _joined(short)


def _joined(parts: list[Part]) -> Part:
    ids, rows = zip(*parts, strict=True)
    return np.concatenate(ids), np.concatenate(rows)


def _lists(cut: list[Part]) -> tuple[Any, tuple[Any, ...]]:
    """FAISS inverted lists whose codes are views of the arrays; clip ids are copied."""
    # Created with codes of zero bytes, so that adding the ids copies no vector.
    lists = faiss().ArrayInvertedLists(max(1, len(cut)), 0)
    codes = faiss().MaybeOwnedVectorUInt8Vector()
    nothing = np.empty(1, np.uint8)
    for number, (ids, rows) in enumerate(cut):
        contiguous_ids = np.ascontiguousarray(ids, np.int64)
        pointers = map(faiss().swig_ptr, (contiguous_ids, nothing))
        lists.add_entries(number, len(contiguous_ids), *pointers)
        codes.push_back(view(rows.view(np.uint8).reshape(-1)))
    if not cut:
        codes.push_back(faiss().MaybeOwnedVectorUInt8())
    lists.codes.swap(codes)
    lists.code_size = vector_format.ROW_BYTES
    return lists, (codes,)


def view(array: NDArray[Any]) -> Any:
    """Return a FAISS vector that is a view of an array, which must outlive it.

    Parameters
    ----------
    array : ndarray of uint8 or int32, shape [n]
        Contiguous array.
    """
    name = "MaybeOwnedVectorUInt8" if array.dtype == np.uint8 else "MaybeOwnedVectorInt32"
    vector_type = getattr(faiss(), name)
    return vector_type.create_view(faiss().swig_ptr(array), array.nbytes, vector_type().owner)
