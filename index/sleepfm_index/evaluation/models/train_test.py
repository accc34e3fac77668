"""Training and test clips, and cross-validated predictions of a probe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.labels import Labels, read_labels
from sleepfm_index.evaluation.labels.splits import (
    Split,
    check_classes,
    check_disjoint,
    deal_folds,
    subjects_of,
)
from sleepfm_index.evaluation.metrics.assessment import Predictions
from sleepfm_index.evaluation.metrics.estimates import ranking
from sleepfm_index.evaluation.models.features import (
    Read,
    ReaderOf,
    feature_reader,
    have_features,
    predict_rows,
)
from sleepfm_index.evaluation.models.probe_kinds import Probe, probe_kind
from sleepfm_index.evaluation.models.recipe import PENALTIES, Recipe
from sleepfm_index.reader import Reader

_INNER_FOLDS: Final = 3
MAJORITY: Final = "majority class"
MEAN: Final = "mean"
"""Names of the baselines that use no vectors."""


@dataclass(frozen=True)
class TrainTest:
    """Labelled clips for training and test, from two stores or from one in folds.

    Parameters
    ----------
    train_store, test_store : Reader
        Stores of the training and test clips.
    train, test : Labels
        Labels of the training and test clips, with the same classes.
    fold : ndarray of int64, shape [n], optional
        Fold of each test clip; None for a split by condition or store.
    """

    train_store: Reader
    train: Labels
    test_store: Reader
    test: Labels
    fold: NDArray[np.int64] | None

    @property
    def of_subjects(self) -> bool:
        """Whether the label belongs to the subject, as age does, on both sides."""
        return self.train.per_subject and self.test.per_subject

    @property
    def note(self) -> str:
        """Label rule and division of the subjects, in one line."""
        if self.fold is not None:
            return f"{self.train.note}; {int(self.fold.max()) + 1} folds of subjects"
        return (
            f"trained on {len(self.train)} clips of {len(subjects_of(self.train))} subjects, "
            f"tested on {len(self.test)} clips of {len(subjects_of(self.test))} others; "
            f"{self.test.note}"
        )

    @property
    def identity(self) -> str:
        """SHA-256 of the label and of the training and test clips of each fold."""
        digest = hashlib.sha256(json.dumps([self.train.name, self.train.classes]).encode())
        fold = self.test.clip_ids if self.fold is None else self.fold
        for part in (self.train.clip_ids, self.train.values, fold):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def predict(
        self,
        features: str,
        recipe: Recipe,
        *,
        reader: ReaderOf = feature_reader,
        name: str | None = None,
    ) -> Predictions:
        """Predict the test clips that have the features, by probes of other subjects.

        Parameters
        ----------
        features : str
            Modalities, joined by ``+``.
        recipe : Recipe
            Settings of the probe.
        reader : callable
            Function that reads the features, by default the vectors. In any case only clips with
            vectors are used, so that tables have the same clips.
        name : str, optional
            Name of the features in tables; by default ``features``.

        Raises
        ------
        QueryError
            If no clip has the features, or the training clips have one class only.
        """
        warnings: tuple[str, ...] = ()
        name = name or features
        parts, new, penalties = [], 0, set()
        read = reader(self.train_store, self.train.clip_ids, features)
        read_test = reader(self.test_store, self.test.clip_ids, features)
        for train, test in self.sides(features):
            new += self._unseen(train, test)
            fitted = learn(recipe, read, self.train, train)
            penalties.add(float(fitted.about["c"]))
            if not fitted.converged:
                warnings = (f"a probe on {name} did not converge",)
            parts.append((test, predict_rows(fitted, read_test, test)))
        rows = np.concatenate([test for test, _ in parts])
        if new == len(rows):
            raise QueryError(
                f"no class of {self.train.name} has subjects on both sides, so the test subjects "
                "cannot be predicted; choose a label that subjects share"
            )
        if recipe.c is None:
            chosen_c = ", ".join(f"{c:g}" for c in sorted(penalties))
            warnings += (f"C chosen in inner folds of subjects: {chosen_c} ({name})",)
        if new:
            warnings += (f"{new} test clips have a class without training examples",)
        chosen = self.test.take(rows)
        return Predictions(
            name,
            chosen.classes,
            chosen.values,
            np.concatenate([scores for _, scores in parts]),
            chosen.subjects,
            chosen.clip_ids,
            warnings=warnings,
            folds=None if self.fold is None else self.fold[rows],
            label=chosen.name,
        )

    def baseline(self, predictions: Predictions) -> Predictions:
        """Predict without vectors: the class shares, or the mean, of the training clips.

        The prediction is the same for every clip of all folds, because the means of the training
        folds are negatively correlated with the values of the test folds.

        Parameters
        ----------
        predictions : Predictions
            Predictions of the same clips by a model.
        """
        values = self.train.values
        if not predictions.classes:
            scores = np.full(len(predictions.truth), float(values.mean()))
            return replace(predictions, features=MEAN, scores=scores, warnings=())
        shares = np.bincount(values.astype(np.int64), minlength=len(predictions.classes)) / len(
            values
        )
        scores = np.tile(shares, (len(predictions.truth), 1))
        return replace(predictions, features=MAJORITY, scores=scores, answered=None, warnings=())

    def _unseen(self, train: NDArray[np.int64], test: NDArray[np.int64]) -> int:
        """Count test rows with a class that has no training row."""
        if not self.train.classes:
            return 0
        learned = np.unique(self.train.values[train])
        return int((~np.isin(self.test.values[test], learned)).sum())

    def sides(self, features: str) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield training and test rows that have the features, one pair per fold.

        Parameters
        ----------
        features : str
            Modalities, joined by ``+``.
        """
        train_has = have_features(self.train_store, self.train, features)
        test_has = have_features(self.test_store, self.test, features)
        if not train_has.any() or not test_has.any():
            raise QueryError(f"no labelled clip has {features} on both sides of the split")
        if self.fold is None:
            yield np.flatnonzero(train_has), np.flatnonzero(test_has)
            return
        for fold in range(int(self.fold.max()) + 1):
            test = np.flatnonzero(test_has & (self.fold == fold))
            if len(test):
                yield np.flatnonzero(train_has & (self.fold != fold)), test


