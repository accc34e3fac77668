"""Text of scoring files: decoding, lines and cells."""

from __future__ import annotations

import codecs
import csv
import itertools
import re
from pathlib import Path
from typing import Final

from sleepfm.errors import AnnotationError

MAX_BYTES: Final = 64 * 2**20
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """Read a scoring file as UTF-8, UTF-16 with a byte order mark, or otherwise latin-1.

    Parameters
    ----------
    path : Path
        Scoring file.

    Returns
    -------
    str

    Raises
    ------
    AnnotationError
        If the file is larger than ``MAX_BYTES`` or not a text file.
    """
    if path.stat().st_size > MAX_BYTES:
        raise AnnotationError(f"is larger than {MAX_BYTES // 2**20} MiB")
    return decoded(path.read_bytes())


def decoded(raw: bytes) -> str:
    """Decode bytes by their byte order mark, otherwise as UTF-8 if valid, otherwise as latin-1.

    Parameters
    ----------
    raw : bytes
        Content of a file, or its beginning.

    Returns
    -------
    str

    Raises
    ------
    AnnotationError
        If the bytes are not text.
    """
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            # The start of a file may end within a character.
            return codecs.getincrementaldecoder(encoding)("replace").decode(raw)
    if b"\0" in raw:
        odd, even = raw[1::2], raw[::2]
        if odd and odd.count(0) > 0.9 * len(odd) and 0 not in even:
            return raw.decode("utf-16-le", "replace")
        raise AnnotationError("is not a text file")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def lines_of(text: str) -> list[str]:
    """Split a text into lines, without empty ones.

    Parameters
    ----------
    text : str
        Text of a file.

    Returns
    -------
    list of str
        Lines without line endings.
    """
    return [line for line in re.split(r"\r\n|\r|\n", text) if line.strip("\ufeff \t")]


def refuse_gaps(text: str, first: str) -> None:
    """Refuse a list of epochs with an empty line, which would shift later epochs.

    Parameters
    ----------
    text : str
        Text of a file.
    first : str
        First line of the list, stripped; lines above it are ignored.

    Raises
    ------
    AnnotationError
        If a line between two others is empty, unless every second line is.
    """
    ignored = '\ufeff\t ,;"'
    lines = [line.strip(ignored) for line in re.split(r"\r\n|\r|\n", text)]
    numbered = [(number, line) for number, line in enumerate(lines, 1) if not line.startswith("#")]
    start = next((i for i, (_, line) in enumerate(numbered) if line == first.strip(ignored)), 0)
    filled = [i for i, (_, line) in enumerate(numbered) if line and i >= start]
    steps = {b - a for a, b in itertools.pairwise(filled)}
    if len(steps) > 1 or max(steps, default=1) > 2:
        empty = next(number for number, line in numbered[start:] if not line)
        raise AnnotationError(
            f"has an empty line among its stages, line {empty}; write ? for an epoch that is not "
            "scored, or number the epochs"
        )


def delimiter_of(line: str) -> str:
    """Return the delimiter of a line: tab, semicolon, comma or bar, otherwise a space.

    Parameters
    ----------
    line : str
        Line of a table.

    Returns
    -------
    str
        One character.
    """
    best = max("\t;,|", key=line.count)
    return best if line.count(best) else " "


def cells_of(lines: list[str], delimiter: str) -> list[list[str]]:
    """Split each line into its cells, stripped.

    Parameters
    ----------
    lines : list of str
        Lines of a table.
    delimiter : str
        One character; a space stands for two or more spaces or a tab.

    Returns
    -------
    list of list of str

    Raises
    ------
    AnnotationError
        If the lines are not a table.
    """
    if delimiter == " ":
        return [re.split(r"\s{2,}|\t", line.strip()) for line in lines]
    try:
        rows = csv.reader(lines, delimiter=delimiter)
        return [[cell.strip().strip("\ufeff") for cell in row] for row in rows]
    except csv.Error as error:
        raise AnnotationError("is not a table") from error
