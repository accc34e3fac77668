"""What is known of the subjects: subjects.csv, one line a recording."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pacsv

from sleepfm.encoders.seen import Seen
from sleepfm_index.errors import StoreError
from sleepfm_index.schema import CLIP_COLUMNS, SUBJECT_COLUMNS, WEIGHTS_SPLIT

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
        Those that are listed.
    columns : Schema
        Of what is known of them.
    seen : Seen, optional
        Whom the store's weights have seen in training.
    """

    by_recording: dict[str, Subject]
    columns: pa.Schema
    seen: Seen | None = None

    def of(self, recording_id: str) -> Subject:
        """Subject of a recording; one of the recording's own name where nothing is listed."""
        subject = self.by_recording.get(recording_id, Subject(recording_id))
        if self.seen is None:
            return subject
        split = self.seen.split_of(subject.subject_id)
        return replace(subject, facts={**subject.facts, WEIGHTS_SPLIT: split})

    def marked(self, seen: Seen | None) -> Subjects:
        """Give the same with a column :data:`WEIGHTS_SPLIT`, where weights say whom they saw."""
        if seen is None:
            return self
        columns = self.columns.append(pa.field(WEIGHTS_SPLIT, pa.string()))
        return Subjects(self.by_recording, columns, seen)


def no_subjects() -> Subjects:
    """Nobody is listed: every recording is its own subject."""
    return Subjects({}, SUBJECT_COLUMNS)


def read_subjects(path: Path) -> Subjects:
    """Read subjects.csv: ``recording_id`` and any of subject_id, site, nsrr_*, further columns.

    Raises
    ------
    StoreError
        If the file cannot be read, has no ``recording_id``, names a recording twice, or has a
        column whose name the store already uses.
    """
    known = {f.name: f.type for f in (*_IDENTITY, *SUBJECT_COLUMNS)}
    try:
        table = pacsv.read_csv(
            path,
            convert_options=pacsv.ConvertOptions(
                column_types=known, strings_can_be_null=True, null_values=["", "NA", "NaN", "nan"]
            ),
        )
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path.name} cannot be read as a table of subjects: {error}") from error
    names = table.column_names
    if "recording_id" not in names:
        raise StoreError(f"{path.name} needs a column recording_id; it has {', '.join(names)}")
    reserved = {WEIGHTS_SPLIT, *CLIP_COLUMNS.names} - set(_IDENTITY.names)
    taken = sorted({n for n in names if n in reserved or names.count(n) > 1})
    if taken:
        raise StoreError(f"{path.name}: rename the column {taken[0]}, its name is taken")
    extra = [f for f in table.schema if f.name not in known]
    columns = pa.schema([*SUBJECT_COLUMNS, *extra])
    by_recording: dict[str, Subject] = {}
    for row in table.to_pylist():
        recording = row["recording_id"]
        if recording is None or recording in by_recording:
            raise StoreError(f"{path.name} names the recording {recording!r} twice, or not at all")
        facts = {name: row.get(name) for name in columns.names}
        by_recording[recording] = Subject(
            row.get("subject_id") or recording, row.get("site"), _pool_oldest(facts)
        )
    return Subjects(by_recording, columns)


def _pool_oldest(facts: dict[str, Any]) -> dict[str, Any]:
    age = facts["nsrr_age"]
    if age is None:
        return facts
    over = age > OLDEST or bool(facts["nsrr_age_gt89"])
    return {**facts, "nsrr_age": OLDEST if over else age, "nsrr_age_gt89": over}
