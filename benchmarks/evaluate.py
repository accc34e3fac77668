"""Run time of linear probe, k-NN and retrieval evaluation on a large store.

    python benchmarks/evaluate.py [--clips 1000000] [--folder FOLDER]

Writes a store of drawn vectors that predict a stage (about 3.2 GB for a million clips), unless
FOLDER already contains one. Each measurement runs in its own process, so that its peak memory is
known.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine

NIGHT = 1000
NIGHTS = 5
"""The fewest nights: one for each fold."""
STEPS = ("probe", "knn", "evaluate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", choices=STEPS)
    args = parser.parse_args()
    if args.step:
        measure(args.folder, args.step)
        return
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch) / "store"
        if not (folder / "manifest.json").exists():
            write(folder, args.clips)
        for step in STEPS:
            subprocess.run(
                [sys.executable, __file__, "--folder", folder, "--step", step], check=True
            )


def measure(folder: Path, step: str) -> None:
    import sleepfm_index

    start = time.perf_counter()
    with sleepfm_index.open(folder) as store:
        if step == "probe":
            result = store.probe("stage", on=["bas"], folds=5)
        elif step == "knn":
            result = store.knn("stage", queries=10_000)
        else:
            result = store.evaluate(gallery=10_000)
        size = len(store)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF)
    first = result.to_pylist()[0]
    shown = {
        k: round(first[k], 3) for k in ("auroc", "recall_at_1", "clips", "gallery") if k in first
    }
    print(
        f"{step:9s} {size:,} clips  {seconds:7.1f} s  peak {peak.ru_maxrss / 1e6:.2f} GB  {shown}"
    )


def write(folder: Path, clips: int) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from cohorts import cohort_store

    names = [f"night-{i}" for i in range(max(NIGHTS, clips // NIGHT))]
    cohort_store(folder, names, clips // len(names), noise=4.0, signal=0.1, index=False)


if __name__ == "__main__":
    main()
