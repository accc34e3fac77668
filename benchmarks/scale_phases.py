"""The phases of benchmarks/scale.py. Each returns its figures, and runs in a process of its own."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from memory import anonymous_mb, drop, read

import sleepfm_index

FILTERS = (0.5, 0.05, 0.001)
"""Shares of the clips that the filters keep."""


def plan(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Plan the indexes of three modalities and of their targets `others`."""
    plans = sleepfm_index.plan(args.rows, recall=args.recall)
    return {
        "kind": plans[0].kind,
        "minutes": sum(p.seconds for p in plans) / 60,
        "disk_gb": sum(p.disk_bytes for p in plans) / 1e9,
        "memory_gb": max(p.memory_bytes for p in plans) / 1e9,
        "vectors_gb": 3 * args.rows * 1024 / 1e9,
        "one_minutes": plans[0].seconds / 60,
        "one_memory_gb": plans[0].memory_bytes / 1e9,
    }


def index(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Index bas, and time each step; a notice of `reindex` begins a step."""
    steps: list[tuple[str, float]] = []

    def on_notice(line: str) -> None:
        steps.append((line, time.perf_counter()))
        print(line, file=sys.stderr, flush=True)

    manifest = sleepfm_index.reindex(
        folder / "store", recall=args.recall, targets=("bas",), notice=on_notice
    )
    end = time.perf_counter()
    times = [at for _, at in steps] + [end]
    found = {
        line.partition(": ")[2].split(" ")[0]: times[at + 1] - times[at]
        for at, (line, _) in enumerate(steps)
        if at
    }
    entry = next((i for i in manifest.indexes if i.target == "bas"), None)
    if entry is None or entry.recall is None:
        one = [1.0, 1.0, 1.0]
        known = {"kind": "exact", "index_bytes": 0, "recall": [one, one], "probing": []}
    else:
        known = {
            "kind": entry.kind,
            "index_bytes": entry.entry.bytes,
            "recall": [entry.recall.at_1, entry.recall.at_10],
            "probing": [setting.to_json() for setting in entry.settings],
        }
    return {**known, "steps": found}


def open(folder: Path, args: argparse.Namespace) -> dict[str, Any]:  # noqa: A001
    """Open the store in a fresh process, map its index, and run a query."""
    before = anonymous_mb(os.getpid())
    start = time.perf_counter()
    store = sleepfm_index.open(folder / "store")
    opened = time.perf_counter() - start
    query = store.vectors.of(np.array([17]), "ecg")[0]
    store.find("bas", query, 10)
    first = time.perf_counter() - start
    added_mb = anonymous_mb(os.getpid()) - before
    start = time.perf_counter()
    store.query("ecg", to="bas", clip=17)
    query_s = time.perf_counter() - start
    return {
        "open_ms": 1000 * opened,
        "first_search_ms": 1000 * first,
        "anonymous_mb": added_mb,
        "first_query_ms": 1000 * query_s,
        "anonymous_mb_with_sql": anonymous_mb(os.getpid()) - before,
        "anonymous_mb_in_all": anonymous_mb(os.getpid()),
    }


def query_clips(store: Any, count: int, seed: int) -> np.ndarray:
    """Draw query clips that have ecg."""
    ids, _ = store.vectors.draw("ecg", count, seed)
    return np.random.default_rng(seed).permutation(ids)


def spread_ms(seconds: list[float]) -> dict[str, float]:
    """Return percentiles and mean in milliseconds."""
    ms = 1000 * np.array(seconds)
    return {f"p{p}": float(np.percentile(ms, p)) for p in (50, 95, 99)} | {"mean": float(ms.mean())}


def timed(work: Callable[[Any], Any], arguments: Any) -> list[float]:
    """Call a function with each argument, and return the seconds of each call."""
    seconds = []
    for argument in arguments:
        start = time.perf_counter()
        work(argument)
        seconds.append(time.perf_counter() - start)
    return seconds


def warm(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Time searches and whole queries, one by one, with a warm page cache."""
    for path in (folder / "store" / "indexes").iterdir():
        read(path)
    with sleepfm_index.open(folder / "store") as store:
        clips = query_clips(store, 2 * args.queries, 1)
        vectors = store.vectors.of(clips, "ecg")[0]
        search = lambda at: store.find("bas", vectors[at : at + 1], 10)  # noqa: E731
        whole = lambda at: store.query("ecg", to="bas", clip=int(clips[at]))  # noqa: E731
        for work in (search, whole):
            timed(work, range(args.queries))  # fills the page cache
        return {
            "search_ms": spread_ms(timed(search, range(args.queries))),
            "query_ms": spread_ms(timed(whole, range(args.queries))),
            "anonymous_mb": anonymous_mb(os.getpid()),
        }


def cold(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Time searches and whole queries, each of another clip, after dropping all files.

    Pages that this process has mapped stay in memory: of the lists, those of earlier queries.
    """
    with sleepfm_index.open(folder / "store") as store:
        clips = query_clips(store, 2 * args.cold, 2)
        searched, asked = np.array_split(clips, 2)
        vectors = store.vectors.of(searched, "ecg")[0]
        store.query("ecg", to="bas", clip=int(searched[0]))
        work = {
            "search_ms": lambda at: store.find("bas", vectors[at : at + 1], 10),
            "query_ms": lambda at: store.query("ecg", to="bas", clip=int(asked[at])),
        }
        seconds: dict[str, list[float]] = {name: [] for name in work}
        for at in range(len(asked)):
            for name, step in work.items():
                drop(folder / "store")
                seconds[name] += timed(step, [at])
        return {name: spread_ms(values) for name, values in seconds.items()}


def recall(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure recall@10 against exact search, with queries not used in calibration."""
    from sleepfm_index.indexing.calibration import clustered

    with sleepfm_index.open(folder / "store") as store:
        clips = query_clips(store, args.queries // 2, 3)
        vectors = store.vectors.of(clips, "ecg")[0]
        exact = store.find("bas", vectors, 10, exact=True)
        found = store.find("bas", vectors, 10)
        pairs = list(zip(exact.hits, found.hits, strict=True))
        shares = np.array([np.isin(a, b).mean() for (a, _), (b, _) in pairs])
        return {"recall_at_10": clustered(shares, 10), "queries": len(clips), "note": found.method}


def batch(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Time queries with a whole night at once and one by one, and with many clips at once."""
    with sleepfm_index.open(folder / "store") as store:
        night = store.metadata.clip_ids("recording_id = 'night-000003'")
        for _ in range(2):
            one_by_one = timed(lambda c: store.query("ecg", to="bas", clip=int(c)), night[:100])
            start = time.perf_counter()
            rows = store.query_many("ecg", to="bas", recording="night-000003").read_all()
            together = time.perf_counter() - start
        clips = query_clips(store, 10 * args.queries, 4)
        start = time.perf_counter()
        store.query_many("ecg", to="bas", clips=clips, exclude="none").read_all()
        many = time.perf_counter() - start
        return {
            "one_by_one_ms": 1000 * float(np.mean(one_by_one)),
            "night_ms_a_query": 1000 * together / len(night),
            "rows": rows.num_rows,
            "many_ms_a_query": 1000 * many / len(clips),
        }


def filters(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure hits, recall and time under filters that keep ever fewer clips."""
    found: dict[str, Any] = {}
    with sleepfm_index.open(folder / "store") as store:
        clips = query_clips(store, 60, 5)
        vectors = store.vectors.of(clips, "ecg")[0]
        for share in FILTERS:
            where = f"nsrr_age < {100 * share:g}"
            start = time.perf_counter()
            allowed = store.metadata.clip_ids(where)
            sql = time.perf_counter() - start
            work = lambda at: store.find("bas", vectors[at : at + 1], 10, allowed)  # noqa: B023, E731
            hits = [work(at).hits[0][0] for at in range(len(clips))]
            seconds = timed(work, range(len(clips)))
            exact = store.find("bas", vectors, 10, allowed, exact=True).hits
            found[f"{share:g}"] = {
                "how": work(0).method,
                "fewest": min(map(len, hits)),
                "recall_at_10": float(
                    np.mean([np.isin(a, b).mean() for (a, _), b in zip(exact, hits, strict=True)])
                ),
                "allowed": len(allowed),
                "sql_ms": 1000 * sql,
                **spread_ms(seconds),
            }
    return found
