"""Measures of cross-modal retrieval: how well one modality finds the same clip in another."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm.modality import Modality
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import has
from sleepfm_index.evaluation.labels.seen_people import without_seen
from sleepfm_index.evaluation.metrics.estimates import mean
from sleepfm_index.evaluation.metrics.intervals import of_median, proportion, too_few
from sleepfm_index.evaluation.retrieval.facts import Facts
from sleepfm_index.evaluation.retrieval.gallery import Gallery
from sleepfm_index.evaluation.retrieval.rank_cache import RankCache
from sleepfm_index.evaluation.retrieval.ranks import ranks_and_hits, true_ranks
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result
from sleepfm_index.schema import OTHERS, target_name

__all__ = ["RECALLS", "Ranked", "Retrieval", "directions", "evaluate", "true_ranks"]

RECALLS: Final = (1, 5, 10)
_NEAR_S: Final = 60.0


@dataclass(frozen=True)
class Ranked:
    """Ranks of the queries of one direction, concatenated over the draws of the gallery.

    Parameters
    ----------
    rows, clip_ids, ranks, sizes, subjects : ndarray of int64, shape [n]
        Row in the facts, clip id, rank of the true target, size of the gallery, and subject code of
        each query.
    shares : dict of str to ndarray of float64, shape [n]
        Whether the top hit is of the same stage, subject, minute; NaN if unknown.
    draw : ndarray of int64, shape [n]
        Number of the draw of the gallery.
    """

    rows: NDArray[np.int64]
    clip_ids: NDArray[np.int64]
    ranks: NDArray[np.int64]
    sizes: NDArray[np.int64]
    subjects: NDArray[np.int64]
    shares: dict[str, NDArray[np.float64]]
    draw: NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Retrieval(Result):
    """The table of retrieval measures, with the ranks by (query, target), and the modalities."""

    ranked: dict[tuple[str, str], Ranked] = field(default_factory=dict)
    modalities: tuple[Modality, ...] = ()


def evaluate(
    store: Reader,
    *,
    where: str | None = None,
    gallery: int | None = None,
    seed: int = 0,
    draws: int = 1,
    among: str = "all",
    by: str | None = None,
    combinations: bool = False,
    include_seen: bool = False,
) -> Retrieval:
    """Measure how well one modality finds the same clip in another.

    For each clip of the gallery the query is its vector in one modality; the candidates are all
    vectors of the gallery in the other. The rank is the number of candidates that score at least
    as high as the true one, so ties count against it. Each clip of a gallery has query and target.

    Parameters
    ----------
    store : Reader
        The open store.
    where, gallery, seed, draws, among, include_seen
        Fields of :class:`Gallery` (``gallery`` is its ``size``).
    by : str, optional
        Column of ``clips``: additional rows for the queries of each value, with the same gallery.
    combinations : bool
        Whether to add queries by the mean of all modalities except the target. None are added if a
        modality of the store has no clips.

    Returns
    -------
    Retrieval
        Columns query, target, recall_at_1, recall_at_5, recall_at_10, median_rank, mrr, gallery
        (mean number of candidates), seed, chance_at_1, chance_at_5, chance_at_10 (k over the number
        of candidates), ``*_low`` and ``*_high`` of each measure, top_same_stage, top_same_subject,
        top_same_minute (share of the top hits; stage among scored queries, minute within 60 s in
        the same recording), queries, subjects, draws, recall_at_1_sd (over the draws), group.

    Raises
    ------
    QueryError
        If the condition or a column is not valid, or no clip has both query and target in any
        direction.
    """
    setup = Gallery(where, gallery, seed, draws, among, include_seen)
    clip_ids, seen = without_seen(store, store.metadata.clip_ids(where), include_seen=include_seen)
    facts = Facts.of(store, clip_ids, by)
    ranked, rows = {}, []
    cache = RankCache(store, facts.clip_ids)
    for query, to in directions(store.manifest.modalities, combinations=combinations):
        ranks = rank_direction(store, facts, query, to, setup, cache)
        if ranks is not None:
            ranked[query, to] = ranks
            rows += _rows(query, to, ranks, facts, seed)
    if not rows:
        raise QueryError("no clip has two modalities, so there is nothing to evaluate")
    contract = store.manifest.contract
    described = tuple(map(contract.modality, contract.modalities))
    return Retrieval(pa.Table.from_pylist(rows), _note(setup, by, rows, seen), ranked, described)


def directions(
    modalities: tuple[str, ...], *, combinations: bool = False
) -> tuple[tuple[str, str], ...]:
    """List the directions: every ordered pair, then every modality to ``others`` if it is a mean.

    Parameters
    ----------
    modalities : tuple of str
        Modalities of the store.
    combinations : bool
        Whether to add the mean of the other modalities as query for each modality.

    Returns
    -------
    tuple of (str, str)
        Query and target; averaged modalities are joined by ``+``.
    """
    pairs = permutations(modalities, 2)
    if len(modalities) < 3:
        return tuple(pairs)
    pairs_and_others = [*pairs, *((m, OTHERS) for m in modalities)]
    if combinations:
        pairs_and_others += [("+".join(o for o in modalities if o != m), m) for m in modalities]
    return tuple(pairs_and_others)


def rank_direction(
    store: Reader,
    facts: Facts,
    query: str,
    to: str,
    gallery: Gallery,
    cache: RankCache | None = None,
) -> Ranked | None:
    """Rank every query of one direction; None if no clip has query and target.

    Parameters
    ----------
    store : Reader
        The open store.
    facts : Facts
        Metadata of the clips.
    query, to : str
        Query and target of the direction.
    gallery : Gallery
        Galleries to draw.
    cache : RankCache, optional
        Cache of ranks shared between directions of the same clips.
    """
    both = sides_present(store, facts.clip_ids, query, to)
    if not both.any():
        return None
    parts = []
    for number, drawn in enumerate(gallery.drawn(np.flatnonzero(both))):
        recording = facts.recording[drawn]
        result = None
        if cache is not None and gallery.among == "all":
            result = cache.of(query, to, drawn)
        if result is None:
            queries, targets = sides(store, facts.clip_ids[drawn], query, to)
            result = _ranks(queries, targets, recording, gallery.among)
        ranks, hits = result
        clips_of_recording = np.bincount(recording)[recording]
        sizes = {
            "all": np.full(len(drawn), len(drawn)),
            "cross-recording": len(drawn) - clips_of_recording + 1,
            "within-recording": clips_of_recording,
        }[gallery.among]
        shares = _shares(facts, drawn, drawn[hits])
        parts.append((drawn, ranks, sizes, shares, np.full(len(drawn), number)))
    rows, ranks, sizes, shares, draw = zip(*parts, strict=True)
    pooled = np.concatenate(rows)
    return Ranked(
        pooled,
        facts.clip_ids[pooled],
        np.concatenate(ranks),
        np.concatenate(sizes),
        facts.subject[pooled],
        {name: np.concatenate([s[name] for s in shares]) for name in shares[0]},
        np.concatenate(draw),
    )


def sides_present(
    store: Reader, clip_ids: NDArray[np.int64], query: str, to: str
) -> NDArray[np.bool_]:
    """Mask of clips with all query modalities and the target.

    Parameters
    ----------
    store : Reader
        The open store.
    clip_ids : ndarray of int64, shape [n]
        Clip ids.
    query, to : str
        Query and target of the direction.
    """
    known = store.manifest.modalities
    names = [*query.split("+"), target_name(query, to, known) if to == OTHERS else to]
    present = [has(store, clip_ids, name) for name in names]
    return np.asarray(np.logical_and.reduce(present), bool)


def sides(
    store: Reader, clip_ids: NDArray[np.int64], query: str, to: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors of the query and of the target, float32 [n, 512] each.

    Parameters
    ----------
    store : Reader
        The open store.
    clip_ids : ndarray of int64, shape [n]
        Clip ids.
    query, to : str
        Query and target of the direction.
    """
    known = store.manifest.modalities
    if "+" in query:
        # the query is the mean of the modalities other than the target, the target's ``others``
        queries, _ = store.vectors.of(clip_ids, target_name(to, OTHERS, known))
        targets, _ = store.vectors.of(clip_ids, to)
    else:
        queries, _ = store.vectors.of(clip_ids, query)
        targets, _ = store.vectors.of(clip_ids, target_name(query, to, known))
    return queries, targets


