"""People whom the weights of a store have seen in training: left out of what is measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, codes
from sleepfm_index.reader import Reader
from sleepfm_index.schema import WEIGHTS_SPLIT


def are_seen(store: Reader, clip_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which clips are of people whom the weights were trained or validated on, bool [n].

    None is where the weights do not say whom they have seen.

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
    """Leave out the people whom the weights have seen, and say how many they are.

    Parameters
    ----------
    store : Reader
        The open store.
    clip_ids : ndarray of int64, shape [n]
        The clips that were asked for.
    include_seen : bool
        Keep them all the same.

    Returns
    -------
    clip_ids : ndarray of int64, shape [m]
        What may be measured.
    remark : str
        For the note of the result; empty where the weights have seen nobody.

    Raises
    ------
    QueryError
        If the weights have seen everybody.
    """
    seen = are_seen(store, clip_ids)
    if not seen.any():
        return clip_ids, ""
    subjects, _ = codes(clip_columns(store, clip_ids[seen], ["subject_id"])["subject_id"])
    people = len(np.unique(subjects))
    who = (
        f"{people} {'subject' if people == 1 else 'subjects'} ({int(seen.sum())} clips) whom the "
        "weights have seen in training"
    )
    if include_seen:
        return clip_ids, f"includes {who}"
    if seen.all():
        raise QueryError(
            f"nothing is left to measure: all clips are of {who}; take other recordings, or add "
            "--include-seen (include_seen=True) to measure what the weights may know by heart"
        )
    return clip_ids[~seen], f"left out: {who} (--include-seen keeps them)"
