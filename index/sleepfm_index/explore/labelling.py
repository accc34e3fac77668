"""Labels as the page reads and writes them: own columns beside the scorer's.

Everything that touches their files is :mod:`sleepfm_index.storage.labels`.
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
    """Label some clips in an own column; see :func:`sleepfm_index.storage.labels.append_labels`.

    Parameters
    ----------
    store : Reader
        The open store.
    column : str
        Name of the label column.
    clip_ids : sequence of int
        Clip ids.
    value : str or None
        The label; None takes a label back.
    by : str
        Name of the person who labels.

    Returns
    -------
    dict
        ``column``, ``clips`` and ``at``.

    Raises
    ------
    QueryError
        If the name is taken by the store, a clip is not in it, or the label cannot be one.
    """
    taken = [name.lower() for name in store.sql("SELECT * FROM clips LIMIT 0").table.column_names]
    if column in (*taken, "rank", "score"):
        raise QueryError(f"the store has a column {column!r}; choose another name for your own")
    wanted = np.unique(np.array(clip_ids, np.int64))
    if not len(wanted):
        raise QueryError("name clips to label")
    missing = np.setdiff1d(wanted, store.rows(wanted)["clip_id"].to_numpy())
    if len(missing):
        raise QueryError(f"no clip {missing[0]} in this store")
    at = append_labels(store.path, column, wanted.tolist(), value, by)
    return {"column": column, "clips": len(wanted), "at": at}


def table(store: Reader, column: str) -> Table:
    """Return an own column beside what the scorer said of the same clips.

    Parameters
    ----------
    store : Reader
        The open store.
    column : str
        Name of the label column.
    """
    labels = read_labels(store.path, column)
    ids = np.array(sorted(labels), np.int64)
    kept = store.rows(ids).select(["clip_id", "recording_id", "subject_id", "start_s", "stage"])
    found = [labels[clip] for clip in kept["clip_id"].to_pylist()]
    for name, values in (
        (column, [label.value for label in found]),
        (f"{column}_by", [label.by for label in found]),
        (f"{column}_at", [label.at for label in found]),
    ):
        kept = kept.append_column(name, pa.array(values, pa.string()))
    return Table(kept, f"{len(found):,} clips labelled in {column}")


def aligned(store: Path, column: str, ids: NDArray[np.int64]) -> pa.Array:
    """Labels of some clips in the given order, null where there is none.

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
    found = [labels.get(clip) for clip in ids.tolist()]
    return pa.array([None if label is None else label.value for label in found], pa.string())


def of_clips(store: Path, ids: Iterable[int]) -> dict[str, list[dict[str, Any]]]:
    """Return the labels of some clips, by own column.

    Parameters
    ----------
    store : Path
        The store's folder.
    ids : iterable of int
        Clip ids.
    """
    wanted = list(ids)
    found: dict[str, list[dict[str, Any]]] = {}
    for column in label_columns(store):
        labels = read_labels(store, column)
        found[column] = [
            {"clip_id": clip, "value": own.value, "by": own.by, "at": own.at}
            for clip in wanted
            if (own := labels.get(clip)) is not None
        ]
    return found
