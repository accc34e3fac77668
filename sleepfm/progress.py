"""How long work tells of its progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Called after each step of long work, in the process that asked for it."""

    def __call__(self, done: int, total: int, /) -> object:
        """Take note of a step.

        Parameters
        ----------
        done, total : int
            Steps that are done, and all steps.
        """


Notice = Callable[[str], object]
"""Called with each sentence that a person should read."""
