"""Comparison of search with other libraries: recall@10 and queries per second.

    make peers                                                  once: install them
    python benchmarks/search.py --folder F --rows 1000000       all libraries, one after another

Vectors are drawn (benchmarks/embeddings.py): `bas` is searched with `ecg`. Each library runs in its
own process, on one thread and on two. The fastest setting with a recall@10 of 0.99 is used, for
queries one by one, in batches, and under filters that keep 50 %, 5 % and 0.1 % of the vectors.
Results are written to F/ROWS/figures.jsonl and F/ROWS/table.md; a library with results is not run
again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from embeddings import NIGHT, Embeddings
from machine import machine

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / "index")]
QUERIES = 1000
K = 10
OURS: dict[str, list[str]] = {"ours": [], "ours-HNSW32": ["HNSW32"]}
"""Our engines: with the planned kind of index, and with a graph."""
FAISS: dict[str, list[str]] = {"faiss-IVFPQ": ["IVFPQ"], "faiss-HNSW": ["HNSW"]}
"""FAISS's own indexes, with the FAISS that sleepfm-index uses."""
PEERS = ("hnswlib", "usearch", "lancedb", "milvus", "duckdb")
FILTERS = ("0.5", "0.05", "0.001")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, action="append", help="default: 1 and 2")
    parser.add_argument("--engine", choices=(*OURS, *FAISS, *PEERS), action="append")
    parser.add_argument("--peers", type=Path, default=ROOT / ".peers" / "bin" / "python")
    parser.add_argument("--limit", type=float, default=1500, help="seconds for one engine")
    parser.add_argument("--build", action="store_true", help="only build the indexes")
    args = parser.parse_args()
    if not args.peers.exists() and not set(args.engine or PEERS) <= {*OURS, *FAISS}:
        parser.error(
            f"the other libraries are not installed, there is no {args.peers}: make peers; or "
            "measure only ours: --engine ours"
        )
    folder = args.folder / str(args.rows)
    folder.mkdir(parents=True, exist_ok=True)
    draw(folder, args.rows)
    done = folder / "figures.jsonl"
    for engine in args.engine or (*OURS, *FAISS, *PEERS):
        for threads in args.threads or (1, 2):
            known = done.read_text().splitlines() if done.exists() else []
            if any(json.loads(x)["script"] == [engine, threads] for x in known):
                continue
            print(f"{engine}, {threads} threads", file=sys.stderr, flush=True)
            if args.build:
                measured(engine, max(args.threads or (2,)), folder, args)
                break
            for line in measured(engine, threads, folder, args):
                with done.open("a") as file:
                    file.write(json.dumps({"script": [engine, threads], **line}) + "\n")
                print(line, flush=True)
    if args.build:
        return
    lines = [json.loads(line) for line in done.read_text().splitlines()]
    (folder / "table.md").write_text(table(lines, args.rows))
    print((folder / "table.md").read_text())


def draw(folder: Path, rows: int) -> None:
    """Write vectors, queries and exact answers, unless they exist."""
    if (folder / "truth-1.npy").exists():
        return
    drawn = Embeddings()
    ids = np.sort(np.random.default_rng(1).choice(rows, QUERIES, replace=False))
    queries = drawn.clips(ids, "ecg").astype(np.float32)
    # A filter keeps whole nights, and of one night a part.
    nights = -(-rows // NIGHT)
    number = np.random.default_rng(2).permutation(nights)[np.arange(rows) // NIGHT]
    number = (number + np.random.default_rng(3).random(rows)) / nights
    vectors = np.lib.format.open_memmap(
        folder / "vectors.npy", "w+", dtype=np.float16, shape=(rows, 512)
    )
    at = 0
    for block in drawn.blocks(rows, "bas"):
        vectors[at : at + len(block)] = block
        at += len(block)
    vectors.flush()
    np.save(folder / "asked.npy", ids)
    np.save(folder / "queries.npy", queries)
    np.save(folder / "number.npy", number)
    for share in (*FILTERS, "1"):
        np.save(folder / f"truth-{share}.npy", truth(vectors, queries, number < float(share)))


def truth(vectors: np.ndarray, queries: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Return exact answers among some rows, int64 [q, 10]; -1 where there are fewer."""
    from sleepfm_index.search.exact import candidates, rank
    from sleepfm_index.storage.vector_format import widen

    rows = np.flatnonzero(keep)
    parts = (rows[at : at + 8192] for at in range(0, len(rows), 8192))
    near = candidates(
        ((part, widen(vectors[part])) for part in parts),
        queries,
        K,
        lambda ids: widen(vectors[ids]),
    )
    best = np.full((len(queries), K), -1)
    for row, (query, ids) in enumerate(zip(queries, near, strict=True)):
        found, _ = rank(lambda i: widen(vectors[i]), query, ids, K)
        best[row, : len(found)] = found
    return best


def measured(
    engine: str, threads: int, folder: Path, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Run one engine; return its output."""
    python = str(args.peers) if engine in PEERS else sys.executable
    script = HERE / ("ours.py" if engine in OURS else f"peers/{engine.split('-')[0]}_peer.py")
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "LANCE_CPU_THREADS")
    known = {**os.environ, **dict.fromkeys(names, str(threads)), "SLEEPFM_THREADS": str(threads)}
    paths = [str(HERE / "peers"), str(ROOT), str(ROOT / "index")] if engine in OURS else []
    known["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
    if engine not in OURS:
        known["PYTHONPATH"] = ""
    words = [*(OURS | FAISS).get(engine, []), *(["build"] if args.build else [])]
    try:
        done = subprocess.run(
            [python, str(script), str(folder), str(threads), *words],
            stdout=subprocess.PIPE,
            text=True,
            env=known,
            timeout=args.limit,
        )
    except subprocess.TimeoutExpired as late:
        output = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        lines = [json.loads(x) for x in output.splitlines() if x.startswith("{")]
        return [*lines, {"engine": engine, "error": f"took longer than {args.limit:g} s"}]
    lines = [json.loads(x) for x in done.stdout.splitlines() if x.startswith("{")]
    if done.returncode:
        lines.append({"engine": engine, "error": f"ended with status {done.returncode}"})
    return lines


def table(lines: list[dict[str, Any]], rows: int) -> str:
    """Format the results as Markdown."""
    out = [
        f"{rows:,} x 512, `ecg` asks `bas`, k = 10; {machine()}",
        "",
        "| engine | threads | mode | setting | recall@10 | queries/s | fewest of 10 | anonymous MB "
        "| mapped MB | built in s |",
        "|---|--:|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for x in lines:
        if "error" in x:
            out.append(f"| {x['engine']} | | {x.get('mode', '')} | {x['error']} | | | | | | |")
            continue

        def number(name: str, form: str, x: dict[str, Any] = x) -> str:
            return format(x[name], form) if name in x else ""

        out.append(
            f"| {x['engine']} | {x['threads']} | {x['mode']} | {x.get('setting', '')} | "
            f"{x['recall']:.4f} | {x['qps']:,.0f} | {number('fewest', 'd')} | "
            f"{number('anonymous_mb', ',.0f')} | {number('mapped_mb', ',.0f')} | "
            f"{number('build_s', ',.0f')} |"
        )
    return "\n".join([*out, ""])


if __name__ == "__main__":
    main()
