"""Ranking of nights by similarity: a distance between the distributions of their clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.query.answer_table import float64s
from sleepfm_index.query.examples import runs_of
from sleepfm_index.query.origin import query_vectors
from sleepfm_index.query.question import check_search
from sleepfm_index.query.scope import scope
from sleepfm_index.query.spans import Spans
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result
from sleepfm_index.search.selection import Selection
from sleepfm_index.storage.arrow_columns import int64s
from sleepfm_index.storage.quoting import quote_text, shown

MIN_CLIPS: Final = 10
"""Minimum number of clips of a ranked night."""
SKETCH: Final = 32
"""Evenly spaced clips of each night in the first comparison, which selects nights."""
_QUERY_SKETCH: Final = 128
"""Evenly spaced clips of the query's night in the first comparison."""
_MIN_NIGHTS: Final = 30
"""Minimum number of nights that are compared by all clips."""
_MAX_CLIPS: Final = 1500
"""Maximum number of clips of a night, evenly spaced: 12.5 h of 30 s clips."""


@dataclass(frozen=True)
class Night:
    """A query for the recordings with the most similar nights.

    Parameters
    ----------
    modality : str
        Modality to compare, or several joined by commas, which are averaged.
    recording : str
        The recording, by its ``recording_id``.
    like_where : str, optional
        SQL condition; only matching clips of the recording are compared.
    k : int
        Number of recordings to return.
    where, allowed, exclude, exclude_subjects
        As in :class:`sleepfm_index.query.question.Question`: the clips of other recordings to
        compare.
    exact : bool
        Whether to compare every night by all of its clips.
    """

    modality: str
    recording: str
    like_where: str | None = None
    k: int = 10
    where: str | None = None
    exclude: str = "subject"
    exact: bool = False
    allowed: ArrayLike | None = None
    exclude_subjects: Sequence[str] = ()


def nights(reader: Reader, question: Night) -> Result:
    """Rank recordings by the energy distance between their clips and those of a recording.

    The energy distance of two sets of vectors is 2 E|X - Y| - E|X - X'| - E|Y - Y'|, zero only for
    equal distributions (Székely and Rizzo 2013). Means are over pairs of different clips, so the
    estimate is unbiased and may be slightly negative. Every night is first compared by
    :data:`SKETCH` evenly spaced clips, and the nearest nights then by all clips.

    Parameters
    ----------
    reader : Reader
        The open store.
    question : Night
        The query.

    Returns
    -------
    Result
        Columns rank, distance, recording_id, subject_id, clips; the nearest first.

    Raises
    ------
    QueryError
        If the query does not match the store.
    """
    known = reader.manifest.modalities
    to = question.modality.split(",")[0].strip()
    modalities = check_search(question.modality, to, question.exclude, question.k, None, known)
    spans = Spans.of(reader)
    query, subject, described = _query(reader, question, modalities)
    source = (question.recording, subject)
    excluded = runs_of(reader, question.exclude, (source,))
    candidates = scope(
        reader, question.where, question.allowed, question.exclude_subjects, excluded
    )
    selection = Selection.of(reader.manifest, candidates.allowed, candidates.without)
    groups = _groups(reader, spans, selection)
    if not question.exact and len(groups) > _MIN_NIGHTS:
        sketch = _spaced(np.arange(len(query)), _QUERY_SKETCH)
        rough = _distances(reader, query[sketch], groups, modalities, SKETCH)
        nearest = np.argsort(rough, kind="stable")[: max(_MIN_NIGHTS, 3 * question.k)]
        compared = {list(groups)[i]: list(groups.values())[i] for i in nearest.tolist()}
    else:
        compared = groups
    distances = _distances(reader, query, compared, modalities, _MAX_CLIPS)
    order = np.argsort(distances, kind="stable")
    order = order[np.isfinite(distances[order])][: question.k]
    ranked = [list(compared)[i] for i in order.tolist()]
    table = pa.table(
        {
            "rank": int64s(np.arange(1, len(order) + 1)),
            "distance": float64s(distances[order]),
            "recording_id": pa.array([spans.recordings[i] for i in ranked], pa.string()),
            "subject_id": pa.array([spans.subjects[i] for i in ranked], pa.string()),
            "clips": int64s(np.array([len(compared[i]) for i in ranked], np.int64)),
        }
    )
    exclusion = f", own {question.exclude} left out" if question.exclude != "none" else ""
    method = (
        f"all {len(groups):,} nights compared clip by clip"
        if len(compared) == len(groups)
        else f"the nearest {len(compared)} of {len(groups):,} nights by {SKETCH} clips of each, "
        "then by all"
    )
    note = (
        f"{question.modality} of {described} -> {question.modality} of other nights: "
        f"{table.num_rows} nearest{candidates.text}{exclusion}; distance: energy distance between "
        f"the clips of two nights, 0 for the same distribution; {method}"
    )
    return Result(table, note)


