"""Compaction: small segments are merged, and deleted clips are removed from the disk."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.indexing import maintenance
from sleepfm_index.indexing.maintenance import IndexRequest
from sleepfm_index.storage import paths, private, snapshots
from sleepfm_index.storage.files import FileEntry, remove, sync_folder
from sleepfm_index.storage.labels import check_labels, keep_labels, label_columns
from sleepfm_index.storage.manifest import Manifest, SegmentEntry, read_manifest
from sleepfm_index.storage.segments import (
    CLIPS,
    EVENTS,
    RECORDINGS,
    SegmentData,
    map_vectors,
    read_table,
    vector_file,
    write_segment,
)
from sleepfm_index.storage.table_checks import check_columns
from sleepfm_index.storage.vector_format import STORED, Stored
from sleepfm_index.storage.vectors import Vectors
from sleepfm_index.storage.writer import Writer

SEGMENT_CLIPS: Final = 1_000_000
"""Maximum number of clips of a compacted segment, 1 GB per modality, unless one was larger
before."""


@dataclass(frozen=True)
class Compaction:
    """Result of a compaction.

    Parameters
    ----------
    segments_before, segments_after : int
        Number of segments before and after.
    clips_removed : int
        Number of deleted clips that were removed from the disk.
    bytes_freed : int
        Bytes of the removed files.
    removed, written : mapping of str to FileEntry
        Removed and new files, by path relative to the store.
    linked : tuple of str
        Removed files that have a hard link outside the store, so that their bytes remain.
    quarantined : int
        Number of files in ``quarantine/``, which may hold clips of any subject; with ``erase`` they
        are removed.
    named : tuple of str
        Tags of kept snapshots with clips that were deleted later.
    """

    segments_before: int
    segments_after: int
    clips_removed: int
    bytes_freed: int
    removed: Mapping[str, FileEntry] = field(default_factory=dict)
    written: Mapping[str, FileEntry] = field(default_factory=dict)
    linked: tuple[str, ...] = ()
    quarantined: int = 0
    named: tuple[str, ...] = ()


def compact(
    store: str | Path,
    *,
    keep_snapshots: int = 0,
    segment_clips: int = SEGMENT_CLIPS,
    erase: bool = False,
) -> Compaction:
    """Merge small segments, rewrite those with deleted clips, and remove unused files.

    Clip ids do not change. Everything is one commit: if the process is stopped at any point, the
    store is in the state before or after it, and the same call can be repeated. Until the commit,
    old and new segments both need disk space.

    Parameters
    ----------
    store : path
        The store's folder.
    keep_snapshots : int
        Number of earlier snapshots to keep, with the files that they need. Readers of a kept
        snapshot are not interrupted, and its deleted clips stay on the disk.
    segment_clips : int
        Maximum number of clips of a merged segment; segments are not split, so that one which was
        larger before stays so.
    erase : bool
        Whether to remove ``quarantine/`` and the tagged snapshots as well.

    Raises
    ------
    StoreLocked
        If another process is writing.
    """
    path = Path(store)
    with Writer(path) as writer:
        before = writer.manifest
        check_labels(path)  # the labels of deleted clips must all be readable, or some would stay
        after = _merged(writer, segment_clips)
        if after != before:
            writer.commit(after)
        earlier = snapshots.kept_manifests(path)
        if erase and writer.manifest.tags:
            writer.commit(replace(writer.manifest, tags={}))
        tagged = frozenset(writer.manifest.tags.values())
        snapshots.expire_snapshots(path, keep_snapshots, writer.manifest.snapshot, tagged)
        kept = [writer.manifest, *snapshots.kept_manifests(path)]
        had, has = files_of([before, *earlier]), files_of(kept)
        removed = {name: entry for name, entry in had.items() if name not in has}
        linked = _linked_elsewhere(path, removed)
        freed = snapshots.remove_orphans(path, kept)
        quarantined = sum(p.is_file() for p in (path / paths.QUARANTINE).rglob("*"))
        if erase and quarantined:
            remove(path / paths.QUARANTINE)
            sync_folder(path)
        _remove_paths(path, kept)
        _remove_labels(path, kept)
    return Compaction(
        len(before.segments),
        len(writer.manifest.segments),
        sum(s.rows for s in before.segments) - writer.manifest.rows,
        freed,
        removed,
        {name: entry for name, entry in has.items() if name not in had},
        linked,
        quarantined,
        _tags_with_deleted(path, writer.manifest),
    )


def files_of(manifests: Iterable[Manifest], *, deleted_only: bool = False) -> dict[str, FileEntry]:
    """Files of manifests, by path relative to the store's folder.

    Parameters
    ----------
    manifests : iterable of Manifest
        The manifests.
    deleted_only : bool
        Whether to return only the files of segments with deleted clips.
    """
    files = {}
    for manifest in manifests:
        for segment in manifest.segments:
            if not deleted_only or deleted_in(manifest, segment):
                for name, entry in segment.files.items():
                    files[f"{paths.SEGMENTS}/{segment.id}/{name}"] = entry
        if not deleted_only:
            files |= {f"{paths.INDEXES}/{i.file}": i.entry for i in manifest.indexes}
    return files


def _tags_with_deleted(store: Path, current: Manifest) -> tuple[str, ...]:
    """List the tags of snapshots with clips that the current snapshot does not have."""
    tags = []
    for name, number in current.tags.items():
        if number in snapshots.snapshot_ids(store):
            earlier = read_manifest(store, snapshots.file_name(number))
            if not earlier.sources <= current.sources or earlier.rows > current.rows:
                tags.append(name)
    return tuple(tags)


def _linked_elsewhere(store: Path, files: Mapping[str, FileEntry]) -> tuple[str, ...]:
    """List the files with hard links outside the store, whose bytes outlive a removal."""
    inside: Counter[tuple[int, int]] = Counter()
    for folder in (paths.SEGMENTS, paths.INDEXES):
        for path in (store / folder).rglob("*"):
            status = path.lstat()
            if status.st_nlink > 1:
                inside[status.st_dev, status.st_ino] += 1
    linked = []
    for name in files:
        if (store / name).is_file():
            status = (store / name).lstat()
            if status.st_nlink > max(1, inside[status.st_dev, status.st_ino]):
                linked.append(name)
    return tuple(sorted(linked))


def plan(manifest: Manifest, segment_clips: int) -> list[list[SegmentEntry]]:
    """Group adjacent segments for merging; a single segment without deleted clips is kept.

    A segment of at least half of ``segment_clips`` is kept unless it has deleted clips; then it is
    rewritten, and merged with others only if they fit.

    Parameters
    ----------
    manifest : Manifest
        The snapshot of the store.
    segment_clips : int
        Maximum number of clips of a merged segment.

    Returns
    -------
    list of list of SegmentEntry
        Groups in order of clip id.
    """
    groups: list[list[SegmentEntry]] = []
    room = 0
    for segment in sorted(manifest.segments, key=lambda s: s.first_clip_id):
        live = segment.rows - deleted_in(manifest, segment)
        settled = live == segment.rows and 2 * live >= segment_clips
        if settled or not room or live > room:
            groups.append([])
            room = 0 if settled else segment_clips
        groups[-1].append(segment)
        room = max(0, room - live)
    return groups


def deleted_in(manifest: Manifest, segment: SegmentEntry) -> int:
    """Count deleted clips in a segment.

    Parameters
    ----------
    manifest : Manifest
        The snapshot of the store.
    segment : SegmentEntry
        Entry of the segment in the manifest.
    """
    first, last = segment.first_clip_id, segment.last_clip_id
    return sum(max(0, min(b, last) - max(a, first) + 1) for a, b in manifest.deleted)


def _merged(writer: Writer, segment_clips: int) -> Manifest:
    manifest = writer.manifest
    segments: list[SegmentEntry] = []
    for group in plan(manifest, segment_clips):
        if len(group) == 1 and not deleted_in(manifest, group[0]):
            segments.append(group[0])
        else:
            segments += _merge(writer, group)
    compacted = replace(manifest, segments=tuple(segments), deleted=())
    if compacted == manifest:
        return manifest
    if not manifest.caches:
        return compacted  # a store without indexes gets none
    return maintenance.with_caches(writer.path, compacted, IndexRequest(only_present=True))


def _merge(writer: Writer, group: list[SegmentEntry]) -> list[SegmentEntry]:
    """Write the live clips of a group as one segment; return no segment if there are none."""
    store, manifest = writer.path, writer.manifest
    known = {CLIPS: manifest.modalities, EVENTS: None, RECORDINGS: None}
    tables = {name: _concatenated(store, group, name, of) for name, of in known.items()}
    clips = tables[CLIPS]
    clip_ids = clips["clip_id"].to_numpy()
    live = manifest.live(clip_ids)
    if not live.any():
        return []
    withdrawn = pa.array(manifest.withdrawn, pa.string())
    for name in (EVENTS, RECORDINGS):
        is_withdrawn = pc.is_in(tables[name]["source"], value_set=withdrawn)
        tables[name] = tables[name].filter(pc.invert(is_withdrawn))
    tables[EVENTS] = _of_live_clips(tables[EVENTS], clips, live, manifest.contract.clip_seconds)
    data = SegmentData(
        key=hashlib.sha256("\n".join(s.id for s in group).encode()).hexdigest(),
        clips=clips.filter(pa.array(live)).drop_columns(["clip_id"]),
        events=tables[EVENTS],
        recordings=tables[RECORDINGS],
        vectors=_Merged(store, group, live, manifest.modalities),
    )
    sources = tuple(k for s in group for k in s.sources if k not in manifest.withdrawn)
    return [write_segment(store, data, clip_ids[live], manifest.snapshot + 1, sources)]


def _of_live_clips(
    events: pa.Table, clips: pa.Table, live: NDArray[np.bool_], clip_s: float
) -> pa.Table:
    """Drop the events that overlap deleted clips only."""
    names = clips["recording_id"].to_numpy(zero_copy_only=False)
    starts = clips["start_s"].to_numpy()
    event_names = events["recording_id"].to_numpy(zero_copy_only=False)
    onsets = events["onset_s"].to_numpy()
    ends = onsets + events["duration_s"].to_numpy()
    stay = np.ones(len(events), bool)
    for name in set(names[~live]) & set(event_names):
        clips_of, events_of = names == name, event_names == name
        ordered = np.argsort(starts[clips_of])
        begins, kept = starts[clips_of][ordered], np.r_[0, np.cumsum(live[clips_of][ordered])]
        first = np.searchsorted(begins, onsets[events_of] - clip_s, "right")
        last = np.maximum(np.searchsorted(begins, ends[events_of], "left"), first)
        # an event of zero duration belongs to the clip of its onset
        last = np.maximum(last, np.searchsorted(begins, onsets[events_of], "right"))
        stay[events_of] = (last == first) | (kept[last] > kept[first])
    return events.filter(pa.array(stay))


class _Merged(Mapping[str, Stored]):
    """The vectors of the live clips, gathered for one modality when they are written."""

    def __init__(
        self,
        store: Path,
        group: list[SegmentEntry],
        live: NDArray[np.bool_],
        modalities: tuple[str, ...],
    ) -> None:
        self._store = store
        self._group = group
        self._live = live
        self._modalities = [m for m in modalities if any(vector_file(m) in s.files for s in group)]

    def __getitem__(self, modality: str) -> Stored:
        gathered = np.empty((int(self._live.sum()), EMBEDDING_DIM), STORED)
        row = end = 0
        for segment in self._group:
            keep = self._live[row : row + segment.rows]
            kept = map_vectors(self._store, segment, modality)[keep]
            gathered[end : end + len(kept)] = kept
            row += segment.rows
            end += len(kept)
        return gathered

    def __iter__(self) -> Iterator[str]:
        return iter(self._modalities)

    def __len__(self) -> int:
        return len(self._modalities)


def _concatenated(
    store: Path, group: list[SegmentEntry], name: str, modalities: tuple[str, ...] | None
) -> pa.Table:
    tables = [read_table(store, segment, name) for segment in group]
    for segment, table in zip(group, tables, strict=True):
        check_columns(store / paths.SEGMENTS / segment.id / name, table.schema, modalities)
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        # A subject column is numbers in one build and text in another: convert it to text.
        tables = [_as_text(table, _clashing(tables)) for table in tables]
        return pa.concat_tables(tables, promote_options="permissive")


def _clashing(tables: list[pa.Table]) -> set[str]:
    types_of: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for column in table.schema:
            types_of.setdefault(column.name, set()).add(column.type)
    return {name for name, types in types_of.items() if pa.string() in types and len(types) > 1}


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    for position, column in enumerate(table.schema):
        if column.name in names:
            table = table.set_column(position, column.name, table[column.name].cast(pa.string()))
    return table


def _remove_paths(store: Path, kept: list[Manifest]) -> None:
    """Remove the paths of recordings that are in no kept snapshot."""
    names: set[str] = set()
    for segment in {s.id: s for manifest in kept for s in manifest.segments}.values():
        names.update(read_table(store, segment, RECORDINGS, ["recording_id"])[0].to_pylist())
    private.keep_files(store, names)


def _remove_labels(store: Path, kept: list[Manifest]) -> None:
    """Remove the user labels of clips that are in no kept snapshot."""
    if not label_columns(store):
        return
    stored = np.zeros(max(manifest.stored_ids for manifest in kept), bool)
    for manifest in kept:
        in_snapshot = Vectors(store, manifest).known_ids()
        stored[: len(in_snapshot)] |= in_snapshot

    def stays(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        known = (ids >= 0) & (ids < len(stored))
        known[known] = stored[ids[known]]
        return known

    keep_labels(store, stays)
