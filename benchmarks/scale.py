"""End-to-end search in a store of millions of clips: writing, indexing, querying.

    python benchmarks/scale.py --folder F                      12 million clips; 20 GB of disk
    python benchmarks/scale.py --folder F --rows 1000000       the same at a million

Vectors are drawn (benchmarks/embeddings.py). All clips have `bas`; a sixth of the segments have
`ecg` besides, which is what asks. Every phase runs in a process of its own, whose anonymous memory
is watched, and leaves its figures in F/ROWS/*.json; a phase that is there is not run again, so a
stopped trial goes on. F/ROWS/table.md says it all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from embeddings import NIGHT, Embeddings
from machine import machine

ROOT = Path(__file__).resolve().parents[1]
SEGMENT = 1_000_000
ASKING = 6
"""One segment in so many has ecg."""
WARM, COLD, TRUTH = 400, 60, 200
FILTERS = (0.5, 0.05, 0.001)
PHASES = ("write", "plan", "index", "open", "warm", "cold", "recall", "batch", "filters")
STAGES = ("W", "N1", "N2", "N3", "R")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=12_000_000)
    parser.add_argument("--recall", type=float, default=0.995)
    parser.add_argument("--threads", type=int, default=0, help="default: all cores")
    parser.add_argument("--keep", action="store_true", help="leave the store when done")
    parser.add_argument("--again", choices=PHASES, action="append", default=[])
    parser.add_argument("--phase", choices=PHASES)
    args = parser.parse_args()
    folder = args.folder / str(args.rows)
    folder.mkdir(parents=True, exist_ok=True)
    if args.phase:
        figures = globals()[args.phase](folder, args)
        print(json.dumps(figures))
        return
    for phase in PHASES:
        done = folder / f"{phase}.json"
        if phase in args.again or not done.exists():
            figures = watched(phase, args)
            done.write_text(json.dumps(figures, indent=1))
            print(f"{phase:8s} {figures}", flush=True)
    (folder / "table.md").write_text(table(folder, args))
    print((folder / "table.md").read_text())
    if not args.keep:
        shutil.rmtree(folder / "store", ignore_errors=True)


def watched(phase: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run a phase in a separate process; monitor anonymous memory of its process tree."""
    words = [sys.executable, __file__, "--phase", phase, "--folder", str(args.folder)]
    words += ["--rows", str(args.rows), "--recall", str(args.recall)]
    paths = [str(ROOT), str(ROOT / "index"), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")]
    known = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if args.threads:
        names = ("SLEEPFM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        known |= dict.fromkeys(names, str(args.threads))
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=known)
    peak = [0.0]
    watcher = threading.Thread(target=watch, args=(process, peak))
    watcher.start()
    out, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{phase} failed; run it again to go on")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return {**found, "seconds": time.perf_counter() - start, "peak_anonymous_mb": peak[0]}


def watch(process: subprocess.Popen[str], peak: list[float]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], anonymous_mb(process.pid))
        time.sleep(0.05)


