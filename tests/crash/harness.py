"""Kill the writer at every step, at random times and by every fault of a disk; nothing may be lost.

python tests/crash/harness.py            every point; prints points tried and losses
python tests/crash/harness.py --every 10 one in ten of them

Every point runs in a child process made by fork, and so does every check, so that neither knows
anything but what is on the disk. Where there is a memory file system the stores lie on it: what
has not been synced when the power goes is dropped by :mod:`faults`, not by luck.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# Whatever is imported on first use is imported here, once, and not again in every forked child.
import pyarrow.dataset  # noqa: F401
from faults import Faults
from scenarios import SCENARIOS, Scenario
from stores import content

import sleepfm_index
from sleepfm_index.runtime.threads import faiss
from sleepfm_index.storage import private
from sleepfm_index.storage.paths import MANIFEST

for _name in sleepfm_index.__all__:
    getattr(sleepfm_index, _name)
faiss()  # its threads begin with its first search

RANDOM_TIMES = 200
KINDS = ("kill", "torn", "power", "ENOSPC", "EIO", "random times")


@dataclass
class Tally:
    """Points tried, and what went wrong at any of them."""

    points: dict[tuple[str, str], int] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)

    def note(self, scenario: str, kind: str, problem: str, where: str) -> None:
        self.points[scenario, kind] = self.points.get((scenario, kind), 0) + 1
        if problem:
            self.losses.append(f"{scenario}, {kind} at {where}: {problem}")
            print(self.losses[-1], flush=True)


class Trial:
    """One scenario: the store before, what it holds before and after, and the steps between."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.scenario: Scenario = SCENARIOS[name]
        self._folder = folder
        self._base = folder / "base"
        _answer(lambda: self.scenario.prepare(self._base))
        place = self.copy()
        start = time.monotonic()
        self.steps: list[str] = _answer(lambda: self._stepped(place))
        self.seconds = time.monotonic() - start
        self.states = [_answer(lambda: self._held(self._base))]
        place = self.copy()
        for part in self.scenario.parts:
            _answer(lambda part=part: part(place) and None)
            self.states.append(_answer(lambda: self._held(place)))
        assert self.steps and all(state is None or "clips" in state for state in self.states)

    def copy(self) -> Path:
        """Give a copy of the store before, in a place of its own."""
        place = self._folder / "store"
        for old in (place, self._folder / "aside"):
            shutil.rmtree(old, ignore_errors=True)
        (self._folder / "aside").mkdir()
        if self._base.exists():
            shutil.copytree(self._base, place)
        return place

    def faulted(self, at: int, how: str, number: int = 0) -> str:
        """Run the command with one step going wrong; say what was lost, or nothing."""
        place = self.copy()

        def work() -> str:
            faults = Faults(at, how, self._folder / "aside", number, lasting=number != 0)
            faults.install()
            try:
                self.scenario.run(place)
                faults.finish()
            except OSError as error:
                return "" if error.errno == number else f"{error!r} is not the fault"
            return ""  # a fault that the command could go on without

        if how == "raise":
            return _answer(work) or self.check(place, clean=self.steps[at] == "write")
        child = _fork(work)
        os.waitpid(child, 0)
        return self.check(place, done=at == len(self.steps))

    def killed_after(self, seconds: float) -> str:
        """Run the command, and kill it after a time."""
        place = self.copy()
        child = _fork(lambda: self.scenario.run(place))
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return self.check(place)

    def check(self, place: Path, clean: bool = False, done: bool = False) -> str:
        """Open, verify, compare, run again, compare; in a process that knows only the disk."""

        def work() -> str:
            held = self._held(place)
            if held not in (self.states[-1:] if done else self.states):
                return "the store is neither as before nor as after a commit"
            if (place / MANIFEST).exists():
                found = sleepfm_index.verify(place)
                if not found.ok:
                    return f"verify: {found.findings}"
                if clean and any(f.where.endswith(".tmp") for f in found.findings):
                    return f"a full disk was left fuller: {found.findings}"
            self.scenario.run(place)
            if self._held(place) != self.states[-1]:
                return "the same command, run again, does not complete"
            found = sleepfm_index.verify(place)
            if not found.ok:
                return f"verify after the command was run again: {found.findings}"
            if self.name == "compact" and found.findings:
                return f"compact, run again, left {found.findings}"
            return ""

        return str(_answer(work))

    def _held(self, place: Path) -> dict[str, Any] | None:
        held = _held(place)
        if held is not None and self.scenario.files:
            held["files"] = {name: str(file) for name, file in private.files(place).items()}
        return held

    def _stepped(self, place: Path) -> list[str]:
        faults = Faults(-1, "kill", self._folder / "aside")
        faults.install()
        self.scenario.run(place)
        return faults.steps


