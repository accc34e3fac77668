"""Labels of clips, each with a rule that is printed with every result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm.stages import SCORED
from sleepfm_index.choices import Task
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, codes, numbers
from sleepfm_index.evaluation.labels.respiratory_scoring import (
    AT_ODDS,
    BREATHING,
    UNSCORED,
    left_out,
)
from sleepfm_index.evaluation.labels.seen_people import without_seen
from sleepfm_index.reader import Reader

STAGES: Final = SCORED
SDB_OR_UNSURE: Final = "sdb+unsure"
UNSURE: Final = "unsure_s"
"""Seconds of events that NSRR scorers marked Unsure (hypopneas by flow only); used on request."""
SDB_SECONDS: Final = 10.0
"""Minimum duration of an apnea or hypopnea (AASM manual, version 2.6, respiratory rules)."""
AGE_BINS: Final = ("0-18", "19-49", "50+")
MAX_CLASSES: Final = 50


@dataclass(frozen=True)
class Labels:
    """The labelled clips of a store.

    Parameters
    ----------
    name, rule : str
        Name of the label, and description of its rule.
    clip_ids : ndarray of int64, shape [n]
        Clip ids.
    values : ndarray of int64 (class codes) or float64, shape [n]
        Label of each clip.
    classes : tuple of str
        Names of the classes; empty for a number.
    subjects : ndarray of int64, shape [n]
        Subject of each clip, as index into ``subject_names``.
    subject_names : tuple of str
        Names of the subjects.
    left_out : dict of str to int
        Number of clips without a label, by reason.
    seen : str
        Remark on subjects of the weights' training data; empty if there are none.
    """

    name: str
    rule: str
    clip_ids: NDArray[np.int64]
    values: NDArray[np.int64] | NDArray[np.float64]
    classes: tuple[str, ...]
    subjects: NDArray[np.int64]
    subject_names: tuple[str, ...]
    left_out: dict[str, int]
    seen: str = ""

    def __len__(self) -> int:
        return len(self.clip_ids)

    @property
    def per_subject(self) -> bool:
        """Whether every clip of a subject has the same label."""
        first = np.full(len(self.subject_names), -1, np.int64)
        first[self.subjects[::-1]] = np.arange(len(self) - 1, -1, -1)
        return bool(np.all(self.values == self.values[first[self.subjects]]))

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Labels:
        """Return a subset of the labelled clips.

        Parameters
        ----------
        rows : ndarray of int64 or bool
            Row numbers, or a mask of the rows.
        """
        return replace(
            self,
            clip_ids=self.clip_ids[rows],
            values=self.values[rows],
            subjects=self.subjects[rows],
        )

    @property
    def note(self) -> str:
        """The rule, and the numbers of clips left out, in one line."""
        out = ", ".join(f"{n} clips {why}" for why, n in self.left_out.items() if n)
        parts = (f"{self.name}: {self.rule}", f"left out: {out}" if out else "", self.seen)
        return "; ".join(filter(None, parts))


def read_labels(
    store: Reader,
    label: str,
    where: str | tuple[str | None, ...] | None = None,
    *,
    task: str = "auto",
    classes: Sequence[str] | None = None,
    include_seen: bool = False,
) -> Labels:
    """Label the clips of a store.

    Parameters
    ----------
    store : Reader
        The open store.
    label : str
        ``stage``, ``sdb`` (``sdb+unsure`` also counts events marked Unsure), ``sdb_event``, ``age``
        (the bins 0-18, 19-49, 50+; in years by ``task``), ``sex``, ``bmi``, or any column of
        ``clips``.
    where : str or tuple of str, optional
        SQL conditions over the columns of ``clips``; all must hold.
    task : {"auto", "classification", "regression"}
        By default, text and Booleans are classes, and numbers are regression targets.
    classes : sequence of str, optional
        Classes to keep, in this order; by default all.
    include_seen : bool
        Whether to keep subjects of the weights' training data.

    Raises
    ------
    QueryError
        If all subjects are in the weights' training data, there is no such column, or it has no
        values, too many classes, or text instead of numbers.
    """
    if task not in get_args(Task):
        raise QueryError(f"no task {task!r}; choose from {', '.join(get_args(Task))}")
    if task == "regression" and label in _NAMES:
        raise QueryError(f"{label} has classes and is not numeric; omit --task")
    conditions = [w for w in (where if isinstance(where, tuple) else (where,)) if w]
    ids = store.metadata.clip_ids(*conditions)
    if not len(ids):
        condition = f" where {' and '.join(conditions)}" if conditions else ""
        raise QueryError(f"no clip to label{condition}")
    ids, seen = without_seen(store, ids, include_seen=include_seen)
    if label == "age" and task == "regression":
        rule, values, names, left_out = _column(store, ids, "nsrr_age", task)
    else:
        rule, values, names, left_out = _RULES.get(label, _any_column)(store, ids, label, task)
    subject, subject_names = codes(clip_columns(store, ids, ["subject_id"])["subject_id"])
    known = values >= 0 if names else np.isfinite(values)
    if not known.any():
        raise QueryError(f"no clip has a label for {label}; {_reasons(left_out)}")
    labels = Labels(
        label, rule, ids, values, names, subject, tuple(map(str, subject_names)), left_out, seen
    )
    labels = labels.take(known)
    return _only(labels, classes) if classes else labels


_NAMES: Final = ("stage", "sdb", "sdb+unsure", "sdb_event", "sex")
_UNKNOWN: Final = (UNSCORED, AT_ODDS)

_LabelValues = tuple[str, NDArray[np.int64] | NDArray[np.float64], tuple[str, ...], dict[str, int]]


def _stage(store: Reader, ids: NDArray[np.int64], label: str, task: str) -> _LabelValues:
    code, names = codes(clip_columns(store, ids, ["stage"])["stage"])
    code_of = np.array([STAGES.index(n) if n in STAGES else -1 for n in names] + [-1])
    values = code_of[code]
    unscored = int((values < 0).sum())
    return "the scored stage of the clip", values, STAGES, {"unscored (UNS, ART)": unscored}


def _sdb(store: Reader, ids: NDArray[np.int64], label: str, task: str) -> _LabelValues:
    names_in_store = store.clip_schema.names
    candidates = (*BREATHING, UNSURE) if label == SDB_OR_UNSURE else BREATHING
    names = [n for n in candidates if n in names_in_store]
    if not names:
        raise QueryError("the store has no apnea or hypopnea seconds for this label")
    table = clip_columns(store, ids, [*names, "recording_id"])
    seconds = np.sum([np.nan_to_num(numbers(table[n])) for n in names], axis=0)
    recording, recordings = codes(table["recording_id"])
    reasons = left_out(store, names)
    reason = np.array([reasons.get(str(name), "") for name in recordings])[recording]
    values = np.where(reason == "", (seconds >= SDB_SECONDS).astype(np.int64), -1)
    rule = f"yes where {' + '.join(names)} >= {SDB_SECONDS:g} s in the clip"
    return rule, values, ("no", "yes"), {why: int((reason == why).sum()) for why in _UNKNOWN}


def _sdb_event(store: Reader, ids: NDArray[np.int64], label: str, task: str) -> _LabelValues:
    _, values, classes, out = _sdb(store, ids, "sdb", task)
    seconds = store.manifest.contract.clip_seconds
    with_event = store.metadata.select(
        "SELECT DISTINCT c.clip_id FROM clips c JOIN events e USING (recording_id) "
        f"WHERE e.type IN ('apnea', 'hypopnea') AND e.duration_s >= {SDB_SECONDS} "
        "AND e.onset_s + e.duration_s / 2 >= c.start_s "
        f"AND e.onset_s + e.duration_s / 2 < c.start_s + {seconds}"
    )
    inside = np.isin(ids, numbers(with_event["clip_id"]))
    values = np.where(values < 0, -1, inside.astype(np.int64))
    rule = f"yes where the middle of an apnea or hypopnea of >= {SDB_SECONDS:g} s is in the clip"
    return rule, values, classes, out


def _age(store: Reader, ids: NDArray[np.int64], label: str, task: str) -> _LabelValues:
    age = numbers(clip_columns(store, ids, ["nsrr_age"])["nsrr_age"]).astype(np.float64)
    known = np.isfinite(age)
    values = np.where(known, np.digitize(np.nan_to_num(age), (19.0, 50.0)), -1)
    rule = "nsrr_age in completed years, in bins 0-18, 19-49, 50+"
    return rule, values, AGE_BINS, {"without nsrr_age": int((~known).sum())}


def _sex(store: Reader, ids: NDArray[np.int64], label: str, task: str) -> _LabelValues:
    return _column(store, ids, "nsrr_sex", "classification")


def _bmi(store: Reader, ids: NDArray[np.int64], label: str, task: str) -> _LabelValues:
    return _column(store, ids, "nsrr_bmi", "regression" if task == "auto" else task)


def _any_column(store: Reader, ids: NDArray[np.int64], label: str, task: str) -> _LabelValues:
    return _column(store, ids, label, task)


def _column(store: Reader, ids: NDArray[np.int64], column: str, task: str) -> _LabelValues:
    values_of_column = clip_columns(store, ids, [column])[column]
    out = {f"without {column}": values_of_column.null_count}
    numeric = pa.types.is_integer(values_of_column.type) or pa.types.is_floating(
        values_of_column.type
    )
    if values_of_column.null_count == len(values_of_column):
        raise QueryError(
            f"{column} is empty in all {len(values_of_column)} clips, so there is nothing to learn "
            "or test; fill it in subjects.csv"
        )
    if task == "regression" or (task == "auto" and numeric):
        if not numeric:
            raise QueryError(f"{column} holds {values_of_column.type}, which is not a number")
        return f"{column}, a number", numbers(values_of_column).astype(np.float64), (), out
    values, names = codes(values_of_column)
    if len(names) > MAX_CLASSES:
        raise QueryError(
            f"{column} has {len(names)} distinct values, more than {MAX_CLASSES} classes; "
            "choose a column with few values, or a number"
        )
    return f"{column}, as it is", values, tuple(map(str, names)), out


_RULES: Final[dict[str, Callable[[Reader, NDArray[np.int64], str, str], _LabelValues]]] = {
    "stage": _stage,
    "sdb": _sdb,
    SDB_OR_UNSURE: _sdb,
    "sdb_event": _sdb_event,
    "age": _age,
    "sex": _sex,
    "bmi": _bmi,
}


def _only(labels: Labels, classes: Sequence[str]) -> Labels:
    unknown = [c for c in classes if c not in labels.classes]
    if unknown or not labels.classes:
        raise QueryError(
            f"no class {', '.join(unknown) or 'in a number'} of {labels.name}; "
            f"choose from {', '.join(labels.classes) or 'none'}"
        )
    new_code = np.full(len(labels.classes), -1, np.int64)
    new_code[[labels.classes.index(c) for c in classes]] = np.arange(len(classes))
    code = new_code[labels.values.astype(np.int64)]
    out = {**labels.left_out, "of other classes": int((code < 0).sum())}
    kept = replace(labels, values=code, classes=tuple(classes), left_out=out).take(code >= 0)
    if not len(kept):
        raise QueryError(f"no clip has the classes {', '.join(classes)}")
    return kept


def _reasons(left_out: dict[str, int]) -> str:
    return ", ".join(f"{n} are left out: {why}" for why, n in left_out.items() if n)
