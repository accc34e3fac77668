"""Probes on the vectors of a store, tested on subjects they did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.labels import read_labels
from sleepfm_index.evaluation.labels.splits import Split
from sleepfm_index.evaluation.metrics.assessment import Assessment, Predictions, assess
from sleepfm_index.evaluation.models.external_predictions import read_external
from sleepfm_index.evaluation.models.features import (
    default_features,
    feature_list,
    feature_reader,
    have_features,
)
from sleepfm_index.evaluation.models.probe_kinds import Probe
from sleepfm_index.evaluation.models.recipe import Recipe
from sleepfm_index.evaluation.models.train_test import divide, learn
from sleepfm_index.reader import Reader


def probe(
    store: Reader,
    label: str,
    *,
    on: str | Sequence[str] | None = None,
    where: str | None = None,
    task: str = "auto",
    classes: Sequence[str] | None = None,
    split: Split | None = None,
    recipe: Recipe | None = None,
    compare_with: str | Path | None = None,
) -> Assessment:
    """Measure what a probe reads from frozen vectors.

    Without a test condition or store, subjects are dealt into folds, and each fold is predicted by
    a probe of the others; measures are over all these predictions. Labels of the subject (age, sex)
    are measured per clip and per subject, the mean of its clips.

    Parameters
    ----------
    label, task, classes
        As in :func:`sleepfm_index.evaluation.labels.labels.read_labels`.
    on : str or sequence of str, optional
        Modalities, joined by ``+`` for concatenated vectors; by default each one that clips have,
        and all together.
    where : str, optional
        SQL condition for every clip.
    split : Split, optional
        How subjects are kept apart; by default five folds.
    recipe : Recipe, optional
        How to learn.
    compare_with : path, optional
        Another model's predictions of the same clips, scored in the same table; see
        :func:`sleepfm_index.evaluation.models.external_predictions.read_external`.

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
    sides = divide(
        store, label, split or Split(), where=where, task=task, classes=classes, seed=recipe.seed
    )
    made: list[Predictions] = []
    chosen = default_features(store, sides.train) if on is None else feature_list(on)
    for features in chosen:
        predictions = sides.predict(features, recipe)
        rows = [predictions]
        if compare_with is not None:
            other, predictions = read_external(compare_with, predictions, sides.identity)
            rows = [predictions] if made else [other, predictions]
        for one in rows:
            made.append(one)
            if sides.train.per_subject and sides.test.per_subject:
                made.append(one.per_subject())
    most = f"learned from at most {recipe.train_clips:,} clips per fit"
    return assess(made, f"{recipe.model} probe, {sides.note}; {most}")


def fit_probe(
    store: Reader,
    label: str,
    features: str,
    *,
    where: str | None = None,
    task: str = "auto",
    classes: Sequence[str] | None = None,
    recipe: Recipe | None = None,
) -> Probe:
    """Fit one probe to all labelled clips, to be saved and used on other recordings.

    Parameters
    ----------
    label, where, task, classes, recipe
        As in :func:`probe`.
    features : str
        Modalities, joined by ``+``.

    Raises
    ------
    QueryError
        As :func:`probe`.
    """
    recipe = recipe or Recipe()
    labels = read_labels(store, label, where, task=task, classes=classes)
    rows = np.flatnonzero(have_features(store, labels, features))
    if not len(rows):
        raise QueryError(f"no labelled clip has {features}")
    fitted = learn(recipe, feature_reader(store, labels.clip_ids, features), labels, rows)
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
    return fitted.with_about(about)
