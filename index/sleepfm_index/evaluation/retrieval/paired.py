"""Two stores of the same recordings side by side: paired differences in retrieval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, numbers
from sleepfm_index.evaluation.metrics.bootstrap import (
    REPLICATES,
    draw_subjects,
    interval,
    resampled_means,
    resampled_medians,
)
from sleepfm_index.evaluation.retrieval.gallery import Gallery
from sleepfm_index.evaluation.retrieval.retrieval import (
    DIRECTIONS,
    Facts,
    Ranked,
    measures,
    rank_direction,
    sides_present,
)
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result


def compare(
    store: Reader,
    other: Reader,
    *,
    where: str | None = None,
    gallery: int | None = None,
    seed: int = 0,
    draws: int = 1,
    among: str = "all",
    replicates: int = REPLICATES,
) -> Result:
    """Measure retrieval in two stores over the same clips, and the differences clip by clip.

    Clips are the same where recording and offset are; the gallery holds those that have both sides
    in both stores, so the two answers are paired. Stores of different weights are what this is
    for, e.g. pairwise against leave-one-out training.

    Parameters
    ----------
    other : Store
        What to compare with.
    where, gallery, seed, draws, among
        Fields of :class:`~.gallery.Gallery`; ``where`` is asked of ``store``.
    replicates : int
        Resamples of the subjects behind the 95 % intervals of the differences.

    Returns
    -------
    Result
        Columns query, target, and for every measure ``<measure>``, ``<measure>_against``,
        ``<measure>_difference`` (this minus the other) with ``_low`` and ``_high``; gallery,
        queries, subjects, seed, draws.

    Raises
    ------
    QueryError
        If the stores share no clip, or no direction has a clip with both sides.
    """
    asked = Gallery(where, gallery, seed, draws, among)
    ours, theirs = shared_clips(store, other, where)
    rows = []
    for query, to in DIRECTIONS:
        both = sides_present(store, ours, query, to) & sides_present(other, theirs, query, to)
        if both.any():
            facts = Facts.of(store, ours[both])
            # galleries are drawn by position, so the same seed draws the same clips of both stores
            one = rank_direction(store, facts, query, to, asked)
            two = rank_direction(other, replace(facts, clip_ids=theirs[both]), query, to, asked)
            assert one is not None and two is not None
            rows.append(_row(query, to, one, two, seed, replicates))
    if not rows:
        raise QueryError("no clip has two modalities in both stores, so there is nothing to do")
    return Result(
        pa.Table.from_pylist(rows),
        f"{store.manifest.weights.name} against {other.manifest.weights.name}: {len(ours)} clips "
        "that both stores hold; differences are paired, intervals by subjects",
    )


def shared_clips(
    store: Reader, other: Reader, where: str | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids of the clips that two stores share, by recording and offset, in the same order.

    Raises
    ------
    QueryError
        If they share none.
    """
    keys = ["recording_id", "start_s"]
    ours = _keyed(store, store.metadata.clip_ids(where), keys, "ours")
    theirs = _keyed(other, other.metadata.clip_ids(), keys, "theirs")
    both = ours.join(theirs, keys, join_type="inner").sort_by("ours")
    if not both.num_rows:
        raise QueryError("the two stores share no clip of the same recording and offset")
    return numbers(both["ours"]), numbers(both["theirs"])


def _keyed(store: Reader, ids: NDArray[np.int64], keys: list[str], name: str) -> pa.Table:
    return clip_columns(store, ids, keys).rename_columns([name, *keys])


def _row(
    query: str, to: str, one: Ranked, two: Ranked, seed: int, replicates: int
) -> dict[str, object]:
    _, subjects = np.unique(one.subjects, return_inverse=True)
    people = int(subjects.max()) + 1
    counts = draw_subjects(people, replicates, seed)
    row: dict[str, object] = {"query": query, "target": to}
    ours, theirs = measures(one.ranks), measures(two.ranks)
    for name in ours:
        resampled = resampled_means(ours[name] - theirs[name], subjects, counts)
        row |= _entry(name, ours[name].mean(), theirs[name].mean(), resampled, people)
    a, b = one.ranks.astype(np.float64), two.ranks.astype(np.float64)
    resampled = resampled_medians(a, subjects, counts) - resampled_medians(b, subjects, counts)
    row |= _entry("median_rank", np.median(a), np.median(b), resampled, people)
    return row | {
        "gallery": round(float(one.sizes.mean())),
        "queries": len(one.ranks),
        "subjects": people,
        "seed": seed,
        "draws": int(one.draw.max()) + 1,
    }


def _entry(
    name: str, ours: float, theirs: float, resampled: NDArray[np.float64], people: int
) -> dict[str, object]:
    low, high = interval(resampled, people)
    return {
        name: float(ours),
        f"{name}_against": float(theirs),
        f"{name}_difference": float(ours - theirs),
        f"{name}_difference_low": low if np.isfinite(low) else None,
        f"{name}_difference_high": high if np.isfinite(high) else None,
    }
