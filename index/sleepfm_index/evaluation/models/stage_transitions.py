"""Smoothing of predicted stages over a night by a hidden Markov model.

States are the stages; their transitions are counted in the scored nights of the training subjects.
A probe gives posterior probabilities, not likelihoods. Divided by the class priors, which are equal
because the probe is balanced, they are scaled likelihoods (Bourlard and Morgan 1994, *Connectionist
Speech Recognition*, chapter 7) for the forward-backward recursion (Rabiner 1989, *Proc. IEEE*
77:257, equations 19 to 27).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, codes, numbers
from sleepfm_index.evaluation.labels.labels import Labels
from sleepfm_index.evaluation.metrics.assessment import Predictions
from sleepfm_index.evaluation.models.train_test import TrainTest
from sleepfm_index.reader import Reader

_RECORD: Final = "transitions"
SMOOTHED: Final = " + transitions"
"""Suffix of the name of the features whose predictions are smoothed."""
_MAX_GAP: Final = 120
"""Maximum distance of two successive predictions of one sequence, in clips."""


@dataclass(frozen=True)
class Transitions:
    """Transition probabilities of stages from clip to clip.

    Parameters
    ----------
    initial : ndarray of float64, shape [k]
        Share of each class.
    matrix : ndarray of float64, shape [k, k]
        Probability of each class (column) after each class (row); rows sum to 1.
    """

    initial: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @classmethod
    def counted(cls, night: Night, stages: NDArray[np.int64], classes: int) -> Transitions:
        """Estimate transitions between adjacent clips, with add-one (Laplace) smoothing.

        Parameters
        ----------
        night : Night
            Order of the clips.
        stages : ndarray of int64, shape [n]
            Class of each clip.
        classes : int
            Number of classes.
        """
        counts = np.ones((classes, classes))
        order, steps = night.order, night.steps
        follows = steps[1:] == 1
        np.add.at(counts, (stages[order][:-1][follows], stages[order][1:][follows]), 1)
        shares = 1.0 + np.bincount(stages, minlength=classes)
        return cls(shares / shares.sum(), counts / counts.sum(axis=1, keepdims=True))

    @classmethod
    def of_labels(cls, store: Reader, labels: Labels) -> Transitions:
        """Estimate the transitions in the recordings of labelled clips; see :meth:`counted`.

        Parameters
        ----------
        store : Reader
            The store of the labels.
        labels : Labels
            Labelled clips; a step over clips without a label is not counted.
        """
        night = Night.of(store, labels.clip_ids)
        return cls.counted(night, labels.values.astype(np.int64), len(labels.classes))

    @classmethod
    def of_record(cls, about: Mapping[str, Any], classes: int) -> Transitions:
        """Read the transitions from the training record of a probe.

        Parameters
        ----------
        about : mapping of str to object
            Training record.
        classes : int
            Number of classes of the probe.

        Raises
        ------
        QueryError
            If the record has none.
        FormatError
            If they are not probabilities of these classes.
        """
        record = about.get(_RECORD)
        if record is None:
            raise QueryError(
                "the probe has no stage transitions to smooth by; save a linear probe of the stage "
                "again, e.g. `sleepfm-index probe --label stage --on bas --save FILE`"
            )
        try:
            initial = np.array(record["initial"], np.float64)
            matrix = np.array(record["matrix"], np.float64)
            rows = np.concatenate([initial[None], matrix])
        except (KeyError, TypeError, ValueError, IndexError):
            rows = np.empty(0)
        valid = rows.shape == (classes + 1, classes) and bool(np.all(rows >= 0))
        if not valid or not np.allclose(rows.sum(axis=1), 1):
            raise FormatError(
                "the probe's stage transitions are damaged: they are no probabilities of its "
                f"{classes} classes; save the probe again"
            )
        return cls(initial, matrix)

    @property
    def record(self) -> dict[str, Any]:
        """Entry of the training record of a probe, JSON values; see :meth:`of_record`."""
        return {_RECORD: {"initial": self.initial.tolist(), "matrix": self.matrix.tolist()}}

    def smooth(self, likelihood: NDArray[np.float64], night: Night) -> NDArray[np.float64]:
        """Compute the probability of each class for each clip, given the entire night.

        Parameters
        ----------
        likelihood : ndarray of float64, shape [n, k]
            Likelihood of each clip's vector under each class, up to a factor per clip.
        night : Night
            Order of the clips. A missing clip has equal likelihoods for all classes.

        Returns
        -------
        ndarray of float64, shape [n, k]
            Probabilities; rows sum to 1.
        """
        order, steps = night.order, night.steps
        seen = np.maximum(likelihood[order], 1e-12)
        powers = [np.linalg.matrix_power(self.matrix, int(step)) for step in steps]
        forward = np.empty_like(seen)
        for i, step in enumerate(steps):
            before = self.initial if step == 0 else forward[i - 1] @ powers[i]
            forward[i] = before * seen[i]
            forward[i] /= forward[i].sum()
        backward = np.ones_like(seen)
        for i in range(len(seen) - 2, -1, -1):
            if steps[i + 1] > 0:
                backward[i] = powers[i + 1] @ (seen[i + 1] * backward[i + 1])
                backward[i] /= backward[i].sum()
        both = forward * backward
        smoothed = np.empty_like(both)
        smoothed[order] = both / both.sum(axis=1, keepdims=True)
        return smoothed


@dataclass(frozen=True)
class Night:
    """The order of clips in their recordings.

    Parameters
    ----------
    order : ndarray of int64, shape [n]
        Row numbers, sorted by recording and time.
    steps : ndarray of int64, shape [n]
        Number of clips since the previous one in that order; 0 where a sequence begins.
    """

    order: NDArray[np.int64]
    steps: NDArray[np.int64]

    @classmethod
    def of(cls, store: Reader, clip_ids: NDArray[np.int64]) -> Night:
        """Read the order of clips.

        Parameters
        ----------
        store : Reader
            The open store.
        clip_ids : ndarray of int64, shape [n]
            Clip ids.
        """
        facts = clip_columns(store, clip_ids, ["recording_id", "start_s"])
        recording, _ = codes(facts["recording_id"])
        start = numbers(facts["start_s"])
        order = np.lexsort((start, recording))
        seconds = store.manifest.contract.clip_seconds
        since = np.round(np.diff(start[order]) / seconds).astype(np.int64)
        adjacent = (np.diff(recording[order]) == 0) & (since >= 1) & (since <= _MAX_GAP)
        return cls(order, np.concatenate([[0], np.where(adjacent, since, 0)]))


def smoothed(plan: TrainTest, predictions: Predictions) -> Predictions:
    """Smooth a probe's predictions, fold by fold, by the transitions of the other subjects.

    Parameters
    ----------
    plan : TrainTest
        The split of the predictions.
    predictions : Predictions
        Predictions of a probe with balanced classes.
    """
    scores = np.empty_like(predictions.scores)
    folds = np.zeros(len(scores), np.int64) if predictions.folds is None else predictions.folds
    for fold in np.unique(folds):
        labels = plan.train if plan.fold is None else plan.train.take(plan.fold != fold)
        of_fold = folds == fold
        night = Night.of(plan.test_store, predictions.clip_ids[of_fold])
        scores[of_fold] = Transitions.of_labels(plan.train_store, labels).smooth(
            predictions.scores[of_fold], night
        )
    return replace(
        predictions, features=predictions.features + SMOOTHED, scores=scores, warnings=()
    )
