"""Verification: the files against the manifest, and caches against the vectors.

A repair rebuilds damaged caches from the segments, moves damaged segments to ``quarantine/``, so
that a repeated build reads these recordings again, and removes damaged lines of labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm.errors import SleepFMError
from sleepfm.progress import Progress
from sleepfm_index.errors import CommitConflict, FormatError
from sleepfm_index.indexing import maintenance
from sleepfm_index.indexing.maintenance import IndexRequest
from sleepfm_index.search import kinds
from sleepfm_index.storage import paths, private, snapshots
from sleepfm_index.storage.files import fingerprint, make_folder, remove, sync_folder
from sleepfm_index.storage.labels import check_labels, drop_damaged_labels, label_columns
from sleepfm_index.storage.manifest import (
    IndexEntry,
    Manifest,
    RowCacheEntry,
    SegmentEntry,
    deleted_within,
    read_manifest,
)
from sleepfm_index.storage.plain_files import check_plain
from sleepfm_index.storage.segments import (
    CLIPS,
    TABLES,
    check_table,
    extra_columns,
    map_vectors,
    read_table,
)
from sleepfm_index.storage.table_checks import check_columns
from sleepfm_index.storage.vector_format import NORM_TOLERANCE, widen
from sleepfm_index.storage.vectors import Vectors
from sleepfm_index.storage.writer import Writer

_BLOCK: Final = 1 << 15

What = Literal["damaged", "cache", "leftover"]


@dataclass(frozen=True)
class Finding:
    """One problem of a store.

    Parameters
    ----------
    where : str
        File or folder, relative to the store's folder.
    what : {"damaged", "cache", "leftover"}
        Damaged primary data; a damaged cache; or a harmless file of a process that died.
    why : str
        Description of the problem in one sentence.
    repaired : str
        Description of the repair; empty if there was none.
    """

    where: str
    what: What
    why: str
    repaired: str = ""


@dataclass(frozen=True)
class Verification:
    """Result of a verification.

    Parameters
    ----------
    files : int
        Number of files checked.
    bytes : int
        Total size of these files.
    clips : int
        Number of clips checked.
    findings : tuple of Finding
        Problems, in the order of the checks.
    """

    files: int
    bytes: int
    clips: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no damage remains; leftovers are not damage."""
        return all(f.what == "leftover" or f.repaired for f in self.findings)


def verify(
    store: str | Path,
    *,
    repair: bool = False,
    progress: Progress | None = None,
) -> Verification:
    """Check sizes, hashes, rows, clip ids, norms, indexes and leftovers; every byte is read.

    Parameters
    ----------
    store : path
        The store's folder.
    repair : bool
        Whether to rebuild damaged caches, to move damaged segments and leftovers to
        ``quarantine/`` and commit a manifest without them, and to remove damaged lines of labels,
        of which ``quarantine/`` keeps a copy.
    progress : callable, optional
        Called after each file with (bytes read, total bytes).

    Raises
    ------
    FormatError
        If the manifest cannot be read; the message names the last kept one.
    CommitConflict
        If another process compacted the store in the meantime.
    StoreLocked
        If ``repair`` is true and another process is writing.
    """
    path = Path(store)
    manifest = _read(path)
    if repair:
        with Writer(path) as writer:
            return _repair(writer, _check(path, writer.manifest, progress))
    verification = _check(path, manifest, progress)
    if not verification.ok and read_manifest(path).snapshot != manifest.snapshot:
        raise CommitConflict("the store changed while it was verified; verify it again")
    return verification


def _read(store: Path) -> Manifest:
    try:
        return read_manifest(store)
    except FormatError as error:
        known = snapshots.snapshot_ids(store)
        if not known:
            raise
        raise FormatError(
            f"{error}; the last kept one is {snapshots.file_name(known[-1])}, which lacks later "
            "commits"
        ) from error


def _check(store: Path, manifest: Manifest, progress: Progress | None) -> Verification:
    check = _Check(store, manifest, progress)
    for segment in manifest.segments:
        check.segment(segment)
    for cache in manifest.caches:
        check.cache(cache)
    check.manifest()
    check.private()
    check.labels()
    check.history()
    check.leftovers()
    return Verification(check.files, check.bytes, manifest.rows, tuple(check.findings))


