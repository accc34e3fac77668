"""Queries by examples, stretches and nights: recall of planted copies, and latency.

    python benchmarks/ask.py planted                  simulated nights, weights `demo` (--weights)
    python benchmarks/ask.py nights --nights 1500     drawn vectors, nights of 900 clips
    python benchmarks/ask.py among --rows 1000000     a list of a million clip ids

`planted` copies pieces of breathing from one simulated night into others before they are encoded.
Each copy has the rate and scale of the night that receives it, and noise of a given share of the
piece's standard deviation (--noise 0: none). A stretch of 5 min searches for its copy. A clip that
was copied to many places is searched for by one of the copies, by the mean of several, and by the
nearest of several. The table also has the cosine of each clip with its copy and with other clips: a
copy that is not nearer than other clips cannot be found by any search.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pyarrow as pa
from machine import machine
from scipy.signal import resample

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm.simulate import simulate_cohort
from sleepfm_index.query import night as of_nights
from sleepfm_index.schema import EVENT_COLUMNS, RECORDING_COLUMNS, SUBJECT_COLUMNS, clip_schema
from sleepfm_index.storage.manifest import WeightsIdentity
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.writer import Writer

CLIP_S = 30
STRETCH = 10
NIGHT = 900
BREATHING = ("CHEST", "ABD", "SaO2", "Flow", "Pleth")  # every sensor that a slot of resp may take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("planted", "nights", "among"))
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--stretches", type=int, default=20)
    parser.add_argument("--copies", type=int, default=24)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.1, 0.5])
    parser.add_argument("--weights", default="demo", help="for `planted`")
    parser.add_argument("--nights", type=int, default=1500)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the stores here; default: temporary")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        {"planted": planted, "nights": nights, "among": among}[options.what](folder, options)


# Recall of planted copies


def planted(folder: Path, options: argparse.Namespace) -> None:
    recordings = folder / "recordings"
    if not recordings.exists():
        simulate_cohort(recordings, subjects=options.subjects, hours=options.hours, seed=7)
    files = sorted(recordings.glob("*.edf"))
    name = Path(options.weights).name
    print(f"{len(files)} simulated nights of {options.hours:g} h, weights {name}, breathing (resp)")
    for noise in options.noise:
        rng = np.random.default_rng(0)
        clips = round(options.hours * 3600 / CLIP_S)
        nights = {file.stem: edfio.read_edf(file) for file in files}
        free = {name: np.ones(clips, bool) for name in nights}
        pairs = []
        for number in range(options.stretches):
            # Half of the copies are slowed down by a fifth.
            length = STRETCH if number % 2 == 0 else round(1.2 * STRETCH)
            source, begin = place(rng, free, STRETCH)
            target, at = place(rng, free, length, but=source)
            copy(nights[source], begin, STRETCH, nights[target], at, length, noise, rng)
            pairs.append((source, begin, target, at, length))
        source, begin = place(rng, free, 1)
        spots = []
        for _ in range(options.copies):
            target, at = place(rng, free, 1, but=source)
            copy(nights[source], begin, 1, nights[target], at, 1, noise, rng)
            spots.append((target, at))
        out = folder / f"planted-{noise:g}"
        out.mkdir(exist_ok=True)
        for name, night in nights.items():
            night.write(out / f"{name}.edf")
        store = folder / f"store-{noise:g}"
        sleepfm_index.build(store, [out], weights=options.weights)
        with sleepfm_index.open(store) as opened:
            print(f"\nnoise {noise:g} of the piece's standard deviation")
            cosines(opened, pairs[::2])
            stretches(opened, pairs)
            examples(opened, spots, rng)


def place(
    rng: np.random.Generator, free: dict[str, np.ndarray], length: int, but: str = ""
) -> tuple[str, int]:
    """Choose an unused interval of a night at random."""
    for name in rng.permutation([name for name in free if name != but]).tolist():
        runs = np.lib.stride_tricks.sliding_window_view(free[name], length).all(axis=1)
        if runs.any():
            at = int(rng.choice(np.flatnonzero(runs)))
            free[name][at : at + length] = False
            return name, at
    raise SystemExit("no room for as many pieces; ask for fewer, or for longer nights")


def copy(
    source: Any, begin: int, clips: int, target: Any, at: int, length: int, noise: float,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    for name in BREATHING:
        mine = next(s for s in source.signals if s.label == name)
        theirs = next(s for s in target.signals if s.label == name)
        rate, other = mine.sampling_frequency, theirs.sampling_frequency
        piece = mine.data[round(begin * CLIP_S * rate) : round((begin + clips) * CLIP_S * rate)]
        data = theirs.data.copy()
        first, last = round(at * CLIP_S * other), round((at + length) * CLIP_S * other)
        new = resample(piece, last - first)
        if name != "SaO2":  # belts and flow are of each recorder's own scale
            new = (new - mine.data.mean()) * (data.std() / mine.data.std()) + data.mean()
        new = new + noise * new.std() * rng.standard_normal(len(new))
        data[first:last] = new
        data = np.clip(data, theirs.physical_min, theirs.physical_max)
        theirs.update_data(data, keep_physical_range=True)


def cosines(store: Any, pairs: list[tuple[str, int, str, int, int]]) -> None:
    """Print the cosine of each clip with its copy, and of the same clips with those of others."""
    own, copies = [], []
    for source, begin, target, at, _ in pairs:
        for name, first, into in ((source, begin, own), (target, at, copies)):
            here = f"recording_id = '{name}' AND start_s >= {first * CLIP_S} "
            into.append(
                store.metadata.clip_ids(f"{here} AND start_s < {(first + STRETCH) * CLIP_S}")
            )
    one, other = (store.vectors.of(np.concatenate(ids), "resp")[0] for ids in (own, copies))
    every = one @ other.T
    rest = every[~np.eye(len(one), dtype=bool)]
    print(
        f"cosine of a clip with its copy: {np.median(every.diagonal()):.3f} (median), with the "
        f"copies of others: {np.median(rest):.3f} (median), {np.quantile(rest, 0.95):.3f} (95 %)"
    )


def stretches(store: Any, pairs: list[tuple[str, int, str, int, int]]) -> None:
    print("stretches of 5 min       copies  recall@1  recall@10")
    for elastic in (False, True):
        for kind, chosen in (("as they were", pairs[::2]), ("slowed by a fifth", pairs[1::2])):
            ranks = []
            for source, begin, target, at, length in chosen:
                found = store.stretches(
                    "resp", recording=source, start=f"+{begin * CLIP_S}",
                    until=f"+{(begin + STRETCH) * CLIP_S}", elastic=elastic, exclude="recording",
                ).to_pylist()  # fmt: skip
                ranks.append(
                    next(
                        (row["rank"] for row in found if row["recording_id"] == target
                         and abs(row["start_s"] / CLIP_S - at) <= 1 + (length - STRETCH)), 99,
                    )
                )  # fmt: skip
            rank = np.array(ranks)
            how = "elastic" if elastic else "aligned"
            print(
                f"{how}, {kind:<18} {len(rank):>4}  {np.mean(rank == 1):>8.2f}  "
                f"{np.mean(rank <= 10):>9.2f}"
            )


def examples(store: Any, spots: list[tuple[str, int]], rng: np.random.Generator) -> None:
    ids = []
    for name, at in spots:
        own = store.metadata.clip_ids(f"recording_id = '{name}' AND start_s = {at * CLIP_S}")
        ids.append(int(own[0]))
    found: dict[str, list[float]] = {"one example": [], "mean of 4": [], "nearest of 4": []}
    for _ in range(20):
        drawn = rng.permutation(ids)
        some, rest = drawn[:4].tolist(), set(drawn[4:].tolist())
        for how, clip, combine in (
            ("one example", some[:1], "mean"),
            ("mean of 4", some, "mean"),
            ("nearest of 4", some, "max"),
        ):
            hits = store.query(
                "resp", "resp", clip=clip, combine=combine, exclude="none", k=len(rest) + 1
            )
            hit = [i for i in hits.table["clip_id"].to_pylist() if i not in some][: len(rest)]
            found[how].append(len(rest & set(hit)) / len(rest))
    count = len(ids) - 4
    print(f"copies of one clip, {count} to find    recall@{count}, mean of 20 draws")
    for how, values in found.items():
        print(f"{how:<38} {np.mean(values):.2f}")


# Latency


def nights(folder: Path, options: argparse.Namespace) -> None:
    store = drawn(folder, options.nights)
    rows: list[tuple[str, Callable[[], object]]] = []
    with sleepfm_index.open(store) as opened:
        print(
            f"{options.nights:,} nights, {len(opened):,} clips, drawn vectors; "
            f"median of {options.runs}"
        )
        first = opened.query("resp", "resp", clip=5)  # maps the files
        del first
        ask = {"recording": "night-0007", "start": "+3000", "until": "+3300"}
        spent = [0.0]

        def timed(work: Callable[..., Any], is_search: Callable[..., bool]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                begun = time.perf_counter()
                try:
                    return work(*args, **kwargs)
                finally:
                    spent[0] += is_search(*args) * (time.perf_counter() - begun)

            return call

        opened.find = timed(opened.find, lambda *_: True)
        # The nights to compare are found by a few clips of each.
        few = of_nights.SKETCH
        of_nights._distances = timed(of_nights._distances, lambda *args: args[-1] == few)
        rows = [
            ("stretches of 5 min", lambda: opened.stretches("resp", **ask)),
            ("stretches, elastic", lambda: opened.stretches("resp", **ask, elastic=True)),
            ("stretches, every one (--exact)", lambda: opened.stretches("resp", **ask, exact=True)),
            ("nights by energy distance", lambda: opened.nights("resp", recording="night-0007")),
        ]
        print(f"{'':<32}  in all (s)  of it candidates  after them")
        for name, work in rows:
            whole, before = [], []
            for _ in range(options.runs):
                spent[0] = 0.0
                begun = time.perf_counter()
                work()
                whole.append(time.perf_counter() - begun)
                before.append(spent[0])
            total, found = statistics.median(whole), statistics.median(before)
            print(f"{name:<32}  {total:>10.2f}  {found:>16.2f}  {total - found:>10.2f}")
        exact = {r["clip_id"] for r in opened.stretches("resp", **ask, exact=True).to_pylist()}
        likely = {r["clip_id"] for r in opened.stretches("resp", **ask).to_pylist()}
        print(f"stretches of the ten nearest that the candidates hold: {len(exact & likely)} of 10")


def among(folder: Path, options: argparse.Namespace) -> None:
    store = drawn(folder, -(-options.rows // NIGHT) + 1)
    from sleepfm_index.query.lists import read_clip_ids
    from sleepfm_index.query.scope import scope

    ids = np.random.default_rng(0).permutation(options.rows)
    (folder / "ids.txt").write_text("\n".join(map(str, ids.tolist())) + "\n")
    np.save(folder / "ids.npy", ids)
    with sleepfm_index.open(store) as opened:
        print(f"{options.rows:,} listed ids of {len(opened):,} clips; median of {options.runs}")
        for name in ("ids.txt", "ids.npy"):
            read, taken = [], []
            for _ in range(options.runs):
                begun = time.perf_counter()
                listed = read_clip_ids(folder / name)
                read.append(time.perf_counter() - begun)
                begun = time.perf_counter()
                scope(opened, allowed=listed)
                taken.append(time.perf_counter() - begun)
            print(
                f"{name:<8} read {statistics.median(read):.2f} s, "
                f"made the clips that may be found {statistics.median(taken):.2f} s"
            )


def drawn(folder: Path, count: int) -> Path:
    """Write a store of nights with drawn vectors around a centre per night; breathing only."""
    path = folder / f"drawn-{count}"
    if (path / "manifest.json").exists():
        return path
    rng = np.random.default_rng(0)
    rows = count * NIGHT
    vectors = np.empty((rows, 512), np.float16)
    shapes = rng.standard_normal((24, 512), np.float32)
    for at in range(count):
        steps = rng.standard_normal((NIGHT, 24), np.float32)
        walk = np.cumsum(steps, axis=0) * 0.2 + 2 * rng.standard_normal(24, np.float32)
        x = walk @ shapes + 4 * rng.standard_normal((NIGHT, 512), np.float32)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        vectors[at * NIGHT : (at + 1) * NIGHT] = x
    names = np.repeat([f"night-{at:04d}" for at in range(count)], NIGHT)
    has = np.ones(rows, bool)
    values: dict[str, Any] = {f"has_{m}": has if m == "resp" else ~has for m in ROBUST.modalities}
    values |= {f"slots_{m}": values[f"has_{m}"].astype(np.uint16) for m in ROBUST.modalities}
    start = 30.0 * np.tile(np.arange(NIGHT), count)
    values |= {"recording_id": names, "subject_id": names, "start_s": start}
    values |= {"clock": np.mod(79200 + start, 86400), "stage": np.full(rows, "N2")}
    fields = [f for f in (*clip_schema(ROBUST.modalities), *SUBJECT_COLUMNS) if f.name != "clip_id"]
    columns = {f.name: values.get(f.name, pa.nulls(rows, f.type)) for f in fields}
    segment = SegmentData(
        key=hashlib.sha256(str(rows).encode()).hexdigest(),
        clips=pa.table(columns, schema=pa.schema(fields)),
        events=EVENT_COLUMNS.empty_table(),
        recordings=RECORDING_COLUMNS.empty_table(),
        vectors={"resp": vectors},
    )
    with Writer(path, WeightsIdentity("drawn", "0" * 64, False), ROBUST) as writer:
        writer.append(segment)
    sleepfm_index.reindex(path, index="exact")  # with the row cache, as after any build
    return path


if __name__ == "__main__":
    main()
