"""The store that is looked at: open, and opened again when it has moved on."""

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

_KEPT: Final = 24
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
        As for :func:`sleepfm_index.open`.
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
        self._seen: tuple[int, ...] = ()
        self._store: Reader | None = None
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
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
            self._store, self._seen = None, ()

    def store(self) -> Reader:
        """Return the store at its latest snapshot.

        An earlier one is not closed here: another request may still be reading it.
        """
        stat = os.stat(self.path / MANIFEST) if (self.path / MANIFEST).exists() else None  # noqa: PTH116
        seen = () if stat is None else (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        with self._lock:
            if self._store is None or seen != self._seen:
                opened = Reader(self.path, threads=self._threads)
                moved = self._store is None or opened.manifest != self._store.manifest
                if moved:
                    self._store = opened
                    self._kept.clear()
                self._seen = seen
            assert self._store is not None
            return self._store

    def asked(self, question: Callable[[Reader], T]) -> T:
        """Query the store; retry once if a compaction removed the snapshot.

        Parameters
        ----------
        question : callable
            Called with the store.
        """
        try:
            return question(self.store())
        except SnapshotGone:
            with self._lock:
                self._seen = ()
                self._store = None
            return question(self.store())

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made for a key at this snapshot; the least recently used go first.

        Requests that want the same at once wait for one of them to make it.

        Parameters
        ----------
        key : Hashable
            Identifies what is made.
        make : callable
            Makes it if it is not there.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                found: T = self._kept[key]
                return found
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._kept:
                    again: T = self._kept[key]
                    return again
            made = make()
            with self._lock:
                self._kept[key] = made
                self._making.pop(key, None)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            return made

    def probe(self, name: str) -> Probe:
        """Return a saved probe by its file's stem.

        Parameters
        ----------
        name : str
            Stem of the probe's file.

        Raises
        ------
        QueryError
            If the server was not started with it.
        FormatError
            If it cannot be read.
        """
        if name not in self.probes:
            known = ", ".join(self.probes) or "none; start with --probe FILE"
            raise QueryError(f"no probe {name[:80]!r}; there are {known}")
        return self.kept(("probe", name), lambda: load_probe(self.probes[name]))

    def check_annotate(self) -> None:
        """Refuse to write on a read-only server.

        Raises
        ------
        QueryError
            If labels may not be written.
        """
        if not self.annotate:
            raise QueryError(
                "this server is read-only; start it with --allow-annotate to write labels"
            )
