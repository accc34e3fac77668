"""A table of metadata of recordings, subjects or clips, in the types of a store."""

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
        Key column.
    keys : pyarrow.Array
        Distinct ids, one per row.
    columns : dict of str to pyarrow.Array
        Values in the order of ``keys``; null if unknown.
    notes : tuple of str
        Remarks about values that were converted.
    """

    key: str
    keys: pa.Array
    columns: dict[str, pa.Array]
    notes: tuple[str, ...] = ()


def read_facts(
    table: Any, modalities: tuple[str, ...] = ROBUST.modalities, *, allow_identifying: bool = False
) -> Facts:
    """Read and check a table of metadata; see :func:`~.annotate.annotate`.

    Parameters
    ----------
    table : path, pyarrow.Table, pandas.DataFrame or mapping of str to sequence
        Table keyed by recording, subject or clip.
    modalities : tuple of str
        Modalities of the store, whose column names are reserved.
    allow_identifying : bool
        Whether to accept columns that look identifying.

    Raises
    ------
    StoreError
        If the file cannot be read, or is not valid.
    """

    def reserved(name: str) -> bool:
        return is_reserved(name, modalities)

    try:
        if isinstance(table, (str, Path)):
            path = Path(table)
            if path.suffix.lower() not in (".parquet", ".pq"):
                keys = (CLIP_KEY, *KEYS)
                table_of_subjects = read_subjects(
                    path,
                    keys=keys,
                    reserved=lambda name: name != CLIP_KEY and reserved(name),
                    allow_identifying=allow_identifying,
                )
                return facts_of(table_of_subjects)
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
    """Convert a table of subjects to facts, with the columns that the table has.

    Parameters
    ----------
    subjects : Subjects
        Subjects by ``recording_id``.
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
    present = {n: c for n, c in columns.items() if n in subjects.table_columns}
    return Facts("recording_id", pa.array(list(listed), pa.string()), present)


def _as_arrow(table: Any) -> pa.Table:
    if isinstance(table, pa.Table):
        return table
    if isinstance(table, Mapping):
        return pa.table(dict(table))
    if hasattr(table, "__arrow_c_stream__"):
        return pa.table(table)
    return pa.Table.from_pandas(table, preserve_index=False)


def facts_of(table: SubjectTable) -> Facts:
    """Convert a checked table of subjects to the types of the store.

    Parameters
    ----------
    table : SubjectTable
        The table of subjects.

    Raises
    ------
    StoreError
        If the table has no column besides its key, or clip ids that are not integers.
    """
    columns = {
        name: pa.array([row[name] for row in table.rows.values()], data_type)
        for name, data_type in fields_of(table).items()
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
    """Convert a table of clips by column, because it may have millions of rows."""
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
    """Apply facts to a clips table.

    Parameters
    ----------
    table : pyarrow.Table
        Rows of ``clips``.
    facts : Facts
        Facts to write into the table.

    Returns
    -------
    columns : dict of str to pyarrow.Array
        New columns, in the order of the table's rows.
    changed, lost : ndarray of bool, shape [n]
        Masks of rows with a changed value, and of rows with a removed value.

    Raises
    ------
    StoreError
        If the types of a column in the store and in the facts are not compatible.
    """
    row = pc.index_in(table[facts.key].combine_chunks(), value_set=facts.keys)
    has_fact = row.is_valid()
    changed = np.zeros(len(table), bool)
    lost = np.zeros(len(table), bool)
    columns = {}
    for name, values in facts.columns.items():
        values_of_rows = values.take(row)
        if name == "subject_id":  # a recording without a subject is its own subject
            values_of_rows = pc.coalesce(values_of_rows, table["recording_id"].combine_chunks())
        old = (
            table[name].combine_chunks()
            if name in table.column_names
            else pa.nulls(len(table), values.type)
        )
        values_of_rows, old = _same_type(values_of_rows, old)
        new = pc.if_else(has_fact, values_of_rows, old)
        unchanged = pc.or_(
            pc.fill_null(pc.equal(new, old), False), pc.and_(new.is_null(), old.is_null())
        )
        changed |= ~np.asarray(unchanged.to_numpy(zero_copy_only=False), bool)
        removed = pc.and_(new.is_null(), old.is_valid())
        lost |= np.asarray(removed.to_numpy(zero_copy_only=False), bool)
        columns[name] = new
    return columns, changed, lost


def _same_type(new: pa.Array, old: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Convert both to one type: the store's if it fits the new values, else a wider one."""
    if new.type == old.type:
        return new, old
    if old.null_count == len(old):
        return new, old.cast(new.type)
    try:
        return new.cast(old.type), old
    except pa.ArrowInvalid:
        pass
    for data_type in (pa.float64(), pa.string()):
        try:
            return new.cast(data_type), old.cast(data_type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
    raise StoreError(f"a column holds {old.type}, which cannot be converted to {new.type}")