def divide(
    store: Reader,
    label: str,
    split: Split,
    *,
    where: str | None = None,
    task: str = "auto",
    classes: Sequence[str] | None = None,
    seed: int = 0,
) -> TrainTest:
    """Divide labelled clips into training and test clips.

    Parameters
    ----------
    store : Reader
        The open store.
    label, task, classes
        As in :func:`sleepfm_index.evaluation.labels.labels.read_labels`.
    split : Split
        Division of the subjects.
    where : str, optional
        SQL condition for every clip.
    seed : int
        Seed of the folds.

    Raises
    ------
    QueryError
        If a condition or column is unknown, the training clips have one class only, there are fewer
        subjects than folds, or a subject is on both sides.
    """
    if not split.fixed:
        if split.train_where is not None:
            raise QueryError("--train-where requires --test-where or --test-store")
        labels = read_labels(
            store, label, where, task=task, classes=classes, include_seen=split.include_seen
        )
        check_classes(labels)
        return TrainTest(store, labels, store, labels, deal_folds(labels, split.folds, seed))
    tested = split.tested(store)
    options: Any = {"task": task, "classes": classes, "include_seen": split.include_seen}
    train = read_labels(store, label, (where, split.train_where), **options)
    test = read_labels(tested, label, (where, split.test_where), **options)
    check_disjoint(subjects_of(train), subjects_of(test))
    check_classes(train)
    return TrainTest(store, train, tested, _recoded(train, test), None)


def learn(recipe: Recipe, read: Read, labels: Labels, rows: NDArray[np.int64]) -> Probe:
    """Fit a probe to rows of labelled clips.

    Parameters
    ----------
    recipe : Recipe
        Settings of the probe.
    read : callable
        Function that reads the vectors of rows.
    labels : Labels
        Labels of all rows.
    rows : ndarray of int64, shape [m]
        Training rows.

    Raises
    ------
    QueryError
        If they have fewer than two classes, or there is no such model.
    """
    model = probe_kind(recipe.model)
    check_classes(labels.take(rows))
    if len(rows) > recipe.train_clips:
        rng = np.random.default_rng(recipe.seed)
        rows = np.sort(rng.choice(rows, recipe.train_clips, replace=False))
    if recipe.c is None:
        recipe = replace(recipe, c=choose_penalty(recipe, read(rows), labels.take(rows)))
    fitted = model.fit(read(rows), labels.values[rows], labels.classes, recipe)
    return fitted.with_about({"c": recipe.c})


def choose_penalty(recipe: Recipe, x: NDArray[np.float32], labels: Labels) -> float:
    """Choose the penalty by cross-validation in three inner folds of the training subjects.

    Parameters
    ----------
    recipe : Recipe
        Settings of the probe.
    x : ndarray of float32, shape [n, d]
        Training vectors.
    labels : Labels
        Labels of the rows of ``x``.

    Returns
    -------
    float
        One of :data:`~.recipe.PENALTIES`, by the mean AUROC over classes, or the mean absolute
        error, averaged over the folds; the strongest penalty in case of ties.

    Raises
    ------
    QueryError
        If there are fewer than three training subjects.
    """
    if len(subjects_of(labels)) < _INNER_FOLDS:
        raise QueryError(f"choosing C needs {_INNER_FOLDS} training subjects; set it with -c")
    fold = deal_folds(labels, _INNER_FOLDS, recipe.seed)
    model = probe_kind(recipe.model)
    gains = []
    for c in PENALTIES:
        gains_of_folds = []
        for part in range(_INNER_FOLDS):
            train, test = fold != part, fold == part
            if labels.classes and len(np.unique(labels.values[train])) < 2:
                continue
            fitted = model.fit(x[train], labels.values[train], labels.classes, replace(recipe, c=c))
            gains_of_folds.append(_gain(fitted.predict(x[test]), labels.take(test)))
        gains.append(
            float(np.nanmean(gains_of_folds)) if np.isfinite(gains_of_folds).any() else -np.inf
        )
    return PENALTIES[int(np.argmax(gains))]


def _gain(scores: NDArray[np.float64], labels: Labels) -> float:
    """Mean AUROC over the classes for which it is defined, or the negative mean absolute error."""
    if not labels.classes:
        return -float(np.abs(scores - labels.values).mean())
    areas = [
        ranking(scores[:, code], labels.values == code, np.zeros(len(labels), np.int64))[0].value
        for code in range(len(labels.classes))
    ]
    known = [area for area in areas if np.isfinite(area)]
    return float(np.mean(known)) if known else float("nan")


def _recoded(train: Labels, test: Labels) -> Labels:
    """Recode the test labels by the training classes."""
    if train.classes == test.classes:
        return test
    unknown = [c for c in test.classes if c not in train.classes]
    if unknown:
        raise QueryError(
            f"no training examples of {', '.join(unknown)}; every class needs examples"
        )
    code = np.array([train.classes.index(c) for c in test.classes])
    return replace(test, classes=train.classes, values=code[test.values.astype(np.int64)])
