"""Questions answered by Milvus: the same rows as from the store that was published."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import Modality
from sleepfm_index.errors import QueryError, StoreError
from sleepfm_index.query.answer_table import answer_note, answer_table
from sleepfm_index.query.clip_time import clip_position
from sleepfm_index.query.encode_clip import encode_clips
from sleepfm_index.query.origin import Origin
from sleepfm_index.query.question import Question, check_question
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result
from sleepfm_index.schema import OTHERS, target_name
from sleepfm_index.sharing.milvus.collection import DEFAULT, MOST, Collection, told
from sleepfm_index.sharing.milvus.entities import KEY, presence, rows
from sleepfm_index.storage.manifest import WeightsIdentity, as_ranges

_RANGES: Final = 2000
"""Runs of clip ids that a condition resolved by the store may become."""


class Served:
    """A published store, asked in Milvus; use it in a ``with`` statement.

    Parameters
    ----------
    uri : str
        ``http://host:19530`` of a server, or a file ending in ``.db`` for milvus-lite.
    collection : str
        Its name.
    store : path, optional
        The store it was published from, for conditions that Milvus cannot be asked.

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
                "make it with `sleepfm-index publish --to milvus`"
            )
        self._served.load()
        self.about = about
        self._store = store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._served.__exit__(kind, error, trace)

    @property
    def weights(self) -> WeightsIdentity:
        """The weights whose vectors the collection holds."""
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

        Raises
        ------
        QueryError
            If the question does not fit the collection.
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
        """Answer a question; see :class:`~sleepfm_index.sharing.engine.PublishedStore`.

        Milvus chooses the candidates; their scores are computed again in float64 from the vectors
        that it holds, and equal scores are in order of clip id.
        """
        (searched, *more) = check_question(question)
        if more or question.spread is not None:
            raise QueryError(
                "several modalities at once and spread are answered by the store itself: --engine "
                "local"
            )
        target = target_name(searched, question.to)
        if target not in self.about.targets:
            raise QueryError(
                f"the collection has no vectors of {target}; publish it with --targets"
            )
        origin = self._origin(question, searched)
        condition = self._filter(question, target, origin)
        found = self._nearest(target, origin.vector, question.k, condition)
        scores = np.array([score for score, _ in found], np.float64)
        table = rows([entity for _, entity in found], self.about.columns)
        note = answer_note(question, origin.text, len(found), self._method(target))
        return Result(answer_table(table, scores, [len(found)]), note)

    # The query's own vector

    def _origin(self, asked: Question, modality: Modality) -> Origin:
        if asked.file is not None:
            return self._encoded(asked, modality)
        clip = asked.clip if asked.clip is not None else self._clip_at(asked)
        if str(modality) not in self.about.targets:
            raise QueryError(f"the collection has no vectors of {modality} to search with")
        found = self._entities(f"{KEY} == {clip}", "recording_id", "subject_id", str(modality))
        if not found:
            raise QueryError(f"no clip {clip} in this collection")
        vector = np.asarray(found[0][str(modality)], np.float32)
        recording = found[0]["recording_id"]
        if not vector.any():
            raise QueryError(f"clip {clip} ({recording}) has no {modality} signal to search with")
        return Origin(f"clip {clip} of {recording}", recording, found[0]["subject_id"], vector)

    def _clip_at(self, asked: Question) -> int:
        assert asked.recording is not None and asked.at is not None
        condition = f"recording_id == {_quoted(asked.recording)}"
        clips = sorted(
            self._entities(condition, KEY, "start_s", "clock"), key=lambda clip: clip["start_s"]
        )
        if not clips:
            raise QueryError(f"no recording {asked.recording!r} in this collection")
        starts = np.array([clip["start_s"] for clip in clips])
        clocks = [clip["clock"] for clip in clips]
        clock = None if None in clocks else np.array(clocks)
        seconds = self.about.contract.clip_seconds
        return int(clips[clip_position(asked.at, starts, clock, seconds)][KEY])

    def _encoded(self, asked: Question, modality: Modality) -> Origin:
        assert asked.file is not None and asked.at is not None
        about = self.about
        (vector,) = encode_clips(
            about.weights, about.contract, asked.file, asked.at, (modality,), asked.weights
        )
        stem = asked.file.stem
        known = self._entities(f"recording_id == {_quoted(stem)}", "subject_id", limit=1)
        subject = known[0]["subject_id"] if known else stem
        return Origin(f"{asked.file.name} at {asked.at}", stem, subject, vector)

    # The clips that may be found

    def _filter(self, asked: Question, target: str, origin: Origin) -> str:
        conditions = [presence(target)]
        if asked.exclude != "none":
            own = getattr(origin, f"{asked.exclude}_id")
            conditions.append(f"{asked.exclude}_id != {_quoted(own)}")
        if asked.where:
            conditions.append(self._condition(asked.where))
        return " and ".join(conditions)

    def _condition(self, where: str) -> str:
        # sqlglot comes with the extra.
        from sleepfm_index.sharing.milvus.filter_expression import Untranslatable, translate

        try:
            return f"({translate(where, self.about.columns)})"
        except Untranslatable:
            if self._store is None or not Path(self._store).is_dir():
                raise
            return self._resolved(Path(self._store), where)

    def _resolved(self, path: Path, where: str) -> str:
        """Ask the store itself which clips a condition holds for."""
        with Reader(path) as store:
            if store.manifest.uuid != self.about.store:
                raise StoreError(f"{path} is not the store that was published here")
            runs = as_ranges(store.metadata.clip_ids(where))
        if len(runs) > _RANGES:
            raise QueryError(
                f"the condition holds for {len(runs):,} separate runs of clips, too many to send "
                "to Milvus; ask the store by --engine local"
            )
        listed = [f"({KEY} >= {first} and {KEY} <= {last})" for first, last in runs]
        return "(" + (" or ".join(listed) or f"{KEY} < 0") + ")"

    # Asking

    def _nearest(
        self, target: str, query: NDArray[np.float32], k: int, condition: str
    ) -> list[tuple[float, dict[str, Any]]]:
        if k > MOST:
            raise QueryError(f"Milvus gives at most {MOST:,} clips, not {k:,}")
        with told():
            (answer,) = self._served.client.search(
                self._served.name,
                data=[query],
                anns_field=target,
                filter=condition,
                # Milvus orders by float32: those that only float64 tells apart must all be there.
                limit=min(2 * k + 16, MOST),
                output_fields=[*(c.field for c in self.about.columns), target],
                search_params={"metric_type": "IP"},
            )
        found = [hit["entity"] | {KEY: hit[KEY]} for hit in answer]
        if not found:
            return []
        vectors = np.array([entity[target] for entity in found], np.float64)
        scores = (vectors @ query.astype(np.float64)).tolist()
        ranked = sorted(zip(scores, found, strict=True), key=lambda hit: (-hit[0], hit[1][KEY]))
        return ranked[:k]

    def _entities(self, condition: str, *fields: str, limit: int = MOST) -> list[dict[str, Any]]:
        with told():
            return list(
                self._served.client.query(
                    self._served.name, filter=condition, output_fields=list(fields), limit=limit
                )
            )

    def _method(self, target: str) -> str:
        kind = self._served.index_kind(target)
        exact = kind in ("FLAT", "BRUTE_FORCE")
        return f"{'exact search' if exact else f'approximate search ({kind})'} in Milvus"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
