"""Queries against Milvus, with the same rows as from the store that was published."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError, StoreError
from sleepfm_index.query.answer_table import answer_note, answer_table
from sleepfm_index.query.clip_time import clip_position
from sleepfm_index.query.origin import Origin, origin_of_file, recording_of
from sleepfm_index.query.question import Question, check_question, described, in_words
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result
from sleepfm_index.schema import OTHERS, target_name
from sleepfm_index.sharing.milvus.collection import DEFAULT, MAX_RESULTS, Collection, milvus_errors
from sleepfm_index.sharing.milvus.entities import KEY, presence, rows
from sleepfm_index.storage.manifest import WeightsIdentity, as_ranges

_RANGES: Final = 2000
"""Maximum number of id ranges in a condition that the store has resolved."""


class Served:
    """A store published to Milvus; use it in a ``with`` statement.

    Parameters
    ----------
    uri : str
        Address of a server (``http://host:19530``), or a file ending in ``.db`` for milvus-lite.
    collection : str
        Name of the collection.
    store : path, optional
        The store that was published, for conditions that Milvus cannot evaluate, and to recognise
        the recording of a file by its samples.

    Raises
    ------
    StoreError
        If Milvus cannot be reached, or has no such collection.
    """

    def __init__(
        self, uri: str, collection: str = DEFAULT, *, store: str | Path | None = None
    ) -> None:
        self._served = Collection(uri, collection)
        about = self._served.about()
        if about is None:
            self._served.__exit__()
            raise StoreError(
                f"there is no collection {collection} at {uri}; "
                "create it with `sleepfm-index publish --to milvus`"
            )
        self._served.load()
        self.about = about
        self._store = store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._served.__exit__(error_type, error, trace)

    @property
    def weights(self) -> WeightsIdentity:
        """The weights that produced the vectors."""
        return self.about.weights

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
        weights: str | None = None,
    ) -> Result:
        """Find the nearest clips, as :meth:`sleepfm_index.Store.query` does.

        Parameters
        ----------
        modality, to, clip, recording, file, at, k, where, exclude, weights
            The fields of :class:`sleepfm_index.query.question.Question`.

        Returns
        -------
        Result

        Raises
        ------
        QueryError
            If the question is not valid for the collection.
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
            weights=weights,
        )
        return self.answer(question)

    def answer(self, question: Question) -> Result:
        """Answer a question.

        Milvus selects the candidates. Their scores are recomputed in float64 from the vectors in
        the collection, and equal scores are in order of clip id.

        Parameters
        ----------
        question : Question
            A query with one modality and without ``min_gap``.

        Returns
        -------
        Result
            The same result as from :func:`~sleepfm_index.query.answer.answer`.

        Raises
        ------
        QueryError
            If the question is not valid for the collection, or Milvus does not support it.
        StoreError
            If Milvus rejects a request.
        """
        modalities = self.about.contract.modalities
        (searched, *further) = check_question(question, modalities)
        if further or question.min_gap is not None or not question.of_one_clip:
            raise QueryError(
                "Milvus supports neither several modalities nor several examples, vectors or lists "
                "at once, nor min_gap; query the store with --engine local"
            )
        target = target_name(searched, question.to, modalities)
        if target not in self.about.targets:
            raise QueryError(
                f"the collection has no vectors of {target}; publish a new one with --targets"
            )
        origin = self._origin(question, searched)
        condition = self._filter(question, target, origin)
        hits = self._nearest(target, origin.vector, question.k, condition)
        scores = np.array([score for score, _ in hits], np.float64)
        table = rows([entity for _, entity in hits], self.about.columns)
        note = answer_note(
            question,
            origin.text,
            len(hits),
            self._method(target),
            target=described(target, modalities),
            score=in_words("{cosine} to {target}", target, modalities),
            known=origin.known,
        )
        return Result(answer_table(table, scores, [len(hits)]), note)

    # The query vector

    def _origin(self, question: Question, modality: str) -> Origin:
        if question.file is not None:
            return origin_of_file(
                question,
                (modality,),
                weights=self.about.weights,
                contract=self.about.contract,
                choices=self.about.choices,
                recognise=self._recording_of,
            )
        clip = question.clip if question.clip is not None else self._clip_at(question)
        if modality not in self.about.targets:
            raise QueryError(f"the collection has no vectors of {modality} to search with")
        entities = self._entities(f"{KEY} == {clip}", "recording_id", "subject_id", modality)
        if not entities:
            raise QueryError(f"no clip {clip} in this collection")
        vector = np.asarray(entities[0][modality], np.float32)
        recording = entities[0]["recording_id"]
        if not vector.any():
            raise QueryError(f"clip {clip} ({recording}) has no {modality} signal to search with")
        return Origin(f"clip {clip} of {recording}", recording, entities[0]["subject_id"], vector)

    def _clip_at(self, question: Question) -> int:
        assert question.recording is not None and question.at is not None
        condition = f"recording_id == {_quoted(question.recording)}"
        clips = sorted(
            self._entities(condition, KEY, "start_s", "clock"), key=lambda clip: clip["start_s"]
        )
        if not clips:
            raise QueryError(f"no recording {question.recording!r} in this collection")
        starts = np.array([clip["start_s"] for clip in clips])
        clocks = [clip["clock"] for clip in clips]
        clock = None if None in clocks else np.array(clocks)
        seconds = self.about.contract.clip_seconds
        return int(clips[clip_position(question.at, starts, clock, seconds)][KEY])

    def _recording_of(self, file: Path) -> tuple[str, str] | None:
        """Find the recording id and subject id of a file by its samples, which needs the store."""
        if self._store is None or not Path(self._store).is_dir():
            return None
        with Reader(self._store) as store:
            is_published_store = store.manifest.uuid == self.about.store
            return recording_of(store, file) if is_published_store else None

    # The candidates

    def _filter(self, question: Question, target: str, origin: Origin) -> str:
        conditions = [presence(target, self.about.contract.modalities)]
        if question.exclude != "none" and origin.known:
            excluded_id = getattr(origin, f"{question.exclude}_id")
            conditions.append(f"{question.exclude}_id != {_quoted(excluded_id)}")
        if question.where:
            conditions.append(self._condition(question.where))
        return " and ".join(conditions)

    def _condition(self, where: str) -> str:
        # sqlglot is installed with the extra only.
        from sleepfm_index.sharing.milvus.filter_expression import Untranslatable, translate

        try:
            return f"({translate(where, self.about.columns)})"
        except Untranslatable:
            if self._store is None or not Path(self._store).is_dir():
                raise
            return self._resolve(Path(self._store), where)

    def _resolve(self, path: Path, where: str) -> str:
        """Let the store evaluate a condition, and list the matching clip ids as ranges."""
        with Reader(path) as store:
            if store.manifest.uuid != self.about.store:
                raise StoreError(f"{path} is not the store that this collection was published from")
            runs = as_ranges(store.metadata.clip_ids(where))
        if len(runs) > _RANGES:
            raise QueryError(
                f"the condition matches {len(runs):,} separate ranges of clip ids, too many for "
                "Milvus; query the store with --engine local"
            )
        listed = [f"({KEY} >= {first} and {KEY} <= {last})" for first, last in runs]
        return "(" + (" or ".join(listed) or f"{KEY} < 0") + ")"

    # The search

    def _nearest(
        self, target: str, query: NDArray[np.float32], k: int, condition: str
    ) -> list[tuple[float, dict[str, Any]]]:
        if k > MAX_RESULTS:
            raise QueryError(f"Milvus returns at most {MAX_RESULTS:,} clips, got k = {k:,}")
        with milvus_errors():
            (answer,) = self._served.client.search(
                self._served.name,
                data=[query],
                anns_field=target,
                filter=condition,
                # Milvus ranks in float32; the spare results cover ties that float64 resolves.
                limit=min(2 * k + 16, MAX_RESULTS),
                output_fields=[*(c.field for c in self.about.columns), target],
                search_params={"metric_type": "IP"},
            )
        entities = [hit["entity"] | {KEY: hit[KEY]} for hit in answer]
        if not entities:
            return []
        vectors = np.array([entity[target] for entity in entities], np.float64)
        scores = (vectors @ query.astype(np.float64)).tolist()
        ranked = sorted(zip(scores, entities, strict=True), key=lambda hit: (-hit[0], hit[1][KEY]))
        return ranked[:k]

    def _entities(
        self, condition: str, *fields: str, limit: int = MAX_RESULTS
    ) -> list[dict[str, Any]]:
        with milvus_errors():
            return list(
                self._served.client.query(
                    self._served.name, filter=condition, output_fields=list(fields), limit=limit
                )
            )

    def _method(self, target: str) -> str:
        index_type = self._served.index_type(target)
        exact = index_type in ("FLAT", "BRUTE_FORCE")
        return f"{'exact search' if exact else f'approximate search ({index_type})'} in Milvus"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
