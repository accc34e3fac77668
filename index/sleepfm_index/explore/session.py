"""The open store of the server, which is reopened when it changes."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from sleepfm_index.errors import QueryError, SnapshotGone
from sleepfm_index.evaluation.models.probe_kinds import Probe, load_probe
from sleepfm_index.reader import Reader
from sleepfm_index.storage.paths import MANIFEST

TIME_LIMIT_S: Final = 60.0
"""Time that a statement of SQL or a condition may take: someone waits for it."""
_MAX_CACHED: Final = 24
"""Maximum number of cached results."""
T = TypeVar("T")


class Session:
    """State of the server between requests.

    Parameters
    ----------
    path : Path
        The store's folder.
    annotate : bool
        Whether labels may be written.
    probes : sequence of Path
        Saved probes whose probabilities can colour the map.
    threads : int, optional
        Number of threads; see :func:`sleepfm_index.open`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        annotate: bool = False,
        probes: Sequence[str | Path] = (),
        threads: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.annotate = annotate
        self.probes = {Path(p).stem: Path(p) for p in probes}
        self._threads = threads
        self._lock = threading.Lock()
        self._manifest_stat: tuple[int, ...] = ()
        self._store: Reader | None = None
        self._cache: OrderedDict[Hashable, Any] = OrderedDict()
        self._in_progress: dict[Hashable, threading.Lock] = {}
        self.store()
        for name in self.probes:
            self.probe(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the store."""
        with self._lock:
            if self._store is not None:
                self._store.close()
            self._store, self._manifest_stat = None, ()

    def store(self) -> Reader:
        """Return the store at its latest snapshot.

        An earlier one is not closed here: another request may still be reading it.
        """
        stat = os.stat(self.path / MANIFEST) if (self.path / MANIFEST).exists() else None  # noqa: PTH116
        manifest_stat = () if stat is None else (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        with self._lock:
            if self._store is None or manifest_stat != self._manifest_stat:
                opened = Reader(self.path, threads=self._threads, time_limit_s=TIME_LIMIT_S)
                changed = self._store is None or opened.manifest != self._store.manifest
                if changed:
                    self._store = opened
                    self._cache.clear()
                self._manifest_stat = manifest_stat
            assert self._store is not None
            return self._store

    @property
    def snapshot(self) -> int | None:
        """The snapshot that was last opened, without looking for a later one."""
        with self._lock:
            return None if self._store is None else self._store.manifest.snapshot

    def with_store(self, request: Callable[[Reader], T]) -> T:
        """Run a request on the store; retry once if a compaction removed the snapshot.

        Parameters
        ----------
        request : callable
            Function of the open store.
        """
        try:
            return request(self.store())
        except SnapshotGone:
            with self._lock:
                self._manifest_stat = ()
                self._store = None
            return request(self.store())

    def cached(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return a result of this snapshot from the cache, or compute it.

        Concurrent requests for the same key wait for the first to compute it. The least recently
        used results are removed first.

        Parameters
        ----------
        key : Hashable
            Key of the result.
        compute : callable
            Function that computes the result.
        """
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                result: T = self._cache[key]
                return result
            computing = self._in_progress.setdefault(key, threading.Lock())
        with computing:
            with self._lock:
                if key in self._cache:
                    other: T = self._cache[key]
                    return other
            value = compute()
            with self._lock:
                self._cache[key] = value
                self._in_progress.pop(key, None)
                while len(self._cache) > _MAX_CACHED:
                    self._cache.popitem(last=False)
            return value

    def probe(self, name: str) -> Probe:
        """Return a saved probe by its file's stem.

        Parameters
        ----------
        name : str
            Stem of the probe's file.

        Raises
        ------
        QueryError
            If the server was started without this probe.
        FormatError
            If the file cannot be read.
        """
        if name not in self.probes:
            known = ", ".join(self.probes) or "none; start with --probe FILE"
            raise QueryError(f"no probe {name[:80]!r}; there are {known}")
        return self.cached(("probe", name), lambda: load_probe(self.probes[name]))

    def check_annotate(self) -> None:
        """Raise unless labels may be written.

        Raises
        ------
        QueryError
            If the server is read-only.
        """
        if not self.annotate:
            raise QueryError(
                "this server is read-only; start it with --allow-annotate to write labels"
            )
