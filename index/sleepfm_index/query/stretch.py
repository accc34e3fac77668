"""Search for stretches of consecutive clips that are nearest to a stretch of a recording."""

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
from sleepfm_index.storage.arrow_columns import int64s, numpy_of
from sleepfm_index.storage.quoting import quote_text

EXACT_BELOW: Final = 200_000
"""Number of clips of a store up to which every stretch is compared."""
_LIKELY_WARPED: Final = 200
"""Number of stretches, nearest clip by clip, that are compared elastically."""


@dataclass(frozen=True)
class Stretch:
    """A query for the stretches nearest to a stretch of a recording.

    Parameters
    ----------
    modality : str
        Modality of the query: a modality of the store, or several joined by commas.
    recording : str
        ``recording_id`` of the recording.
    start, until : str
        Start and end of the stretch; times as in
        :func:`~sleepfm_index.query.clip_time.clip_position`. All clips that overlap it are used.
    to : str, optional
        Search target: a modality, or ``others``; by default the query's modality.
    k, exclude, exclude_subjects, exact
        As in :class:`sleepfm_index.query.question.Question`.
    where, allowed
        As in :class:`sleepfm_index.query.question.Question`; every clip of a result matches.
    elastic : bool
        Whether to compare with elastic time, by dynamic time warping.
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
    """Find the nearest non-overlapping stretches of the same length.

    The score is the mean cosine of the clips at the same offset in both stretches. With
    ``elastic``, the best candidates are ranked by dynamic time warping
    (:func:`~sleepfm_index.query.warping.warp`).

    Parameters
    ----------
    reader : Reader
        The open store.
    question : Stretch
        The query.

    Returns
    -------
    Result
        Columns rank, score, clip_id (of the first clip), clips (number of clips), recording_id,
        subject_id, start_s, end_s, clock, stages.

    Raises
    ------
    QueryError
        If the query does not match the store.
    """
    known = reader.manifest.modalities
    to = question.to if question.to is not None else question.modality
    if "," in to:
        raise QueryError(f"name what to search in by --to: {', '.join(known)}")
    modalities = check_search(question.modality, to, question.exclude, question.k, None, known)
    target = target_of(modalities, to, known)
    query = _query(reader, question, modalities)
    excluded = runs_of(reader, question.exclude, (query.owner,))
    if question.exclude == "none":
        excluded = [(int(query.ids[0]), int(query.ids[-1]))]
    candidates = scope(
        reader, question.where, question.allowed, question.exclude_subjects, excluded
    )
    exhaustive = question.exact or len(reader) <= EXACT_BELOW
    find = all_windows if exhaustive else likely_windows
    windows = find(
        reader, target, query.vectors, query.offsets, query.length, question.k, candidates
    )
    method = "every stretch compared" if exhaustive else "the likeliest stretches compared"
    score = in_words(f"mean {{cosine}} of {query.length} clips to {{target}}", target, known)
    score = score.replace("mean mean", "mean")
    limit = max(question.k, _LIKELY_WARPED) if question.elastic else question.k
    best = _non_overlapping(reader, windows, query.length, limit)
    if question.elastic:
        warped = warp(reader, target, query.vectors, query.length, best, candidates)
        best = _non_overlapping_warped(reader, warped, question.k)
        score = (
            "1 less (1 - cosine) summed along the best warping path, per clip of the query, to "
            + described(target, known)
        )
        method += f", the nearest {min(limit, len(warped)):,} of them elastically"
    table = _table(reader, best)
    exclusion = f", own {question.exclude} left out" if question.exclude != "none" else ""
    note = (
        f"{question.modality} of {query.text} -> {described(target, known)}: {table.num_rows} "
        f"nearest stretches{candidates.text}{exclusion}, none overlapping; score: {score}; {method}"
    )
    return Result(table, note)


@dataclass(frozen=True)
class _QueryClips:
    """Clips of the query: ids, and vectors and offsets of those with the modality."""

    text: str
    owner: tuple[str, str]
    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    offsets: NDArray[np.int64]
    length: int


def _query(reader: Reader, question: Stretch, modalities: tuple[str, ...]) -> _QueryClips:
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
    missing = int((~present).sum())
    text = f"{len(ids)} clips of {name} ({facts[0]} to {facts[1]})"
    text += f" ({missing} without {' and '.join(modalities)} not used)" if missing else ""
    owner = (name, str(clips["subject_id"][0].as_py()))

    return _QueryClips(text, owner, ids, vectors[present], offsets[present], int(offsets[-1]) + 1)


def _non_overlapping(reader: Reader, windows: Windows, length: int, k: int) -> list[Warped]:
    """Select the best windows without gaps that do not overlap a better one."""
    seconds = reader.manifest.contract.clip_seconds
    depth = 4 * k
    while True:
        first, scores = windows.first[:depth], windows.scores[:depth]
        ends = reader.rows(np.concatenate([first, first + length - 1]))
        start = numpy_of(ends["start_s"])
        begin, end = start[: len(first)], start[len(first) :]
        # The ids are consecutive, so a matching time difference means that there is no gap.
        without_gap = np.abs(end - begin - (length - 1) * seconds) < 0.5 * seconds
        names = np.array(ends["recording_id"].to_pylist()[: len(first)], dtype=object)
        kept = spread_out(names[without_gap].tolist(), begin[without_gap], length * seconds)
        indices = np.flatnonzero(without_gap)[kept][:k]
        if len(indices) == k or depth >= len(windows.first):
            return [Warped(int(first[i]), length, float(scores[i])) for i in indices]
        depth *= 4


def _non_overlapping_warped(reader: Reader, warped: Sequence[Warped], k: int) -> list[Warped]:
    """Select the best stretches of different lengths that do not overlap a better one."""
    kept: list[Warped] = []
    for stretch in sorted(warped, key=lambda w: (-w.score, w.first)):
        end = stretch.first + stretch.clips
        if all(end <= other.first or stretch.first >= other.first + other.clips for other in kept):
            kept.append(stretch)
    return kept[:k]


def _table(reader: Reader, best: Sequence[Warped]) -> pa.Table:
    seconds = reader.manifest.contract.clip_seconds
    ids = [np.arange(stretch.first, stretch.first + stretch.clips) for stretch in best]
    rows = reader.rows(np.concatenate([np.empty(0, np.int64), *ids]))
    stages = rows["stage"].to_pylist()
    bounds = np.cumsum([0, *[stretch.clips for stretch in best]])
    firsts = rows.take(int64s(bounds[:-1]))
    lasts = rows.take(int64s(bounds[1:] - 1))
    return pa.table(
        {
            "rank": int64s(np.arange(1, len(best) + 1)),
            "score": float64s(np.array([stretch.score for stretch in best])),
            "clip_id": firsts["clip_id"],
            "clips": int64s(np.array([stretch.clips for stretch in best], np.int64)),
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
