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
            The query, as in :class:`sleepfm_index.query.question.Question`. Its examples are named
            by exactly one of ``clip`` and/or ``like_where``, ``recording`` with ``at``, ``file``
            with ``at``, or ``vector``.
        k, where, exclude, min_gap, exact, weights, substitute, channels, allowed, exclude_subjects
            The other fields of :class:`sleepfm_index.query.question.Question`.

        Returns
        -------
        Result
            Columns rank, score (cosine, or mean of cosines), and the clip's metadata; the note
            says what was compared, what the score is, and ``exact`` or the measured recall.

        Raises
        ------
        QueryError
            If the question does not fit the store.
        """
        own = None if file is None else Path(file)
        question = Question(
            modality,
            to,
            clip,
            recording,
            own,
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
    ) -> pa.RecordBatchReader:
        """Find the nearest clips of many clips at once, or of a whole recording.

        Several times faster per query than :meth:`query`; one batch of answers is in memory at a
        time.

        Parameters
        ----------
        modality, to, clips, recording, k, where, exclude, min_gap, exact
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
        ids = None if clips is None else np.asarray(clips)
        questions = Questions(modality, to, ids, recording, k, where, exclude, min_gap, exact)
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
        """Find the stretches of nights that are nearest to a stretch of a recording.

        Parameters
        ----------
        modality, to, recording, start, until, k, where, exclude, exact, elastic, allowed, \
exclude_subjects
            The fields of :class:`sleepfm_index.query.stretch.Stretch`.

        Returns
        -------
        Result
            As from :func:`sleepfm_index.query.stretch.stretches`.

        Raises
        ------
        QueryError
            If the question does not fit the store.
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
        """Rank whole recordings by how alike their nights are to that of one.

        Parameters
        ----------
        modality, recording, like_where, k, where, exclude, exact, allowed, exclude_subjects
            The fields of :class:`sleepfm_index.query.night.Night`.

        Returns
        -------
        Result
            As from :func:`sleepfm_index.query.night.nights`.

        Raises
        ------
        QueryError
            If the question does not fit the store.
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
            Such as ``N3 with slow breathing after an apnea``; docs/asking.md lists the words.

        Returns
        -------
        Translation
            Its ``sql`` is a condition for ``where``.

        Raises
        ------
        QueryError
            Naming the words that no rule knows.
        """
        return translate(text, self.clip_schema.names, self.manifest.contract.clip_seconds)

    def annotate(
        self, table: Any, *, strict: bool = False, allow_identifying: bool = False
    ) -> Annotation:
        """Add facts about recordings, subjects or clips, or correct them, in one commit.

        This store then reads the snapshot that has them; others opened before do not.

        Parameters
        ----------
        table : path, pyarrow.Table, pandas.DataFrame or mapping of str to sequence
            With a column ``clip_id``, ``recording_id`` or ``subject_id``, and those to set.
        strict, allow_identifying
            As in :func:`sleepfm_index.annotate`.

        Raises
        ------
        StoreError
            If the table cannot be meant, or names nothing that is in the store.
        """
        from sleepfm_index.building.annotate import annotate

        done = annotate(self.path, table, strict=strict, allow_identifying=allow_identifying)
        self.reopen()
        return done

    def faiss(self, target: str) -> Any:
        """Return the vectors of a target as a ``faiss.IndexIDMap`` whose ids are clip ids.

        It is a copy in memory, 1 kB per clip, and the caller's: it outlives the store, and changing
        it changes nothing there. Every clip is compared, by float32 sums; :meth:`query` gives the
        same clips by float64 scores.

        Parameters
        ----------
        target : str
            One of ``manifest.targets``, such as ``"ecg"`` or ``"others_of_ecg"``.

        Raises
        ------
        QueryError
            If the store has no such target.
        """
        return faiss_index(self, target)

    def info(self) -> Info:
        """Describe what the store holds and which weights made it."""
        return describe(self)

    def explore(
        self, *, annotate: bool = False, probes: Sequence[str | Path] = (), view: str = ""
    ) -> Explorer:
        """Show the store as a page: in a notebook as the value of a cell, else at its ``url``.

        Needs the extra ``[explore]``. The server runs in a thread until :meth:`Explorer.close`.

        Parameters
        ----------
        annotate, probes, view
            As in :class:`sleepfm_index.explore.server.Explorer`.
        """
        # An extra that not every user installs.
        from sleepfm_index.explore.server import Explorer

        return Explorer(
            self.path, port=0, annotate=annotate, probes=probes, view=view, framed=True
        ).start()

    def _repr_html_(self) -> str:
        """Summarise the store in a notebook."""
        return self.info()._repr_html_()


def open(path: str | Path, *, threads: int | None = None) -> Store:  # noqa: A001
    """Open a store at its latest snapshot.

    Parameters
    ----------
    path : path
        The store's folder.
    threads : int, optional
        As :func:`sleepfm_index.set_threads` with this number: it holds for the whole process, for
        stores that are open already too. By default ``$SLEEPFM_THREADS``, else all cores.

    Raises
    ------
    FormatError
        If there is no store there, or not one that this version can read.
    """
    return Store(path, threads=threads)
