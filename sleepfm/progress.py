"""Reports of long-running functions: :class:`Progress` counts steps, :data:`Notice` takes messages.

Functions take them as ``progress=`` and ``notice=``. Structured results along the way have typed
callbacks of their own: ``build(outcome=)`` and ``sleepfm.training.data.TrainingCallbacks``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Called after each step of a long-running function, in the calling process."""

    def __call__(self, done: int, total: int, /) -> object:
        """Report one more step.

        Parameters
        ----------
        done, total : int
            Completed steps, and all steps.
        """


Notice = Callable[[str], object]
"""Called with each message for the user, one sentence."""
