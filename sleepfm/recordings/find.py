"""Which files are recordings, and which annotation files belong to them."""

from __future__ import annotations

import csv
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sleepfm.errors import RecordingError
from sleepfm.recordings.edf import is_annotations_only

SIGNAL_ENDINGS: Final = (
    ".edf", ".rec", ".bdf", ".hea", ".fif", ".fif.gz", ".set", ".vhdr", ".gdf", ".cnt",
)  # fmt: skip
"""Endings of signal files, the preferred form of one recording first."""

ANNOTATION_ENDINGS: Final = (
    ".xml", ".annot", ".eannot", ".tsv", ".csv", ".txt", ".stg", ".hyp", ".st", ".arousal", ".mat",
    ".edf",
)  # fmt: skip
"""Endings of scoring files, the preferred one first."""

_SUFFIX: Final = re.compile(
    r"^[._-]?(nsrr|profusion|stg|hypnogram|hypno|hyp|stages?|staging|sleepscoring|scoring|scored"
    r"|events?|annotations?|annot|arousal|psg|xml|)$",
    re.IGNORECASE,
)
_SLEEP_EDF: Final = re.compile(r"^(S[CT]\d{4})[A-Z0-9]{2}-(PSG|Hypnogram)$", re.IGNORECASE)
_PARTS_OF_OTHERS: Final = (".dat", ".eeg", ".vmrk", ".fdt", ".mat")


@dataclass(frozen=True)
class RecordingFile:
    """A recording to read: its signal file, its scoring where a list names one, and its name."""

    path: Path
    annotations: Path | None = None
    id: str | None = None

    @property
    def stem(self) -> str:
        """The id that the list gave, else the file's name without its ending."""
        return self.id or signal_stem(self.path)


@dataclass(frozen=True)
class LeftOut:
    """A file that is not read, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Found:
    """Recordings in a stable order, and the files left out."""

    recordings: tuple[RecordingFile, ...]
    left_out: tuple[LeftOut, ...]


def signal_stem(path: Path) -> str:
    """File name without the ending of a signal file (``a.b.edf`` gives ``a.b``)."""
    lower = path.name.lower()
    for ending in sorted(SIGNAL_ENDINGS, key=len, reverse=True):
        if lower.endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


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
            left.append(LeftOut(item.path, f"another form of {other}, which is read"))
        elif item.id is None and _is_scoring(item.path):
            left.append(LeftOut(item.path, "holds annotations, not signals"))
        else:
            forms[form] = item
            kept.append(item)
    if not kept:
        raise RecordingError(
            f"There is no recording in {', '.join(str(p) for p in paths) or 'nothing'} "
            f"(looked for {', '.join(SIGNAL_ENDINGS)})."
        )
    order = {path: i for i, path in enumerate(files)}
    kept.sort(key=lambda item: order[item.path.resolve()])
    return Found(tuple(kept), tuple(left))


def find_annotations(path: Path) -> tuple[Path, ...]:
    """Scoring files beside a recording: same stem, or the stem and a suffix such as ``-nsrr``.

    Sleep-EDF's pairs (``SC4001E0-PSG.edf``, ``SC4001EC-Hypnogram.edf``) are known.
    """
    stem = signal_stem(path)
    pair = _SLEEP_EDF.match(stem)
    bids = re.sub(r"_(eeg|ieeg|meg)$", "", stem)
    beside = []
    try:
        names = sorted(os.listdir(path.parent))  # noqa: PTH208, a cohort's folder is listed often
    except OSError:
        return ()
    for name in names:
        lower = name.lower()
        if not (name.startswith(bids) or (pair and _SLEEP_EDF.match(name.rpartition(".")[0]))):
            continue
        other = path.parent / name
        if other == path or not lower.endswith(ANNOTATION_ENDINGS):
            continue
        base = name.rpartition(".")[0]
        match = _SLEEP_EDF.match(base)
        if not other.is_file():
            continue
        if pair and match and match.group(1) == pair.group(1) and match.group(2) != pair.group(2):
            beside.append(other)
            continue
        for start in {stem, bids}:
            if base.startswith(start) and _SUFFIX.match(base[len(start) :]):
                if base == start and lower.endswith((".mat", ".edf")):
                    continue  # the signal itself, or its other form
                beside.append(other)
                break
    return tuple(sorted(beside, key=lambda p: (_annotation_rank(p), p.name)))


def _annotation_rank(path: Path) -> int:
    lower = path.name.lower()
    return next(i for i, e in enumerate(ANNOTATION_ENDINGS) if lower.endswith(e))


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
            raise RecordingError(f"There is no file or folder {given}.")
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
        raise RecordingError(f"The cohort list {path.name} cannot be read as text.") from error
    if rows and _is_heading(rows[0]):
        rows = rows[1:]
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if len(cells) < 2 or not cells[1]:
            raise RecordingError(
                f"Row {number} of the cohort list {path.name} must be: id, signal file, "
                "and optionally an annotation file."
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
