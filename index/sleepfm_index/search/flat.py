"""Exhaustive search: ``Flat``, the index of small targets and of searches that must be exact.

FAISS compares the query with the float16 vector of every clip. For a modality it reads the vector
files themselves, so the index file has clip ids only; the means of ``others`` are not stored in the
segments, so their index file has them as well, rounded to float16. FAISS sums in float32, so all
clips that may be among the nearest are returned as candidates, and the float64 scores of the stored
vectors decide, including ties.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.errors import FormatError
from sleepfm_index.schema import is_mean
from sleepfm_index.search.blocks import Blocks
from sleepfm_index.search.flat_index import MAX_ROUNDING, FlatIndex, Runs
from sleepfm_index.search.parameters import Parameters
from sleepfm_index.search.protocol import SEED, Estimate, IndexKind, VectorIndex
from sleepfm_index.storage import paths, vector_format
from sleepfm_index.storage.files import Sink, publish_file
from sleepfm_index.storage.manifest import MAX_CLIPS, IndexEntry, as_ranges
from sleepfm_index.storage.plain_files import check_plain
from sleepfm_index.storage.vectors import Vectors

NAME: Final = "Flat"
_COPIED_ROWS: Final = 1 << 13
"""Rows copied per block."""
_ROW_US: Final = 0.12
"""Microseconds per query and row, on one thread of an AMD EPYC (docs/scale.md)."""


@dataclass(frozen=True)
class Flat:
    """Exhaustive search; see :class:`~.protocol.IndexKind` for the members."""

    names: ClassVar[tuple[str, ...]] = (NAME,)
    exact = True
    searchable = True
    removes_rows = True
    training_rows = 0
    finer = None

    def __str__(self) -> str:
        return NAME

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Read ``Flat``; None if it is another name.

        Parameters
        ----------
        name : str
            Name of the kind of index.
        """
        return cls() if name == NAME else None

    def check_rows(self, rows: int, target: str) -> None:
        """Accept any number of clips.

        Parameters
        ----------
        rows, target
            Not used.
        """
        del rows, target

    def outgrown(self, planned: IndexKind) -> bool:
        """Whether the plan proposes another kind.

        Parameters
        ----------
        planned : IndexKind
            The kind that the plan proposes.
        """
        return planned != self

    def estimate(self, rows: int, sample: int, threads: int, target: str = "") -> Estimate:
        """Estimate time, disk and memory.

        Parameters
        ----------
        rows, sample, threads : int
            Number of clips of the target, of training vectors, and of threads.
        target : str
            Search target; the vectors of a modality are not stored a second time.
        """
        del sample
        codes = rows * vector_format.ROW_BYTES if is_mean(target) else 0
        return Estimate(
            seconds=rows / 1e6,
            disk_bytes=codes + 16,
            memory_bytes=8 * rows,
            query_ms=rows * _ROW_US / threads / 1000,
        )

    def describe(self, parameters: Parameters) -> str:
        """Describe exhaustive search.

        Parameters
        ----------
        parameters : mapping of str to int
            Not used.
        """
        del parameters
        return "all"

    def train(
        self, sample: NDArray[np.float32], queries: NDArray[np.float32], seed: int = SEED
    ) -> Flat:
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
        trained: Flat,
        blocks: Blocks,
        kept: tuple[VectorIndex, NDArray[np.bool_]] | None = None,
    ) -> IndexEntry:
        """Write clip ids, and vectors for ``others``; see :meth:`.protocol.IndexKind.write`.

        Parameters
        ----------
        store : Path
            The store's folder.
        target : str
            Search target: a modality, or ``others_of_<modality>``.
        segments : tuple of str
            Names of the segments that the index covers.
        trained : Flat
            Not used.
        blocks : iterable of (clip_ids, vectors)
            Clip ids, int64 [m], and vectors, float32 [m, 512], block by block.
        kept : tuple of (FlatIndex, ndarray of bool, shape [rows]), optional
            An index of the same target, and the mask of its rows to keep.
        """
        del trained
        content = _Content(means=is_mean(target))
        file = f"{target}-{uuid.uuid4().hex[:16]}.flat"

        def write(sink: Sink) -> None:
            if kept is not None:
                earlier, keep = kept
                assert isinstance(earlier, FlatIndex)
                content.keep(sink, earlier, keep)
            content.add(sink, blocks)
            content.close(sink)

        entry = publish_file(store / paths.INDEXES / file, write)
        return IndexEntry(target, file, NAME, content.rows, segments, entry)

    def open(self, store: Path, entry: IndexEntry, vectors: Vectors | None = None) -> FlatIndex:
        """Map a published file; its extent and its clip ids are checked.

        Parameters
        ----------
        store : Path
            The store's folder.
        entry : IndexEntry
            Entry of the index in the manifest.
        vectors : Vectors, optional
            The vectors of the store; without them the index of a modality cannot be searched.

        Raises
        ------
        FormatError
            If the file does not match the number of rows in the manifest.
        """
        path = check_plain(store, paths.INDEXES, entry.file, size=entry.entry.bytes)
        means, rounding, header_bytes = None, 0.0, 0
        if is_mean(entry.target):
            header_bytes = entry.rows * vector_format.ROW_BYTES + 8
        if entry.entry.bytes < header_bytes or (entry.entry.bytes - header_bytes) % 16:
            raise _damaged(path)
        runs = np.fromfile(path, "<i8", offset=header_bytes).astype(np.int64).reshape(-1, 2)
        if not _are_runs(runs, entry.rows):
            raise _damaged(path)
        if header_bytes:
            rounding = float(np.fromfile(path, "<f8", 1, offset=header_bytes - 8)[0])
            if not 0 <= rounding <= MAX_ROUNDING:
                raise _damaged(path)
            means = vector_format.absent_rows(0)
            if entry.rows:
                shape = (entry.rows, EMBEDDING_DIM)
                means = np.memmap(path, vector_format.STORED, "r", shape=shape)
        return FlatIndex(entry.target, runs, means, rounding, vectors)


