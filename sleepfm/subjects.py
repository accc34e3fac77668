"""Reading and checking of subjects.csv, the table of subjects and recordings.

It is used by stores and by training. Nothing is guessed silently: an invalid cell is refused with
its line number, and a value that is read in another way than written causes a note.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sleepfm.column_names import KNOWN, Kind, check_names
from sleepfm.csv_text import csv_cells, decoded, same_id
from sleepfm.errors import SubjectsError
from sleepfm.recordings.identifying_names import identifying_value

Value = str | int | float | bool | None

KEYS: Final = ("recording_id", "subject_id")
"""Possible key columns of a table; the first that it has is used."""

OLDEST: Final = 89.0
"""Ages above this one are pooled, as required by the HIPAA safe harbour (45 CFR
164.514(b)(2)(i)(C))."""

_RANGES: Final = {
    "nsrr_age": (0.0, 120.0, "years"),
    "nsrr_bmi": (5.0, 150.0, "kg/m2"),
    "nsrr_ahi_hp3r_aasm15": (0.0, 250.0, "events per hour"),
}
_SEXES: Final = {
    "male": "male", "m": "male", "man": "male",
    "female": "female", "f": "female", "w": "female", "woman": "female",
    "other": "other",
}  # fmt: skip
_OTHER_KEY_NAMES: Final = {
    "id", "recording", "record", "record_id", "file", "filename", "name", "night", "study",
    "study_id", "participant_id", "subject",
}  # fmt: skip

_EMPTY: Final = frozenset({"", "na", "n/a", "nan", "null", "none", "nil", ".", "-", "missing"})
_CODES: Final = frozenset({-9.0, -99.0, -999.0, -9999.0, 999.0, 9999.0})
"""Codes for missing numbers, in columns whose range excludes them."""
_TRUE: Final = frozenset({"true", "yes", "y", "1", "t"})
_FALSE: Final = frozenset({"false", "no", "n", "0", "f"})
_INTEGER: Final = re.compile(r"-?(?:0|[1-9]\d{0,14})")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
_DECIMAL_COMMA: Final = re.compile(r"(-?(?:0|[1-9]\d*)),(\d+)")
_QUOTED_COMMA: Final = re.compile(r"(-?(?:0|[1-9]\d*)),(\d{1,2})")
"""Decimal comma in a comma-separated file, where three digits may be thousands."""
_OVER_89: Final = re.compile(
    r"(?:>|over)\s*89|(?:>=|\u2265)\s*90|(?:89|90)\s*(?:\+|and over|or older)"
)
"""Notations for ages that are not given exactly, in lower case."""


@dataclass(frozen=True)
class SubjectTable:
    """A checked table of subjects.

    Parameters
    ----------
    key : {"recording_id", "subject_id"}
        Key column.
    columns : dict of str to str
        Type of every other column, in order: ``text``, ``integer``, ``number`` or ``boolean``.
    rows : dict of str to dict
        Values of the columns by key; None for missing values.
    notes : tuple of str
        Notes for the user on values read in another way than written, one sentence each.
    """

    key: str
    columns: Mapping[str, Kind]
    rows: Mapping[str, Mapping[str, Value]]
    notes: tuple[str, ...] = ()


def alike_id(text: str) -> str:
    """Reduce an id to a form in which spelling variants are equal.

    Case and Unicode form are normalised; file extension and separators are removed. Ids with equal
    reduced forms are not considered the same, but are suggested to the user.

    Parameters
    ----------
    text : str
        Id as written.

    Returns
    -------
    str
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = re.sub(r"\.(edf|bdf|rec|hea|fif|fif\.gz|set|vhdr|gdf|cnt)$", "", folded.strip())
    return re.sub(r"[\s_.-]+", "", folded)


def read_subjects(
    path: Path,
    *,
    keys: Sequence[str] = KEYS[:1],
    reserved: Callable[[str], bool] = lambda _: False,
    allow_identifying: bool = False,
) -> SubjectTable:
    """Read and check a table of subjects.

    Parameters
    ----------
    path : Path
        CSV in UTF-8, UTF-16 or Windows-1252, with comma, semicolon, tab or bar as delimiter; unless
        the delimiter is a comma, ``40,5`` is a number.
    keys : sequence of str
        Possible key columns; the first that the table has is used.
    reserved : callable, optional
        Returns whether a column name is reserved.
    allow_identifying : bool
        Whether columns that look identifying are accepted.

    Returns
    -------
    SubjectTable
        The checked table.

    Raises
    ------
    SubjectsError
        If the file cannot be read, or a column or cell is invalid; the message names the line.
    """
    notes: list[str] = []
    text = decoded(path, notes)
    names, lines, decimal_comma = csv_cells(path.name, text)
    return check_subjects(
        names,
        lines,
        source=path.name,
        keys=keys,
        reserved=reserved,
        allow_identifying=allow_identifying,
        decimal_comma=decimal_comma,
        notes=notes,
    )


