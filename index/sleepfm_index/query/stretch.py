"""Stretches of nights that are nearest to a stretch: several clips in a row, compared in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.query.answer_table import float64s
from sleepfm_index.query.clip_facts import clip_facts
from sleepfm_index.query.clip_time import clip_position, moment_before
from sleepfm_index.query.examples import runs_of
from sleepfm_index.query.origin import query_vectors
from sleepfm_index.query.question import check_search, described, in_words, target_of
from sleepfm_index.query.scope import scope
from sleepfm_index.query.spacing import spread_out
from sleepfm_index.query.warping import Warped, warp
from sleepfm_index.query.windows import Windows, all_windows, likely_windows
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result
from sleepfm_index.storage.metadata import int64s, numpy_of
from sleepfm_index.storage.quoting import quote_text

EXACT_BELOW: Final = 200_000
"""Clips up to which every stretch of a store is compared."""
_LIKELY_WARPED: Final = 200
"""Stretches that are compared elastically: those nearest clip by clip."""


@dataclass(frozen=True)
class Stretch:
    """A query for the stretches nearest to a stretch of a recording.

    Parameters
    ----------
    modality : str
        What to search with: a modality of the store, or several joined by commas.
    recording : str
        The recording, by its ``recording_id``.
    start, until : str
        Where the stretch begins and ends; times as in
        :func:`~sleepfm_index.query.clip_time.clip_position`. Every clip that it touches counts.
    to : str, optional
        What to search in; by default what is searched with.
    k, exclude, exclude_subjects, exact
        As in :class:`sleepfm_index.query.question.Question`.
    where, allowed
        As there; every clip of a stretch that is found meets the condition and is allowed.
    elastic : bool
        Compare with elastic time, by dynamic time warping.
    """

    modality: str
    recording: str
    start: str
    until: str
    to: str | None = None
    k: int = 10
    where: str | None = None
    exclude: str = "subject"
    exact: bool = False
    elastic: bool = False
    allowed: ArrayLike | None = None
    exclude_subjects: Sequence[str] = ()


def stretches(reader: Reader, question: Stretch) -> Result:
    """Find the nearest stretches of the same length, none of which overlaps another.

    The score is the mean cosine of the clips that lie at the same place in both stretches. With
    ``elastic``, the likeliest of them are ordered by dynamic time warping
    (:func:`~sleepfm_index.query.warping.warp`).

    Parameters
    ----------
    reader : Reader
        The open store.
    question : Stretch
        What is asked.

    Returns
    -------
    Result
        Columns rank, score, clip_id (the first clip), clips (how many), recording_id, subject_id,
        start_s, end_s, clock, stages.

    Raises
    ------
    QueryError
        If the question does not fit the store.
    """
    known = reader.manifest.modalities
    to = question.to if question.to is not None else question.modality
    if "," in to:
        raise QueryError(f"name what to search in by --to: {', '.join(known)}")
    modalities = check_search(question.modality, to, question.exclude, question.k, None, known)
    target = target_of(modalities, to, known)
    asked = _asked(reader, question, modalities)
    own = runs_of(reader, question.exclude, (asked.owner,))
    if question.exclude == "none":
        own = [(int(asked.ids[0]), int(asked.ids[-1]))]
    within = scope(reader, question.where, question.allowed, question.exclude_subjects, own)
    whole = question.exact or len(reader) <= EXACT_BELOW
    find = all_windows if whole else likely_windows
    found = find(reader, target, asked.vectors, asked.offsets, asked.length, question.k, within)
    method = "every stretch compared" if whole else "the likeliest stretches compared"
    score = in_words(f"mean {{cosine}} of {asked.length} clips to {{target}}", target, known)
    score = score.replace("mean mean", "mean")
    most = max(question.k, _LIKELY_WARPED) if question.elastic else question.k
    best = _apart(reader, found, asked.length, most)
    if question.elastic:
        warped = warp(reader, target, asked.vectors, asked.length, best, within)
        best = _apart_warped(reader, warped, question.k)
        score = (
            "1 less (1 - cosine) summed along the best warping path, per clip of the query, to "
            + described(target, known)
        )
        method += f", the nearest {min(most, len(warped)):,} of them elastically"
    table = _table(reader, best)
    left_out = f", own {question.exclude} left out" if question.exclude != "none" else ""
    note = (
        f"{question.modality} of {asked.text} -> {described(target, known)}: {table.num_rows} "
        f"nearest stretches{within.text}{left_out}, none overlapping; score: {score}; {method}"
    )
    return Result(table, note)


@dataclass(frozen=True)
class _Asked:
    """The clips of the query: ids, vectors of those with the modality, and their places."""

    text: str
    owner: tuple[str, str]
    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    offsets: NDArray[np.int64]
    length: int


def _asked(reader: Reader, question: Stretch, modalities: tuple[str, ...]) -> _Asked:
    name = question.recording
    clips = reader.metadata.select(
        "SELECT clip_id, subject_id, start_s, clock FROM clips "
        f"WHERE recording_id = {quote_text(name)} ORDER BY start_s"
    )
    if not clips.num_rows:
        raise QueryError(f"no recording {name!r} in this store")
    starts = numpy_of(clips["start_s"])
    clock = numpy_of(clips["clock"]) if clips["clock"].null_count == 0 else None
    seconds = reader.manifest.contract.clip_seconds
    first = clip_position(question.start, starts, clock, seconds)
    last = clip_position(moment_before(question.until), starts, clock, seconds)
    if last < first:
        raise QueryError(f"the stretch ends ({question.until}) before it starts ({question.start})")
    ids = numpy_of(clips["clip_id"])[first : last + 1]
    offsets = np.round((starts[first : last + 1] - starts[first]) / seconds).astype(np.int64)
    vectors, present = query_vectors(reader, ids, modalities)
    if not present.any():
        raise QueryError(f"{name} has no {' and '.join(modalities)} signal in this stretch")
    facts = [clip_facts(row) for row in reader.rows(ids[[0, -1]]).to_pylist()]
    lacking = int((~present).sum())
    text = f"{len(ids)} clips of {name} ({facts[0]} to {facts[1]})"
    text += f" ({lacking} without {' and '.join(modalities)} not used)" if lacking else ""
    owner = (name, str(clips["subject_id"][0].as_py()))
    return _Asked(text, owner, ids, vectors[present], offsets[present], int(offsets[-1]) + 1)


def _apart(reader: Reader, found: Windows, length: int, k: int) -> list[Warped]:
    """Take the best windows that are whole and do not overlap a better one."""
    seconds = reader.manifest.contract.clip_seconds
    wanted = 4 * k
    while True:
        first, scores = found.first[:wanted], found.scores[:wanted]
        ends = reader.rows(np.concatenate([first, first + length - 1]))
        start = numpy_of(ends["start_s"])
        begin, end = start[: len(first)], start[len(first) :]
        # Ids in between are as many as the clips between, so equal times mean no gap.
        whole = np.abs(end - begin - (length - 1) * seconds) < 0.5 * seconds
        names = np.array(ends["recording_id"].to_pylist()[: len(first)], dtype=object)
        kept = spread_out(names[whole].tolist(), begin[whole], length * seconds)
        places = np.flatnonzero(whole)[kept][:k]
        if len(places) == k or wanted >= len(found.first):
            return [Warped(int(first[at]), length, float(scores[at])) for at in places]
        wanted *= 4


def _apart_warped(reader: Reader, warped: Sequence[Warped], k: int) -> list[Warped]:
    """Take the best of stretches of different lengths that overlap no better one."""
    kept: list[Warped] = []
    for one in sorted(warped, key=lambda w: (-w.score, w.first)):
        end = one.first + one.clips
        if all(end <= other.first or one.first >= other.first + other.clips for other in kept):
            kept.append(one)
    return kept[:k]


def _table(reader: Reader, best: Sequence[Warped]) -> pa.Table:
    seconds = reader.manifest.contract.clip_seconds
    ids = [np.arange(one.first, one.first + one.clips) for one in best]
    rows = reader.rows(np.concatenate([np.empty(0, np.int64), *ids]))
    stages = rows["stage"].to_pylist()
    bounds = np.cumsum([0, *[one.clips for one in best]])
    firsts = rows.take(int64s(bounds[:-1]))
    lasts = rows.take(int64s(bounds[1:] - 1))
    return pa.table(
        {
            "rank": int64s(np.arange(1, len(best) + 1)),
            "score": float64s(np.array([one.score for one in best])),
            "clip_id": firsts["clip_id"],
            "clips": int64s(np.array([one.clips for one in best], np.int64)),
            "recording_id": firsts["recording_id"],
            "subject_id": firsts["subject_id"],
            "start_s": firsts["start_s"],
            "end_s": float64s(numpy_of(lasts["start_s"]) + seconds),
            "clock": firsts["clock"],
            "stages": pa.array(
                [
                    ", ".join(f"{s} {n}" for s, n in Counter(stages[a:b]).most_common())
                    for a, b in pairwise(bounds.tolist())
                ],
                pa.string(),
            ),
        }
    )
