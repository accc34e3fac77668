"""Scripts of benchmarks/ and experiments/ in this process.

The Python commands that they start and wait for run here, too, because a process of its own spends
seconds on imports alone. A command that they talk to or watch while it runs is a real process.
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from unittest import mock

from sleepfm_cli.main import main

ROOT: Final = Path(__file__).resolve().parents[1]
_RUN: Final = subprocess.run
_POPEN: Final = subprocess.Popen


def run(script: str, *words: object) -> str:
    """Run ``python script words`` to its end; return what it has printed on standard output."""
    before = None
    if torch := sys.modules.get("torch"):
        before = torch.get_num_threads()
    try:
        with (
            mock.patch.object(subprocess, "run", _run),
            mock.patch.object(subprocess, "Popen", _popen),
            mock.patch.object(os, "nice", lambda more: 0),  # it could not be taken back
        ):
            status, out = _python([str(ROOT / script), *map(str, words)], os.environ)
    finally:
        if before:
            sys.modules["torch"].set_num_threads(before)
    if status:
        raise SystemExit(status)
    return out


def _python(words: Sequence[str], env: Mapping[str, str]) -> tuple[int | str, str]:
    """Run a command of Python; return its exit status and what it has printed."""
    what, *rest = words
    if what == "-P":
        return _python(rest, env)
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    first = rest[0] if what in ("-m", "-c") else what
    path = [*filter(None, env.get("PYTHONPATH", "").split(os.pathsep)), *sys.path]
    if first is what:
        path.insert(0, str(Path(first).parent))
    with (
        contextlib.redirect_stdout(out),
        mock.patch.object(sys, "argv", [first, *rest[1:]] if first is not what else list(words)),
        mock.patch.object(sys, "path", path),
        mock.patch.dict(os.environ, env, clear=True),
    ):
        status: object = 0
        try:
            if what == "-c":
                exec(compile(first, "-c", "exec"), {"__name__": "__main__"})
            elif what == "-m":
                assert first == "sleepfm_cli.main"
                main()
            else:
                runpy.run_path(first, run_name="__main__")
        except SystemExit as end:
            status = end.code
    printed = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    return status if isinstance(status, int | str) else int(status is not None), printed


def _here(command: Sequence[object], options: Mapping[str, Any]) -> tuple[int, str] | None:
    """Run a command in this process if it is one of Python that is left alone until its end."""
    if isinstance(command, str) or command[0] != sys.executable or options.get("stdin"):
        return None
    if command[1] == "-u":  # its output is read while it runs
        return None
    status, out = _python([str(word) for word in command[1:]], options.get("env") or os.environ)
    if isinstance(status, str):
        print(status, file=sys.stderr)
        status = 1
    return status, out


def _run(command: Sequence[object], **options: Any) -> subprocess.CompletedProcess[Any]:
    done = _here(command, options)
    if done is None:
        return _RUN(command, **options)  # type: ignore[call-overload, no-any-return]
    status, out = done
    if not options.get("capture_output") and options.get("stdout") != subprocess.PIPE:
        print(out, end="", file=options.get("stdout") or sys.stdout)
    if status and options.get("check"):
        raise subprocess.CalledProcessError(status, [str(word) for word in command], out)
    return subprocess.CompletedProcess(
        command, status, out if options.get("text") else out.encode()
    )


def _popen(command: Sequence[object], **options: Any) -> Any:
    if options.get("stdout") != subprocess.PIPE:
        return _POPEN(command, **options)  # type: ignore[call-overload]
    done = _here(command, options)
    return _POPEN(command, **options) if done is None else _Ended(*done)  # type: ignore[call-overload]


class _Ended:
    """A process that has ended, as far as the scripts ask."""

    def __init__(self, status: int, out: str) -> None:
        self.returncode, self.pid, self._out = status, os.getpid(), out

    def communicate(self) -> tuple[str, None]:
        return self._out, None

    def poll(self) -> int:
        return self.returncode