def check_subjects(
    names: Sequence[str],
    lines: Iterable[tuple[int, Sequence[Value]]],
    *,
    source: str = "the table",
    keys: Sequence[str] = KEYS,
    reserved: Callable[[str], bool] = lambda _: False,
    allow_identifying: bool = False,
    decimal_comma: bool = False,
    notes: Sequence[str] = (),
) -> SubjectTable:
    """Check the cells of a table of subjects; see :func:`read_subjects`.

    Parameters
    ----------
    names : sequence of str
        Column names.
    lines : iterable of (int, sequence)
        Line number, for messages, and cells of each row: text or typed values.
    source : str
        Name of the table, for messages.
    keys, reserved, allow_identifying
        As in :func:`read_subjects`.
    decimal_comma : bool
        Whether ``40,5`` is a number.
    notes : sequence of str
        Notes so far; they precede those of the check.

    Returns
    -------
    SubjectTable
        The checked table.

    Raises
    ------
    SubjectsError
        As for :func:`read_subjects`.
    """
    all_notes = list(notes)
    names = [same_id(str(name)) for name in names]
    check_names(names, source, reserved, allow_identifying=allow_identifying, notes=all_notes)
    key = next((k for k in keys if k in names), None)
    if key is None:
        probable = next((n for n in names if n.lower().replace(" ", "_") in _OTHER_KEY_NAMES), None)
        hint = f"; rename {probable} to {keys[0]} if that is what it holds" if probable else ""
        raise SubjectsError(
            f"{source} needs a column {' or '.join(keys)}; it has {', '.join(names)}{hint}"
        )
    key_index = names.index(key)
    body = list(lines)
    first: dict[str, int] = {}
    for number, cells in body:
        cell = cells[key_index]
        row_key = "" if cell is None else same_id(str(cell))
        if not row_key or not row_key.isprintable():
            raise SubjectsError(
                f"{source}, line {number}: no {key}, or one with control characters"
            )
        if row_key in first:
            raise SubjectsError(
                f"{source} names the {key.removesuffix('_id')} {row_key!r} twice, in lines "
                f"{first[row_key]} and {number}"
            )
        first[row_key] = number
    columns: dict[str, Kind] = {}
    parsed: list[list[Value]] = []
    for index, name in enumerate(names):
        if index == key_index:
            continue
        column = [(number, cells[index]) for number, cells in body]
        kind, values = _column(name, column, source, decimal_comma, all_notes, allow_identifying)
        columns[name] = kind
        parsed.append(values)
    rows = {
        row_key: _pool_oldest(dict(zip(columns, (values[index] for values in parsed), strict=True)))
        for index, row_key in enumerate(first)
    }
    if "nsrr_age" in columns:
        columns.setdefault("nsrr_age_gt89", "boolean")
    return SubjectTable(key, columns, rows, tuple(dict.fromkeys(all_notes)))


def _column(
    name: str,
    cells: Sequence[tuple[int, Value]],
    source: str,
    decimal_comma: bool,
    notes: list[str],
    allow_identifying: bool,
) -> tuple[Kind, list[Value]]:
    known = KNOWN.get(name)
    if known == "number":
        return known, _known_numbers(name, cells, source, decimal_comma, notes)
    if known == "boolean":
        return known, [_boolean(name, number, cell, source) for number, cell in cells]
    if name == "nsrr_sex":
        return "text", [_sex(number, cell, source) for number, cell in cells]
    texts = [_text(cell) for _, cell in cells]
    if not allow_identifying:
        for (number, _), text in zip(cells, texts, strict=True):
            content = identifying_value(text) if text else None
            if content and known is None:
                raise SubjectsError(
                    f"{source}, line {number}: {name} looks like {content}, which must not be "
                    "stored; drop the column, or accept it with --allow-identifying"
                )
            if content:
                notes.append(
                    f"{name} looks like {content} in line {number}; use a study's own codes"
                )
                break
    for (number, _), text in zip(cells, texts, strict=True):
        if text is not None and not text.isprintable():
            raise SubjectsError(f"{source}, line {number}: {name} contains control characters")
    if known == "text":
        return known, list(texts)
    return _inferred(name, [cell for _, cell in cells], texts, decimal_comma, notes)


