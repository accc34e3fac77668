"""Tables of measures of predictions, with 95 % intervals over subjects."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.evaluation.metrics import intervals
from sleepfm_index.evaluation.metrics.estimates import (
    Estimate,
    average,
    calibration_error,
    confusion,
    confusion_measures,
    correlation,
    mean,
    ranking,
    subject_sums,
)
from sleepfm_index.evaluation.metrics.intervals import FEWEST, Interval, too_few
from sleepfm_index.results import Result

MACRO: Final = "macro"
"""Row with the mean over the classes that have a test example."""

Floats = NDArray[np.float64]
Row = dict[str, object]
Measured = dict[str, tuple[Estimate, Interval]]
"""Measures of one row, each with its interval."""
_ON_MACRO: Final = ("accuracy", "kappa", "calibration_error")


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model for test clips (or subjects).

    Parameters
    ----------
    features : str
        Input of the model, e.g. ``bas`` or ``bas+ecg+resp``.
    classes : tuple of str
        Names of the classes; empty for a regression.
    truth : ndarray of int64 (class codes) or float64, shape [n]
        True labels.
    scores : ndarray of float64, shape [n, classes] (probabilities) or [n] (numbers)
        Predictions.
    subjects : ndarray of int64, shape [n]
        Codes of the subjects.
    clip_ids : ndarray of int64, shape [n]
        Clip ids; empty for predictions per subject.
    level : {"clip", "subject"}
        Unit of the predictions.
    answered : ndarray of bool, shape [n], optional
        False where the model abstained; the confusion matrix excludes these clips.
    warnings : tuple of str
        Warnings, e.g. that a fit did not converge.
    group : str, optional
        Group of the test clips, e.g. ``N2``; None for all.
    folds : ndarray of int64, shape [n], optional
        Test fold of each clip; None if one model predicted all.
    label : str
        Name of the label.
    """

    features: str
    classes: tuple[str, ...]
    truth: NDArray[np.int64] | Floats
    scores: Floats
    subjects: NDArray[np.int64]
    clip_ids: NDArray[np.int64]
    level: str = "clip"
    answered: NDArray[np.bool_] | None = None
    warnings: tuple[str, ...] = ()
    group: str | None = None
    folds: NDArray[np.int64] | None = None
    label: str = ""

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Predictions:
        """Return the predictions of a subset of the clips.

        Parameters
        ----------
        rows : ndarray of int64 or bool
            Row numbers, or a mask of the rows.
        """
        return replace(
            self,
            truth=self.truth[rows],
            scores=self.scores[rows],
            subjects=self.subjects[rows],
            clip_ids=self.clip_ids[rows],
            answered=None if self.answered is None else self.answered[rows],
            folds=None if self.folds is None else self.folds[rows],
        )

    def per_subject(self) -> Predictions:
        """Mean predictions of the clips of each subject."""
        present, code = np.unique(self.subjects, return_inverse=True)
        clips = np.bincount(code)
        sums = subject_sums(self.scores, code)
        mean_scores = sums / (clips if sums.ndim == 1 else clips[:, None])
        _, first = np.unique(code, return_index=True)
        return replace(
            self,
            truth=self.truth[first],
            scores=mean_scores,
            subjects=np.arange(len(present)),
            clip_ids=np.empty(0, np.int64),
            level="subject",
            answered=None,
            folds=None if self.folds is None else self.folds[first],
        )

    def confusion(self) -> NDArray[np.int64]:
        """Count the answered clips by true and predicted class, int64 [classes, classes]."""
        chosen = slice(None) if self.answered is None else self.answered
        predicted = self.scores.argmax(axis=1)
        return confusion(self.truth.astype(np.int64)[chosen], predicted[chosen], len(self.classes))


@dataclass(frozen=True, repr=False)
class Assessment(Result):
    """A table of measures, with its predictions and paired differences.

    Parameters
    ----------
    predictions : dict
        Predictions by (features, level), without baselines and groups.
    differences : pyarrow.Table, optional
        Paired differences to another model; see
        :func:`~sleepfm_index.evaluation.metrics.differences.differences`.
    """

    predictions: Mapping[tuple[str, str], Predictions] = field(default_factory=dict)
    differences: pa.Table | None = None


Level = Callable[[Predictions], Predictions]


def at_levels(predictions: Sequence[Predictions], levels: Sequence[Level]) -> list[Predictions]:
    """Return predictions, each followed by its aggregates at other levels, e.g. per subject.

    Parameters
    ----------
    predictions : sequence of Predictions
        Predictions per clip.
    levels : sequence of Level
        Functions that aggregate predictions, e.g. per subject.
    """
    return [p for clips in predictions for p in (clips, *(level(clips) for level in levels))]


