"""The command line in this process: one of its own spends a second on imports alone."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sleepfm_cli.main import main


def run(*words: str | Path, cwd: Path | None = None, width: int = 80) -> CompletedProcess[bytes]:
    """Call ``sleepfm-index`` with some words; give its exit status and what it has written.

    What belongs to a process (terminals, signals, imports) is tested in one of its own.
    """
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)
    )
    code: object = 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setenv("COLUMNS", str(width))
        patch.setattr(sys, "argv", ["sleepfm-index", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            code = end.code
    said = [stream.buffer.getvalue() for stream in (out, err)]  # type: ignore[attr-defined]
    status = 0 if code is None else code if isinstance(code, int) else 1
    return CompletedProcess(words, status, *said)
