"""Survival analysis with subject vectors: cross-validated Cox regression, and its C-index.

A subject's vector is the mean of the vectors of its clips. Its first principal components,
estimated on the training subjects, enter a ridge-penalised proportional hazards model
(scikit-survival). Harrell's C counts pairs of subjects within a fold, because the risks of two
models have no common scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, numbers
from sleepfm_index.evaluation.labels.labels import Labels, read_labels
from sleepfm_index.evaluation.labels.splits import deal_folds
from sleepfm_index.evaluation.metrics.estimates import Estimate
from sleepfm_index.evaluation.metrics.intervals import proportion, too_few
from sleepfm_index.evaluation.models.features import (
    default_features,
    feature_list,
    feature_reader,
    have_features,
)
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result

COMPONENTS: Final = 10
RIDGE: Final = 1.0
AGE: Final = "age"
"""Name of the row of a model with age only, as a reference."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FollowUp:
    """Follow-up time and event of each subject.

    Parameters
    ----------
    time : ndarray of float64, shape [n]
        Time to the event, or to censoring, in any unit.
    event : ndarray of bool, shape [n]
        Whether the event was observed.
    """

    time: Floats
    event: NDArray[np.bool_]

    def take(self, rows: NDArray[Any]) -> FollowUp:
        """Return the follow-up of a subset of subjects.

        Parameters
        ----------
        rows : ndarray of int64 or bool
            Row numbers, or a mask of the rows.
        """
        return FollowUp(self.time[rows], self.event[rows])


def concordance(risk: Floats, follow_up: FollowUp, fold: NDArray[np.int64]) -> Estimate:
    """Harrell's C within folds, with the influence of every subject (leave-one-out jackknife).

    Of two subjects, the one with the earlier event should have the higher risk; equal risks count
    half (Harrell et al. 1982, *JAMA* 247:2543).

    Parameters
    ----------
    risk : ndarray of float64, shape [n]
        Predicted risk; higher means an earlier event.
    follow_up : FollowUp
        Follow-up of the same subjects.
    fold : ndarray of int64, shape [n]
        Fold of each subject; only pairs within a fold are counted.

    Returns
    -------
    Estimate
        The C-index; NaN if no pair can be compared.
    """
    time, event = follow_up.time, follow_up.event
    earlier = event[:, None] & (time[:, None] < time) & (fold[:, None] == fold)
    # an event counts as earlier than a censoring at the same time
    earlier |= (event[:, None] & ~event) & (time[:, None] == time) & (fold[:, None] == fold)
    right = (risk[:, None] > risk) + 0.5 * (risk[:, None] == risk)
    won, pairs = np.where(earlier, right, 0.0), earlier.astype(np.float64)
    total, count = won.sum(), pairs.sum()
    if not count:
        return Estimate(math.nan, np.zeros(len(risk)), len(risk))
    left_won = total - won.sum(axis=0) - won.sum(axis=1)
    left_count = count - pairs.sum(axis=0) - pairs.sum(axis=1)
    value = float(total / count)
    without = np.where(left_count > 0, left_won / np.maximum(left_count, 1), value)
    return Estimate(value, value - without, len(risk))


def survival(
    store: Reader,
    time: str,
    event: str,
    *,
    on: str | Sequence[str] | None = None,
    where: str | None = None,
    folds: int = 5,
    include_seen: bool = False,
    components: int = COMPONENTS,
    ridge: float = RIDGE,
    seed: int = 0,
) -> Result:
    """Measure how well the vectors rank subjects by time to an event.

    Parameters
    ----------
    store : Reader
        The open store.
    time, event : str
        Columns of ``clips`` with one value per subject: follow-up time, in any unit, and whether it
        ended with the event (true or 1) or by censoring (false or 0).
    on : str or sequence of str, optional
        Modalities, joined by ``+``; by default each modality of the clips, and all concatenated.
    where : str, optional
        SQL condition for the clips.
    folds : int
        Number of folds of subjects.
    include_seen : bool
        Whether to keep subjects of the weights' training data.
    components : int
        Number of principal components; at most a third of the number of training subjects.
    ridge : float
        L2 penalty on the coefficients.
    seed : int
        Seed of the folds.

    Returns
    -------
    Result
        One row per features, and one with age only if ages are known: features, c_index with
        ``_low`` and ``_high`` (95 %, over subjects), subjects, events.

    Raises
    ------
    QueryError
        If a column is missing or not numeric, a subject has two values, there are no events, or
        scikit-survival is not installed.
    """
    labels = read_labels(store, time, where, task="regression", include_seen=include_seen)
    followed = _follow_up(store, labels, time, event)
    rows = []
    for features in default_features(store, labels) if on is None else feature_list(on):
        with_features = labels.take(have_features(store, labels, features))
        read = feature_reader(store, with_features.clip_ids, features)
        x = read(np.arange(len(with_features)))
        rows.append(_row(features, with_features, x, followed, folds, seed, components, ridge))
    age = numbers(clip_columns(store, labels.clip_ids, ["nsrr_age"])["nsrr_age"])
    if (has_age := np.isfinite(age)).any():
        with_age = labels.take(has_age)
        x = age[has_age, None].astype(np.float32)
        rows.append(_row(AGE, with_age, x, followed, folds, seed, 1, 1e-3))
    warning = too_few(min(int(str(row["subjects"])) for row in rows))
    note = (
        f"time to {event} by {time}; Cox regression on subject vectors, {folds} folds of subjects; "
        f"{labels.note}; {warning or '95 % intervals over subjects'}"
    )
    return Result(pa.Table.from_pylist(rows), note)


