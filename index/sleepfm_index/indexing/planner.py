"""Which index a target gets, and what that costs, before the work begins."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Final

import numpy as np

from sleepfm.modality import EMBEDDING_DIM, Modality
from sleepfm.resources import free_memory
from sleepfm_index.errors import QueryError
from sleepfm_index.indexing.ivf_builder import ITERATIONS, LEARNED_FROM, SAMPLE
from sleepfm_index.runtime.threads import setting
from sleepfm_index.schema import TARGETS, target_parts
from sleepfm_index.search.index_format import EXACT, PACKED, Kind
from sleepfm_index.storage.manifest import Manifest, read_manifest
from sleepfm_index.storage.segments import CLIPS, read_table

RECALL: Final = 0.99
"""The recall@10 that is asked for where nothing else is."""
EXACT_ROWS: Final = 200_000
"""Up to as many clips every vector is compared: some 50 ms a query, and no index to keep."""
CODE: Final = "TC96x4fs"
FINER: Final = "SQ8"
"""The code that is tried next, where the vectors are too alike for the first to tell apart."""
QUERIES: Final = 600
"""Queries of other modalities by which an index is calibrated."""

# Measured on two cores of an AMD EPYC with AVX-512 (docs/scale.md); other machines differ.
_FLOPS: Final = 60e9  # a thread, float32 products of matrices
_ROW_US: Final = 4.0  # to read, widen, code and write a row
_EXACT_US: Final = 0.25  # to compare a row with one query
_WORKING: Final = 300_000_000
_FEWEST: Final = 10


@dataclass(frozen=True)
class Plan:
    """What a target gets.

    Parameters
    ----------
    target : str
    rows : int
        Clips that have it.
    kind : str
        ``exact`` or the kind of index.
    recall : float
        The recall@10 asked for.
    sample : int
        Vectors that training draws for each centroid.
    seconds : float
        Estimate of the time to make the index.
    disk_bytes : int
        Size of the index.
    memory_bytes : int
        Anonymous memory while it is made.
    query_ms : float
        Estimate of the time of one query, files in the page cache.
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
    def sentence(self) -> str:
        """The plan in one line."""
        if self.kind == EXACT:
            return (
                f"{self.target}: {self.rows:,} clips, exact search, {self.query_ms:.1f} ms a query"
            )
        return (
            f"{self.target}: {self.rows:,} clips, {self.kind} for recall@10 {self.recall:g}, "
            f"about {self.seconds / 60:.1f} min, {self.disk_bytes / 1e9:.2f} GB of disk, "
            f"{self.memory_bytes / 1e9:.2f} GB of memory, {self.query_ms:.1f} ms a query"
        )


def plan(
    store: str | Path | int,
    *,
    memory: int | None = None,
    recall: float = RECALL,
    index: str | None = None,
) -> list[Plan]:
    """Plan for every target of a store; nothing is changed.

    Parameters
    ----------
    store : path or int
        The store's folder, or a number of clips that have all modalities.
    memory, recall, index
        As in :func:`plan_rows`.
    """
    if isinstance(store, int):
        rows = dict.fromkeys(TARGETS, store)
    else:
        rows = target_rows(Path(store), read_manifest(Path(store)))
    return [
        plan_rows(rows[t], memory=memory, recall=recall, index=index, target=t) for t in TARGETS
    ]


def plan_rows(
    rows: int,
    *,
    dim: int = EMBEDDING_DIM,
    memory: int | None = None,
    recall: float = RECALL,
    index: str | None = None,
    target: str = "",
) -> Plan:
    """Choose between exact search and an inverted file.

    Parameters
    ----------
    rows : int
        Clips that have the target.
    dim : int
        Numbers in a vector.
    memory : int, optional
        Bytes that making the index may take; by default what the machine has free.
    recall : float
        The recall@10 to be reached; 1 is exact search.
    index : str, optional
        A kind of index to take whatever the rest says, or ``exact``.

    Raises
    ------
    QueryError
        If the recall is not one, or there is no such kind.
    """
    if not 0 < recall <= 1:
        raise QueryError(f"a recall lies above 0 and is at most 1, not {recall:g}")
    memory = free_memory() if memory is None else memory
    exact = rows <= EXACT_ROWS or recall == 1
    if index == EXACT or (index is None and exact) or not rows:
        return Plan(target, rows, EXACT, recall, 0, 0.0, 0, 0, rows * _EXACT_US / 1000)
    kind = Kind.parse(index) if index is not None else Kind(_lists(rows), CODE)
    if kind.code in PACKED.values():
        raise QueryError(f"{kind.code} is how shards lie before they are merged; take {CODE}")
    if kind.lists > rows:
        raise QueryError(f"{kind} has more lists than {target or 'the store'} has clips ({rows:,})")
    sample = SAMPLE
    while index is None and _memory(rows, kind, sample, dim) > memory:
        if sample > _FEWEST:
            sample //= 2
        elif kind.lists > 1:
            kind = Kind(kind.lists // 2, CODE)
        else:
            break
    threads = setting() or os.cpu_count() or 1
    trained = min(rows, sample * kind.lists)
    products = trained * kind.lists * ITERATIONS + rows * kind.lists + 1.5 * rows * QUERIES
    return Plan(
        target,
        rows,
        str(kind),
        recall,
        sample,
        seconds=products * 2 * dim / (_FLOPS * threads) + rows * _ROW_US / 1e6,
        disk_bytes=kind.file_bytes(rows),
        memory_bytes=_memory(rows, kind, sample, dim),
        # all centroids, a twentieth of the codes, and the vectors of the candidates
        query_ms=(0.07 * kind.lists + 0.00013 * rows) / 1000 + 0.6,
    )


def target_rows(store: Path, manifest: Manifest) -> dict[str, int]:
    """How many clips have each target; deleted ones count until they are compacted away."""
    columns = [f"has_{m}" for m in Modality]
    rows = dict.fromkeys(TARGETS, 0)
    for segment in manifest.segments:
        table = read_table(store, segment, CLIPS, columns)
        there = {m: table[f"has_{m}"].to_numpy() for m in Modality}
        for target in TARGETS:
            has = np.logical_or.reduce([there[m] for m in target_parts(target)])
            rows[target] += int(has.sum())
    return rows


def _lists(rows: int) -> int:
    # More lists are slower to make, and need as large a share of the clips to be read.
    return 1 << round(log2(1.25 * rows**0.5))


def _memory(rows: int, kind: Kind, sample: int, dim: int) -> int:
    drawn = min(rows, sample * kind.lists)
    training = drawn * dim * 6 + kind.lists * dim * 8  # float16 and float32 of the sample
    training += min(drawn, LEARNED_FROM) * dim * 8  # some of it, and what its centroids leave
    return max(training, 36 * rows + kind.lists * dim * 8) + _WORKING
