"""Evaluation of an open store: one method per verb.

The evaluation modules are imported on first use, because importing them takes as long as a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result

if TYPE_CHECKING:
    from sleepfm_index.evaluation.metrics.assessment import Assessment
    from sleepfm_index.evaluation.models.baseline_features import BaselineFeatures
    from sleepfm_index.evaluation.models.knn import Vote
    from sleepfm_index.evaluation.models.recipe import Recipe


class Measures(Reader):
    """A :class:`~.reader.Reader` that can be evaluated."""

    def evaluate(
        self,
        *,
        against: Reader | None = None,
        where: str | None = None,
        gallery: int | None = None,
        seed: int = 0,
        draws: int = 1,
        among: str = "all",
        by: str | None = None,
        combinations: bool = False,
        include_seen: bool = False,
    ) -> Result:
        """Measure cross-modal retrieval for every pair of modalities and every ``others``.

        Parameters
        ----------
        against : Reader, optional
            Another store of the same recordings: paired differences, see
            :func:`sleepfm_index.evaluation.retrieval.paired.compare`; ``by`` and ``combinations``
            do not apply.
        where, gallery, seed, draws, among, by, combinations, include_seen
            As in :func:`sleepfm_index.evaluation.retrieval.retrieval.evaluate`.

        Raises
        ------
        QueryError
            If the arguments do not match the store.
        """
        from sleepfm_index.evaluation.retrieval.paired import compare
        from sleepfm_index.evaluation.retrieval.retrieval import evaluate

        if against is None:
            return evaluate(
                self,
                where=where,
                gallery=gallery,
                seed=seed,
                draws=draws,
                among=among,
                by=by,
                combinations=combinations,
                include_seen=include_seen,
            )
        if by is not None or combinations:
            raise QueryError("by and combinations do not apply to a comparison with another store")
        return compare(
            self,
            against,
            where=where,
            gallery=gallery,
            seed=seed,
            draws=draws,
            among=among,
            include_seen=include_seen,
        )

    def probe(
        self,
        label: str,
        *,
        on: str | Sequence[str] | None = None,
        where: str | None = None,
        task: str = "auto",
        classes: Sequence[str] | None = None,
        folds: int = 5,
        train_where: str | None = None,
        test_where: str | None = None,
        test_store: Reader | None = None,
        recipe: Recipe | None = None,
        compare_with: str | Path | None = None,
        against: Reader | None = None,
        by: str | None = None,
        baselines: bool | BaselineFeatures = False,
        smooth: bool = False,
        include_seen: bool = False,
    ) -> Assessment:
        """Measure how well a probe predicts a label, with subjects kept apart.

        Needs scikit-learn.

        Parameters
        ----------
        label, on, where, task, classes, recipe, compare_with, against, by, smooth
            As in :func:`sleepfm_index.evaluation.models.probe.probe`.
        baselines : bool or BaselineFeatures
            Whether to probe baseline features and untrained vectors as well. Baseline features
            computed earlier may be passed, so that recordings are read once.
        folds, train_where, test_where, test_store, include_seen
            The fields of :class:`sleepfm_index.evaluation.labels.splits.Split`.
        """
        from sleepfm_index.evaluation.labels.splits import Split
        from sleepfm_index.evaluation.models.baseline_features import BaselineFeatures
        from sleepfm_index.evaluation.models.probe import probe

        return probe(
            self,
            label,
            on=on,
            where=where,
            task=task,
            classes=classes,
            split=Split(folds, train_where, test_where, test_store, include_seen),
            recipe=recipe,
            compare_with=compare_with,
            against=against,
            by=by,
            baselines=BaselineFeatures() if baselines is True else baselines or None,
            smooth=smooth,
        )

    def age_gaps(
        self,
        on: str,
        *,
        where: str | None = None,
        folds: int = 5,
        train_where: str | None = None,
        test_where: str | None = None,
        test_store: Reader | None = None,
        recipe: Recipe | None = None,
        include_seen: bool = False,
    ) -> Result:
        """Predict the age of each night, corrected for bias, and its gap to the true age.

        Needs scikit-learn.

        Parameters
        ----------
        on, where, recipe
            As in :func:`sleepfm_index.evaluation.models.age_gap.age_gaps`.
        folds, train_where, test_where, test_store, include_seen
            The fields of :class:`sleepfm_index.evaluation.labels.splits.Split`.
        """
        from sleepfm_index.evaluation.labels.splits import Split
        from sleepfm_index.evaluation.models.age_gap import age_gaps

        split = Split(folds, train_where, test_where, test_store, include_seen)
        return age_gaps(self, on, where=where, split=split, recipe=recipe)

    def few_shot(
        self,
        label: str,
        shots: Sequence[int],
        *,
        on: str | Sequence[str] | None = None,
        repeats: int = 10,
        recipe: Recipe | None = None,
        where: str | None = None,
        task: str = "auto",
        classes: Sequence[str] | None = None,
        folds: int = 5,
        train_where: str | None = None,
        test_where: str | None = None,
        test_store: Reader | None = None,
        include_seen: bool = False,
        compare_with: str | Path | None = None,
    ) -> Result:
        """Measure a probe trained on few subjects.

        Needs scikit-learn.

        Parameters
        ----------
        label, shots, on, repeats, recipe, compare_with
            As in :func:`sleepfm_index.evaluation.models.few_shot.few_shot`.
        where, task, classes
            As in :func:`sleepfm_index.evaluation.models.train_test.divide`.
        folds, train_where, test_where, test_store, include_seen
            The fields of :class:`sleepfm_index.evaluation.labels.splits.Split`.
        """
        from sleepfm_index.evaluation.labels.splits import Split
        from sleepfm_index.evaluation.models.few_shot import few_shot

        return few_shot(
            self,
            label,
            shots,
            on=on,
            repeats=repeats,
            recipe=recipe,
            where=where,
            task=task,
            classes=classes,
            split=Split(folds, train_where, test_where, test_store, include_seen),
            compare_with=compare_with,
        )

    def survival(
        self,
        time: str,
        event: str,
        *,
        on: str | Sequence[str] | None = None,
        where: str | None = None,
        folds: int = 5,
        include_seen: bool = False,
        components: int = 10,
        ridge: float = 1.0,
        seed: int = 0,
    ) -> Result:
        """Measure how well the vectors rank subjects by time to an event.

        Needs scikit-survival.

        Parameters
        ----------
        time, event, on, where, folds, include_seen, components, ridge, seed
            As in :func:`sleepfm_index.evaluation.models.survival.survival`.
        """
        from sleepfm_index.evaluation.models.survival import survival

        return survival(
            self,
            time,
            event,
            on=on,
            where=where,
            folds=folds,
            include_seen=include_seen,
            components=components,
            ridge=ridge,
            seed=seed,
        )

    def predict(
        self, probe: str | Path, *, where: str | None = None, smooth: bool = False
    ) -> Result:
        """Predict the label of every clip with a saved probe.

        Parameters
        ----------
        probe : path
            A file written by ``sleepfm-index probe --save``.
        where, smooth
            As in :func:`sleepfm_index.evaluation.models.predict.predict`.
        """
        from sleepfm_index.evaluation.models.predict import predict
        from sleepfm_index.evaluation.models.probe_kinds import load_probe

        return predict(self, load_probe(probe), where=where, smooth=smooth)

    def knn(
        self,
        label: str,
        *,
        modality: str = "bas",
        to: str | None = None,
        vote: Vote | None = None,
        where: str | None = None,
        task: str = "auto",
        classes: Sequence[str] | None = None,
        train_where: str | None = None,
        test_where: str | None = None,
        test_store: Reader | None = None,
        against: Reader | None = None,
        queries: int | None = 10_000,
        seed: int = 0,
        include_seen: bool = False,
    ) -> Assessment:
        """Measure how well the nearest labelled neighbours predict a label.

        Parameters
        ----------
        label, modality, to, vote, where, task, classes, against, queries, seed
            As in :func:`sleepfm_index.evaluation.models.knn.knn`.
        train_where, test_where, test_store, include_seen
            The fields of :class:`sleepfm_index.evaluation.labels.splits.Split`.
        """
        from sleepfm_index.evaluation.labels.splits import Split
        from sleepfm_index.evaluation.models.knn import knn

        return knn(
            self,
            label,
            modality=modality,
            to=to,
            vote=vote,
            where=where,
            task=task,
            classes=classes,
            split=Split(5, train_where, test_where, test_store, include_seen),
            against=against,
            queries=queries,
            seed=seed,
        )

    def review(
        self,
        *,
        label: str = "stage",
        on: str | None = None,
        kinds: Sequence[str] | None = None,
        where: str | None = None,
        seed: int = 0,
        include_seen: bool = False,
    ) -> Result:
        """List likely label errors, outliers, duplicates and flat embeddings, with reasons.

        Label errors need the extra ``[review]``; without it, and unless ``kinds`` names them, the
        others are looked for.

        Parameters
        ----------
        label, on, kinds, where, seed, include_seen
            As in :func:`sleepfm_index.evaluation.review.review.review`.
        """
        from sleepfm_index.evaluation.review.review import review

        return review(
            self,
            label=label,
            on=on,
            kinds=kinds,
            where=where,
            seed=seed,
            include_seen=include_seen,
        )

    def neighbours(
        self,
        modality: str,
        to: str | None = None,
        *,
        clips: Sequence[int] | NDArray[np.int64],
        label: str = "stage",
        k: int = 10,
        where: str | None = None,
        exclude: str = "subject",
    ) -> Result:
        """Find the labelled neighbours of the given clips.

        Parameters
        ----------
        modality, to, clips, label, k, where, exclude
            As in :func:`sleepfm_index.evaluation.models.neighbours.neighbours`.
        """
        from sleepfm_index.evaluation.models.neighbours import neighbours

        return neighbours(
            self, modality, to, clips=clips, label=label, k=k, where=where, exclude=exclude
        )
