"""Verbs of an open store, one method each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from sleepfm_index.info import Info, describe
from sleepfm_index.measures import Measures
from sleepfm_index.query.answer import answer
from sleepfm_index.query.batch import answers
from sleepfm_index.query.night import Night, nights
from sleepfm_index.query.question import Question, Questions
from sleepfm_index.query.stretch import Stretch, stretches
from sleepfm_index.query.words import Translation, translate
from sleepfm_index.results import Result
from sleepfm_index.schema import OTHERS
from sleepfm_index.sharing.faiss_index import faiss_index

if TYPE_CHECKING:
    from sleepfm_index.building.annotate import Annotation
    from sleepfm_index.explore.server import Explorer


class Store(Measures):
    """An open store: everything that a :class:`~.reader.Reader` reads, and the verbs.

    Make one with :func:`sleepfm_index.open` or :func:`sleepfm_index.build`.
    """

    def query(
        self,
        modality: str,
        to: str = OTHERS,
        *,
        clip: int | Sequence[int] | NDArray[np.integer[Any]] | None = None,
        recording: str | None = None,
        file: str | Path | None = None,
        at: str | None = None,
        k: int = 10,
        where: str | None = None,
        exclude: str = "subject",
        min_gap: float | None = None,
        exact: bool = False,
        weights: str | None = None,
        substitute: bool | None = None,
        channels: str | Path | None = None,
        like_where: str | None = None,
        unlike: int | Sequence[int] | NDArray[np.integer[Any]] | str | None = None,
        combine: str = "mean",
        vector: ArrayLike | None = None,
        allowed: ArrayLike | None = None,
        exclude_subjects: Sequence[str] = (),
    ) -> Result:
        """Find the clips whose ``to`` vectors are nearest to the ``modality`` vector of examples.

        Parameters
        ----------
        modality, to, clip, recording, file, at, like_where, vector, unlike, combine
            The query, as in :class:`sleepfm_index.query.question.Question`. Its examples are given
            by exactly one of: ``clip`` and/or ``like_where``; ``recording`` with ``at``; ``file``
            with ``at``; ``vector``.
        k, where, exclude, min_gap, exact, weights, substitute, channels, allowed, exclude_subjects
            The other fields of :class:`sleepfm_index.query.question.Question`.

        Returns
        -------
        Result
            Columns rank, score (cosine, or mean of cosines), and the clip's metadata. The note
            states the query, the meaning of the score, and ``exact`` or the measured recall.

        Raises
        ------
        QueryError
            If the query does not match the store.
        """
        path = None if file is None else Path(file)
        question = Question(
            modality,
            to,
            clip,
            recording,
            path,
            at,
            k,
            where,
            exclude,
            min_gap,
            exact,
            weights,
            substitute,
            channels,
            like_where,
            unlike,
            combine,
            vector,
            allowed,
            exclude_subjects,
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
        min_gap: float | None = None,
        exact: bool = False,
        allowed: ArrayLike | None = None,
        exclude_subjects: Sequence[str] = (),
    ) -> pa.RecordBatchReader:
        """Find the nearest clips of many clips at once, or of a whole recording.

        Several times faster per query than :meth:`query`; one batch of results is in memory at a
        time.

        Parameters
        ----------
        modality, to, clips, recording, k, where, exclude, min_gap, exact, allowed, exclude_subjects
            The fields of :class:`sleepfm_index.query.question.Questions`; exactly one of ``clips``
            and ``recording`` is given.

        Returns
        -------
        pyarrow.RecordBatchReader
            Columns query_clip_id, rank, score, and the metadata of each result clip.

        Raises
        ------
        QueryError
            If the queries do not match the store.
        """
        ids = None if clips is None else np.asarray(clips)
        questions = Questions(
            modality, to, ids, recording, k, where, exclude, min_gap, exact, allowed,
            exclude_subjects,
        )  # fmt: skip
        return answers(self, questions)

    def stretches(
        self,
        modality: str,
        to: str | None = None,
        *,
        recording: str,
        start: str,
        until: str,
        k: int = 10,
        where: str | None = None,
        exclude: str = "subject",
        exact: bool = False,
        elastic: bool = False,
        allowed: ArrayLike | None = None,
        exclude_subjects: Sequence[str] = (),
    ) -> Result:
        """Find the stretches of recordings that are nearest to a stretch of one recording.

        Parameters
        ----------
        modality, to, recording, start, until, k, where, exclude, exact, elastic, allowed, \
