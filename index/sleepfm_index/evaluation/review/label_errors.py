"""Clips whose label is likely wrong, by confident learning with cross-validated predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.labels import read_labels
from sleepfm_index.evaluation.labels.splits import check_classes, deal_folds, subjects_of
from sleepfm_index.evaluation.models.features import feature_reader
from sleepfm_index.evaluation.models.neighbour_search import nearest
from sleepfm_index.evaluation.models.recipe import Recipe
from sleepfm_index.evaluation.models.train_test import TrainTest
from sleepfm_index.reader import Reader

NEIGHBOURS: Final = 30
STAGE: Final = "stage"
_FOLDS: Final = 5


class NotJudgedError(QueryError):
    """Label errors cannot be looked for in this store or installation; look for other findings."""


@dataclass(frozen=True)
class LabelErrors:
    """Clips whose label is likely wrong, most likely first.

    Parameters
    ----------
    clip_ids : ndarray of int64, shape [n]
        Clip ids.
    given, suggested : list of str
        Present label, and predicted class.
    probability : ndarray of float64, shape [n]
        Predicted probability of the present label.
    looked_at : int
        Number of labelled clips examined.
    kappa : float
        Cohen's kappa of labels and predictions. If it is low, the vectors have little information
        on the label, and the list reflects them rather than errors of the scoring.
    seen : str
        Remark on subjects of the weights' training data; empty if there are none.
    """

    clip_ids: NDArray[np.int64]
    given: list[str]
    suggested: list[str]
    probability: NDArray[np.float64]
    looked_at: int
    kappa: float
    seen: str


def label_errors(
    reader: Reader,
    label: str,
    features: str,
    *,
    where: str | None = None,
    seed: int = 0,
    include_seen: bool = False,
) -> LabelErrors:
    """Find likely errors of a label by confident learning (Northcutt et al. 2021), by cleanlab.

    The class probabilities of each clip are the mean of two predictions from other subjects: a
    linear probe, in folds of subjects, and the class shares of the nearest labelled neighbours. A
    clip is a likely error if both rules of cleanlab agree: it is off the diagonal of the confident
    joint, and among the least likely clips of its class for the estimated noise rate.

    Parameters
    ----------
    reader : Reader
        The open store.
    label : str
        Label with classes, e.g. ``stage``.
    features : str
        Modalities, joined by ``+``.
    where : str, optional
        SQL condition for every clip.
    seed : int
        Seed of the folds.
    include_seen : bool
        Whether to keep subjects of the weights' training data, who are neither judged nor judge by
        default, because weights may have memorised their stages.

    Returns
    -------
    LabelErrors

    Raises
    ------
    QueryError
        If there are fewer than two classes, or the label is unknown or numeric.
    NotJudgedError
        If cleanlab is not installed, fewer than two subjects have labels, no clip has a stage, or
        the stages are all of subjects in the weights' training data.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise NotJudgedError(
            'label errors need cleanlab; pip install "sleepfm-index[review]"'
        ) from error
    try:
        labels = read_labels(reader, label, where, task="classification", include_seen=include_seen)
    except QueryError as error:
        # every store has stages, but they may all be unscored, or of people seen in training
        if label != STAGE:
            raise
        raise NotJudgedError(str(error)) from error
    subjects = len(subjects_of(labels))
    if subjects < 2:
        raise NotJudgedError(
            f"label errors are judged by other subjects, but only one subject has labels of {label}"
            + (f"; {labels.seen}" if labels.seen else "")
        )
    check_classes(labels)
    folds = deal_folds(labels, min(_FOLDS, subjects), seed)
    sides = TrainTest(reader, labels, reader, labels, folds)
    predictions = sides.predict(features, Recipe(seed=seed))
    order = np.argsort(predictions.clip_ids)
    ids, given = predictions.clip_ids[order], predictions.truth[order].astype(np.int64)
    votes = _votes(
        reader, features, ids, given, predictions.subjects[order], len(predictions.classes)
    )
    probabilities = (predictions.scores[order] + votes) / 2
    # cleanlab has no threshold for classes without clips
    present = np.unique(given)
    probabilities = probabilities[:, present] / probabilities[:, present].sum(axis=1, keepdims=True)
    coded = np.searchsorted(present, given)
    issues = find_label_issues(
        coded,
        probabilities,
        filter_by="both",
        return_indices_ranked_by="normalized_margin",
        n_jobs=1,
    )
    error_rows = np.asarray(issues, np.int64)
    names = np.array(predictions.classes)[present]
    likely = probabilities[error_rows].argmax(axis=1)
    return LabelErrors(
        ids[error_rows],
        names[coded[error_rows]].tolist(),
        names[likely].tolist(),
        probabilities[error_rows, coded[error_rows]],
        len(ids),
        _kappa(coded, probabilities.argmax(axis=1)),
        labels.seen,
    )


def _kappa(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Cohen's kappa (Cohen 1960)."""
    classes = int(max(first.max(), second.max())) + 1
    by_chance = (
        float(np.bincount(first, minlength=classes) @ np.bincount(second, minlength=classes))
        / len(first) ** 2
    )
    return (float((first == second).mean()) - by_chance) / (1 - by_chance) if by_chance < 1 else 1.0


def _votes(
    reader: Reader,
    features: str,
    ids: NDArray[np.int64],
    given: NDArray[np.int64],
    subjects: NDArray[np.int64],
    classes: int,
) -> NDArray[np.float64]:
    """Shares of the classes among the nearest neighbours of other subjects, float64 [n, classes].

    Classes are weighted inversely to their frequency, as in the probe.
    """
    read = feature_reader(reader, ids, features)
    rows, _ = nearest(read(np.arange(len(ids))), subjects, read, subjects, NEIGHBOURS)
    weight = 1 / np.maximum(1, np.bincount(given, minlength=classes))
    votes = np.full((len(ids), classes), 1e-9)
    for rank in range(NEIGHBOURS):
        exists = rows[:, rank] >= 0
        voted = given[rows[exists, rank]]
        votes[np.flatnonzero(exists), voted] += weight[voted]
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))
