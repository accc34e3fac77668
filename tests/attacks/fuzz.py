"""Random damage to everything that is read, under a memory limit; counts what went wrong.

python tests/attacks/fuzz.py --seconds 600            all kinds in turn
python tests/attacks/fuzz.py --only tables --seed 3   one of them

Every try runs in a child process made by fork, with a limit of memory and time, in an empty
folder. It may end in an answer or in one sentence (an error of the package). What counts as a
fault: any
other exception, a child that hangs or is killed, and a file outside the store that appears,
vanishes
or changes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

# Imported once, before any fork; nothing here starts a thread.
import duckdb  # noqa: F401
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.numpy import save_file
from stores import drawn_store
from test_hostile_stores import agree

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm.encoders.load import load_weights
from sleepfm.encoders.training_distribution import (
    BANDS,
    MIN_CALIBRATING,
    Spectra,
    TrainingDistribution,
)
from sleepfm.encoders.weights import read_info, read_weights
from sleepfm.errors import SleepFMError
from sleepfm.recordings.read import read_recording
from sleepfm.recordings.scoring.read import read_scoring
from sleepfm.simulate import simulate_cohort
from sleepfm_cli.options import Format
from sleepfm_cli.weights import show
from sleepfm_index.evaluation.models.probe_kinds import load_probe
from sleepfm_index.storage import private
from sleepfm_index.storage.labels import append_labels, read_labels

MEMORY: int = 3 << 30
"""Bytes of address space that a try may take beyond what the parent has."""
CPU_S = 30
TIME_S = 600
"""Seconds of the processor, and of the clock, that a try may take; other programs may be busy."""

Kind = Callable[[Path, random.Random], None]
ODD = (None, -1, 1 << 62, 1e308, "", "../../x", [], {}, "\x1b[31m", True, [[0, 1 << 40]])
"""What a value of JSON is replaced by."""


def flipped(content: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, cut, repeated or put elsewhere."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        if not data:
            break
        at = draw.randrange(len(data))
        how = draw.randrange(6)
        if how < 3:
            data[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        elif how == 3:
            del data[at : at + draw.choice((1, 4, 64))]
        elif how == 4:
            data[at:at] = data[at : at + draw.choice((1, 8, 256))]
        else:
            data[at : at + 8] = draw.choice(((1 << 62), (1 << 31), -1)).to_bytes(
                8, "little", signed=True
            )[: len(data) - at]
    return bytes(data)


def ask(store: Path) -> None:
    """Everything that reads: each question ends in an answer or in a sentence."""
    asked = (
        lambda: sleepfm_index.verify(store),
        lambda: sleepfm_index.snapshots(store),
        lambda: _opened(store, lambda s: s.query("ecg", "bas", clip=1, k=3).to_pylist()),
        lambda: _opened(store, lambda s: s.sql("FROM clips").to_pylist()),
        lambda: _opened(store, lambda s: s.sql("FROM recordings").to_pylist()),
        lambda: _opened(store, lambda s: s.info()),
        lambda: sleepfm_index.export(store, store.parent / "out" / "x.parquet"),
        lambda: sleepfm_index.delete(store, where="clip_id = 2"),
        lambda: sleepfm_index.compact(store),
    )
    (store.parent / "out").mkdir(exist_ok=True)
    for question in asked:
        try:
            question()
        except SleepFMError as error:
            assert "\n" not in str(error), f"not one sentence: {error}"


def _opened(store: Path, question: Callable[[sleepfm_index.Store], object]) -> None:
    with sleepfm_index.open(store, threads=1) as opened:
        question(opened)


def manifests(place: Path, draw: random.Random) -> None:
    store = place / "store"
    file = draw.choice([store / "manifest.json", *sorted((store / "snapshots").iterdir())])
    if draw.random() < 0.5:
        changed = flipped(file.read_bytes(), draw)
    else:  # one value of it, whatever its place
        plain = json.loads(file.read_bytes())
        inside, key = draw.choice(list(_places(plain)))
        inside[key] = draw.choice(ODD)
        changed = json.dumps(plain).encode()
    file.unlink()
    file.write_bytes(changed)
    ask(store)


def _places(plain: object):  # type: ignore[no-untyped-def]
    keys = (
        plain if isinstance(plain, dict) else range(len(plain)) if isinstance(plain, list) else ()
    )
    for key in keys:
        yield plain, key
        yield from _places(plain[key])  # type: ignore[index]


def private_files(place: Path, draw: random.Random) -> None:
    store = place / "store"
    file = draw.choice(sorted((store / "private").iterdir()))
    content = flipped(file.read_bytes(), draw)
    file.unlink()
    file.write_bytes(content)
    ask(store)
    for question in (private.files, private.key):
        try:
            question(store)
        except SleepFMError as error:
            assert "\n" not in str(error)


def labels(place: Path, draw: random.Random) -> None:
    store = place / "store"
    file = store / "labels" / "mine.jsonl"
    believed = read_labels(store, "mine")
    content = flipped(file.read_bytes(), draw)
    file.unlink()
    file.write_bytes(content)
    ask(store)
    given: set[object] = {*believed.values(), None}
    for question in (
        lambda: read_labels(store, "mine"),
        lambda: append_labels(store, "mine", [3], "later", "ak") and read_labels(store, "mine"),
        lambda: sleepfm_index.verify(store, repair=True) and read_labels(store, "mine"),
    ):
        try:
            found = {clip: label for clip, label in question().items() if label.value != "later"}
            assert set(found.values()) <= given, f"a label that nobody gave: {found}"
        except SleepFMError as error:
            assert "\n" not in str(error)


def tables(place: Path, draw: random.Random) -> None:
    store = place / "store"
    file = draw.choice(sorted(store.glob("segments/*/*.parquet")))
    if draw.random() < 0.5:
        content = flipped(file.read_bytes(), draw)
        file.unlink()
        file.write_bytes(content)
    else:
        with pa.OSFile(str(file), "rb") as source:
            table = pq.read_table(source)
        file.unlink()
        pq.write_table(_odd(table, draw), file, compression="zstd")
    agree(store)
    ask(store)


def _odd(table: pa.Table, draw: random.Random) -> pa.Table:
    at = draw.randrange(table.num_columns)
    name, n = table.column_names[at], len(table)
    odd = (
        pa.nulls(n, table.schema.field(at).type), pa.nulls(n), pa.array(["x"] * n),
        pa.array([-1] * n), pa.array([float("inf")] * n), pa.array([[1]] * n),
        pa.array([b"\xff\xfe"] * n), pa.array([True] * n), pa.array(["\x1b]52;c;x\x07\n"] * n),
    )  # fmt: skip
    how = draw.randrange(5)
    if how == 0:
        return table.drop_columns([name])
    if how == 1:
        rows = [draw.randrange(n) for _ in range(draw.choice((0, n, 3 * n)))]
        return table.take(pa.array(rows, pa.int64()))
    if how == 2:
        return table.append_column(draw.choice((name, name.upper(), "\n", "")), table[at])
    return table.set_column(at, name, draw.choice(odd))


def vectors(place: Path, draw: random.Random) -> None:
    _file(place, draw, "segments/*/*.arrow")


def indexes(place: Path, draw: random.Random) -> None:
    _file(place, draw, "indexes/*")


def _file(place: Path, draw: random.Random, pattern: str) -> None:
    store = place / "store"
    file = draw.choice(sorted(store.glob(pattern)))
    content = flipped(file.read_bytes(), draw)
    file.unlink()
    file.write_bytes(content)
    agree(store)
    ask(store)


def recordings(place: Path, draw: random.Random) -> None:
    whole = place / "nights" / "sim-0001.edf"
    content = whole.read_bytes()
    head = 256 * 12
    cut = draw.random() < 0.7  # most of what can go wrong stands in the header
    changed = flipped(content[:head], draw) + content[head:] if cut else flipped(content, draw)
    file = place / "n.edf"
    file.write_bytes(changed)
    try:
        recording = read_recording(file)
        for channel in recording.channels[:2]:
            channel.read()
    except SleepFMError as error:
        assert "\n" not in str(error)


SCORING = {
    "n.csv": b"onset_s,duration_s,stage\n0,30,W\n30,30,N1\n60,30,N2\n90,30,N3\n120,30,R\n",
    "n.txt": b"W\nW\nN1\nN2\nN2\nN3\nR\n",
    "n.tsv": b"onset\tduration\ttrial_type\n0\t30\tSleep stage W\n30\t10\tHypopnea\n",
    "n-nsrr.xml": b"""<?xml version="1.0"?><PSGAnnotation><EpochLength>30</EpochLength>
