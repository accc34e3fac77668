"""What is known of the subjects: subjects.csv, one line a recording."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pacsv

from sleepfm.contract import ROBUST
from sleepfm_index.errors import StoreError
from sleepfm_index.schema import SUBJECT_COLUMNS, clip_schema

_MISSING: Final = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", ".", "null", "NULL", "None"]
_POSSIBLE: Final = {
    "nsrr_age": (0.0, 120.0),
    "nsrr_bmi": (5.0, 120.0),
    "nsrr_ahi_hp3r_aasm15": (0.0, 250.0),
}
"""What a person can have, by column."""
_SEXES: Final = {"m": "male", "f": "female", "1": "male", "2": "female"}
_MOST: Final = 5
OLDEST: Final = 89.0
"""Ages above this one are pooled, as the HIPAA safe harbour asks (45 CFR 164.514(b)(2)(i)(C))."""

_IDENTITY: Final = pa.schema(
    [("recording_id", pa.string()), ("subject_id", pa.string()), ("site", pa.string())]
)


@dataclass(frozen=True)
class Subject:
    """Whose recording it is. ``facts`` holds one value per column of the table's ``columns``."""

    subject_id: str
    site: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subjects:
    """The subjects of a cohort by recording.

    Parameters
    ----------
    by_recording : dict of str to Subject
    columns : pyarrow.Schema
        What is known of them.
    notes : tuple of str
        What a person should look at, one sentence each; shown, never stored.
    """

    by_recording: dict[str, Subject]
    columns: pa.Schema
    notes: tuple[str, ...] = ()

    def of(self, recording_id: str) -> Subject:
        """Subject of a recording; one of the recording's own name where nothing is listed."""
        return self.by_recording.get(recording_id, Subject(recording_id))


def no_subjects() -> Subjects:
    """Nobody is listed: every recording is its own subject."""
    return Subjects({}, SUBJECT_COLUMNS)


def read_subjects(path: Path, modalities: tuple[str, ...] = ROBUST.modalities) -> Subjects:
    """Read subjects.csv: ``recording_id`` and any of subject_id, site, nsrr_*, further columns.

    Columns are parted by commas, semicolons or tabs; the store's own names are known in any
    case. In its own numeric columns a decimal comma is read, ``90+`` is 90, and what no person
    can have (an age of -9 or 999) is taken for a code of a missing value, which is said.

    Parameters
    ----------
    path : Path
        The file.
    modalities : tuple of str
        Those of the store, whose columns have names of their own.

    Raises
    ------
    StoreError
        If the file cannot be read, has no ``recording_id``, names a recording twice, or has a
        column whose name the store already uses.
    """
    known = {f.name: f.type for f in (*_IDENTITY, *SUBJECT_COLUMNS)}
    try:
        table = pacsv.read_csv(
            pa.BufferReader(_tidied(path)),
            convert_options=pacsv.ConvertOptions(
                column_types=known, strings_can_be_null=True, null_values=_MISSING
            ),
        )
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise StoreError(f"{path.name} cannot be read as a table of subjects: {error}") from error
    names = table.column_names
    if "recording_id" not in names:
        raise StoreError(f"{path.name} needs a column recording_id; it has {', '.join(names)}")
    reserved = set(clip_schema(modalities).names) - set(_IDENTITY.names)
    taken = sorted({n for n in names if n in reserved or names.count(n) > 1})
    if taken:
        raise StoreError(f"{path.name}: rename the column {taken[0]}, its name is taken")
    extra = [f for f in table.schema if f.name not in known]
    columns = pa.schema([*SUBJECT_COLUMNS, *extra])
    notes = _odd_headings(names)
    by_recording: dict[str, Subject] = {}
    impossible: Counter[str] = Counter()
    for row in table.to_pylist():
        for name, (low, high) in _POSSIBLE.items():
            value = row.get(name)
            if value is not None and not low <= value <= high:
                impossible[f"{name} {value:g}"] += 1
                row[name] = None
        recording = row["recording_id"]
        if recording is None or recording in by_recording:
            raise StoreError(f"{path.name} names the recording {recording!r} twice, or not at all")
        facts = {name: row.get(name) for name in columns.names}
        by_recording[recording] = Subject(
            row.get("subject_id") or recording, row.get("site"), _pool_oldest(facts)
        )
    if impossible:
        said = ", ".join(f"{value} ({n})" for value, n in impossible.most_common(_MOST))
        notes.append(f"{path.name}: taken as missing, because nobody has it: {said}")
    codes = {str(s.facts["nsrr_sex"]) for s in by_recording.values()} - {"None"}
    if len({_SEXES.get(code.lower(), code) for code in codes}) < len(codes):
        notes.append(
            f"{path.name}: nsrr_sex is coded in several ways ({', '.join(sorted(codes)[:_MOST])}); "
            "they are kept as different values"
        )
    return Subjects(by_recording, columns, tuple(notes))


