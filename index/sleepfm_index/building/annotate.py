"""Adding or correcting metadata of a store, without reading recordings or encoding.

The tables of the affected segments are rewritten in new segments, whose vector files are hard
links, and published in one commit. The new columns are ordinary columns of the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sleepfm.csv_text import same_id
from sleepfm.progress import Progress
from sleepfm_index.building.facts import CLIP_KEY, Facts, changes, read_facts
from sleepfm_index.building.subjects import Matching, match_ids
from sleepfm_index.errors import StoreError
from sleepfm_index.indexing.maintenance import IndexRequest, with_caches
from sleepfm_index.reader import Reader
from sleepfm_index.storage import private
from sleepfm_index.storage.manifest import Manifest, SegmentEntry, read_manifest
from sleepfm_index.storage.segments import CLIPS, EVENTS, RECORDINGS, read_table, rewrite_tables
from sleepfm_index.storage.withdrawals import subject_mark
from sleepfm_index.storage.writer import Writer


@dataclass(frozen=True)
class Annotation:
    """Changes made by an annotation.

    Parameters
    ----------
    key : {"recording_id", "subject_id", "clip_id"}
        Key column of the table.
    columns : tuple of str
        Columns that the table sets.
    clips : int
        Number of clips with at least one changed value.
    cleared : int
        Number of clips with a value that was removed.
    snapshot : int
        Number of the snapshot with the new values; the one before it can be restored.
    matching : Matching
        Matched and unmatched rows and ids; for a table of clips, only the unmatched rows.
    notes : tuple of str
        Remarks about the table and its rows, one sentence each.
    """

    key: str
    columns: tuple[str, ...]
    clips: int
    cleared: int
    snapshot: int
    matching: Matching
    notes: tuple[str, ...] = ()


def annotate(
    store: str | Path,
    table: Any,
    *,
    strict: bool = False,
    allow_identifying: bool = False,
    progress: Progress | None = None,
) -> Annotation:
    """Add or correct metadata of recordings, subjects or clips in one commit.

    Every column of the table is set for every row whose key is in the store; an empty cell removes
    the stored value. Other rows and columns of the store do not change.

    Parameters
    ----------
    store : path
        The store's folder.
    table : path, pyarrow.Table, pandas.DataFrame or mapping of str to sequence
        Table with a key column, which is the first of ``clip_id``, ``recording_id`` and
        ``subject_id`` that it has, and the columns to set: ``subject_id``, ``site``, those of
        :data:`sleepfm_index.schema.SUBJECT_COLUMNS`, and any other columns of numbers, text or
        Booleans. A path is a CSV or Parquet file.
    strict : bool
        Whether to refuse a table with rows that match nothing in the store, and a table of
        recordings or subjects that lacks one of the store.
    allow_identifying : bool
        Whether to accept columns that look identifying.
    progress : callable, optional
        Called with (segments done, total segments).

    Returns
    -------
    Annotation

    Raises
    ------
    StoreError
        If the table cannot be read, is not valid, or matches nothing in the store.
    StoreLocked
        If another process is writing.
    """
    path = Path(store)
    modalities = read_manifest(path).modalities
    facts = read_facts(table, modalities, allow_identifying=allow_identifying)
    source = Path(table).name if isinstance(table, (str, Path)) else "the table"
    with Writer(path) as writer:
        facts, matching = _matched(path, facts)
        _refuse_withdrawn(writer.manifest, facts)
        unmatched = _unmatched_notes(facts, matching, source)
        if strict and unmatched:
            raise StoreError(f"{unmatched[0]}; nothing was changed")
        if not len(facts.keys):
            raise StoreError(f"{(unmatched or ['the table has no row'])[0]}; nothing was changed")
        written, clips, cleared = _rewritten(writer, facts, progress)
        if written:
            writer.commit(_with_segments(writer, written))
        return Annotation(
            facts.key,
            tuple(facts.columns),
            clips,
            cleared,
            writer.manifest.snapshot,
            matching,
            (*facts.notes, *unmatched),
        )


def differing(reader: Reader, facts: Facts) -> tuple[str, ...]:
    """List the recordings whose values in a table differ from the store.

    Parameters
    ----------
    reader : Reader
        The open store.
    facts : Facts
        Values of recordings.
    """
    recordings = []
    for segment in reader.manifest.segments:
        clips = read_table(reader.path, segment, CLIPS)
        changed = changes(clips, facts)[1]
        recordings += pc.unique(clips["recording_id"].filter(pa.array(changed))).to_pylist()
    return tuple(sorted(set(recordings)))


def _matched(store: Path, facts: Facts) -> tuple[Facts, Matching]:
    """Return the facts that match the store, with the store's ids, and the matching."""
    with Reader(store) as reader:
        if facts.key == CLIP_KEY:
            known = pa.array(reader.metadata.clip_ids(None))
            present = pc.is_in(facts.keys, value_set=known)
            missing = facts.keys.filter(pc.invert(present)).to_pylist()
            return _filtered(facts, present), Matching((), tuple(map(str, missing)), ())
        names = reader.sql(f"SELECT DISTINCT {facts.key} AS name FROM clips ORDER BY 1").to_pylist()
    listed: list[str] = facts.keys.to_pylist()
    # Tables refer to a recording with a hashed id by its file name.
    shown = {str(row["name"]): str(row["name"]) for row in names}
    if facts.key == "recording_id" and private.has_key(store):
        hashed = {private.hashed_id(store, name): name for name in listed}
        shown = {stored: hashed.get(stored, stored) for stored in shown}
    stored_id = {same_id(name): stored for stored, name in shown.items()}
    matches = pa.array([name in stored_id for name in listed], pa.bool_())
    matched = _filtered(facts, matches)
    keys = pa.array([stored_id[name] for name in matched.keys.to_pylist()], pa.string())
    return replace(matched, keys=keys), match_ids(listed, shown.values())


