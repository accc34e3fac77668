"""Reference values per clip in addition to the stage, as a Parquet file: one row per clip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sleepfm_index.errors import StoreError

KEYS = ("recording_id", "clip")
"""Key columns: the recording, and the number of the clip in it, from 0."""

Truth = Mapping[str, NDArray[np.floating]]


def write_truth(path: Path, known: Mapping[str, Truth]) -> None:
    """Write reference values of clips.

    Existing rows of other recordings are kept; rows of the same recordings are replaced.

    Parameters
    ----------
    path : Path
        The Parquet file, which is replaced.
    known : mapping of str to mapping of str to ndarray, shape [clips]
        Values by recording, then by column name.
    """
    values = dict(read_truth(path)) if path.exists() else {}
    values |= {name: dict(truth) for name, truth in known.items()}
    tables = []
    for name in sorted(values):
        columns = {k: pa.array(v, from_pandas=True) for k, v in values[name].items()}
        count = len(next(iter(columns.values())))
        keys = {"recording_id": pa.array([name] * count), "clip": pa.array(range(count))}
        tables.append(pa.table({**keys, **columns}))
    partial = path.with_name(f".{path.name}.tmp")
    try:
        pq.write_table(pa.concat_tables(tables, promote_options="default"), partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_truth(path: Path) -> dict[str, dict[str, NDArray[np.floating]]]:
    """Read a file of :func:`write_truth`; missing values are NaN.

    Parameters
    ----------
    path : Path
        The Parquet file.

    Returns
    -------
    dict of str to dict of str to ndarray of float32, shape [clips]
        Values by recording, then by column name.

    Raises
    ------
    StoreError
        If the file cannot be read, or lacks ``recording_id`` or ``clip``.
    """
    try:
        with pq.ParquetFile(path) as file:  # one file; its path is never read as data
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path.name} cannot be read as Parquet: {error}") from error
    missing = [key for key in KEYS if key not in table.column_names]
    if missing:
        raise StoreError(f"{path.name} has no column {' and no column '.join(missing)}")
    table = table.sort_by([("recording_id", "ascending"), ("clip", "ascending")])
    owner = np.array(table["recording_id"].to_pylist())
    clip = table["clip"].to_numpy()
    columns = {
        name: table[name].to_numpy(zero_copy_only=False).astype(np.float32)
        for name in table.column_names
        if name not in KEYS
    }
    truth = {}
    for name in np.unique(owner):
        rows_of = owner == name
        count = int(clip[rows_of].max()) + 1
        rows = {k: np.full(count, np.nan, np.float32) for k in columns}
        for k, values in columns.items():
            rows[k][clip[rows_of]] = values[rows_of]
        truth[str(name)] = rows
    return truth
