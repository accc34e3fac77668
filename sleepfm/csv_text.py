"""Tables exported from spreadsheets: encoding, delimiter and cells."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from pathlib import Path
from typing import Final

from sleepfm.errors import SubjectsError

_MAX_BYTES: Final = 1 << 28
_DELIMITERS: Final = (",", ";", "\t", "|")


def same_id(text: str) -> str:
    """Normalise an id for comparison: Unicode NFC, without surrounding spaces.

    Parameters
    ----------
    text : str
        Id as written.

    Returns
    -------
    str
    """
    return unicodedata.normalize("NFC", text).strip()


def decoded(path: Path, notes: list[str]) -> str:
    """Read a file as text, in UTF-8, UTF-16 or Windows-1252.

    Parameters
    ----------
    path : Path
        Table of subjects.
    notes : list of str
        A note is appended if the encoding was guessed.

    Returns
    -------
    str

    Raises
    ------
    SubjectsError
        If the file cannot be read, or is not text.
    """
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            raise SubjectsError(
                f"{path.name} cannot be read as a table of subjects: it is not a file, or too large"
            )
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise SubjectsError(
            f"{path.name} cannot be read as a table of subjects: {reason}"
        ) from error
    encodings = ["utf-16"] if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        if encoding == "cp1252":
            notes.append(
                f"{path.name} is not UTF-8; it was read as Windows-1252 (Western European): check "
                "letters with accents, or save it as UTF-8"
            )
        return text
    raise SubjectsError(
        f"{path.name} cannot be read as a table of subjects: it is not text; save it as CSV UTF-8"
    )


def csv_cells(source: str, text: str) -> tuple[list[str], list[tuple[int, list[str]]], bool]:
    """Split a CSV into column names and cells.

    Parameters
    ----------
    source : str
        Name of the file, for messages.
    text : str
        Content of the file.

    Returns
    -------
    names : list of str
        Column names.
    lines : list of (int, list of str)
        Line number and cells of each row, one cell per name.
    decimal_comma : bool
        Whether 40,5 is a number, as the delimiter is not a comma.

    Raises
    ------
    SubjectsError
        If the text is not CSV, or a line has more cells than the header.
    """
    lines = text.splitlines(keepends=True)
    skipped = 0
    delimiter = None
    if lines and re.fullmatch(r"sep=(.)\s*", lines[0]):  # as Excel writes it
        delimiter, skipped = lines[0][4], 1
    header = lines[skipped] if len(lines) > skipped else ""
    if delimiter is None:
        delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO("".join(lines[skipped:])), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num + skipped, row) for row in reader]
    except csv.Error as error:
        raise SubjectsError(
            f"{source}, line {reader.line_num + skipped} cannot be read as CSV: {error}"
        ) from error
    rows = [(number, row) for number, row in rows if any(cell.strip() for cell in row)]
    if not rows:
        raise SubjectsError(f"{source} cannot be read as a table of subjects: it is empty")
    names = [same_id(name) for name in rows[0][1]]
    if "=" in names[0] and delimiter not in header:
        raise SubjectsError(f"{source} cannot be read as a table of subjects: it has no header")
    body = rows[1:]
    for number, row in body:
        if any(cell.strip() for cell in row[len(names) :]):
            raise SubjectsError(
                f"{source}, line {number} has {len(row)} cells, the header has {len(names)}"
            )
        row[len(names) :] = []
        row += [""] * (len(names) - len(row))
    # A trailing comma in every line does not make a column.
    used = [
        index
        for index, name in enumerate(names)
        if name or any(row[index].strip() for _, row in body)
    ]
    body = [(number, [row[index] for index in used]) for number, row in body]
    return [names[index] for index in used], body, delimiter != ","