def assess(
    predictions: Sequence[Predictions], note: str, baselines: Sequence[Predictions] = ()
) -> Assessment:
    """Combine predictions in one table.

    Parameters
    ----------
    predictions : sequence of Predictions
        Predictions, each of which gives one row, or for classes one per class and a macro row.
    note : str
        Description of the predictions, to which warnings are added.
    baselines : sequence of Predictions
        Baselines for comparison, whose rows come last.

    Returns
    -------
    Assessment
        For classes, one ``macro`` row (means over the classes with a test example) and one row per
        class: features, group (null for all clips), level, class, auroc, auprc, auroc_per_fold
        (mean AUROC within the folds; auroc pools their scores, which differ in scale), f1,
        accuracy, kappa, calibration_error, each with ``_low`` and ``_high``; clips (test examples),
        share, subjects, answered. For a regression: mae and r.
    """
    rows, absent, warnings = [], [], []
    for of_model in (*predictions, *baselines):
        new = class_rows(of_model) if of_model.classes else [number_row(of_model)]
        if of_model.group is None:
            absent += [str(r["class"]) for r in new if not r["clips"] and r["class"] not in absent]
        warnings += [w for w in of_model.warnings if w not in warnings]
        rows += new
    if absent:
        warnings.append(f"no test example of {', '.join(absent)}, excluded from means")
    warnings += small_sample(predictions)
    return Assessment(
        pa.Table.from_pylist(rows),
        "; ".join([note, *warnings]),
        {(p.features, p.level): p for p in predictions if p.group is None},
    )


def small_sample(predictions: Sequence[Predictions]) -> list[str]:
    """Report too few subjects for an interval or a class.

    Parameters
    ----------
    predictions : sequence of Predictions
        The predictions.
    """
    ungrouped = [p for p in predictions if p.group is None]
    few_people = too_few(min(len(np.unique(p.subjects)) for p in ungrouped))
    if few_people is not None:
        return [few_people]
    few_subjects: dict[str, int] = {}
    for of_model in ungrouped:
        for code, name in enumerate(of_model.classes):
            holders = len(np.unique(of_model.subjects[of_model.truth == code]))
            if 0 < holders < FEWEST:
                few_subjects[name] = min(holders, few_subjects.get(name, holders))
    if not few_subjects:
        return []
    counts = ", ".join(f"{name} ({n})" for name, n in few_subjects.items())
    return [f"few subjects of a class: {counts}; interpret its row with caution"]


def class_rows(predictions: Predictions) -> list[Row]:
    """Rows of a classifier: the macro row, then one per class.

    Parameters
    ----------
    predictions : Predictions
        Predictions of a classifier.
    """
    per_class, macro = measure_classes(predictions)
    truth = predictions.truth.astype(np.int64)
    shared = {name: getattr(predictions, name) for name in ("features", "group", "level")}
    answered = 1.0 if predictions.answered is None else float(predictions.answered.mean())
    by_fold = auroc_by_fold(predictions)
    rows: list[Row] = [
        {
            **shared,
            "class": MACRO,
            **_entries(macro),
            "auroc_per_fold": _mean_of(by_fold),
            "clips": len(truth),
            "share": 1.0,
            "subjects": len(np.unique(predictions.subjects)),
            "answered": answered,
        }
    ]
    for code, name in enumerate(predictions.classes):
        of_class = truth == code
        rows.append(
            {
                **shared,
                "class": name,
                **_entries(per_class[code]),
                **{f"{k}{end}": None for k in _ON_MACRO for end in ("", "_low", "_high")},
                "auroc_per_fold": _mean_of(by_fold[:, code : code + 1]),
                "clips": int(of_class.sum()),
                "share": float(of_class.mean()),
                "subjects": len(np.unique(predictions.subjects[of_class])),
                "answered": None,
            }
        )
    return rows


def auroc_by_fold(predictions: Predictions) -> Floats:
    """AUROC of each class within each fold, float64 [folds, classes].

    Parameters
    ----------
    predictions : Predictions
        Predictions of a classifier.

    Returns
    -------
    ndarray of float64
        NaN if all or none of a fold's clips are of the class; no rows without folds.
    """
    if predictions.folds is None:
        return np.empty((0, len(predictions.classes)))
    rows = []
    for fold in np.unique(predictions.folds):
        in_fold = predictions.folds == fold
        one_subject = np.zeros(int(in_fold.sum()), np.int64)
        rows.append(
            [
                ranking(
                    predictions.scores[in_fold, code],
                    predictions.truth[in_fold] == code,
                    one_subject,
                )[0].value
                for code in range(len(predictions.classes))
            ]
        )
    return np.array(rows)