class _Check:
    """Checks a store and records its problems."""

    def __init__(self, store: Path, manifest: Manifest, progress: Progress | None) -> None:
        self._store = store
        self._manifest = manifest
        self._vectors = Vectors(store, manifest)
        self._progress = progress
        self._total = sum(e.bytes for s in manifest.segments for e in s.files.values())
        self._total += sum(c.entry.bytes for c in manifest.caches)
        self._damaged: set[str] = set()
        self._hashed: dict[tuple[int, int], object] = {}
        self.files = 0
        self.bytes = 0
        self.findings: list[Finding] = []

    def segment(self, segment: SegmentEntry) -> None:
        where = f"{paths.SEGMENTS}/{segment.id}"
        with self._recorded(where, "damaged"):
            for name in sorted({*TABLES, *segment.files}):
                if name not in segment.files:
                    raise FormatError(f"the manifest names no {name} in it")
                self._content(segment.files[name].bytes, segment.files[name], *_path(segment, name))
            for name in TABLES:
                self._table(segment, name)
            self._rows(segment)
        if any(f.where == where for f in self.findings):
            self._damaged.add(segment.id)

    def _table(self, segment: SegmentEntry, name: str) -> None:
        path = check_table(self._store, segment, name)
        table = read_table(self._store, segment, name)
        clips = name == CLIPS
        check_columns(path, table.schema, self._manifest.modalities if clips else None)
        if clips and set(extra_columns(table.schema)) != set(segment.columns):
            raise FormatError(f"{name} has other columns than the manifest states")
        table.validate(full=True)
        if not clips and set(table["source"].to_pylist()) - set(segment.sources):
            raise FormatError(f"{name} has rows of recordings that the manifest does not state")

    def cache(self, cache: IndexEntry | RowCacheEntry) -> None:
        with self._recorded(f"{paths.INDEXES}/{cache.file}", "cache"):
            self._content(cache.entry.bytes, cache.entry, paths.INDEXES, cache.file)
            unknown = set(cache.segments) - {s.id for s in self._manifest.segments}
            if unknown or self._damaged & set(cache.segments):
                raise FormatError("it covers segments that are damaged or not in the manifest")
            if isinstance(cache, IndexEntry):
                self._index_ids(cache)

    def manifest(self) -> None:
        with self._recorded(paths.MANIFEST, "damaged"):
            if not snapshots.is_as_written(self._store):
                raise FormatError(
                    "its content was changed, so clips and deletions may be wrong; restore a "
                    "copy, or `sleepfm-index restore` an earlier snapshot"
                )

    def private(self) -> None:
        with self._recorded(paths.PRIVATE, "damaged"):
            private.check(self._store)

    def labels(self) -> None:
        for column in label_columns(self._store):
            with self._recorded(f"{paths.LABELS}/{column}.jsonl", "damaged"):
                check_labels(self._store, column)

    def history(self) -> None:
        for number in snapshots.snapshot_ids(self._store):
            name = snapshots.file_name(number)
            with self._recorded(name, "leftover"):
                earlier = read_manifest(self._store, name)
                if not snapshots.is_as_written(self._store, name):
                    raise FormatError("its content was changed; it should not be restored")
                if earlier.snapshot != number or earlier.uuid != self._manifest.uuid:
                    raise FormatError("it is not the snapshot of its file name")
                snapshots.check_segments(self._store, earlier)
                self._earlier(earlier)

    def _earlier(self, earlier: Manifest) -> None:
        """Hash the files of a kept snapshot."""
        for segment in earlier.segments:
            for name, entry in segment.files.items():
                self._content(entry.bytes, entry, *_path(segment, name))
        for cache in earlier.caches:
            if (self._store / paths.INDEXES / cache.file).exists():
                self._content(cache.entry.bytes, cache.entry, paths.INDEXES, cache.file)

    def leftovers(self) -> None:
        folders, files = self._manifest.names
        kept = snapshots.kept_manifests(self._store)
        known = {
            paths.SEGMENTS: folders.union(*(m.names[0] for m in kept)),
            paths.INDEXES: files.union(*(m.names[1] for m in kept)),
            paths.SNAPSHOTS: {f"{n}.json" for n in snapshots.snapshot_ids(self._store)},
            paths.LABELS: {paths.LOCK, *(f"{c}.jsonl" for c in label_columns(self._store))},
            ".": {
                paths.MANIFEST,
                paths.LOCK,
                paths.SEGMENTS,
                paths.INDEXES,
                paths.SNAPSHOTS,
                paths.PRIVATE,
                paths.LABELS,
                paths.QUARANTINE,
            },
        }
        inside = {f"{paths.SEGMENTS}/{s.id}": set(s.files) for s in self._manifest.segments}
        for folder, names in {**known, **inside}.items():
            if (self._store / folder).is_symlink():
                continue  # reported for the parent folder; the target is not part of the store
            for path in sorted((self._store / folder).glob("*")):
                where = str(path.relative_to(self._store))
                if path.is_symlink():
                    self.findings.append(Finding(where, "damaged", "it is a link"))
                elif path.name not in names:
                    self.findings.append(Finding(where, "leftover", "no manifest names it"))

    @contextmanager
    def _recorded(self, where: str, what: What) -> Iterator[None]:
        try:
            yield
        except (SleepFMError, OSError, pa.ArrowException) as error:
            self.findings.append(Finding(where, what, str(error)))

    def _content(self, size: int, entry: object, *names: str) -> None:
        path = check_plain(self._store, *names, size=size)
        stat = path.stat()
        file = (stat.st_dev, stat.st_ino)  # annotated segments share vectors by hard links
        if fresh := file not in self._hashed:
            self._hashed[file] = fingerprint(path)
        if self._hashed[file] != entry:
            raise FormatError(f"the content of {names[-1]} was changed")
        if fresh:
            self.files, self.bytes = self.files + 1, self.bytes + size
        if self._progress is not None:
            self._progress(min(self.bytes, self._total), self._total)

    def _rows(self, segment: SegmentEntry) -> None:
        presence_columns = [f"has_{m}" for m in self._manifest.modalities]
        clips = read_table(self._store, segment, CLIPS, ["clip_id", *presence_columns])
        ids = clips["clip_id"].to_numpy()
        if np.any(np.diff(ids) <= 0) or clips["clip_id"].null_count:
            raise FormatError("its clip ids are not ascending")
        if (ids[0], ids[-1]) != (segment.first_clip_id, segment.last_clip_id):
            raise FormatError("its clip ids differ from the manifest")
        for modality in self._manifest.modalities:
            present = clips[f"has_{modality}"].to_numpy()
            self._norms(segment, modality, np.asarray(present, bool))

    def _norms(self, segment: SegmentEntry, modality: str, present: NDArray[np.bool_]) -> None:
        vectors = map_vectors(self._store, segment, modality)
        for start in range(0, segment.rows, _BLOCK):
            rows = slice(start, start + _BLOCK)
            lengths = np.linalg.norm(widen(vectors[rows]), axis=1)
            if np.any(lengths[~present[rows]] != 0):
                raise FormatError(f"clips without {modality} have {modality} vectors")
            if not np.all(np.abs(lengths[present[rows]] - 1) < NORM_TOLERANCE):
                raise FormatError(f"{modality} vectors are not of length 1")

    def _index_ids(self, index: IndexEntry) -> None:
        index_kind = kinds.find(index.kind)
        if index_kind is None:
            if index.settings:
                raise FormatError(f"its kind {index.kind} is unknown")
            return  # an unused index: format 1 began with copies of the vectors
        ids = np.sort(index_kind.open(self._store, index).ids())
        covered = [s for s in self._manifest.segments if s.id in index.segments]
        known = [self._vectors.having(s.id, index.target) for s in covered]
        present_ids = np.sort(np.concatenate([*known, np.empty(0, np.int64)]))
        if np.any(np.diff(ids) == 0) or not np.isin(ids, present_ids).all():
            raise FormatError("its clip ids differ from the segments")
        if not np.isin(present_ids[self._manifest.live(present_ids)], ids).all():
            raise FormatError("it lacks clips of the segments that it covers")


