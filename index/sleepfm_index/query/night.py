"""Whole nights ranked by how alike they are: a distance between distributions of clips."""

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
from sleepfm_index.storage.metadata import int64s
from sleepfm_index.storage.quoting import quote_text, shown

LEAST_CLIPS: Final = 10
"""A night with fewer clips is not ranked."""
SKETCH: Final = 32
"""Clips of each night, evenly spaced, by which the nights are chosen that are compared whole."""
_SKETCH_ASKED: Final = 128
_WHOLE: Final = 30
_MOST_ASKED: Final = 1500
"""Most clips of a night that are compared, evenly spaced: 12.5 h of 30 s clips."""


@dataclass(frozen=True)
class Night:
    """A query for the recordings whose nights are most alike.

    Parameters
    ----------
    modality : str
        What is compared: a modality of the store, or several joined by commas, which are averaged.
    recording : str
        The recording, by its ``recording_id``.
    like_where : str, optional
        SQL condition; only the clips of the recording that meet it are compared.
    k : int
        Number of recordings to return.
    where, allowed, exclude, exclude_subjects
        As in :class:`sleepfm_index.query.question.Question`: which clips of the other recordings
        are compared.
    exact : bool
        Compare every night by all of its clips.
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

    The energy distance of two sets of vectors is 2 E|X - Y| - E|X - X'| - E|Y - Y'|, zero for equal
    distributions alone (Székely and Rizzo 2013). Means are over pairs of different clips, so it is
    unbiased, and may be a little below zero. Every night is first compared by :data:`SKETCH` of its
    clips, evenly spaced, and the nearest of them by all.

    Parameters
    ----------
    reader : Reader
        The open store.
    question : Night
        What is asked.

    Returns
    -------
    Result
        Columns rank, distance, recording_id, subject_id, clips; the nearest first.

    Raises
    ------
    QueryError
        If the question does not fit the store.
    """
    known = reader.manifest.modalities
    to = question.modality.split(",")[0].strip()
    modalities = check_search(question.modality, to, question.exclude, question.k, None, known)
    spans = Spans.of(reader)
    asked, subject, described = _asked(reader, question, modalities)
    owner = (question.recording, subject)
    own = runs_of(reader, question.exclude, (owner,))
    within = scope(reader, question.where, question.allowed, question.exclude_subjects, own)
    selection = Selection.of(reader.manifest, within.allowed, within.without)
    groups = _groups(reader, spans, selection)
    if not question.exact and len(groups) > _WHOLE:
        some = _spaced(np.arange(len(asked)), _SKETCH_ASKED)
        rough = _distances(reader, asked[some], groups, modalities, SKETCH)
        nearest = np.argsort(rough, kind="stable")[: max(_WHOLE, 3 * question.k)]
        compared = {list(groups)[at]: list(groups.values())[at] for at in nearest.tolist()}
    else:
        compared = groups
    distances = _distances(reader, asked, compared, modalities, _MOST_ASKED)
    order = np.argsort(distances, kind="stable")
    order = order[np.isfinite(distances[order])][: question.k]
    places = [list(compared)[at] for at in order.tolist()]
    table = pa.table(
        {
            "rank": int64s(np.arange(1, len(order) + 1)),
            "distance": float64s(distances[order]),
            "recording_id": pa.array([spans.recordings[at] for at in places], pa.string()),
            "subject_id": pa.array([spans.subjects[at] for at in places], pa.string()),
            "clips": int64s(np.array([len(compared[at]) for at in places], np.int64)),
        }
    )
    left_out = f", own {question.exclude} left out" if question.exclude != "none" else ""
    method = (
        f"all {len(groups):,} nights compared clip by clip"
        if len(compared) == len(groups)
        else f"the nearest {len(compared)} of {len(groups):,} nights by {SKETCH} clips of each, "
        "then by all"
    )
    note = (
        f"{question.modality} of {described} -> {question.modality} of other nights: "
        f"{table.num_rows} nearest{within.text}{left_out}; distance: energy distance between the "
        f"clips of two nights, 0 for the same distribution; {method}"
    )
    return Result(table, note)


