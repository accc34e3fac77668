"""An open snapshot of a store: manifest, metadata, rows, vectors and search."""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.results import Result
from sleepfm_index.runtime.threads import setting, use
from sleepfm_index.schema import TARGETS
from sleepfm_index.search.exact import Hits
from sleepfm_index.search.ivf import InvertedFile
from sleepfm_index.search.searcher import Found, Searcher
from sleepfm_index.search.selection import Selection
from sleepfm_index.storage import private
from sleepfm_index.storage.manifest import Manifest, read_manifest
from sleepfm_index.storage.metadata import Metadata
from sleepfm_index.storage.row_cache import ClipRows
from sleepfm_index.storage.snapshots import held
from sleepfm_index.storage.vectors import Vectors


class Reader:
    """A store, open at one snapshot.

    Later commits do not change what it reads. Nothing is read before it is needed; vectors and
    indexes are memory-mapped. Threads may share it, and so may forked processes: each opens the
    files again for itself.

    Parameters
    ----------
    path : Path
        The store's folder.
    threads : int, optional
        Threads of DuckDB, FAISS and OpenBLAS; by default ``$SLEEPFM_THREADS``, else all cores.

    Raises
    ------
    FormatError
        If there is no store, or not one that this version can read.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        self._threads = threads or setting()
        if threads:
            use(threads)
        self._opened: dict[int, _Opened] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection and the mapped files."""
        opened = self._opened.pop(os.getpid(), None)
        if opened is not None:
            opened.close()

    def __len__(self) -> int:
        return self.manifest.rows

    @property
    def metadata(self) -> Metadata:
        """Clips, events and recordings, for SQL."""
        return self._here().metadata()

    @property
    def clip_schema(self) -> pa.Schema:
        """Columns of ``clips`` over all segments, as SQL sees them."""
        return self.metadata.clip_schema()

    def rows(self, clip_ids: NDArray[np.int64]) -> pa.Table:
        """All metadata of the given clips, in the given order; unknown ids are left out.

        For the few rows of an answer: it needs no SQL where the store has rows that can be mapped.
        """
        return self._here().clip_rows.rows(clip_ids)

    def runs(self, column: str, value: str) -> tuple[tuple[int, int], ...]:
        """Clip ids of a ``subject_id`` or a ``recording_id``, as (first, last) runs."""
        return self._here().clip_rows.runs(column, value)

    @property
    def vectors(self) -> Vectors:
        """The vectors, by clip id and modality."""
        return self._here().vectors

    def _here(self) -> _Opened:
        # A forked child must not touch its parent's connection: its threads are not there.
        opened = self._opened.get(os.getpid())
        if opened is None:
            fresh = _Opened(self.path, self.manifest, self._threads)
            opened = self._opened.setdefault(os.getpid(), fresh)
        return opened

    def sql(self, statement: str) -> Result:
        """Answer a SELECT-like statement over ``clips``, ``events`` and ``recordings``.

        Raises
        ------
        QueryError
            If it is not one read-only statement, or is not valid.
        """
        return Result(self.metadata.select(statement), "")

    def files(self) -> dict[str, Path]:
        """File of each recording, by ``recording_id``; empty where ``private/`` was removed."""
        return private.files(self.path)

    def search(
        self,
        target: str,
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.int64] | None = None,
        *,
        exact: bool = False,
    ) -> list[Hits]:
        """Nearest clips by inner product; :meth:`find` says how surely they are the nearest.

        Parameters
        ----------
        target : str
            One of :data:`sleepfm_index.schema.TARGETS`.
        queries : ndarray of float32, shape [q, 512]
        k : int
            How many clips a query gets, if there are as many.
        allowed : ndarray of int64, optional
            Ids of the clips that may be found, ascending; by default all.
        exact : bool
            Compare with every clip, whatever index there is.

        Returns
        -------
        list of (clip_ids, scores)
            One pair a query, int64 [m] and float64 [m] with m <= k, best first; equal scores in
            order of clip id. Scores are computed in float64 from the stored vectors.
        """
        return self.find(target, queries, k, allowed, exact=exact).hits

    def find(
        self,
        target: str,
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.int64] | None = None,
        *,
        without: tuple[tuple[int, int], ...] = (),
        exact: bool = False,
    ) -> Found:
        """Nearest clips, and whether they are surely the nearest; see :meth:`search`.

        Parameters
        ----------
        without : tuple of (first, last)
            Runs of clip ids to leave out, both ends included.
        """
        if target not in TARGETS:
            raise QueryError(f"no target {target!r}; choose from {', '.join(TARGETS)}")
        selection = Selection.of(self.manifest, allowed, without)
        return self._here().searcher.find(target, queries, k, selection, exact=exact)


class _Opened:
    """What one process has open of a store."""

    def __init__(self, path: Path, manifest: Manifest, threads: int | None) -> None:
        self._path = path
        self._manifest = manifest
        self._threads = threads
        self._lock = threading.Lock()
        self._metadata: Metadata | None = None
        self.vectors = Vectors(path, manifest)
        self.clip_rows = ClipRows(path, manifest, self.metadata)
        self.index = cache(self._open_index)
        self.searcher = Searcher(manifest, self.vectors, lambda entry: self.index(entry.target))

    def metadata(self) -> Metadata:
        with self._lock:
            if self._metadata is None:
                self._metadata = Metadata(self._path, self._manifest, self._threads)
            return self._metadata

    def close(self) -> None:
        if self._metadata is not None:
            self._metadata.close()
        self.index.cache_clear()

    def _open_index(self, target: str) -> InvertedFile:
        (entry,) = (i for i in self._manifest.indexes if i.target == target)
        with held(self._path, self._manifest):
            return InvertedFile.open(self._path, entry)
