"""Interface of the kinds of index, with its conventions.

An index returns candidates among the clips of one target. Their scores are computed in float64 from
the stored vectors (:mod:`~sleepfm_index.search.searcher`), so an index may miss a clip but cannot
give a wrong score.

- A score is the inner product of a query and a vector of the target. Both have length one, except
  for ``others``, which is a mean of unit vectors. A higher score is nearer.
- An id is a clip id, int64, unique within an index. Results are padded with -1.
- A selector is a ``faiss.IDSelector`` over clip ids
  (:meth:`~sleepfm_index.search.selection.Selection.selector`), or None if all clips are allowed. An
  index returns no clip that the selector rejects; deleted clips are rejected.
- Parameters control how much of the index is searched; their names depend on the kind. A larger
  number never finds less. Calibration chooses them, and they are stored with the index.
- A file is a sequence of little-endian arrays without a header. Opening it checks their extents and
  every reference that FAISS follows without bounds checks, and raises
  :class:`~sleepfm_index.errors.FormatError`; FAISS gets arrays and parses no file.

A new kind is one module with a class that implements :class:`IndexKind`, listed in
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
"""Result of training, opaque outside its kind."""


@dataclass(frozen=True)
class Trial:
    """Search parameters that calibration may choose.

    Parameters
    ----------
    parameters : mapping of str to int
        Parameters of the search, by name.
    cost : float
        Relative time of a search, in units of one code of 48 bytes read sequentially.
    depths : tuple of int
        Numbers of candidates to try, ascending. One search at the largest serves all of them,
        because the nearest n candidates are the first n of any longer list.
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
        Build time in seconds.
    disk_bytes : int
        Size of the file.
    memory_bytes : int
        Anonymous memory during the build.
    query_ms : float
        Time of one query in milliseconds, with the file in the page cache.
    """

    seconds: float
    disk_bytes: int
    memory_bytes: int
    query_ms: float


class VectorIndex(Protocol):
    """An open index of one target."""

    @property
    def rows(self) -> int:
        """Number of clips in the index, including clips deleted since it was written."""
        ...

    @property
    def trained(self) -> Trained:
        """Result of training, for adding clips."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the widest search compares every row, so that no result is missing."""
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
        """Return the clips that score highest by the codes of the index.

        Parameters
        ----------
        queries : ndarray of float32, shape [q, 512]
            Query vectors, finite and of any norm.
        k : int
            Number of candidates per query.
        parameters : mapping of str to int
            Parameters of the search, by name.
        selector : faiss.IDSelector, optional
            Restricts the clips that may be found; by default all.

        Returns
        -------
        ndarray of int64, shape [q, k]
            Clip ids, best first, padded with -1.
        """
        ...

    def trials(self, at_least: Parameters | None = None) -> Iterator[Trial]:
        """Yield the search parameters that calibration may choose, by ascending cost.

        Parameters
        ----------
        at_least : mapping of str to int, optional
            Smallest parameters to try; by default the smallest useful ones.
        """
        ...

    def scaled(self, parameters: Parameters, factor: float) -> Parameters:
        """Return parameters for more results than in calibration.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        factor : float
            Number of results in multiples of the calibrated number; at least 1.
        """
        ...

    def wider(self, parameters: Parameters) -> Parameters | None:
        """Return parameters for a wider search after too few results; None if there is none.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        """
        ...


@runtime_checkable
class ExhaustiveIndex(VectorIndex, Protocol):
    """An index that compares every vector, so that its results are exact."""

    def candidates(
        self, query: NDArray[np.float32], k: int, selector: Any | None = None
    ) -> NDArray[np.int64] | None:
        """Return candidates that are certain to include the nearest ``k`` by float64 score.

        Parameters
        ----------
        query : ndarray of float32, shape [512]
            The query vector.
        k : int
            Number of clips to find.
        selector : faiss.IDSelector, optional
            Restricts the clips that may be found; by default all.

        Returns
        -------
        ndarray of int64, or None
            Clip ids, unordered; None if too many clips have nearly equal scores.
        """
        ...


