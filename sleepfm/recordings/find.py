"""Finding recordings in folders, globs and cohort lists."""

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
    """A recording to read: signal file, and scoring file and id if a cohort list gives them.

    Parameters
    ----------
    path : Path
        Signal file.
    annotations : Path, optional
        Scoring file, if a cohort list names one.
    id : str, optional
        Recording id, if a cohort list gives one.
    """

    path: Path
    annotations: Path | None = None
    id: str | None = None

    @property
    def stem(self) -> str:
        """Id from the cohort list, or otherwise the file name without its extension."""
        return self.id or signal_stem(self.path)


@dataclass(frozen=True)
class LeftOut:
    """A file that is not read, with the reason.

    Parameters
    ----------
    path : Path
        The file.
    reason : str
        Reason why it is not read.
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

    Folders are searched recursively; symbolic links are followed, and each real folder is visited
    once. A ``.csv`` is a cohort list (columns id, signal file, annotation file; a header line is
    optional), a ``.lst`` is a Luna sample list (the same columns, separated by tabs); relative
    paths are relative to the folder of the list. If a stem exists in several formats, the first of
    ``SIGNAL_ENDINGS`` is used.

    Parameters
    ----------
    paths : iterable of str or Path
        Files, folders, globs or cohort lists.

    Returns
    -------
    Found
        Recordings, and files left out.

    Raises
    ------
    RecordingError
        If a path does not exist, a list cannot be read, or there is no recording at all.
    """
    paths = list(paths)
    files: dict[Path, RecordingFile] = {}
    left_out: list[LeftOut] = []
    for pattern in paths:
        for item in _expand(pattern):
            files.setdefault(item.path.resolve(), item)
    kept: list[RecordingFile] = []
    by_key: dict[tuple[Path, str], RecordingFile] = {}
    for item in sorted(files.values(), key=_preference):
        key = (item.path.parent, item.stem)
        if key in by_key:
            other = by_key[key].path.name
            left_out.append(LeftOut(item.path, f"duplicate of {other} (that one is used)"))
        elif item.id is None and _is_scoring(item.path):
            left_out.append(LeftOut(item.path, "holds annotations, not signals"))
        else:
            by_key[key] = item
            kept.append(item)
    if not kept:
        raise RecordingError(
            f"there is no recording in {', '.join(str(p) for p in paths) or 'nothing'} "
            f"(looked for {', '.join(SIGNAL_ENDINGS)})"
        )
    order = {path: i for i, path in enumerate(files)}
    kept.sort(key=lambda item: order[item.path.resolve()])
    return Found(tuple(kept), tuple(left_out))


def refuse_shared_ids(recordings: Iterable[RecordingFile]) -> None:
    """Refuse recordings of which two have the same id, such as ``night1.edf`` of two people.

    Parameters
    ----------
    recordings : iterable of RecordingFile
        Recordings that are told apart by their ids, because subjects and known values refer to
        them.

    Raises
    ------
    RecordingError
        If two recordings have the same id.
    """
    first: dict[str, Path] = {}
    for item in recordings:
        other = first.setdefault(item.stem, item.path)
        if other is not item.path:
            raise RecordingError(
                f"two recordings are called {item.stem}: {other} and {item.path}; give them ids of "
                "their own in a cohort list (columns id, signal file), or rename one"
            )


def _preference(item: RecordingFile) -> tuple[str, int, str]:
    lower = item.path.name.lower()
    rank = next((i for i, e in enumerate(SIGNAL_ENDINGS) if lower.endswith(e)), 99)
    return (item.stem, rank, str(item.path))


def _is_scoring(path: Path) -> bool:
    return path.name.lower().endswith((".edf", ".bdf", ".rec")) and is_annotations_only(path)


def _expand(pattern: str | Path) -> Iterator[RecordingFile]:
    path = Path(pattern).expanduser()
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
            raise RecordingError(f"there is no file or folder {pattern}")
        for match in matches:
            yield from _expand(match) if Path(match).is_dir() else [RecordingFile(Path(match))]


def _walk(folder: Path) -> Iterator[Path]:
    """Yield signal files below a folder, in order; link loops end, as folders are visited once."""
    seen: set[tuple[int, int]] = set()

    def visit(directory: Path) -> Iterator[Path]:
        try:
            status = directory.stat()
            entries = sorted(os.scandir(directory), key=lambda e: e.name)
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
                    folders.append(directory / entry.name)
                elif entry.name.lower().endswith(SIGNAL_ENDINGS):
                    yield directory / entry.name
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