def _ranks(
    queries: NDArray[np.float32],
    targets: NDArray[np.float32],
    recording: NDArray[np.int64],
    among: str,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if among != "within-recording":
        return ranks_and_hits(queries, targets, recording if among == "cross-recording" else None)
    ranks, hits = np.empty((2, len(queries)), np.int64)
    for code in np.unique(recording):
        of_recording = np.flatnonzero(recording == code)
        ranks[of_recording], top = ranks_and_hits(queries[of_recording], targets[of_recording])
        hits[of_recording] = of_recording[top]
    return ranks, hits


def _shares(
    facts: Facts, query: NDArray[np.int64], hit: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    stage = np.where(facts.stage[query] < 0, np.nan, facts.stage[query] == facts.stage[hit])
    near = np.abs(facts.start_s[query] - facts.start_s[hit]) <= _NEAR_S
    return {
        "top_same_stage": stage,
        "top_same_subject": (facts.subject[query] == facts.subject[hit]).astype(np.float64),
        "top_same_minute": (near & (facts.recording[query] == facts.recording[hit])).astype(float),
    }


def _rows(query: str, to: str, ranked: Ranked, facts: Facts, seed: int) -> list[dict[str, object]]:
    all_queries = np.ones(len(ranked.ranks), bool)
    rows = [{**_row(query, to, ranked, all_queries, seed), "group": None}]
    group = facts.group[ranked.rows]
    for code, value in enumerate(facts.groups):
        if (group == code).any():
            row = _row(query, to, ranked, group == code, seed)
            rows.append({**row, "group": str(value)})
    return rows


MEASURES: Final = (*(f"recall_at_{k}" for k in RECALLS), "mrr")
"""Measures averaged over queries."""


def measures(ranks: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return the measures of each query: recall@k and reciprocal rank, float64 [n] each.

    Parameters
    ----------
    ranks : ndarray of int64, shape [n]
        Rank of the true clip, from 1 on.
    """
    return {
        **{f"recall_at_{k}": (ranks <= k).astype(np.float64) for k in RECALLS},
        "mrr": 1.0 / ranks,
    }


def _row(
    query: str, to: str, ranked: Ranked, chosen: NDArray[np.bool_], seed: int
) -> dict[str, object]:
    ranks, sizes, draw = ranked.ranks[chosen], ranked.sizes[chosen], ranked.draw[chosen]
    _, subjects = np.unique(ranked.subjects[chosen], return_inverse=True)
    subject_count = int(subjects.max()) + 1
    averaged = measures(ranks)
    spread = {
        name: proportion(mean(values, subjects), float(values.var()) / len(values))
        for name, values in averaged.items()
    }
    spread["median_rank"] = of_median(ranks.astype(np.float64), subjects)
    bounds = {
        f"{name}_{end}": value if np.isfinite(value) else None
        for name, pair in spread.items()
        for end, value in zip(("low", "high"), pair, strict=True)
    }
    by_draw = [float(np.mean(ranks[draw == d] <= 1)) for d in np.unique(draw)]
    return {
        "query": query,
        "target": to,
        **{f"recall_at_{k}": float(averaged[f"recall_at_{k}"].mean()) for k in RECALLS},
        "median_rank": float(np.median(ranks)),
        "mrr": float(averaged["mrr"].mean()),
        "gallery": round(float(sizes.mean())),
        "seed": seed,
        **{f"chance_at_{k}": float(np.minimum(1.0, k / sizes).mean()) for k in RECALLS},
        **bounds,
        **{name: _mean(share[chosen]) for name, share in ranked.shares.items()},
        "queries": len(ranks),
        "subjects": subject_count,
        "draws": len(by_draw),
        "recall_at_1_sd": float(np.std(by_draw, ddof=1)) if len(by_draw) > 1 else None,
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _note(gallery: Gallery, by: str | None, rows: list[dict[str, object]], seen: str) -> str:
    few = too_few(min(int(str(row["subjects"])) for row in rows))
    among = {
        "all": "",
        "cross-recording": "; candidates from other recordings only",
        "within-recording": "; candidates from the same recording only",
    }[gallery.among]
    return (
        f"gallery: {'all clips' if gallery.where is None else gallery.where}{among}"
        f"{f'; by {by}, the gallery whole' if by else ''}"
        f"{f'; {seen}' if seen else ''}; {few or '95 % intervals over subjects'}"
    )
