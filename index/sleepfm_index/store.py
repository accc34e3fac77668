"""What can be asked of an open store: one method per verb, over :class:`~.reader.Reader`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.metrics.assessment import Assessment
from sleepfm_index.evaluation.metrics.bootstrap import REPLICATES
from sleepfm_index.evaluation.models.few_shot import few_shot
from sleepfm_index.evaluation.models.knn import QUERIES, Vote, knn, neighbours
from sleepfm_index.evaluation.models.linear_probe import LinearProbe
from sleepfm_index.evaluation.models.predict import predict
from sleepfm_index.evaluation.models.probe import Recipe, probe
from sleepfm_index.evaluation.retrieval.paired import compare
from sleepfm_index.evaluation.retrieval.retrieval import evaluate
from sleepfm_index.info import Info, describe
from sleepfm_index.query.answer import answer
from sleepfm_index.query.batch import answers
from sleepfm_index.query.question import Question, Questions
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result
from sleepfm_index.schema import OTHERS


class Store(Reader):
    """An open store: everything that a :class:`~.reader.Reader` reads, and the verbs.

    Make one with :func:`sleepfm_index.open` or :func:`sleepfm_index.build`.
    """

    def query(
        self,
        modality: str,
        to: str = OTHERS,
        *,
        clip: int | None = None,
        recording: str | None = None,
        file: str | Path | None = None,
        at: str | None = None,
        k: int = 10,
        where: str | None = None,
        exclude: str = "subject",
        spread: float | None = None,
        exact: bool = False,
        weights: str | None = None,
    ) -> Result:
        """Find the clips whose ``to`` vectors are nearest to one clip's ``modality`` vector.

        Parameters
        ----------
        modality, to, clip, recording, file, at, k, where, exclude, spread, exact, weights
            The fields of :class:`sleepfm_index.query.question.Question`. The query clip is named
            by exactly one of ``clip``, ``recording`` with ``at``, or ``file`` with ``at``.

        Returns
        -------
        Result
            Columns rank, score (cosine, or mean of cosines), and the clip's metadata; the note
            says ``exact`` or the measured recall.

        Raises
        ------
        QueryError
            If the question does not fit the store.
        """
        question = Question(
            modality=modality,
            to=to,
            clip=clip,
            recording=recording,
            file=None if file is None else Path(file),
            at=at,
            k=k,
            where=where,
            exclude=exclude,
            spread=spread,
            exact=exact,
            weights=weights,
        )
        return answer(self, question)

    def query_many(
        self,
        modality: str,
        to: str = OTHERS,
        *,
        clips: Sequence[int] | NDArray[np.int64] | None = None,
        recording: str | None = None,
        k: int = 10,
        where: str | None = None,
        exclude: str = "subject",
        spread: float | None = None,
        exact: bool = False,
    ) -> pa.RecordBatchReader:
        """Find the nearest clips of many clips at once, or of a whole recording.

        Several times faster per query than :meth:`query`; one batch of answers is in memory at a
        time.

        Parameters
        ----------
        modality, to, clips, recording, k, where, exclude, spread, exact
            The fields of :class:`sleepfm_index.query.question.Questions`; exactly one of ``clips``
            and ``recording`` is given.

        Returns
        -------
        pyarrow.RecordBatchReader
            Columns query_clip_id, rank, score, and the found clip's metadata.

        Raises
        ------
        QueryError
            If the questions do not fit the store.
        """
        questions = Questions(
            modality=modality,
            to=to,
            clips=None if clips is None else np.ascontiguousarray(clips, np.int64),
            recording=recording,
            k=k,
            where=where,
            exclude=exclude,
            spread=spread,
            exact=exact,
        )
        return answers(self, questions)

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
        replicates: int = REPLICATES,
    ) -> Result:
        """Measure cross-modal retrieval for every pair of modalities and every ``others``.

        Parameters
        ----------
        against : Reader, optional
            Another store of the same recordings: paired differences, see
            :func:`sleepfm_index.evaluation.retrieval.paired.compare`; ``by`` and ``combinations``
            do not apply.
        where, gallery, seed, draws, among, by, combinations, replicates
            As in :func:`sleepfm_index.evaluation.retrieval.retrieval.evaluate`.

        Raises
        ------
        QueryError
            If the question does not fit the store.
        """
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
                replicates=replicates,
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
            replicates=replicates,
        )

    def probe(
        self,
        label: str,
        *,
        on: Sequence[str] | None = None,
        where: str | None = None,
        kind: str = "auto",
        classes: Sequence[str] | None = None,
        folds: int = 5,
        train_where: str | None = None,
        test_where: str | None = None,
        test_store: Reader | None = None,
        recipe: Recipe | None = None,
        replicates: int = REPLICATES,
        beside: str | Path | None = None,
    ) -> Assessment:
        """Measure what a linear probe reads from the vectors, subjects kept apart.

        Needs scikit-learn.

        Parameters
        ----------
        label, on, where, kind, classes, folds, train_where, test_where, test_store, recipe
            As in :func:`sleepfm_index.evaluation.models.probe.probe`.
        replicates, beside
            Likewise.
        """
        return probe(
            self,
            label,
            on=on,
            where=where,
            kind=kind,
            classes=classes,
            folds=folds,
            train_where=train_where,
            test_where=test_where,
            test_store=test_store,
            recipe=recipe,
            replicates=replicates,
            beside=beside,
        )

    def few_shot(
        self,
        label: str,
        shots: Sequence[int],
        *,
        on: Sequence[str] | None = None,
        repeats: int = 10,
        recipe: Recipe | None = None,
        where: str | None = None,
        kind: str = "auto",
        classes: Sequence[str] | None = None,
        folds: int = 5,
        train_where: str | None = None,
        test_where: str | None = None,
        test_store: Reader | None = None,
    ) -> Result:
        """Measure a probe that learns from few subjects.

        Needs scikit-learn.

        Parameters
        ----------
        label, shots, on, repeats, recipe
            As in :func:`sleepfm_index.evaluation.models.few_shot.few_shot`.
        where, kind, classes, folds, train_where, test_where, test_store
            As in :func:`sleepfm_index.evaluation.models.probe.make_plan`.
        """
        return few_shot(
            self,
            label,
            shots,
            on=on,
            repeats=repeats,
            recipe=recipe,
            where=where,
            kind=kind,
            classes=classes,
            folds=folds,
            train_where=train_where,
            test_where=test_where,
            test_store=test_store,
        )

    def predict(self, probe: str | Path, *, where: str | None = None) -> Result:
        """Predict the label of every clip with a saved probe.

        Parameters
        ----------
        probe : path
            A file written by ``sleepfm-index probe --save``.
        where : str, optional
            SQL condition over the columns of ``clips``.
        """
        return predict(self, LinearProbe.load(probe), where=where)

    def knn(
        self,
        label: str,
        *,
        modality: str = "bas",
        to: str | None = None,
        vote: Vote | None = None,
        where: str | None = None,
        kind: str = "auto",
        classes: Sequence[str] | None = None,
        train_where: str | None = None,
        test_where: str | None = None,
        test_store: Reader | None = None,
        queries: int | None = QUERIES,
        seed: int = 0,
        replicates: int = REPLICATES,
    ) -> Assessment:
        """Measure how well the nearest labelled neighbours predict a label.

        Parameters
        ----------
        label, modality, to, vote, where, kind, classes, train_where, test_where, test_store
            As in :func:`sleepfm_index.evaluation.models.knn.knn`.
        queries, seed, replicates
            Likewise.
        """
        return knn(
            self,
            label,
            modality=modality,
            to=to,
            vote=vote,
            where=where,
            kind=kind,
            classes=classes,
            train_where=train_where,
            test_where=test_where,
            test_store=test_store,
            queries=queries,
            seed=seed,
            replicates=replicates,
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
        """Find the labelled neighbours of some clips.

        Parameters
        ----------
        modality, to, clips, label, k, where, exclude
            As in :func:`sleepfm_index.evaluation.models.knn.neighbours`.
        """
        return neighbours(
            self, modality, to, clips=clips, label=label, k=k, where=where, exclude=exclude
        )

    def info(self) -> Info:
        """Describe what the store holds and which weights made it."""
        return describe(self)


def open(path: str | Path, *, threads: int | None = None) -> Store:  # noqa: A001
    """Open a store at its latest snapshot.

    Parameters
    ----------
    path : path
        The store's folder.
    threads : int, optional
        Threads that searching may use; by default all cores.

    Raises
    ------
    FormatError
        If there is no store there, or not one that this version can read.
    """
    return Store(path, threads=threads)