def _query(
    reader: Reader, question: Night, modalities: tuple[str, ...]
) -> tuple[NDArray[np.float32], str, str]:
    """Vectors of the recording's clips, their subject, and their description for the note."""
    name = question.recording
    condition_of_recording = f"recording_id = {quote_text(name)}"
    ids = reader.metadata.clip_ids(condition_of_recording, question.like_where)
    if not len(ids):
        if question.like_where and len(reader.metadata.clip_ids(condition_of_recording)):
            raise QueryError(f"no clip of {name} meets {shown(question.like_where)}")
        raise QueryError(f"no recording {name!r} in this store")
    vectors, present = query_vectors(reader, _spaced(ids, _MAX_CLIPS), modalities)
    names = " and ".join(modalities)
    if present.sum() < MIN_CLIPS:
        raise QueryError(
            f"{name} has {present.sum()} clips with {names} to compare; a night needs {MIN_CLIPS}"
        )
    condition = f" where {shown(question.like_where)}" if question.like_where else ""
    missing = int((~present).sum())
    missing_text = f" ({missing:,} without {names} not used)" if missing else ""
    subject = str(reader.rows(ids[:1])["subject_id"][0].as_py())
    return vectors[present], subject, f"{present.sum():,} clips of {name}{condition}{missing_text}"


def _groups(reader: Reader, spans: Spans, selection: Selection) -> dict[int, NDArray[np.int64]]:
    """Candidate clip ids of each recording, by the index of its span."""
    known = np.flatnonzero(reader.vectors.known_ids())
    if selection.keep is not None:
        known = known[selection.keep(known)]
    begin = np.searchsorted(known, spans.first)
    end = np.searchsorted(known, spans.last, side="right")
    return {
        index: known[a:b]
        for index, (a, b) in enumerate(zip(begin.tolist(), end.tolist(), strict=True))
        if b - a >= MIN_CLIPS
    }


def _distances(
    reader: Reader,
    query: NDArray[np.float32],
    groups: dict[int, NDArray[np.int64]],
    modalities: tuple[str, ...],
    limit: int,
) -> NDArray[np.float64]:
    """Energy distance of each group to the query, by at most ``limit`` clips of each group."""
    within_query = _within(query)
    ids = [_spaced(group, limit) for group in groups.values()]
    distances = np.full(len(ids), np.inf)
    # In batches of nights, for long matrix products in limited memory.
    step = max(1, (1 << 16) // limit)
    for start in range(0, len(ids), step):
        batch = ids[start : start + step]
        vectors, present = query_vectors(reader, np.concatenate(batch), modalities)
        across = _pairwise(query, vectors).mean(axis=0, dtype=np.float64)
        bounds = np.cumsum([0, *map(len, batch)])
        for index, (a, b) in enumerate(pairwise(bounds.tolist())):
            mask = present[a:b]
            if mask.sum() >= MIN_CLIPS:
                mean = float(across[a:b][mask].mean())
                distances[start + index] = 2 * mean - within_query - _within(vectors[a:b][mask])
    return distances


def _within(vectors: NDArray[np.float32]) -> float:
    """Mean distance between pairs of different vectors of a set."""
    n = len(vectors)
    distances = _pairwise(vectors, vectors)
    np.fill_diagonal(distances, 0)
    return float(distances.sum(dtype=np.float64) / (n * (n - 1)))


def _pairwise(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean distances, float32 [n, m], of vectors of any length."""
    # In place: for long nights the arrays are larger than the caches.
    squared = x @ y.T
    squared *= -2
    squared += np.einsum("nd,nd->n", x, x)[:, None]
    squared += np.einsum("nd,nd->n", y, y)
    np.maximum(squared, 0, out=squared)
    np.sqrt(squared, out=squared)
    return np.asarray(squared, np.float32)


def _spaced(values: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    if len(values) <= limit:
        return values
    return values[np.linspace(0, len(values) - 1, limit).round().astype(np.int64)]
