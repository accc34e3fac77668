"""Table of subjects as columns of a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sleepfm.column_names import KNOWN, Kind
from sleepfm.contract import ROBUST
from sleepfm.csv_text import same_id
from sleepfm.encoders.seen import Seen
from sleepfm.errors import SubjectsError
from sleepfm.subjects import SubjectTable, alike_id
from sleepfm.subjects import read_subjects as read_table
from sleepfm_index.errors import StoreError
from sleepfm_index.schema import SUBJECT_COLUMNS, WEIGHTS_SPLIT, is_reserved

_IDENTITY: Final = ("recording_id", "subject_id", "site")
_TYPES: Final[Mapping[Kind, pa.DataType]] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
}


@dataclass(frozen=True)
class Subject:
    """Subject of a recording.

    Parameters
    ----------
    subject_id : str
        Id of the subject.
    site : str, optional
        Site of the recording.
    facts : dict of str to object
        Value of each column of ``Subjects.columns``.
    """

    subject_id: str
    site: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Matching:
    """Match of the rows of a table with the recordings, subjects or clips of a store.

    Parameters
    ----------
    matched : tuple of str
        Names in the store that have a row.
    unmatched : tuple of str
        Names in the table that match nothing in the store.
    without : tuple of str
        Names in the store that have no row.
    alike : dict of str to str
        For unmatched names, a name in the store that differs only in case, ending, spaces or
        punctuation.
    """

    matched: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    alike: Mapping[str, str] = field(default_factory=dict)

    def sentences(self, source: str, key: str = "recording") -> list[str]:
        """Report unmatched rows and recordings; empty if all match.

        Parameters
        ----------
        source : str
            Name of the table.
        key : {"recording", "subject"}
            Key of the table's rows.
        """
        sentences = []
        total = len(self.matched) + len(self.without)
        if self.unmatched:
            shown = [
                f"{name} (perhaps {self.alike[name]})" if name in self.alike else name
                for name in self.unmatched
            ]
            rows = "1 row names" if len(shown) == 1 else f"{len(shown):,} rows name"
            sentences.append(f"{source}: {rows} no {key}: {_listed(shown)}")
        if self.without:
            have = "has" if len(self.without) == 1 else "have"
            sentences.append(
                f"{source}: {len(self.without):,} of {total:,} {key}s {have} no row: "
                f"{_listed(self.without)}"
            )
        return sentences


@dataclass(frozen=True)
class Subjects:
    """The subjects of a cohort.

    Parameters
    ----------
    by_recording : dict of str to Subject
        Subjects by recording id.
    columns : pyarrow.Schema
        Columns with data of the subjects.
    notes : tuple of str
        Remarks about the table, one sentence each.
    table_columns : frozenset of str
        Names of the columns of the table.
    seen : Seen, optional
        Subjects that the store's weights were trained on.
    """

    by_recording: dict[str, Subject]
    columns: pa.Schema
    notes: tuple[str, ...] = ()
    table_columns: frozenset[str] = frozenset()
    seen: Seen | None = None

    def of(self, recording_id: str) -> Subject:
        """Subject of a recording; without a row, the recording is its own subject.

        Parameters
        ----------
        recording_id : str
            Name of the recording in the store.
        """
        subject = self.by_recording.get(same_id(recording_id), Subject(recording_id))
        if self.seen is None:
            return subject
        split = self.seen.split_of(subject.subject_id)
        return replace(subject, facts={**subject.facts, WEIGHTS_SPLIT: split})

    def marked(self, seen: Seen | None) -> Subjects:
        """Return the subjects with a column :data:`WEIGHTS_SPLIT` if the weights list theirs.

        Parameters
        ----------
        seen : Seen, optional
            Subjects that the weights were trained on.
        """
        if seen is None:
            return self
        columns = self.columns.append(pa.field(WEIGHTS_SPLIT, pa.string()))
        return replace(self, columns=columns, seen=seen)

    def match(self, names: Iterable[str]) -> Matching:
        """List the rows that match recordings with these names.

        Parameters
        ----------
        names : iterable of str
            Names of the recordings before hashing.
        """
        return match_ids(self.by_recording, names)

    def named(self, ids: Mapping[str, str]) -> Subjects:
        """Return the subjects by the ids that their recordings have in the store.

        Parameters
        ----------
        ids : mapping of str to str
            ``recording_id`` by the recording's name before hashing.
        """
        known = {
            same_id(identifier): self.by_recording[same_id(name)]
            for name, identifier in ids.items()
            if same_id(name) in self.by_recording
        }
        return replace(self, by_recording=known)


def no_subjects() -> Subjects:
    """Return an empty table, with which every recording is its own subject."""
    return Subjects({}, SUBJECT_COLUMNS)


def read_subjects(
    path: Path,
    modalities: tuple[str, ...] = ROBUST.modalities,
    *,
    allow_identifying: bool = False,
) -> Subjects:
    """Read subjects.csv: ``recording_id`` and any of subject_id, site, nsrr_*, further columns.

    Parameters
    ----------
    path : Path
        The CSV file.
    modalities : tuple of str
        Modalities of the store, whose column names are reserved.
    allow_identifying : bool
        Whether to accept columns that look identifying.

    Raises
    ------
    StoreError
        If a column or a cell is not valid.
    """
    try:
        table = read_table(
            path,
            reserved=lambda name: is_reserved(name, modalities),
            allow_identifying=allow_identifying,
        )
    except SubjectsError as error:
        raise StoreError(str(error)) from error
    columns = pa.schema([*SUBJECT_COLUMNS, *extra_fields(table.columns)])
    by_recording = {}
    for recording, row in table.rows.items():
        facts = {name: row.get(name) for name in columns.names}
        subject, site = row.get("subject_id"), row.get("site")
        by_recording[recording] = Subject(
            recording if subject is None else str(subject),
            None if site is None else str(site),
            facts,
        )
    return Subjects(by_recording, columns, table.notes, frozenset(table.columns))


def extra_fields(columns: Mapping[str, Kind]) -> list[pa.Field]:
    """Arrow fields of the columns that have no predefined meaning.

    Parameters
    ----------
    columns : mapping of str to str
        Type of each column by name, as in :class:`sleepfm.subjects.SubjectTable`.
    """
    return [pa.field(n, _TYPES[kind]) for n, kind in columns.items() if n not in KNOWN]


def fields_of(table: SubjectTable) -> dict[str, pa.DataType]:
    """Arrow types of all columns of a table, in order.

    Parameters
    ----------
    table : SubjectTable
        The table of subjects.
    """
    known = {f.name: f.type for f in SUBJECT_COLUMNS} | dict.fromkeys(_IDENTITY, pa.string())
    return {name: known.get(name, _TYPES[kind]) for name, kind in table.columns.items()}


def match_ids(rows: Iterable[str], names: Iterable[str]) -> Matching:
    """Match the ids of a table with those of recordings or subjects.

    Parameters
    ----------
    rows, names : iterable of str
        Ids in the table, and ids in the store.
    """
    known = {same_id(name): name for name in names}
    listed = dict.fromkeys(map(same_id, rows))
    unmatched = tuple(row for row in listed if row not in known)
    near = {alike_id(key): name for key, name in known.items() if key not in listed}
    return Matching(
        matched=tuple(known[row] for row in listed if row in known),
        unmatched=unmatched,
        without=tuple(name for key, name in known.items() if key not in listed),
        alike={row: near[alike_id(row)] for row in unmatched if alike_id(row) in near},
    )


def _listed(names: Iterable[str], limit: int = 5) -> str:
    listed = list(names)
    more = f" and {len(listed) - limit:,} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
