"""File layout of a graph; FAISS uses the mapped arrays without a copy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.runtime.threads import faiss
from sleepfm_index.search.mapped_vectors import view
from sleepfm_index.storage import vector_format
from sleepfm_index.storage.files import Sink

_EF_CONSTRUCTION: Final = 80
"""Candidates per clip during construction (efConstruction)."""
_MAX_VALUE: Final = 1.01
"""Bound of the numbers of unit vectors and of their means, including rounding."""
_BLOCK: Final = 1 << 24
"""Numbers written or checked per block."""


@dataclass(frozen=True)
class GraphArrays:
    """Arrays of the file, in order.

    Parameters
    ----------
    ids : ndarray of int64, shape [rows]
        Clip ids.
    entry : int
        Row on the highest layer where every search starts; -1 without rows.
    vectors : ndarray of float16, shape [rows, 512]
        Vectors.
    layers : ndarray of int32, shape [rows]
        Number of layers of each row.
    links : ndarray of int32
        Linked rows, row by row and layer by layer from the lowest; unused links of a layer are -1.
    """

    ids: NDArray[np.int64]
    entry: int
    vectors: vector_format.Stored
    layers: NDArray[np.int32]
    links: NDArray[np.int32]

    @property
    def rows(self) -> int:
        """Number of clips in the graph."""
        return len(self.ids)

    @classmethod
    def of(cls, index: Any, ids: NDArray[np.int64]) -> GraphArrays:
        """Extract the arrays from a FAISS index.

        Parameters
        ----------
        index : faiss.IndexHNSW
            The FAISS index.
        ids : ndarray of int64, shape [rows]
            Clip id of each row.
        """
        graph, array = index.hnsw, faiss().vector_to_array
        codes = array(faiss().downcast_index(index.storage).codes)
        vectors = codes.view(vector_format.STORED).reshape(len(ids), EMBEDDING_DIM)
        entry = int(graph.entry_point) if len(ids) else -1
        return cls(ids, entry, vectors, array(graph.levels), array(graph.neighbors))

    @classmethod
    def map(cls, path: Path, rows: int, below: NDArray[np.int64]) -> GraphArrays | None:
        """Map a file; return None if it is not a graph with the given number of rows.

        Parameters
        ----------
        path : Path
            The file.
        rows : int
            Number of rows.
        below : ndarray of int64
            Result of :func:`links_below`.
        """
        size = path.stat().st_size
        before_links = 8 * rows + 8 + vector_format.ROW_BYTES * rows + 4 * rows
        if size < before_links or (size - before_links) % 4:
            return None
        content = np.memmap(path, np.uint8, "r")
        ids, offset = content[: 8 * rows].view("<i8"), 8 * rows
        entry, offset = int(content[offset : offset + 8].view("<i8")[0]), offset + 8
        end = offset + vector_format.ROW_BYTES * rows
        vectors = content[offset:end].view(vector_format.STORED).reshape(rows, EMBEDDING_DIM)
        layers, links = content[end:before_links].view("<i4"), content[before_links:].view("<i4")
        arrays = cls(ids, entry, vectors, np.array(layers), links)
        return arrays if arrays._is_sound(below) else None

    def _is_sound(self, below: NDArray[np.int64]) -> bool:
        """Whether all links lie within the arrays, which FAISS does not check."""
        if not self.rows:
            return self.entry == -1 and not len(self.links)
        if self.layers.min() < 1 or self.layers.max() >= len(below):
            return False
        if not 0 <= self.entry < self.rows or self.layers[self.entry] != self.layers.max():
            return False
        starts = self.starts(below)
        if starts[-1] != len(self.links):
            return False
        for start in range(0, len(self.links), _BLOCK):
            block = self.links[start : start + _BLOCK]
            if block.min() < -1 or block.max() >= self.rows:
                return False
        for layer in range(1, int(self.layers.max())):
            # A link must lead to a row on the same layer, because FAISS reads that row's links.
            on_layer = np.flatnonzero(self.layers > layer)
            indices = starts[on_layer, None] + np.arange(below[layer], below[layer + 1])
            linked = self.links[indices.ravel()]
            if np.any(self.layers[linked[linked >= 0]] <= layer):
                return False
        # FAISS needs finite numbers to choose the next row.
        return vector_format.bounded(self.vectors, _MAX_VALUE)

    def starts(self, below: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index of each row's first link, and the number of links: int64 [rows + 1].

        Parameters
        ----------
        below : ndarray of int64
            Result of :func:`links_below`.
        """
        starts: NDArray[np.int64] = np.r_[0, np.cumsum(below[self.layers])]
        return starts

    def put_into(self, index: Any, *, copy: bool) -> None:
        """Attach these arrays to an empty FAISS index.

        Parameters
        ----------
        index : faiss.IndexHNSW
            An empty index.
        copy : bool
            Whether to copy vectors and links, which adding rows requires; otherwise FAISS reads
            these arrays, which must outlive the index.
        """
        graph, put = index.hnsw, faiss().copy_array_to_vector
        storage = faiss().downcast_index(index.storage)
        codes = np.ascontiguousarray(self.vectors).view(np.uint8).reshape(-1)
        links = np.ascontiguousarray(self.links)
        if copy or not self.rows:
            put(codes, storage.codes)
            put(links, graph.neighbors)
        else:
            storage.codes = view(codes)
            graph.neighbors = view(links)
        put(np.ascontiguousarray(self.layers, np.int32), graph.levels)
        put(self.starts(links_below(index)).astype(np.uint64), graph.offsets)
        graph.entry_point = self.entry
        graph.max_level = int(self.layers.max(initial=0)) - 1
        storage.ntotal = index.ntotal = self.rows

    def write(self, sink: Sink) -> None:
        """Write the arrays, large ones in blocks.

        Parameters
        ----------
        sink : Sink
            The file being written.
        """
        sink.write(np.ascontiguousarray(self.ids, "<i8").tobytes())
        sink.write(np.array([self.entry], "<i8").tobytes())
        parts: tuple[NDArray[Any], ...] = (self.vectors, self.layers, self.links)
        for array in parts:
            flat = array.reshape(-1)
            for start in range(0, len(flat), _BLOCK):
                sink.write(flat[start : start + _BLOCK].tobytes())


def empty_index(links: int) -> Any:
    """Return a FAISS index without rows.

    Parameters
    ----------
    links : int
        Links per row.
    """
    half = faiss().ScalarQuantizer.QT_fp16
    index = faiss().IndexHNSWSQ(EMBEDDING_DIM, half, links, faiss().METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _EF_CONSTRUCTION
    return index


def links_below(index: Any) -> NDArray[np.int64]:
    """Cumulative number of links of a row on the layers below each layer: int64 [layers + 1].

    Parameters
    ----------
    index : faiss.IndexHNSW
        The FAISS index.
    """
    cumulative = faiss().vector_to_array(index.hnsw.cum_nneighbor_per_level)
    return np.asarray(cumulative, np.int64)
