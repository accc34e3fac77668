"""Checks of output paths before the work that produces the output."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from sleepfm.atomic_write import check_writable
from sleepfm_cli.render import say


def expect_output(
    path: Path | None, endings: Collection[str] = (), *, folder: bool = False
) -> None:
    """Refuse a path that cannot be written, and warn if a file will be replaced."""
    if path is None:
        return
    check_writable(path, endings, folder=folder)
    if path.is_file():
        say(f"{path} is there already and will be replaced", "yellow")


def load_matplotlib() -> None:
    """Import matplotlib from another folder, so that a matplotlibrc in the current one is ignored.

    The current folder may be untrusted. The matplotlibrc in the user's configuration applies.
    """
    with contextlib.suppress(ImportError), contextlib.chdir(Path(__file__).parent):
        import matplotlib as _  # noqa: F401


def expect_figure(path: Path | None) -> None:
    """Refuse a figure of an unknown format as well; see :func:`expect_output`."""
    if path is not None:
        load_matplotlib()
        from sleepfm_index.evaluation.figures.panels import endings

        expect_output(path, endings())
