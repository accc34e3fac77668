"""Where an answer is to be written, looked at before the work that gives it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from sleepfm.atomic_write import check_writable
from sleepfm_cli.render import say


def expect_output(
    path: Path | None, endings: Collection[str] = (), *, folder: bool = False
) -> None:
    """Refuse a place that cannot be written to, and say if something there will be replaced."""
    if path is None:
        return
    check_writable(path, endings, folder=folder)
    if path.is_file():
        say(f"{path} is there already and will be replaced", "yellow")


def load_matplotlib() -> None:
    """Import matplotlib from elsewhere than the current folder, whose matplotlibrc it would obey.

    The folder may be a stranger's. A matplotlibrc of the user's own counts.
    """
    with contextlib.suppress(ImportError), contextlib.chdir(Path(__file__).parent):
        import matplotlib as _  # noqa: F401


def expect_figure(path: Path | None) -> None:
    """Refuse a figure of an unknown format as well; see :func:`expect_output`."""
    if path is not None:
        load_matplotlib()
        from sleepfm_index.evaluation.figures.panels import endings

        expect_output(path, endings())
