"""Reading lists from files: clip ids, subjects, vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.storage.arrow_columns import numpy_of


def read_clip_ids(file: Path) -> NDArray[np.int64]:
    """Read clip ids from a file.

    Parameters
    ----------
    file : Path
        ``.npy``; Parquet or CSV with a column ``clip_id``; or text with one id per line.

    Returns
    -------
    ndarray of int64, shape [n]
        Clip ids in the order of the file.

    Raises
    ------
    QueryError
        If the file cannot be read as clip ids.
    """
    if file.suffix == ".npy":
        ids = read_array(file)
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            raise QueryError(f"{file.name} holds no list of clip ids, but {ids.dtype}{ids.shape}")
        return ids.astype(np.int64)
    column = _column(file, "clip_id")
    try:
        return numpy_of(column.cast(pa.int64()))
    except (pa.ArrowException, ValueError) as error:
        raise QueryError(
            f"{file.name} holds something that is no clip id; write one whole number per line"
        ) from error


def read_subjects(file: Path) -> list[str]:
    """Read subject ids from a file.

    Parameters
    ----------
    file : Path
        Parquet or CSV with a column ``subject_id``, or text with one id per line.

    Returns
    -------
    list of str
        Subject ids in the order of the file.

    Raises
    ------
    QueryError
        If the file cannot be read, or has no subject id.
    """
    names = [str(name).strip() for name in _column(file, "subject_id").to_pylist() if name]
    if not names:
        raise QueryError(f"{file.name} names no subject; write one subject_id per line")
    return names


def read_array(file: Path) -> NDArray[np.generic]:
    """Read an array of numbers from an ``.npy`` file.

    Parameters
    ----------
    file : Path
        The file.

    Raises
    ------
    QueryError
        If the file cannot be read as ``.npy``.
    """
    try:
        loaded: NDArray[np.generic] = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise QueryError(f"{file} cannot be read as .npy ({error})") from error
    return loaded


def _column(file: Path, name: str) -> pa.ChunkedArray:
    try:
        if file.suffix == ".parquet":
            with pq.ParquetFile(file) as parquet:  # one file; its path is never read as data
                table = parquet.read()
        else:
            with file.open(encoding="utf-8-sig") as text:
                head = text.readline().strip()
            has_header = name in [part.strip('" ') for part in head.split(",")]
            # In this thread only, because the process aborts if one of Arrow's threads still runs
            # when an error ends it.
            read_options = pacsv.ReadOptions(
                use_threads=False,
                column_names=None if has_header else [name] if "," not in head else None,
            )
            # Read as text, because an id may have leading zeros.
            types = pacsv.ConvertOptions(
                column_types={name: pa.int64() if name == "clip_id" else pa.string()}
            )
            source = pa.BufferReader(file.read_bytes())
            table = pacsv.read_csv(source, read_options=read_options, convert_options=types)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "unreadable"
        if isinstance(error, pa.ArrowException):
            reason = str(error).splitlines()[0]
        raise QueryError(f"the list {file} cannot be read: {reason}") from error
    names = [column.removeprefix("\ufeff") for column in table.column_names]
    if name not in names:
        raise QueryError(f"{file.name} has no column {name}; it has {', '.join(names)}")
    return table.column(names.index(name))
