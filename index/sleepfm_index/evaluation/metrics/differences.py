"""Paired differences between two models' predictions of the same clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from sleepfm_index.evaluation.metrics.assessment import (
    MACRO,
    Measured,
    Predictions,
    Row,
    measure_classes,
    measure_number,
)
from sleepfm_index.evaluation.metrics.paired_difference import Measure, difference, holm, p_value

MEASURES: Final = ("auroc", "auprc", "f1", "accuracy", "kappa", "mae", "r")


def differences(pairs: Sequence[tuple[Predictions, Predictions]]) -> pa.Table:
    """Measure paired differences between models.

    Parameters
    ----------
    pairs : sequence of (Predictions, Predictions)
        Predictions of a model and of its reference, for the same clips in the same order.

    Returns
    -------
    pyarrow.Table
        One row per pair, or for classes a macro row and one per class: features, against, level,
        class; then for each measure its value, ``_against``, ``_difference`` (the first minus the
        second) with ``_low`` and ``_high``, ``_p`` of no difference and ``_p_holm``, adjusted
        (Holm) over the rows of the table; clips, subjects.
    """
    rows: list[Row] = []
    for model, reference in pairs:
        assert np.array_equal(model.truth, reference.truth) and np.array_equal(
            model.subjects, reference.subjects
        )
        shared = {"features": model.features, "against": reference.features, "level": model.level}
        identical = np.array_equal(model.scores, reference.scores)
        size = {"clips": len(model.truth), "subjects": len(np.unique(model.subjects))}
        if not model.classes:
            measured = measure_number(model), measure_number(reference)
            rows.append({**shared, "class": None, **_entries(*measured, identical), **size})
            continue
        (first, macro), (second, other) = measure_classes(model), measure_classes(reference)
        rows.append({**shared, "class": MACRO, **_entries(macro, other, identical), **size})
        for name, a, b in zip(model.classes, first, second, strict=True):
            rows.append({**shared, "class": name, **_entries(a, b, identical), **size})
    for name in MEASURES:
        adjust(rows, name)
    return pa.Table.from_pylist(rows, schema=_schema(rows))


def adjust(rows: Sequence[Row], name: str) -> None:
    """Add ``<name>_p_holm``, adjusted over all rows, to rows with ``<name>_p``.

    Parameters
    ----------
    rows : sequence of dict
        Rows of a table, changed in place.
    name : str
        Name of the measure.
    """
    with_p = [row for row in rows if f"{name}_p" in row]
    values = [row[f"{name}_p"] for row in with_p]
    raw = [np.nan if v is None else float(v) for v in values]  # type: ignore[arg-type]
    for row, value in zip(with_p, holm(raw), strict=True):
        row[f"{name}_p_holm"] = value if np.isfinite(value) else None


def _entries(one: Measured, two: Measured, same: bool) -> Row:
    row: Row = {}
    for name in (n for n in MEASURES if n in one):
        (a, first), (b, second) = one[name], two[name]
        measure: Measure = "error" if name == "mae" else "score"
        low, high = difference(a, b, first, second, same=same, measure=measure)
        values = {
            name: a.value,
            f"{name}_against": b.value,
            f"{name}_difference": a.value - b.value,
            f"{name}_difference_low": low,
            f"{name}_difference_high": high,
            f"{name}_p": p_value(a, b, (low, high), measure=measure),
        }
        row |= {key: float(v) if np.isfinite(v) else None for key, v in values.items()}
    return row


def _schema(rows: Sequence[Row]) -> pa.Schema:
    """Return the schema with the columns of all rows; the macro row has all measures."""
    words, counts = ("features", "against", "level", "class"), ("clips", "subjects")
    names = list(dict.fromkeys(name for row in rows for name in row))
    types = {**dict.fromkeys(words, pa.string()), **dict.fromkeys(counts, pa.int64())}
    return pa.schema([(name, types.get(name, pa.float64())) for name in names])
