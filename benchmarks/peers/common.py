"""Common measurements of all peers: same vectors, same queries, one line of JSON per result."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

K = 10
ENOUGH = 0.99
BUDGET_S = 8.0
"""Single queries of one setting stop after so long, and batches are not repeated."""
RUNS: Final = 7
"""Runs of a batch."""
FILTERS = ("0.5", "0.05", "0.001")

One = Callable[[np.ndarray], Sequence[int]]
Many = Callable[[np.ndarray], Sequence[Sequence[int]]]


class Data:
    """Vectors, queries, and their exact answers, in total and under each filter.

    ``allowed(share)`` are the rows that a filter keeps; ``number`` of a row is what the filters
    are about: those below the share are kept.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.vectors = np.load(self.folder / "vectors.npy", mmap_mode="r")
        self.queries = np.load(self.folder / "queries.npy")
        self.number = np.load(self.folder / "number.npy")

    def allowed(self, share: str) -> np.ndarray:
        return np.flatnonzero(self.number < float(share))

    def truth(self, share: str = "1") -> np.ndarray:
        return np.load(self.folder / f"truth-{share}.npy")

    def blocks(self, rows: int = 50_000) -> Any:
        """Yield float32 rows in blocks: (first row, vectors)."""
        for start in range(0, len(self.vectors), rows):
            yield start, self.vectors[start : start + rows].astype(np.float32)


def memory() -> tuple[float, float]:
    """Return the anonymous and file-backed memory of this process, in MB."""
    text = Path("/proc/self/status").read_text()
    found = dict(line.split(":", 1) for line in text.splitlines() if line.startswith("Rss"))
    anonymous, mapped = (int(found[name].split()[0]) / 1000 for name in ("RssAnon", "RssFile"))
    return anonymous, mapped


def recall(found: Sequence[Sequence[int]], truth: np.ndarray) -> float:
    """Return the share of exact answers found, also where there are fewer than k."""
    shares = []
    for ids, true in zip(found, truth, strict=False):
        wanted = {int(i) for i in true if i >= 0}
        shares.append(len(wanted & {int(i) for i in ids}) / max(1, len(wanted)))
    return float(np.mean(shares))


def say(**figures: Any) -> None:
    """Print one result as a line of JSON."""
    print(json.dumps(figures), flush=True)


def single(data: Data, one: One, share: str = "1") -> dict[str, float]:
    """Run one query after another."""
    for query in data.queries[:5]:
        one(query)
    found, start = [], time.perf_counter()
    for query in data.queries:
        found.append(list(one(query)))
        if time.perf_counter() - start > BUDGET_S and len(found) >= 20:
            break
    seconds = time.perf_counter() - start
    return {
        "recall": recall(found, data.truth(share)),
        "qps": len(found) / seconds,
        "fewest": min(map(len, found)),
    }


def batch(data: Data, many: Many) -> dict[str, float]:
    """Run all queries at once; the median of several runs."""
    many(data.queries[:8])
    taken: list[float] = []
    while len(taken) < RUNS and sum(taken) < BUDGET_S:
        start = time.perf_counter()
        found = many(data.queries)
        taken.append(time.perf_counter() - start)
    qps = len(data.queries) / float(np.median(taken))
    return {"recall": recall(found, data.truth()), "qps": qps}


def sweep(
    name: str,
    data: Data,
    threads: int,
    settings: Sequence[Any],
    use: Callable[[Any], None],
    one: One,
    many: Many | None,
    filtered: Callable[[str], One] | None,
    **about: Any,
) -> None:
    """Try settings from the fastest on; use the first with sufficient recall."""
    if "build" in sys.argv:
        return
    known = {"engine": name, "threads": threads, **about}
    for setting in settings:
        use(setting)
        figures = single(data, one)
        anonymous, mapped = memory()
        say(**known, mode="single", setting=str(setting), anonymous_mb=anonymous,
            mapped_mb=mapped, **figures)  # fmt: skip
        if figures["recall"] >= ENOUGH:
            break
    if many is not None:
        say(**known, mode="batch", setting=str(setting), **batch(data, many))
    if filtered is not None:
        for share in FILTERS:
            try:
                figures = single(data, filtered(share), share)
            except Exception as error:
                say(**known, mode=f"filter {share}", error=str(error)[:200])
                continue
            say(**known, mode=f"filter {share}", setting=str(setting), **figures)


def arguments() -> tuple[Data, int]:
    """Parse the folder of the vectors, and the number of threads."""
    return Data(sys.argv[1]), int(sys.argv[2])
