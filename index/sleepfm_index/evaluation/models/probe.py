"""Linear probes on the vectors of a store, tested on subjects they did not learn from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM, Modality
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import has
from sleepfm_index.evaluation.labels.labels import Labels, read_labels
from sleepfm_index.evaluation.labels.splits import (
    check_apart,
    check_classes,
    deal_folds,
    subjects_of,
)
from sleepfm_index.evaluation.metrics.assessment import Assessment, Predictions, assess
from sleepfm_index.evaluation.metrics.bootstrap import REPLICATES
from sleepfm_index.evaluation.models.external_predictions import beside as read_beside
from sleepfm_index.evaluation.models.linear_probe import LinearProbe, fit_classes, fit_number
from sleepfm_index.reader import Reader

ALL: Final = "+".join(Modality)
TRAIN_CLIPS: Final = 200_000
_BLOCK: Final = 32_768

Read = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Vectors of some rows of labelled clips, float32 [m, d]."""


@dataclass(frozen=True)
class Recipe:
    """How a probe is learned.

    Parameters
    ----------
    c : float
        Inverse strength of the L2 penalty.
    seed : int
        Seed of the folds and of the draw of clips.
    train_clips : int
        Learn from at most this many clips, drawn at random, which bounds memory: float32
        [train_clips, 512] for one modality, three times that for all of them.
    """

    c: float = 1.0
    seed: int = 0
    train_clips: int = TRAIN_CLIPS

    def __post_init__(self) -> None:
        if not self.c > 0:
            raise QueryError(f"c is the inverse strength of a penalty, above 0, not {self.c:g}")
        if self.train_clips < 2:
            raise QueryError(f"a probe learns from at least 2 clips, not {self.train_clips}")

    def learn(self, read: Read, labels: Labels, rows: NDArray[np.int64]) -> LinearProbe:
        """Fit a probe to some rows of labelled clips.

        Raises
        ------
        QueryError
            If they are of fewer than two classes.
        """
        check_classes(labels.take(rows))
        if len(rows) > self.train_clips:
            rng = np.random.default_rng(self.seed)
            rows = np.sort(rng.choice(rows, self.train_clips, replace=False))
        x, values = read(rows), labels.values[rows]
        if labels.classes:
            return fit_classes(x, values.astype(np.int64), labels.classes, c=self.c)
        return fit_number(x, values.astype(np.float64), c=self.c)


def probe(
    store: Reader,
    label: str,
    *,
    on: Sequence[str] | None = None,
    where: str | None = None,
    kind: str = "auto",
    classes: Sequence[str] | None = None,
    folds: int = 5,
    train_where: str | None = None,
    test_where: str | None = None,
    test_store: Reader | None = None,
    recipe: Recipe | None = None,
    replicates: int = REPLICATES,
    beside: str | Path | None = None,
) -> Assessment:
    """Measure what a linear probe reads from frozen vectors.

    Without a test condition or store, subjects are dealt into folds, and each fold is predicted by
    a probe of the others; measures are over all these predictions. Vectors are standardised by what
    is learned from. Labels of the subject (age, sex) are measured per clip and per subject, the
    mean of its clips.

    Parameters
    ----------
    label, kind, classes
        As in :func:`sleepfm_index.evaluation.labels.labels.read_labels`.
    on : sequence of str, optional
        Modalities, joined by ``+`` for concatenated vectors; by default each one that clips have,
        and all together.
    where : str, optional
        SQL condition for every clip.
    folds : int
        Folds of subjects.
    train_where, test_where : str, optional
        SQL conditions that split the clips instead of folds.
    test_store : Store, optional
        Test on this store; it must hold vectors of the same weights.
    recipe : Recipe, optional
        How to learn.
    replicates : int
        Resamples of the subjects behind the 95 % intervals.
    beside : path, optional
        Another model's predictions of the same clips, scored in the same table; see
        :func:`sleepfm_index.evaluation.models.external_predictions.beside`.

    Returns
    -------
    Assessment
        As from :func:`sleepfm_index.evaluation.metrics.assessment.assess`.

    Raises
    ------
    QueryError
        If a condition, column or modality is unknown, one class only is there to learn from, there
        are fewer subjects than folds, or a subject is on both sides.
    """
    recipe = recipe or Recipe()
    plan = make_plan(
        store,
        label,
        where=where,
        kind=kind,
        classes=classes,
        folds=folds,
        seed=recipe.seed,
        train_where=train_where,
        test_where=test_where,
        test_store=test_store,
    )
    made: list[Predictions] = []
    for features in on or default_features(store, plan.train):
        predictions = plan.predict(features, recipe)
        asked = [predictions]
        if beside is not None:
            other, predictions = read_beside(beside, predictions, plan.identity)
            asked = [predictions] if made else [other, predictions]
        for one in asked:
            made.append(one)
            if plan.train.per_subject and plan.test.per_subject:
                made.append(one.per_subject())
    note = f"linear probe, {plan.note}; learned from at most {recipe.train_clips:,} clips a fit"
    return assess(made, note, replicates=replicates, seed=recipe.seed)


