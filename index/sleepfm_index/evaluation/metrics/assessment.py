"""Predictions become a table: each measure with its 95 % interval over subjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.evaluation.metrics.bootstrap import (
    REPLICATES,
    draw_subjects,
    interval,
    subject_sums,
    weight_blocks,
)
from sleepfm_index.evaluation.metrics.scores import (
    calibration_error,
    calibration_sums,
    confusion,
    confusion_scores,
    ranking_scores,
    regression_scores,
    regression_sums,
)
from sleepfm_index.results import Result

MACRO: Final = "macro"
"""The row of a table that holds the mean over the classes with a test example."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """What a model said of clips (or subjects) it did not learn from.

    Parameters
    ----------
    features : str
        What it was told, e.g. ``bas`` or ``bas+ecg+resp``.
    classes : tuple of str
        Empty for a number.
    truth : ndarray of int64 (class codes) or float64, shape [n]
    said : ndarray of float64, shape [n, classes] (probabilities) or [n] (numbers)
    subjects : ndarray of int64, shape [n]
        Codes of the subjects.
    clip_ids : ndarray of int64, shape [n]
        Empty for predictions per subject.
    level : {"clip", "subject"}
    answered : ndarray of bool, shape [n], optional
        False where the model abstained; such clips count in no confusion matrix.
    warnings : tuple of str
        E.g. that a fit did not converge.
    """

    features: str
    classes: tuple[str, ...]
    truth: NDArray[np.int64] | Floats
    said: Floats
    subjects: NDArray[np.int64]
    clip_ids: NDArray[np.int64]
    level: str = "clip"
    answered: NDArray[np.bool_] | None = None
    warnings: tuple[str, ...] = ()

    def per_subject(self) -> Predictions:
        """Mean of the clips of each subject."""
        present, code = np.unique(self.subjects, return_inverse=True)
        clips = np.bincount(code)
        mean = subject_sums(self.said, code)
        mean = mean / (clips if mean.ndim == 1 else clips[:, None])
        _, first = np.unique(code, return_index=True)
        return replace(
            self,
            truth=self.truth[first],
            said=mean,
            subjects=np.arange(len(present)),
            clip_ids=np.empty(0, np.int64),
            level="subject",
            answered=None,
        )

    def confusion(self) -> NDArray[np.int64]:
        """Clips by true and predicted class, those abstained from left out."""
        chosen = slice(None) if self.answered is None else self.answered
        predicted = self.said.argmax(axis=1)
        return confusion(self.truth.astype(np.int64)[chosen], predicted[chosen], len(self.classes))


@dataclass(frozen=True)
class Assessment(Result):
    """A table of measures, and the predictions behind it by (features, level)."""

    predictions: Mapping[tuple[str, str], Predictions] = field(default_factory=dict)


def assess(
    predictions: list[Predictions], note: str, *, replicates: int = REPLICATES, seed: int = 0
) -> Assessment:
    """Put predictions into one table.

    Returns
    -------
    Assessment
        For classes, one row a class and one ``macro`` row: features, level, class, auroc, auprc,
        f1 (on the macro row the means over the classes that have a test example), accuracy, kappa,
        calibration_error (macro row), each with ``_low`` and ``_high``; clips (test examples),
        share, subjects, answered. For a number: mae and r. A class without a test example has a
        row without measures, and the note names it.
    """
    rows, absent, warnings = [], [], []
    for made in predictions:
        rows += (
            class_rows(made, replicates, seed)
            if made.classes
            else [number_row(made, replicates, seed)]
        )
        missing = [r["class"] for r in rows if r["features"] == made.features and not r["clips"]]
        absent += [str(c) for c in missing if str(c) not in absent]
        warnings += [w for w in made.warnings if w not in warnings]
    if absent:
        warnings.append(f"no test example of {', '.join(absent)}, which count in no mean")
    return Assessment(
        pa.Table.from_pylist(rows),
        "; ".join([note, *warnings]),
        {(made.features, made.level): made for made in predictions},
    )


def class_rows(made: Predictions, replicates: int = REPLICATES, seed: int = 0) -> list[Row]:
    """Rows of a classifier: the macro row, then one a class."""
    truth = made.truth.astype(np.int64)
    _, subjects = np.unique(made.subjects, return_inverse=True)
    people = int(subjects.max()) + 1
    counts = np.vstack([np.ones(people, np.int64), draw_subjects(people, replicates, seed)])
    n = np.bincount(truth, minlength=len(made.classes))
    auroc, auprc = _rankings(made, truth, subjects, counts)
    by_matrix = _by_matrix(made, truth, subjects, counts)
    there = n > 0
    found = {"auroc": auroc, "auprc": auprc, "f1": by_matrix.pop("f1")}
    shared = {"features": made.features, "level": made.level}
    answered = 1.0 if made.answered is None else float(made.answered.mean())
    rows: list[Row] = [
        {
            **shared,
            "class": MACRO,
            # a resample without one of the classes defines no mean
            **_entries({k: v[:, there].mean(axis=1) for k, v in found.items()}, people),
            **_entries(by_matrix, people),
            "clips": len(truth),
            "share": 1.0,
            "subjects": people,
            "answered": answered,
        }
    ]
    for code, name in enumerate(made.classes):
        holders = len(np.unique(subjects[truth == code]))
        own = {k: v[:, code] if there[code] else v[:, code] * np.nan for k, v in found.items()}
        rows.append(
            {
                **shared,
                "class": name,
                **_entries(own, people),
                **_entries({k: np.full(1, np.nan) for k in by_matrix}, people),
                "clips": int(n[code]),
                "share": float(n[code] / len(truth)),
                "subjects": holders,
                "answered": None,
            }
        )
    return rows


def number_row(made: Predictions, replicates: int = REPLICATES, seed: int = 0) -> Row:
    """Row of a regression."""
    _, subjects = np.unique(made.subjects, return_inverse=True)
    people = int(subjects.max()) + 1
    counts = np.vstack([np.ones(people, np.int64), draw_subjects(people, replicates, seed)])
    centre = made.truth.mean()  # r does not change, and nothing large cancels
    sums = subject_sums(regression_sums(made.truth - centre, made.said - centre), subjects)
    return {
        "features": made.features,
        "level": made.level,
        "class": None,
        **_entries(regression_scores(counts @ sums), people),
        "clips": len(made.truth),
        "subjects": people,
    }


Row = dict[str, object]


def _rankings(
    made: Predictions,
    truth: NDArray[np.int64],
    subjects: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> tuple[Floats, Floats]:
    found = np.full((2, len(counts), len(made.classes)), np.nan)
    at = 0
    for weights in weight_blocks(subjects, counts):
        for code in range(len(made.classes)):
            if (truth == code).any():
                span = slice(at, at + len(weights))
                found[:, span, code] = ranking_scores(made.said[:, code], truth == code, weights)
        at += len(weights)
    return found[0], found[1]


def _by_matrix(
    made: Predictions,
    truth: NDArray[np.int64],
    subjects: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> dict[str, Floats]:
    classes = len(made.classes)
    chosen = np.ones(len(truth), bool) if made.answered is None else made.answered
    predicted = made.said.argmax(axis=1)
    cell = (subjects * classes + truth) * classes + predicted
    per_subject = np.bincount(cell[chosen], minlength=counts.shape[1] * classes**2)
    matrices = (counts @ per_subject.reshape(-1, classes**2)).reshape(-1, classes, classes)
    right = predicted == truth
    sums = subject_sums(calibration_sums(made.said.max(axis=1), right), subjects)
    return {
        **confusion_scores(matrices.astype(np.float64)),
        "calibration_error": calibration_error(counts @ sums),
    }


def _entries(found: dict[str, Floats], people: int) -> dict[str, float | None]:
    """Estimate (the first value) and interval (the rest) of each measure; None for NaN."""
    entries: dict[str, float | None] = {}
    for name, values in found.items():
        low, high = interval(values[1:], people)
        for key, value in ((name, values[0]), (f"{name}_low", low), (f"{name}_high", high)):
            entries[key] = float(value) if np.isfinite(value) else None
    return entries
