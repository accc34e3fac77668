"""Searching an inverted file: FAISS over a mapped file, under a filter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.ann import CODES, Structure, read_arrays
from sleepfm_index.manifest import IndexEntry
from sleepfm_index.threads import faiss

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
        index, quantizer = empty_index(structure)
        lists = _map_lists(path, structure, counts)
        index.replace_invlists(lists, False)
        index.ntotal = entry.rows
        return cls(structure, counts, path, index, (quantizer, lists))

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
        kind = self.structure.kind
        probes = min(probes, kind.lists)
        wanted: dict[str, Any] = {} if selector is None else {"sel": selector}
        wanted["nprobe"] = probes
        if kind.code.startswith("RaBitQ"):
            parameters = faiss().IVFRaBitQSearchParameters(qb=_QUERY_BITS, **wanted)
        else:
            parameters = faiss().SearchParametersIVF(**wanted)
        _, found = self.index.search(queries, depth, params=parameters)
        ids: NDArray[np.int64] = found
        return ids

    def list_ids(self) -> NDArray[np.int64]:
        """Clip ids of all rows, list by list."""
        code = CODES[self.structure.kind.code]
        rows = np.memmap(self.path, np.uint8, "r")
        ids = np.empty(int(self.counts.sum()), np.int64)
        at = start = 0
        for count in self.counts.tolist():
            start += count * code
            ids[at : at + count] = rows[start : start + 8 * count].view("<i8")
            at += count
            start += 8 * count
        return ids


def empty_index(structure: Structure) -> tuple[Any, Any]:
    """FAISS's index without lists, and its quantizer, which must outlive it."""
    kind = structure.kind
    quantizer = faiss().IndexFlatIP(EMBEDDING_DIM)
    quantizer.add(structure.centroids)
    metric = faiss().METRIC_INNER_PRODUCT
    if kind.code.startswith("RaBitQ"):
        bits = int(kind.code.removeprefix("RaBitQ"))
        index = faiss().IndexIVFRaBitQ(quantizer, EMBEDDING_DIM, kind.lists, metric, False, bits)
    else:
        bits = getattr(faiss().ScalarQuantizer, f"QT_{kind.code.removeprefix('SQ')}bit")
        index = faiss().IndexIVFScalarQuantizer(
            quantizer, EMBEDDING_DIM, kind.lists, bits, metric, True, False
        )
        if len(structure.bounds):
            faiss().copy_array_to_vector(structure.bounds, index.sq.trained)
    index.is_trained = True
    return index, quantizer


def _map_lists(path: Path, structure: Structure, counts: NDArray[np.int64]) -> Any:
    kind = structure.kind
    lists = faiss().OnDiskInvertedLists(kind.lists, CODES[kind.code], str(path))
    # One row of this table a list: its size, its capacity, and where it starts.
    table = np.zeros((kind.lists, 3), np.uint64)
    table[:, 0] = table[:, 1] = counts
    table[1:, 2] = np.cumsum(counts)[:-1] * kind.row_bytes
    faiss().memcpy(lists.lists.data(), faiss().swig_ptr(table), table.nbytes)
    lists.totsize = path.stat().st_size
    lists.read_only = True
    lists.prefetch_nthread = 0  # a thread a list costs more than it brings
    lists.do_mmap()
    return lists
