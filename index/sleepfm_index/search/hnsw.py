"""A graph of neighbours: ``HNSW32``, for stores of some 20,000 to a million clips.

Hierarchical navigable small worlds (Malkov and Yashunin 2018, arXiv 1603.09320): every clip is
linked to some of its neighbours, a few clips also on higher layers, and a query walks from the top
layer towards the highest scores. The graph needs no training. The file has a copy of the vectors,
as float16, and the links, 1.3 kB per clip; both are mapped.

FAISS follows links without bounds checks, so :meth:`HNSW.open` checks each link. FAISS cannot
remove a clip from a graph: deleted clips remain as nodes that are traversed but not returned, and
after a compaction the graph is rebuilt. Threads add clips concurrently, so two builds with several
threads differ in a few links.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.runtime.threads import faiss
from sleepfm_index.search.blocks import Blocks, gathered
from sleepfm_index.search.flat import Flat
from sleepfm_index.search.hnsw_format import GraphArrays, empty_index, links_below
from sleepfm_index.search.parameters import Parameters, parameter
from sleepfm_index.search.protocol import (
    DEPTHS,
    SEED,
    Estimate,
    IndexKind,
    Trial,
    VectorIndex,
)
from sleepfm_index.storage import paths, vector_format
from sleepfm_index.storage.files import publish_file
from sleepfm_index.storage.manifest import IndexEntry
from sleepfm_index.storage.plain_files import check_plain
from sleepfm_index.storage.vectors import Vectors

MAX_ROWS: Final = 5_000_000
_MIN_LINKS: Final = 4
_MAX_LINKS: Final = 128
_MAX_EF: Final = 4096
"""Maximum ``ef``; beyond it, comparing every vector is as fast."""
_DISTANCE_COST: Final = 64
"""Cost of comparing one vector, in codes read (protocol.Trial)."""

# Measured with 20,000 and 100,000 drawn vectors and 32 links (benchmarks/graphs.py); see
# docs/scale.md. Other machines differ.
_BUILD_US: Final = 390.0  # per row and thread, of 100,000 rows
_QUERY_US: Final = 900.0  # recall@10 of 0.99 of 100,000 rows


@dataclass(frozen=True)
class HNSW:
    """A graph with a number of links per clip; see :class:`~.protocol.IndexKind`.

    Parameters
    ----------
    links : int
        Links of a clip on each higher layer; twice as many on the lowest.
    """

    links: int

    names: ClassVar[tuple[str, ...]] = ("HNSW<links>",)
    exact = False
    searchable = True
    removes_rows = False
    training_rows = 1

    def __str__(self) -> str:
        return f"HNSW{self.links}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Read ``HNSW32``; None if it is not such a name.

        Parameters
        ----------
        name : str
            Name of the kind of index.
        """
        match = re.fullmatch(r"HNSW(\d{1,3})", name)
        links = int(match[1]) if match else 0
        return cls(links) if _MIN_LINKS <= links <= _MAX_LINKS else None

    @property
    def finer(self) -> IndexKind | None:
        """Exhaustive search, because the graph already has the full vectors."""
        return Flat()

    def check_rows(self, rows: int, target: str) -> None:
        """Refuse more clips than a graph supports.

        Parameters
        ----------
        rows : int
            Number of clips.
        target : str
            Name of the target, for the error message.

        Raises
        ------
        QueryError
            If there are more than :data:`MAX_ROWS` clips.
        """
        if rows > MAX_ROWS:
            raise QueryError(
                f"{self} is for up to {MAX_ROWS:,} clips and {target or 'the store'} has "
                f"{rows:,}; use an inverted file"
            )

    def outgrown(self, planned: IndexKind) -> bool:
        """Return False: a graph is replaced only on request.

        Parameters
        ----------
        planned : IndexKind
            The kind that the plan proposes.
        """
        del planned
        return False

    def estimate(self, rows: int, sample: int, threads: int, target: str = "") -> Estimate:
        """Estimate time, disk and memory; the graph is in memory while it is built.

        Parameters
        ----------
        rows, sample, threads : int
            Number of clips of the target, of training vectors, and of threads.
        target : str
            Not used.
        """
        del sample, target
        size = rows * (8 + vector_format.ROW_BYTES + 4 + 4 * (2 * self.links + 1))
        growth = rows / 100_000
        return Estimate(
            seconds=rows * _BUILD_US * growth**0.3 * self.links / 32 / threads / 1e6,
            disk_bytes=size,
            memory_bytes=2 * size + 300_000_000,
            query_ms=_QUERY_US * growth**0.5 / 1000,
        )

    def describe(self, parameters: Parameters) -> str:
        """Describe the parameters: ``ef 64``.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        """
        return f"ef {parameters.get('ef', 0)}"

    def train(
        self, sample: NDArray[np.float32], queries: NDArray[np.float32], seed: int = SEED
    ) -> HNSW:
        """Return the kind itself, which needs no training.

        Parameters
        ----------
        sample, queries : ndarray of float32
            Not used.
        seed : int
            Not used.
        """
        del sample, queries, seed
        return self

    def write(
        self,
        store: Path,
        target: str,
        segments: tuple[str, ...],
        trained: HNSW,
        blocks: Blocks,
        kept: tuple[VectorIndex, NDArray[np.bool_]] | None = None,
    ) -> IndexEntry:
        """Link clips into a graph and publish it; see :meth:`.protocol.IndexKind.write`.

        Parameters
        ----------
        store : Path
            The store's folder.
        target : str
            Search target: a modality, or ``others_of_<modality>``.
        segments : tuple of str
            Names of the segments that the index covers.
        trained : HNSW
            Result of :meth:`train`, which is the kind itself.
        blocks : iterable of (clip_ids, vectors)
            Clip ids, int64 [m], and vectors, float32 [m, 512], block by block.
        kept : tuple of (Graph, ndarray of bool, shape [rows]), optional
            A graph to add to; all of its rows are kept.
        """
        index, ids = empty_index(trained.links), np.empty(0, np.int64)
        if kept is not None:
            earlier, keep = kept
            assert isinstance(earlier, Graph) and keep.all()
            earlier.arrays.put_into(index, copy=True)
            ids = earlier.ids()
        id_parts = [ids]
        for clip_ids, vectors in gathered(blocks):
            index.add(np.ascontiguousarray(vectors, np.float32))
            id_parts.append(clip_ids)
        arrays = GraphArrays.of(index, np.concatenate(id_parts))
        # Names are never reused, because an earlier snapshot may refer to the earlier file.
        file = f"{target}-{uuid.uuid4().hex[:16]}.hnsw"
        entry = publish_file(store / paths.INDEXES / file, arrays.write)
        return IndexEntry(target, file, str(trained), arrays.rows, segments, entry)

    def open(self, store: Path, entry: IndexEntry, vectors: Vectors | None = None) -> Graph:
        """Map a published graph after checking every link.

        Parameters
        ----------
        store : Path
            The store's folder.
        entry : IndexEntry
            Entry of the index in the manifest.
        vectors : Vectors, optional
            Not used.

        Raises
        ------
        FormatError
            If the file is not a graph with the number of rows in the manifest.
        """
        del vectors
        path = check_plain(store, paths.INDEXES, entry.file, size=entry.entry.bytes)
        index = empty_index(self.links)
        arrays = GraphArrays.map(path, entry.rows, links_below(index))
        if arrays is None:
            raise FormatError(f"{path} is damaged; run `sleepfm-index verify --repair`")
        with_ids = faiss().IndexIDMap(index)
        arrays.put_into(index, copy=False)
        with_ids.ntotal = entry.rows
        faiss().copy_array_to_vector(np.ascontiguousarray(arrays.ids, np.int64), with_ids.id_map)
        return Graph(self, arrays, with_ids, (index,))


