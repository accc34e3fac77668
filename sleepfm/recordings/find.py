"""Finding recordings."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sleepfm.errors import RecordingError
from sleepfm.recordings.edf import is_annotations_only
from sleepfm.recordings.signals import SIGNAL_ENDINGS, signal_stem


@dataclass(frozen=True)
class RecordingFile:
    """A recording to read: its signal file, its scoring where a list names one, and its name.

    Parameters
    ----------
    path : Path
        Signal file.
    annotations : Path, optional
        Scoring file, where a cohort list names one.
    id : str, optional
        Name, where a cohort list gives one.
    """

    path: Path
    annotations: Path | None = None
    id: str | None = None

    @property
    def stem(self) -> str:
        """The id that the list gave, else the file's name without its ending."""
        return self.id or signal_stem(self.path)


@dataclass(frozen=True)
class LeftOut:
    """A file that is not read, and why.

    Parameters
    ----------
    path : Path
        The file.
    reason : str
        Why it is not read.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Found:
    """Recordings in a stable order, and the files left out.

    Parameters
    ----------
    recordings : tuple of RecordingFile
        Recordings to read.
    left_out : tuple of LeftOut
        Files that are not read.
    """

    recordings: tuple[RecordingFile, ...]
    left_out: tuple[LeftOut, ...]


def find_recordings(paths: Iterable[str | Path]) -> Found:
    """Find recordings in folders, globs, files and cohort lists.

    A folder is searched to its bottom, symbolic links included, each real folder once. A ``.csv``
    names recordings (columns id, signal file, annotation file; a header line is optional), a
    ``.lst`` is a Luna sample list (the same, separated by tabs); their relative paths start at the
    list's folder. Where one stem has several forms the first of ``SIGNAL_ENDINGS`` is taken.

    Parameters
    ----------
    paths : iterable of str or Path
        What the user named.

    Raises
    ------
    RecordingError
        If a path does not exist, a list cannot be read, or there is no recording at all.
    """
    paths = list(paths)
    files: dict[Path, RecordingFile] = {}
    left: list[LeftOut] = []
    for given in paths:
        for item in _expand(given):
            files.setdefault(item.path.resolve(), item)
    kept: list[RecordingFile] = []
    forms: dict[tuple[Path, str], RecordingFile] = {}
    for item in sorted(files.values(), key=_preference):
        form = (item.path.parent, item.stem)
        if form in forms:
            other = forms[form].path.name
            left.append(LeftOut(item.path, f"duplicate of {other} (that one is used)"))
        elif item.id is None and _is_scoring(item.path):
            left.append(LeftOut(item.path, "holds annotations, not signals"))
        else:
            forms[form] = item
            kept.append(item)
    if not kept:
        raise RecordingError(
            f"there is no recording in {', '.join(str(p) for p in paths) or 'nothing'} "
            f"(looked for {', '.join(SIGNAL_ENDINGS)})"
        )
    order = {path: i for i, path in enumerate(files)}
    kept.sort(key=lambda item: order[item.path.resolve()])
    return Found(tuple(kept), tuple(left))


def _preference(item: RecordingFile) -> tuple[str, int, str]:
    lower = item.path.name.lower()
    rank = next((i for i, e in enumerate(SIGNAL_ENDINGS) if lower.endswith(e)), 99)
    return (item.stem, rank, str(item.path))


def _is_scoring(path: Path) -> bool:
    return path.name.lower().endswith((".edf", ".bdf", ".rec")) and is_annotations_only(path)


def _expand(given: str | Path) -> Iterator[RecordingFile]:
    path = Path(given).expanduser()
    if path.is_dir():
        for file in _walk(path):
            yield RecordingFile(file)
    elif path.suffix.lower() in (".csv", ".lst"):
        yield from _read_list(path)
    elif path.exists() or path.is_symlink():
        yield RecordingFile(path)
    else:
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        if not matches:
            raise RecordingError(f"there is no file or folder {given}")
        for match in matches:
            yield from _expand(match) if Path(match).is_dir() else [RecordingFile(Path(match))]


def _walk(folder: Path) -> Iterator[Path]:
    """Signal files below a folder, in order; every real folder once, so that link loops end."""
    seen: set[tuple[int, int]] = set()

    def visit(here: Path) -> Iterator[Path]:
        try:
            status = here.stat()
            entries = sorted(os.scandir(here), key=lambda e: e.name)
        except OSError:
            return
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        folders = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    folders.append(here / entry.name)
                elif entry.name.lower().endswith(SIGNAL_ENDINGS):
                    yield here / entry.name
            except OSError:
                continue
        for child in folders:
            yield from visit(child)

    yield from visit(folder)


def _read_list(path: Path) -> Iterator[RecordingFile]:
    delimiter = "\t" if path.suffix.lower() == ".lst" else ","
    try:
        if not path.is_file():
            raise OSError
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise OSError
        rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f"the cohort list {path.name} cannot be read as text") from error
    if rows and _is_heading(rows[0]):
        rows = rows[1:]
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if len(cells) < 2 or not cells[1]:
            raise RecordingError(
                f"row {number} of the cohort list {path.name} must be: id, signal file, "
                "and optionally an annotation file"
            )
        scoring = cells[2] if len(cells) > 2 and cells[2] not in ("", ".") else None
        yield RecordingFile(
            path=path.parent / cells[1],
            annotations=path.parent / scoring if scoring else None,
            id=cells[0] or None,
        )


def _is_heading(row: Sequence[str]) -> bool:
    file = row[1].strip().lower() if len(row) > 1 else ""
    return bool(file) and "." not in file
