"""The age predicted from the vectors of each night, corrected for bias, and its gap to true age.

Regression to the mean makes the raw gap decrease with age. The correction is that of Cole et al.
(2018, *Mol. Psychiatry* 23:1385): the line of predicted on true age is fitted to out-of-sample
predictions of the training subjects and inverted. It does not use the ages of the test subjects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, codes
from sleepfm_index.evaluation.labels.labels import Labels
from sleepfm_index.evaluation.labels.splits import Split, deal_folds
from sleepfm_index.evaluation.metrics.intervals import FEWEST
from sleepfm_index.evaluation.models.features import feature_reader, predict_rows
from sleepfm_index.evaluation.models.recipe import Recipe
from sleepfm_index.evaluation.models.train_test import divide, learn
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result

_INNER_FOLDS: Final = 3
_FLAT: Final = 0.05
"""Minimum slope: a flatter line has no information on age, and inverting it amplifies noise."""


@dataclass(frozen=True)
class BiasLine:
    """The line of predicted on true age among the training subjects.

    Parameters
    ----------
    intercept, slope : float
        Coefficients of ``predicted = intercept + slope * age``, by least squares.
    """

    intercept: float
    slope: float

    @classmethod
    def fitted(cls, age: NDArray[np.float64], predicted: NDArray[np.float64]) -> BiasLine:
        """Fit the line.

        Parameters
        ----------
        age, predicted : ndarray of float64, shape [n]
            One value per subject, in years.
        """
        slope, intercept = np.polyfit(age, predicted, 1) if np.ptp(age) > 0 else (0.0, 0.0)
        return cls(float(intercept), float(slope))

    def corrected(self, predicted: NDArray[np.float64]) -> NDArray[np.float64]:
        """Correct predicted ages by inverting the line; NaN if it is too flat.

        Parameters
        ----------
        predicted : ndarray of float64, shape [n]
            Predicted ages in years.
        """
        if self.slope < _FLAT:
            return np.full(len(predicted), np.nan)
        return np.asarray((predicted - self.intercept) / self.slope)


def age_gaps(
    store: Reader,
    on: str,
    *,
    where: str | None = None,
    split: Split | None = None,
    recipe: Recipe | None = None,
) -> Result:
    """Predict the age of each night of test subjects.

    Parameters
    ----------
    store : Reader
        The open store.
    on : str
        Modalities, joined by ``+``.
    where, split, recipe
        As in :func:`sleepfm_index.evaluation.models.probe.probe`.

    Returns
    -------
    Result
        One row per recording: recording_id, subject_id, age, predicted (mean over its clips),
        corrected, gap (predicted minus age) and corrected_gap, in years; clips; fold. Corrected
        values are null if the bias line is too flat. The note states its slopes, and the
        correlation of both gaps with age, which should be near 0 after the correction.

    Raises
    ------
    QueryError
        As in ``probe``; or if there are fewer than six training subjects, too few for a line.
    """
    recipe = recipe or Recipe()
    plan = divide(store, "age", split or Split(), where=where, task="regression", seed=recipe.seed)
    read = feature_reader(plan.train_store, plan.train.clip_ids, on)
    read_test = feature_reader(plan.test_store, plan.test.clip_ids, on)
    rows: list[dict[str, object]] = []
    slopes = []
    for number, (train, test) in enumerate(plan.sides(on), start=1):
        labels = plan.train.take(train)
        people = np.unique(labels.subjects)
        if len(people) < FEWEST:
            raise QueryError(
                f"{len(people)} subjects to learn age from are too few for a bias line, which "
                f"needs {FEWEST}"
            )
        inner = deal_folds(labels, _INNER_FOLDS, recipe.seed)
        predicted = np.empty(len(labels))
        for fold in range(_INNER_FOLDS):
            fitted = learn(recipe, read, plan.train, train[inner != fold])
            predicted[inner == fold] = predict_rows(fitted, read, train[inner == fold])
        line = BiasLine.fitted(*_per_subject(labels, predicted))
        slopes.append(line.slope)
        scores = predict_rows(learn(recipe, read, plan.train, train), read_test, test)
        rows += _nights(plan.test_store, plan.test.take(test), scores, line, number)
    note = (
        f"age from {on}, {plan.note}; bias line of predicted on true age: slope "
        f"{min(slopes):.2f} to {max(slopes):.2f} (1 is no bias)"
    )
    for name, words in (("gap", "gap"), ("corrected_gap", "corrected gap")):
        pairs = np.array([(r["age"], r[name]) for r in rows if r[name] is not None], np.float64)
        if len(pairs) > 2 and np.ptp(pairs[:, 0]) > 0 and np.ptp(pairs[:, 1]) > 0:
            r = np.asarray(np.corrcoef(pairs.T))[0, 1]
            note += f"; r of age and {words} {r:.2f}"
    return Result(pa.Table.from_pylist(rows, schema=_SCHEMA), note)


_SCHEMA: Final = pa.schema(
    [
        ("recording_id", pa.string()),
        ("subject_id", pa.string()),
        *((n, pa.float64()) for n in ("age", "predicted", "gap", "corrected", "corrected_gap")),
        ("clips", pa.int64()),
        ("fold", pa.int64()),
    ]
)


def _per_subject(
    labels: Labels, predicted: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Age and mean prediction of each subject."""
    _, code = np.unique(labels.subjects, return_inverse=True)
    count = np.bincount(code)
    return np.bincount(code, labels.values) / count, np.bincount(code, predicted) / count


def _nights(
    store: Reader, labels: Labels, scores: NDArray[np.float64], line: BiasLine, fold: int
) -> list[dict[str, object]]:
    recording, names = codes(clip_columns(store, labels.clip_ids, ["recording_id"])["recording_id"])
    rows: list[dict[str, object]] = []
    for code, name in enumerate(names):
        of_recording = recording == code
        age, predicted = (
            float(labels.values[of_recording].mean()),
            float(scores[of_recording].mean()),
        )
        corrected = float(line.corrected(np.array([predicted]))[0])
        valid = np.isfinite(corrected)
        rows.append(
            {
                "recording_id": name,
                "subject_id": labels.subject_names[int(labels.subjects[of_recording][0])],
                "age": age,
                "predicted": predicted,
                "gap": predicted - age,
                "corrected": corrected if valid else None,
                "corrected_gap": corrected - age if valid else None,
                "clips": int(of_recording.sum()),
                "fold": fold,
            }
        )
    return rows
