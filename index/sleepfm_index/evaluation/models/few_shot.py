"""Few-shot learning curve over subjects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from sleepfm_index.storage.segments import read_parquet


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
    compare_with: str | Path | None = None,
) -> Result:
    """Measure a probe trained on few subjects, with repeated random draws.

    One fold of subjects (or the test condition or store) is the test set of all draws; the training
    subjects are drawn from the others.

    Parameters
    ----------
    store : Reader
        The open store.
    label, on, recipe, where, task, classes, split
        As in :func:`sleepfm_index.evaluation.models.probe.probe`.
    shots : sequence of int
        Numbers of training subjects.
    repeats : int
        Number of draws per number of subjects.
    compare_with : path, optional
        File with rows to add to the table: the curve of
        :func:`.few_shot_network.supervise_few_shot` with the same label, split and seed.

    Returns
    -------
    Result
        One row per feature and number of subjects: features, shots, then for each measure (auroc,
        auprc, f1 macro; or mae and r) its mean over the draws with ``_low`` and ``_high``, the 2.5
        and 97.5 percentiles over the draws; draws, one_class_draws (number of draws with a single
        class, which cannot be fitted and are not in the means).

    Raises
    ------
    QueryError
        If there are fewer training subjects than requested, or as in ``probe``.
    """
    recipe = recipe or Recipe()
    plan = divide(
        store, label, split or Split(), where=where, task=task, classes=classes, seed=recipe.seed
    )
    rows = []
    for features in default_features(store, plan.train) if on is None else feature_list(on):
        drawn = Draws.of(plan, features, shots, repeats, recipe.seed)
        predicted = _by_probe(plan, features, recipe, drawn.test)
        rows += drawn.measured(features, predicted)
    if compare_with is not None:
        rows += _read_curve(Path(compare_with), rows)
    return Result(
        pa.Table.from_pylist(rows),
        f"{plan.train.note}; {repeats} draws of subjects, the same test subjects throughout",
    )


def _by_probe(
    plan: TrainTest, features: str, recipe: Recipe, test: NDArray[np.int64]
) -> Callable[[NDArray[np.int64], str], NDArray[np.float64]]:
    read = feature_reader(plan.train_store, plan.train.clip_ids, features)
    read_test = feature_reader(plan.test_store, plan.test.clip_ids, features)

    def predicted(chosen: NDArray[np.int64], _: str) -> NDArray[np.float64]:
        return predict_rows(learn(recipe, read, plan.train, chosen), read_test, test)

    return predicted


def _read_curve(path: Path, rows: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    names = list(rows[0])
    try:
        table = read_parquet(path, names)
    except (OSError, pa.ArrowException) as error:
        raise QueryError(
            f"{path.name} cannot be read as a learning curve; write one with `sleepfm-index "
            "supervise --shots`"
        ) from error
    missing = [n for n in names if n not in table.column_names]
    if missing:
        raise QueryError(f"{path.name} has no column {missing[0]}; it is no curve of this label")
    curve: list[dict[str, object]] = table.select(names).to_pylist()
    return curve


@dataclass(frozen=True)
class Draws:
    """Repeated draws of few training subjects, and the test clips.

    Parameters
    ----------
    plan : TrainTest
        The split; its first fold, condition or store is the test set.
    test : ndarray of int64, shape [m]
        Test rows of ``plan.test``.
    chosen : dict of int to list of ndarray of int64
        Rows of ``plan.train`` of each draw, by number of subjects.
    """

    plan: TrainTest
    test: NDArray[np.int64]
    chosen: dict[int, list[NDArray[np.int64]]]

    @classmethod
    def of(
        cls, plan: TrainTest, features: str, shots: Sequence[int], repeats: int, seed: int
    ) -> Draws:
        """Draw subjects; with the same seed, probe and network get the same subjects.

        Parameters
        ----------
        plan : TrainTest
            The split.
        features : str
            Modalities, joined by ``+``, that clips must have.
        shots : sequence of int
            Numbers of subjects to draw.
        repeats, seed : int
            Number of draws, and random seed.

        Raises
        ------
        QueryError
            If there are fewer training subjects than requested.
        """
        train, test = next(plan.sides(features))
        owner = plan.train.subjects[train]
        people = np.unique(owner)
        for shot in shots:
            if not 1 <= shot <= len(people):
                raise QueryError(
                    f"{shot} subjects cannot be drawn from {len(people)} training subjects"
                )
        chosen = {}
        for shot in shots:
            rng = np.random.default_rng((seed, shot))
            drawn = [rng.choice(people, shot, replace=False) for _ in range(repeats)]
            chosen[shot] = [train[np.isin(owner, names)] for names in drawn]
        return cls(plan, test, chosen)

    def measured(
        self, name: str, predicted: Callable[[NDArray[np.int64], str], NDArray[np.float64]]
    ) -> list[dict[str, object]]:
        """Measure a model on every draw, one row per number of subjects.

        Parameters
        ----------
        name : str
            Name of the model in the table.
        predicted : callable
            Function of the training rows and the name of the draw that returns scores of the test
            clips.
        """
        labels = self.plan.train
        rows: list[dict[str, object]] = []
        for shot, draws in self.chosen.items():
            measures, single = [], 0
            for number, chosen in enumerate(draws, start=1):
                if labels.classes and len(np.unique(labels.values[chosen])) < 2:
                    single += 1
                    continue
                scores = predicted(chosen, f"{shot}-subjects-draw-{number}")
                measures.append(self._measures(name, scores))
            row: dict[str, object] = {"features": name, "shots": shot}
            row |= _summary(measures, _measures(self.plan))
            rows.append(row | {"draws": len(measures), "one_class_draws": single})
        return rows

    def _measures(self, name: str, scores: NDArray[np.float64]) -> dict[str, float | None]:
        test = self.plan.test.take(self.test)
        predictions = Predictions(
            name, test.classes, test.values, scores, test.subjects, test.clip_ids
        )
        if not predictions.classes:
            row = number_row(predictions)
        else:
            row = next(r for r in class_rows(predictions) if r["class"] == MACRO)
        return {measure: row[measure] for measure in _measures(self.plan)}  # type: ignore[misc]


def _measures(plan: TrainTest) -> tuple[str, ...]:
    return ("auroc", "auprc", "f1") if plan.train.classes else ("mae", "r")


def _summary(
    draws: list[dict[str, float | None]], measures: tuple[str, ...]
) -> dict[str, float | None]:
    summary: dict[str, float | None] = {}
    for name in measures:
        values = np.array([row[name] for row in draws if row[name] is not None], np.float64)
        valid = len(values) > 0
        summary[name] = float(values.mean()) if valid else None
        summary[f"{name}_low"] = float(np.quantile(values, 0.025)) if valid else None
        summary[f"{name}_high"] = float(np.quantile(values, 0.975)) if valid else None
    return summary
