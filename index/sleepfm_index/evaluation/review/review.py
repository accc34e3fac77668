"""The review of a store, as one table with reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
import pyarrow as pa

from sleepfm_index.choices import ReviewKind
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.review.label_errors import LabelErrors, NotJudgedError, label_errors
from sleepfm_index.evaluation.review.oddities import Odd, duplicates, flat, outliers
from sleepfm_index.query.answer_table import float64s
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result
from sleepfm_index.storage.arrow_columns import int64s

KINDS: Final = get_args(ReviewKind)
TRUSTED: Final = 0.6
"""Minimum kappa of labels and predictions, substantial agreement by Landis and Koch (1977), for
which likely errors are attributed to the labels and not to the vectors."""
_WEAK: Final = ", too low: these vectors know the label too little to judge it"


@dataclass(frozen=True)
class _Findings:
    kind: str
    odd: Odd
    suggested: list[str | None]


def review(
    reader: Reader,
    *,
    label: str = "stage",
    on: str | None = None,
    kinds: Sequence[str] | None = None,
    where: str | None = None,
    seed: int = 0,
    include_seen: bool = False,
) -> Result:
    """List the clips that should be examined, with reasons.

    Parameters
    ----------
    reader : Reader
        The open store.
    label : str
        Label to check for errors, as in
        :func:`sleepfm_index.evaluation.labels.labels.read_labels`.
    on : str, optional
        Modalities for the predictions of labels, joined by ``+``; by default all of the store.
    kinds : sequence of {"label", "outlier", "duplicate", "flat"}, optional
        Kinds of findings; by default all. If they are not named and label errors cannot be looked
        for (:class:`.NotJudgedError`), the note says why, and the other kinds are looked for.
    where : str, optional
        SQL condition over the columns of ``clips``.
    seed : int
        Random seed of folds and draws.
    include_seen : bool
        Whether to look for label errors of subjects of the weights' training data as well, and to
        judge by them; the other kinds of findings are looked for in all clips in any case.

    Returns
    -------
    Result
        Columns kind, clip_id, recording_id, subject_id, start_s, clock, stage, reason, value,
        suggested (predicted class of a label error), other_clip_id. The strongest findings of each
        kind come first.

    Raises
    ------
    QueryError
        If a kind, column or condition is unknown.
    NotJudgedError
        If label errors are named in ``kinds`` and cannot be looked for, e.g. without cleanlab.
    """
    named = kinds is not None
    kinds = KINDS if kinds is None else kinds
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise QueryError(f"nothing to review called {unknown[0]!r}; choose from {', '.join(KINDS)}")
    ids = reader.metadata.clip_ids(where)
    modalities = reader.manifest.modalities
    findings: list[_Findings] = []
    notes, remark = [], ""
    if "label" in kinds:
        features = on or "+".join(modalities)
        try:
            errors = label_errors(
                reader, label, features, where=where, seed=seed, include_seen=include_seen
            )
        except NotJudgedError as error:
            if named:
                raise
            remark = f"; label errors were not looked for, because {error}"
        else:
            findings.append(_label_findings(label, errors))
            notes.append(
                f"{len(errors.clip_ids):,} of {errors.looked_at:,} labels of {label} likely wrong "
                f"(kappa of labels and predictions {errors.kappa:.2f}"
                f"{_WEAK if errors.kappa < TRUSTED else ''})"
            )
            remark = f"; labels: {errors.seen}" if errors.seen else ""
    if "outlier" in kinds:
        for modality in modalities:
            odd = outliers(reader, modality, ids, seed)
            findings.append(_Findings("outlier", odd, [None] * len(odd.clip_ids)))
            notes.append(f"{len(odd.clip_ids):,} outliers in {modality}")
    if "duplicate" in kinds:
        odd = duplicates(reader, ids)
        findings.append(_Findings("duplicate", odd, [None] * len(odd.clip_ids)))
        notes.append(f"{len(odd.clip_ids):,} clips twice")
    if "flat" in kinds:
        for modality in modalities:
            odd = flat(reader, modality, ids)
            findings.append(_Findings("flat", odd, [None] * len(odd.clip_ids)))
            notes.append(f"{len(odd.clip_ids):,} clips with flat {modality}")
    note = f"{len(ids):,} clips looked at: {', '.join(notes)}{remark}"
    return Result(_table(reader, findings), note)


def _label_findings(label: str, errors: LabelErrors) -> _Findings:
    reasons = [
        f"{label} is {given}, clips of other subjects say {suggested} "
        f"(probability of {given} {chance:.2f})"
        for given, suggested, chance in zip(
            errors.given, errors.suggested, errors.probability, strict=True
        )
    ]
    no_clips = np.full(len(reasons), -1)
    odd = Odd(errors.clip_ids, reasons, errors.probability, no_clips)
    return _Findings("label", odd, list(errors.suggested))


def columns_of(result: Result) -> pa.Table:
    """Convert a review to columns for :func:`sleepfm_index.annotate`, one row per clip.

    Parameters
    ----------
    result : Result
        Result of :func:`review`.

    Returns
    -------
    pyarrow.Table
        Columns clip_id, review (reasons, joined by semicolons), review_suggested.
    """
    reasons: dict[int, list[str]] = {}
    suggested: dict[int, str] = {}
    for row in result.to_pylist():
        reasons.setdefault(row["clip_id"], []).append(row["reason"])
        if row["suggested"]:
            suggested[row["clip_id"]] = row["suggested"]
    clips = sorted(reasons)
    return pa.table(
        {
            "clip_id": pa.array(clips, pa.int64()),
            "review": pa.array(["; ".join(reasons[clip]) for clip in clips], pa.string()),
            "review_suggested": pa.array([suggested.get(clip) for clip in clips], pa.string()),
        }
    )


def _table(reader: Reader, findings: Sequence[_Findings]) -> pa.Table:
    ids = np.concatenate([np.empty(0, np.int64), *(group.odd.clip_ids for group in findings)])
    others = np.concatenate([np.empty(0, np.int64), *(group.odd.others for group in findings)])
    rows = reader.rows(ids)
    kinds = [group.kind for group in findings for _ in group.odd.clip_ids]
    shown = ("clip_id", "recording_id", "subject_id", "start_s", "clock", "stage")
    return pa.table(
        {
            "kind": pa.array(kinds, pa.string()),
            **{name: rows[name] for name in shown},
            "reason": pa.array([r for group in findings for r in group.odd.reasons], pa.string()),
            "value": float64s(
                np.concatenate([np.empty(0), *(group.odd.values for group in findings)])
            ),
            "suggested": pa.array([s for group in findings for s in group.suggested], pa.string()),
            "other_clip_id": pa.array(others, mask=others < 0)
            if len(others)
            else int64s(np.empty(0, np.int64)),
        }
    )
