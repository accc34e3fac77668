"""Progress of a build: a live line in a terminal, otherwise a line every ten seconds, and a log."""

from __future__ import annotations

import json
import os
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
"""Seconds between two lines without a terminal."""


class BuildProgress:
    """Counter and display of a build's progress.

    Parameters
    ----------
    log : file, optional
        Receives one line of JSON per recording and a last one with the totals.
    file_names : bool
        Write file names to the log.
    """

    def __init__(self, log: IO[str] | None = None, file_names: bool = True) -> None:
        self._log = log
        self._file_names = file_names
        self._bar: Progress | None = None
        self._start = self._shown = time.monotonic()
        self._worked = 0
        self.done = self.total = self.failed = self.added = self.clips = 0
        self.hours = 0.0

    def outcome(self, outcome: Outcome) -> None:
        """Count and log the outcome of one more file.

        Parameters
        ----------
        outcome : Outcome
            Outcome of the file.
        """
        if not self._worked:
            # Skipped recordings take almost no time and must not distort the estimate.
            self._start = self._start if outcome.status != "already there" else time.monotonic()
        self._worked += outcome.status != "already there"
        self.done += 1
        self.added += outcome.status == "added"
        self.failed += outcome.status == "failed"
        self.clips += outcome.clips
        self.hours += outcome.hours
        if outcome.status == "failed":
            say(f"failed: {outcome.file.name}: {outcome.reason}", "red")
        self._note(outcome)

    def __call__(self, done: int, total: int) -> None:
        """Update the display; see :class:`~sleepfm.progress.Progress`.

        Parameters
        ----------
        done, total : int
            Number of completed files, and of all files.
        """
        self.done, self.total = done, total
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, figures=self.line)
        elif done == total or time.monotonic() - self._shown >= _EVERY_S:
            self._shown = time.monotonic()
            say(self.line)

    @property
    def line(self) -> str:
        """The state of the build in one line."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        words = [f"{self.done}/{self.total} recordings", f"{self.clips:,} clips"]
        if self.clips:
            words += [
                f"{self.clips / seconds:,.0f} clips/s",
                f"{self.hours / seconds:.1f} h of sleep per second",
            ]
        words.append(f"{self.failed} failed")
        if self.added and self.done < self.total:
            remaining = seconds / self._worked * (self.total - self.done)
            words.append(f"{_span(remaining)} left")
        return ", ".join(words)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the line in a ``with`` block, while the build runs."""
        if not messages.is_terminal:
            yield
            return
        columns = (SpinnerColumn(), BarColumn(20), TextColumn("{task.fields[figures]}"))
        with Progress(*columns, console=messages, transient=True) as self._bar:
            self._bar.add_task("", total=None, figures="looking for recordings")
            yield
        self._bar = None

    def summary(self, **more: object) -> None:
        """Write the last line of the log.

        Parameters
        ----------
        **more : object
            Further entries; JSON values.
        """
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
    """Open a log for appending, in a ``with`` block.

    Parameters
    ----------
    path : Path or None
        The log; None for no log.

    Yields
    ------
    file or None
        None if there is no path.
    """
    if path is None:
        yield None
        return
    # It contains names of recordings, so only its owner may read it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with os.fdopen(os.open(path, flags, 0o600), "a", encoding="utf-8") as log:
        yield log


def _span(seconds: float) -> str:
    units: Sequence[tuple[str, float]] = (("h", 3600), ("min", 60), ("s", 1))
    name, size = next((u for u in units if seconds >= 1.5 * u[1]), units[-1])
    return f"{seconds / size:.0f} {name}"
