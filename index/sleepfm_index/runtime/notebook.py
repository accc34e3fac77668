"""A progress line below a notebook cell, the default without a progress callback."""

from __future__ import annotations

import html
import sys
from typing import Any


class CellLine:
    """A line below a notebook cell, which each call replaces.

    Parameters
    ----------
    display : callable
        ``IPython.display.display``.
    html_class : callable
        ``IPython.display.HTML``.
    """

    def __init__(self, display: Any, html_class: Any) -> None:
        self._html_class = html_class
        self._handle = display(html_class(""), display_id=True)

    def show(self, text: str, share: float | None = None) -> None:
        """Replace the line, with an optional progress bar before it.

        Parameters
        ----------
        text : str
            Text of the line.
        share : float, optional
            Completed share of the work, 0 to 1.
        """
        bar = "" if share is None else f'<progress value="{share:.3f}" max="1"></progress> '
        self._handle.update(self._html_class(f"{bar}{html.escape(text)}"))


def cell_line() -> CellLine | None:
    """Return a line below the running cell; None outside of a notebook.

    This imports nothing: a notebook has loaded IPython already.
    """
    if "ipykernel" not in sys.modules or "IPython" not in sys.modules:
        return None
    shell = sys.modules["IPython"].get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    display = sys.modules.get("IPython.display")
    return None if display is None else CellLine(display.display, display.HTML)
