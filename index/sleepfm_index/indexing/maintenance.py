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
"""Maximum number of clips missing from an index, which are compared one by one: about 2 ms per
query."""
CACHED_ROWS: Final = 200_000
"""A store of more clips has their rows in a file that is mapped."""
GROWN: Final = 0.01
"""Relative growth of the number of clips after which recall is measured again."""
_TRIED_AGAIN: Final = 2
TRAINED_FOR: Final = 1 << 14
"""Number of queries of other modalities used in training."""


@dataclass(frozen=True)
class IndexRequest:
    """Requested indexes of a store.

    Parameters
    ----------
    index : str, optional
        A kind for every target; by default the kind that there is, else the plan's.
    recall : float, optional
        By default what was asked for before, else 0.99.
    rebuild : bool
        Make every index afresh.
    targets : tuple of str, optional
        Leave the indexes of all others as they are; by default every target.
    only_present : bool
        Only what there is already.
    as_in : Manifest, optional
        Make again the indexes that this manifest has, and its row cache.
    notice : callable, optional
        Called with a line before each step.
    shards : int
        In how many parts an index is coded that is made afresh.
    code : callable
        Codes them; see :mod:`sleepfm_index.indexing.shards`.
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
    """Write missing indexes and row cache; return a manifest that names them.

    Parameters
    ----------
    store : Path
        The store's folder.
    manifest : Manifest
        The snapshot of the store.
    request : IndexRequest
        Which indexes to build.
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
        for one in plans:
            request.say(one.sentence)
    for one in plans:
        entry = _index(store, manifest, one, present.pop(one.target, None), request)
        if entry is not None:
            present[one.target] = entry
    return tuple(present[target] for target in manifest.targets if target in present)


def _by_target(manifest: Manifest) -> dict[str, IndexEntry]:
    return {i.target: i for i in manifest.indexes if kinds.find(i.kind) is not None}


def _row_cache(store: Path, manifest: Manifest, request: IndexRequest) -> RowCacheEntry | None:
    """Return the row cache of a large store, whatever targets are asked for."""
    there = manifest.row_cache is not None
    there = there or (request.as_in is not None and request.as_in.row_cache is not None)
    wanted = there if request.only_present else manifest.rows > CACHED_ROWS
    if not wanted or not manifest.segments:
        return None
    entry = row_cache.usable_cache(manifest)
    if (
        entry is None
        or request.rebuild
        or _uncovered(manifest, entry) > UNCOVERED
        or not (store / paths.INDEXES / entry.file).is_file()
    ):
        request.say(f"clips: writing {manifest.rows:,} rows for memory mapping")
        try:
            entry = row_cache.write_rows(store, manifest)
        except (QueryError, pa.ArrowException) as error:  # a cache must not cost the indexes
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
        recall = 1.0  # so that it stays as the store grows
    if recall is None and model is not None and kinds.is_exact(model.kind) and request.index:
        recall = RECALL  # an exact index says nothing of what another one should reach
    if recall is None:
        recall = model.recall.asked if model is not None and model.recall is not None else RECALL
    fresh = plan_rows(rows, recall=recall, index=request.index, target=target)
    if request.index is not None or model is None:
        return fresh
    planned, known = kinds.find(fresh.kind), model.recall
    if kinds.is_exact(model.kind) and known is not None and known.asked == recall:
        # Nothing else reached the recall: it is tried again with twice as many clips.
        given_up = not is_small(known.clips) and rows < _TRIED_AGAIN * known.clips
        if given_up:
            return plan_rows(rows, recall=recall, index=model.kind, target=target)
    if planned is not None and kinds.parse(model.kind).outgrown(planned):
        return fresh
    return plan_rows(rows, recall=recall, index=model.kind, target=target)


