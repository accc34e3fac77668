"""One writer and many readers on one store: no error, and every answer is of one snapshot.

python tests/crash/concurrency.py --seconds 60

The writer appends, deletes, indexes and compacts as fast as it can. What a recording holds follows
from its name, so a reader can tell whether an answer is whole without asking the writer.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from stores import TARGETS, WEIGHTS, drawn_segment

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.errors import SnapshotGone
from sleepfm_index.storage.writer import Writer

_LIVE = 12
_START_S = 120
"""Time that the processes may take to start."""


def write(path: Path, seconds: float, ready: Any, out: Any) -> None:
    """Change the store until the time is up."""
    rng = random.Random(0)
    done: Counter[str] = Counter()
    number = 0
    try:
        ready.wait(_START_S)
        end = time.time() + seconds
        while time.time() < end:
            with sleepfm_index.open(path) as store:
                live = [
                    r["r"]
                    for r in store.sql("SELECT recording_id AS r FROM recordings").to_pylist()
                ]
            verbs = ["append", "append", "append", "reindex", "compact", "delete"]
            verb = "append" if len(live) < 3 else rng.choice(verbs)
            if len(live) > _LIVE:
                verb = "delete"
            if verb == "append":
                with Writer(path, WEIGHTS, ROBUST) as writer:
                    writer.append(recording(number))
                number += 1
            elif verb == "delete":
                sleepfm_index.delete(path, recording=rng.choice(live))
            elif verb == "reindex":
                sleepfm_index.reindex(path)
            else:
                sleepfm_index.compact(path, keep_snapshots=rng.choice([0, 2]))
            done[verb] += 1
        out.put(("writer", done, ""))
    except BaseException:
        out.put(("writer", done, traceback.format_exc()))


def recording(number: int) -> Any:
    """Recording of a number; all of it follows from the number."""
    return drawn_segment(f"r{number}", 3 + number % 7, number)


def read(path: Path, seconds: float, seed: int, ready: Any, out: Any) -> None:
    """Open, ask, compare, until the time is up."""
    rng = random.Random(seed)
    done: Counter[str] = Counter()
    latest = -1
    try:
        ready.wait(_START_S)
        end = time.time() + seconds
        while time.time() < end:
            try:
                with sleepfm_index.open(path, threads=1) as store:
                    assert store.manifest.snapshot >= latest, "the store went back"
                    latest = store.manifest.snapshot
                    for _ in range(rng.randrange(1, 4)):
                        ask(store, rng)
                        done["answers"] += 1
                        time.sleep(rng.uniform(0, 0.05))
                done["snapshots"] += 1
            except SnapshotGone:
                done["opened again"] += 1
        out.put(("reader", done, ""))
    except BaseException:
        out.put(("reader", done, traceback.format_exc()))


def ask(store: sleepfm_index.Store, rng: random.Random) -> None:
    """Ask a store several things that must agree with each other and with the recordings."""
    counts = store.sql("SELECT recording_id AS r, count(*) AS n FROM clips GROUP BY 1").to_pylist()
    assert sum(row["n"] for row in counts) == len(store)
    for row in counts:
        assert row["n"] == 3 + int(row["r"][1:]) % 7, "half a recording"
    if not counts:
        return
    name = rng.choice(counts)["r"]
    ids = store.metadata.clip_ids(f"recording_id = '{name}'")
    expected = recording(int(name[1:])).vectors
    for modality in ROBUST.modalities:
        stored, _ = store.vectors.of(ids, str(modality))
        assert np.array_equal(stored, expected[modality]), "vectors of another recording"
    every = store.metadata.clip_ids()
    target = rng.choice(TARGETS)
    vectors, present = store.vectors.of(every, target)
    query = np.random.default_rng(rng.randrange(99)).standard_normal(512).astype(np.float32)
    scores = vectors[present].astype(np.float64) @ query
    best = np.lexsort((every[present], -scores))[:5]
    ((found, _),) = store.search(target, query[None], 5)
    assert np.array_equal(found, every[present][best]), "not the nearest clips of the snapshot"


def trial(seconds: float, readers: int) -> tuple[Counter[str], Counter[str], list[str]]:
    """Run the trial; give what the writer did, what the readers saw, and the errors."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        with Writer(path, WEIGHTS, ROBUST) as writer:
            writer.append(recording(10_000))
        out = context.Queue()
        ready = context.Barrier(readers + 1)  # the time begins when all have started
        work = [context.Process(target=write, args=(path, seconds, ready, out))]
        work += [
            context.Process(target=read, args=(path, seconds, i, ready, out))
            for i in range(readers)
        ]
        for process in work:
            process.start()
        written: Counter[str] = Counter()
        seen: Counter[str] = Counter()
        errors = []
        for _ in work:
            who, done, error = out.get(timeout=seconds + 120 + _START_S)
            (written if who == "writer" else seen).update(done)
            errors += [error] if error else []
        for process in work:
            process.join()
        if not sleepfm_index.verify(path).ok:
            errors.append("the store is damaged")
    return written, seen, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--readers", type=int, default=8)
    asked = parser.parse_args()
    written, seen, errors = trial(asked.seconds, asked.readers)
    print(f"1 writer: {', '.join(f'{n} {verb}' for verb, n in sorted(written.items()))}")
    print(
        f"{asked.readers} readers: {', '.join(f'{n} {what}' for what, n in sorted(seen.items()))}"
    )
    print(f"{len(errors)} errors")
    for error in errors:
        print(error)
    sys.exit(1 if errors or not seen["answers"] or not sum(written.values()) else 0)


if __name__ == "__main__":
    main()