@dataclass(frozen=True)
class Plan:
    """What is learned from and what is tested: two stores' labelled clips, or folds of one.

    ``fold`` is None for a split by condition or store.
    """

    train_store: Reader
    train: Labels
    test_store: Reader
    test: Labels
    fold: NDArray[np.int64] | None

    @property
    def note(self) -> str:
        """One line: the rule, and how subjects were kept apart."""
        if self.fold is not None:
            return f"{self.train.note}; {int(self.fold.max()) + 1} folds of subjects"
        return (
            f"learned from {len(self.train)} clips of {len(subjects_of(self.train))} subjects, "
            f"tested on {len(self.test)} clips of {len(subjects_of(self.test))} others; "
            f"{self.test.note}"
        )

    @property
    def identity(self) -> str:
        """SHA-256 of what is told apart, and of which clips are learned from and tested when."""
        found = hashlib.sha256(json.dumps([self.train.name, self.train.classes]).encode())
        fold = self.test.clip_ids if self.fold is None else self.fold
        for part in (self.train.clip_ids, self.train.values, fold):
            found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()

    def predict(self, features: str, recipe: Recipe) -> Predictions:
        """Predict every clip to be tested that has the features, by a probe of other subjects.

        Raises
        ------
        QueryError
            If no clip has the features, or one class only is there to learn from.
        """
        warnings: tuple[str, ...] = ()
        parts, new = [], 0
        for train, test in self.sides(features):
            new += self._unseen(train, test)
            read = reader(self.train_store, self.train.clip_ids, features)
            fitted = recipe.learn(read, self.train, train)
            if not fitted.converged:
                warnings = (f"a probe on {features} did not converge",)
            read = reader(self.test_store, self.test.clip_ids, features)
            parts.append((test, predict_rows(fitted, read, test)))
        rows = np.concatenate([test for test, _ in parts])
        if new == len(rows):
            raise QueryError(
                f"no class of {self.train.name} is of subjects on both sides, so nothing can be "
                "learned about those that are tested; name a label that people share"
            )
        if new:
            warnings += (f"{new} tested clips are of a class that their probe had no example of",)
        said = np.concatenate([said for _, said in parts])
        chosen = self.test.take(rows)
        return Predictions(
            features,
            chosen.classes,
            chosen.values,
            said,
            chosen.subjects,
            chosen.clip_ids,
            warnings=warnings,
        )

    def _unseen(self, train: NDArray[np.int64], test: NDArray[np.int64]) -> int:
        """How many rows to test are of a class that no row to learn from has."""
        if not self.train.classes:
            return 0
        learned = np.unique(self.train.values[train])
        return int((~np.isin(self.test.values[test], learned)).sum())

    def sides(self, features: str) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows to learn from and rows to test that have the features, one pair a fold."""
        train_has = _having(self.train_store, self.train, features)
        test_has = _having(self.test_store, self.test, features)
        if not train_has.any() or not test_has.any():
            raise QueryError(f"no labelled clip has {features} on both sides of the split")
        if self.fold is None:
            yield np.flatnonzero(train_has), np.flatnonzero(test_has)
            return
        for fold in range(int(self.fold.max()) + 1):
            test = np.flatnonzero(test_has & (self.fold == fold))
            if len(test):
                yield np.flatnonzero(train_has & (self.fold != fold)), test


def make_plan(
    store: Reader,
    label: str,
    *,
    where: str | None = None,
    kind: str = "auto",
    classes: Sequence[str] | None = None,
    folds: int = 5,
    seed: int = 0,
    train_where: str | None = None,
    test_where: str | None = None,
    test_store: Reader | None = None,
) -> Plan:
    """Decide which labelled clips are learned from and which are tested; see :func:`probe`."""
    if test_where is None and test_store is None:
        if train_where is not None:
            raise QueryError("--train-where needs --test-where or --test-store beside it")
        labels = read_labels(store, label, where, kind=kind, classes=classes)
        check_classes(labels)
        return Plan(store, labels, store, labels, deal_folds(labels, folds, seed))
    tested = test_store or store
    if tested.manifest.weights.sha256 != store.manifest.weights.sha256:
        raise QueryError(
            "the two stores hold vectors of different weights, which cannot be compared; build "
            "the test store with the weights " + store.manifest.weights.name
        )
    one = read_labels(store, label, (where, train_where), kind=kind, classes=classes)
    two = read_labels(tested, label, (where, test_where), kind=kind, classes=classes)
    check_apart(subjects_of(one), subjects_of(two))
    check_classes(one)
    return Plan(store, one, tested, _in_terms_of(one, two), None)


def default_features(store: Reader, labels: Labels) -> list[str]:
    """Every modality that labelled clips have, and all of them together."""
    there = [str(m) for m in Modality if has(store, labels.clip_ids, str(m)).any()]
    together = "+".join(there)
    if len(there) > 1 and _having(store, labels, together).any():
        there.append(together)
    if not there:
        raise QueryError(f"no clip with a label for {labels.name} has a vector")
    return there


def reader(store: Reader, clip_ids: NDArray[np.int64], features: str) -> Read:
    """Read vectors by row of ``clip_ids``, float32 [m, 512 per modality], side by side."""
    parts = check_features(features)

    def read(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        x = np.empty((len(rows), EMBEDDING_DIM * len(parts)), np.float32)
        for at, modality in enumerate(parts):
            columns = slice(at * EMBEDDING_DIM, (at + 1) * EMBEDDING_DIM)
            for start in range(0, len(rows), _BLOCK):
                block = slice(start, start + _BLOCK)
                ids = clip_ids[rows[block]]
                x[block, columns] = store.vectors.of(ids, str(modality))[0]
        return x

    return read


def check_features(features: str) -> list[Modality]:
    """Modalities of ``bas``, ``bas+ecg`` and the like.

    Raises
    ------
    QueryError
        If one is unknown or named twice.
    """
    names = features.split("+")
    known = [m.value for m in Modality]
    if any(n not in known for n in names) or len(set(names)) < len(names):
        raise QueryError(f"no features {features!r}; join some of {', '.join(known)} by +")
    return [Modality(n) for n in names]


def predict_rows(fitted: LinearProbe, read: Read, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Predict rows block by block, so that memory does not grow with the store."""
    blocks = [rows[at : at + _BLOCK] for at in range(0, len(rows), _BLOCK)]
    return np.concatenate([fitted.predict(read(block)) for block in blocks])