def measure_classes(predictions: Predictions) -> tuple[list[Measured], Measured]:
    """Measure a classifier.

    Parameters
    ----------
    predictions : Predictions
        Predictions of a classifier.

    Returns
    -------
    per_class : list of dict
        auroc, auprc and f1 of each class, each an estimate and its interval.
    macro : dict
        Means of these over the classes with a test example, and accuracy, kappa, calibration_error.
    """
    truth = predictions.truth.astype(np.int64)
    present, subjects = np.unique(predictions.subjects, return_inverse=True)
    people, classes = len(present), len(predictions.classes)
    answered = np.ones(len(truth), bool) if predictions.answered is None else predictions.answered
    predicted = predictions.scores.argmax(axis=1)
    cell = (subjects * classes + truth) * classes + predicted
    counted = np.bincount(cell[answered], minlength=people * classes**2)
    matrices = counted.reshape(-1, classes, classes).astype(np.float64)
    accuracy, kappa, f1 = confusion_measures(matrices)
    total = matrices.sum(axis=0)
    n = float(total.sum())
    chance = float((total.sum(axis=0) * total.sum(axis=1)).sum() / n**2) if n else math.nan
    calibration = calibration_error(predictions.scores.max(axis=1), predicted == truth, subjects)
    per_class = [
        _one_class(predictions.scores[:, code], truth == code, subjects)
        | {"f1": (f1[code], intervals.proportion(f1[code]))}
        for code in range(classes)
    ]
    present_classes = [measures for code, measures in enumerate(per_class) if code in truth]
    macro: Measured = {}
    for name in ("auroc", "auprc", "f1"):
        estimates = [measures[name] for measures in present_classes]
        parts, spans = [part for part, _ in estimates], [span for _, span in estimates]
        macro[name] = average(parts), intervals.macro(parts, spans)
    floor = accuracy.value * (1 - accuracy.value) / n if n else 0.0
    macro["accuracy"] = accuracy, intervals.proportion(accuracy, floor)
    macro["kappa"] = kappa, intervals.kappa(kappa, chance)
    macro["calibration_error"] = calibration, intervals.proportion(calibration)
    return per_class, macro


def number_row(predictions: Predictions) -> Row:
    """Row of a regression.

    Parameters
    ----------
    predictions : Predictions
        Predictions of a regression.
    """
    return {
        "features": predictions.features,
        "group": predictions.group,
        "level": predictions.level,
        "class": None,
        **_entries(measure_number(predictions)),
        "clips": len(predictions.truth),
        "subjects": len(np.unique(predictions.subjects)),
    }


def measure_number(predictions: Predictions) -> Measured:
    """Measure a regression: mae, in the label's unit, and r.

    Parameters
    ----------
    predictions : Predictions
        Predictions of a regression.
    """
    _, subjects = np.unique(predictions.subjects, return_inverse=True)
    error = mean(np.abs(predictions.truth - predictions.scores), subjects)
    r = correlation(predictions.truth.astype(np.float64), predictions.scores, subjects)
    return {"mae": (error, intervals.positive(error)), "r": (r, intervals.correlation(r))}


def _mean_of(by_fold: Floats) -> float | None:
    """Mean over the folds of the means over their classes; None if all are NaN."""
    folds = [row[np.isfinite(row)].mean() for row in by_fold if np.isfinite(row).any()]
    return float(np.mean(folds)) if folds else None


def _one_class(score: Floats, positive: NDArray[np.bool_], subjects: NDArray[np.int64]) -> Measured:
    area, precision = ranking(score, positive, subjects)
    counts = int(positive.sum()), int((~positive).sum())
    holders = len(np.unique(subjects[positive])), len(np.unique(subjects[~positive]))
    return {
        "auroc": (area, intervals.auroc(area, counts, holders)),
        "auprc": (precision, intervals.auprc(precision, float(positive.mean()), holders)),
    }


def _entries(measured: Measured) -> dict[str, float | None]:
    """Estimate and interval of each measure; None for NaN."""
    entries: dict[str, float | None] = {}
    for name, (estimate, (low, high)) in measured.items():
        for key, value in ((name, estimate.value), (f"{name}_low", low), (f"{name}_high", high)):
            entries[key] = float(value) if np.isfinite(value) else None
    return entries