def anonymous_mb(pid: int) -> float:
    """Return the anonymous memory of a process, in MB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(x.split()[1]) / 1000 for x in lines if x.startswith("RssAnon"))


# The phases


class Drawn(Mapping[Any, np.ndarray]):
    """Vectors of a segment, drawn when they are written."""

    def __init__(self, first: int, rows: int, names: tuple[str, ...]) -> None:
        self._first, self._rows, self._names = first, rows, names

    def __getitem__(self, modality: Any) -> np.ndarray:
        nights = range(self._first // NIGHT, -(-(self._first + self._rows) // NIGHT))
        parts = [list(nights)[at : at + 32] for at in range(0, len(nights), 32)]
        out = np.empty((len(nights) * NIGHT, 512), np.float16)
        with ProcessPoolExecutor() as pool:
            draw = partial(_nights, str(modality))
            for at, block in enumerate(pool.map(draw, parts)):
                out[at * 32 * NIGHT : at * 32 * NIGHT + len(block)] = block
        start = self._first - nights[0] * NIGHT
        return out[start : start + self._rows]

    def __iter__(self) -> Iterator[Any]:

        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _nights(modality: str, numbers: list[int]) -> np.ndarray:
    return np.concatenate([Embeddings().night(n, (modality,))[modality] for n in numbers])


def write(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Write the store through its own writer, one segment at a time."""
    import pyarrow as pa

    from sleepfm.contract import ROBUST
    from sleepfm_index.schema import (
        EVENT_COLUMNS,
        RECORDING_COLUMNS,
        SUBJECT_COLUMNS,
        clip_schema,
    )
    from sleepfm_index.storage.manifest import WeightsIdentity
    from sleepfm_index.storage.segments import SegmentData
    from sleepfm_index.storage.writer import Writer

    identity = WeightsIdentity("drawn", "0" * 64, False, "drawn at random for a benchmark")
    with Writer(folder / "store", identity, ROBUST) as writer:
        for number, first in enumerate(range(0, args.rows, SEGMENT)):
            rows = min(SEGMENT, args.rows - first)
            key = hashlib.sha256(f"{args.rows} {number}".encode()).hexdigest()
            if key in writer.manifest.sources:
                continue
            at = np.arange(first, first + rows)
            nights, place = at // NIGHT, at % NIGHT
            names = pa.array([f"night-{n:06d}" for n in range(nights[0], nights[-1] + 1)])
            named = names.take(pa.array(nights - nights[0]))
            rng = np.random.default_rng(number)
            has = {"bas": True, "ecg": number % ASKING == 0, "resp": False}
            values: dict[str, Any] = {
                "recording_id": named,
                "subject_id": named,
                "site": pa.array(["lab"]).take(pa.array(np.zeros(rows, int))),
                "start_s": 30.0 * place,
                "clock": np.mod(82800 + 30.0 * place, 86400),
                "stage": pa.array(STAGES).take(pa.array(rng.integers(0, 5, rows))),
                "raw_stage": pa.array([""]).take(pa.array(np.zeros(rows, int))),
            }
            values |= {f"has_{m}": np.full(rows, has[m]) for m in ROBUST.modalities}
            values |= {f"slots_{m}": np.full(rows, has[m], np.uint16) for m in ROBUST.modalities}
            values |= {f.name: pa.nulls(rows, f.type) for f in SUBJECT_COLUMNS}
            values["nsrr_age"] = (nights * 7919 % 1000 / 10).astype(np.float32)
            fields = [
                f
                for f in (*clip_schema(ROBUST.modalities), *SUBJECT_COLUMNS)
                if f.name != "clip_id"
            ]
            records = {"source": key, "recording_id": f"segment-{number}", "clips": rows}
            writer.append(
                SegmentData(
                    key=key,
                    clips=pa.table(values, schema=pa.schema(fields)),
                    events=EVENT_COLUMNS.empty_table(),
                    recordings=pa.Table.from_pylist([records], schema=RECORDING_COLUMNS),
                    vectors=Drawn(first, rows, tuple(m for m, there in has.items() if there)),
                )
            )
            print(f"{first + rows:,} clips written", file=sys.stderr, flush=True)
    return {"bytes": sum(p.stat().st_size for p in (folder / "store").rglob("*") if p.is_file())}