def _follow_up(store: Reader, labels: Labels, time: str, event: str) -> FollowUp:
    """Follow-up by subject code; NaN if unknown."""
    if not labels.per_subject:
        raise QueryError(f"{time} differs between clips of one subject; it needs one value each")
    if (labels.values <= 0).any():
        raise QueryError(f"{time} must be above 0; leave others out by --where")
    column = clip_columns(store, labels.clip_ids, [event])[event]
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        raise QueryError(f"{event} holds text; it must be true or false, or 1 or 0")
    values = numbers(column.cast(pa.float64()))
    if not np.isin(values[np.isfinite(values)], (0, 1)).all():
        raise QueryError(f"{event} must be true or false, or 1 or 0")
    times, events = np.full((2, len(labels.subject_names)), np.nan)
    times[labels.subjects] = labels.values
    events[labels.subjects] = values
    if (events[labels.subjects] != values)[np.isfinite(values)].any():
        raise QueryError(f"{event} differs between clips of one subject; it needs one value each")
    times[~np.isfinite(events)] = np.nan
    if not (events == 1).any():
        raise QueryError(f"no subject has {event}, so there is nothing to fit")
    return FollowUp(times, events == 1)


def _row(
    features: str,
    labels: Labels,
    x: NDArray[np.float32],
    followed: FollowUp,
    folds: int,
    seed: int,
    components: int,
    ridge: float,
) -> dict[str, object]:
    subject_codes, first, code = np.unique(labels.subjects, return_index=True, return_inverse=True)
    sums = np.zeros((len(subject_codes), x.shape[1]))
    np.add.at(sums, code, x)
    vectors = sums / np.bincount(code)[:, None]
    has_time = np.isfinite(followed.time[subject_codes])
    vectors, follow_up = vectors[has_time], followed.take(subject_codes[has_time])
    fold = deal_folds(labels.take(first[has_time]), folds, seed)
    risk = np.full(len(follow_up.time), np.nan)
    for number in np.unique(fold):
        train, test = fold != number, fold == number
        if follow_up.event[train].any():
            risk[test] = _risk(
                vectors[train], follow_up.take(train), vectors[test], components, ridge
            )
    predicted = np.isfinite(risk)
    estimate = concordance(risk[predicted], follow_up.take(predicted), fold[predicted])
    low, high = proportion(estimate)
    return {
        "features": features,
        "c_index": estimate.value if np.isfinite(estimate.value) else None,
        "c_index_low": low if np.isfinite(low) else None,
        "c_index_high": high if np.isfinite(high) else None,
        "subjects": int(predicted.sum()),
        "events": int(follow_up.event[predicted].sum()),
    }


def _risk(x: Floats, followed: FollowUp, tested: Floats, components: int, ridge: float) -> Floats:
    try:
        from sksurv.linear_model import CoxPHSurvivalAnalysis
        from sksurv.util import Surv
    except ImportError as error:
        raise QueryError(
            "survival needs scikit-survival: pip install 'sleepfm-index[survival]'"
        ) from error
    centre = x.mean(axis=0)
    kept = max(1, min(components, len(x) // 3, x.shape[1]))
    _, _, axes = np.linalg.svd(x - centre, full_matrices=False)
    scores = (x - centre) @ axes[:kept].T
    scale = scores.std(axis=0) + 1e-9
    outcome = Surv.from_arrays(followed.event, followed.time)
    model = CoxPHSurvivalAnalysis(alpha=ridge).fit(scores / scale, outcome)
    return np.asarray(model.predict((tested - centre) @ axes[:kept].T / scale), np.float64)
