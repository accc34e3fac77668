"""Exclusion of the subjects on which the weights of a store were trained."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, codes
from sleepfm_index.reader import Reader
from sleepfm_index.schema import WEIGHTS_SPLIT


def are_seen(store: Reader, clip_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask of clips of subjects on which the weights were trained or validated, bool [n].

    It is false for all clips if the weights do not list their training subjects.

    Parameters
    ----------
    store : Reader
        The open store.
    clip_ids : ndarray of int64, shape [n]
        Clip ids.
    """
    if WEIGHTS_SPLIT not in store.clip_schema.names:
        return np.zeros(len(clip_ids), bool)
    split, _ = codes(clip_columns(store, clip_ids, [WEIGHTS_SPLIT])[WEIGHTS_SPLIT])
    return split >= 0


def without_seen(
    store: Reader, clip_ids: NDArray[np.int64], *, include_seen: bool = False
) -> tuple[NDArray[np.int64], str]:
    """Exclude the subjects on which the weights were trained.

    Parameters
    ----------
    store : Reader
        The open store.
    clip_ids : ndarray of int64, shape [n]
        Ids of the selected clips.
    include_seen : bool
        Whether to keep these subjects nevertheless.

    Returns
    -------
    clip_ids : ndarray of int64, shape [m]
        Ids of the clips to measure.
    remark : str
        Remark for the note of the result; empty if there are no such subjects.

    Raises
    ------
    QueryError
        If no other subjects remain.
    """
    seen = are_seen(store, clip_ids)
    if not seen.any():
        return clip_ids, ""
    subjects, _ = codes(clip_columns(store, clip_ids[seen], ["subject_id"])["subject_id"])
    count = len(np.unique(subjects))
    description = (
        f"{count} {'subject' if count == 1 else 'subjects'} ({int(seen.sum())} clips) whom the "
        "weights have seen in training"
    )
    if include_seen:
        return clip_ids, f"includes {description}"
    if seen.all():
        raise QueryError(
            f"nothing is left to measure: all clips are of {description}; take other recordings, "
            "or add --include-seen (include_seen=True) to test what the weights may have memorised"
        )
    return clip_ids[~seen], f"left out: {description} (--include-seen keeps them)"
