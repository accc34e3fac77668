"""Interface of kinds of indexes, with its conventions.

An index proposes candidates among the clips of one target; it never decides a score. Whoever
searches compares the candidates again from the stored vectors, in float64
(:mod:`~sleepfm_index.search.searcher`), so an index may miss a clip and cannot give a wrong answer.

- A score is the inner product of a query and a vector of the target, both of length one but for
  ``others``, which is a mean of unit vectors: the higher, the nearer.
- An id is a clip id, int64, unique within an index. Answers are filled up with -1.
- A selector is a ``faiss.IDSelector`` over clip ids
  (:meth:`~sleepfm_index.search.selection.Selection.selector`), or None where all clips may be
  found. An index gives no clip that the selector rejects; deleted clips are such clips.
- Parameters say how far to search, in the kind's own names; a larger number never finds less. They
  are chosen by calibration and stored with the index.
- A file is a sequence of little-endian arrays without a header. Whoever opens it checks their
  extents and whatever FAISS would follow without looking, and raises
  :class:`~sleepfm_index.errors.FormatError`; FAISS is handed arrays and parses no file.

A new kind is one module with a class like :class:`IndexKind`, named in
:mod:`~sleepfm_index.search.kinds`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.search.blocks import Blocks
from sleepfm_index.search.parameters import Parameters
from sleepfm_index.storage.manifest import IndexEntry
from sleepfm_index.storage.vectors import Vectors

SEED: Final = 20240527
"""Random seed of training."""
DEPTHS: Final = (20, 30, 50, 70, 100, 150, 200, 300, 400)
"""Numbers of candidates tried in calibration."""

Trained = Any
"""Result of training, opaque to all but its kind."""


@dataclass(frozen=True)
class Trial:
    """One way of searching that calibration may choose.

    Parameters
    ----------
    parameters : mapping of str to int
    cost : float
        Time that it takes, in codes of 48 bytes read one after another.
    depths : tuple of int
        Numbers of candidates to try, ascending; fewer are the first of more.
    """

    parameters: Parameters
    cost: float
    depths: tuple[int, ...] = DEPTHS


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of an index.

    Parameters
    ----------
    seconds : float
        Time to make it.
    disk_bytes : int
    memory_bytes : int
        Anonymous memory while it is made.
    query_ms : float
        Time of one query, files in the page cache.
    """

    seconds: float
    disk_bytes: int
    memory_bytes: int
    query_ms: float


class VectorIndex(Protocol):
    """An open index of one target."""

    @property
    def rows(self) -> int:
        """Clips in it, those deleted since it was written included."""
        ...

    @property
    def trained(self) -> Trained:
        """Its training result, for adding clips."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the widest search compares every row, so that an answer is never short."""
        ...

    def ids(self) -> NDArray[np.int64]:
        """Clip ids of all rows, in the order of the file."""
        ...

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        parameters: Parameters,
        selector: Any | None = None,
    ) -> NDArray[np.int64]:
        """Return the clips that score highest by the index's own codes.

        Parameters
        ----------
        queries : ndarray of float32, shape [q, 512]
            Finite, of any length.
        k : int
            Candidates per query.
        parameters : mapping of str to int
            Parameters of the search, by name.
        selector : faiss.IDSelector, optional
            Restricts the clips that may be found; by default all.

        Returns
        -------
        ndarray of int64, shape [q, k]
            Clip ids, best first; -1 where fewer were found.
        """
        ...

    def trials(self, at_least: Parameters | None = None) -> Iterator[Trial]:
        """Return what calibration may choose from, in order of rising cost.

        Parameters
        ----------
        at_least : mapping of str to int, optional
            Search no less far than this.
        """
        ...

    def for_more(self, parameters: Parameters, factor: float) -> Parameters:
        """Return parameters for ``factor`` times as many answers as calibration asked for.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        factor : float
            At least 1.
        """
        ...

    def wider(self, parameters: Parameters) -> Parameters | None:
        """Return parameters for an answer that came out short; None if there are none wider.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        """
        ...


@runtime_checkable
class ExhaustiveIndex(VectorIndex, Protocol):
    """An index that compares every vector, so that an answer through it is exact."""

    def candidates(
        self, query: NDArray[np.float32], k: int, selector: Any | None = None
    ) -> NDArray[np.int64] | None:
        """Return clips among which the nearest ``k`` by float64 scores surely are.

        Parameters
        ----------
        query : ndarray of float32, shape [512]
        k : int
        selector : faiss.IDSelector, optional
            Restricts the clips that may be found; by default all.

        Returns
        -------
        ndarray of int64, or None
            Clip ids in no order; None where too many score the same for the index to tell.
        """
        ...