<ScoredEvents><ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>Stage 2 sleep|2
</EventConcept>
<Start>0.0</Start><Duration>60.0</Duration></ScoredEvent></ScoredEvents></PSGAnnotation>""",
    "n.annot": b"N1 . . 0 30 .\nN2 . . 30 60 .\narousal . . 40 44 .\n",
}


def scoring(place: Path, draw: random.Random) -> None:
    name = draw.choice(sorted(SCORING))
    (place / name).write_bytes(flipped(SCORING[name], draw))
    try:
        read_scoring(place / name, 82800.0, [], duration_s=3600.0)
    except SleepFMError as error:
        assert "\n" not in str(error)


def weights(place: Path, draw: random.Random) -> None:
    file = place / "w.safetensors"
    _safetensors(file, draw)
    clips = np.zeros((2, 1, ROBUST.clip_samples), np.float32)

    def judge() -> None:
        loaded = load_weights(str(file))
        known = loaded.distribution
        for modality, slots in loaded.contract.slots.items() if known else ():
            known.distance(modality, clips.repeat(len(slots), axis=1) + 1)

    for question in (judge, lambda: read_info(file), lambda: show(str(file), Format.table)):
        try:
            question()
        except SleepFMError as error:
            assert "\n" not in str(error)


def probes(place: Path, draw: random.Random) -> None:
    file = place / "p.safetensors"
    _safetensors(file, draw)
    try:
        load_probe(file)
        _opened(place / "store", lambda s: s.predict(file))
    except SleepFMError as error:
        assert "\n" not in str(error)


def _safetensors(file: Path, draw: random.Random) -> None:
    """Damage a file's header as text, or one value of it, or one of its arrays."""
    how = draw.randrange(3)
    if how == 0:
        _header(file, draw)
        return
    with safe_open(str(file), "numpy") as opened:
        known, arrays = opened.metadata(), {n: opened.get_tensor(n) for n in opened.keys()}  # noqa: SIM118
    if how == 1:
        key = draw.choice(sorted(known))
        try:
            plain = json.loads(known[key])
            inside, name = draw.choice(list(_places(plain)))
            inside[name] = draw.choice(ODD)
            known[key] = json.dumps(plain)
        except (ValueError, IndexError):  # no JSON, or nothing in it
            known[key] = draw.choice(("", "1", "x" * 10_000, "\x1b[31m", "[" * 10_000))
    else:
        name = draw.choice(sorted(arrays))
        array = np.atleast_1d(arrays[name])
        odd = (
            array * np.nan, array * np.inf, array * 0, array[..., :0], array.ravel(), array[None],
            array.astype(np.float16), array.astype(np.int8), array.astype(bool),
            np.repeat(array[None], 2, axis=-1), np.zeros((0, 1 << 40), np.float32),
        )  # fmt: skip
        if draw.random() < 0.2:
            del arrays[name]
        else:
            arrays[name] = np.ascontiguousarray(draw.choice(odd))
    file.unlink()
    save_file(arrays, file, known)


