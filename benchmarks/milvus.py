"""The store compared with milvus-lite: agreement, recall, latency, memory, and publishing.

    python benchmarks/milvus.py                     200,000 clips: a quarter of an hour
    python benchmarks/milvus.py --clips 5000        a quick run

Vectors are drawn: the modalities of a clip share 32 latent dimensions and differ by noise. The
store compares a query with every clip, so its answers are the reference. Each engine answers in its
own process, after one query that is not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from machine import machine
from store import NIGHT, WEIGHTS, night

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.writer import Writer

TARGETS = ("bas", "ecg", "others_of_ecg")
WHERE = "stage = 'N2' AND start_s >= 600"

_ASK = """
import json, sys, time
import sleepfm_index
engine, store, uri, collection, clips, where = sys.argv[1:]
def memory(kind):
    with open("/proc/self/smaps_rollup") as file:
        lines = file.read().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(kind)) / 1024
if engine == "store":
    source = sleepfm_index.open(store)
else:
    source = sleepfm_index.Served(uri, collection)
answers, seconds = [], []
for to in ("bas", "others"):
    for condition in (None, where):
        for clip in [0, *json.loads(clips)]:
            start = time.perf_counter()
            found = source.query("ecg", to=to, clip=clip, k=10, where=condition)
            seconds.append([to, condition, time.perf_counter() - start])
            answers.append(found.table.select(["clip_id", "score"]).to_pylist())
print(json.dumps([answers, seconds, memory("Rss"), memory("Anonymous")]))
"""


def drawn(number: int, clips: int) -> SegmentData:
    """Draw a night whose modalities share a latent state."""
    rng = np.random.default_rng(number)
    shape = np.random.default_rng(0).standard_normal((32, EMBEDDING_DIM))
    latent = rng.standard_normal((clips, 32)) @ shape / np.sqrt(32)
    vectors = {}
    for modality in ROBUST.modalities:
        x = latent + 0.7 * rng.standard_normal(latent.shape)
        vectors[modality] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)
    return dataclasses.replace(night(number, clips), vectors=vectors)


def make(path: Path, clips: int) -> None:
    with Writer(path, WEIGHTS, ROBUST) as writer:
        for number, first in enumerate(range(0, clips, NIGHT)):
            writer.append(drawn(number, min(NIGHT, clips - first)))
    sleepfm_index.compact(path)
    sleepfm_index.reindex(path, index="exact")


def publish(store: Path, uri: str, **options: object) -> None:
    start = time.perf_counter()
    published = sleepfm_index.publish(
        store,
        uri,
        targets=TARGETS,
        **options,  # type: ignore[arg-type]
    )
    seconds = time.perf_counter() - start
    rate = f", {published.added / seconds:,.0f} clips/s" if published.added else ""
    print(
        f"{seconds:.1f} s: {published.added:,} sent, {published.removed:,} removed, "
        f"{published.clips:,} clips in the collection{rate}; recall@10 {published.recall}",
        flush=True,
    )


def ask(engine: str, *words: object) -> tuple[list[list[dict[str, float]]], str]:
    command = [sys.executable, "-c", _ASK, engine, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers, seconds, resident, anonymous = json.loads(done.stdout)
    shown = [f"{engine:<24}"]
    per = len(seconds) // 4
    for at in range(0, len(seconds), per):
        times = np.array([s for _, _, s in seconds[at + 1 : at + per]]) * 1000
        shown.append(f"{np.percentile(times, 50):7.1f} /{np.percentile(times, 95):7.1f}")
    shown.append(f"{resident:8,.0f} MB ({anonymous:,.0f})")
    kept = [answer for at, answer in enumerate(answers) if at % per]
    return kept, "  ".join(shown)


def compare(found: list[list[dict[str, float]]], truth: list[list[dict[str, float]]]) -> str:
    same = sum(a == b for a, b in zip(found, truth, strict=True))
    ids = [{row["clip_id"] for row in answer} for answer in found]
    right = [{row["clip_id"] for row in answer} for answer in truth]
    hits = sum(len(a & b) for a, b in zip(ids, right, strict=True))
    return f"same rows and scores {same}/{len(truth)}, recall@10 {hits / sum(map(len, right)):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=50)
    args = parser.parse_args()
    if args.clips <= NIGHT:
        parser.error(f"--clips must exceed {NIGHT}, the clips of one subject, who is excluded")
    if not all(map(find_spec, ("pymilvus", "milvus_lite", "sqlglot"))):
        parser.error("milvus-lite is not installed: pip install 'sleepfm-index[milvus]'")
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        store, uri = Path(folder) / "store", f"{folder}/milvus.db"
        make(store, args.clips)
        size = sleepfm_index.open(store).info()
        print(f"{size.clips:,} clips, store {size.bytes / 1e6:,.0f} MB")
        print("publish, FLAT:  ", end="")
        publish(store, uri)
        print("publish, HNSW:  ", end="")
        publish(store, uri, collection="hnsw", index="HNSW")
        on_disk = sum(f.stat().st_size for f in Path(uri).rglob("*") if f.is_file())
        print(f"milvus-lite on disk, both: {on_disk / 1e6:,.0f} MB")
        clips = np.random.default_rng(1).integers(0, args.clips, args.queries).tolist()
        print("ms, p50 / p95:            to bas, all     to bas, where    to others        where")
        words = (store, uri)
        truth, line = ask("store", *words, "-", json.dumps(clips), WHERE)
        print(line)
        for name, collection in (("milvus-lite FLAT", "sleepfm_clips"), ("HNSW", "hnsw")):
            found, line = ask(name, *words, collection, json.dumps(clips), WHERE)
            print(f"{line}  {compare(found, truth)}", flush=True)
        gone = sleepfm_index.delete(store, where="clip_id % 20 = 7")
        print(f"{gone.clips:,} clips deleted; publish again:  ", end="")
        publish(store, uri)
        truth, _ = ask("store", *words, "-", json.dumps([c - c % 20 for c in clips]), WHERE)
        found, line = ask(
            "milvus-lite, after",
            *words,
            "sleepfm_clips",
            json.dumps([c - c % 20 for c in clips]),
            WHERE,
        )
        print(f"{line}  {compare(found, truth)}")


if __name__ == "__main__":
    main()
