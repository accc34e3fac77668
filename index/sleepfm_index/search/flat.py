"""Every vector compared: ``Flat``, the index of small targets and of answers that must be exact.

FAISS compares the query with the float16 numbers of every clip. Of a modality those are the vector
files themselves, so the index file holds clip ids alone; a mean of modalities lies nowhere, so the
file of ``others`` holds it once, rounded to float16. Scores are float32 sums of rounded numbers:
whatever could still be among the nearest is given as a candidate, and the float64 scores of the
stored vectors decide, ties included.
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
from sleepfm_index.search.flat_index import MOST_ROUNDING, FlatIndex, Runs
from sleepfm_index.search.parameters import Parameters
from sleepfm_index.search.protocol import SEED, Estimate, IndexKind, VectorIndex
from sleepfm_index.storage import paths, vector_format
from sleepfm_index.storage.files import Sink, check_plain, publish_file
from sleepfm_index.storage.manifest import MAX_CLIPS, IndexEntry, as_ranges
from sleepfm_index.storage.vectors import Vectors

NAME: Final = "Flat"
_AT_ONCE: Final = 1 << 13
"""Rows copied at once."""
_ROW_US: Final = 0.12
"""To compare a query with a row, on one thread of an AMD EPYC (docs/scale.md)."""


@dataclass(frozen=True)
class Flat:
    """All vectors, compared; see :class:`~.protocol.IndexKind` for what each member does."""

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
            Name of the kind.
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
        """Whether a plan takes another kind.

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
            Clips of the target, vectors that training draws, and threads.
        target : str
            What is searched; the vectors of a modality are not stored again.
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
        """Learn nothing.

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
        """Write clip ids, and the means of ``others``; see :meth:`.protocol.IndexKind.write`.

        Parameters
        ----------
        store : Path
            The store's folder.
        target : str
            What is searched: a modality, or ``others_of_<modality>``.
        segments : tuple of str
            Names of the segments that the index covers.
        trained : Flat
            Not used.
        blocks : iterable of (clip_ids, vectors)
            Clip ids, int64 [m], and vectors, float32 [m, 512], block by block.
        kept : tuple of (FlatIndex, ndarray of bool, shape [rows]), optional
            An index of the same target, and which of its rows to keep.
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
            The vectors of the store; without them the index of a modality gives ids alone.

        Raises
        ------
        FormatError
            If the file is not one over the rows that the manifest states.
        """
        path = check_plain(store, paths.INDEXES, entry.file, size=entry.entry.bytes)
        means, rounding, before = None, 0.0, 0
        if is_mean(entry.target):
            before = entry.rows * vector_format.ROW_BYTES + 8
        if entry.entry.bytes < before or (entry.entry.bytes - before) % 16:
            raise _damaged(path)
        runs = np.fromfile(path, "<i8", offset=before).astype(np.int64).reshape(-1, 2)
        if not _are_runs(runs, entry.rows):
            raise _damaged(path)
        if before:
            rounding = float(np.fromfile(path, "<f8", 1, offset=before - 8)[0])
            if not 0 <= rounding <= MOST_ROUNDING:
                raise _damaged(path)
            means = vector_format.absent_rows(0)
            if entry.rows:
                shape = (entry.rows, EMBEDDING_DIM)
                means = np.memmap(path, vector_format.STORED, "r", shape=shape)
        return FlatIndex(entry.target, runs, means, rounding, vectors)


class _Content:
    """What is written: the means of ``others``, then how far they were rounded, then runs."""

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
            for at in range(0, len(keep), _AT_ONCE):
                some = slice(at, at + _AT_ONCE)
                sink.write(earlier.means[some][keep[some]].tobytes())

    def add(self, sink: Sink, blocks: Blocks) -> None:
        for ids, vectors in blocks:
            self._ids.append(ids)
            if self._means:
                rounded = vector_format.narrow(vectors)
                off = vectors.astype(np.float64) - rounded
                farthest = np.sqrt(np.einsum("nd,nd->n", off, off)).max(initial=0)
                self._rounding = max(self._rounding, float(farthest))
                sink.write(rounded.tobytes())

    def close(self, sink: Sink) -> None:
        if self._means:
            sink.write(np.array([self._rounding], "<f8").tobytes())
        runs = np.array(as_ranges(np.concatenate(self._ids)), "<i8").reshape(-1, 2)
        sink.write(runs.tobytes())


def _damaged(path: Path) -> FormatError:
    return FormatError(f"{path} is damaged; run `sleepfm-index verify --repair`")


def _are_runs(runs: Runs, rows: int) -> bool:
    """Whether these are runs of clip ids, none of which is named twice, and of as many rows."""
    if not len(runs):
        return rows == 0
    if runs.min() < 0 or runs.max() >= MAX_CLIPS or np.any(runs[:, 0] > runs[:, 1]):
        return False
    ordered = runs[np.argsort(runs[:, 0])]
    apart = bool(np.all(ordered[1:, 0] > ordered[:-1, 1]))
    return apart and int((runs[:, 1] - runs[:, 0] + 1).sum()) == rows
