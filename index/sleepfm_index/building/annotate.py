"""Facts added to a store, or corrected in it: no recording is read and nothing is encoded.

The tables of the segments concerned are written again beside their vectors, which only get a second
name, and one commit takes them all. Whatever reads a store afterwards finds ordinary columns.
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
        What the rows of the table were about.
    columns : tuple of str
        Columns that the table brought.
    clips : int
        Clips of which at least one value is another than before.
    cleared : int
        Clips of which a value was known before and is not any more.
    snapshot : int
        The snapshot that has the facts; the one before it can be restored.
    matching : Matching
        Which rows met something, and what met no row; of clips, only how many rows met none.
    notes : tuple of str
        What there is to say about the table and its rows, one sentence each.
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
    """Add facts about recordings, subjects or clips, or correct them, in one commit.

    Every column of the table is set for every row that names something in the store; an empty cell
    clears what was known. Rows and columns that the table does not name stay as they are.

    Parameters
    ----------
    store : path
        The store's folder.
    table : path, pyarrow.Table, pandas.DataFrame or mapping of str to sequence
        With a column ``clip_id``, ``recording_id`` or ``subject_id``, the first of which says what
        a row is about, and the columns to set: ``subject_id``, ``site``, those of
        :data:`sleepfm_index.schema.SUBJECT_COLUMNS`, and any others of numbers, texts or truth
        values. A path is a CSV, or a Parquet file.
    strict : bool
        Refuse a table of which a row names nothing in the store, or, about recordings and
        subjects, that leaves one of them out.
    allow_identifying : bool
        Take columns that look as if they told who somebody is.
    progress : callable, optional
        Called with (segments done, segments in all).

    Returns
    -------
    Annotation

    Raises
    ------
    StoreError
        If the table cannot be read or meant, or names nothing that is in the store.
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
        said = _complaints(facts, matching, source)
        if strict and said:
            raise StoreError(f"{said[0]}; nothing was changed")
        if not len(facts.keys):
            raise StoreError(f"{(said or ['the table has no row'])[0]}; nothing was changed")
        written, clips, cleared = _rewritten(writer, facts, progress)
        if written:
            writer.commit(_with(writer, written))
        return Annotation(
            facts.key,
            tuple(facts.columns),
            clips,
            cleared,
            writer.manifest.snapshot,
            matching,
            (*facts.notes, *said),
        )


def differing(reader: Reader, facts: Facts) -> tuple[str, ...]:
    """Name the recordings of a store of which a table says something else than the store.

    Parameters
    ----------
    reader : Reader
        The open store.
    facts : Facts
        About recordings.
    """
    found = []
    for segment in reader.manifest.segments:
        clips = read_table(reader.path, segment, CLIPS)
        changed = changes(clips, facts)[1]
        found += pc.unique(clips["recording_id"].filter(pa.array(changed))).to_pylist()
    return tuple(sorted(set(found)))


def _matched(store: Path, facts: Facts) -> tuple[Facts, Matching]:
    """Return the facts about what is in the store, by its own ids, and how they met it."""
    with Reader(store) as reader:
        if facts.key == CLIP_KEY:
            known = pa.array(reader.metadata.clip_ids(None))
            there = pc.is_in(facts.keys, value_set=known)
            missing = facts.keys.filter(pc.invert(there)).to_pylist()
            return _taken(facts, there), Matching((), tuple(map(str, missing)), ())
        names = reader.sql(f"SELECT DISTINCT {facts.key} AS name FROM clips ORDER BY 1").to_pylist()
    listed: list[str] = facts.keys.to_pylist()
    # A recording named by a hash is known to people by the name of its file.
    shown = {str(row["name"]): str(row["name"]) for row in names}
    if facts.key == "recording_id" and private.has_key(store):
        hashed = {private.hashed_id(store, name): name for name in listed}
        shown = {own: hashed.get(own, own) for own in shown}
    own = {same_id(name): own for own, name in shown.items()}
    met = pa.array([name in own for name in listed], pa.bool_())
    found = _taken(facts, met)
    keys = pa.array([own[name] for name in found.keys.to_pylist()], pa.string())
    return replace(found, keys=keys), match_ids(listed, shown.values())


def _refuse_withdrawn(manifest: Manifest, facts: Facts) -> None:
    if "subject_id" not in facts.columns or not manifest.withdrawals:
        return
    for subject in facts.columns["subject_id"].to_pylist():
        if subject is not None and subject_mark(manifest.uuid, subject) in manifest.withdrawals:
            raise StoreError(
                f"the subject {subject} was deleted from this store; delete the recordings "
                "instead of assigning them to that subject"
            )


def _taken(facts: Facts, keep: pa.Array) -> Facts:
    columns = {name: column.filter(keep) for name, column in facts.columns.items()}
    return replace(facts, keys=facts.keys.filter(keep), columns=columns)


def _complaints(facts: Facts, matching: Matching, source: str) -> list[str]:
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
    """Write the segments that change; give them by their old names, clips changed, and cleared."""
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
    """Apply subject ids of a table to events or recordings."""
    at = pc.index_in(table[facts.key].combine_chunks(), value_set=facts.keys)
    own = table["recording_id"].combine_chunks()
    told = pc.coalesce(facts.columns["subject_id"].take(at), own)
    new = pc.if_else(at.is_valid(), told, table["subject_id"].combine_chunks())
    return table.set_column(table.column_names.index("subject_id"), "subject_id", new)


def _with(writer: Writer, written: Mapping[str, SegmentEntry]) -> Manifest:
    """Replace segments by rewritten ones with the same clips."""
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
