"""Comparison of two stores of the same recordings: paired differences in retrieval."""

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
    median_estimate,
    of_median,
    proportion,
    too_few,
)
from sleepfm_index.evaluation.metrics.paired_difference import Measure, difference, p_value
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
    """Measure retrieval in two stores over the same clips, with paired differences.

    Clips are matched by recording and offset; the gallery has those with query and target in both
    stores, so that the ranks are paired. This compares stores of different weights, e.g. pairwise
    with leave-one-out training.

    Parameters
    ----------
    store : Reader
        The open store.
    other : Reader
        The store to compare with.
    where, gallery, seed, draws, among, include_seen
        Fields of :class:`~.gallery.Gallery`; ``where`` applies to ``store``; training subjects of
        the weights of either store are excluded.

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
        If the stores share no clip, or no direction has a clip with query and target.
    """
    setup = Gallery(where, gallery, seed, draws, among, include_seen)
    clip_ids, other_ids = shared_clips(store, other, where)
    remarks = []
    for side in (store, other):
        side_ids = clip_ids if side is store else other_ids
        kept, remark = without_seen(side, side_ids, include_seen=include_seen)
        unseen = np.isin(side_ids, kept)
        clip_ids, other_ids = clip_ids[unseen], other_ids[unseen]
        if remark:
            remarks.append(f"{'this' if side is store else 'other'} store: {remark}; ")
    rows = []
    for query, to in _shared_directions(store, other):
        both = sides_present(store, clip_ids, query, to) & sides_present(
            other, other_ids, query, to
        )
        if both.any():
            facts = Facts.of(store, clip_ids[both])
            # galleries are drawn by row, so the same seed draws the same clips in both stores
            first = rank_direction(store, facts, query, to, setup)
            second = rank_direction(
                other, replace(facts, clip_ids=other_ids[both]), query, to, setup
            )
            assert first is not None and second is not None
            rows.append(_row(query, to, first, second, seed))
    if not rows:
        raise QueryError("no clip has two modalities in both stores")
    for name in (*MEASURES, "median_rank"):
        adjust(rows, name)
    few = too_few(min(int(str(row["subjects"])) for row in rows))
    spread = few or "95 % intervals over subjects"
    return Result(
        pa.Table.from_pylist(rows),
        f"{store.manifest.weights.name} against {other.manifest.weights.name}: {len(clip_ids)} "
        f"clips of both stores; {''.join(remarks)}differences are paired, this store minus the "
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
        SQL condition for the clips of ``store``.

    Raises
    ------
    QueryError
        If the stores share no clips.
    """
    keys = ["recording_id", "start_s"]
    first = _keyed(store, store.metadata.clip_ids(where), keys, "ours")
    second = _keyed(other, other.metadata.clip_ids(), keys, "theirs")
    shared = first.join(second, keys, join_type="inner").sort_by("ours")
    if not shared.num_rows:
        raise QueryError("the two stores share no clip of the same recording and offset")
    return numbers(shared["ours"]), numbers(shared["theirs"])


def _shared_directions(store: Reader, other: Reader) -> list[tuple[str, str]]:
    """Directions that exist in both; ``others`` only if the stores have the same modalities."""
    modalities, other_modalities = store.manifest.modalities, other.manifest.modalities
    both = directions(tuple(m for m in modalities if m in other_modalities))
    return [
        (query, to)
        for query, to in both
        if to != OTHERS or set(modalities) == set(other_modalities)
    ]


def _keyed(store: Reader, ids: NDArray[np.int64], keys: list[str], name: str) -> pa.Table:
    return clip_columns(store, ids, keys).rename_columns([name, *keys])


def _row(query: str, to: str, first: Ranked, second: Ranked, seed: int) -> dict[str, object]:
    _, subjects = np.unique(first.subjects, return_inverse=True)
    subject_count = int(subjects.max()) + 1
    row: dict[str, object] = {"query": query, "target": to}
    identical = np.array_equal(first.ranks, second.ranks)
    first_measures, second_measures = measures(first.ranks), measures(second.ranks)
    for name in first_measures:
        columns = first_measures[name], second_measures[name]
        sides = [mean(values, subjects) for values in columns]
        # no narrower than for independent clips, as in `evaluate`
        floors = [float(values.var()) / len(values) for values in columns]
        spans = [proportion(side, floor) for side, floor in zip(sides, floors, strict=True)]
        row |= _entry(name, sides, spans, identical)
    ranks = [ranked.ranks.astype(np.float64) for ranked in (first, second)]
    medians = [median_estimate(values, subjects) for values in ranks]
    row |= _entry(
        "median_rank", medians, [of_median(values, subjects) for values in ranks], identical
    )
    return row | {
        "gallery": round(float(first.sizes.mean())),
        "queries": len(first.ranks),
        "subjects": subject_count,
        "seed": seed,
        "draws": int(first.draw.max()) + 1,
    }


def _entry(
    name: str, estimates: Sequence[Estimate], intervals: Sequence[Interval], same: bool
) -> dict[str, object]:
    estimate, reference = estimates
    measure: Measure = "score" if name == "median_rank" else "recall"
    low, high = difference(estimate, reference, *intervals, same=same, measure=measure)
    p = p_value(estimate, reference, (low, high), measure=measure)
    return {
        name: estimate.value,
        f"{name}_against": reference.value,
        f"{name}_difference": estimate.value - reference.value,
        f"{name}_difference_low": low if np.isfinite(low) else None,
        f"{name}_difference_high": high if np.isfinite(high) else None,
        f"{name}_p": None if np.isnan(p) else p,
    }
