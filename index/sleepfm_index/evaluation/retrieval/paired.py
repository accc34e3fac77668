"""Two stores of the same recordings side by side: paired differences in retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, numbers
from sleepfm_index.evaluation.labels.seen_people import without_seen
from sleepfm_index.evaluation.metrics.differences import adjust
from sleepfm_index.evaluation.metrics.estimates import Estimate, mean
from sleepfm_index.evaluation.metrics.intervals import (
    Interval,
    difference,
    median_estimate,
    of_median,
    p_value,
    proportion,
    too_few,
)
from sleepfm_index.evaluation.retrieval.facts import Facts
from sleepfm_index.evaluation.retrieval.gallery import Gallery
from sleepfm_index.evaluation.retrieval.retrieval import (
    MEASURES,
    Ranked,
    directions,
    measures,
    rank_direction,
    sides_present,
)
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result
from sleepfm_index.schema import OTHERS


def compare(
    store: Reader,
    other: Reader,
    *,
    where: str | None = None,
    gallery: int | None = None,
    seed: int = 0,
    draws: int = 1,
    among: str = "all",
    include_seen: bool = False,
) -> Result:
    """Measure retrieval in two stores over the same clips, and the differences clip by clip.

    Clips are the same where recording and offset are; the gallery holds those that have both sides
    in both stores, so the two answers are paired. Stores of different weights are what this is
    for, e.g. pairwise against leave-one-out training.

    Parameters
    ----------
    store : Reader
        The open store.
    other : Store
        What to compare with.
    where, gallery, seed, draws, among, include_seen
        Fields of :class:`~.gallery.Gallery`; ``where`` is asked of ``store``; people are left out
        whom the weights of either have seen.

    Returns
    -------
    Result
        Columns query, target, and for every measure ``<measure>``, ``<measure>_against``,
        ``<measure>_difference`` (this minus the other) with ``_low`` and ``_high``, ``<measure>_p``
        of no difference and ``<measure>_p_holm``, adjusted (Holm) over the directions; gallery,
        queries, subjects, seed, draws.

    Raises
    ------
    QueryError
        If the stores share no clip, or no direction has a clip with both sides.
    """
    asked = Gallery(where, gallery, seed, draws, among, include_seen)
    ours, theirs = shared_clips(store, other, where)
    remarks = []
    for side in (store, other):
        own = ours if side is store else theirs
        kept, remark = without_seen(side, own, include_seen=include_seen)
        left = np.isin(own, kept)
        ours, theirs = ours[left], theirs[left]
        if remark:
            remarks.append(f"{'this' if side is store else 'other'} store: {remark}; ")
    rows = []
    for query, to in _shared_directions(store, other):
        both = sides_present(store, ours, query, to) & sides_present(other, theirs, query, to)
        if both.any():
            facts = Facts.of(store, ours[both])
            # galleries are drawn by position, so the same seed draws the same clips of both stores
            one = rank_direction(store, facts, query, to, asked)
            two = rank_direction(other, replace(facts, clip_ids=theirs[both]), query, to, asked)
            assert one is not None and two is not None
            rows.append(_row(query, to, one, two, seed))
    if not rows:
        raise QueryError("no clip has two modalities in both stores")
    for name in (*MEASURES, "median_rank"):
        adjust(rows, name)
    few = too_few(min(int(str(row["subjects"])) for row in rows))
    spread = few or "95 % intervals over subjects"
    return Result(
        pa.Table.from_pylist(rows),
        f"{store.manifest.weights.name} against {other.manifest.weights.name}: {len(ours)} clips "
        f"of both stores; {''.join(remarks)}differences are paired, this store minus the "
        f"other; {spread}",
    )


def shared_clips(
    store: Reader, other: Reader, where: str | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids of the clips that two stores share, by recording and offset, in the same order.

    Parameters
    ----------
    store, other : Reader
        The two stores.
    where : str, optional
        A condition on the clips of ``store``.

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


def _shared_directions(store: Reader, other: Reader) -> list[tuple[str, str]]:
    """Directions that mean the same in both: ``others`` only where they are the same ones."""
    ours, theirs = store.manifest.modalities, other.manifest.modalities
    both = directions(tuple(m for m in ours if m in theirs))
    return [(query, to) for query, to in both if to != OTHERS or set(ours) == set(theirs)]


def _keyed(store: Reader, ids: NDArray[np.int64], keys: list[str], name: str) -> pa.Table:
    return clip_columns(store, ids, keys).rename_columns([name, *keys])


def _row(query: str, to: str, one: Ranked, two: Ranked, seed: int) -> dict[str, object]:
    _, subjects = np.unique(one.subjects, return_inverse=True)
    people = int(subjects.max()) + 1
    row: dict[str, object] = {"query": query, "target": to}
    same = np.array_equal(one.ranks, two.ranks)
    ours, theirs = measures(one.ranks), measures(two.ranks)
    for name in ours:
        sides = [mean(values, subjects) for values in (ours[name], theirs[name])]
        row |= _entry(name, sides, [proportion(side) for side in sides], same)
    ranks = [found.ranks.astype(np.float64) for found in (one, two)]
    medians = [median_estimate(values, subjects) for values in ranks]
    row |= _entry("median_rank", medians, [of_median(values, subjects) for values in ranks], same)
    return row | {
        "gallery": round(float(one.sizes.mean())),
        "queries": len(one.ranks),
        "subjects": people,
        "seed": seed,
        "draws": int(one.draw.max()) + 1,
    }


def _entry(
    name: str, estimates: Sequence[Estimate], intervals: Sequence[Interval], same: bool
) -> dict[str, object]:
    ours, theirs = estimates
    skewed = name != "median_rank"
    low, high = difference(ours, theirs, *intervals, same=same, skewed=skewed)
    p = p_value(ours, theirs, (low, high) if skewed else None)
    return {
        name: ours.value,
        f"{name}_against": theirs.value,
        f"{name}_difference": ours.value - theirs.value,
        f"{name}_difference_low": low if np.isfinite(low) else None,
        f"{name}_difference_high": high if np.isfinite(high) else None,
        f"{name}_p": None if np.isnan(p) else p,
    }
