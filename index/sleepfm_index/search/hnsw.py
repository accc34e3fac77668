"""A graph of neighbours: ``HNSW32``, for stores of some 20,000 to a million clips.

Hierarchical navigable small worlds (Malkov and Yashunin 2018, arXiv 1603.09320): every clip is
linked to some of its neighbours, few clips also on higher layers, and a query walks from the top
towards what scores highest. It needs no training and learns nothing of the queries. The file holds
the vectors once more, as float16, and the links, 1.3 kB per clip; vectors and links are mapped.

FAISS follows the links without looking, so :meth:`HNSW.open` checks each of them. FAISS cannot take
a clip out of a graph: deleted clips stay, are walked through and not found, and when one has left
the store the graph is built again. Threads add clips side by side, so two builds on more than one
thread differ in some links.
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
from sleepfm_index.storage.files import check_plain, publish_file
from sleepfm_index.storage.manifest import IndexEntry
from sleepfm_index.storage.vectors import Vectors

MOST_ROWS: Final = 5_000_000
_FEWEST_LINKS: Final = 4
_MOST_LINKS: Final = 128
_MOST_EF: Final = 4096
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
        Links of a clip on each higher layer; on the lowest twice as many.
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
            Name of the kind.
        """
        match = re.fullmatch(r"HNSW(\d{1,3})", name)
        links = int(match[1]) if match else 0
        return cls(links) if _FEWEST_LINKS <= links <= _MOST_LINKS else None

    @property
    def finer(self) -> IndexKind | None:
        """Every vector: its own are the stored ones already."""
        return Flat()

    def check_rows(self, rows: int, target: str) -> None:
        """Refuse more clips than a graph supports.

        Parameters
        ----------
        rows : int
            Number of clips.
        target : str
            For the message.

        Raises
        ------
        QueryError
        """
        if rows > MOST_ROWS:
            raise QueryError(
                f"{self} is for up to {MOST_ROWS:,} clips and {target or 'the store'} has "
                f"{rows:,}; use an inverted file"
            )

    def outgrown(self, planned: IndexKind) -> bool:
        """Whether another kind should replace it: only on request.

        Parameters
        ----------
        planned : IndexKind
            The kind that the plan proposes.
        """
        del planned
        return False

    def estimate(self, rows: int, sample: int, threads: int, target: str = "") -> Estimate:
        """Estimate time, disk and memory; the graph is in memory while it is made.

        Parameters
        ----------
        rows, sample, threads : int
            Clips of the target, vectors that training draws, and threads.
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
        """Describe how many candidates are kept.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        """
        return f"ef {parameters.get('ef', 0)}"

    def train(
        self, sample: NDArray[np.float32], queries: NDArray[np.float32], seed: int = SEED
    ) -> HNSW:
        """Learn nothing: a graph has only its number of links.

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
            What is searched: a modality, or ``others_of_<modality>``.
        segments : tuple of str
            Names of the segments that the index covers.
        trained : HNSW
            The kind itself, as from :meth:`train`.
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
        named = [ids]
        for clip_ids, vectors in gathered(blocks):
            index.add(np.ascontiguousarray(vectors, np.float32))
            named.append(clip_ids)
        arrays = GraphArrays.of(index, np.concatenate(named))
        # A name is never used twice: an earlier snapshot may still name the file it knows.
        file = f"{target}-{uuid.uuid4().hex[:16]}.hnsw"
        entry = publish_file(store / paths.INDEXES / file, arrays.write)
        return IndexEntry(target, file, str(trained), arrays.rows, segments, entry)

    def open(self, store: Path, entry: IndexEntry, vectors: Vectors | None = None) -> Graph:
        """Map a published graph, every link of which is checked first.

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
            If the file is not a graph over the rows that the manifest states.
        """
        del vectors
        path = check_plain(store, paths.INDEXES, entry.file, size=entry.entry.bytes)
        index = empty_index(self.links)
        arrays = GraphArrays.map(path, entry.rows, links_below(index))
        if arrays is None:
            raise FormatError(f"{path} is damaged; run `sleepfm-index verify --repair`")
        named = faiss().IndexIDMap(index)
        arrays.put_into(index, copy=False)
        named.ntotal = entry.rows
        faiss().copy_array_to_vector(np.ascontiguousarray(arrays.ids, np.int64), named.id_map)
        return Graph(self, arrays, named, (index,))


@dataclass(frozen=True)
class Graph:
    """An open graph, a :class:`~.protocol.VectorIndex`; its parameter is ``ef``.

    Parameters
    ----------
    kind : HNSW
    arrays : GraphArrays
        What lies in the file.
    index : faiss.IndexIDMap
    """

    kind: HNSW
    arrays: GraphArrays
    index: Any
    _referenced: tuple[Any, ...]

    complete = False

    @property
    def rows(self) -> int:
        """Clips in it."""
        return self.arrays.rows

    @property
    def trained(self) -> HNSW:
        """Its number of links."""
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
            ``ef``: candidates kept on the way through the graph.
        selector : faiss.IDSelector, optional
            Restricts the clips that may be found; by default all.

        Returns
        -------
        ndarray of int64, shape [q, k]
        """
        ef = max(k, parameter(parameters, "ef", _MOST_EF))
        if not self.rows:
            return np.full((len(queries), k), -1, np.int64)
        # Of length one: FAISS goes astray where a score is not finite.
        wide = queries.astype(np.float64)
        lengths = np.linalg.norm(wide, axis=1, keepdims=True)
        unit = (wide / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        wanted: dict[str, Any] = {} if selector is None else {"sel": selector}
        how = faiss().SearchParametersHNSW(efSearch=ef, **wanted)
        ids: NDArray[np.int64] = self.index.search(np.ascontiguousarray(unit), k, params=how)[1]
        return ids

    def trials(self, at_least: Parameters | None = None) -> Iterator[Trial]:
        """Return values of ``ef``, each 1.4 times the one before.

        Parameters
        ----------
        at_least : mapping of str to int, optional
            Smallest parameters to try; by default the smallest there are.
        """
        fewest = at_least["ef"] if at_least is not None else DEPTHS[0]
        most = max(fewest, min(_MOST_EF // 4, self.rows))
        steps = sorted({round(DEPTHS[0] * 2 ** (at / 2)) for at in range(20)} | {fewest})
        for ef in (step for step in steps if fewest <= step <= most):
            # the vectors in it are the stored ones, so that few candidates will do
            depths = tuple(depth for depth in DEPTHS[:4] if depth <= ef) or (ef,)
            yield Trial({"ef": ef}, _DISTANCE_COST * self.kind.links * ef, depths)

    def for_more(self, parameters: Parameters, factor: float) -> Parameters:
        """Return ``factor`` times as large an ``ef``.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        factor : float
            How many times as many answers are needed.
        """
        return {"ef": round(parameter(parameters, "ef", _MOST_EF) * factor)}

    def wider(self, parameters: Parameters) -> Parameters | None:
        """Return four times as large an ``ef``; None beyond the largest.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        """
        ef = parameters["ef"]
        return None if ef >= min(self.rows, _MOST_EF) else {"ef": 4 * ef}
