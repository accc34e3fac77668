"""Training and test sets, split by subject."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.labels import Labels
from sleepfm_index.reader import Reader


@dataclass(frozen=True)
class Split:
    """Division into training and test subjects.

    Subjects are divided by folds, unless a test condition or a test store is given.

    Parameters
    ----------
    folds : int
        Number of folds of subjects, each tested by a model trained on the others.
    train_where, test_where : str, optional
        SQL conditions for training and test clips.
    test_store : Reader, optional
        Store with the test clips, with vectors of the same weights.
    include_seen : bool
        Whether to keep subjects of the weights' training data, on both sides.
    """

    folds: int = 5
    train_where: str | None = None
    test_where: str | None = None
    test_store: Reader | None = None
    include_seen: bool = False

    @property
    def fixed(self) -> bool:
        """Whether a condition or a store defines the test set."""
        return self.test_where is not None or self.test_store is not None

    def tested(self, store: Reader) -> Reader:
        """Store with the test clips.

        Parameters
        ----------
        store : Reader
            Store with the training clips.

        Raises
        ------
        QueryError
            If the weights of the two stores differ.
        """
        tested = self.test_store or store
        if tested.manifest.weights.sha256 != store.manifest.weights.sha256:
            raise QueryError(
                "the two stores hold vectors of different weights, which cannot be compared; build "
                f"the test store with the weights {store.manifest.weights.name}"
            )
        return tested


def deal_folds(labels: Labels, folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Assign the subjects of labelled clips to folds; return the fold of each clip, int64 [n].

    Subjects are shuffled by the seed. If the label belongs to the subject (age, sex), they are
    assigned in order of the label, so that its distribution is similar in all folds.

    Parameters
    ----------
    labels : Labels
        The labelled clips.
    folds : int
        Number of folds, at least 2.
    seed : int
        Random seed.

    Raises
    ------
    QueryError
        If there are fewer subjects than folds, or fewer than two folds.
    """
    present, subject = np.unique(labels.subjects, return_inverse=True)
    if folds < 2:
        raise QueryError(f"at least 2 folds are needed to test on other subjects, got {folds}")
    if len(present) < folds:
        raise QueryError(
            f"{labels.name} is known for {len(present)} subjects, fewer than the {folds} folds; "
            "use fewer folds (--folds 2) or add subjects"
        )
    order = np.random.default_rng(seed).permutation(len(present))
    if labels.per_subject:
        value = np.zeros(len(present))
        value[subject] = labels.values
        order = order[np.argsort(value[order], kind="stable")]
    fold = np.empty(len(present), np.int64)
    fold[order] = np.arange(len(present)) % folds
    return fold[subject]


def check_disjoint(train: Iterable[str], test: Iterable[str]) -> None:
    """Refuse a split with a subject on both sides.

    Parameters
    ----------
    train : iterable of str
        Training subjects.
    test : iterable of str
        Test subjects.

    Raises
    ------
    QueryError
        If there is such a subject; the message states their number and names one.
    """
    both = sorted(set(train) & set(test))
    if both:
        raise QueryError(
            f"{len(both)} subjects are on both sides, {both[0]} among them; change the "
            "conditions so that every subject is in only one"
        )


def check_classes(labels: Labels) -> None:
    """Refuse training with fewer than two classes.

    Parameters
    ----------
    labels : Labels
        The labelled clips.

    Raises
    ------
    QueryError
        If there is only one class; the message names it.
    """
    if labels.classes:
        present = np.unique(labels.values)
        if len(present) < 2:
            only = labels.classes[int(present[0])]
            raise QueryError(
                f"training clips of {labels.name} contain only {only}; at least two classes are "
                "needed"
            )


def subjects_of(labels: Labels) -> set[str]:
    """Names of the subjects of labelled clips.

    Parameters
    ----------
    labels : Labels
        The labelled clips.
    """
    return {labels.subject_names[i] for i in np.unique(labels.subjects)}
