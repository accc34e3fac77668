"""Another model's predictions, e.g. the supervised CNN's, scored in a probe's table."""

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
"""Metadata key of a predictions file: the identity of its split."""


def read_external(
    path: str | Path, made: Predictions, split: str | None = None
) -> tuple[Predictions, Predictions]:
    """Read another model's predictions of the clips that a probe predicted.

    Both are cut to the clips that both predicted, so that they stand in one table. A file that
    ``sleepfm-index supervise`` wrote says by which split, which must be the probe's; that a model
    from elsewhere did not learn from these subjects is for its maker to see to.

    Parameters
    ----------
    path : path
        A Parquet file with ``clip_id`` and ``p_<class>`` for every class (or ``predicted`` for a
        number), as ``sleepfm-index predict`` writes.
    made : Predictions
        The probe's, per clip.
    split : str, optional
        Identity of the probe's split.

    Returns
    -------
    tuple of Predictions
        The other model's, named by the file's stem, and the probe's.

    Raises
    ------
    QueryError
        If the file cannot be read, lacks a column, was made by another split, or shares no clip
        with the probe.
    """
    path = Path(path)
    names = [f"p_{c}" for c in made.classes] or ["predicted"]
    try:
        table = read_parquet(path, ["clip_id", *names])
    except (OSError, pa.ArrowException) as error:
        raise QueryError(
            f"{path.name} cannot be read as predictions with clip_id, {', '.join(names)}"
        ) from error
    theirs_by = (table.schema.metadata or {}).get(SPLIT)
    if split is not None and theirs_by not in (None, split.encode()):
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
    shared, ours, theirs = np.intersect1d(made.clip_ids, ids, return_indices=True)
    if not len(shared):
        raise QueryError(f"{path.name} predicts none of the clips that the probe predicted")
    common = made.take(ours)
    taken = scores[theirs] if made.classes else scores[theirs, 0]
    return replace(common, features=path.stem, scores=taken, warnings=()), common