def _inferred(
    name: str,
    cells: Sequence[Value],
    texts: Sequence[str | None],
    decimal_comma: bool,
    notes: list[str],
) -> tuple[Kind, list[Value]]:
    """Infer the type of a column; it is numeric only if every cell is a number."""
    given = [text for text in texts if text is not None]
    kind: Kind = "text"
    values: list[Value] = list(texts)
    commas = [_DECIMAL_COMMA.sub(r"\1.\2", t) if decimal_comma else t for t in given]
    typed = {type(cell) for cell, text in zip(cells, texts, strict=True) if text is not None}
    if typed == {bool} or (given and {t.casefold() for t in given} <= {"true", "false"}):
        kind, values = "boolean", [None if t is None else t.casefold() == "true" for t in texts]
    elif given and all(map(_INTEGER.fullmatch, given)):
        kind, values = "integer", [None if t is None else int(t) for t in texts]
    elif given and all(map(_NUMBER.fullmatch, commas)) and not _overflow(commas):
        numbers = iter(commas)
        kind, values = "number", [None if t is None else float(next(numbers)) for t in texts]
    if kind in ("integer", "number"):
        codes = sorted({float(v) for v in values if isinstance(v, (int, float))} & _CODES)
        if codes:
            listed = ", ".join(f"{v:g}" for v in codes)
            notes.append(
                f"{name} holds {listed}, stored as numbers; leave the cell empty for missing values"
            )
    return kind, values


def _overflow(texts: Sequence[str]) -> bool:
    return any(math.isinf(float(text)) for text in texts)


def _text(cell: Value) -> str | None:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    text = unicodedata.normalize("NFC", str(cell)).strip()
    return None if text.casefold() in _EMPTY else text


def _known_numbers(
    name: str,
    cells: Sequence[tuple[int, Value]],
    source: str,
    decimal_comma: bool,
    notes: list[str],
) -> list[Value]:
    low, high, unit = _RANGES[name]
    values: list[Value] = []
    missing: dict[float, int] = {}
    reinterpreted: dict[str, list[str]] = {}
    for number, cell in cells:
        text = _text(cell)
        if text is None:
            values.append(None)
            continue
        if decimal_comma:
            text = _DECIMAL_COMMA.sub(r"\1.\2", text)
        elif _QUOTED_COMMA.fullmatch(text):
            reinterpreted.setdefault("with a decimal comma", []).append(text)
            text = text.replace(",", ".")
        elif name == "nsrr_age" and _OVER_89.fullmatch(text.casefold()):
            reinterpreted.setdefault(f"as {OLDEST + 1:g}", []).append(text)
            text = f"{OLDEST + 1:g}"
        try:
            value = float(text)
        except ValueError:
            raise SubjectsError(
                f"{source}, line {number}: {name} is {text!r}, not a number"
            ) from None
        if value in _CODES and not low <= value <= high:
            missing[value] = missing.get(value, 0) + 1
            values.append(None)
        elif not low <= value <= high:
            raise SubjectsError(
                f"{source}, line {number}: {name} is {value:g}, outside {low:g} to {high:g} {unit}"
            )
        else:
            values.append(value)
    for manner, examples in reinterpreted.items():
        notes.append(f"{name}: {examples[0]} is read {manner} ({len(examples)} times)")
    for code, count in missing.items():
        notes.append(f"{name}: {code:g} is read as missing ({count} times)")
    return values


def _boolean(name: str, number: int, cell: Value, source: str) -> bool | None:
    text = _text(cell)
    if text is None:
        return None
    if text.casefold() in _TRUE | _FALSE:
        return text.casefold() in _TRUE
    raise SubjectsError(f"{source}, line {number}: {name} is {text!r}; write true or false")


def _sex(number: int, cell: Value, source: str) -> str | None:
    text = _text(cell)
    if text is None or text.casefold() in ("unknown", "-9", "9"):
        return None
    if text.casefold() in _SEXES:
        return _SEXES[text.casefold()]
    raise SubjectsError(
        f"{source}, line {number}: nsrr_sex is {text!r}; write male, female or other (studies code "
        "numbers differently)"
    )


def _pool_oldest(facts: dict[str, Value]) -> dict[str, Value]:
    if "nsrr_age" not in facts:
        return facts
    age = facts["nsrr_age"]
    if age is None:
        return {**facts, "nsrr_age_gt89": facts.get("nsrr_age_gt89")}
    over = float(age) > OLDEST or bool(facts.get("nsrr_age_gt89"))
    return {**facts, "nsrr_age": OLDEST if over else age, "nsrr_age_gt89": over}
