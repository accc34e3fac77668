"""Probes on the vectors of a store, tested on subjects that are not in the training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, codes
from sleepfm_index.evaluation.labels.labels import read_labels
from sleepfm_index.evaluation.labels.splits import Split
from sleepfm_index.evaluation.metrics.assessment import Assessment, Predictions, assess, at_levels
from sleepfm_index.evaluation.metrics.differences import differences
from sleepfm_index.evaluation.models.baseline_features import PLAIN, BaselineFeatures
from sleepfm_index.evaluation.models.external_predictions import read_external
from sleepfm_index.evaluation.models.features import (
    default_features,
    feature_list,
    feature_reader,
    have_features,
)
from sleepfm_index.evaluation.models.probe_kinds import Probe
from sleepfm_index.evaluation.models.recipe import Recipe
from sleepfm_index.evaluation.models.stage_transitions import Transitions, smoothed
from sleepfm_index.evaluation.models.train_test import divide, learn
from sleepfm_index.evaluation.models.two_stores import AGAINST, on_shared_clips
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
    against: Reader | None = None,
    by: str | None = None,
    baselines: BaselineFeatures | None = None,
    smooth: bool = False,
) -> Assessment:
    """Measure how well a probe predicts a label from frozen vectors.

    Without a test condition or store, subjects are assigned to folds, and each fold is predicted by
    a probe trained on the others; measures are over all predictions. Labels of the subject (age,
    sex) are measured per clip and per subject, by the mean prediction over its clips.

    Parameters
    ----------
    store : Reader
        The open store.
    label, task, classes
        As in :func:`sleepfm_index.evaluation.labels.labels.read_labels`.
    on : str or sequence of str, optional
        Modalities, joined by ``+`` for concatenated vectors; by default each modality of the clips,
        and all of them concatenated.
    where : str, optional
        SQL condition for every clip.
    split : Split, optional
        Division of the subjects; by default five folds.
    recipe : Recipe, optional
        Settings of the probe.
    compare_with : path, optional
        File with predictions of another model, added to the table; see
        :func:`sleepfm_index.evaluation.models.external_predictions.read_external`.
    against : Reader, optional
        Another store of the same recordings, e.g. with other weights. Both are measured with the
        same labels and folds on the clips that both have, with paired differences.
    by : str, optional
        Column of ``clips``; the table gets additional rows for the test clips of each value.
    baselines : BaselineFeatures, optional
        Baseline features to probe on the same clips, with the same recipe (plain features are
        always standardised) and paired differences. This reads the recordings.
    smooth : bool
        Whether to smooth the predicted stages of each night by transitions as well
        (:mod:`.stage_transitions`), with the paired difference smoothed minus unsmoothed.

    Returns
    -------
    Assessment
        Table of :func:`sleepfm_index.evaluation.metrics.assessment.assess`; with
        ``compare_with`` or ``against``, also with paired differences, the probe minus the other.

    Raises
    ------
    QueryError
        If a condition, column or modality is unknown, the training clips have one class only, there
        are fewer subjects than folds, or a subject is on both sides.
    """
    recipe, split = recipe or Recipe(), split or Split()
    if against is not None and compare_with is not None:
        raise QueryError("compare with a file or against a store, one at a time")
    if against is not None and (baselines is not None or smooth):
        raise QueryError("baselines and smoothing apply to one store; omit the other one")
    if smooth and not _can_smooth(label, recipe):
        raise QueryError(
            "smoothing is for the label stage and the linear probe, whose classes are balanced"
        )
    sides = divide(store, label, split, where=where, task=task, classes=classes, seed=recipe.seed)
    all_predictions: list[Predictions] = []
    pairs: list[tuple[Predictions, Predictions]] = []
    note = sides.note
    feature_names = default_features(store, sides.train) if on is None else feature_list(on)
    for features in feature_names:
        if against is not None:
            own_sides, other_sides = on_shared_clips(
                sides, against, features, include_seen=split.include_seen
            )
            note = own_sides.note
            predictions, other = (
                own_sides.predict(features, recipe),
                other_sides.predict(features, recipe),
            )
            other = replace(other, features=features + AGAINST, clip_ids=predictions.clip_ids)
            pairs.append((predictions, other))
            all_predictions.append(predictions)
            predictions = other
        else:
            predictions = sides.predict(features, recipe)
        if compare_with is not None:
            other, predictions = read_external(compare_with, predictions, sides.identity)
            pairs.append((predictions, other))
            all_predictions += [] if all_predictions else [other]
        all_predictions.append(predictions)
        if smooth:
            smoothed_predictions = smoothed(sides, predictions)
            pairs.append((smoothed_predictions, predictions))
            all_predictions.append(smoothed_predictions)
        if baselines is None:
            continue
        for kind in baselines.kinds:
            other = sides.predict(
                features,
                replace(recipe, standardise=recipe.standardise or kind == PLAIN),
                reader=baselines.reader(kind),
                name=f"{kind} {features}",
            )
            other = _in_order(other, predictions.clip_ids)
            pairs.append((predictions, other))
            all_predictions.append(other)
    levels = [Predictions.per_subject] if sides.of_subjects else []
    baseline = sides.baseline(all_predictions[0])
    groups = [] if by is None else split_by(sides.test_store, all_predictions, by)
    limit = f"learned from at most {recipe.train_clips:,} clips per fit"
    if baselines is not None:
        note += f"; {baselines.note(store.manifest.contract)}"
    result = assess(
        at_levels([*all_predictions, *groups], levels),
        f"{recipe.model} probe, {note}; {limit}",
        at_levels([baseline], levels),
    )
    if not pairs:
        return result
    pairs += [(level(a), level(b)) for a, b in pairs for level in levels]
    return replace(result, differences=differences(pairs))


def _can_smooth(label: str, recipe: Recipe) -> bool:
    return label == "stage" and recipe.model == "linear"


def _in_order(predictions: Predictions, clip_ids: NDArray[np.int64]) -> Predictions:
    """Predictions of given clips, in their order."""
    order = np.argsort(predictions.clip_ids)
    return predictions.take(order[np.searchsorted(predictions.clip_ids[order], clip_ids)])


def split_by(store: Reader, predictions: Sequence[Predictions], by: str) -> list[Predictions]:
    """Divide predictions by the values of a column of ``clips``; clips without a value are dropped.

    Parameters
    ----------
    store : Reader
        The open store.
    predictions : sequence of Predictions
        Predictions to divide.
    by : str
        Name of the column.

    Raises
    ------
    QueryError
        If the column does not exist.
    """
    parts = []
    for of_model in predictions:
        code, values = codes(clip_columns(store, of_model.clip_ids, [by])[by])
        parts += [
            replace(of_model.take(code == i), group=str(value), warnings=())
            for i, value in enumerate(values)
            if (code == i).any()
        ]
    return parts


def fit_probe(
    store: Reader,
    label: str,
    features: str,
    *,
    where: str | None = None,
    task: str = "auto",
    classes: Sequence[str] | None = None,
    recipe: Recipe | None = None,
    include_seen: bool = False,
) -> Probe:
    """Fit one probe to all labelled clips, for use on other recordings.

    The training record of a linear probe of the stage has the stage transitions in these
    recordings, for smoothing (:mod:`.stage_transitions`).

    Parameters
    ----------
    store : Reader
        The open store.
    label, where, task, classes, recipe
        As in :func:`probe`.
    features : str
        Modalities, joined by ``+``.
    include_seen : bool
        Whether to train on subjects of the weights' training data as well.

    Raises
    ------
    QueryError
        As in :func:`probe`.
    """
    recipe = recipe or Recipe()
    labels = read_labels(store, label, where, task=task, classes=classes, include_seen=include_seen)
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
        "c": fitted.about["c"],
        "seed": recipe.seed,
    }
    if _can_smooth(label, recipe):
        about |= Transitions.of_labels(store, labels).record
    return fitted.with_about(about)