def _refuse_withdrawn(manifest: Manifest, facts: Facts) -> None:
    if "subject_id" not in facts.columns or not manifest.withdrawals:
        return
    for subject in facts.columns["subject_id"].to_pylist():
        if subject is not None and subject_mark(manifest.uuid, subject) in manifest.withdrawals:
            raise StoreError(
                f"the subject {subject} was deleted from this store; delete the recordings "
                "instead of assigning them to that subject"
            )


def _filtered(facts: Facts, keep: pa.Array) -> Facts:
    columns = {name: column.filter(keep) for name, column in facts.columns.items()}
    return replace(facts, keys=facts.keys.filter(keep), columns=columns)


def _unmatched_notes(facts: Facts, matching: Matching, source: str) -> list[str]:
    if facts.key != CLIP_KEY:
        return matching.sentences(source, facts.key.removesuffix("_id"))
    if not matching.unmatched:
        return []
    count = len(matching.unmatched)
    rows = "1 row names" if count == 1 else f"{count:,} rows name"
    return [f"{source}: {rows} no clip of the store, {matching.unmatched[0]} for one"]


def _rewritten(
    writer: Writer, facts: Facts, progress: Progress | None
) -> tuple[dict[str, SegmentEntry], int, int]:
    """Write the changed segments; return them by old name, and clips changed and cleared."""
    written: dict[str, SegmentEntry] = {}
    clips = cleared = 0
    segments = writer.manifest.segments
    for done, segment in enumerate(segments, 1):
        table = read_table(writer.path, segment, CLIPS)
        columns, changed, lost = changes(table, facts)
        if changed.any():
            tables = {CLIPS: _replaced(table, columns)}
            if "subject_id" in facts.columns:
                tables |= {
                    name: _renamed(read_table(writer.path, segment, name), facts)
                    for name in (EVENTS, RECORDINGS)
                }
            written[segment.id] = rewrite_tables(
                writer.path, segment, tables, writer.manifest.snapshot + 1
            )
            clips += int(changed.sum())
            cleared += int(lost.sum())
        if progress is not None:
            progress(done, len(segments))
    return written, clips, cleared


def _replaced(table: pa.Table, columns: Mapping[str, pa.Array]) -> pa.Table:
    for name, column in columns.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, column)
    return table


def _renamed(table: pa.Table, facts: Facts) -> pa.Table:
    """Apply the subject ids of a table to events or recordings."""
    row = pc.index_in(table[facts.key].combine_chunks(), value_set=facts.keys)
    recording_id = table["recording_id"].combine_chunks()
    subject_id = pc.coalesce(facts.columns["subject_id"].take(row), recording_id)
    new = pc.if_else(row.is_valid(), subject_id, table["subject_id"].combine_chunks())
    return table.set_column(table.column_names.index("subject_id"), "subject_id", new)


def _with_segments(writer: Writer, written: Mapping[str, SegmentEntry]) -> Manifest:
    """Return the manifest with segments replaced by rewritten ones with the same clips."""
    before = writer.manifest
    names = {old: new.id for old, new in written.items()}
    after = replace(
        before,
        segments=tuple(written.get(s.id, s) for s in before.segments),
        indexes=tuple(
            replace(i, segments=tuple(names.get(n, n) for n in i.segments)) for i in before.indexes
        ),
        row_cache=None,
    )
    if before.row_cache is None:
        return after
    cached = with_caches(writer.path, after, IndexRequest(only_present=True, as_in=before))
    return replace(after, row_cache=cached.row_cache)
