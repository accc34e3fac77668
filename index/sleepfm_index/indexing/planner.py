"""Planning of indexes and their cost."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Final

import numpy as np

from sleepfm.contract import ROBUST
from sleepfm.resources import free_memory
from sleepfm_index.errors import QueryError
from sleepfm_index.runtime.threads import setting
from sleepfm_index.schema import target_parts, targets
from sleepfm_index.search import kinds
from sleepfm_index.search.flat import Flat
from sleepfm_index.search.ivf_kind import CODE, InvertedFileKind
from sleepfm_index.search.kinds import EXACT
from sleepfm_index.search.protocol import IndexKind
from sleepfm_index.storage.manifest import Manifest, read_manifest
from sleepfm_index.storage.segments import CLIPS, read_table

RECALL: Final = 0.99
"""Default recall@10."""
EXACT_ROWS: Final = 10_000
"""Maximum number of clips, ten nights, for exhaustive search, which takes about a millisecond. An
inverted file is faster from 2,000 to 3,000 clips, but training it and measuring its recall would be
a large part of the build (docs/scale.md, benchmarks/kinds.py)."""
_QUERIES: Final = ((100_000, 600), (0, 200))
"""Number of calibration queries for stores of more than a number of clips: with few clips the
measurement would take longer than the build."""

_EXACT_US: Final = 0.25
"""Microseconds per row of exact search, on two cores of an AMD EPYC with AVX-512."""
_MIN_TRAINING: Final = 10
"""Minimum number of training vectors per list."""


@dataclass(frozen=True)
class Plan:
    """Plan for one target.

    Parameters
    ----------
    target : str
        Search target: a modality, or ``others_of_<modality>``.
    rows : int
        Number of clips with the target.
    kind : str
        Kind of index, or ``exact`` for none.
    recall : float
        The recall@10 to reach, 0 to 1.
    sample : int
        Number of training vectors.
    seconds : float
        Estimated build time in seconds.
    disk_bytes : int
        Estimated size of the index.
    memory_bytes : int
        Estimated anonymous memory during the build.
    query_ms : float
        Estimated time of one query in milliseconds, with the files in the page cache.
    """

    target: str
    rows: int
    kind: str
    recall: float
    sample: int
    seconds: float
    disk_bytes: int
    memory_bytes: int
    query_ms: float

    @property
    def exact(self) -> bool:
        """Whether search is exact, with or without an index."""
        return self.kind == EXACT or kinds.is_exact(self.kind)

    @property
    def sentence(self) -> str:
        """The plan in one line."""
        if self.exact:
            by = "exact search" if self.kind == EXACT else f"{self.kind}, exact search"
            disk = f", {self.disk_bytes / 1e9:.2f} GB of disk" if self.disk_bytes > 5e6 else ""
            cost = f"{by}{disk}, {self.query_ms:.1f} ms per query"
            return f"{self.target}: {self.rows:,} clips, {cost}"
        return (
            f"{self.target}: {self.rows:,} clips, {self.kind} for recall@10 {self.recall:g}, "
            f"about {self.seconds / 60:.1f} min, {self.disk_bytes / 1e9:.2f} GB of disk, "
            f"{self.memory_bytes / 1e9:.2f} GB of memory, {self.query_ms:.1f} ms per query"
        )


def plan(
    store: str | Path | int,
    *,
    memory: int | None = None,
    recall: float = RECALL,
    index: str | None = None,
) -> list[Plan]:
    """Plan the indexes of a store without changing it.

    Parameters
    ----------
    store : path or int
        The store's folder, or a number of clips with all three modalities of SleepFM.
    memory, recall, index
        As in :func:`plan_rows`.
    """
    if isinstance(store, int):
        rows = dict.fromkeys(targets(ROBUST.modalities), store)
    else:
        rows = target_rows(Path(store), read_manifest(Path(store)))
    return [
        plan_rows(count, memory=memory, recall=recall, index=index, target=target)
        for target, count in rows.items()
    ]


def plan_rows(
    rows: int,
    *,
    memory: int | None = None,
    recall: float = RECALL,
    index: str | None = None,
    target: str = "",
) -> Plan:
    """Choose the kind of index.

    Parameters
    ----------
    rows : int
        Number of clips with the target.
    memory : int, optional
        Memory limit of the build in bytes; by default the free memory of the machine.
    recall : float
        The recall@10 to reach, 0 to 1; 1 means exact search.
    index : str, optional
        Kind of index, which overrides the choice, or ``exact`` for none.
    target : str
        Name of the target, for error messages.

    Raises
    ------
    QueryError
        If the recall is out of range, or there is no such kind.
    """
    if not 0 < recall <= 1:
        raise QueryError(f"recall must be above 0 and at most 1, got {recall:g}")
    memory = free_memory() if memory is None else memory
    threads = setting() or os.cpu_count() or 1
    if index == EXACT or not rows:
        return Plan(target, rows, EXACT, recall, 0, 0.0, 0, 0, rows * _EXACT_US / 1000)
    kind: IndexKind
    if index is None and (is_small(rows) or recall == 1):
        kind, sample = Flat(), 0
    elif index is None:
        kind, sample = _fitting(rows, memory, threads)
    else:
        kind = kinds.parse(index)
        kind.check_rows(rows, target)
        sample = kind.training_rows
    cost = kind.estimate(rows, sample, threads, target)
    return Plan(
        target,
        rows,
        str(kind),
        recall,
        sample,
        cost.seconds,
        cost.disk_bytes,
        cost.memory_bytes,
        cost.query_ms,
    )


def calibration_queries(rows: int) -> int:
    """Return the number of calibration queries.

    Parameters
    ----------
    rows : int
        Number of clips with the target.
    """
    return next(queries for clips, queries in _QUERIES if rows > clips or clips == 0)


def is_small(rows: int) -> bool:
    """Whether exhaustive search is fast enough, so that no approximate index is needed.

    Parameters
    ----------
    rows : int
        Number of clips with the target.
    """
    return rows <= EXACT_ROWS


def target_rows(store: Path, manifest: Manifest) -> dict[str, int]:
    """Count clips per target, including deleted ones until compaction.

    Parameters
    ----------
    store : Path
        The store's folder.
    manifest : Manifest
        The snapshot of the store.
    """
    modalities = manifest.modalities
    columns = [f"has_{m}" for m in modalities]
    rows = dict.fromkeys(manifest.targets, 0)
    for segment in manifest.segments:
        table = read_table(store, segment, CLIPS, columns)
        present = {m: table[f"has_{m}"].to_numpy() for m in modalities}
        for target in rows:
            parts = [present[m] for m in target_parts(target, modalities)]
            rows[target] += int(np.logical_or.reduce(parts).sum())
    return rows


def _fitting(rows: int, memory: int, threads: int) -> tuple[IndexKind, int]:
    """Return an inverted file that fits in memory, and its number of training vectors."""
    kind = InvertedFileKind(_lists(rows), CODE)
    sample = kind.training_rows
    while kind.estimate(rows, sample, threads).memory_bytes > memory:
        if sample > _MIN_TRAINING * kind.lists:
            sample //= 2
        elif kind.lists > 1:
            kind = InvertedFileKind(kind.lists // 2, CODE)
            sample = _MIN_TRAINING * kind.lists
        else:
            break
    return kind, sample


def _lists(rows: int) -> int:
    # More lists take longer to build and do not reduce the share of clips that must be read.
    return 1 << round(log2(1.25 * rows**0.5))