def fit_probe(
    store: Reader,
    label: str,
    features: str,
    *,
    where: str | None = None,
    kind: str = "auto",
    classes: Sequence[str] | None = None,
    recipe: Recipe | None = None,
) -> LinearProbe:
    """Fit one probe to all labelled clips, to be saved and used on other recordings.

    Raises
    ------
    QueryError
        As :func:`probe`.
    """
    recipe = recipe or Recipe()
    labels = read_labels(store, label, where, kind=kind, classes=classes)
    rows = np.flatnonzero(_having(store, labels, features))
    if not len(rows):
        raise QueryError(f"no labelled clip has {features}")
    fitted = recipe.learn(reader(store, labels.clip_ids, features), labels, rows)
    about: dict[str, Any] = {
        "label": label,
        "rule": labels.rule,
        "features": features,
        "weights": store.manifest.weights.name,
        "weights_sha256": store.manifest.weights.sha256,
        "contract_sha256": store.manifest.contract.sha256,
        "clips": min(len(rows), recipe.train_clips),
        "subjects": len(np.unique(labels.subjects[rows])),
        "c": recipe.c,
        "seed": recipe.seed,
    }
    return replace(fitted, about=about)


def _having(store: Reader, labels: Labels, features: str) -> NDArray[np.bool_]:
    present = [has(store, labels.clip_ids, str(m)) for m in check_features(features)]
    return np.asarray(np.logical_and.reduce(present), bool)


def _in_terms_of(one: Labels, two: Labels) -> Labels:
    """Code the labels of the second side by the classes of the first."""
    if one.classes == two.classes:
        return two
    unknown = [c for c in two.classes if c not in one.classes]
    if unknown:
        raise QueryError(f"nothing to learn {', '.join(unknown)} from; every class needs examples")
    place = np.array([one.classes.index(c) for c in two.classes])
    return replace(two, classes=one.classes, values=place[two.values.astype(np.int64)])
