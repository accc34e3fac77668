"""Few-shot learning curve over subjects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.splits import Split
from sleepfm_index.evaluation.metrics.assessment import MACRO, Predictions, class_rows, number_row
from sleepfm_index.evaluation.models.features import (
    default_features,
    feature_list,
    feature_reader,
    predict_rows,
)
from sleepfm_index.evaluation.models.recipe import Recipe
from sleepfm_index.evaluation.models.train_test import TrainTest, divide, learn
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result


def few_shot(
    store: Reader,
    label: str,
    shots: Sequence[int],
    *,
    on: str | Sequence[str] | None = None,
    repeats: int = 10,
    recipe: Recipe | None = None,
    where: str | None = None,
    task: str = "auto",
    classes: Sequence[str] | None = None,
    split: Split | None = None,
) -> Result:
    """Measure a probe that learns from few subjects, drawn again and again.

    One fold of subjects (or the test condition or store) is tested throughout; the subjects to
    learn from are drawn from the others.

    Parameters
    ----------
    store : Reader
        The open store.
    label, on, recipe, where, task, classes, split
        As in :func:`sleepfm_index.evaluation.models.probe.probe`.
    shots : sequence of int
        How many subjects to learn from.
    repeats : int
        How often they are drawn.

    Returns
    -------
    Result
        One row per feature and number of subjects: features, shots, then for each measure (auroc,
        auprc, f1 macro; or mae and r) its mean over the draws with ``_low`` and ``_high``, the 2.5
        and 97.5 percentiles over the draws; draws, one_class_draws (draws that held a single class,
        from which nothing can be learned; they are in no mean).

    Raises
    ------
    QueryError
        If there are fewer subjects to learn from than a shot asks for, or as ``probe``.
    """
    recipe = recipe or Recipe()
    plan = divide(
        store, label, split or Split(), where=where, task=task, classes=classes, seed=recipe.seed
    )
    rows = []
    chosen_features = default_features(store, plan.train) if on is None else feature_list(on)
    for features in chosen_features:
        train, test = next(plan.sides(features))
        people = np.unique(plan.train.subjects[train])
        for shot in shots:
            if not 1 <= shot <= len(people):
                raise QueryError(
                    f"{shot} subjects cannot be drawn from {len(people)} training subjects"
                )
        for shot in shots:
            rng = np.random.default_rng((recipe.seed, shot))
            found, single = [], 0
            for _ in range(repeats):
                drawn = rng.choice(people, shot, replace=False)
                chosen = train[np.isin(plan.train.subjects[train], drawn)]
                if plan.train.classes and len(np.unique(plan.train.values[chosen])) < 2:
                    single += 1
                    continue
                found.append(_measured(plan, features, recipe, chosen, test))
            rows.append(
                {"features": features, "shots": shot, **_summary(found, plan)}
                | {"draws": len(found), "one_class_draws": single}
            )
    return Result(
        pa.Table.from_pylist(rows),
        f"{plan.train.note}; {repeats} draws of subjects, the same test subjects throughout",
    )


def _measured(
    plan: TrainTest,
    features: str,
    recipe: Recipe,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
) -> dict[str, float | None]:
    read = feature_reader(plan.train_store, plan.train.clip_ids, features)
    fitted = learn(recipe, read, plan.train, train)
    read = feature_reader(plan.test_store, plan.test.clip_ids, features)
    scores = predict_rows(fitted, read, test)
    chosen = plan.test.take(test)
    made = Predictions(
        features, chosen.classes, chosen.values, scores, chosen.subjects, chosen.clip_ids
    )
    if not made.classes:
        row = number_row(made)
    else:
        row = next(r for r in class_rows(made) if r["class"] == MACRO)
    return {name: row[name] for name in _measures(plan)}  # type: ignore[misc]


def _measures(plan: TrainTest) -> tuple[str, ...]:
    return ("auroc", "auprc", "f1") if plan.train.classes else ("mae", "r")


def _summary(found: list[dict[str, float | None]], plan: TrainTest) -> dict[str, float | None]:
    summary: dict[str, float | None] = {}
    for name in _measures(plan):
        values = np.array([row[name] for row in found if row[name] is not None], np.float64)
        known = len(values) > 0
        summary[name] = float(values.mean()) if known else None
        summary[f"{name}_low"] = float(np.quantile(values, 0.025)) if known else None
        summary[f"{name}_high"] = float(np.quantile(values, 0.975)) if known else None
    return summary