def _asked(
    reader: Reader, question: Night, modalities: tuple[str, ...]
) -> tuple[NDArray[np.float32], str, str]:
    """Vectors of the recording's clips, whose they are, and what the note says of them."""
    name = question.recording
    own = f"recording_id = {quote_text(name)}"
    ids = reader.metadata.clip_ids(own, question.like_where)
    if not len(ids):
        if question.like_where and len(reader.metadata.clip_ids(own)):
            raise QueryError(f"no clip of {name} meets {shown(question.like_where)}")
        raise QueryError(f"no recording {name!r} in this store")
    vectors, present = query_vectors(reader, _spaced(ids, _MOST_ASKED), modalities)
    names = " and ".join(modalities)
    if present.sum() < LEAST_CLIPS:
        raise QueryError(
            f"{name} has {present.sum()} clips with {names} to compare; a night needs {LEAST_CLIPS}"
        )
    condition = f" where {shown(question.like_where)}" if question.like_where else ""
    lacking = int((~present).sum())
    lack = f" ({lacking:,} without {names} not used)" if lacking else ""
    subject = str(reader.rows(ids[:1])["subject_id"][0].as_py())
    return vectors[present], subject, f"{present.sum():,} clips of {name}{condition}{lack}"


def _groups(reader: Reader, spans: Spans, selection: Selection) -> dict[int, NDArray[np.int64]]:
    """Ids of the clips of each recording that may be found, by the place of its span."""
    known = np.flatnonzero(reader.vectors.known_ids())
    if selection.keep is not None:
        known = known[selection.keep(known)]
    begin = np.searchsorted(known, spans.first)
    end = np.searchsorted(known, spans.last, side="right")
    return {
        at: known[a:b]
        for at, (a, b) in enumerate(zip(begin.tolist(), end.tolist(), strict=True))
        if b - a >= LEAST_CLIPS
    }


def _distances(
    reader: Reader,
    asked: NDArray[np.float32],
    groups: dict[int, NDArray[np.int64]],
    modalities: tuple[str, ...],
    most: int,
) -> NDArray[np.float64]:
    """Energy distance of each group to the vectors asked with, by at most some clips of each."""
    own = _within(asked)
    ids = [_spaced(group, most) for group in groups.values()]
    distances = np.full(len(ids), np.inf)
    # Together, so that a matrix product has work to do, but not all nights in memory at once.
    step = max(1, (1 << 16) // most)
    for start in range(0, len(ids), step):
        some = ids[start : start + step]
        vectors, present = query_vectors(reader, np.concatenate(some), modalities)
        across = _apart(asked, vectors).mean(axis=0, dtype=np.float64)
        bounds = np.cumsum([0, *map(len, some)])
        for at, (a, b) in enumerate(pairwise(bounds.tolist())):
            there = present[a:b]
            if there.sum() >= LEAST_CLIPS:
                mean = float(across[a:b][there].mean())
                distances[start + at] = 2 * mean - own - _within(vectors[a:b][there])
    return distances


def _within(vectors: NDArray[np.float32]) -> float:
    """Mean distance between two different vectors of a set."""
    n = len(vectors)
    apart = _apart(vectors, vectors)
    np.fill_diagonal(apart, 0)
    return float(apart.sum(dtype=np.float64) / (n * (n - 1)))


def _apart(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean distances, float32 [n, m], of vectors of any length."""
    squared = np.einsum("nd,nd->n", left, left)[:, None] + np.einsum("nd,nd->n", right, right)
    squared -= 2 * (left @ right.T)
    np.maximum(squared, 0, out=squared)
    np.sqrt(squared, out=squared)
    return np.asarray(squared, np.float32)


def _spaced(values: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).round().astype(np.int64)]
