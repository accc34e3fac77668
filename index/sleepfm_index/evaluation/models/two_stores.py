"""The same labelled clips in two stores, for paired comparisons of two sets of weights."""

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
"""Suffix of the features of the other store."""


def on_shared_clips(
    sides: TrainTest, other: Reader, features: str, *, include_seen: bool = False
) -> tuple[TrainTest, TrainTest]:
    """Restrict a split to the clips that two stores share and that have the features in both.

    Parameters
    ----------
    sides : TrainTest
        Split of one store.
    other : Reader
        Another store of the same recordings, e.g. with other weights.
    features : str
        Modalities, joined by ``+``.
    include_seen : bool
        Whether to keep subjects of the training data of the other store's weights.

    Returns
    -------
    tuple of TrainTest
        The split in its own store and in the other, with the same labels row by row.

    Raises
    ------
    QueryError
        If the split has a separate test store, or the stores share no clip with the features.
    """
    if sides.test_store is not sides.train_store:
        raise QueryError("--against compares two stores of the same recordings; omit --test-store")
    train, other_train, _ = _shared(sides.train_store, other, sides.train, features, include_seen)
    test, other_test, rows = _shared(sides.test_store, other, sides.test, features, include_seen)
    fold = None if sides.fold is None else sides.fold[rows]
    shared = replace(sides, train=train, test=test, fold=fold)
    return shared, TrainTest(other, other_train, other, other_test, fold)


def shared_labels(
    store: Reader, other: Reader, labels: Labels, include_seen: bool = False
) -> tuple[Labels, Labels, np.ndarray]:
    """Select the labelled clips that are also in another store.

    Parameters
    ----------
    store : Reader
        The store of the labelled clips.
    other : Reader
        The other store.
    labels : Labels
        The labelled clips.
    include_seen : bool
        Whether to keep subjects of the training data of the other store's weights.

    Returns
    -------
    selected, others : Labels
        The same labels, with the clip ids of each store.
    rows : ndarray of int64, shape [n]
        Rows of these clips in ``labels``.
    """
    ids, other_ids = shared_clips(store, other)
    order = np.argsort(ids)
    ids, other_ids = ids[order], other_ids[order]
    index = np.minimum(np.searchsorted(ids, labels.clip_ids), len(ids) - 1)
    rows = np.flatnonzero(ids[index] == labels.clip_ids)
    kept, remark = without_seen(other, other_ids[index[rows]], include_seen=include_seen)
    rows = rows[np.isin(other_ids[index[rows]], kept)]
    selected = labels.take(rows)
    if remark:
        selected = replace(
            selected, seen="; ".join(filter(None, (selected.seen, f"other store: {remark}")))
        )
    return selected, replace(selected, clip_ids=other_ids[index[rows]]), rows


def _shared(
    store: Reader, other: Reader, labels: Labels, features: str, include_seen: bool
) -> tuple[Labels, Labels, np.ndarray]:
    selected, others, rows = shared_labels(store, other, labels, include_seen)
    both = have_features(store, selected, features) & have_features(other, others, features)
    if not both.any():
        raise QueryError(f"the two stores share no labelled clip with {features}")
    return selected.take(both), others.take(both), rows[both]