def points(steps: list[str]) -> Iterator[tuple[str, str, int, int]]:
    """Every point of a run: (kind, how, step, errno)."""
    for at, name in enumerate(steps):
        yield "kill", "kill", at, 0
        yield "power", "power", at, 0
        if name == "write":
            yield "torn", "torn", at, 0
        if name in ("write", "mkdir", "link", "rename", "replace"):
            yield "ENOSPC", "raise", at, errno.ENOSPC
        if name in ("write", "fsync"):
            yield "EIO", "raise", at, errno.EIO
    yield "kill", "kill", len(steps), 0
    yield "power", "power", len(steps), 0


def run(
    every: int = 1,
    times: int = RANDOM_TIMES,
    seed: int = 0,
    names: list[str] | None = None,
    kinds: list[str] | None = None,
) -> Tally:
    """Try one in ``every`` points of each scenario, and random times over all of them."""
    tally = Tally()
    rng = random.Random(seed)
    names = names or list(SCENARIOS)
    with _place() as folder:
        for name in names:
            (folder / name).mkdir()
            trial = Trial(name, folder / name)
            chosen = [p for p in points(trial.steps) if p[0] in (kinds or KINDS)]
            for kind, how, at, number in chosen[rng.randrange(every) :: every]:
                problem = trial.faulted(at, how, number)
                step = trial.steps[at] if at < len(trial.steps) else "the end"
                tally.note(name, kind, problem, f"step {at} ({step})")
            for _ in range(-(-times // len(names))):
                seconds = rng.uniform(0, 1.2 * trial.seconds)
                tally.note(name, "random times", trial.killed_after(seconds), f"{seconds:.4f} s")
            shutil.rmtree(folder / name)
            print(row(tally, name), flush=True)
    return tally


def row(tally: Tally, name: str) -> str:
    """One line of the table: the points of a scenario by kind."""
    counts = [tally.points.get((name, kind), 0) for kind in KINDS]
    return f"{name:20s}" + "".join(f"{n:14d}" for n in counts)


def _held(store: Path) -> dict[str, Any] | None:
    """All that a store holds; None where there is none yet."""
    if not (store / MANIFEST).exists():
        return None
    with sleepfm_index.open(store, threads=1) as opened:
        clips = {str(i): [repr(part) for part in row] for i, row in content(opened).items()}
        tables = ("events", "recordings")
        rest = {t: repr(opened.sql(f"FROM {t} ORDER BY ALL").to_pylist()) for t in tables}
        labels = opened.sql("SELECT * EXCLUDE labelled_at FROM labels ORDER BY ALL")
        rest["labels"] = repr(labels.to_pylist())
    return {"clips": clips, **rest} if clips else None


def _answer(work: Callable[[], Any]) -> Any:
    """Do some work in a forked child, and give what it returns."""
    read, write = os.pipe()
    put = os.write

    def child() -> None:
        try:
            result = json.dumps(work(), default=str)
        except BaseException:
            result = json.dumps("the check failed: " + traceback.format_exc())
        data = result.encode()
        while data:
            data = data[put(write, data) :]

    pid = _fork(child)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return json.loads(answer) if answer else "the check died"


def _fork(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


@contextmanager
def _place() -> Iterator[Path]:
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK)
    with tempfile.TemporaryDirectory(dir=memory if usable else None) as folder:
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="try one in so many points")
    parser.add_argument("--times", type=int, default=RANDOM_TIMES, help="random times to kill at")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(SCENARIOS))
    parser.add_argument("--kind", action="append", choices=KINDS)
    asked = parser.parse_args()
    start = time.monotonic()
    print(f"{'points tried':20s}" + "".join(f"{kind:>14s}" for kind in KINDS), flush=True)
    tally = run(asked.every, asked.times, asked.seed, asked.only, asked.kind)
    print(
        f"\n{sum(tally.points.values())} points tried in {time.monotonic() - start:.0f} s, "
        f"{len(tally.losses)} losses"
    )
    sys.exit(1 if tally.losses else 0)


if __name__ == "__main__":
    main()
