"""Predictions of another model, e.g. the supervised CNN, for comparison with a probe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import numbers
from sleepfm_index.evaluation.metrics.assessment import Predictions
from sleepfm_index.storage.segments import read_parquet

SPLIT: Final = b"sleepfm_split"
"""Metadata key of a predictions file for the identity of its split."""


def read_external(
    path: str | Path, predictions: Predictions, split: str | None = None
) -> tuple[Predictions, Predictions]:
    """Read another model's predictions of the clips that a probe predicted.

    Both are restricted to the clips that both models predicted. A file of ``sleepfm-index
    supervise`` states its split, which must be that of the probe; for other files the user must
    ensure that the model was not trained on these subjects.

    Parameters
    ----------
    path : path
        Parquet file with ``clip_id`` and ``p_<class>`` for every class (or ``predicted`` for a
        number), as written by ``sleepfm-index predict``.
    predictions : Predictions
        The predictions of the probe, per clip.
    split : str, optional
        Identity of the probe's split.

    Returns
    -------
    tuple of Predictions
        Predictions of the other model, named by the file's stem, and of the probe.

    Raises
    ------
    QueryError
        If the file cannot be read, lacks a column, has another split, or shares no clip with the
        probe.
    """
    path = Path(path)
    names = [f"p_{c}" for c in predictions.classes] or ["predicted"]
    try:
        table = read_parquet(path, ["clip_id", *names])
    except (OSError, pa.ArrowException) as error:
        raise QueryError(
            f"{path.name} cannot be read as predictions with clip_id, {', '.join(names)}"
        ) from error
    file_split = (table.schema.metadata or {}).get(SPLIT)
    if split is not None and file_split not in (None, split.encode()):
        raise QueryError(
            f"{path.name} has another split; run `sleepfm-index supervise` again with the label, "
            "conditions, folds and seed of the probe"
        )
    missing = [n for n in ("clip_id", *names) if n not in table.column_names]
    if missing:
        raise QueryError(f"{path.name} has no column {missing[0]}")
    ids = numbers(table["clip_id"]).astype(np.int64)
    scores = np.stack([numbers(table[n]).astype(np.float64) for n in names], axis=1)
    known = np.isfinite(scores).all(axis=1)
    ids, scores = ids[known], scores[known]
    shared, probe_rows, file_rows = np.intersect1d(predictions.clip_ids, ids, return_indices=True)
    if not len(shared):
        raise QueryError(f"{path.name} predicts none of the clips that the probe predicted")
    common = predictions.take(probe_rows)
    shared_scores = scores[file_rows] if predictions.classes else scores[file_rows, 0]
    return replace(common, features=path.stem, scores=shared_scores, warnings=()), common
