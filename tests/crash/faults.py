"""A disk that fails on purpose: every call that changes it is counted, and one of them goes wrong.

Installed in a process of its own, in place of the functions of :mod:`os` that change a disk.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALLS = ("write", "fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir")

_write, _fsync, _readlink = os.write, os.fsync, os.readlink
_rename, _link, _rmdir = os.rename, os.link, os.rmdir


class Faults:
    """Counts steps, and lets one of them go wrong.

    Parameters
    ----------
    at : int
        The step that goes wrong, from 0; -1 for none.
    how : {"kill", "torn", "power", "raise"}
        ``kill``: the process ends before the step. ``torn``: a write is done by half first.
        ``power``: the process ends, and nothing that was not synced is on the disk, neither
        content nor names. ``raise``: the step fails with ``errno``.
    errno : int
        What the step fails with; it stays failed for the same kind of call where ``lasting``.
    aside : Path
        Folder outside the store, on the same file system, for what ``power`` may have to undo.
    """

    def __init__(self, at: int, how: str, aside: Path, errno: int = 0, lasting: bool = False):
        self._at, self._how, self._errno, self._lasting = at, how, errno, lasting
        self._aside = aside
        self._unsynced: dict[tuple[int, int], tuple[int, int]] = {}
        self._names: list[tuple[set[str], Callable[[], object]]] = []
        self.steps: list[str] = []

    def install(self) -> None:
        for name in CALLS:
            setattr(os, name, self._wrapped(name, getattr(os, name)))

    def finish(self) -> None:
        """End the run; the power may go just then, and what was promised must be there."""
        if self._how == "power" and len(self.steps) == self._at:
            self._lose_what_is_not_synced()

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self._step(name, args)
            undo = self._before(name, args, options) if self._how == "power" else None
            result = real(*args, **options)
            if self._how == "power":
                self._after(name, args, undo)
            return result

        return call

    def _step(self, name: str, args: tuple[Any, ...]) -> None:
        step = len(self.steps)
        self.steps.append(name)
        failing = self._lasting and step > self._at >= 0 and name == self.steps[self._at]
        if step != self._at and not failing:
            return
        if self._how == "raise":
            raise OSError(self._errno, os.strerror(self._errno))
        if self._how == "torn" and name == "write":
            _write(args[0], memoryview(args[1])[: len(args[1]) // 2])
        if self._how == "power":
            self._lose_what_is_not_synced()
        os.kill(os.getpid(), signal.SIGKILL)

    # What is not synced, and how it is undone

    def _before(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if name == "fsync":
            return None
        if name == "write":
            return os.fstat(args[0]).st_size
        target = _path(args[1] if name in ("replace", "rename", "link") else args[0], options)
        kept = self._aside / str(len(self.steps))
        if name in ("replace", "rename", "unlink") and os.path.isfile(target):
            _link(target, kept)
            return target, kept
        return target, None

    def _after(self, name: str, args: tuple[Any, ...], undo: Any) -> None:
        if name == "write":
            # By an open file, because its name may change before it is synced.
            stat = os.fstat(args[0])
            if (stat.st_dev, stat.st_ino) not in self._unsynced:
                self._unsynced[stat.st_dev, stat.st_ino] = (os.dup(args[0]), undo)
        elif name == "fsync":
            stat = os.fstat(args[0])
            # what is synced stays, whatever is appended to it
            self._unsynced.pop((stat.st_dev, stat.st_ino), None)
            folder = _readlink(f"/proc/self/fd/{args[0]}")
            for folders, _ in self._names:
                folders.discard(folder)
            self._names = [entry for entry in self._names if entry[0]]
        else:
            target, kept = undo
            folders = {os.path.dirname(os.path.realpath(target))}
            self._names.append((folders, lambda: _undo(name, args, target, kept)))

    def _lose_what_is_not_synced(self) -> None:
        for file, synced in self._unsynced.values():
            os.ftruncate(file, synced)
        for _, undo in reversed(self._names):
            undo()


def _undo(name: str, args: tuple[Any, ...], target: str, kept: Path | None) -> None:
    if name in ("replace", "rename") and os.path.exists(target):
        _rename(target, args[0])
    elif name == "link" and os.path.exists(target):
        os.remove(target)
    elif name == "mkdir":
        shutil.rmtree(target, ignore_errors=True)
    elif name == "rmdir":
        os.makedirs(target, exist_ok=True)
    if kept is not None and not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _link(kept, target)


def _path(path: Any, options: dict[str, Any]) -> str:
    folder = options.get("dir_fd")
    text = os.fspath(path)
    return text if folder is None else os.path.join(_readlink(f"/proc/self/fd/{folder}"), text)