def _header(file: Path, draw: random.Random) -> None:
    """Damage the header of a safetensors file, whose length then agrees or does not."""
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = flipped(content[8 : 8 + size], draw)
    stated = len(header) if draw.random() < 0.8 else draw.choice((0, size, 1 << 62))
    file.unlink()
    file.write_bytes(stated.to_bytes(8, "little") + header + content[8 + size :])


WORDS = (
    "SELECT", "FROM", "clips", "events", "recordings", "WHERE", "*", "(", ")", ",", "stage", "'N2'",
    "COPY", "TO", "'x.csv'", "ATTACH", "'x.db'", "read_text('/etc/passwd')", "glob('/*')", "WITH",
    "x", "AS", "DELETE", "EXPLAIN", "ANALYZE", "CREATE", "TABLE", "UNION ALL", "count(*)",
    "1", "NULL", "-1", "ORDER BY", "LIMIT", "JOIN", "USING", "clip_id", "INSTALL", "LOAD", "SET",
    "GROUP BY",
    "PRAGMA", "::INTERVAL", "map{'a': 1}", "repeat('x', 1000)", "range(1000000)", ";", "--", "/*",
    "getenv('HOME')", "EXPORT DATABASE 'x'", "duckdb_settings()", "_deleted", "\x00", "\x1b[31m",
)  # fmt: skip


def sql(place: Path, draw: random.Random) -> None:
    with sleepfm_index.open(place / "store", threads=1) as store:
        before = _listing(place)
        for _ in range(40):
            words = [draw.choice(WORDS) for _ in range(draw.randrange(1, 12))]
            statement = " ".join(["SELECT * FROM clips"] * draw.randrange(2) + words)
            for question in (
                lambda s=statement: store.sql(s),
                lambda s=statement: store.metadata.clip_ids(s),
            ):
                try:
                    question()
                except SleepFMError as error:
                    assert "\n" not in str(error), repr(statement)
                except Exception as error:
                    raise AssertionError(f"{statement!r}: {error!r}") from error
        assert _listing(place) == before, "a statement wrote a file"


