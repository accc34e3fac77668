"""Fastest kind of index by size: the table behind the thresholds of the planner.

    python benchmarks/kinds.py --rows 1000 --rows 10000 --rows 100000
    python benchmarks/kinds.py --rows 1000000 --kind Flat --kind IVF

Each kind of index is built from drawn `bas` vectors and searched with `ecg` vectors. The cheapest
setting with a recall@10 of 0.99 is timed; candidates are compared in float64. With one thread the
figure is processor time, which other work on the machine disturbs little; with more threads
(`--threads 2`) it is wall time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from embeddings import Embeddings
from machine import machine

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "index")]
QUERIES = 200
TRAINED_FOR = 1 << 14
BLOCK = 8192
RECALL = 0.99
SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
KINDS = ("Flat", "HNSW32", "IVF")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, action="append", help=f"default: {SIZES}")
    parser.add_argument("--kind", action="append", help=f"default: {KINDS}")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    from sleepfm_index import set_threads

    set_threads(args.threads)
    print(f"{machine()}; {args.threads} threads; load {os.getloadavg()[0]:.1f}")
    print("| clips | kind | searched | ms | recall@10 | built, us per clip |")
    print("|--:|---|---|--:|--:|--:|")
    for rows in args.rows or SIZES:
        trial = Trial(rows, time.process_time if args.threads == 1 else time.perf_counter)
        for name in args.kind or KINDS:
            print(trial.row(name), flush=True)


class Trial:
    """Drawn vectors of some size, with queries and their exact answers."""

    def __init__(self, rows: int, clock: Callable[[], float]) -> None:
        from sleepfm_index.search.exact import candidates, rank

        drawn = Embeddings()
        self.clock, self.rows = clock, rows
        self.stored = np.concatenate(list(drawn.blocks(rows, "bas")))
        rng = np.random.default_rng(0)
        chosen = np.sort(rng.choice(rows, min(QUERIES, rows), replace=False))
        self.queries = drawn.clips(chosen, "ecg").astype(np.float32)
        like = np.sort(rng.choice(rows, min(TRAINED_FOR, rows), replace=False))
        self.trained_for = drawn.clips(like, "ecg").astype(np.float32)
        near = candidates(self.blocks(), self.queries, 10, self.read)
        both = zip(self.queries, near, strict=True)
        self.truth = [rank(self.read, query, ids, 10)[0] for query, ids in both]

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield clip ids and vectors, block by block."""
        for at in range(0, self.rows, BLOCK):
            some = self.read(np.arange(at, min(at + BLOCK, self.rows)))
            yield np.arange(at, at + len(some)), some

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Return the vectors of clips."""
        from sleepfm_index.storage.vector_format import widen

        return widen(self.stored[ids])

    def row(self, name: str) -> str:
        """Build an index, find its cheapest setting, and time it."""
        from sleepfm_index.indexing.planner import _lists
        from sleepfm_index.search import kinds
        from sleepfm_index.search.flat_index import FlatIndex
        from sleepfm_index.search.ivf_kind import CODE
        from sleepfm_index.storage.paths import INDEXES

        kind = kinds.parse(f"IVF{_lists(self.rows)},{CODE}" if name == "IVF" else name)
        with tempfile.TemporaryDirectory(dir=".") as scratch:
            store = Path(scratch)
            (store / INDEXES).mkdir()
            start = self.clock()
            rng = np.random.default_rng(1)
            drawn = rng.choice(self.rows, min(kind.training_rows, self.rows), replace=False)
            trained = kind.train(self.read(np.sort(drawn)), self.trained_for)
            entry = kind.write(store, "bas", (), trained, self.blocks())
            built = 1e6 * (self.clock() - start) / self.rows
            if kind.exact:
                ids = np.array([[0, self.rows - 1]])
                index: Any = FlatIndex("bas", ids, self.stored, 0.0, None)
                searched, find = "all", lambda q: index.candidates(q, 10)
            else:
                index = kind.open(store, entry)
                setting, depth = self.cheapest(index)
                searched = f"{kind.describe(setting)}, {depth} compared"
                find = lambda q: index.search(q[None], depth, setting)[0]  # noqa: E731
            seconds, recall = self.timed(find)
        return (
            f"| {self.rows:,} | {kind} | {searched} | {1000 * seconds:.3f} "
            f"| {recall:.4f} | {built:.0f} |"
        )

    def cheapest(self, index: Any) -> tuple[Any, int]:
        """Return the cheapest setting that reaches the recall, as calibration does."""
        from sleepfm_index.indexing.calibration import RERANK_COST

        best, least = None, np.inf
        for trial in index.trials():
            if trial.cost >= least:
                break
            deep = trial.depths[-1]
            found = [index.search(q[None], deep, trial.parameters)[0] for q in self.queries]
            for depth in trial.depths:
                cost = trial.cost + RERANK_COST * depth
                if cost < least and self.recall([ids[:depth] for ids in found]) >= RECALL:
                    best, least = (trial.parameters, depth), cost
        return best or (trial.parameters, deep)

    def recall(self, found: list[np.ndarray]) -> float:
        """Return the share of the true ten nearest neighbours that are found."""
        both = zip(self.truth, found, strict=True)
        return float(np.mean([np.isin(truth, ids).mean() for truth, ids in both]))

    def timed(self, find: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
        """Return the median time per query over five rounds, and the recall."""
        from sleepfm_index.search.exact import rank

        seconds = []
        for _ in range(5):
            start = self.clock()
            found = [rank(self.read, q, near[near >= 0], 10)[0] for q in self.queries
                     for near in (find(q),)]  # fmt: skip
            seconds.append((self.clock() - start) / len(self.queries))
        return float(np.median(seconds)), self.recall(found)


if __name__ == "__main__":
    main()