class IndexKind(Protocol):
    """A kind of index with its numbers, as ``--index`` and the manifest name it."""

    names: ClassVar[tuple[str, ...]]
    """How its kinds are written, for the message where a name is none: ``("IVF<lists>,SQ8",)``."""

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Read a name; None if it is not of this kind.

        Parameters
        ----------
        name : str
            Name of the kind.
        """
        ...

    @property
    def exact(self) -> bool:
        """Whether its indexes are :class:`ExhaustiveIndex`, which nobody calibrates."""
        ...

    @property
    def searchable(self) -> bool:
        """Whether a manifest may name it; a shard's is not."""
        ...

    @property
    def removes_rows(self) -> bool:
        """Whether single rows can be left out when clips are added; else all is written afresh."""
        ...

    @property
    def training_rows(self) -> int:
        """Vectors that training draws, at most."""
        ...

    @property
    def finer(self) -> IndexKind | None:
        """Alternative if this kind does not reach the recall; None if it always does."""
        ...

    def check_rows(self, rows: int, target: str) -> None:
        """Refuse an unsupported number of clips.

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
        ...

    def outgrown(self, planned: IndexKind) -> bool:
        """Whether clips have grown so that the planned kind should replace this one.

        Parameters
        ----------
        planned : IndexKind
            What a plan for the clips there are chooses.
        """
        ...

    def estimate(self, rows: int, sample: int, threads: int, target: str = "") -> Estimate:
        """Estimate time, disk and memory.

        Parameters
        ----------
        rows : int
            Clips of the target.
        sample : int
            Vectors that training draws.
        threads : int
            Threads to build with.
        target : str
            What is searched.
        """
        ...

    def describe(self, parameters: Parameters) -> str:
        """Describe how far an index is searched: ``16 lists``.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        """
        ...

    def train(
        self, sample: NDArray[np.float32], queries: NDArray[np.float32], seed: int = SEED
    ) -> Trained:
        """Learn what all rows share.

        Parameters
        ----------
        sample : ndarray of float32, shape [n, 512], n >= 1
            Vectors drawn at random over all that will be indexed.
        queries : ndarray of float32, shape [m, 512], m >= 1
            Vectors like those that will be asked for.
        seed : int
            Random seed.
        """
        ...

    def write(
        self,
        store: Path,
        target: str,
        segments: tuple[str, ...],
        trained: Trained,
        blocks: Blocks,
        kept: tuple[VectorIndex, NDArray[np.bool_]] | None = None,
    ) -> IndexEntry:
        """Index rows and publish the file; adding to an index writes it again under a new name.

        Parameters
        ----------
        store : Path
            The store's folder.
        target : str
            What is searched: a modality, or ``others_of_<modality>``.
        segments : tuple of str
            The segments whose clips it will hold.
        trained
            What :meth:`train` gave, or :attr:`VectorIndex.trained` of the index added to.
        blocks : iterable of (clip_ids, vectors)
            The rows to add.
        kept : tuple of (VectorIndex, ndarray of bool, shape [rows]), optional
            An index of the same training and which of its rows, in the order of
            :meth:`VectorIndex.ids`, come first. Where :attr:`removes_rows` is false, all of them.

        Returns
        -------
        IndexEntry
            Without settings and recall, which calibration finds.
        """
        ...

    def open(self, store: Path, entry: IndexEntry, vectors: Vectors | None = None) -> VectorIndex:
        """Open a published file; its size and whatever FAISS would follow are checked.

        Parameters
        ----------
        store : Path
            The store's folder.
        entry : IndexEntry
            Entry of the index in the manifest.
        vectors : Vectors, optional
            The store's, for kinds that look into them; without, such an index only gives its ids.

        Raises
        ------
        FormatError
            If the file is missing or is not an index of this kind over the rows that the manifest
            states. ``verify`` checks besides that the hash is the manifest's, and that
            :meth:`VectorIndex.ids` are clips of the covered segments, every live one of the
            target among them.
        """
        ...


@runtime_checkable
class Mergeable(IndexKind, Protocol):
    """A kind whose shards can be coded apart and merged (:mod:`sleepfm_index.indexing.shards`)."""

    def shard_training(self, trained: Trained) -> tuple[IndexKind, Trained]:
        """Return the kind of a shard, and what it is trained to.

        Parameters
        ----------
        trained
            What :meth:`train` gave.
        """
        ...

    def merge(self, store: Path, shards: list[IndexEntry]) -> IndexEntry:
        """Merge shards, in their order, into the file that one :meth:`write` gives.

        Parameters
        ----------
        store : Path
            The store's folder.
        shards : list of IndexEntry
            Not empty.
        """
        ...
