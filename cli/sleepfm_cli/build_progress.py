"""How a build is followed: a line that moves in a terminal, else a line now and then; and a log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from sleepfm_cli.render import messages, say

if TYPE_CHECKING:
    from sleepfm_index.building.pipeline import Outcome

_EVERY_S: Final = 10.0
"""Between two lines where there is no terminal."""


class BuildProgress:
    """Counts what a build does.

    Parameters
    ----------
    log : file, optional
        Gets a line of JSON for every recording, and a last one for the whole.
    file_names : bool
        Whether the log may name files.
    """

    def __init__(self, log: IO[str] | None = None, file_names: bool = True) -> None:
        self._log = log
        self._file_names = file_names
        self._bar: Progress | None = None
        self._start = self._shown = time.monotonic()
        self._worked = 0
        self.done = self.total = self.failed = self.added = self.clips = 0
        self.hours = 0.0

    def __call__(self, outcome: Outcome, done: int, total: int) -> None:
        """Take note of one more file."""
        if not self._worked:
            # What is there already takes no time to speak of, and says nothing about the rest.
            self._start = self._start if outcome.status != "already there" else time.monotonic()
        self._worked += outcome.status != "already there"
        self.done, self.total = done, total
        self.added += outcome.status == "added"
        self.failed += outcome.status == "failed"
        self.clips += outcome.clips
        self.hours += outcome.hours
        if outcome.status == "failed":
            say(f"failed: {outcome.file.name}: {outcome.reason}", "red")
        self._note(outcome)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, figures=self.line)
        elif done == total or time.monotonic() - self._shown >= _EVERY_S:
            self._shown = time.monotonic()
            say(self.line)

    @property
    def line(self) -> str:
        """Where the build stands."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        words = [f"{self.done}/{self.total} recordings", f"{self.clips:,} clips"]
        if self.clips:
            words += [
                f"{self.clips / seconds:,.0f} clips/s",
                f"{self.hours / seconds:.1f} h of sleep per second",
            ]
        words.append(f"{self.failed} failed")
        if self.added and self.done < self.total:
            left = seconds / self._worked * (self.total - self.done)
            words.append(f"{_span(left)} left")
        return ", ".join(words)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the line while the build is running."""
        if not messages.is_terminal:
            yield
            return
        columns = (SpinnerColumn(), BarColumn(20), TextColumn("{task.fields[figures]}"))
        with Progress(*columns, console=messages, transient=True) as self._bar:
            self._bar.add_task("", total=None, figures="looking for recordings")
            yield
        self._bar = None

    def summary(self, **more: object) -> None:
        """Write the last line of the log."""
        seconds = time.monotonic() - self._start
        self._write(
            event="build",
            recordings=self.total,
            done=self.done,
            added=self.added,
            failed=self.failed,
            clips=self.clips,
            hours=round(self.hours, 3),
            seconds=round(seconds, 3),
            **more,
        )

    def _note(self, outcome: Outcome) -> None:
        named = {"file": outcome.file.name} if self._file_names else {}
        self._write(
            event="recording",
            number=self.done,
            **named,
            recording_id=outcome.recording_id,
            status=outcome.status,
            reason=outcome.reason,
            clips=outcome.clips,
            hours=round(outcome.hours, 3),
            seconds={phase: round(s, 3) for phase, s in outcome.seconds.items()},
            warnings=outcome.warnings,
        )

    def _write(self, **entry: object) -> None:
        if self._log is not None:
            self._log.write(json.dumps(entry) + "\n")
            self._log.flush()


@contextmanager
def opened_log(path: Path | None) -> Iterator[IO[str] | None]:
    """Open a log to be added to; None stays None."""
    if path is None:
        yield None
        return
    with path.open("a", encoding="utf-8") as log:
        yield log


def _span(seconds: float) -> str:
    units: Sequence[tuple[str, float]] = (("h", 3600), ("min", 60), ("s", 1))
    name, size = next((u for u in units if seconds >= 1.5 * u[1]), units[-1])
    return f"{seconds / size:.0f} {name}"
