"""End-to-end search in a store of millions of clips: writing, indexing, querying.

    python benchmarks/scale.py --folder F                      12 million clips; 20 GB of disk
    python benchmarks/scale.py --folder F --rows 1000000       a million clips

Vectors are drawn (benchmarks/embeddings.py). All clips have `bas`; those of every sixth segment
also have `ecg`, with which `bas` is searched. Each phase runs in its own process, whose anonymous
memory is monitored, and writes its figures to F/ROWS/<phase>.json. Phases with figures are not
repeated, so the same command resumes an interrupted run. F/ROWS/table.md has all results.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from machine import machine
from memory import anonymous_mb

ROOT = Path(__file__).resolve().parents[1]
PHASES = ("write", "plan", "index", "open", "warm", "cold", "recall", "batch", "filters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=12_000_000, help="clips")
    parser.add_argument("--recall", type=float, default=0.995, help="recall@10 of the index")
    parser.add_argument("--threads", type=int, default=0, help="default: all cores")
    parser.add_argument("--queries", type=int, default=400, help="with a warm page cache")
    parser.add_argument("--cold", type=int, default=60, help="queries with a cold page cache")
    parser.add_argument("--keep", action="store_true", help="keep the store at the end")
    parser.add_argument(
        "--again", choices=PHASES, action="append", default=[], help="repeat this phase"
    )
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder = args.folder / str(args.rows)
    folder.mkdir(parents=True, exist_ok=True)
    if args.phase:
        print(json.dumps(run(args.phase, folder, args)))
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


def run(phase: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Run a phase in this process, and return its figures."""
    # Only the module of the phase is imported: others would count in its time and memory.
    if phase == "write":
        from scale_store import write

        return write(folder, args)
    import scale_phases

    figures: dict[str, Any] = getattr(scale_phases, phase)(folder, args)
    return figures


def watched(phase: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run a phase in a separate process, and monitor its anonymous memory."""
    words = [sys.executable, __file__, "--phase", phase, "--folder", str(args.folder)]
    words += ["--rows", str(args.rows), "--recall", str(args.recall)]
    words += ["--queries", str(args.queries), "--cold", str(args.cold)]
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
        raise SystemExit(f"{phase} failed; repeat the command to resume")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return {**found, "seconds": time.perf_counter() - start, "peak_anonymous_mb": peak[0]}


def watch(process: subprocess.Popen[str], peak: list[float]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], anonymous_mb(process.pid))
        time.sleep(0.05)


def table(folder: Path, args: argparse.Namespace) -> str:
    """Format the results of all phases as Markdown."""
    f = {phase: json.loads((folder / f"{phase}.json").read_text()) for phase in PHASES}
    steps = ", ".join(f"{name} {s:.0f} s" for name, s in f["index"]["steps"].items())
    at_1, at_10 = f["index"]["recall"]

    def ms(values: dict[str, float]) -> str:
        return f"{values['p50']:.2f} / {values['p99']:.2f} ms"

    low, high = f["recall"]["recall_at_10"][1:]
    lines = [
        f"{args.rows:,} clips, `bas` searched with `ecg`; {machine()}; "
        f"{args.threads or 'all'} threads",
        "",
        "| | |",
        "|---|---|",
        f"| store on disk | {f['write']['bytes'] / 1e9:.1f} GB |",
        f"| index | {f['index']['kind']}, {f['index']['index_bytes'] / 1e9:.2f} GB |",
        f"| indexed in | {f['index']['seconds'] / 60:.1f} min ({steps}) |",
        f"| anonymous memory of indexing | {f['index']['peak_anonymous_mb'] / 1000:.2f} GB |",
        f"| recall@1, recall@10 stored | {at_1[0]:.3f} [{at_1[1]:.3f}, {at_1[2]:.3f}], "
        f"{at_10[0]:.4f} [{at_10[1]:.4f}, {at_10[2]:.4f}] |",
        f"| recall@10 of {f['recall']['queries']} other queries | "
        f"{f['recall']['recall_at_10'][0]:.4f} [{low:.4f}, {high:.4f}] |",
        f"| opens in; first search after | {f['open']['open_ms']:.0f} ms, "
        f"{f['open']['first_search_ms']:.0f} ms |",
        f"| anonymous memory of searching; with SQL; whole process | "
        f"{f['open']['anonymous_mb']:.0f} MB; {f['open']['anonymous_mb_with_sql']:.0f} MB; "
        f"{f['warm']['anonymous_mb']:.0f} MB |",
        f"| one search, warm, p50 / p99 | {ms(f['warm']['search_ms'])} |",
        f"| one query with metadata, warm | {ms(f['warm']['query_ms'])} |",
        f"| one search, cold | {ms(f['cold']['search_ms'])} |",
        f"| one query with metadata, cold | {ms(f['cold']['query_ms'])} |",
        f"| a night at once, per query | {f['batch']['night_ms_a_query']:.2f} ms "
        f"(one by one {f['batch']['one_by_one_ms']:.2f} ms) |",
        f"| {10 * args.queries:,} clips at once, per query | "
        f"{f['batch']['many_ms_a_query']:.2f} ms |",
        *[
            f"| {float(share):.1%} allowed | {x['how']}; recall@10 {x['recall_at_10']:.4f}, "
            f"at least {x['fewest']} of 10; {ms(x)} (SQL {x['sql_ms']:.0f} ms) |"
            for share, x in f["filters"].items()
            if isinstance(x, dict)
        ],
        f"| all six targets, planned | {f['plan']['minutes']:.0f} min, "
        f"{f['plan']['disk_gb']:.1f} GB in addition to {f['plan']['vectors_gb']:.1f} GB of "
        f"vectors, {f['plan']['memory_gb']:.1f} GB of memory |",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
