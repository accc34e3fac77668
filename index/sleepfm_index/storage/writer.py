"""Writing to a store: one writer at a time, one commit after another."""

from __future__ import annotations

import contextlib
import time
import uuid
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from filelock import FileLock, Timeout

from sleepfm.cohort_choices import Choices
from sleepfm.contract import Contract
from sleepfm_index.choices import StoreMode
from sleepfm_index.errors import CommitConflict, FormatError, StoreError, StoreLocked
from sleepfm_index.storage import paths, snapshots
from sleepfm_index.storage.files import identity, make_folder, record_published, remove, unfinished
from sleepfm_index.storage.manifest import (
    Manifest,
    SegmentEntry,
    WeightsIdentity,
    read_manifest,
    write_manifest,
)
from sleepfm_index.storage.modes import set_mode
from sleepfm_index.storage.segments import SegmentData, write_segment

_FOLDERS = (
    paths.SEGMENTS,
    paths.INDEXES,
    paths.SNAPSHOTS,
    paths.PRIVATE,
    paths.LABELS,
    paths.QUARANTINE,
)


class Writer:
    """A writer, which holds the lock of a store; use it in a ``with`` statement.

    The lock is the operating system's, so it ends with the process that holds it.

    Parameters
    ----------
    path : Path
        The store's folder; it is created if missing and weights and contract are given.
    weights : WeightsIdentity, optional
        Weights of the vectors to append; they must be the weights of the store. Without weights
        nothing can be appended.
    contract : Contract, optional
        Contract by which the clips were prepared; it must be the contract of the store.
    mode : {"private", "group"}, optional
        Access for the owner only, or for the owner's group as well; by default the mode of the
        store is kept, and a new store is private.

    Raises
    ------
    StoreLocked
        If another process is writing.
    StoreError
        If the store has vectors of other weights or another contract, or the folder is not a
        store.
    """

    def __init__(
        self,
        path: Path,
        weights: WeightsIdentity | None = None,
        contract: Contract | None = None,
        *,
        mode: StoreMode | None = None,
    ) -> None:
        self._mode = mode
        self.path = path
        self._weights = weights
        self._contract = contract
        self._lock = FileLock(path / paths.LOCK, timeout=0, mode=0o600)
        self._committed = False
        self.manifest: Manifest

    def __enter__(self) -> Self:
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{self.path} is a file; choose a folder for the store")
        if self._weights is None:
            read_manifest(self.path)  # raises if there is no store
        elif self.path.is_dir() and not _is_store(self.path) and any(self.path.iterdir()):
            raise StoreError(
                f"{self.path} contains other files and no store; choose an empty or a new folder"
            )
        for folder in (*_FOLDERS, paths.LOCK):
            if (self.path / folder).is_symlink():
                raise FormatError(
                    f"{self.path / folder} is a symbolic link, which a store does not allow"
                )
        make_folder(self.path, outermost=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise StoreLocked(f"another process is writing to {self.path}; try again") from None
        try:
            self._clear_unfinished()
            self.manifest = self._open_or_create()
            if self._mode is not None:
                set_mode(self.path, self._mode)
            self._read_as = _signature(self.path)
            self._recording = record_published()
            self._published = self._recording.__enter__()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None and not isinstance(error, CommitConflict):
                self._remove_uncommitted()
        finally:
            self._recording.__exit__(None, None, None)
            self._lock.release()

    def remember(self, choices: Choices) -> None:
        """Set the options for reading recordings; written with the next commit.

        Parameters
        ----------
        choices : Choices
            Options for reading recordings.
        """
        self.manifest = replace(self.manifest, choices=choices)

    def append(self, data: SegmentData, before: Manifest | None = None) -> SegmentEntry:
        """Write and commit one segment; on return it is durable and visible.

        Parameters
        ----------
        data : SegmentData
            Tables and vectors of the segment.
        before : Manifest, optional
            Manifest to which the segment is added, derived from ``self.manifest``; by default
            ``self.manifest``.
        """
        rows = data.clips.num_rows
        if self._weights is None or not rows:
            raise StoreError("pass the weights of the vectors, and at least one clip")
        ids = np.arange(rows, dtype=np.int64) + self.manifest.next_clip_id
        entry = write_segment(self.path, data, ids, self.manifest.snapshot + 1)
        self.commit((before or self.manifest).with_segment(entry))
        return entry

    def commit(self, manifest: Manifest) -> None:
        """Publish a manifest, derived from ``self.manifest``, as the next snapshot.

        Parameters
        ----------
        manifest : Manifest
            The manifest to publish.

        Raises
        ------
        CommitConflict
            If the store is not at the snapshot of ``self.manifest``.
        """
        if (
            _signature(self.path) != self._read_as
            and read_manifest(self.path).snapshot != self.manifest.snapshot
        ):
            raise CommitConflict("another writer has changed the store; open it again and retry")
        following = replace(manifest, snapshot=self.manifest.snapshot + 1, written=time.time())
        if not self._committed:
            # All commits of one writer are one step of the history.
            snapshots.archive_manifest(self.path, self.manifest.snapshot)
        write_manifest(self.path, following)
        self.manifest = following
        self._read_as = _signature(self.path)
        if not self._committed:
            tagged = frozenset(following.tags.values())
            snapshots.expire_snapshots(self.path, snapshots.KEPT, following.snapshot, tagged)
        self._committed = True

    def _clear_unfinished(self) -> None:
        # This process has the lock, so no other process is writing these files.
        for folder in (".", *_FOLDERS):
            for path in unfinished(self.path / folder):
                remove(path)

    def _remove_uncommitted(self) -> None:
        """Remove the files that a failed command wrote, so that they do not fill the disk.

        Only what this process published, and no manifest names: where a file system does not keep
        the lock, files that are new may be another process's, which it commits next.
        """
        with contextlib.suppress(FormatError, OSError):
            # read the manifest from the disk: a commit may fail after its publication
            kept = [read_manifest(self.path), *snapshots.kept_manifests(self.path)]
            for position, folder in enumerate((paths.SEGMENTS, paths.INDEXES)):
                named = frozenset().union(*(manifest.names[position] for manifest in kept))
                for path, written in self._published.items():
                    own = path.parent == self.path / folder and identity(path) == written
                    if own and path.name not in named:
                        remove(path)

    def _open_or_create(self) -> Manifest:
        if self._weights is None or self._contract is None:
            return read_manifest(self.path)
        if not (self.path / paths.MANIFEST).exists():
            if any((self.path / paths.SEGMENTS).glob("*")):
                raise FormatError(f"{self.path} holds segments but no {paths.MANIFEST}; restore it")
            for folder in (paths.SEGMENTS, paths.INDEXES):
                make_folder(self.path / folder)
            fresh = Manifest(uuid.uuid4().hex, self._weights, self._contract, written=time.time())
            write_manifest(self.path, fresh)
            return fresh
        manifest = read_manifest(self.path)
        _refuse_mixture(manifest, self._weights, self._contract)
        return manifest


def _signature(store: Path) -> tuple[int, int, int]:
    # Every commit replaces the file, so its signature changes.
    stat = (store / paths.MANIFEST).stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _is_store(path: Path) -> bool:
    # A process that died while creating the store leaves only the lock file.
    return (path / paths.MANIFEST).exists() or (path / paths.LOCK).exists()


def _refuse_mixture(manifest: Manifest, weights: WeightsIdentity, contract: Contract) -> None:
    stored = manifest.weights
    if stored.sha256 != weights.sha256:
        raise StoreError(
            f"the store holds vectors of the weights {stored.name} ({stored.sha256[:12]}), these "
            f"are {weights.name} ({weights.sha256[:12]}); vectors of different weights cannot be "
            "compared, so build another store"
        )
    if manifest.contract.sha256 != contract.sha256:
        raise StoreError(
            f"the store's clips were prepared under the contract {manifest.contract.name} "
            f"({manifest.contract.sha256[:12]}), these under {contract.name} "
            f"({contract.sha256[:12]}); build another store"
        )