KINDS: dict[str, Kind] = {
    "manifests": manifests, "private": private_files, "labels": labels, "tables": tables,
    "vectors": vectors, "indexes": indexes, "recordings": recordings, "scoring": scoring,
    "weights": weights, "probes": probes, "sql": sql,
}  # fmt: skip


@dataclass
class Tally:
    """Tries of each kind, and every fault with the seed that shows it again."""

    tries: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def _store(place: Path) -> None:
    store = drawn_store(place / "store", {"a": 12, "b": 9, "c": 9})
    for name in "abc":
        private.remember_file(store, name, place / f"{name}.edf")
    private.key(store)
    append_labels(store, "mine", [1, 2, 2, 20], "odd", "ak")
    append_labels(store, "mine", [2], None, "ak")
    sleepfm_index.tag(store, "kept")
    sleepfm_index.annotate(store, {"recording_id": ["a"], "site2": ["x"]})


def _night(place: Path) -> None:
    simulate_cohort(place / "nights", subjects=1, hours=0.05)


def _weights(place: Path) -> None:
    data = Path(sleepfm_index.__file__).parents[2] / "sleepfm/encoders/data"
    demo = read_weights(data / "demo.safetensors")
    spectra = {}
    for modality, slots in demo.contract.slots.items():
        shape = (len(slots), BANDS)
        unit = np.broadcast_to(np.eye(BANDS, dtype=np.float32), (*shape, BANDS)).copy()
        parts = np.zeros(shape, np.float32), np.ones(shape, np.float32), unit
        spectra[modality] = Spectra(*parts, np.ones((MIN_CALIBRATING, len(slots)), np.float32))
    known = TrainingDistribution(demo.contract, spectra, 5, MIN_CALIBRATING, 100)
    replace(demo, distribution=known, sha256="").save(place / "w.safetensors")


def _probe(place: Path) -> None:
    from sleepfm_index.evaluation.models.probe import fit_probe
    from sleepfm_index.evaluation.models.probe_kinds import save_probe

    _store(place)
    with sleepfm_index.open(place / "store") as opened:
        save_probe(fit_probe(opened, "stage", "bas"), place / "p.safetensors")


SOUND = {"recordings": _night, "weights": _weights, "probes": _probe, "scoring": lambda _: None}
"""What is damaged, by kind; a store with an index, a tag and a key for all others."""


def attempt(kind: str, seed: int, folder: Path) -> str:
    """Try once; say what went wrong, or nothing."""
    make = SOUND.get(kind, _store)
    base, outside = folder / make.__name__, folder / "outside"
    if not base.exists():
        base.mkdir()
        outside.mkdir(exist_ok=True)
        said = forked(lambda: make(base), outside)
        if said:
            raise SystemExit(said)
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        shutil.copytree(base, place / "p")
        before = _listing(outside) | _listing(base)
        problem = forked(lambda: KINDS[kind](place / "p", random.Random(seed)), outside)
        if _listing(outside) | _listing(base) != before:
            problem = problem or "a file outside was written"
        return problem
    finally:
        shutil.rmtree(place)


def forked(work: Callable[[], object], folder: Path) -> str:
    """Do some work in a child with limits; say how it failed, or nothing."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            os.chdir(folder)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY,) * 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
            signal.alarm(TIME_S)
            work()
        except BaseException:
            os.write(write, traceback.format_exc()[-4000:].encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        said = file.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number in (signal.SIGALRM, signal.SIGXCPU):
            return "it hangs"
        return f"killed by {signal.Signals(number).name}"
    return said


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        found[str(path)] = (stat.st_size, stat.st_mtime_ns)
    return found


def run(seconds: float, seed: int, only: list[str] | None) -> Tally:
    """Try kind after kind until the time is over."""
    tally = Tally()
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        while time.monotonic() < end:
            for kind in only or KINDS:
                problem = attempt(kind, seed, folder)
                tally.tries[kind] += 1
                if problem:
                    tally.faults.append(f"--only {kind} --seed {seed}: {problem}")
                    print(tally.faults[-1], flush=True)
                if time.monotonic() > end:
                    break
            seed += 1
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(KINDS))
    asked = parser.parse_args()
    start = time.monotonic()
    np.seterr(all="ignore")
    tally = run(asked.seconds, asked.seed, asked.only)
    for kind, count in tally.tries.items():
        print(f"{kind:12s} {count:6d} tries")
    print(f"{tally.tries.total()} tries in {time.monotonic() - start:.0f} s, "
          f"{len(tally.faults)} faults")  # fmt: skip
    sys.exit(1 if tally.faults else 0)


if __name__ == "__main__":
    main()