def unmatched(subjects: Subjects, recordings: Collection[str]) -> list[str]:
    """Say which rows meet no recording, and which recordings have no row.

    Parameters
    ----------
    subjects : Subjects
        The table.
    recordings : collection of str
        ``recording_id`` of every recording of a build.

    Returns
    -------
    list of str
        One sentence each, empty if everything meets.
    """
    rows = [name for name in subjects.by_recording if name not in recordings]
    alone = [name for name in recordings if name not in subjects.by_recording]
    notes = []
    if rows and alone:
        notes.append(f"rows of the subjects' table that meet no recording: {_listed(rows)}")
    if alone and subjects.by_recording:
        notes.append(
            f"recordings without a row in the subjects' table: {_listed(alone)}; each counts as a "
            "subject of its own. recording_id must be the file's name without its ending"
        )
    return notes


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


def _tidied(path: Path) -> bytes:
    """Give the table with commas between its cells, its own columns in their own spelling."""
    text = path.read_bytes().decode("utf-8-sig")
    lines = text.splitlines()
    if not lines:
        return b""
    delimiter = max(",;\t", key=lines[0].count)
    rows = list(csv.reader(lines, delimiter=delimiter))
    own = {*_IDENTITY.names, *SUBJECT_COLUMNS.names}
    heading = [name.strip() for name in rows[0]]
    heading = [name.lower() if name.lower() in own else name for name in heading]
    tidy = io.StringIO()
    writer = csv.writer(tidy, lineterminator="\n")
    writer.writerow(heading)
    for row in rows[1:]:
        cells = [cell.strip() for cell in row]
        for i, name in enumerate(heading[: len(cells)]):
            if name in _POSSIBLE:
                cells[i] = _number(cells[i])
        if cells:
            writer.writerow(cells)
    return tidy.getvalue().encode()


def _number(cell: str) -> str:
    """Write a number of a known column as Arrow reads it: ``45,5`` and ``90+``."""
    match = re.fullmatch(r"[>\u2265]?=?\s*(-?\d+(?:[.,]\d+)?)\s*\+?", cell)
    return match.group(1).replace(",", ".") if match else cell


def _odd_headings(names: list[str]) -> list[str]:
    """Say which columns are near the store's own and kept under their own names."""
    near = {name: f"nsrr_{name.lower()}" for name in names}
    odd = {n: to for n, to in near.items() if to in SUBJECT_COLUMNS.names and to not in names}
    return [
        f"the column {name} is kept under its name; call it {to} to use it as a label"
        for name, to in odd.items()
    ]


def _pool_oldest(facts: dict[str, Any]) -> dict[str, Any]:
    age = facts["nsrr_age"]
    if age is None:
        return facts
    over = age > OLDEST or bool(facts["nsrr_age_gt89"])
    return {**facts, "nsrr_age": OLDEST if over else age, "nsrr_age_gt89": over}
