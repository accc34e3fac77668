"""Cost of storing a cohort, computed from measured values; docs/cost.md describes their origin.

python benchmarks/cost.py
python benchmarks/cost.py --nights-hour 300 --on-cores 4 --commit-ms 60      your machine's
"""

from __future__ import annotations

import argparse

NIGHT_H = 8.0
CLIPS = 960
MODALITIES = 3
COHORTS = (1_000, 100_000, 2_000_000)
CORES = (2, 32, 128, 1000)


def hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"


def size(bytes_: float) -> str:
    return f"{bytes_ / 1e12:.1f} TB" if bytes_ >= 1e12 else f"{bytes_ / 1e9:.1f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nights-hour", type=float, default=735, help="nights per hour of a build")
    parser.add_argument("--on-cores", type=float, default=2, help="cores of that build")
    parser.add_argument("--encode", type=float, default=390, help="clips/s per modality and core")
    parser.add_argument("--commit-ms", type=float, default=28, help="ms of the client per night")
    parser.add_argument("--dask-ms", type=float, default=3.4, help="ms of the scheduler per task")
    parser.add_argument("--night-mb", type=float, default=150, help="size of the file of a night")
    parser.add_argument("--read-mbs", type=float, default=1000, help="MB/s of shared storage")
    args = parser.parse_args()
    work = 3600 * args.on_cores / args.nights_hour
    encoding = CLIPS * MODALITIES / args.encode
    print(f"one night: {work:.1f} core s, of which encoding {encoding:.1f}")
    print("\n| hours of sleep | nights | clips | core hours | files | store | Milvus, six fields |")
    print("|---|---|---|---|---|---|---|")
    for cohort in COHORTS:
        nights = cohort / NIGHT_H
        clips = nights * CLIPS
        print(
            f"| {cohort:,} | {nights:,.0f} | {clips / 1e6:,.1f} M | {nights * work / 3600:,.1f} | "
            f"{size(nights * args.night_mb * 1e6)} | {size(clips * (3 * 1024 + 200))} | "
            f"{size(clips * 6 * 2048)} |"
        )
    print("\n| hours of sleep | " + " | ".join(f"{c:,} cores" for c in CORES) + " |")
    print("|---" * (len(CORES) + 1) + "|")
    for cohort in COHORTS:
        nights = cohort / NIGHT_H
        cells = []
        for cores in CORES:
            ways = {
                "workers": nights * work / cores,
                "commits": nights * args.commit_ms / 1000,
                "scheduler": nights * args.dask_ms / 1000,
                "storage": nights * args.night_mb / args.read_mbs,
            }
            slowest = max(ways, key=lambda name: ways[name])
            cells.append(f"{hours(ways[slowest])} ({slowest})")
        print(f"| {cohort:,} | " + " | ".join(cells) + " |")
    print(f"\ncommits bind from {1000 * work / args.commit_ms:,.0f} cores on,", end=" ")
    print(f"the scheduler from {1000 * work / args.dask_ms:,.0f},", end=" ")
    print(f"shared storage from {args.read_mbs / args.night_mb * work:,.0f}")


if __name__ == "__main__":
    main()
