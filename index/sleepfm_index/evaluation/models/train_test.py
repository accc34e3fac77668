"""Training and test clips, and the predictions of a probe."""

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
    check_apart,
    check_classes,
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
    """Labelled clips of two stores, or of one in folds.

    Parameters
    ----------
    train_store, test_store : Reader
    train, test : Labels
        Of the same classes.
    fold : ndarray of int64, shape [n], optional
        Fold of each tested clip; None for a split by condition or store.
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
        """One line: the rule, and how subjects were kept apart."""
        if self.fold is not None:
            return f"{self.train.note}; {int(self.fold.max()) + 1} folds of subjects"
        return (
            f"trained on {len(self.train)} clips of {len(subjects_of(self.train))} subjects, "
            f"tested on {len(self.test)} clips of {len(subjects_of(self.test))} others; "
            f"{self.test.note}"
        )

    @property
    def identity(self) -> str:
        """SHA-256 of the label, and of which clips are learned from and tested when."""
        found = hashlib.sha256(json.dumps([self.train.name, self.train.classes]).encode())
        fold = self.test.clip_ids if self.fold is None else self.fold
        for part in (self.train.clip_ids, self.train.values, fold):
            found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()

    def predict(
        self,
        features: str,
        recipe: Recipe,
        *,
        reader: ReaderOf = feature_reader,
        name: str | None = None,
    ) -> Predictions:
        """Predict every clip to be tested that has the features, by a probe of other subjects.

        Parameters
        ----------
        features : str
            Modalities, joined by ``+``.
        recipe : Recipe
            How the probe is fitted.
        reader : callable
            Reads what the probe learns from, by default the vectors; only clips with the vectors
            count all the same, so that tables are of the same clips.
        name : str, optional
            What to call the features in tables; by default ``features``.

        Raises
        ------
        QueryError
            If no clip has the features, or one class only is there to learn from.
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

    def baseline(self, made: Predictions) -> Predictions:
        """Predict without looking: the shares of the classes, or the mean, of what is learned from.

        They are the same for every clip, over all folds, because means of the folds would rank
        subjects the wrong way round.

        Parameters
        ----------
        made : Predictions
            Of the clips to predict.
        """
        known = self.train.values
        if not made.classes:
            scores = np.full(len(made.truth), float(known.mean()))
            return replace(made, features=MEAN, scores=scores, warnings=())
        shares = np.bincount(known.astype(np.int64), minlength=len(made.classes)) / len(known)
        scores = np.tile(shares, (len(made.truth), 1))
        return replace(made, features=MAJORITY, scores=scores, answered=None, warnings=())

    def _unseen(self, train: NDArray[np.int64], test: NDArray[np.int64]) -> int:
        """Count test rows with a class that has no training row."""
        if not self.train.classes:
            return 0
        learned = np.unique(self.train.values[train])
        return int((~np.isin(self.test.values[test], learned)).sum())

    def sides(self, features: str) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows to learn from and rows to test that have the features, one pair per fold.

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
    """Decide which labelled clips are learned from and which are tested.

    Parameters
    ----------
    store : Reader
        The open store.
    label, task, classes
        As in :func:`sleepfm_index.evaluation.labels.labels.read_labels`.
    split : Split
        How subjects are kept apart.
    where : str, optional
        SQL condition for every clip.
    seed : int
        Seed of the folds.

    Raises
    ------
    QueryError
        If a condition or column is unknown, one class only is there to learn from, there are fewer
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
    how: Any = {"task": task, "classes": classes, "include_seen": split.include_seen}
    one = read_labels(store, label, (where, split.train_where), **how)
    two = read_labels(tested, label, (where, split.test_where), **how)
    check_apart(subjects_of(one), subjects_of(two))
    check_classes(one)
    return TrainTest(store, one, tested, _in_terms_of(one, two), None)


def learn(recipe: Recipe, read: Read, labels: Labels, rows: NDArray[np.int64]) -> Probe:
    """Fit a probe to some rows of labelled clips.

    Parameters
    ----------
    recipe : Recipe
        How the probe is fitted.
    read : callable
        Reads the vectors of given rows.
    labels : Labels
        Labels of all rows.
    rows : ndarray of int64, shape [m]
        Rows to learn from.

    Raises
    ------
    QueryError
        If they are of fewer than two classes, or there is no such model.
    """
    kind = probe_kind(recipe.model)
    check_classes(labels.take(rows))
    if len(rows) > recipe.train_clips:
        rng = np.random.default_rng(recipe.seed)
        rows = np.sort(rng.choice(rows, recipe.train_clips, replace=False))
    if recipe.c is None:
        recipe = replace(recipe, c=choose_penalty(recipe, read(rows), labels.take(rows)))
    fitted = kind.fit(read(rows), labels.values[rows], labels.classes, recipe)
    return fitted.with_about({"c": recipe.c})


def choose_penalty(recipe: Recipe, x: NDArray[np.float32], labels: Labels) -> float:
    """Choose the penalty that does best in three inner folds of the subjects to learn from.

    Parameters
    ----------
    recipe : Recipe
        How the probe is fitted.
    x : ndarray of float32, shape [n, d]
        Vectors to learn from.
    labels : Labels
        Of the rows of ``x``.

    Returns
    -------
    float
        One of :data:`~.recipe.PENALTIES`, by the mean AUROC over classes, or the mean absolute
        error, averaged over the folds; of equals the strongest.

    Raises
    ------
    QueryError
        If there are fewer than three subjects to learn from.
    """
    if len(subjects_of(labels)) < _INNER_FOLDS:
        raise QueryError(f"choosing C needs {_INNER_FOLDS} training subjects; set it with -c")
    fold = deal_folds(labels, _INNER_FOLDS, recipe.seed)
    kind = probe_kind(recipe.model)
    gains = []
    for c in PENALTIES:
        found = []
        for part in range(_INNER_FOLDS):
            own, test = fold != part, fold == part
            if labels.classes and len(np.unique(labels.values[own])) < 2:
                continue
            fitted = kind.fit(x[own], labels.values[own], labels.classes, replace(recipe, c=c))
            found.append(_gain(fitted.predict(x[test]), labels.take(test)))
        gains.append(float(np.nanmean(found)) if np.isfinite(found).any() else -np.inf)
    return PENALTIES[int(np.argmax(gains))]


def _gain(scores: NDArray[np.float64], labels: Labels) -> float:
    """Mean AUROC over the classes that have one, or minus the mean absolute error."""
    if not labels.classes:
        return -float(np.abs(scores - labels.values).mean())
    areas = [
        ranking(scores[:, code], labels.values == code, np.zeros(len(labels), np.int64))[0].value
        for code in range(len(labels.classes))
    ]
    known = [area for area in areas if np.isfinite(area)]
    return float(np.mean(known)) if known else float("nan")


def _in_terms_of(one: Labels, two: Labels) -> Labels:
    """Code the labels of the second side by the classes of the first."""
    if one.classes == two.classes:
        return two
    unknown = [c for c in two.classes if c not in one.classes]
    if unknown:
        raise QueryError(
            f"no training examples of {', '.join(unknown)}; every class needs examples"
        )
    place = np.array([one.classes.index(c) for c in two.classes])
    return replace(two, classes=one.classes, values=place[two.values.astype(np.int64)])
