"""FAISS's index over float16 vectors where they lie, without a copy of them.

The rows of FAISS's float16 scalar quantiser are the rows of a vector file, byte for byte. So every
run of rows becomes a list of an inverted file that looks into the array: all lists are read for
every query, so the search is exhaustive, and the lists are what threads share. Only clip ids, 8
bytes per row, are in memory.
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
"""Rows of a list, at most: 0.4 ms of one thread."""
_SHORT: Final = 64
"""Runs of fewer rows are copied together, since a list costs as much as comparing some rows."""
_ALONE: Final = 1 << 14
"""Up to so many rows one thread is as fast as several, which must be woken."""
_OVER_LISTS: Final = 1
"""FAISS's number for threads that share the lists of a query."""

Part = tuple[NDArray[np.int64], Stored]
"""Clip ids, int64 [n], and their rows in an array, float16 [n, 512]."""


@dataclass(frozen=True)
class MappedVectors:
    """Vectors of any number of arrays as one FAISS index.

    Parameters
    ----------
    index : faiss.IndexIVFScalarQuantizer
        It looks into the arrays; FAISS does not keep them alive.
    referenced : tuple
        What must outlive the index: the arrays and FAISS's objects around them.
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
            int64 [n] and float16 [n, 512], contiguous; none of the rows is zero.
        """
        cut = [
            (ids[at : at + LIST_ROWS], rows[at : at + LIST_ROWS])
            for ids, rows in _long_enough(parts)
            for at in range(0, len(ids), LIST_ROWS)
        ]
        lists, views = _lists(cut)
        none = faiss().IndexFlatIP(EMBEDDING_DIM)  # no list is chosen by a centroid
        none.add(np.zeros((len(cut), EMBEDDING_DIM), np.float32))
        half, product = faiss().ScalarQuantizer.QT_fp16, faiss().METRIC_INNER_PRODUCT
        index = faiss().IndexIVFScalarQuantizer(
            none, EMBEDDING_DIM, max(1, len(cut)), half, product, False, False
        )
        index.is_trained = True
        index.replace_invlists(lists, False)
        index.ntotal = sum(len(ids) for ids, _ in cut)
        index.nprobe = max(1, len(cut))
        index.parallel_mode = _OVER_LISTS if index.ntotal > _ALONE else 0
        whole = np.arange(index.nlist, dtype=np.int64)
        return cls(index, (none, lists, views, cut), whole, np.zeros(index.nlist, np.float32))

    @property
    def rows(self) -> int:
        """Rows of all arrays."""
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
            -1 where fewer may be found.
        scores : ndarray of float32, shape [k]
        """
        scores, ids = np.empty(k, np.float32), np.empty(k, np.int64)
        pointers = [*self._whole(), *map(faiss().swig_ptr, (scores, ids))]
        x = np.ascontiguousarray(query, np.float32)
        # FAISS's own wrapper of it takes no parameters.
        self.index.search_preassigned_c(
            1, faiss().swig_ptr(x), k, *pointers, False, self._parameters(selector)
        )
        return ids, scores

    def above(
        self, query: NDArray[np.float32], least: float, selector: Any | None = None
    ) -> NDArray[np.int64]:
        """Return the clips whose score in float32 is above ``least``, in no order.

        Parameters
        ----------
        query : ndarray of float32, shape [512]
            The query vector.
        least : float
            The score.
        selector : faiss.IDSelector, optional
            Restricts the clips that may be found; by default all.
        """
        x, found = np.ascontiguousarray(query, np.float32), faiss().RangeSearchResult(1)
        self.index.range_search_preassigned_c(
            1, faiss().swig_ptr(x), least, *self._whole(), found, False, self._parameters(selector)
        )
        count = int(faiss().rev_swig_ptr(found.lims, 2)[1])
        ids: NDArray[np.int64] = faiss().rev_swig_ptr(found.labels, count).copy()
        return ids

    def _whole(self) -> tuple[Any, Any]:
        """All lists, and scores of centroids that are not there."""
        return faiss().swig_ptr(self._lists), faiss().swig_ptr(self._centred)

    def _parameters(self, selector: Any | None) -> Any:
        wanted: dict[str, Any] = {} if selector is None else {"sel": selector}
        return faiss().SearchParametersIVF(nprobe=self.index.nlist, **wanted)


def _long_enough(parts: Iterable[Part]) -> Iterator[Part]:
    short: list[Part] = []
    waiting = 0
    for ids, rows in parts:
        if len(ids) >= _SHORT:
            yield ids, rows
            continue
        short.append((ids, rows))
        waiting += len(ids)
        if waiting >= LIST_ROWS:
            yield _joined(short)
            short, waiting = [], 0
    if short:
        yield _joined(short)


def _joined(parts: list[Part]) -> Part:
    ids, rows = zip(*parts, strict=True)
    return np.concatenate(ids), np.concatenate(rows)


def _lists(cut: list[Part]) -> tuple[Any, tuple[Any, ...]]:
    """FAISS's lists whose codes lie in the arrays; ids are copied."""
    # Without codes at first: adding the ids copies no row.
    lists = faiss().ArrayInvertedLists(max(1, len(cut)), 0)
    codes = faiss().MaybeOwnedVectorUInt8Vector()
    nothing = np.empty(1, np.uint8)
    for at, (ids, rows) in enumerate(cut):
        own = np.ascontiguousarray(ids, np.int64)
        pointers = map(faiss().swig_ptr, (own, nothing))
        lists.add_entries(at, len(own), *pointers)
        codes.push_back(view(rows.view(np.uint8).reshape(-1)))
    if not cut:
        codes.push_back(faiss().MaybeOwnedVectorUInt8())
    lists.codes.swap(codes)
    lists.code_size = vector_format.ROW_BYTES
    return lists, (codes,)


def view(array: NDArray[Any]) -> Any:
    """FAISS's vector over an array that is not copied, and not owned: the array must outlive it.

    Parameters
    ----------
    array : ndarray of uint8 or int32, shape [n]
        Contiguous.
    """
    name = "MaybeOwnedVectorUInt8" if array.dtype == np.uint8 else "MaybeOwnedVectorInt32"
    kind = getattr(faiss(), name)
    return kind.create_view(faiss().swig_ptr(array), array.nbytes, kind().owner)