exclude_subjects
            The fields of :class:`sleepfm_index.query.stretch.Stretch`.

        Returns
        -------
        Result
            The result of :func:`sleepfm_index.query.stretch.stretches`.

        Raises
        ------
        QueryError
            If the query does not match the store.
        """
        return stretches(
            self,
            Stretch(
                modality, recording, start, until, to, k, where, exclude, exact, elastic, allowed,
                exclude_subjects,
            ),
        )  # fmt: skip

    def nights(
        self,
        modality: str,
        *,
        recording: str,
        like_where: str | None = None,
        k: int = 10,
        where: str | None = None,
        exclude: str = "subject",
        exact: bool = False,
        allowed: ArrayLike | None = None,
        exclude_subjects: Sequence[str] = (),
    ) -> Result:
        """Rank recordings by the similarity of their nights to one night.

        Parameters
        ----------
        modality, recording, like_where, k, where, exclude, exact, allowed, exclude_subjects
            The fields of :class:`sleepfm_index.query.night.Night`.

        Returns
        -------
        Result
            The result of :func:`sleepfm_index.query.night.nights`.

        Raises
        ------
        QueryError
            If the query does not match the store.
        """
        return nights(
            self,
            Night(
                modality, recording, like_where, k, where, exclude, exact, allowed, exclude_subjects
            ),
        )

    def translate(self, text: str) -> Translation:
        """Translate a condition in words into SQL over the columns of ``clips``, by rule.

        Parameters
        ----------
        text : str
            Condition such as ``N3 with slow breathing after an apnea``; docs/queries.md lists the
            vocabulary.

        Returns
        -------
        Translation
            Its ``sql`` is a condition for ``where``.

        Raises
        ------
        QueryError
            If no rule matches a word; the message names the words.
        """
        return translate(text, self.clip_schema.names, self.manifest.contract.clip_seconds)

    def annotate(
        self, table: Any, *, strict: bool = False, allow_identifying: bool = False
    ) -> Annotation:
        """Add or correct metadata of recordings, subjects or clips in one commit.

        This store is then open at the new snapshot; other open stores keep theirs.

        Parameters
        ----------
        table : path, pyarrow.Table, pandas.DataFrame or mapping of str to sequence
            Table with ``clip_id``, ``recording_id`` or ``subject_id``, and the columns to set.
        strict, allow_identifying
            As in :func:`sleepfm_index.annotate`.

        Raises
        ------
        StoreError
            If the table is ambiguous or not valid, or matches nothing in the store.
        """
        from sleepfm_index.building.annotate import annotate

        annotation = annotate(self.path, table, strict=strict, allow_identifying=allow_identifying)
        self.reopen()
        return annotation

    def faiss(self, target: str) -> Any:
        """Return the vectors of a target as a ``faiss.IndexIDMap`` whose ids are clip ids.

        It is a copy in memory of 1 kB per clip, independent of the store. It compares every clip in
        float32; :meth:`query` returns the same clips with float64 scores.

        Parameters
        ----------
        target : str
            Search target, one of ``manifest.targets``, such as ``"ecg"`` or ``"others_of_ecg"``.

        Raises
        ------
        QueryError
            If the store has no such target.
        """
        return faiss_index(self, target)

    def info(self) -> Info:
        """Summarise the contents of the store and its weights."""
        return describe(self)

    def explore(
        self, *, annotate: bool = False, probes: Sequence[str | Path] = (), view: str = ""
    ) -> Explorer:
        """Show the store as a web page: in a notebook as the cell's value, else at its ``url``.

        Needs the extra ``[explore]``. The server runs in a thread until :meth:`Explorer.close`.

        Parameters
        ----------
        annotate, probes, view
            As in :class:`sleepfm_index.explore.server.Explorer`.
        """
        # An optional extra.
        from sleepfm_index.explore.server import Explorer

        return Explorer(
            self.path, port=0, annotate=annotate, probes=probes, view=view, framed=True
        ).start()

    def _repr_html_(self) -> str:
        """Summarise the store in a notebook."""
        return self.info()._repr_html_()


def open(  # noqa: A001
    path: str | Path, *, threads: int | None = None, time_limit_s: float | None = None
) -> Store:
    """Open a store at its latest snapshot.

    Parameters
    ----------
    path : path
        The store's folder.
    threads : int, optional
        Number of threads, set by :func:`sleepfm_index.set_threads` for the whole process, including
        other open stores. By default ``$SLEEPFM_THREADS``, otherwise all cores.
    time_limit_s : float, optional
        Time that a statement of SQL or a condition may take; by default 300 s.

    Raises
    ------
    FormatError
        If there is no store at the path, or this version cannot read it.
    """
    return Store(path, threads=threads, time_limit_s=time_limit_s)
