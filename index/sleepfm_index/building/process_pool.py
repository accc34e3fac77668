"""Calls of one function in processes of their own, answered in order.

Each process does one call at a time and holds what that call needs, so memory is bounded by their
number. One that dies takes only its own call with it, which is tried once more in a fresh one. The
processes are plain interpreters, not forks: no lock or thread of this process is copied into them,
and a script that builds a store needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Final

_TRIES: Final = 2
_AHEAD: Final = 4
"""Answers that may wait for an earlier one, per process."""


@dataclass(frozen=True)
class Died:
    """What is given in place of an answer: the process died, twice; ``why`` is half a sentence."""

    why: str


def answers(
    function: Callable[[Any, Any], Any], context: object, jobs: Iterable[Any], count: int
) -> Generator[Any]:
    """Call ``function(context, job)`` for every job, in ``count`` processes.

    Parameters
    ----------
    function : callable
        Found by its name in a module; what it gives can be pickled.
    context : object
        Sent to each process once.
    jobs : iterable
        Taken as processes become free, a bounded number ahead of the answers.
    count : int
        Processes.

    Yields
    ------
    object
        The answers, or :class:`Died`, in the order of the jobs. The processes end with the
        generator.
    """
    start = pickle.dumps((function, context), pickle.HIGHEST_PROTOCOL)
    waiting = enumerate(jobs)
    done: dict[int, Any] = {}
    following = 0
    processes = [_Process(start) for _ in range(count)]
    try:
        while True:
            for process in processes:
                if process.job is None and len(done) < _AHEAD * count:
                    process.give(next(waiting, None))
            while following in done:
                yield done.pop(following)
                following += 1
            busy = {p.connection: p for p in processes if p.job is not None}
            if not busy:
                return
            for connection in wait(list(busy)):
                process = busy[connection]  # type: ignore[index]
                number = process.number
                found = process.take()
                if found is not process:
                    done[number] = found
    finally:
        for process in processes:
            process.end()


class _Process:
    """An interpreter at the other end of a socket, started when it is first given a job."""

    def __init__(self, start: bytes) -> None:
        self._start = start
        self._child: subprocess.Popen[bytes] | None = None
        self.connection: Connection[Any, Any]
        self.number = -1
        self.job: Any = None
        self._tries = 0

    def give(self, numbered: tuple[int, Any] | None) -> None:
        """Send a job; None is none."""
        if numbered is None:
            return
        self.number, self.job = numbered
        self._tries = 0
        self._send()

    def take(self) -> Any:
        """Give the answer; itself if the process died and was given the job again."""
        try:
            answer = self.connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            why = self._buried()
            if self._tries < _TRIES:
                self._send()
                return self
            answer = Died(why)
        self.job = None
        return answer

    def end(self) -> None:
        """Kill the process, whatever it does."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self.connection.close()
            self._child = None

    def _send(self) -> None:
        self._tries += 1
        if self._child is None:
            self._begin()
        # A process that is dead already is met when the answer is waited for.
        with suppress(OSError):
            self.connection.send(self.job)

    def _begin(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # so that Ctrl-C reaches this process alone, which ends the others
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)},
            )
        self.connection = Connection(ours.detach())
        with suppress(OSError):
            self.connection.send_bytes(self._start)

    def _buried(self) -> str:
        assert self._child is not None
        self._child.kill()
        code = self._child.wait()
        self.connection.close()
        self._child = None
        if code >= 0:
            return f"its process ended with exit status {code}"
        hint = (
            ", perhaps for want of memory: try fewer --workers" if code == -signal.SIGKILL else ""
        )
        return f"its process was ended by {signal.Signals(-code).name}{hint}"


def serve(handle: int) -> None:
    """Answer the jobs that come through a socket, until its other end is closed."""
    with Connection(handle) as connection, suppress(EOFError, OSError):
        function, context = pickle.loads(connection.recv_bytes())
        while True:
            connection.send(function(context, connection.recv()))
