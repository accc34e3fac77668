"""Arrow columns of metadata as NumPy arrays and back, and the check that rows belong to clips."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import FormatError, QueryError

_NEVER_NULL: Final = frozenset({"recording_id", "subject_id", "start_s", "stage"})


def aligned(table: pa.Table, clip_ids: NDArray[np.int64]) -> pa.Table:
    """Return a table after checking that its rows are the given clips in the same order.

    Metadata that is looked up for clips and then used by position goes through this check: a
    missing id would shift every later row to another clip.

    Parameters
    ----------
    table : pyarrow.Table
        With a column ``clip_id``.
    clip_ids : ndarray of int64, shape [n]
        Clip ids.

    Raises
    ------
    QueryError
        If a clip is not in the table; the message names the first one.
    FormatError
        If the rows are in another order, or a required column has nulls.
    """
    table_ids = numpy_of(table["clip_id"])
    if len(table_ids) == len(clip_ids) and np.array_equal(table_ids, clip_ids):
        for name in _NEVER_NULL:
            place = table.schema.get_field_index(name)
            if place >= 0 and table.column(place).null_count:
                raise FormatError(f"there are clips without {name}; run `sleepfm-index verify`")
        return table
    missing = np.setdiff1d(clip_ids, table_ids)
    if not len(missing):
        raise FormatError("rows were not found in the requested order; run `sleepfm-index verify`")
    raise QueryError(
        f"no clip {missing[0]} in this store; it was deleted or never existed"
        + (f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else "")
    )


def int64s(values: NDArray[np.integer[Any]]) -> pa.Array:
    """Return integers as an Arrow array.

    ``pyarrow.array`` would import pandas, if installed, to check for a Series.

    Parameters
    ----------
    values : ndarray of int
        The integers.
    """
    contiguous = np.ascontiguousarray(values, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(contiguous), [None, pa.py_buffer(contiguous)])


def numpy_of(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column of int64 or float64 without nulls as an array; to_numpy would import pandas.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        The column.
    """
    dtype = np.dtype(column.type.to_pandas_dtype())
    parts = [
        np.frombuffer(part.buffers()[1], dtype, len(part), part.offset * dtype.itemsize)
        for part in column.chunks
        if len(part)
    ]
    return np.concatenate([*parts, np.empty(0, dtype)])
