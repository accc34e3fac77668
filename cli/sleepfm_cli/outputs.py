"""Where answers and files go: checks of output paths, and answers written to a file."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer

from sleepfm.atomic_write import check_writable, write_file
from sleepfm_cli.options import Format
from sleepfm_cli.render import say

ANSWERS: Final = (".csv", ".json", ".parquet")
"""Extensions of files to which an answer can be written."""


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


@dataclass(frozen=True)
class Destination:
    """Where an answer goes.

    Parameters
    ----------
    format : Format
        Format of the answer.
    path : Path, optional
        File to write; standard output if None.
    """

    format: Format
    path: Path | None = None

    def show(self, write: Callable[[], None]) -> None:
        """Call what writes an answer to standard output; with a path, that goes to the file."""
        if self.path is None:
            write()
            return

        def to_file(temporary: Path) -> None:
            with (
                temporary.open("wb") as file,
                io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True) as text,
                contextlib.redirect_stdout(text),
            ):
                write()

        write_file(self.path, to_file)
        say(f"wrote {self.path}")


def destination(out: Path | None, format: Format) -> Destination:  # noqa: A002
    """Return where an answer goes; the extension of a file decides its format."""
    if out is None:
        return Destination(format)
    expect_output(out, ANSWERS)
    by_name = Format(out.suffix[1:].lower())
    if format not in (Format.table, by_name):
        raise typer.BadParameter(f"--format {format.value} contradicts the name {out.name}")
    return Destination(by_name, out)
