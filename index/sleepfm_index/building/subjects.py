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
    """Subject of a recording. ``facts`` holds one value per column of the table's ``columns``.

    Parameters
    ----------
    subject_id : str
        Name of the subject.
    site : str, optional
        Where the recording was made.
    facts : dict of str to object
        One value per further column of the table.
    """

    subject_id: str
    site: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Matching:
    """Match of a table of subjects with the recordings.

    Parameters
    ----------
    matched : tuple of str
        Names that the table has and the recordings have.
    unmatched : tuple of str
        Rows that name none.
    without : tuple of str
        Recordings that have no row.
    alike : dict of str to str
        Unmatched row to the recording whose name differs from it by case, ending, spaces or
        punctuation alone.
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
            What the rows of the table are keyed by.
        """
        said = []
        total = len(self.matched) + len(self.without)
        if self.unmatched:
            shown = [
                f"{one} (perhaps {self.alike[one]})" if one in self.alike else one
                for one in self.unmatched
            ]
            rows = "1 row names" if len(shown) == 1 else f"{len(shown):,} rows name"
            said.append(f"{source}: {rows} no {key}: {_some(shown)}")
        if self.without:
            have = "has" if len(self.without) == 1 else "have"
            said.append(
                f"{source}: {len(self.without):,} of {total:,} {key}s {have} no row: "
                f"{_some(self.without)}"
            )
        return said


@dataclass(frozen=True)
class Subjects:
    """The subjects of a cohort.

    Parameters
    ----------
    by_recording : dict of str to Subject
    columns : pyarrow.Schema
        What is known of them.
    notes : tuple of str
        What there is to say about their table, one sentence each.
    brought : frozenset of str
        Columns that the table has.
    seen : Seen, optional
        Whom the store's weights have seen in training.
    """

    by_recording: dict[str, Subject]
    columns: pa.Schema
    notes: tuple[str, ...] = ()
    brought: frozenset[str] = frozenset()
    seen: Seen | None = None

    def of(self, recording_id: str) -> Subject:
        """Subject of a recording; one of the recording's own name where nothing is listed.

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
        """Return the same with a column :data:`WEIGHTS_SPLIT`, where weights say whom they saw.

        Parameters
        ----------
        seen : Seen, optional
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
            The recordings' own names, before any hashing.
        """
        return match_ids(self.by_recording, names)

    def named(self, ids: Mapping[str, str]) -> Subjects:
        """Return the subjects under the ids that their recordings have in the store.

        Parameters
        ----------
        ids : mapping of str to str
            The recording's own name to its ``recording_id``.
        """
        known = {
            same_id(identifier): self.by_recording[same_id(name)]
            for name, identifier in ids.items()
            if same_id(name) in self.by_recording
        }
        return replace(self, by_recording=known)


def no_subjects() -> Subjects:
    """Nobody is listed: every recording is its own subject."""
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
        Those of the store, whose columns have names of their own.
    allow_identifying : bool
        Whether columns that look as if they told who somebody is are taken.

    Raises
    ------
    StoreError
        If a column or a cell of it cannot be meant; one sentence.
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
    """Arrow fields of the columns that have no meaning of their own.

    Parameters
    ----------
    columns : mapping of str to str
        Name to kind, as in :class:`sleepfm.subjects.SubjectTable`.
    """
    return [pa.field(n, _TYPES[kind]) for n, kind in columns.items() if n not in KNOWN]


def fields_of(table: SubjectTable) -> dict[str, pa.DataType]:
    """Arrow types of all columns that a table brings, in order.

    Parameters
    ----------
    table : SubjectTable
        The table of subjects.
    """
    own = {f.name: f.type for f in SUBJECT_COLUMNS} | dict.fromkeys(_IDENTITY, pa.string())
    return {name: own.get(name, _TYPES[kind]) for name, kind in table.columns.items()}


def match_ids(rows: Iterable[str], names: Iterable[str]) -> Matching:
    """Match the ids of a table with those of recordings or subjects.

    Parameters
    ----------
    rows, names : iterable of str
        Ids in the table, and those that there are.
    """
    there = {same_id(name): name for name in names}
    listed = dict.fromkeys(map(same_id, rows))
    unmatched = tuple(one for one in listed if one not in there)
    near = {alike_id(name): there[name] for name in there if name not in listed}
    return Matching(
        matched=tuple(there[one] for one in listed if one in there),
        unmatched=unmatched,
        without=tuple(name for one, name in there.items() if one not in listed),
        alike={one: near[alike_id(one)] for one in unmatched if alike_id(one) in near},
    )


def _some(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
