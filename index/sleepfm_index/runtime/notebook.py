"""A line of progress in a notebook's cell, where nobody asked for anything else."""

from __future__ import annotations

import html
import sys
from typing import Any


class CellLine:
    """A line below a notebook's cell that is written anew each time.

    Parameters
    ----------
    display : callable
        ``IPython.display.display``.
    kind : callable
        ``IPython.display.HTML``.
    """

    def __init__(self, display: Any, kind: Any) -> None:
        self._kind = kind
        self._handle = display(kind(""), display_id=True)

    def show(self, text: str, share: float | None = None) -> None:
        """Write a line, with a bar before it.

        Parameters
        ----------
        text : str
            What is done.
        share : float, optional
            Share of the work that is done, 0 to 1.
        """
        bar = "" if share is None else f'<progress value="{share:.3f}" max="1"></progress> '
        self._handle.update(self._kind(f"{bar}{html.escape(text)}"))


def cell_line() -> CellLine | None:
    """Return a line below the running cell; None outside of a notebook.

    Nothing is imported for it: a notebook has IPython already.
    """
    if "ipykernel" not in sys.modules or "IPython" not in sys.modules:
        return None
    shell = sys.modules["IPython"].get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    display = sys.modules.get("IPython.display")
    return None if display is None else CellLine(display.display, display.HTML)
