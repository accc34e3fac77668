"""What is done to the indexes when clips were added or removed: nothing, little, or all again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.indexing import ivf_builder
from sleepfm_index.indexing import shards as sharding
from sleepfm_index.indexing.calibration import FEWEST, calibrate, draw_queries
from sleepfm_index.indexing.planner import (
    CODE,
    EXACT_ROWS,
    FINER,
    QUERIES,
    RECALL,
    Plan,
    plan_rows,
    target_rows,
)
from sleepfm_index.schema import TARGETS
from sleepfm_index.search.index_format import (
    EXACT,
    Kind,
    Structure,
    is_inverted,
    is_searchable,
)
from sleepfm_index.search.ivf import InvertedFile
from sleepfm_index.storage import paths, row_cache
from sleepfm_index.storage.files import remove
from sleepfm_index.storage.manifest import IndexEntry, Manifest
from sleepfm_index.storage.vectors import Vectors

BESIDE: Final = 10_000
"""As many clips may lie beside an index, compared one by one: some 2 ms a query."""
GROWN: Final = 0.01
"""Recall is measured again when the clips are more by this share than when it was."""
_OUTGROWN: Final = 2
"""Centroids are found afresh when a plan would take more than so many times as many."""


@dataclass(frozen=True)
class Asked:
    """What is asked of the indexes.

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
    instead_of : tuple of IndexEntry
        Indexes that are no longer in the manifest and shall be made again.
    watch : callable, optional
        Called with a line before each step.
    shards : int
        In how many parts an index is coded that is made afresh.
    code : callable
        Who codes them; see :mod:`sleepfm_index.indexing.shards`.
    """

    index: str | None = None
    recall: float | None = None
    rebuild: bool = False
    targets: tuple[str, ...] | None = None
    only_present: bool = False
    instead_of: tuple[IndexEntry, ...] = ()
    watch: Callable[[str], object] | None = None
    shards: int = 1
    code: sharding.Code = sharding.here

    def say(self, line: str) -> None:
        """Tell whoever watches."""
        if self.watch is not None:
            self.watch(line)


def indexes(store: Path, manifest: Manifest, asked: Asked) -> tuple[IndexEntry, ...]:
    """Give the indexes that a manifest should name, written where needed."""
    return (*_of_targets(store, manifest, asked), *_clip_rows(store, manifest, asked))


def _of_targets(store: Path, manifest: Manifest, asked: Asked) -> tuple[IndexEntry, ...]:
    present = {i.target: i for i in manifest.indexes if is_searchable(i.kind)}
    models = {i.target: i for i in asked.instead_of if is_searchable(i.kind)} | present
    for target in asked.targets or ():
        if target not in TARGETS:
            raise QueryError(f"no target {target!r}; choose from {', '.join(TARGETS)}")
    for index in manifest.indexes:
        if is_inverted(index.kind) and not is_searchable(index.kind):
            asked.say(f"{index.target}: {index.kind} is not known here and is left out")
    targets = [t for t in asked.targets or TARGETS if t in models or not asked.only_present]
    if not targets or not manifest.segments:
        return ()
    rows = target_rows(store, manifest)
    plans = [_plan(rows[target], target, models.get(target), asked) for target in targets]
    if any(p.kind != EXACT for p in plans):
        for one in plans:
            asked.say(one.sentence)
    for one in plans:
        entry = _index(store, manifest, one, present.pop(one.target, None), asked)
        if entry is not None:
            present[one.target] = entry
    return tuple(present[target] for target in TARGETS if target in present)


def _clip_rows(store: Path, manifest: Manifest, asked: Asked) -> tuple[IndexEntry, ...]:
    """Give the rows of a large store's clips that can be mapped, whatever targets are asked for."""
    there = any(i.kind == row_cache.KIND for i in (*manifest.indexes, *asked.instead_of))
    wanted = there if asked.only_present else manifest.rows > EXACT_ROWS
    if not wanted or not manifest.segments:
        return ()
    entry = row_cache.rows_entry(manifest)
    if (
        entry is None
        or asked.rebuild
        or _beside(manifest, entry) > BESIDE
        or not (store / paths.INDEXES / entry.file).is_file()
    ):
        asked.say(f"clips: writing {manifest.rows:,} rows that can be mapped")
        try:
            entry = row_cache.write_rows(store, manifest)
        except (QueryError, pa.ArrowException) as error:  # a cache must not cost the indexes
            asked.say(f"clips: no rows that can be mapped ({error}); they are read from Parquet")
            return ()
    return (entry,)


def _beside(manifest: Manifest, entry: IndexEntry) -> int:
    """How many clips came since an index was written."""
    return sum(s.rows for s in manifest.segments if s.id not in entry.segments)


