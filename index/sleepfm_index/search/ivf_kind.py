"""Inverted files as a kind of index, such as ``IVF4096,TC96x4fs``."""

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
"""The code to try next if the vectors are too similar for :data:`CODE`."""
_OUTGROWN: Final = 2
"""Factor by which the planned number of lists must grow before centroids are trained again."""

# Measured on two cores of an AMD EPYC with AVX-512 (docs/scale.md); other machines differ.
_FLOPS: Final = 60e9  # per thread, float32 products of matrices
_ROW_US: Final = 4.0  # to read, widen, encode and write a row
_CALIBRATION: Final = 1.5 * 600  # products of calibration, per row
_WORKING: Final = 300_000_000  # bytes


class InvertedFileKind(Layout):
    """A number of lists and a code; see :class:`~.protocol.IndexKind` for the members."""

    names: ClassVar[tuple[str, ...]] = tuple(
        f"IVF<lists>,{code}" for code in CODES if code not in BLOCK_LAYOUT.values()
    )
    exact = False
    removes_rows = True

    @property
    def searchable(self) -> bool:
        """Whether the index can be searched; the row layout of a shard cannot."""
        return self.code not in BLOCK_LAYOUT.values()

    @property
    def training_rows(self) -> int:
        """Maximum number of training vectors."""
        return SAMPLE * self.lists

    @property
    def finer(self) -> IndexKind | None:
        """The same number of lists with a finer code; after that, exhaustive search."""
        return InvertedFileKind(self.lists, FINER) if self.code == CODE else Flat()

    def check_rows(self, rows: int, target: str) -> None:
        """Refuse more lists than clips.

        Parameters
        ----------
        rows : int
            Number of clips.
        target : str
            Name of the target, for the error message.

        Raises
        ------
        QueryError
            If there are fewer clips than lists.
        """
        if self.lists > rows:
            raise QueryError(
                f"{self} has more lists than {target or 'the store'} has clips ({rows:,})"
            )

    def outgrown(self, planned: IndexKind) -> bool:
        """Whether the plan proposes more than twice as many lists.

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
            Number of clips of the target, of training vectors, and of threads.
        target : str
            Not used.
        """
        del target
        drawn = min(rows, sample)
        products = drawn * self.lists * ITERATIONS + rows * self.lists + rows * _CALIBRATION
        training = drawn * EMBEDDING_DIM * 6 + self.lists * EMBEDDING_DIM * 8  # stored and float32
        training += min(drawn, LEARNED_FROM) * EMBEDDING_DIM * 8  # a subset, and its residuals
        return Estimate(
            seconds=products * 2 * EMBEDDING_DIM / (_FLOPS * threads) + rows * _ROW_US / 1e6,
            disk_bytes=self.file_bytes(rows),
            memory_bytes=max(training, 36 * rows + self.lists * EMBEDDING_DIM * 8) + _WORKING,
            # all centroids, a twentieth of the codes, and the vectors of the candidates
            query_ms=(0.07 * self.lists + 0.00013 * rows) / 1000 + 0.6,
        )

    def describe(self, parameters: Parameters) -> str:
        """Describe the parameters: ``16 lists``.

        Parameters
        ----------
        parameters : mapping of str to int
            Parameters of the search, by name.
        """
        return f"{parameters.get('probes', 0)} lists"

    def train(
        self, sample: NDArray[np.float32], queries: NDArray[np.float32], seed: int = SEED
    ) -> Structure:
        """Train centroids and learn the code; see :func:`.ivf_builder.train`.

        Parameters
        ----------
        sample : ndarray of float32, shape [n, 512], n >= 1
            Random sample of the vectors to index.
        queries : ndarray of float32, shape [m, 512], m >= 1
            Sample of query vectors.
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
        """Encode rows and publish the file; see :func:`.ivf_builder.write`.

        Parameters
        ----------
        store : Path
            The store's folder.
        target : str
            Search target: a modality, or ``others_of_<modality>``.
        segments : tuple of str
            Names of the segments that the index covers.
        trained : Structure
            Result of :meth:`train`: centroids and code.
        blocks : iterable of (clip_ids, vectors)
            Clip ids, int64 [m], and vectors, float32 [m, 512], block by block.
        kept : tuple of (InvertedFile, ndarray of bool, shape [rows]), optional
            An index with the same centroids, and the mask of its rows to keep.
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
        """Return kind and training of a shard: the row layout, because FAISS cannot merge blocks.

        Parameters
        ----------
        trained : Structure
            Result of :meth:`train` for the merged index.
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
