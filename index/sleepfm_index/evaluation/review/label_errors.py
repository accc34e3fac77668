"""Clips whose label is likely wrong: confident learning over predictions of other subjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError, StoreError
from sleepfm_index.evaluation.labels.splits import Split
from sleepfm_index.evaluation.models.features import feature_reader
from sleepfm_index.evaluation.models.neighbour_search import nearest
from sleepfm_index.evaluation.models.recipe import Recipe
from sleepfm_index.evaluation.models.train_test import divide
from sleepfm_index.reader import Reader

NEIGHBOURS: Final = 30
_FOLDS: Final = 5


@dataclass(frozen=True)
class LabelErrors:
    """Clips whose label is likely wrong, the likeliest first.

    Parameters
    ----------
    clip_ids : ndarray of int64, shape [n]
    given, suggested : list of str
        The label, and the class that the clip is taken for.
    probability : ndarray of float64, shape [n]
        Of the label as given; low.
    looked_at : int
        How many labelled clips were looked at.
    kappa : float
        Cohen's kappa of labels and predictions. Where it is low, the vectors know little of the
        label, and the list says more about them than about the scoring.
    """

    clip_ids: NDArray[np.int64]
    given: list[str]
    suggested: list[str]
    probability: NDArray[np.float64]
    looked_at: int
    kappa: float


def label_errors(
    reader: Reader,
    label: str,
    features: str,
    *,
    where: str | None = None,
    seed: int = 0,
) -> LabelErrors:
    """Find likely errors of a label by confident learning (Northcutt et al. 2021), by cleanlab.

    Each clip gets the mean of two probabilities for each class, both from clips of other subjects:
    of a linear probe, in folds of subjects, and the shares of its nearest labelled neighbours. A
    clip is a likely error where both rules of cleanlab say so: it is counted off the diagonal of
    the confident joint, and is among the least likely of its class by the noise estimated there.

    Parameters
    ----------
    reader : Reader
        The open store.
    label : str
        A label of classes, e.g. ``stage``.
    features : str
        Modalities, joined by ``+``.
    where : str, optional
        SQL condition for every clip.
    seed : int
        Seed of the folds.

    Returns
    -------
    LabelErrors

    Raises
    ------
    QueryError
        If there are fewer than two classes or subjects, or the label is a number.
    StoreError
        If cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise StoreError(
            'label errors need cleanlab; pip install "sleepfm-index[review]"'
        ) from error
    people = len(reader.sql("SELECT DISTINCT subject_id FROM clips").table)
    if people < 2:
        raise QueryError("label errors are judged by other subjects; this store has one")
    folds = Split(min(_FOLDS, people))
    sides = divide(reader, label, folds, where=where, task="classification", seed=seed)
    made = sides.predict(features, Recipe(seed=seed))
    order = np.argsort(made.clip_ids)
    ids, given = made.clip_ids[order], made.truth[order].astype(np.int64)
    votes = _votes(reader, features, ids, given, made.subjects[order], len(made.classes))
    chances = (made.scores[order] + votes) / 2
    # Classes that nobody has would leave cleanlab without a threshold.
    there = np.unique(given)
    chances = chances[:, there] / chances[:, there].sum(axis=1, keepdims=True)
    coded = np.searchsorted(there, given)
    found = find_label_issues(
        coded, chances, filter_by="both", return_indices_ranked_by="normalized_margin", n_jobs=1
    )
    places = np.asarray(found, np.int64)
    names = np.array(made.classes)[there]
    likely = chances[places].argmax(axis=1)
    return LabelErrors(
        ids[places],
        names[coded[places]].tolist(),
        names[likely].tolist(),
        chances[places, coded[places]],
        len(ids),
        _kappa(coded, chances.argmax(axis=1)),
    )


def _kappa(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Cohen's kappa (Cohen 1960)."""
    classes = int(max(one.max(), other.max())) + 1
    by_chance = (
        float(np.bincount(one, minlength=classes) @ np.bincount(other, minlength=classes))
        / len(one) ** 2
    )
    return (float((one == other).mean()) - by_chance) / (1 - by_chance) if by_chance < 1 else 1.0


def _votes(
    reader: Reader,
    features: str,
    ids: NDArray[np.int64],
    given: NDArray[np.int64],
    subjects: NDArray[np.int64],
    classes: int,
) -> NDArray[np.float64]:
    """Shares of the classes among the nearest neighbours of other subjects, float64 [n, classes].

    Each class counts by its rarity, as the probe weighs them.
    """
    read = feature_reader(reader, ids, features)
    rows, _ = nearest(read(np.arange(len(ids))), subjects, read, subjects, NEIGHBOURS)
    weight = 1 / np.maximum(1, np.bincount(given, minlength=classes))
    votes = np.full((len(ids), classes), 1e-9)
    for at in range(NEIGHBOURS):
        there = rows[:, at] >= 0
        voted = given[rows[there, at]]
        votes[np.flatnonzero(there), voted] += weight[voted]
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))
