"""Steps of a long run: each runs once, and its CPU time is recorded."""

from __future__ import annotations

import json
import resource
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Steps:
    """The steps of a run, recorded in ``steps.json`` of its folder.

    Parameters
    ----------
    folder : Path
        Made if there is none.
    settings : mapping of str to object
        What decides the result; a folder of other settings is refused.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "steps.json"
        self._state: dict[str, Any] = {"settings": settings, "done": [], "cpu_s": {}, "printed": {}}
        if self._path.exists():
            self._state = json.loads(self._path.read_text())
        if self._state["settings"] != json.loads(json.dumps(settings)):
            sys.exit(f"{folder} is of a run with other settings; name another --folder")

    def run(self, name: str, words: Sequence[object]) -> str:
        """Run a Python command unless it is done, and return its output.

        Its processor time is counted when it ends, by itself or by Ctrl-C.

        Parameters
        ----------
        name : str
            Of the step.
        words : sequence
            A script or ``-m`` and a module, and its arguments.
        """
        if name not in self._state["done"]:
            command = [sys.executable, *map(str, words)]
            print("$ python", shlex.join(command[1:]), file=sys.stderr, flush=True)
            before = _children_s()
            try:
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            finally:
                spent = self._state["cpu_s"]
                spent[name] = round(spent.get(name, 0.0) + _children_s() - before, 1)
                self._save()
            if done.returncode:
                sys.exit(done.returncode)
            self._state["printed"][name] = done.stdout
            self._state["done"].append(name)
            self._save()
        printed: str = self._state["printed"][name]
        return printed

    def tool(self, name: str, *words: object) -> str:
        """Run the command ``sleepfm-index`` as a step.

        Parameters
        ----------
        name : str
            Of the step.
        *words
            Its arguments.
        """
        return self.run(name, ("-m", "sleepfm_cli.main", *words))

    def pretrain(self, name: str, out: Path, *words: object) -> Path:
        """Pretrain as a step, or resume where it was interrupted.

        Parameters
        ----------
        name : str
            Of the step.
        out : Path
            The weights file.
        *words
            Further arguments of ``pretrain``.
        """
        begun = out.with_name(f"{out.stem}.checkpoint.pt").exists()
        self.tool(name, "pretrain", *words, "--out", out, *(["--resume"] if begun else []))
        return out

    def cpu_minutes(self, *names: str) -> float:
        """Return the CPU minutes of some steps, over all finished or interrupted runs.

        Parameters
        ----------
        *names
            Names of steps; by default all.
        """
        spent = self._state["cpu_s"]
        return float(sum(spent.get(name, 0.0) for name in names or spent)) / 60

    def _save(self) -> None:
        aside = self._path.with_suffix(".tmp")
        aside.write_text(json.dumps(self._state, indent=1))
        aside.replace(self._path)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
