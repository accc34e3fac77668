"""Verify: what lies on the disk against the manifest, and caches against the vectors.

Repair never guesses. A cache is made again from the segments; what is truth and damaged is moved to
``quarantine/`` and leaves the manifest, so a repeated build reads that recording again.
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
from sleepfm_index.storage.files import check_plain, fingerprint, make_folder, remove, sync_folder
from sleepfm_index.storage.labels import check_labels, drop_damaged_labels, label_columns
from sleepfm_index.storage.manifest import (
    IndexEntry,
    Manifest,
    RowCacheEntry,
    SegmentEntry,
    deleted_within,
    read_manifest,
)
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
    """One thing that is not as it should be.

    Parameters
    ----------
    where : str
        File or folder, below the store's own.
    what : {"damaged", "cache", "leftover"}
        Truth that is damaged; a cache that is, which loses nothing; or what a process that died
        left behind, which harms nothing.
    why : str
        One sentence.
    repaired : str
        What was done about it; empty if nothing.
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
        Their size.
    clips : int
        Number of clips checked.
    findings : tuple of Finding
        What was found.
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
        Make damaged caches again; move damaged segments and leftovers to ``quarantine/`` and
        commit a manifest without them.
    progress : callable, optional
        Called as bytes are read, with (bytes read, bytes in all).

    Raises
    ------
    FormatError
        If the manifest itself cannot be read; the sentence names the last one that was kept.
    CommitConflict
        If another process compacted the store meanwhile.
    StoreLocked
        If something is to be repaired and another process is writing.
    """
    path = Path(store)
    manifest = _read(path)
    if repair:
        with Writer(path) as writer:
            return _repair(writer, _check(path, writer.manifest, progress))
    found = _check(path, manifest, progress)
    if not found.ok and read_manifest(path).snapshot != manifest.snapshot:
        raise CommitConflict("the store changed while it was verified; verify it again")
    return found


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
    """Checks a store and records damage."""

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
        with self._noting(where, "damaged"):
            for name in sorted({*TABLES, *segment.files}):
                if name not in segment.files:
                    raise FormatError(f"the manifest names no {name} in it")
                self._content(segment.files[name].bytes, segment.files[name], *_at(segment, name))
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
        with self._noting(f"{paths.INDEXES}/{cache.file}", "cache"):
            self._content(cache.entry.bytes, cache.entry, paths.INDEXES, cache.file)
            unknown = set(cache.segments) - {s.id for s in self._manifest.segments}
            if unknown or self._damaged & set(cache.segments):
                raise FormatError("it covers segments that are damaged or not in the manifest")
            if isinstance(cache, IndexEntry):
                self._index_ids(cache)

    def manifest(self) -> None:
        with self._noting(paths.MANIFEST, "damaged"):
            if not snapshots.is_as_written(self._store):
                raise FormatError(
                    "its content was changed, so clips and deletions may be wrong; restore a "
                    "copy, or `sleepfm-index restore` an earlier snapshot"
                )

    def private(self) -> None:
        with self._noting(paths.PRIVATE, "damaged"):
            private.check(self._store)

    def labels(self) -> None:
        for column in label_columns(self._store):
            with self._noting(f"{paths.LABELS}/{column}.jsonl", "damaged"):
                check_labels(self._store, column)

    def history(self) -> None:
        for number in snapshots.snapshot_ids(self._store):
            name = snapshots.file_name(number)
            with self._noting(name, "leftover"):
                earlier = read_manifest(self._store, name)
                if not snapshots.is_as_written(self._store, name):
                    raise FormatError("its content was changed; it should not be restored")
                if earlier.snapshot != number or earlier.uuid != self._manifest.uuid:
                    raise FormatError("it is not the snapshot of its file name")
                snapshots.check_segments(self._store, earlier)
                self._earlier(earlier)

    def _earlier(self, earlier: Manifest) -> None:
        """Hash the files of a kept snapshot that the present one does not have."""
        for segment in earlier.segments:
            for name, entry in segment.files.items():
                self._content(entry.bytes, entry, *_at(segment, name))
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
                continue  # noted in the folder above; what it leads to is not the store's
            for path in sorted((self._store / folder).glob("*")):
                where = str(path.relative_to(self._store))
                if path.is_symlink():
                    self.findings.append(Finding(where, "damaged", "it is a link"))
                elif path.name not in names:
                    self.findings.append(Finding(where, "leftover", "no manifest names it"))

    @contextmanager
    def _noting(self, where: str, what: What) -> Iterator[None]:
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
        has = [f"has_{m}" for m in self._manifest.modalities]
        clips = read_table(self._store, segment, CLIPS, ["clip_id", *has])
        ids = clips["clip_id"].to_numpy()
        if np.any(np.diff(ids) <= 0) or clips["clip_id"].null_count:
            raise FormatError("its clip ids are not ascending")
        if (ids[0], ids[-1]) != (segment.first_clip_id, segment.last_clip_id):
            raise FormatError("its clip ids differ from the manifest")
        for modality in self._manifest.modalities:
            there = clips[f"has_{modality}"].to_numpy()
            self._norms(segment, modality, np.asarray(there, bool))

    def _norms(self, segment: SegmentEntry, modality: str, there: NDArray[np.bool_]) -> None:
        vectors = map_vectors(self._store, segment, modality)
        for start in range(0, segment.rows, _BLOCK):
            rows = slice(start, start + _BLOCK)
            lengths = np.linalg.norm(widen(vectors[rows]), axis=1)
            if np.any(lengths[~there[rows]] != 0):
                raise FormatError(f"clips without {modality} have {modality} vectors")
            if not np.all(np.abs(lengths[there[rows]] - 1) < NORM_TOLERANCE):
                raise FormatError(f"{modality} vectors are not of length 1")

    def _index_ids(self, index: IndexEntry) -> None:
        kind = kinds.find(index.kind)
        if kind is None:
            if index.settings:
                raise FormatError(f"it has the unknown kind {index.kind}")
            return  # nobody searches it: format 1 began with copies of the vectors
        ids = np.sort(kind.open(self._store, index).ids())
        covered = [s for s in self._manifest.segments if s.id in index.segments]
        known = [self._vectors.having(s.id, index.target) for s in covered]
        there = np.sort(np.concatenate([*known, np.empty(0, np.int64)]))
        if np.any(np.diff(ids) == 0) or not np.isin(ids, there).all():
            raise FormatError("its clip ids differ from the segments")
        if not np.isin(there[self._manifest.live(there)], ids).all():
            raise FormatError("it lacks clips of the segments that it covers")


def _repair(writer: Writer, found: Verification) -> Verification:
    store, before = writer.path, writer.manifest
    wrong = {f.where for f in found.findings if f.what != "leftover"}
    damaged = {s.id for s in before.segments if _is_or_is_in(f"{paths.SEGMENTS}/{s.id}", wrong)}

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
    done = tuple(replace(f, repaired=_put_away(store, f)) for f in found.findings)
    if after != before:
        wanted = IndexRequest(only_present=True, as_in=before)
        writer.commit(maintenance.with_caches(store, writer.manifest, wanted))
    return replace(found, clips=writer.manifest.rows, findings=done)


def _put_away(store: Path, finding: Finding) -> str:
    if finding.where in (paths.MANIFEST, paths.PRIVATE):
        return ""  # nothing here knows better
    source = store / finding.where
    if finding.what == "cache":
        remove(source)
        return "made again"
    if not source.exists() and not source.is_symlink():
        return "removed from the manifest"
    make_folder(store / paths.QUARANTINE)
    name = finding.where.replace("/", "-")
    folder = store / paths.QUARANTINE
    free = (folder / (name if not n else f"{name}.{n}") for n in itertools.count())
    place = next(path for path in free if not path.exists())
    if source.parent.name == paths.LABELS and not source.is_symlink() and finding.what == "damaged":
        drop_damaged_labels(store, source.stem, place)
        return f"its sound lines stay; all are in {place.relative_to(store)}"
    source.rename(place)
    for folder in (place.parent, source.parent):
        sync_folder(folder)
    return f"moved to {place.relative_to(store)}"


def _is_or_is_in(folder: str, wheres: set[str]) -> bool:
    return any(w == folder or w.startswith(folder + "/") for w in wheres)


def _at(segment: SegmentEntry, name: str) -> tuple[str, str, str]:
    return paths.SEGMENTS, segment.id, name
