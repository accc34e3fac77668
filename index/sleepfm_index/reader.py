"""An open snapshot of a store: manifest, metadata, rows, vectors and search."""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.results import Result
from sleepfm_index.runtime.threads import set_threads, setting
from sleepfm_index.schema import check_target
from sleepfm_index.search.exact import Hits
from sleepfm_index.search.kinds import open_index
from sleepfm_index.search.protocol import VectorIndex
from sleepfm_index.search.searcher import Found, Searcher
from sleepfm_index.search.selection import Selection
from sleepfm_index.storage import private
from sleepfm_index.storage.arrow_columns import aligned
from sleepfm_index.storage.manifest import Manifest, read_manifest
from sleepfm_index.storage.row_cache import ClipRows
from sleepfm_index.storage.snapshots import snapshot_guard
from sleepfm_index.storage.vectors import Vectors

if TYPE_CHECKING:
    from sleepfm_index.storage.metadata import Metadata


class Reader:
    """A store, open at one snapshot.

    Later commits do not change what it reads. Files are opened on first use; vectors and indexes
    are memory-mapped. Threads may share a reader, and so may forked processes: each process opens
    the files again.

    Parameters
    ----------
    path : Path
        The store's folder.
    threads : int, optional
        Number of threads, set by :func:`sleepfm_index.set_threads` for the whole process, including
        other open stores.
    time_limit_s : float, optional
        Time that a statement of SQL or a condition may take; by default 300 s.

    Raises
    ------
    FormatError
        If there is no store, or this version cannot read it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        time_limit_s: float | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self.manifest = read_manifest(self.path)
        if threads:
            set_threads(threads)
        self._time_limit_s = time_limit_s
        self._opened: dict[int, _Opened] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the connection and the mapped files."""
        opened = self._opened.pop(os.getpid(), None)
        if opened is not None:
            opened.close()

    def reopen(self) -> None:
        """Switch to the latest snapshot."""
        self.close()
        self.manifest = read_manifest(self.path)

    def __getstate__(self) -> dict[str, object]:
        # Another process opens the files again, at the same snapshot.
        names = ("path", "manifest", "_time_limit_s")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._opened = {}

    def __repr__(self) -> str:
        """Describe the store in one line."""
        manifest = self.manifest
        modalities = ", ".join(manifest.modalities)
        return (
            f"{type(self).__name__}({str(self.path)!r}: {manifest.rows:,} clips of {modalities}; "
            f"weights {manifest.weights.name})"
        )

    def __bool__(self) -> bool:
        return True  # not by len(), which is 0 for an empty store

    def __len__(self) -> int:
        return self.manifest.rows

    @property
    def metadata(self) -> Metadata:
        """The tables clips, events, recordings and labels, for SQL."""
        return self._resources().metadata()

    @property
    def clip_schema(self) -> pa.Schema:
        """Columns of ``clips`` over all segments, as SQL sees them."""
        return self.metadata.clip_schema()

    def rows(self, clip_ids: NDArray[np.int64]) -> pa.Table:
        """All metadata of the given clips, one row for each, in the given order.

        Meant for the few rows of a result: it needs no SQL if the store has a row cache.

        Parameters
        ----------
        clip_ids : ndarray of int64, shape [n]
            Clip ids.

        Raises
        ------
        QueryError
            If a clip was deleted or never in the store.
        """
        return aligned(self._resources().clip_rows.rows(clip_ids), clip_ids)

    def runs(self, column: str, value: str) -> tuple[tuple[int, int], ...]:
        """Clip ids of a ``subject_id`` or a ``recording_id``, as (first, last) runs.

        Parameters
        ----------
        column, value : str
            ``subject_id`` or ``recording_id``, and the id to look up.
        """
        return self._resources().clip_rows.runs(column, value)

    @property
    def vectors(self) -> Vectors:
        """The vectors, by clip id and modality."""
        return self._resources().vectors

    def _resources(self) -> _Opened:
        # A forked child must not use its parent's connection, whose threads it does not have.
        opened = self._opened.get(os.getpid())
        if opened is None:
            new = _Opened(self.path, self.manifest, self._time_limit_s)
            opened = self._opened.setdefault(os.getpid(), new)
        return opened

    def sql(self, statement: str) -> Result:
        """Run a SELECT-like statement over ``clips``, ``events``, ``recordings`` and ``labels``.

        Parameters
        ----------
        statement : str
            One read-only SQL statement.

        Raises
        ------
        QueryError
            If the text is not one valid read-only statement.
        """
        return Result(self.metadata.select(statement), "")

    def files(self) -> dict[str, Path]:
        """Path of each recording by ``recording_id``; empty if ``private/`` was removed."""
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
        """Find the nearest clips by inner product; :meth:`find` also returns the search method.

        Parameters
        ----------
        target : str
            Search target, one of ``manifest.targets``.
        queries : ndarray of float32, shape [q, 512]
            Query vectors.
        k : int
            Number of clips per query; fewer are returned if fewer are allowed.
        allowed : ndarray of int64, shape [n], optional
            Ids of the clips that may be found, ascending; by default all.
        exact : bool
            Whether to compare all clips even if there is an approximate index.

        Returns
        -------
        list of (clip_ids, scores)
            One pair per query, int64 [m] and float64 [m] with m <= k, by descending score, ties by
            ascending clip id. Scores are computed in float64 from the stored vectors.
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
        """Find the nearest clips, with the search method and its recall; see :meth:`search`.

        Parameters
        ----------
        target, queries, k, allowed, exact
            As in :meth:`search`.
        without : tuple of (int, int)
            First and last clip id of runs to exclude, both inclusive.

        Returns
        -------
        Found
        """
        check_target(target, self.manifest.modalities)
        selection = Selection.of(self.manifest, allowed, without)
        return self._resources().searcher.find(target, queries, k, selection, exact=exact)


class _Opened:
    """Open resources of a store in one process."""

    def __init__(self, path: Path, manifest: Manifest, time_limit_s: float | None) -> None:
        self._path = path
        self._time_limit_s = time_limit_s
        self._manifest = manifest
        self._lock = threading.Lock()
        self._metadata: Metadata | None = None
        self.vectors = Vectors(path, manifest)
        self.clip_rows = ClipRows(path, manifest, self.metadata)
        self.index = cache(self._open_index)
        self.searcher = Searcher(manifest, self.vectors, lambda entry: self.index(entry.target))

    def metadata(self) -> Metadata:
        with self._lock:
            if self._metadata is None:
                # DuckDB; a query by clip id is answered without, and opens sooner
                from sleepfm_index.storage.metadata import Metadata

                limit_s = self._time_limit_s
                self._metadata = Metadata(self._path, self._manifest, setting(), limit_s)
            return self._metadata

    def close(self) -> None:
        if self._metadata is not None:
            self._metadata.close()
        self.index.cache_clear()

    def _open_index(self, target: str) -> VectorIndex:
        (entry,) = (i for i in self._manifest.indexes if i.target == target)
        with snapshot_guard(self._path, self._manifest):
            return open_index(self._path, entry, self.vectors)
