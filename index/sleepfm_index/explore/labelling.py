"""Reading and writing labels for the page.

The files of labels are read and written by :mod:`sleepfm_index.storage.labels`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.explore.answers import Table
from sleepfm_index.reader import Reader
from sleepfm_index.storage.labels import append_labels, label_columns, read_labels


def write(
    store: Reader, column: str, clip_ids: Sequence[int], value: str | None, by: str
) -> dict[str, Any]:
    """Label clips in a label column; see :func:`sleepfm_index.storage.labels.append_labels`.

    Parameters
    ----------
    store : Reader
        The open store.
    column : str
        Name of the label column.
    clip_ids : sequence of int
        Clip ids.
    value : str or None
        The label; None removes it.
    by : str
        Name of the person who labels.

    Returns
    -------
    dict
        ``column``, ``clips`` (number of labelled clips) and ``at`` (time of the change).

    Raises
    ------
    QueryError
        If the store has a column of this name, a clip does not exist, or the label is invalid.
    """
    taken = [name.lower() for name in store.sql("SELECT * FROM clips LIMIT 0").table.column_names]
    if column in (*taken, "rank", "score"):
        raise QueryError(f"the store has a column {column!r}; choose another name for your own")
    ids = np.unique(np.array(clip_ids, np.int64))
    if not len(ids):
        raise QueryError("name clips to label")
    missing = np.setdiff1d(ids, store.rows(ids)["clip_id"].to_numpy())
    if len(missing):
        raise QueryError(f"no clip {missing[0]} in this store")
    at = append_labels(store.path, column, ids.tolist(), value, by)
    return {"column": column, "clips": len(ids), "at": at}


def table(store: Reader, column: str) -> Table:
    """Return a label column with the scored stages of the same clips.

    Parameters
    ----------
    store : Reader
        The open store.
    column : str
        Name of the label column.
    """
    labels = read_labels(store.path, column)
    ids = np.array(sorted(labels), np.int64)
    rows = store.rows(ids).select(["clip_id", "recording_id", "subject_id", "start_s", "stage"])
    labels_of_clips = [labels[clip] for clip in rows["clip_id"].to_pylist()]
    for name, values in (
        (column, [label.value for label in labels_of_clips]),
        (f"{column}_by", [label.by for label in labels_of_clips]),
        (f"{column}_at", [label.at for label in labels_of_clips]),
    ):
        rows = rows.append_column(name, pa.array(values, pa.string()))
    return Table(rows, f"{len(labels_of_clips):,} clips labelled in {column}")


def aligned(store: Path, column: str, ids: NDArray[np.int64]) -> pa.Array:
    """Return the labels of clips in the given order, null for clips without one.

    Parameters
    ----------
    store : Path
        The store's folder.
    column : str
        Name of the label column.
    ids : ndarray of int64, shape [n]
        Clip ids.
    """
    labels = read_labels(store, column)
    values = [None if (label := labels.get(clip)) is None else label.value for clip in ids.tolist()]
    return pa.array(values, pa.string())


def of_clips(store: Path, ids: Iterable[int]) -> dict[str, list[dict[str, Any]]]:
    """Return the labels of clips, by label column.

    Parameters
    ----------
    store : Path
        The store's folder.
    ids : iterable of int
        Clip ids.
    """
    clip_ids = list(ids)
    by_column: dict[str, list[dict[str, Any]]] = {}
    for column in label_columns(store):
        labels = read_labels(store, column)
        by_column[column] = [
            {"clip_id": clip, "value": label.value, "by": label.by, "at": label.at}
            for clip in clip_ids
            if (label := labels.get(clip)) is not None
        ]
    return by_column
