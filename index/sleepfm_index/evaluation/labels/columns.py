"""Columns of the clips table in the order of given clip ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.number_display import shortest_decimals
from sleepfm_index.reader import Reader
from sleepfm_index.schema import target_parts
from sleepfm_index.storage.arrow_columns import aligned, int64s, numpy_of
from sleepfm_index.storage.quoting import quote_name


def clip_columns(store: Reader, clip_ids: NDArray[np.int64], names: Sequence[str]) -> pa.Table:
    """Return columns of the clips, in the order of ``clip_ids``.

    Parameters
    ----------
    store : Reader
        The open store.
    clip_ids : ndarray of int64, shape [n]
        Clip ids.
    names : sequence of str
        Names of the columns.

    Raises
    ------
    QueryError
        If the store has no such column, or a clip was deleted or never existed.
    """
    expect_columns(names, store.clip_schema.names)
    quoted = ", ".join(quote_name(n) for n in dict.fromkeys(("clip_id", *names)))
    table = store.metadata.select(f"SELECT {quoted} FROM clips ORDER BY clip_id")
    known = numpy_of(table["clip_id"])
    index = np.minimum(np.searchsorted(known, clip_ids), max(0, len(known) - 1))
    return aligned(table.take(int64s(index)) if len(known) else table, clip_ids)


def expect_columns(names: Iterable[str], available: Sequence[str]) -> None:
    """Check that clips have the columns.

    Parameters
    ----------
    names : iterable of str
        Names of the columns.
    available : sequence of str
        Columns of the clips.

    Raises
    ------
    QueryError
        If one is missing; with names that are close to it, else with all names.
    """
    for name in names:
        if name not in available:
            near = get_close_matches(name, available, n=3, cutoff=0.5)
            hint = (
                f"close to it: {', '.join(near)}" if near else f"there are {', '.join(available)}"
            )
            raise QueryError(f"clips have no column {name!r}; {hint}")


def has(store: Reader, clip_ids: NDArray[np.int64], target: str) -> NDArray[np.bool_]:
    """Mask of clips with a modality, or for ``others_of_*`` any other modality; bool [n].

    Parameters
    ----------
    store : Reader
        The open store.
    clip_ids : ndarray of int64, shape [n]
        Clip ids.
    target : str
        Search target: a modality, or ``others_of_<modality>``.
    """
    names = [f"has_{part}" for part in target_parts(target, store.manifest.modalities)]
    table = clip_columns(store, clip_ids, names)
    present = [table[name].combine_chunks().to_numpy(zero_copy_only=False) for name in names]
    return np.asarray(np.logical_or.reduce(present), bool)


def numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column of numbers as an array; nulls are NaN, which makes it float64.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        The column.
    """
    array = column.combine_chunks()
    if array.null_count:
        array = array.cast(pa.float64()).fill_null(float("nan"))
    # ChunkedArray.to_numpy would import pandas
    return np.asarray(array.to_numpy())


def codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[Any]]:
    """Encode a column as codes of its sorted distinct values.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        The column.

    Returns
    -------
    codes : ndarray of int64, shape [n]
        Index into ``values`` of each row; -1 for null.
    values : list
        Distinct values, sorted.
    """
    encoded = shortest_decimals(column).combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    order = sorted(range(len(values)), key=lambda i: values[i])
    rank = np.empty(len(values) + 1, np.int64)
    rank[order] = np.arange(len(values))
    rank[-1] = -1
    raw = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
    return rank[raw], [values[i] for i in order]
