"""Compaction: many small segments become few large ones, and deleted clips leave the disk."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM, Modality
from sleepfm_index.errors import FormatError
from sleepfm_index.indexing import maintenance
from sleepfm_index.indexing.maintenance import Asked
from sleepfm_index.storage import private, snapshots
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
from sleepfm_index.storage.writer import Writer

SEGMENT_CLIPS: Final = 1_000_000
"""Clips that a compacted segment holds at most, unless one was larger before: 1 GB a modality."""


@dataclass(frozen=True)
class Compaction:
    """What a compaction did: segments before and after, clips and bytes that left the disk."""

    segments_before: int
    segments_after: int
    clips_removed: int
    bytes_freed: int


def compact(
    store: str | Path, *, keep_snapshots: int = 0, segment_clips: int = SEGMENT_CLIPS
) -> Compaction:
    """Merge small segments, rewrite those with deleted clips, and remove what is not needed.

    Clip ids stay. All happens in one commit; stopped at any point, the store is as before or as
    after, and the same call goes on from there. Until the commit both need room on the disk.

    Parameters
    ----------
    store : path
        The store's folder.
    keep_snapshots : int
        How many earlier snapshots stay, with the files that they need: readers that opened one of
        them go on, and deleted clips stay on the disk as long as one of them holds them.
    segment_clips : int
        Largest segment to make, in clips.

    Raises
    ------
    StoreLocked
        If another process is writing.
    """
    path = Path(store)
    with Writer(path) as writer:
        before = writer.manifest
        try:
            after = _merged(writer, segment_clips)
            if after != before:
                writer.commit(after)
        except BaseException:
            # A full disk is not filled further by what came of the attempt. What counts is the
            # manifest on the disk: a commit may fail after it was published.
            with contextlib.suppress(FormatError, OSError):
                snapshots.sweep(
                    path, [before, read_manifest(path), *snapshots.kept_manifests(path)]
                )
            raise
        snapshots.forget(path, keep_snapshots, writer.manifest.snapshot)
        kept = [writer.manifest, *snapshots.kept_manifests(path)]
        freed = snapshots.sweep(path, kept)
        _forget_files(path, kept)
    removed = sum(s.rows for s in before.segments) - writer.manifest.rows
    return Compaction(len(before.segments), len(writer.manifest.segments), removed, freed)


def plan(manifest: Manifest, segment_clips: int) -> list[list[SegmentEntry]]:
    """Group neighbouring segments: a group of one without deleted clips stays as it is.

    A segment of at least half the size asked for is large; it is rewritten only if clips of it
    were deleted, and takes no others in unless they fit.
    """
    groups: list[list[SegmentEntry]] = []
    room = 0
    for segment in sorted(manifest.segments, key=lambda s: s.first_clip_id):
        left = segment.rows - deleted_in(manifest, segment)
        settled = left == segment.rows and 2 * left >= segment_clips
        if settled or not room or left > room:
            groups.append([])
            room = 0 if settled else segment_clips
        groups[-1].append(segment)
        room = max(0, room - left)
    return groups


def deleted_in(manifest: Manifest, segment: SegmentEntry) -> int:
    """How many clips of a segment are deleted."""
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
    if not manifest.indexes:
        return compacted  # a store without indexes stays without
    return replace(
        compacted, indexes=maintenance.indexes(writer.path, compacted, Asked(only_present=True))
    )


def _merge(writer: Writer, group: list[SegmentEntry]) -> list[SegmentEntry]:
    """Write the clips of a group that are not deleted as one segment; none if none is left."""
    store, manifest = writer.path, writer.manifest
    tables = {name: _concatenated(store, group, name) for name in (CLIPS, EVENTS, RECORDINGS)}
    clips = tables[CLIPS]
    clip_ids = clips["clip_id"].to_numpy()
    live = manifest.live(clip_ids)
    if not live.any():
        return []
    withdrawn = pa.array(manifest.withdrawn, pa.string())
    for name in (EVENTS, RECORDINGS):
        gone = pc.is_in(tables[name]["source"], value_set=withdrawn)
        tables[name] = tables[name].filter(pc.invert(gone))
    data = SegmentData(
        key=hashlib.sha256("\n".join(s.id for s in group).encode()).hexdigest(),
        clips=clips.filter(pa.array(live)).drop_columns(["clip_id"]),
        events=tables[EVENTS],
        recordings=tables[RECORDINGS],
        vectors=_Merged(store, group, live),
    )
    sources = tuple(k for s in group for k in s.sources if k not in manifest.withdrawn)
    return [write_segment(store, data, clip_ids[live], manifest.snapshot + 1, sources)]


class _Merged(Mapping[Modality, NDArray[np.float16]]):
    """The vectors that stay, gathered for one modality when it is its turn to be written."""

    def __init__(self, store: Path, group: list[SegmentEntry], live: NDArray[np.bool_]) -> None:
        self._store = store
        self._group = group
        self._live = live
        self._there = [m for m in Modality if any(vector_file(m) in s.files for s in group)]

    def __getitem__(self, modality: Modality) -> NDArray[np.float16]:
        gathered = np.empty((int(self._live.sum()), EMBEDDING_DIM), np.float16)
        row = at = 0
        for segment in self._group:
            keep = self._live[row : row + segment.rows]
            kept = map_vectors(self._store, segment, modality)[keep]
            gathered[at : at + len(kept)] = kept
            row += segment.rows
            at += len(kept)
        return gathered

    def __iter__(self) -> Iterator[Modality]:
        return iter(self._there)

    def __len__(self) -> int:
        return len(self._there)


def _concatenated(store: Path, group: list[SegmentEntry], name: str) -> pa.Table:
    tables = [read_table(store, segment, name) for segment in group]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        # One build read a subject column as numbers, another as text: text holds both.
        tables = [_as_text(table, _clashing(tables)) for table in tables]
        return pa.concat_tables(tables, promote_options="permissive")


def _clashing(tables: list[pa.Table]) -> set[str]:
    kinds: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for field in table.schema:
            kinds.setdefault(field.name, set()).add(field.type)
    return {name for name, found in kinds.items() if pa.string() in found and len(found) > 1}


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    for at, field in enumerate(table.schema):
        if field.name in names:
            table = table.set_column(at, field.name, table[field.name].cast(pa.string()))
    return table


def _forget_files(store: Path, kept: list[Manifest]) -> None:
    """Forget which file a recording came from, once no kept snapshot holds it."""
    names: set[str] = set()
    for segment in {s.id: s for manifest in kept for s in manifest.segments}.values():
        names.update(read_table(store, segment, RECORDINGS, ["recording_id"])[0].to_pylist())
    private.keep_files(store, names)
