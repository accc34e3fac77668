"""Predictions become a table: each measure with its 95 % interval over subjects."""

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
        What it was given, e.g. ``bas`` or ``bas+ecg+resp``.
    classes : tuple of str
        Empty for a regression.
    truth : ndarray of int64 (class codes) or float64, shape [n]
    scores : ndarray of float64, shape [n, classes] (probabilities) or [n] (numbers)
    subjects : ndarray of int64, shape [n]
        Codes of the subjects.
    clip_ids : ndarray of int64, shape [n]
        Empty for predictions per subject.
    level : {"clip", "subject"}
    answered : ndarray of bool, shape [n], optional
        False where the model abstained; such clips count in no confusion matrix.
    warnings : tuple of str
        E.g. that a fit did not converge.
    group : str, optional
        Which part of the tested clips they are of, e.g. ``N2``.
    folds : ndarray of int64, shape [n], optional
        Fold by whose model each was predicted; None where one model predicted all.
    label : str
        Name of what is predicted.
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
        """Return the predictions of some clips.

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
        """Mean of the clips of each subject."""
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
        """Clips by true and predicted class, those abstained from left out."""
        chosen = slice(None) if self.answered is None else self.answered
        predicted = self.scores.argmax(axis=1)
        return confusion(self.truth.astype(np.int64)[chosen], predicted[chosen], len(self.classes))


@dataclass(frozen=True, repr=False)
class Assessment(Result):
    """A table of measures, the predictions behind it, and how two models differ.

    Parameters
    ----------
    predictions : dict
        By (features, level); neither baselines nor groups.
    differences : pyarrow.Table, optional
        Paired differences from another model; see
        :func:`~sleepfm_index.evaluation.metrics.differences.differences`.
    """

    predictions: Mapping[tuple[str, str], Predictions] = field(default_factory=dict)
    differences: pa.Table | None = None


Level = Callable[[Predictions], Predictions]


def at_levels(made: Sequence[Predictions], levels: Sequence[Level]) -> list[Predictions]:
    """Return each of some predictions, followed by itself at other levels, e.g. per subject.

    Parameters
    ----------
    made : sequence of Predictions
        Predictions per clip.
    levels : sequence of Level
        Functions that aggregate predictions, e.g. per subject.
    """
    return [part for one in made for part in (one, *(level(one) for level in levels))]


def assess(
    predictions: Sequence[Predictions], note: str, baselines: Sequence[Predictions] = ()
) -> Assessment:
    """Combine predictions in one table.

    Parameters
    ----------
    predictions : sequence of Predictions
        Each gives one row, or for classes one per class and a macro row.
    note : str
        How they were made; what the table cannot show is added to it.
    baselines : sequence of Predictions
        What the others are to be judged by; their rows are the last.

    Returns
    -------
    Assessment
        For classes, one ``macro`` row and one row per class: features, group (null for all clips),
        level, class, auroc, auprc,
        auroc_per_fold (the mean over the folds of the AUROC within each, macro over its classes;
        null without folds: auroc pools the scores of all folds, whose models differ in scale),
        f1 (on the macro row the means over the classes that have a test example), accuracy, kappa,
        calibration_error (macro row), each with ``_low`` and ``_high``; clips (test examples),
        share, subjects, answered. For a regression: mae and r. A class without a test example has a
        row without measures, and the note names it.
    """
    rows, absent, warnings = [], [], []
    for made in (*predictions, *baselines):
        own = class_rows(made) if made.classes else [number_row(made)]
        if made.group is None:
            absent += [str(r["class"]) for r in own if not r["clips"] and r["class"] not in absent]
        warnings += [w for w in made.warnings if w not in warnings]
        rows += own
    if absent:
        warnings.append(f"no test example of {', '.join(absent)}, excluded from means")
    warnings += small_sample(predictions)
    return Assessment(
        pa.Table.from_pylist(rows),
        "; ".join([note, *warnings]),
        {(made.features, made.level): made for made in predictions if made.group is None},
    )


def small_sample(predictions: Sequence[Predictions]) -> list[str]:
    """Report too few subjects for an interval or a class.

    Parameters
    ----------
    predictions : sequence of Predictions
        The predictions.
    """
    few_people = too_few(
        min(len(np.unique(made.subjects)) for made in predictions if made.group is None)
    )
    if few_people is not None:
        return [few_people]
    few: dict[str, int] = {}
    for made in (made for made in predictions if made.group is None):
        for code, name in enumerate(made.classes):
            holders = len(np.unique(made.subjects[made.truth == code]))
            if 0 < holders < FEWEST:
                few[name] = min(holders, few.get(name, holders))
    if not few:
        return []
    counts = ", ".join(f"{name} ({n})" for name, n in few.items())
    return [f"few subjects of a class: {counts}; interpret its row with caution"]


def class_rows(made: Predictions) -> list[Row]:
    """Rows of a classifier: the macro row, then one per class.

    Parameters
    ----------
    made : Predictions
        Predictions of a classifier.
    """
    per_class, whole = measure_classes(made)
    truth = made.truth.astype(np.int64)
    shared = {"features": made.features, "group": made.group, "level": made.level}
    answered = 1.0 if made.answered is None else float(made.answered.mean())
    by_fold = auroc_by_fold(made)
    rows: list[Row] = [
        {
            **shared,
            "class": MACRO,
            **_entries(whole),
            "auroc_per_fold": _mean_of(by_fold),
            "clips": len(truth),
            "share": 1.0,
            "subjects": len(np.unique(made.subjects)),
            "answered": answered,
        }
    ]
    for code, name in enumerate(made.classes):
        own = truth == code
        rows.append(
            {
                **shared,
                "class": name,
                **_entries(per_class[code]),
                **{f"{k}{end}": None for k in _ON_MACRO for end in ("", "_low", "_high")},
                "auroc_per_fold": _mean_of(by_fold[:, code : code + 1]),
                "clips": int(own.sum()),
                "share": float(own.mean()),
                "subjects": len(np.unique(made.subjects[own])),
                "answered": None,
            }
        )
    return rows


def auroc_by_fold(made: Predictions) -> Floats:
    """AUROC of each class within each fold, float64 [folds, classes].

    Parameters
    ----------
    made : Predictions
        Predictions of a classifier.

    Returns
    -------
    ndarray of float64
        NaN where a fold has no example of the class, or nothing else; no row without folds.
    """
    if made.folds is None:
        return np.empty((0, len(made.classes)))
    rows = []
    for fold in np.unique(made.folds):
        own = made.folds == fold
        nobody = np.zeros(int(own.sum()), np.int64)
        rows.append(
            [
                ranking(made.scores[own, code], made.truth[own] == code, nobody)[0].value
                for code in range(len(made.classes))
            ]
        )
    return np.array(rows)


def measure_classes(made: Predictions) -> tuple[list[Measured], Measured]:
    """Measure a classifier.

    Parameters
    ----------
    made : Predictions
        Predictions of a classifier.

    Returns
    -------
    per_class : list of dict
        By class: auroc, auprc, f1, each an estimate and its interval.
    macro : dict
        Their means over the classes with a test example, and accuracy, kappa, calibration_error.
    """
    truth = made.truth.astype(np.int64)
    present, subjects = np.unique(made.subjects, return_inverse=True)
    people, classes = len(present), len(made.classes)
    chosen = np.ones(len(truth), bool) if made.answered is None else made.answered
    predicted = made.scores.argmax(axis=1)
    cell = (subjects * classes + truth) * classes + predicted
    counted = np.bincount(cell[chosen], minlength=people * classes**2)
    matrices = counted.reshape(-1, classes, classes).astype(np.float64)
    accuracy, kappa, f1 = confusion_measures(matrices)
    total = matrices.sum(axis=0)
    n = float(total.sum())
    chance = float((total.sum(axis=0) * total.sum(axis=1)).sum() / n**2) if n else math.nan
    right = predicted == truth
    calibration = calibration_error(made.scores.max(axis=1), right, subjects)
    per_class = [
        _one_class(made.scores[:, code], truth == code, subjects)
        | {"f1": (f1[code], intervals.proportion(f1[code]))}
        for code in range(classes)
    ]
    there = [own for code, own in enumerate(per_class) if (truth == code).any()]
    whole: Measured = {}
    for name in ("auroc", "auprc", "f1"):
        found = [own[name] for own in there]
        parts, spans = [part for part, _ in found], [span for _, span in found]
        whole[name] = average(parts), intervals.macro(parts, spans)
    floor = accuracy.value * (1 - accuracy.value) / n if n else 0.0
    whole["accuracy"] = accuracy, intervals.proportion(accuracy, floor)
    whole["kappa"] = kappa, intervals.kappa(kappa, chance)
    whole["calibration_error"] = calibration, intervals.proportion(calibration)
    return per_class, whole


def number_row(made: Predictions) -> Row:
    """Row of a regression.

    Parameters
    ----------
    made : Predictions
        Predictions of a regression.
    """
    return {
        "features": made.features,
        "group": made.group,
        "level": made.level,
        "class": None,
        **_entries(measure_number(made)),
        "clips": len(made.truth),
        "subjects": len(np.unique(made.subjects)),
    }


def measure_number(made: Predictions) -> Measured:
    """Measure a regression: mae, in the label's unit, and r.

    Parameters
    ----------
    made : Predictions
        Predictions of a regression.
    """
    _, subjects = np.unique(made.subjects, return_inverse=True)
    error = mean(np.abs(made.truth - made.scores), subjects)
    r = correlation(made.truth.astype(np.float64), made.scores, subjects)
    return {"mae": (error, intervals.positive(error)), "r": (r, intervals.correlation(r))}


def _mean_of(by_fold: Floats) -> float | None:
    """Mean over the folds of the means over their classes; None where nothing is known."""
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