def _index(
    store: Path, manifest: Manifest, wanted: Plan, entry: IndexEntry | None, request: IndexRequest
) -> IndexEntry | None:
    """Return the index of one target; None where there is to be none."""
    if wanted.kind == EXACT:
        return None
    if wanted.exact:
        return _exhaustive(store, manifest, wanted, entry, request)
    vectors = Vectors(store, manifest)
    names = tuple(s.id for s in manifest.segments)
    if entry is None or request.rebuild or entry.kind != wanted.kind:
        queries = draw_queries(vectors, manifest, wanted.target, TRAINED_FOR, SEED)
        if len(queries) < FEWEST:
            request.say(f"{wanted.target}: too few clips of other modalities to calibrate; exact")
            return _index(store, manifest, replace(wanted, kind=str(Flat())), entry, request)
        kind = kinds.parse(wanted.kind)
        request.say(f"{wanted.target}: training {kind}")
        _, sample = vectors.draw(wanted.target, wanted.sample, SEED)
        trained = kind.train(sample, queries.vectors)
        del sample, queries
        request.say(f"{wanted.target}: coding {wanted.rows:,} clips")
        entry = _coded(store, manifest, vectors, wanted.target, kind, trained, request)
    elif set(entry.segments) - set(names) or _uncovered(manifest, entry) > UNCOVERED:
        entry = _extended(store, vectors, names, entry, request)
    known = entry.recall
    if (
        known is not None
        and known.asked == wanted.recall
        and abs(wanted.rows - known.clips) <= GROWN * known.clips
    ):
        return entry
    entry = _calibrated(store, manifest, vectors, entry, wanted, request)
    finer = kinds.parse(entry.kind).finer
    if entry.settings or request.index is not None or finer is None:
        return entry
    if entry.file not in manifest.names[1]:
        remove(store / paths.INDEXES / entry.file)
    return _index(store, manifest, replace(wanted, kind=str(finer)), None, request)


def _exhaustive(
    store: Path, manifest: Manifest, wanted: Plan, entry: IndexEntry | None, request: IndexRequest
) -> IndexEntry:
    """Return an index that compares every vector; it covers all clips and needs no calibration."""
    vectors = Vectors(store, manifest)
    names = tuple(s.id for s in manifest.segments)
    if entry is None or request.rebuild or entry.kind != wanted.kind:
        kind = kinds.parse(wanted.kind)
        blocks = (b for name in names for b in vectors.blocks(name, wanted.target))
        entry = kind.write(store, wanted.target, names, None, blocks)
    elif set(entry.segments) != set(names):
        entry = _extended(store, vectors, names, entry, request)
    sure = (1.0, 1.0, 1.0)
    known = Recall(wanted.recall, sure, sure, 0, wanted.rows)
    unchanged = entry.recall is not None and entry.recall.asked == wanted.recall
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
    """Add the clips that are not in an index, and leave out those no longer in the store."""
    kind = kinds.parse(entry.kind)
    index = kind.open(store, entry)
    ids = index.ids()
    fresh = vectors.known_ids()
    # Where no row can be taken out, deleted ones stay as long as the segments have them.
    known = fresh if kind.removes_rows else vectors.known_ids(deleted=True)
    keep = ids < len(known)
    keep[keep] = known[ids[keep]]
    kept = (index, keep) if kind.removes_rows or keep.all() else None
    if kept is not None and not kind.exact:
        request.say(f"{entry.target}: adding clips to {entry.kind}")
    elif not kind.exact:
        request.say(f"{entry.target}: building {entry.kind} again, because clips were deleted")

    if kept is not None:
        fresh[ids[keep]] = False

    def wanted(clip_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return fresh[clip_ids]

    blocks = (b for name in names for b in vectors.blocks(name, entry.target, wanted))
    made = kind.write(store, entry.target, names, index.trained, blocks, kept)
    return replace(made, settings=entry.settings, recall=entry.recall)


def _calibrated(
    store: Path,
    manifest: Manifest,
    vectors: Vectors,
    entry: IndexEntry,
    wanted: Plan,
    request: IndexRequest,
) -> IndexEntry:
    request.say(f"{entry.target}: measuring recall")
    count = calibration_queries(wanted.rows)
    # Other queries than before, as far as the store has grown.
    queries = draw_queries(vectors, manifest, entry.target, count, SEED + manifest.rows)
    index = kinds.open_index(store, entry, vectors)
    found = calibrate(vectors, manifest, entry, index, wanted.recall, queries)
    if found is None:
        request.say(
            f"{entry.target}: {entry.kind} does not reach a recall of {wanted.recall:g}; "
            "without an index that does, search is exact"
        )
        return replace(entry, settings=(), recall=None)
    return replace(entry, settings=found[0], recall=found[1])