class _Content:
    """Writer of the file: means of ``others``, their largest rounding error, then id runs."""

    def __init__(self, *, means: bool) -> None:
        self._means = means
        self._rounding = 0.0
        self._ids = [np.empty(0, np.int64)]

    @property
    def rows(self) -> int:
        return sum(map(len, self._ids))

    def keep(self, sink: Sink, earlier: FlatIndex, keep: NDArray[np.bool_]) -> None:
        self._ids.append(earlier.ids()[keep])
        if earlier.means is not None:
            self._rounding = earlier.rounding
            for start in range(0, len(keep), _COPIED_ROWS):
                rows = slice(start, start + _COPIED_ROWS)
                sink.write(earlier.means[rows][keep[rows]].tobytes())

    def add(self, sink: Sink, blocks: Blocks) -> None:
        for ids, vectors in blocks:
            self._ids.append(ids)
            if self._means:
                rounded = vector_format.narrow(vectors)
                error = vectors.astype(np.float64) - rounded
                largest = np.sqrt(np.einsum("nd,nd->n", error, error)).max(initial=0)
                self._rounding = max(self._rounding, float(largest))
                sink.write(rounded.tobytes())

    def close(self, sink: Sink) -> None:
        if self._means:
            sink.write(np.array([self._rounding], "<f8").tobytes())
        runs = np.array(as_ranges(np.concatenate(self._ids)), "<i8").reshape(-1, 2)
        sink.write(runs.tobytes())


def _damaged(path: Path) -> FormatError:
    return FormatError(f"{path} is damaged; run `sleepfm-index verify --repair`")


def _are_runs(runs: Runs, rows: int) -> bool:
    """Whether these are disjoint runs of valid clip ids with the given number of rows."""
    if not len(runs):
        return rows == 0
    if runs.min() < 0 or runs.max() >= MAX_CLIPS or np.any(runs[:, 0] > runs[:, 1]):
        return False
    ordered = runs[np.argsort(runs[:, 0])]
    disjoint = bool(np.all(ordered[1:, 0] > ordered[:-1, 1]))
    return disjoint and int((runs[:, 1] - runs[:, 0] + 1).sum()) == rows
