"""Questions to the store: SQL, clips, vectors, and the nearest of a clip, examples or a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sleepfm_index.errors import QueryError
from sleepfm_index.explore.answers import Document, Table
from sleepfm_index.explore.own_file import OwnFiles
from sleepfm_index.query.answer import answer, answer_to
from sleepfm_index.query.examples import ExampleVectors
from sleepfm_index.query.question import Question, check_search
from sleepfm_index.reader import Reader
from sleepfm_index.schema import check_modality
from sleepfm_index.storage.metadata import int64s
from sleepfm_index.storage.quoting import quote_text
from sleepfm_index.storage.vector_format import as_arrow, narrow


def sql(store: Reader, statement: str, limit: int) -> Table:
    """Answer one SELECT-like statement; at most ``limit`` rows.

    Parameters
    ----------
    store : Reader
        The open store.
    statement : str
        One read-only SQL statement.
    limit : int
        Largest number of rows to return.
    """
    rows = store.sql(statement).table
    note = f"{rows.num_rows:,} rows"
    if rows.num_rows > limit:
        note = f"the first {limit:,} of {rows.num_rows:,} rows"
    return Table(_named_apart(rows.slice(0, limit)), note, {"total": rows.num_rows})


def clip(store: Reader, clip_id: int) -> Document:
    """Return all that is known of one clip.

    Parameters
    ----------
    store : Reader
        The open store.
    clip_id : int
        The clip.
    """
    rows = store.rows(np.array([clip_id], np.int64)).to_pylist()
    if not rows:
        raise QueryError(f"no clip {clip_id} in this store")
    return Document(rows[0])


def clips(store: Reader, ids: Sequence[int], columns: Sequence[str] | None) -> Table:
    """Return the metadata of some clips, in the given order; unknown ids are left out.

    Parameters
    ----------
    store : Reader
        The open store.
    ids : sequence of int
        Clip ids, in the order of the answer.
    columns : sequence of str or None
        Columns to return beside ``clip_id``; by default all.
    """
    rows = store.rows(np.array(ids, np.int64))
    if columns:
        unknown = [name for name in columns if name not in rows.column_names]
        if unknown:
            raise QueryError(f"clips have no column {unknown[0]!r}")
        rows = rows.select(list(dict.fromkeys(["clip_id", *columns])))
    return Table(rows, f"{rows.num_rows:,} clips")


def vectors(store: Reader, ids: Sequence[int], modality: str) -> Table:
    """Return the stored vectors of some clips; null where a clip lacks the modality.

    Parameters
    ----------
    store : Reader
        The open store.
    ids : sequence of int
        Clip ids, in the order of the answer.
    modality : str
        Name of the modality.
    """
    check_modality(modality, store.manifest.modalities)
    wanted = np.array(ids, np.int64)
    found, there = store.vectors.of(wanted, modality)
    column = as_arrow(narrow(found), pa.array(~there))
    return Table(pa.table({"clip_id": int64s(wanted), "vector": column}), f"{modality} vectors")


@dataclass(frozen=True)
class Asked:
    """A search request; see :class:`sleepfm_index.query.question.Question`.

    Parameters
    ----------
    modality, to : str
        What to search with, and what to search in.
    k : int
        Number of clips to find.
    exclude : {"subject", "recording", "none"}
        Whose clips are left out.
    where : str or None
        SQL condition over the columns of ``clips``.
    min_gap : float or None
        Least time between two clips of a recording, in seconds.
    exact : bool
        Whether to compare with every clip, whatever index there is.
    like, unlike : sequence of int
        Clips to be near to, and clips to be away from.
    recording, from_s, until_s : str, float, float
        A stretch of a recording, whose clips are examples as well; times in seconds from its start.
    file : str
        A file that was handed in, whose clip at ``from_s`` is the example.
    """

    modality: str
    to: str
    k: int
    exclude: str
    where: str | None
    min_gap: float | None
    exact: bool
    like: Sequence[int] = ()
    unlike: Sequence[int] = ()
    recording: str | None = None
    from_s: float | None = None
    until_s: float | None = None
    file: str | None = None

    def question(self, **other: Any) -> Question:
        """Return the part that any question has.

        Parameters
        ----------
        **other : object
            Further fields of :class:`~sleepfm_index.query.question.Question`.
        """
        names = ("modality", "to", "k", "exclude", "where", "min_gap", "exact")
        return Question(**{name: getattr(self, name) for name in names} | other)


def search(store: Reader, asked: Asked, files: OwnFiles) -> Table:
    """Find the nearest clips, as :meth:`sleepfm_index.Store.query` does.

    Parameters
    ----------
    store : Reader
        The open store.
    asked : Asked
        What is searched for.
    files : OwnFiles
        Recordings that were handed in.
    """
    known = store.manifest.modalities
    if asked.file is not None:
        modalities = check_search(
            asked.modality, asked.to, asked.exclude, asked.k, asked.min_gap, known
        )
        vector, text = files.vector(store, asked.file, asked.from_s or 0.0, modalities)
        examples = ExampleVectors(text, vector[None], "{cosine} to {target}", known=False)
        result = answer_to(store, asked.question(exclude="none"), modalities, examples)
        return Table(result.table, result.note)
    like = [*asked.like, *_stretch(store, asked)]
    if not like:
        raise QueryError("pass a query: clip, like, recording with from_s, or file")
    question = asked.question(clip=like, unlike=asked.unlike or None)
    result = answer(store, question)
    return Table(result.table, result.note)


def _stretch(store: Reader, asked: Asked) -> list[int]:
    if asked.recording is None:
        return []
    start = asked.from_s or 0.0
    until = start if asked.until_s is None else asked.until_s
    seconds = store.manifest.contract.clip_seconds
    ids = store.metadata.clip_ids(
        f"recording_id = {quote_text(asked.recording)} AND start_s <= {max(start, until)!r} "
        f"AND start_s + {seconds!r} > {start!r}"
    )
    if not len(ids):
        raise QueryError(f"no clip of {asked.recording!r} lies between these times")
    return [int(i) for i in ids]


def _named_apart(rows: pa.Table) -> pa.Table:
    """Add numbers to columns of one name, so that none is lost as JSON."""
    seen: dict[str, int] = {}
    names = []
    for name in rows.column_names:
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return rows.rename_columns(names)


def columns(store: Reader) -> dict[str, list[dict[str, Any]]]:
    """Names and types of what SQL can ask, by table.

    Parameters
    ----------
    store : Reader
        The open store.
    """
    return {
        table: [
            {"name": f.name, "type": str(f.type)}
            for f in store.sql(f"SELECT * FROM {table} LIMIT 0").table.schema
        ]
        for table in ("clips", "events", "recordings")
    }
