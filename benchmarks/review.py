"""Precision and recall of `review` for planted errors: changed stages and copied clips.

    python benchmarks/review.py                          simulated nights, weights `demo`
    python benchmarks/review.py --store sleepfm-demo/store     the nights of the demo
    python benchmarks/review.py --drawn 0.6              drawn vectors

5 % of the stages are replaced at random, and 1 % of the clips get the vectors of a clip of another
recording. Half of these copies have noise, as if they had been resampled and encoded again.
Precision is the share of reported clips that were changed; recall is the share of changed clips
that are reported. `--drawn S` uses vectors drawn around one centre per stage, at a mean distance of
`S`, instead of simulated nights, to show the result for vectors that predict the stage well.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from machine import machine

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm.simulate import simulate_cohort
from sleepfm_index.schema import EVENT_COLUMNS, RECORDING_COLUMNS, SUBJECT_COLUMNS, clip_schema
from sleepfm_index.storage.manifest import WeightsIdentity
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.writer import Writer

STAGES = ("W", "N1", "N2", "N3", "R")
IDENTITY = WeightsIdentity("benchmark", "0" * 64, False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument(
        "--drawn", type=float, help="draw vectors at this distance from their centres"
    )
    parser.add_argument("--clips", type=int, default=400, help="clips per drawn subject")
    parser.add_argument("--flipped", type=float, default=0.05)
    parser.add_argument("--copied", type=float, default=0.01)
    parser.add_argument("--store", type=Path, help="an existing store of simulated nights")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if args.drawn is None:
            names, stages, vectors = simulated(folder, args)
            people = len(set(names.tolist()))
            print(f"{len(names):,} clips of {people} simulated nights, weights demo")
        else:
            names, stages, vectors = drawn(args)
            print(f"{len(names):,} drawn clips, {args.drawn:g} from the centre of their stage")
        rng = np.random.default_rng(args.seed)
        flipped = rng.choice(len(stages), round(args.flipped * len(stages)), replace=False)
        wrong = stages.copy()
        for at in flipped:
            wrong[at] = rng.choice([s for s in STAGES if s != stages[at]])
        copied = rng.choice(len(stages), round(args.copied * len(stages)), replace=False)
        pairs = set()
        for number, at in enumerate(copied):
            other = int(rng.choice(np.flatnonzero(names != names[at])))
            pairs.add((min(int(at), other), max(int(at), other)))
            for modality, x in vectors.items():
                new = x[other].astype(np.float64)
                if number % 2:
                    noise = rng.standard_normal(512)
                    new = new + 0.01 * noise / np.linalg.norm(noise)
                vectors[modality][at] = new / np.linalg.norm(new)
        store = folder / "reviewed"
        write(store, names, wrong, vectors)
        with sleepfm_index.open(store) as opened, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for on in ("bas", None):
                result = opened.review(on=on, kinds=["label"])
                named = set(result.table["clip_id"].to_pylist())
                compare(f"flipped stages, by {on or 'all'}", named, set(map(int, flipped)))
                right = sum(
                    stages[row["clip_id"]] == row["suggested"]
                    for row in result.to_pylist()
                    if row["clip_id"] in set(map(int, flipped))
                )
                print(f"  {right} of them with the true stage suggested; {result.note}")
            result = opened.review(kinds=["duplicate"])
            named_pairs = {
                (
                    min(row["clip_id"], row["other_clip_id"]),
                    max(row["clip_id"], row["other_clip_id"]),
                )
                for row in result.to_pylist()
            }
            compare("copied clips", named_pairs, pairs)


def compare(what: str, named: set[Any], true: set[Any]) -> None:
    hit = len(named & true)
    precision = hit / len(named) if named else float("nan")
    print(
        f"{what:<28} named {len(named):>5}, changed {len(true):>5}: "
        f"precision {precision:.2f}, recall {hit / len(true):.2f}"
    )


def simulated(folder: Path, args: argparse.Namespace) -> tuple[Any, Any, dict[str, Any]]:
    path = args.store or folder / "store"
    if args.store is None:
        simulate_cohort(folder / "nights", subjects=args.subjects, hours=args.hours, seed=7)
        sleepfm_index.build(path, [folder / "nights"], weights="demo")
    with sleepfm_index.open(path) as store:
        clips = store.sql("SELECT clip_id, recording_id, stage FROM clips ORDER BY clip_id").table
        ids = clips["clip_id"].to_numpy()
        vectors = {m: store.vectors.of(ids, m)[0] for m in ROBUST.modalities}
    return (
        np.array(clips["recording_id"].to_pylist()),
        np.array(clips["stage"].to_pylist()),
        vectors,
    )


def drawn(args: argparse.Namespace) -> tuple[Any, Any, dict[str, Any]]:
    rng = np.random.default_rng(args.seed + 1)
    count = args.subjects * args.clips
    names = np.repeat([f"night-{at}" for at in range(args.subjects)], args.clips)
    code = rng.choice(5, count, p=(0.2, 0.08, 0.45, 0.12, 0.15))
    vectors = {}
    for modality, scale in zip(ROBUST.modalities, (1.0, 3.0, 3.0), strict=True):
        x = rng.standard_normal((5, 512))[code] / np.sqrt(512)
        # A clip varies in few directions, as vectors of encoders do.
        spread = rng.standard_normal((8, 512)) / np.sqrt(512)
        within = rng.standard_normal((count, 8)) @ spread / np.sqrt(8)
        x = x + args.drawn * scale * within + 0.1 * rng.standard_normal((count, 512)) / np.sqrt(512)
        x += (
            0.3
            * (rng.standard_normal((args.subjects, 512)) / np.sqrt(512))[
                np.repeat(np.arange(args.subjects), args.clips)
            ]
        )
        vectors[modality] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return names, np.array(STAGES)[code], vectors


def write(path: Path, names: Any, stages: Any, vectors: dict[str, Any]) -> None:
    with Writer(path, IDENTITY, ROBUST) as writer:
        for name in dict.fromkeys(names.tolist()):
            own = names == name
            rows = int(own.sum())
            values: dict[str, Any] = {f"has_{m}": np.ones(rows, bool) for m in ROBUST.modalities}
            values |= {f"slots_{m}": np.ones(rows, np.uint16) for m in ROBUST.modalities}
            values |= {"recording_id": names[own], "subject_id": names[own], "stage": stages[own]}
            values |= {"start_s": 30.0 * np.arange(rows)}
            known = (*clip_schema(ROBUST.modalities), *SUBJECT_COLUMNS)
            fields = [f for f in known if f.name != "clip_id"]
            columns = {f.name: values.get(f.name, pa.nulls(rows, f.type)) for f in fields}
            writer.append(
                SegmentData(
                    key=hashlib.sha256(name.encode()).hexdigest(),
                    clips=pa.table(columns, schema=pa.schema(fields)),
                    events=EVENT_COLUMNS.empty_table(),
                    recordings=RECORDING_COLUMNS.empty_table(),
                    vectors={m: x[own].astype(np.float16) for m, x in vectors.items()},
                )
            )


if __name__ == "__main__":
    main()
