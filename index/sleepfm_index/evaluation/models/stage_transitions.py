"""Smoothing of predicted stages over a night by a hidden Markov model.

States are the stages; their transitions are counted in the scored nights of the subjects that are
learned from. A probe is a classifier, not a density, so that its probabilities are divided by the
shares of the classes that it was balanced to (Bourlard and Morgan 1994, *Connectionist Speech
Recognition*, chapter 7): these scaled likelihoods enter the forward-backward recursion (Rabiner
1989, *Proc. IEEE* 77:257, equations 19 to 27).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.evaluation.labels.columns import clip_columns, codes, numbers
from sleepfm_index.evaluation.labels.labels import Labels
from sleepfm_index.evaluation.metrics.assessment import Predictions
from sleepfm_index.evaluation.models.train_test import TrainTest
from sleepfm_index.reader import Reader

SMOOTHED: Final = " + transitions"
"""Follows the name of the features whose predictions are smoothed."""
_LONGEST: Final = 120
"""Clips without a prediction after which a night begins anew."""


@dataclass(frozen=True)
class Transitions:
    """How stages follow each other from clip to clip.

    Parameters
    ----------
    initial : ndarray of float64, shape [k]
        Share of each class.
    matrix : ndarray of float64, shape [k, k]
        Probability of each class (column) after each (row); rows sum to 1.
    """

    initial: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @classmethod
    def counted(cls, night: Night, stages: NDArray[np.int64], classes: int) -> Transitions:
        """Count transitions between neighbouring clips, one of each kind added (Laplace).

        Parameters
        ----------
        night : Night
            Where each clip is.
        stages : ndarray of int64, shape [n]
            Class of each clip.
        classes : int
            How many classes.
        """
        counts = np.ones((classes, classes))
        order, steps = night.order, night.steps
        follows = steps[1:] == 1
        np.add.at(counts, (stages[order][:-1][follows], stages[order][1:][follows]), 1)
        shares = 1.0 + np.bincount(stages, minlength=classes)
        return cls(shares / shares.sum(), counts / counts.sum(axis=1, keepdims=True))

    def smooth(self, likelihood: NDArray[np.float64], night: Night) -> NDArray[np.float64]:
        """Give the probability of each class of each clip, given the whole night.

        Parameters
        ----------
        likelihood : ndarray of float64, shape [n, k]
            Of each clip's vector under each class, up to a factor per clip.
        night : Night
            Where each clip is. A clip that was skipped is one whose likelihoods are all alike.

        Returns
        -------
        ndarray of float64, shape [n, k]
            Rows sum to 1.
        """
        order, steps = night.order, night.steps
        seen = np.maximum(likelihood[order], 1e-12)
        powers = [np.linalg.matrix_power(self.matrix, int(step)) for step in steps]
        forward = np.empty_like(seen)
        for at, step in enumerate(steps):
            before = self.initial if step == 0 else forward[at - 1] @ powers[at]
            forward[at] = before * seen[at]
            forward[at] /= forward[at].sum()
        backward = np.ones_like(seen)
        for at in range(len(seen) - 2, -1, -1):
            if steps[at + 1] > 0:
                backward[at] = powers[at + 1] @ (seen[at + 1] * backward[at + 1])
                backward[at] /= backward[at].sum()
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
        Rows by recording and time.
    steps : ndarray of int64, shape [n]
        In that order, clips since the one before; 0 where a recording begins, or begins anew.
    """

    order: NDArray[np.int64]
    steps: NDArray[np.int64]

    @classmethod
    def of(cls, store: Reader, clip_ids: NDArray[np.int64]) -> Night:
        """Read where clips are.

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
        same = (np.diff(recording[order]) == 0) & (since >= 1) & (since <= _LONGEST)
        return cls(order, np.concatenate([[0], np.where(same, since, 0)]))


def smoothed(plan: TrainTest, made: Predictions) -> Predictions:
    """Smooth a probe's predictions, fold by fold, by the transitions of the other subjects.

    Parameters
    ----------
    plan : TrainTest
        The split by which they were made.
    made : Predictions
        Of a probe whose classes are balanced.
    """
    scores = np.empty_like(made.scores)
    folds = np.zeros(len(scores), np.int64) if made.folds is None else made.folds
    for fold in np.unique(folds):
        labels = plan.train if plan.fold is None else plan.train.take(plan.fold != fold)
        own = folds == fold
        night = Night.of(plan.test_store, made.clip_ids[own])
        scores[own] = _transitions(plan.train_store, labels).smooth(made.scores[own], night)
    return replace(made, features=made.features + SMOOTHED, scores=scores, warnings=())


def _transitions(store: Reader, labels: Labels) -> Transitions:
    night = Night.of(store, labels.clip_ids)
    return Transitions.counted(night, labels.values.astype(np.int64), len(labels.classes))