def plan(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Plan for three modalities and their means of others."""
    import sleepfm_index

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
    """Index bas; each notice starts a step. An existing index is only measured."""
    import sleepfm_index

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
    import sleepfm_index

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
    asked_ms = time.perf_counter() - start
    return {
        "open_ms": 1000 * opened,
        "first_search_ms": 1000 * first,
        "anonymous_mb": added_mb,
        "first_query_ms": 1000 * asked_ms,
        "anonymous_mb_with_sql": anonymous_mb(os.getpid()) - before,
        "anonymous_mb_in_all": anonymous_mb(os.getpid()),
    }


def asking(store: Any, count: int, seed: int) -> np.ndarray:
    """Draw query clips that have ecg."""
    ids, _ = store.vectors.draw("ecg", count, seed)
    return np.random.default_rng(seed).permutation(ids)


def spread_ms(seconds: list[float]) -> dict[str, float]:
    ms = 1000 * np.array(seconds)
    return {f"p{p}": float(np.percentile(ms, p)) for p in (50, 95, 99)} | {"mean": float(ms.mean())}


def timed(work: Callable[[Any], Any], each: Any) -> list[float]:
    seconds = []
    for one in each:
        start = time.perf_counter()
        work(one)
        seconds.append(time.perf_counter() - start)
    return seconds


def warm(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Time search and whole queries, one after another, with a warm page cache."""
    import sleepfm_index

    for path in (folder / "store" / "indexes").iterdir():
        read(path)
    with sleepfm_index.open(folder / "store") as store:
        clips = asking(store, 2 * WARM, 1)
        vectors = store.vectors.of(clips, "ecg")[0]
        search = lambda at: store.find("bas", vectors[at : at + 1], 10)  # noqa: E731
        whole = lambda at: store.query("ecg", to="bas", clip=int(clips[at]))  # noqa: E731
        for work in (search, whole):
            timed(work, range(WARM))  # the same again is in the cache
        return {
            "search_ms": spread_ms(timed(search, range(WARM))),
            "query_ms": spread_ms(timed(whole, range(WARM))),
            "anonymous_mb": anonymous_mb(os.getpid()),
        }


def cold(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Time the same with all files dropped from the page cache before each query."""
    import sleepfm_index

    with sleepfm_index.open(folder / "store") as store:
        clips = asking(store, 2 * COLD, 2)[:COLD]
        vectors = store.vectors.of(clips, "ecg")[0]
        store.query("ecg", to="bas", clip=int(clips[0]))
        seconds: dict[str, list[float]] = {"search_ms": [], "query_ms": []}
        for at, clip in enumerate(clips):
            drop(folder / "store")
            seconds["search_ms"] += timed(lambda i: store.find("bas", vectors[i : i + 1], 10), [at])
            drop(folder / "store")
            seconds["query_ms"] += timed(
                lambda c: store.query("ecg", to="bas", clip=int(c)), [clip]
            )
        return {name: spread_ms(values) for name, values in seconds.items()}


def drop(path: Path) -> None:
    """Drop the files of a folder from the page cache, unless another process maps them."""
    os.sync()
    for file in path.rglob("*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def recall(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure recall@10 against exact search, with queries not used in calibration."""
    import sleepfm_index
    from sleepfm_index.indexing.calibration import clustered

    with sleepfm_index.open(folder / "store") as store:
        clips = asking(store, TRUTH, 3)
        vectors = store.vectors.of(clips, "ecg")[0]
        exact = store.find("bas", vectors, 10, exact=True)
        found = store.find("bas", vectors, 10)
        pairs = list(zip(exact.hits, found.hits, strict=True))
        shares = np.array([np.isin(a, b).mean() for (a, _), (b, _) in pairs])
        return {"recall_at_10": clustered(shares, 10), "queries": len(clips), "note": found.method}


def batch(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Query with a whole night at once and one by one, and with 4,000 clips of many nights."""
    import sleepfm_index

    with sleepfm_index.open(folder / "store") as store:
        night = store.metadata.clip_ids("recording_id = 'night-000003'")
        for _ in range(2):
            alone = timed(lambda c: store.query("ecg", to="bas", clip=int(c)), night[:100])
            start = time.perf_counter()
            rows = store.query_many("ecg", to="bas", recording="night-000003").read_all()
            together = time.perf_counter() - start
        clips = asking(store, 4000, 4)
        start = time.perf_counter()
        store.query_many("ecg", to="bas", clips=clips, exclude="none").read_all()
        many = time.perf_counter() - start
        return {
            "one_by_one_ms": 1000 * float(np.mean(alone)),
            "night_ms_a_query": 1000 * together / len(night),
            "rows": rows.num_rows,
            "many_ms_a_query": 1000 * many / len(clips),
        }


def filters(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure hits, recall and time under filters that keep fewer and fewer clips."""
    import sleepfm_index

    found: dict[str, Any] = {}
    with sleepfm_index.open(folder / "store") as store:
        clips = asking(store, 60, 5)
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


def table(folder: Path, args: argparse.Namespace) -> str:
    """Format the results of all phases as Markdown."""
    f = {phase: json.loads((folder / f"{phase}.json").read_text()) for phase in PHASES}
    steps = ", ".join(f"{name} {s:.0f} s" for name, s in f["index"]["steps"].items())
    at_1, at_10 = f["index"]["recall"]

    def ms(values: dict[str, float]) -> str:
        return f"{values['p50']:.2f} / {values['p99']:.2f} ms"

    low, high = f["recall"]["recall_at_10"][1:]
    lines = [
        f"{args.rows:,} clips, `bas`, asked by `ecg`; {machine()}; {args.threads or 'all'} threads",
        "",
        "| | |",
        "|---|---|",
        f"| store on disk | {f['write']['bytes'] / 1e9:.1f} GB |",
        f"| index | {f['index']['kind']}, {f['index']['index_bytes'] / 1e9:.2f} GB |",
        f"| made in | {f['index']['seconds'] / 60:.1f} min ({steps}) |",
        f"| anonymous memory while made | {f['index']['peak_anonymous_mb'] / 1000:.2f} GB |",
        f"| recall@1, recall@10 stored | {at_1[0]:.3f} [{at_1[1]:.3f}, {at_1[2]:.3f}], "
        f"{at_10[0]:.4f} [{at_10[1]:.4f}, {at_10[2]:.4f}] |",
        f"| recall@10 of {f['recall']['queries']} other queries | "
        f"{f['recall']['recall_at_10'][0]:.4f} [{low:.4f}, {high:.4f}] |",
        f"| opens in, first search after | {f['open']['open_ms']:.0f} ms, "
        f"{f['open']['first_search_ms']:.0f} ms |",
        f"| anonymous memory of searching; with SQL; whole process | "
        f"{f['open']['anonymous_mb']:.0f} MB; {f['open']['anonymous_mb_with_sql']:.0f} MB; "
        f"{f['warm']['anonymous_mb']:.0f} MB |",
        f"| one search, warm, p50 / p99 | {ms(f['warm']['search_ms'])} |",
        f"| one query with metadata, warm | {ms(f['warm']['query_ms'])} |",
        f"| one search, cold | {ms(f['cold']['search_ms'])} |",
        f"| one query with metadata, cold | {ms(f['cold']['query_ms'])} |",
        f"| a night at once, a query | {f['batch']['night_ms_a_query']:.2f} ms "
        f"(one by one {f['batch']['one_by_one_ms']:.2f} ms) |",
        f"| 4,000 clips at once, a query | {f['batch']['many_ms_a_query']:.2f} ms |",
        *[
            f"| {float(share):.1%} allowed | {x['how']}; recall@10 {x['recall_at_10']:.4f}, "
            f"at least {x['fewest']} of 10; {ms(x)} (SQL {x['sql_ms']:.0f} ms) |"
            for share, x in f["filters"].items()
            if isinstance(x, dict)
        ],
        f"| all six targets, planned | {f['plan']['minutes']:.0f} min, "
        f"{f['plan']['disk_gb']:.1f} GB beside {f['plan']['vectors_gb']:.1f} GB of vectors, "
        f"{f['plan']['memory_gb']:.1f} GB of memory |",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
