"""De-identification of an export: an allow-list of columns, and hashed ids.

docs/export.md describes these rules for users.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sleepfm.labels import EVENT_COLUMNS
from sleepfm.quality import ISSUES
from sleepfm.recordings.identifying_names import identifying_column, identifying_value
from sleepfm_index.errors import QueryError, StoreError
from sleepfm_index.schema import SUBJECT_COLUMNS

HASHED: Final = ("recording_id", "subject_id")
"""Columns whose values are replaced by keyed hashes."""
_NEVER: Final = ("clip_id", "clock", "raw_stage")


@dataclass(frozen=True)
class KeptColumns:
    """Additional columns of a de-identified export, which the user has chosen.

    Parameters
    ----------
    names : tuple of str
        Names of the columns.
    allow_identifying : bool
        Whether to accept values that look identifying.
    """

    names: tuple[str, ...] = ()
    allow_identifying: bool = False


_NO_COLUMNS: Final = KeptColumns()


def check_kept(schema: pa.Schema, names: tuple[str, ...], allow_identifying: bool) -> KeptColumns:
    """Check that additional columns exist and do not look identifying.

    Parameters
    ----------
    schema : pyarrow.Schema
        Schema of ``clips``.
    names : tuple of str
        Columns to keep.
    allow_identifying : bool
        Whether to accept columns whose names look identifying.

    Returns
    -------
    KeptColumns

    Raises
    ------
    QueryError
        If a column does not exist, or is always hashed or omitted.
    StoreError
        If the column's name suggests a name, a date, an address or a record number.
    """
    for name in names:
        if name not in schema.names:
            raise QueryError(f"cannot keep {name!r}: clips have no such column")
        if name in (*HASHED, *_NEVER):
            raise QueryError(f"cannot keep {name}: a de-identified export never has it unchanged")
        looks = identifying_column(name)
        if looks is not None and not allow_identifying:
            raise StoreError(
                f"the column {name} looks like {looks}; leave it out, or add --allow-identifying"
            )
    return KeptColumns(tuple(dict.fromkeys(names)), allow_identifying)


def _check_values(table: pa.Table, kept: KeptColumns) -> None:
    for name in () if kept.allow_identifying else kept.names:
        if not pa.types.is_string(table.schema.field(name).type):
            continue
        for value in pc.unique(table[name]).drop_null().to_pylist():
            looks = identifying_value(value)
            if looks is not None:
                raise StoreError(
                    f"a value of the column {name} looks like {looks}; leave it out, or add "
                    "--allow-identifying"
                )


def kept_names(modalities: tuple[str, ...]) -> frozenset[str]:
    """List the names of the columns that are exported unhashed.

    ``clip_id`` is renumbered and ``nsrr_age`` rounded down to whole years. Everything else is
    omitted: the site, the time of day, the raw stage labels, and all further columns of
    subjects.csv, whose content is unknown.

    Parameters
    ----------
    modalities : tuple of str
        Modalities of the store's contract.

    Returns
    -------
    frozenset of str
    """
    return frozenset(
        {
            *("clip_id", "start_s", "stage", "stage_share"),
            *(f"has_{m}" for m in modalities),
            *(f"slots_{m}" for m in modalities),
            *EVENT_COLUMNS,
            *(f"quality_{m}_{issue}" for m in modalities for issue in ISSUES),
            *SUBJECT_COLUMNS.names,
        }
    )


class Pseudonyms:
    """Keyed hashes of ids; under one key, equal ids have equal hashes.

    Parameters
    ----------
    key : bytes
        Secret key of the HMAC; without it, a hash cannot be traced back to its id.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, column: str, text: str) -> str:
        """Hash one id by HMAC-SHA-256 over the column's name and the id.

        Parameters
        ----------
        column : str
            ``recording_id`` or ``subject_id``.
        text : str
            The id.

        Returns
        -------
        str
            20 hexadecimal digits.
        """
        message = f"export\n{column}\n{text}".encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:20]

    def column(self, table: pa.Table, name: str) -> pa.Array:
        """Hash every id of a column.

        Parameters
        ----------
        table : pyarrow.Table
            The table with the column.
        name : str
            The column to hash.

        Returns
        -------
        pyarrow.Array of string
        """
        coded = table[name].combine_chunks().dictionary_encode()
        hashed = [None if v is None else self.of(name, v) for v in coded.dictionary.to_pylist()]
        return pc.take(pa.array(hashed, pa.string()), coded.indices)

    def order(self, table: pa.Table) -> NDArray[np.int64]:
        """Order rows by hashed recording, then by time.

        Recordings are stored in the order of their file names, which could identify them.

        Parameters
        ----------
        table : pyarrow.Table
            Rows of ``clips``.

        Returns
        -------
        ndarray of int64, shape [n]
            Row numbers.
        """
        names = np.asarray(self.column(table, "recording_id").to_pylist())
        return np.lexsort((table["start_s"].to_numpy(), names))


def kept_columns(
    schema: pa.Schema, modalities: tuple[str, ...], extra: tuple[str, ...] = ()
) -> pa.Schema:
    """Select the columns of ``clips`` that are exported, including the hashed ones.

    Parameters
    ----------
    schema : pyarrow.Schema
        Schema of ``clips``.
    modalities : tuple of str
        Modalities of the store's contract.
    extra : tuple of str
        Names of additional columns to export.

    Returns
    -------
    pyarrow.Schema
    """
    names = kept_names(modalities).union(extra)
    return pa.schema([f for f in schema if f.name in names or f.name in HASHED])


def deidentify(
    clips: pa.Table,
    names: Pseudonyms,
    first_id: int,
    modalities: tuple[str, ...],
    kept: KeptColumns = _NO_COLUMNS,
) -> pa.Table:
    """Remove or replace everything in ``clips`` that could identify a person.

    Parameters
    ----------
    clips : pyarrow.Table
        Rows of ``clips``.
    names : Pseudonyms
        Hashes for recording and subject ids.
    first_id : int
        Clip id of the first row; ids of the following rows count up from it.
    modalities : tuple of str
        Modalities of the store's contract.
    kept : KeptColumns
        Additional columns to export.

    Returns
    -------
    pyarrow.Table
        The same rows with the columns of :func:`kept_columns`.
    """
    ids = np.arange(first_id, first_id + len(clips), dtype=np.int64)
    replaced = {"clip_id": pa.array(ids), "nsrr_age": pc.floor(clips["nsrr_age"])}
    replaced |= {name: names.column(clips, name) for name in HASHED}
    _check_values(clips, kept)
    schema = kept_columns(clips.schema, modalities, kept.names)
    return pa.table([replaced.get(f.name, clips[f.name]) for f in schema], schema=schema)
