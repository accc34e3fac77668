"""How a store grows: one writer at a time, one commit after another."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from sleepfm.contract import Contract
from sleepfm_index import ann
from sleepfm_index.disk import make_folder
from sleepfm_index.errors import CommitConflict, FormatError, StoreError, StoreLocked
from sleepfm_index.manifest import (
    FILE_NAME,
    Manifest,
    SegmentEntry,
    WeightsIdentity,
    read_manifest,
    write_manifest,
)
from sleepfm_index.schema import TARGETS
from sleepfm_index.segment import FOLDER, SegmentData, write_segment
from sleepfm_index.vectors import Vectors

_LOCK = ".lock"


class Writer:
    """The one process that may change a store; use it in a ``with`` statement.

    The lock is the operating system's, so it ends with the process that holds it.

    Parameters
    ----------
    path : Path
        The store's folder; it is made if there is none.
    weights : WeightsIdentity
        Whose vectors will be appended; they must be the store's own.
    contract : Contract
        How the clips were prepared; it must be the store's own.

    Raises
    ------
    StoreLocked
        If another process is writing.
    StoreError
        If the store holds vectors of other weights or another contract.
    """

    def __init__(self, path: Path, weights: WeightsIdentity, contract: Contract) -> None:
        self.path = path
        self._weights = weights
        self._contract = contract
        self._lock = FileLock(path / _LOCK, timeout=0, mode=0o600)
        self.manifest: Manifest

    def __enter__(self) -> Self:
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{self.path} is a file; name a folder for the store")
        if self.path.is_dir() and not _is_store(self.path) and any(self.path.iterdir()):
            raise StoreError(
                f"{self.path} holds other files and no store; name an empty or a new folder"
            )
        make_folder(self.path)
        try:
            self._lock.acquire()
        except Timeout:
            raise StoreLocked(f"another process is writing to {self.path}; try again") from None
        try:
            self.manifest = self._open_or_create()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def append(self, data: SegmentData) -> SegmentEntry:
        """Write one segment and commit it; when this returns, it is durable and visible."""
        entry = write_segment(self.path, data, self.manifest.next_clip_id)
        self._commit(self.manifest.with_segment(entry))
        return entry

    def reindex(self) -> None:
        """Rebuild the index of every target that does not cover all segments, and commit."""
        names = tuple(s.id for s in self.manifest.segments)
        current = {i.target: i for i in self.manifest.indexes if i.segments == names}
        if len(current) == len(TARGETS):
            return
        vectors = Vectors(self.path, self.manifest)
        for target in TARGETS:
            if target not in current:
                blocks = (vectors.segment(name, target) for name in names)
                current[target] = ann.write_exact(self.path, target, names, blocks)
        replaced = {i.file for i in self.manifest.indexes} - {i.file for i in current.values()}
        self._commit(replace(self.manifest, indexes=tuple(current[t] for t in TARGETS)))
        for file in replaced:
            (self.path / ann.FOLDER / file).unlink(missing_ok=True)

    def _commit(self, manifest: Manifest) -> None:
        if read_manifest(self.path).snapshot != self.manifest.snapshot:
            raise CommitConflict("another writer moved the store on; open it again and retry")
        self.manifest = replace(manifest, snapshot=self.manifest.snapshot + 1)
        write_manifest(self.path, self.manifest)

    def _open_or_create(self) -> Manifest:
        if not (self.path / FILE_NAME).exists():
            if any((self.path / FOLDER).glob("*")):
                raise FormatError(f"{self.path} holds segments but no {FILE_NAME}; restore it")
            for folder in (FOLDER, ann.FOLDER):
                make_folder(self.path / folder)
            fresh = Manifest(uuid.uuid4().hex, self._weights, self._contract)
            write_manifest(self.path, fresh)
            return fresh
        manifest = read_manifest(self.path)
        _refuse_mixture(manifest, self._weights, self._contract)
        return manifest


def _is_store(path: Path) -> bool:
    # A process that died while it made the store leaves the lock file alone.
    return (path / FILE_NAME).exists() or (path / _LOCK).exists()


def _refuse_mixture(manifest: Manifest, weights: WeightsIdentity, contract: Contract) -> None:
    ours, theirs = manifest.weights, weights
    if ours.sha256 != theirs.sha256:
        raise StoreError(
            f"the store holds vectors of the weights {ours.name} ({ours.sha256[:12]}), these are "
            f"{theirs.name} ({theirs.sha256[:12]}); vectors of two weights cannot be compared, so "
            "build another store"
        )
    if manifest.contract.sha256 != contract.sha256:
        raise StoreError(
            f"the store's clips were prepared under the contract {manifest.contract.name} "
            f"({manifest.contract.sha256[:12]}), these under {contract.name} "
            f"({contract.sha256[:12]}); build another store"
        )
