"""A table of facts about recordings, subjects or clips, in the types of a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sleepfm.column_names import check_names
from sleepfm.contract import ROBUST
from sleepfm.errors import SubjectsError
from sleepfm.subjects import KEYS, SubjectTable, check_subjects, read_subjects
from sleepfm_index.building.subjects import Subjects, fields_of
from sleepfm_index.errors import StoreError
from sleepfm_index.schema import is_reserved
from sleepfm_index.storage.segments import read_parquet

CLIP_KEY: Final = "clip_id"
_PLAIN: Final = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string)


@dataclass(frozen=True)
class Facts:
    """Content of a table, in the types of the store.

    Parameters
    ----------
    key : {"recording_id", "subject_id", "clip_id"}
        What a row is about.
    keys : pyarrow.Array
        Distinct, one per row.
    columns : dict of str to pyarrow.Array
        Row by row with ``keys``; null where nothing is known.
    notes : tuple of str
        What was read another way than it stood there.
    """

    key: str
    keys: pa.Array
    columns: dict[str, pa.Array]
    notes: tuple[str, ...] = ()


def read_facts(
    table: Any, modalities: tuple[str, ...] = ROBUST.modalities, *, allow_identifying: bool = False
) -> Facts:
    """Read and check a table of facts; see :func:`annotate`.

    Parameters
    ----------
    table : path, pyarrow.Table, pandas.DataFrame or mapping of str to sequence
        Facts keyed by recording, subject or clip.
    modalities : tuple of str
        Those of the store, whose columns have names of their own.
    allow_identifying : bool
        Whether columns that look like identifying information are accepted.

    Raises
    ------
    StoreError
        If it cannot be read or meant.
    """

    def reserved(name: str) -> bool:
        return is_reserved(name, modalities)

    try:
        if isinstance(table, (str, Path)):
            path = Path(table)
            if path.suffix.lower() not in (".parquet", ".pq"):
                keys = (CLIP_KEY, *KEYS)
                found = read_subjects(
                    path,
                    keys=keys,
                    reserved=lambda name: name != CLIP_KEY and reserved(name),
                    allow_identifying=allow_identifying,
                )
                return facts_of(found)
            table = read_parquet(path)
        arrow = _as_arrow(table)
        if CLIP_KEY in arrow.column_names:
            return _of_clips(arrow, reserved, allow_identifying)
        columns = [c.to_pylist() for c in arrow.columns]
        lines = enumerate(zip(*columns, strict=True), 1)
        return facts_of(
            check_subjects(
                arrow.column_names,
                lines,
                reserved=reserved,
                allow_identifying=allow_identifying,
            )
        )
    except SubjectsError as error:
        raise StoreError(str(error)) from error
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"the table cannot be read: {error}") from error


def facts_of_subjects(subjects: Subjects) -> Facts:
    """Return what is listed of recordings as facts, columns that the table lacks left out.

    Parameters
    ----------
    subjects : Subjects
        By ``recording_id``.
    """
    listed = subjects.by_recording
    columns = {
        "subject_id": pa.array([s.subject_id for s in listed.values()], pa.string()),
        "site": pa.array([s.site for s in listed.values()], pa.string()),
    }
    columns |= {
        f.name: pa.array([s.facts.get(f.name) for s in listed.values()], f.type)
        for f in subjects.columns
    }
    brought = {n: c for n, c in columns.items() if n in subjects.brought}
    return Facts("recording_id", pa.array(list(listed), pa.string()), brought)


def _as_arrow(table: Any) -> pa.Table:
    if isinstance(table, pa.Table):
        return table
    if isinstance(table, Mapping):
        return pa.table(dict(table))
    if hasattr(table, "__arrow_c_stream__"):
        return pa.table(table)
    return pa.Table.from_pandas(table, preserve_index=False)


def facts_of(table: SubjectTable) -> Facts:
    """Return a checked table of subjects in the types of the store.

    Parameters
    ----------
    table : SubjectTable
        The table of subjects.

    Raises
    ------
    StoreError
        If it has no column beside its key, or clip ids that are none.
    """
    columns = {
        name: pa.array([row[name] for row in table.rows.values()], kind)
        for name, kind in fields_of(table).items()
    }
    keys = pa.array(list(table.rows), pa.string())
    if table.key == CLIP_KEY:
        try:
            keys = keys.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise StoreError("clip ids must be integers") from error
    if not columns:
        raise StoreError(f"the table has no column besides {table.key}")
    return Facts(table.key, keys, columns, table.notes)


def _of_clips(table: pa.Table, reserved: Callable[[str], bool], allow_identifying: bool) -> Facts:
    """Use columns of clips unchanged: there may be millions of rows."""
    notes: list[str] = []
    names = [n for n in table.column_names if n != CLIP_KEY]
    check_names(names, "the table", reserved, allow_identifying=allow_identifying, notes=notes)
    keys = table[CLIP_KEY].combine_chunks()
    if not pa.types.is_integer(keys.type) or keys.null_count or not names:
        raise StoreError("a table of clips needs integer clip ids and another column")
    keys = keys.cast(pa.int64())
    if len(pc.unique(keys)) != len(keys):
        raise StoreError("the table names a clip twice")
    columns = {}
    for name in names:
        if name in KEYS:
            raise StoreError(f"{name} is a column of recordings; leave out {CLIP_KEY} to set it")
        column = table[name].combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
            column = column.cast(pa.string())
        if not any(plain(column.type) for plain in _PLAIN):
            raise StoreError(f"{name} has the type {column.type}; use numbers, text or Booleans")
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
        columns[name] = column
    return Facts(CLIP_KEY, keys, columns, tuple(notes))


def changes(
    table: pa.Table, facts: Facts
) -> tuple[dict[str, pa.Array], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the columns of a clips table as the facts have them.

    Parameters
    ----------
    table : pyarrow.Table
        Rows of ``clips``.
    facts : Facts
        Facts to write into the table.

    Returns
    -------
    columns : dict of str to pyarrow.Array
        Row by row with the table.
    changed, lost : ndarray of bool, shape [n]
        Rows of which a value is another than before, and of which one is not known any more.

    Raises
    ------
    StoreError
        If a column of the store and of the facts have no type in common.
    """
    at = pc.index_in(table[facts.key].combine_chunks(), value_set=facts.keys)
    named = at.is_valid()
    changed = np.zeros(len(table), bool)
    lost = np.zeros(len(table), bool)
    columns = {}
    for name, values in facts.columns.items():
        told = values.take(at)
        if name == "subject_id":  # nobody is nobody: such a recording is its own subject
            told = pc.coalesce(told, table["recording_id"].combine_chunks())
        old = (
            table[name].combine_chunks()
            if name in table.column_names
            else pa.nulls(len(table), values.type)
        )
        told, old = _alike(told, old)
        new = pc.if_else(named, told, old)
        same = pc.or_(
            pc.fill_null(pc.equal(new, old), False), pc.and_(new.is_null(), old.is_null())
        )
        changed |= ~np.asarray(same.to_numpy(zero_copy_only=False), bool)
        gone = pc.and_(new.is_null(), old.is_valid())
        lost |= np.asarray(gone.to_numpy(zero_copy_only=False), bool)
        columns[name] = new
    return columns, changed, lost


def _alike(told: pa.Array, old: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Bring both to one type: the store's if it holds what is told, else the wider one."""
    if told.type == old.type:
        return told, old
    if old.null_count == len(old):
        return told, old.cast(told.type)
    try:
        return told.cast(old.type), old
    except pa.ArrowInvalid:
        pass
    for kind in (pa.float64(), pa.string()):
        try:
            return told.cast(kind), old.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
    raise StoreError(f"a column holds {old.type}, which cannot be converted to {told.type}")