@dataclass(frozen=True)
class Graph:
    """An open graph, a :class:`~.protocol.VectorIndex`; its parameter is ``ef``.

    Parameters
    ----------
    kind : HNSW
        Number of links.
    arrays : GraphArrays
        Mapped arrays of the file.
    index : faiss.IndexIDMap
        FAISS index over these arrays.
    """

    kind: HNSW
    arrays: GraphArrays
    index: Any
    _referenced: tuple[Any, ...]

    complete = False

    @property
    def rows(self) -> int:
        """Number of clips in the graph."""
        return self.arrays.rows

    @property
    def trained(self) -> HNSW:
        """The kind, which is all that training gives."""
        return self.kind

    def ids(self) -> NDArray[np.int64]:
        """Clip ids of all rows."""
        return np.array(self.arrays.ids, np.int64)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        parameters: Parameters,
        selector: Any | None = None,
    ) -> NDArray[np.int64]:
        """Return the clips that score highest; see :class:`~.protocol.VectorIndex`.

        Parameters
        ----------
        queries : ndarray of float32, shape [q, 512]
            Query vectors.
        k : int
            Number of clips to find per query.
        parameters : mapping of str to int
            ``ef``: size of the candidate list during the search.
        selector : faiss.IDSelector, optional
            Restricts the clips that may be found; by default all.

        Returns
        -------
        ndarray of int64, shape [q, k]
        """
        ef = max(k, parameter(parameters, "ef", _MAX_EF))
        if not self.rows:
            return np.full((len(queries), k), -1, np.int64)
        # Normalised, because FAISS needs finite scores.
        wide = queries.astype(np.float64)
        lengths = np.linalg.norm(wide, axis=1, keepdims=True)
        unit = (wide / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        selection: dict[str, Any] = {} if selector is None else {"sel": selector}
        options = faiss().SearchParametersHNSW(efSearch=ef, **selection)
        ids: NDArray[np.int64] = self.index.search(np.ascontiguousarray(unit), k, params=options)[1]
        return ids

    def trials(self, at_least: Parameters | None = None) -> Iterator[Trial]:
        """Yield values of ``ef``, each 1.4 times the one before.

        Parameters
        ----------
        at_least : mapping of str to int, optional
            Smallest parameters to try; by default the smallest possible.
        """
        smallest = at_least["ef"] if at_least is not None else DEPTHS[0]
        largest = max(smallest, min(_MAX_EF // 4, self.rows))
        steps = sorted(
            {round(DEPTHS[0] * 2 ** (step_number / 2)) for step_number in range(20)} | {smallest}
        )
        for ef in (step for step in steps if smallest <= step <= largest):
            # the graph has the stored vectors, so few candidates are enough
            depths = tuple(depth for depth in DEPTHS[:4] if depth <= ef) or (ef,)
            yield Trial({"ef": ef}, _DISTANCE_COST * self.kind.links * ef, depths)

    def scaled(self, parameters: Parameters, factor: float) -> Parameters:
        """Return an ``ef`` that is ``factor`` times as large.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        factor : float
            Number of results in multiples of the calibrated number.
        """
        return {"ef": round(parameter(parameters, "ef", _MAX_EF) * factor)}

    def wider(self, parameters: Parameters) -> Parameters | None:
        """Return an ``ef`` four times as large; None beyond the maximum.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        """
        ef = parameters["ef"]
        return None if ef >= min(self.rows, _MAX_EF) else {"ef": 4 * ef}
