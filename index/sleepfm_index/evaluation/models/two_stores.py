"""The same labelled clips in two stores, so that two sets of weights are compared in pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.labels import Labels
from sleepfm_index.evaluation.labels.seen_people import without_seen
from sleepfm_index.evaluation.models.features import have_features
from sleepfm_index.evaluation.models.train_test import TrainTest
from sleepfm_index.evaluation.retrieval.paired import shared_clips
from sleepfm_index.reader import Reader

AGAINST: Final = " [against]"
"""Suffix of the features of the store compared with."""


def on_shared_clips(
    sides: TrainTest, other: Reader, features: str, *, include_seen: bool = False
) -> tuple[TrainTest, TrainTest]:
    """Cut a split to the clips that two stores share and that have the features in both.

    Parameters
    ----------
    sides : TrainTest
        Of one store.
    other : Reader
        A store of the same recordings, e.g. by other weights.
    features : str
        Modalities, joined by ``+``.
    include_seen : bool
        Keep people whom the weights of the other store have seen in training.

    Returns
    -------
    tuple of TrainTest
        The split in its own store and in the other: the same labels, row by row.

    Raises
    ------
    QueryError
        If the split tests on a store of its own, or the two share no clip with the features.
    """
    if sides.test_store is not sides.train_store:
        raise QueryError("--against compares two stores of the same recordings; omit --test-store")
    train, train_there, _ = _shared(sides.train_store, other, sides.train, features, include_seen)
    test, test_there, rows = _shared(sides.test_store, other, sides.test, features, include_seen)
    fold = None if sides.fold is None else sides.fold[rows]
    ours = replace(sides, train=train, test=test, fold=fold)
    return ours, TrainTest(other, train_there, other, test_there, fold)


def shared_labels(
    store: Reader, other: Reader, labels: Labels, include_seen: bool = False
) -> tuple[Labels, Labels, np.ndarray]:
    """Labelled clips that another store has too.

    Parameters
    ----------
    store : Reader
        The store of the labelled clips.
    other : Reader
        The store to look in.
    labels : Labels
        The labelled clips.
    include_seen : bool
        Keep people whom the weights of the other store have seen in training.

    Returns
    -------
    ours, theirs : Labels
        The same rows, with the clip ids of each store.
    rows : ndarray of int64
        Which of ``labels`` they are.
    """
    own, there = shared_clips(store, other)
    order = np.argsort(own)
    own, there = own[order], there[order]
    at = np.minimum(np.searchsorted(own, labels.clip_ids), len(own) - 1)
    rows = np.flatnonzero(own[at] == labels.clip_ids)
    kept, remark = without_seen(other, there[at[rows]], include_seen=include_seen)
    rows = rows[np.isin(there[at[rows]], kept)]
    ours = labels.take(rows)
    if remark:
        ours = replace(ours, seen="; ".join(filter(None, (ours.seen, f"other store: {remark}"))))
    return ours, replace(ours, clip_ids=there[at[rows]]), rows


def _shared(
    store: Reader, other: Reader, labels: Labels, features: str, include_seen: bool
) -> tuple[Labels, Labels, np.ndarray]:
    ours, theirs, rows = shared_labels(store, other, labels, include_seen)
    both = have_features(store, ours, features) & have_features(other, theirs, features)
    if not both.any():
        raise QueryError(f"the two stores share no labelled clip with {features}")
    return ours.take(both), theirs.take(both), rows[both]