def _plan(rows: int, target: str, model: IndexEntry | None, asked: Asked) -> Plan:
    recall = asked.recall
    if recall is None:
        recall = model.recall.asked if model is not None and model.recall is not None else RECALL
    fresh = plan_rows(rows, recall=recall, index=asked.index, target=target)
    if asked.index is not None or model is None:
        return fresh
    planned = Kind.parse(fresh.kind).lists if fresh.kind != EXACT else 0
    if planned > _OUTGROWN * Kind.parse(model.kind).lists:
        return fresh
    return plan_rows(rows, recall=recall, index=model.kind, target=target)


def _index(
    store: Path, manifest: Manifest, wanted: Plan, entry: IndexEntry | None, asked: Asked
) -> IndexEntry | None:
    """Give the index of one target; None where search is to be exact."""
    if wanted.kind == EXACT:
        return None
    vectors = Vectors(store, manifest)
    names = tuple(s.id for s in manifest.segments)
    if entry is None or asked.rebuild or entry.kind != wanted.kind:
        queries = draw_queries(
            vectors, manifest, wanted.target, ivf_builder.ASKED, ivf_builder.SEED
        )
        if len(queries) < FEWEST:
            asked.say(f"{wanted.target}: too few clips of other modalities to calibrate; exact")
            return None
        asked.say(f"{wanted.target}: training {wanted.kind}")
        count = wanted.sample * Kind.parse(wanted.kind).lists
        _, sample = vectors.draw(wanted.target, count, ivf_builder.SEED)
        structure = ivf_builder.train(Kind.parse(wanted.kind), sample, queries.vectors)
        del sample, queries
        asked.say(f"{wanted.target}: coding {wanted.rows:,} clips")
        entry = _coded(store, manifest, vectors, wanted.target, structure, asked)
    elif set(entry.segments) - set(names) or _beside(manifest, entry) > BESIDE:
        entry = _extended(store, vectors, names, entry, asked)
    known = entry.recall
    if (
        known is not None
        and known.asked == wanted.recall
        and abs(wanted.rows - known.clips) <= GROWN * known.clips
    ):
        return entry
    entry = _calibrated(store, manifest, vectors, entry, wanted, asked)
    kind = Kind.parse(entry.kind)
    if entry.probing or asked.index is not None or kind.code != CODE:
        return entry
    if entry.file not in manifest.names[1]:
        remove(store / paths.INDEXES / entry.file)
    finer = replace(wanted, kind=str(Kind(kind.lists, FINER)))
    return _index(store, manifest, finer, None, asked)


def _coded(
    store: Path,
    manifest: Manifest,
    vectors: Vectors,
    target: str,
    structure: Structure,
    asked: Asked,
) -> IndexEntry:
    if asked.shards > 1:
        parts = sharding.divided(manifest, asked.shards)
        return sharding.write(store, target, structure, parts, asked.code)
    names = tuple(s.id for s in manifest.segments)
    blocks = (b for name in names for b in vectors.blocks(name, target))
    return ivf_builder.write(store, target, names, structure, blocks)


def _extended(
    store: Path, vectors: Vectors, names: tuple[str, ...], entry: IndexEntry, asked: Asked
) -> IndexEntry:
    """Code what is not in the lists yet, leave out what is no longer in the store."""
    asked.say(f"{entry.target}: adding clips to {entry.kind}")
    index = InvertedFile.open(store, entry)
    ids = index.list_ids()
    fresh = vectors.there()
    keep = ids < len(fresh)
    keep[keep] = fresh[ids[keep]]
    fresh[ids[keep]] = False

    def wanted(clip_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return fresh[clip_ids]

    blocks = (b for name in names for b in vectors.blocks(name, entry.target, wanted))
    made = ivf_builder.write(store, entry.target, names, index.structure, blocks, (index, keep))
    return replace(made, probing=entry.probing, recall=entry.recall)


def _calibrated(
    store: Path,
    manifest: Manifest,
    vectors: Vectors,
    entry: IndexEntry,
    wanted: Plan,
    asked: Asked,
) -> IndexEntry:
    asked.say(f"{entry.target}: measuring recall")
    # Other queries than before, as far as the store has grown.
    queries = draw_queries(
        vectors, manifest, entry.target, QUERIES, ivf_builder.SEED + manifest.rows
    )
    index = InvertedFile.open(store, entry)
    found = calibrate(vectors, manifest, entry, index, wanted.recall, queries)
    if found is None:
        asked.say(
            f"{entry.target}: {entry.kind} does not reach a recall of {wanted.recall:g}; "
            "without an index that does, search is exact"
        )
        return replace(entry, probing=(), recall=None)
    return replace(entry, probing=found[0], recall=found[1])
