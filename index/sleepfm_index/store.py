"""An open store: what can be asked of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.results import Result
from sleepfm_index.runtime.threads import setting, use
from sleepfm_index.schema import TARGETS
from sleepfm_index.search.exact import Hits
from sleepfm_index.search.ivf import InvertedFile
from sleepfm_index.search.searcher import Found, Searcher
from sleepfm_index.search.selection import Selection
from sleepfm_index.storage import private
from sleepfm_index.storage.manifest import Manifest, read_manifest
from sleepfm_index.storage.metadata import Metadata
from sleepfm_index.storage.row_cache import ClipRows
from sleepfm_index.storage.snapshots import held
from sleepfm_index.storage.vectors import Vectors

if TYPE_CHECKING:
    import pyarrow as pa

    from sleepfm_index.evaluation.metrics.assessment import Assessment
    from sleepfm_index.info import Info
    from sleepfm_index.query.answer import Question


class Store:
    """An open store, held at the snapshot it was opened at.

    Make one with :func:`sleepfm_index.open` or :func:`sleepfm_index.build`. Nothing is read before
    it is needed; vectors and indexes are memory-mapped. Threads may share it, and so may forked
    processes: each opens the files again for itself.

    Parameters
    ----------
    path : Path
        The store's folder.
    threads : int, optional
        Threads of DuckDB, FAISS and OpenBLAS; by default ``$SLEEPFM_THREADS``, else all cores.

    Raises
    ------
    FormatError
        If there is no store, or not one that this version can read.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        self._threads = threads or setting()
        if threads:
            use(threads)
        self._opened: dict[int, _Opened] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection and the mapped files."""
        opened = self._opened.pop(os.getpid(), None)
        if opened is not None:
            opened.close()

    def __len__(self) -> int:
        return self.manifest.rows

    @property
    def metadata(self) -> Metadata:
        """Clips, events and recordings, for SQL."""
        return self._here().metadata()

    def rows(self, clip_ids: NDArray[np.int64]) -> pa.Table:
        """All metadata of the given clips, in the given order; unknown ids are left out.

        For the few rows of an answer: it needs no SQL where the store has rows that can be mapped.
        """
        return self._here().clip_rows.rows(clip_ids)

    def runs(self, column: str, value: str) -> tuple[tuple[int, int], ...]:
        """Clip ids of a ``subject_id`` or a ``recording_id``, as (first, last) runs."""
        return self._here().clip_rows.runs(column, value)

    @property
    def vectors(self) -> Vectors:
        """The vectors, by clip id and modality."""
        return self._here().vectors

    def _here(self) -> _Opened:
        # A forked child must not touch its parent's connection: its threads are not there.
        opened = self._opened.get(os.getpid())
        if opened is None:
            fresh = _Opened(self.path, self.manifest, self._threads)
            opened = self._opened.setdefault(os.getpid(), fresh)
        return opened

    # What can be asked

    def sql(self, statement: str) -> Result:
        """Answer a SELECT-like statement over ``clips``, ``events`` and ``recordings``.

        Raises
        ------
        QueryError
            If it is not one read-only statement, or is not valid.
        """
        return Result(self.metadata.select(statement), "")

    def query(self, modality: str, to: str = "others", **question: Any) -> Result:
        """Find the clips whose ``to`` vectors are nearest to one clip's ``modality`` vector.

        Parameters
        ----------
        modality : str
            What to search with: ``bas``, ``ecg``, ``resp``, or two of them joined by a comma.
        to : {"others", "bas", "ecg", "resp"}
            What to search in; ``others`` is the mean of a clip's other unit vectors.
        **question
            The other fields of :class:`sleepfm_index.query.answer.Question`: ``clip`` or
            ``recording`` with ``at`` or ``file`` with ``at``; ``k``, ``where``, ``exclude``,
            ``spread``, ``exact``, ``weights``.

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
        from sleepfm_index.query.answer import Question, answer

        asked: Question = Question(modality=modality, to=to, **question)
        return answer(self, asked)

    def query_many(
        self, modality: str, to: str = "others", **questions: Any
    ) -> pa.RecordBatchReader:
        """Find the nearest clips of many clips at once, or of a whole recording.

        Several times faster a query than :meth:`query`, and nothing is held but one batch.

        Parameters
        ----------
        modality, to : str
            As in :meth:`query`.
        **questions
            The other fields of :class:`sleepfm_index.query.batch.Questions`: ``clips`` (ids) or
            ``recording``; ``k``, ``where``, ``exclude``, ``spread``, ``exact``.

        Returns
        -------
        pyarrow.RecordBatchReader
            Columns query_clip_id, rank, score, and the found clip's metadata.

        Raises
        ------
        QueryError
            If the questions do not fit the store.
        """
        from sleepfm_index.query.batch import Questions, answers

        return answers(self, Questions(modality=modality, to=to, **questions))

    def evaluate(self, *, against: Store | None = None, **asked: Any) -> Result:
        """Measure cross-modal retrieval for every pair of modalities and every ``others``.

        Parameters
        ----------
        against : Store, optional
            Another store of the same recordings: paired differences, see
            :func:`sleepfm_index.evaluation.retrieval.paired.compare`.
        **asked
            ``where``, ``gallery``, ``seed``, ``draws``, ``among``, ``by``, ``combinations``: see
            :func:`sleepfm_index.evaluation.retrieval.retrieval.evaluate`.
        """
        if against is not None:
            from sleepfm_index.evaluation.retrieval.paired import compare

            return compare(self, against, **asked)
        from sleepfm_index.evaluation.retrieval.retrieval import evaluate

        return evaluate(self, **asked)

    def probe(self, label: str, **asked: Any) -> Assessment:
        """Measure what a linear probe reads from the vectors, subjects kept apart.

        See :func:`sleepfm_index.evaluation.models.probe.probe`; needs scikit-learn.
        """
        from sleepfm_index.evaluation.models.probe import probe

        return probe(self, label, **asked)

    def few_shot(self, label: str, shots: Sequence[int], **asked: Any) -> Result:
        """Measure a probe that learns from few subjects.

        See :func:`sleepfm_index.evaluation.models.few_shot.few_shot`; needs scikit-learn.
        """
        from sleepfm_index.evaluation.models.few_shot import few_shot

        return few_shot(self, label, shots, **asked)

    def predict(self, probe: str | Path, *, where: str | None = None) -> Result:
        """Predict the label of every clip by a saved probe.

        See :func:`sleepfm_index.evaluation.models.predict.predict`.
        """
        from sleepfm_index.evaluation.models.linear_probe import LinearProbe
        from sleepfm_index.evaluation.models.predict import predict

        return predict(self, LinearProbe.load(probe), where=where)

    def knn(self, label: str, **asked: Any) -> Assessment:
        """Measure what the nearest labelled neighbours say; see :mod:`.evaluation.knn`."""
        from sleepfm_index.evaluation.models.knn import knn

        return knn(self, label, **asked)

    def neighbours(self, modality: str, to: str | None = None, **asked: Any) -> Result:
        """Find the labelled neighbours of some clips; see :mod:`.evaluation.knn`."""
        from sleepfm_index.evaluation.models.knn import neighbours

        return neighbours(self, modality, to, **asked)

    def files(self) -> dict[str, Path]:
        """Which file each recording came from; empty where ``private/`` was removed."""
        return private.files(self.path)

    def info(self) -> Info:
        """Say what the store holds and which weights made it."""
        from sleepfm_index.info import describe

        return describe(self)

    def search(
        self,
        target: str,
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.int64] | None = None,
        *,
        exact: bool = False,
    ) -> list[Hits]:
        """Nearest clips by inner product; :meth:`find` says how surely they are the nearest.

        Parameters
        ----------
        target : str
            One of :data:`sleepfm_index.schema.TARGETS`.
        queries : ndarray of float32, shape [q, 512]
        k : int
            How many clips a query gets, if there are as many.
        allowed : ndarray of int64, optional
            Ids of the clips that may be found, ascending; by default all.
        exact : bool
            Compare with every clip, whatever index there is.

        Returns
        -------
        list of (clip_ids, scores)
            One pair a query, int64 [m] and float64 [m] with m <= k, best first; equal scores in
            order of clip id. Scores are computed in float64 from the stored vectors.
        """
        return self.find(target, queries, k, allowed, exact=exact).hits

    def find(
        self,
        target: str,
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.int64] | None = None,
        *,
        without: tuple[tuple[int, int], ...] = (),
        exact: bool = False,
    ) -> Found:
        """Nearest clips, and whether they are surely the nearest; see :meth:`search`.

        Parameters
        ----------
        without : tuple of (first, last)
            Runs of clip ids to leave out, both ends included.
        """
        if target not in TARGETS:
            raise QueryError(f"no target {target!r}; choose from {', '.join(TARGETS)}")
        selection = Selection.of(self.manifest, allowed, without)
        return self._here().searcher.find(target, queries, k, selection, exact=exact)


class _Opened:
    """What one process has open of a store."""

    def __init__(self, path: Path, manifest: Manifest, threads: int | None) -> None:
        self._path = path
        self._manifest = manifest
        self._threads = threads
        self._lock = threading.Lock()
        self._metadata: Metadata | None = None
        self.vectors = Vectors(path, manifest)
        self.clip_rows = ClipRows(path, manifest, self.metadata)
        self.index = cache(self._open_index)
        self.searcher = Searcher(manifest, self.vectors, lambda entry: self.index(entry.target))

    def metadata(self) -> Metadata:
        with self._lock:
            if self._metadata is None:
                self._metadata = Metadata(self._path, self._manifest, self._threads)
            return self._metadata

    def close(self) -> None:
        if self._metadata is not None:
            self._metadata.close()
        self.index.cache_clear()

    def _open_index(self, target: str) -> InvertedFile:
        (entry,) = (i for i in self._manifest.indexes if i.target == target)
        with held(self._path, self._manifest):
            return InvertedFile.open(self._path, entry)