class IndexKind(Protocol):
    """A kind of index with its numbers, such as ``HNSW32`` in ``--index`` and the manifest."""

    names: ClassVar[tuple[str, ...]]
    """Forms of valid names, for error messages: ``("IVF<lists>,SQ8",)``."""

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Parse a name; return None if it is not of this kind.

        Parameters
        ----------
        name : str
            Name of the kind of index.
        """
        ...

    @property
    def exact(self) -> bool:
        """Whether its indexes are :class:`ExhaustiveIndex`, which need no calibration."""
        ...

    @property
    def searchable(self) -> bool:
        """Whether its indexes can be searched; shards cannot."""
        ...

    @property
    def removes_rows(self) -> bool:
        """Whether adding clips can drop single rows.

        Otherwise the index is rebuilt as soon as clips that it holds have left the segments.
        """
        ...

    @property
    def training_rows(self) -> int:
        """Maximum number of training vectors."""
        ...

    @property
    def finer(self) -> IndexKind | None:
        """Kind to try next if this kind does not reach the recall; None for an exact kind."""
        ...

    def check_rows(self, rows: int, target: str) -> None:
        """Refuse an unsupported number of clips.

        Parameters
        ----------
        rows : int
            Number of clips.
        target : str
            Name of the target, for the error message.

        Raises
        ------
        QueryError
            If the kind does not support this number of clips.
        """
        ...

    def outgrown(self, planned: IndexKind) -> bool:
        """Whether the store has grown so much that the planned kind should replace this one.

        Parameters
        ----------
        planned : IndexKind
            The kind planned for the present number of clips.
        """
        ...

    def estimate(self, rows: int, sample: int, threads: int, target: str = "") -> Estimate:
        """Estimate time, disk and memory.

        Parameters
        ----------
        rows : int
            Number of clips of the target.
        sample : int
            Number of training vectors.
        threads : int
            Number of threads of the build.
        target : str
            Search target: a modality, or ``others_of_<modality>``.
        """
        ...

    def describe(self, parameters: Parameters) -> str:
        """Describe search parameters: ``16 lists``.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        """
        ...

    def train(
        self, sample: NDArray[np.float32], queries: NDArray[np.float32], seed: int = SEED
    ) -> Trained:
        """Learn the parameters that all rows share, such as centroids.

        Parameters
        ----------
        sample : ndarray of float32, shape [n, 512], n >= 1
            Random sample of the vectors to index.
        queries : ndarray of float32, shape [m, 512], m >= 1
            Sample of query vectors.
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
            Search target: a modality, or ``others_of_<modality>``.
        segments : tuple of str
            Names of the segments that the index covers.
        trained
            Result of :meth:`train`, or :attr:`VectorIndex.trained` of the index to extend.
        blocks : iterable of (clip_ids, vectors)
            Clip ids, int64 [m], and vectors, float32 [m, 512], of the rows to add.
        kept : tuple of (VectorIndex, ndarray of bool, shape [rows]), optional
            An index of the same training, and the mask of its rows to keep, in the order of
            :meth:`VectorIndex.ids`; they come first. All are true if :attr:`removes_rows` is false.

        Returns
        -------
        IndexEntry
            Entry without settings and recall, which calibration adds.
        """
        ...

    def open(self, store: Path, entry: IndexEntry, vectors: Vectors | None = None) -> VectorIndex:
        """Open a published file after checking its size and all references that FAISS follows.

        Parameters
        ----------
        store : Path
            The store's folder.
        entry : IndexEntry
            Entry of the index in the manifest.
        vectors : Vectors, optional
            The vectors of the store, for kinds that read them; without vectors, such an index has
            only its clip ids.

        Raises
        ------
        FormatError
            If the file is missing, or is not an index of this kind with the number of rows in the
            manifest. ``verify`` also checks the hash, and that :meth:`VectorIndex.ids` are clips of
            the covered segments and include all live clips with the target.
        """
        ...


@runtime_checkable
class Mergeable(IndexKind, Protocol):
    """A kind whose shards can be built separately and merged (:mod:`.indexing.shards`)."""

    def shard_training(self, trained: Trained) -> tuple[IndexKind, Trained]:
        """Return the kind of a shard, and the training result for it.

        Parameters
        ----------
        trained
            Result of :meth:`train`.
        """
        ...

    def merge(self, store: Path, shards: list[IndexEntry]) -> IndexEntry:
        """Merge shards, in order, into the same file that a single :meth:`write` gives.

        Parameters
        ----------
        store : Path
            The store's folder.
        shards : list of IndexEntry
            Entries of the shards, at least one.
        """
        ...
