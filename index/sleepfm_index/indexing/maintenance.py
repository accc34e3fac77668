"""Index maintenance: keep, extend or rebuild after clips were added or removed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm.progress import Notice
from sleepfm_index.errors import QueryError
from sleepfm_index.indexing import shards as sharding
from sleepfm_index.indexing.calibration import FEWEST, calibrate, draw_queries
from sleepfm_index.indexing.planner import (
    RECALL,
    Plan,
    calibration_queries,
    is_small,
    plan_rows,
    target_rows,
)
from sleepfm_index.schema import check_target
from sleepfm_index.search import kinds
from sleepfm_index.search.flat import Flat
from sleepfm_index.search.kinds import EXACT
from sleepfm_index.search.protocol import SEED, IndexKind, Mergeable, Trained
from sleepfm_index.storage import paths, row_cache
from sleepfm_index.storage.files import remove
from sleepfm_index.storage.manifest import IndexEntry, Manifest, Recall, RowCacheEntry
from sleepfm_index.storage.vectors import Vectors

UNCOVERED: Final = 10_000
"""Maximum number of clips missing from an index; these are searched exactly, in about 2 ms per
query."""
SMALL_ROWS: Final = 200_000
"""Number of clips up to which every new clip renews the row cache, which takes about a second."""
GROWN: Final = 0.01
"""Relative growth of the number of clips after which recall is measured again."""
_RETRY_GROWTH: Final = 2
TRAINED_FOR: Final = 1 << 14
"""Number of queries of other modalities used in training."""


@dataclass(frozen=True)
class IndexRequest:
    """Requested indexes of a store.

    Parameters
    ----------
    index : str, optional
        Kind of index for every target; by default the present kind, or the planned one.
    recall : float, optional
        The recall@10 to reach, 0 to 1; by default the previous goal, or 0.99.
    rebuild : bool
        Whether to rebuild every index.
    targets : tuple of str, optional
        Targets whose indexes are updated; by default all.
    only_present : bool
        Whether to update existing caches only.
    as_in : Manifest, optional
        Manifest whose indexes and row cache are to be rebuilt.
    notice : callable, optional
        Called with a line of text before each step.
    shards : int
        Number of parts in which a new index is encoded.
    code : callable
        Function that encodes the shards; see :mod:`sleepfm_index.indexing.shards`.
    """

    index: str | None = None
    recall: float | None = None
    rebuild: bool = False
    targets: tuple[str, ...] | None = None
    only_present: bool = False
    as_in: Manifest | None = None
    notice: Notice | None = None
    shards: int = 1
    code: sharding.Code = sharding.here

    def say(self, line: str) -> None:
        """Report progress.

        Parameters
        ----------
        line : str
            The message.
        """
        if self.notice is not None:
            self.notice(line)


def with_caches(store: Path, manifest: Manifest, request: IndexRequest) -> Manifest:
    """Write missing indexes and row cache; return a manifest with them.

    Parameters
    ----------
    store : Path
        The store's folder.
    manifest : Manifest
        The snapshot of the store.
    request : IndexRequest
        Indexes to build.
    """
    return replace(
        manifest,
        indexes=_indexes(store, manifest, request),
        row_cache=_row_cache(store, manifest, request),
    )


def _indexes(store: Path, manifest: Manifest, request: IndexRequest) -> tuple[IndexEntry, ...]:
    present = _by_target(manifest)
    models = present if request.as_in is None else _by_target(request.as_in) | present
    for target in request.targets or ():
        check_target(target, manifest.modalities)
    for index in manifest.indexes:
        if index.settings and kinds.find(index.kind) is None:
            request.say(f"{index.target}: {index.kind} is unknown and ignored")
    targets = [
        t for t in request.targets or manifest.targets if t in models or not request.only_present
    ]
    if not targets or not manifest.segments:
        return ()
    rows = target_rows(store, manifest)
    plans = [_plan(rows[target], target, models.get(target), request) for target in targets]
    if not all(p.exact for p in plans):
        for plan in plans:
            request.say(plan.sentence)
    for plan in plans:
        entry = _index(store, manifest, plan, present.pop(plan.target, None), request)
        if entry is not None:
            present[plan.target] = entry
    return tuple(present[target] for target in manifest.targets if target in present)


def _by_target(manifest: Manifest) -> dict[str, IndexEntry]:
    return {i.target: i for i in manifest.indexes if kinds.find(i.kind) is not None}


def _row_cache(store: Path, manifest: Manifest, request: IndexRequest) -> RowCacheEntry | None:
    """Return the row cache of a store, which does not depend on the requested targets."""
    present = manifest.row_cache is not None
    present = present or (request.as_in is not None and request.as_in.row_cache is not None)
    if not manifest.segments or (request.only_present and not present):
        return None
    small = manifest.rows <= SMALL_ROWS
    entry = row_cache.usable_cache(manifest)
    if (
        entry is None
        or request.rebuild
        or _uncovered(manifest, entry) > (0 if small else UNCOVERED)
        or not (store / paths.INDEXES / entry.file).is_file()
    ):
        if not small:
            request.say(f"clips: writing {manifest.rows:,} rows for memory mapping")
        try:
            entry = row_cache.write_rows(store, manifest)
        except (
            QueryError,
            pa.ArrowException,
        ) as error:  # a failed cache must not prevent the indexes
            request.say(
                f"clips: the row cache cannot be written ({error}); they are read from Parquet"
            )
            return None
    return entry


def _uncovered(manifest: Manifest, entry: IndexEntry | RowCacheEntry) -> int:
    """Count clips added since a cache was written."""
    return sum(s.rows for s in manifest.segments if s.id not in entry.segments)


def _plan(rows: int, target: str, model: IndexEntry | None, request: IndexRequest) -> Plan:
    recall = request.recall
    if recall is None and request.index is not None and kinds.is_exact(request.index):
        recall = 1.0  # so that it stays exact as the store grows
    if recall is None and model is not None and kinds.is_exact(model.kind) and request.index:
        recall = RECALL  # the goal of an exact index does not apply to other kinds
    if recall is None:
        recall = model.recall.goal if model is not None and model.recall is not None else RECALL
    proposed = plan_rows(rows, recall=recall, index=request.index, target=target)
    if request.index is not None or model is None:
        return proposed
    planned, known = kinds.find(proposed.kind), model.recall
    if kinds.is_exact(model.kind) and known is not None and known.goal == recall:
        # No approximate index reached the goal: try again once the store has doubled.
        gave_up = not is_small(known.clips) and rows < _RETRY_GROWTH * known.clips
        if gave_up:
            return plan_rows(rows, recall=recall, index=model.kind, target=target)
    if planned is not None and kinds.parse(model.kind).outgrown(planned):
        return proposed
    return plan_rows(rows, recall=recall, index=model.kind, target=target)


def _index(
    store: Path, manifest: Manifest, plan: Plan, entry: IndexEntry | None, request: IndexRequest
) -> IndexEntry | None:
    """Return the index of one target; None for exact search without an index."""
    if plan.kind == EXACT:
        return None
    if plan.exact:
        return _exhaustive(store, manifest, plan, entry, request)
    vectors = Vectors(store, manifest)
    names = tuple(s.id for s in manifest.segments)
    if entry is None or request.rebuild or entry.kind != plan.kind:
        queries = draw_queries(vectors, manifest, plan.target, TRAINED_FOR, SEED)
        if len(queries) < FEWEST:
            request.say(f"{plan.target}: too few clips of other modalities to calibrate; exact")
            return _index(store, manifest, replace(plan, kind=str(Flat())), entry, request)
        kind = kinds.parse(plan.kind)
        request.say(f"{plan.target}: training {kind}")
        _, sample = vectors.draw(plan.target, plan.sample, SEED)
        trained = kind.train(sample, queries.vectors)
        del sample, queries
        request.say(f"{plan.target}: coding {plan.rows:,} clips")
        entry = _coded(store, manifest, vectors, plan.target, kind, trained, request)
    elif set(entry.segments) - set(names) or _uncovered(manifest, entry) > UNCOVERED:
        entry = _extended(store, vectors, names, entry, request)
    known = entry.recall
    if (
        known is not None
        and known.goal == plan.recall
        and abs(plan.rows - known.clips) <= GROWN * known.clips
    ):
        return entry
    entry = _calibrated(store, manifest, vectors, entry, plan, request)
    finer = kinds.parse(entry.kind).finer
    if entry.settings or request.index is not None or finer is None:
        return entry
    if entry.file not in manifest.names[1]:
        remove(store / paths.INDEXES / entry.file)
    return _index(store, manifest, replace(plan, kind=str(finer)), None, request)


def _exhaustive(
    store: Path, manifest: Manifest, plan: Plan, entry: IndexEntry | None, request: IndexRequest
) -> IndexEntry:
    """Return an exhaustive index, which covers all clips and needs no calibration."""
    vectors = Vectors(store, manifest)
    names = tuple(s.id for s in manifest.segments)
    if entry is None or request.rebuild or entry.kind != plan.kind:
        kind = kinds.parse(plan.kind)
        blocks = (b for name in names for b in vectors.blocks(name, plan.target))
        entry = kind.write(store, plan.target, names, None, blocks)
    elif set(entry.segments) != set(names):
        entry = _extended(store, vectors, names, entry, request)
    certain = (1.0, 1.0, 1.0)
    known = Recall(plan.recall, certain, certain, 0, plan.rows)
    unchanged = entry.recall is not None and entry.recall.goal == plan.recall
    return entry if unchanged else replace(entry, recall=known)


def _coded(
    store: Path,
    manifest: Manifest,
    vectors: Vectors,
    target: str,
    kind: IndexKind,
    trained: Trained,
    request: IndexRequest,
) -> IndexEntry:
    if request.shards > 1 and isinstance(kind, Mergeable):
        parts = sharding.divided(manifest, request.shards)
        return sharding.write(store, target, kind, trained, parts, request.code)
    names = tuple(s.id for s in manifest.segments)
    blocks = (b for name in names for b in vectors.blocks(name, target))
    return kind.write(store, target, names, trained, blocks)


def _extended(
    store: Path, vectors: Vectors, names: tuple[str, ...], entry: IndexEntry, request: IndexRequest
) -> IndexEntry:
    """Add the clips that an index lacks, and drop clips that the store does not have."""
    kind = kinds.parse(entry.kind)
    index = kind.open(store, entry)
    ids = index.ids()
    live = vectors.known_ids()
    # If single rows cannot be removed, deleted clips stay as long as the segments have them.
    allowed = live if kind.removes_rows else vectors.known_ids(deleted=True)
    keep = ids < len(allowed)
    keep[keep] = allowed[ids[keep]]
    kept = (index, keep) if kind.removes_rows or keep.all() else None
    if kept is not None and not kind.exact:
        request.say(f"{entry.target}: adding clips to {entry.kind}")
    elif not kind.exact:
        request.say(f"{entry.target}: building {entry.kind} again, because clips were deleted")

    missing = live.copy()
    if kept is not None:
        missing[ids[keep]] = False

    def is_missing(clip_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return missing[clip_ids]

    blocks = (b for name in names for b in vectors.blocks(name, entry.target, is_missing))
    extended = kind.write(store, entry.target, names, index.trained, blocks, kept)
    return replace(extended, settings=entry.settings, recall=entry.recall)


def _calibrated(
    store: Path,
    manifest: Manifest,
    vectors: Vectors,
    entry: IndexEntry,
    plan: Plan,
    request: IndexRequest,
) -> IndexEntry:
    request.say(f"{entry.target}: measuring recall")
    count = calibration_queries(plan.rows)
    # Different queries than before, once the store has grown.
    queries = draw_queries(vectors, manifest, entry.target, count, SEED + manifest.rows)
    index = kinds.open_index(store, entry, vectors)
    calibrated = calibrate(vectors, manifest, entry, index, plan.recall, queries)
    if calibrated is None:
        request.say(
            f"{entry.target}: {entry.kind} does not reach a recall of {plan.recall:g}; "
            "without an index that does, search is exact"
        )
        return replace(entry, settings=(), recall=None)
    return replace(entry, settings=calibrated[0], recall=calibrated[1])