def _repair(writer: Writer, verification: Verification) -> Verification:
    store, before = writer.path, writer.manifest
    wrong = {f.where for f in verification.findings if f.what != "leftover"}
    damaged = {s.id for s in before.segments if _is_at_or_below(f"{paths.SEGMENTS}/{s.id}", wrong)}

    def sound(cache: IndexEntry | RowCacheEntry) -> bool:
        return f"{paths.INDEXES}/{cache.file}" not in wrong and not damaged & set(cache.segments)

    kept = tuple(s for s in before.segments if s.id not in damaged)
    rows = before.row_cache
    after = replace(
        before,
        segments=kept,
        indexes=tuple(i for i in before.indexes if sound(i)),
        row_cache=rows if rows is not None and sound(rows) else None,
        deleted=deleted_within(before.deleted, kept),
    )
    if after != before:
        writer.commit(after)
    findings = tuple(replace(f, repaired=_quarantine(store, f)) for f in verification.findings)
    if after != before:
        request = IndexRequest(only_present=True, as_in=before)
        writer.commit(maintenance.with_caches(store, writer.manifest, request))
    return replace(verification, clips=writer.manifest.rows, findings=findings)


def _quarantine(store: Path, finding: Finding) -> str:
    if finding.where in (paths.MANIFEST, paths.PRIVATE):
        return ""  # cannot be repaired from other data
    source = store / finding.where
    if finding.what == "cache":
        remove(source)
        return "rebuilt"
    if not source.exists() and not source.is_symlink():
        return "removed from the manifest"
    make_folder(store / paths.QUARANTINE)
    name = finding.where.replace("/", "-")
    folder = store / paths.QUARANTINE
    free = (folder / (name if not n else f"{name}.{n}") for n in itertools.count())
    destination = next(path for path in free if not path.exists())
    if source.parent.name == paths.LABELS and not source.is_symlink() and finding.what == "damaged":
        drop_damaged_labels(store, source.stem, destination)
        return f"its undamaged lines stay; all are in {destination.relative_to(store)}"
    source.rename(destination)
    for folder in (destination.parent, source.parent):
        sync_folder(folder)
    return f"moved to {destination.relative_to(store)}"


def _is_at_or_below(folder: str, locations: set[str]) -> bool:
    return any(w == folder or w.startswith(folder + "/") for w in locations)


def _path(segment: SegmentEntry, name: str) -> tuple[str, str, str]:
    return paths.SEGMENTS, segment.id, name
