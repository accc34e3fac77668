"""Parallel calls of one function in separate processes, with results in order.

Each process runs one call at a time, so memory is bounded by their number. If a process dies, only
its own call is affected; that call is repeated once in a new process. The processes are plain
interpreters, not forks: no lock or thread of the parent is copied into them, and a script that
builds a store needs no ``if __name__ == "__main__"``.
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
from pathlib import Path
from typing import Any, Final

_TRIES: Final = 2
_AHEAD: Final = 4
"""Maximum number of results per process that wait for an earlier one."""


@dataclass(frozen=True)
class Died:
    """The result of a call whose process died on both attempts.

    Parameters
    ----------
    why : str
        The cause, as a clause for a message.
    """

    why: str


def results(
    function: Callable[[Any, Any], Any], context: object, jobs: Iterable[Any], count: int
) -> Generator[Any]:
    """Call ``function(context, job)`` for every job, in ``count`` processes.

    Parameters
    ----------
    function : callable
        Function at the top level of a module, with results that can be pickled.
    context : object
        First argument of the function, sent to each process once.
    jobs : iterable
        Second arguments; consumed as processes become free, a bounded number ahead of the results.
    count : int
        Number of processes.

    Yields
    ------
    object
        The results, or :class:`Died`, in the order of the jobs. The processes end with the
        generator.
    """
    start = pickle.dumps((function, context), pickle.HIGHEST_PROTOCOL)
    pending = enumerate(jobs)
    done: dict[int, Any] = {}
    next_number = 0
    processes = [_Process(start) for _ in range(count)]
    try:
        while True:
            for process in processes:
                if process.job is None and len(done) < _AHEAD * count:
                    process.give(next(pending, None))
            while next_number in done:
                yield done.pop(next_number)
                next_number += 1
            busy = {p.connection: p for p in processes if p.job is not None}
            if not busy:
                return
            for connection in wait(list(busy)):
                process = busy[connection]  # type: ignore[index]
                number = process.number
                result = process.take()
                if result is not process:
                    done[number] = result
    finally:
        for process in processes:
            process.end()


class _Process:
    """An interpreter at the other end of a socket, started with its first job."""

    def __init__(self, start: bytes) -> None:
        self._start = start
        self._child: subprocess.Popen[bytes] | None = None
        self.connection: Connection[Any, Any]
        self.number = -1
        self.job: Any = None
        self._tries = 0

    def give(self, numbered: tuple[int, Any] | None) -> None:
        """Send a numbered job; None is ignored."""
        if numbered is None:
            return
        self.number, self.job = numbered
        self._tries = 0
        self._send()

    def take(self) -> Any:
        """Receive the result; return the process itself if it died and the job was sent again."""
        try:
            answer = self.connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            why = self._reap()
            if self._tries < _TRIES:
                self._send()
                return self
            answer = Died(why)
        self.job = None
        return answer

    def end(self) -> None:
        """Kill the process."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self.connection.close()
            self._child = None

    def _send(self) -> None:
        self._tries += 1
        if self._child is None:
            self._begin()
        # A process that has already died is detected when its result is awaited.
        with suppress(OSError):
            self.connection.send(self.job)

    def _begin(self) -> None:
        parent_end, child_end = socket.socketpair()
        with child_end:
            self._child = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-c",
                    f"from {__name__} import serve; serve({child_end.fileno()})",
                ],
                pass_fds=[child_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Ctrl-C must reach the parent only, which ends the others.
                start_new_session=True,
                env=os.environ | safe_path(),
            )
        self.connection = Connection(parent_end.detach())
        with suppress(OSError):
            self.connection.send_bytes(self._start)

    def _reap(self) -> str:
        """Clean up a process that died, and describe the cause."""
        assert self._child is not None
        self._child.kill()
        code = self._child.wait()
        self.connection.close()
        self._child = None
        if code >= 0:
            return f"its process ended with exit status {code}"
        hint = ", possibly out of memory: try fewer --workers" if code == -signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-code).name}{hint}"


def safe_path() -> dict[str, str]:
    """Environment for a Python process with the same imports, but none from the current folder.

    An empty entry of ``sys.path`` is the current folder, where somebody may have placed a
    ``numpy.py`` next to the recordings.
    """
    kept = [str(Path(p).absolute()) for p in sys.path if p and Path(p).is_absolute()]
    return {"PYTHONPATH": os.pathsep.join(kept), "PYTHONSAFEPATH": "1"}


def serve(handle: int) -> None:
    """Run the jobs that arrive through a socket, until its other end is closed.

    Parameters
    ----------
    handle : int
        File descriptor of the socket.
    """
    with Connection(handle) as connection, suppress(EOFError, OSError):
        function, context = pickle.loads(connection.recv_bytes())
        while True:
            connection.send(function(context, connection.recv()))
