"""Inverted files as a kind of index: ``IVF4096,TC96x4fs``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.errors import QueryError
from sleepfm_index.search import ivf_builder
from sleepfm_index.search.blocks import Blocks
from sleepfm_index.search.flat import Flat
from sleepfm_index.search.ivf import InvertedFile
from sleepfm_index.search.ivf_builder import ITERATIONS, LEARNED_FROM, SAMPLE
from sleepfm_index.search.ivf_format import BLOCK_LAYOUT, CODES, Layout, Structure
from sleepfm_index.search.parameters import Parameters
from sleepfm_index.search.protocol import SEED, Estimate, IndexKind, VectorIndex
from sleepfm_index.storage.manifest import IndexEntry
from sleepfm_index.storage.vectors import Vectors

CODE: Final = "TC96x4fs"
FINER: Final = "SQ8"
"""The code that is tried next, where the vectors are too alike for the first to tell apart."""
_OUTGROWN: Final = 2
"""Centroids are found afresh when a plan would take more than this many times as many."""

# Measured on two cores of an AMD EPYC with AVX-512 (docs/scale.md); other machines differ.
_FLOPS: Final = 60e9  # per thread, float32 products of matrices
_ROW_US: Final = 4.0  # to read, widen, code and write a row
_CALIBRATION: Final = 1.5 * 600  # products of calibration, per row
_WORKING: Final = 300_000_000  # bytes


class InvertedFileKind(Layout):
    """A number of lists and a code; see :class:`~.protocol.IndexKind` for what each member does."""

    names: ClassVar[tuple[str, ...]] = tuple(
        f"IVF<lists>,{code}" for code in CODES if code not in BLOCK_LAYOUT.values()
    )
    exact = False
    removes_rows = True

    @property
    def searchable(self) -> bool:
        """Whether a manifest may name it; the row layout of a shard is not searched."""
        return self.code not in BLOCK_LAYOUT.values()

    @property
    def training_rows(self) -> int:
        """Vectors that training draws, at most."""
        return SAMPLE * self.lists

    @property
    def finer(self) -> IndexKind | None:
        """The same lists with a code that tells more vectors apart; last, every vector."""
        return InvertedFileKind(self.lists, FINER) if self.code == CODE else Flat()

    def check_rows(self, rows: int, target: str) -> None:
        """Refuse more lists than clips.

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
        if self.lists > rows:
            raise QueryError(
                f"{self} has more lists than {target or 'the store'} has clips ({rows:,})"
            )

    def outgrown(self, planned: IndexKind) -> bool:
        """Whether a plan takes more than twice as many lists.

        Parameters
        ----------
        planned : IndexKind
            The kind that the plan proposes.
        """
        return isinstance(planned, InvertedFileKind) and planned.lists > _OUTGROWN * self.lists

    def estimate(self, rows: int, sample: int, threads: int, target: str = "") -> Estimate:
        """Estimate time, disk and memory.

        Parameters
        ----------
        rows, sample, threads : int
            Clips of the target, vectors that training draws, and threads.
        target : str
            Not used.
        """
        del target
        drawn = min(rows, sample)
        products = drawn * self.lists * ITERATIONS + rows * self.lists + rows * _CALIBRATION
        training = drawn * EMBEDDING_DIM * 6 + self.lists * EMBEDDING_DIM * 8  # stored and float32
        training += min(drawn, LEARNED_FROM) * EMBEDDING_DIM * 8  # some of it, and its residuals
        return Estimate(
            seconds=products * 2 * EMBEDDING_DIM / (_FLOPS * threads) + rows * _ROW_US / 1e6,
            disk_bytes=self.file_bytes(rows),
            memory_bytes=max(training, 36 * rows + self.lists * EMBEDDING_DIM * 8) + _WORKING,
            # all centroids, a twentieth of the codes, and the vectors of the candidates
            query_ms=(0.07 * self.lists + 0.00013 * rows) / 1000 + 0.6,
        )

    def describe(self, parameters: Parameters) -> str:
        """Describe how many lists are read.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        """
        return f"{parameters.get('probes', 0)} lists"

    def train(
        self, sample: NDArray[np.float32], queries: NDArray[np.float32], seed: int = SEED
    ) -> Structure:
        """Find centroids and learn the code; see :func:`.ivf_builder.train`.

        Parameters
        ----------
        sample : ndarray of float32, shape [n, 512], n >= 1
            Vectors drawn at random over all that will be indexed.
        queries : ndarray of float32, shape [m, 512], m >= 1
            Vectors like those that will be asked for.
        seed : int
            Random seed.
        """
        return ivf_builder.train(self, sample, queries, seed)

    def write(
        self,
        store: Path,
        target: str,
        segments: tuple[str, ...],
        trained: Structure,
        blocks: Blocks,
        kept: tuple[VectorIndex, NDArray[np.bool_]] | None = None,
    ) -> IndexEntry:
        """Code rows and publish the file; see :func:`.ivf_builder.write`.

        Parameters
        ----------
        store : Path
            The store's folder.
        target : str
            What is searched: a modality, or ``others_of_<modality>``.
        segments : tuple of str
            Names of the segments that the index covers.
        trained : Structure
            Centroids and code, as from :meth:`train`.
        blocks : iterable of (clip_ids, vectors)
            Clip ids, int64 [m], and vectors, float32 [m, 512], block by block.
        kept : tuple of (InvertedFile, ndarray of bool, shape [rows]), optional
            An index over the same centroids, and which of its rows to keep.
        """
        if kept is None:
            return ivf_builder.write(store, target, segments, trained, blocks)
        earlier, keep = kept
        assert isinstance(earlier, InvertedFile)
        return ivf_builder.write(store, target, segments, trained, blocks, (earlier, keep))

    def open(self, store: Path, entry: IndexEntry, vectors: Vectors | None = None) -> InvertedFile:
        """Map a published file.

        Parameters
        ----------
        store : Path
            The store's folder.
        entry : IndexEntry
            Entry of the index in the manifest.
        vectors : Vectors, optional
            Not used.
        """
        del vectors
        return InvertedFile.open(store, entry)

    def shard_training(self, trained: Structure) -> tuple[InvertedFileKind, Structure]:
        """Return the row layout: shards have it, because FAISS merges rows and not blocks.

        Parameters
        ----------
        trained : Structure
            Centroids and code of the merged index.
        """
        return self.row_layout, trained.row_layout

    def merge(self, store: Path, shards: list[IndexEntry]) -> IndexEntry:
        """Merge shards; see :func:`.ivf_builder.merge`.

        Parameters
        ----------
        store : Path
            The store's folder.
        shards : list of IndexEntry
            Shards in row layout.
        """
        return ivf_builder.merge(store, shards, self)
