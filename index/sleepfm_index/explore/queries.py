"""Requests to the store: SQL, clips, vectors and nearest-neighbour searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sleepfm_index.errors import QueryError
from sleepfm_index.explore.answers import Document, Table
from sleepfm_index.explore.uploads import UploadedFiles
from sleepfm_index.query.answer import answer, answer_to
from sleepfm_index.query.examples import ExampleVectors
from sleepfm_index.query.question import Question, check_search
from sleepfm_index.reader import Reader
from sleepfm_index.schema import check_modality
from sleepfm_index.storage.arrow_columns import int64s
from sleepfm_index.storage.quoting import quote_text
from sleepfm_index.storage.vector_format import as_arrow, narrow


def sql(store: Reader, statement: str, limit: int) -> Table:
    """Run one SELECT-like statement and return at most ``limit`` rows.

    Parameters
    ----------
    store : Reader
        The open store.
    statement : str
        One read-only SQL statement.
    limit : int
        Maximum number of rows to return.
    """
    kept: list[pa.RecordBatch] = []
    total = 0
    with store.metadata.stream(statement) as reader:
        for batch in reader:
            if total < limit:
                kept.append(batch.slice(0, limit - total))
            total += batch.num_rows
        rows = pa.Table.from_batches(kept, reader.schema)
    note = f"{total:,} rows" if total <= limit else f"the first {limit:,} of {total:,} rows"
    return Table(_with_unique_names(rows), note, {"total": total})


def clip(store: Reader, clip_id: int) -> Document:
    """Return all metadata of one clip.

    Parameters
    ----------
    store : Reader
        The open store.
    clip_id : int
        Id of the clip.
    """
    rows = store.rows(np.array([clip_id], np.int64)).to_pylist()
    if not rows:
        raise QueryError(f"no clip {clip_id} in this store")
    return Document(rows[0])


def clips(store: Reader, ids: Sequence[int], columns: Sequence[str] | None) -> Table:
    """Return the metadata of clips, in the given order; unknown ids are omitted.

    Parameters
    ----------
    store : Reader
        The open store.
    ids : sequence of int
        Clip ids, in the order of the result.
    columns : sequence of str or None
        Columns to return in addition to ``clip_id``; by default all.
    """
    rows = store.rows(np.array(ids, np.int64))
    if columns:
        unknown = [name for name in columns if name not in rows.column_names]
        if unknown:
            raise QueryError(f"clips have no column {unknown[0]!r}")
        rows = rows.select(list(dict.fromkeys(["clip_id", *columns])))
    return Table(rows, f"{rows.num_rows:,} clips")


def vectors(store: Reader, ids: Sequence[int], modality: str) -> Table:
    """Return the stored vectors of clips; null where a clip lacks the modality.

    Parameters
    ----------
    store : Reader
        The open store.
    ids : sequence of int
        Clip ids, in the order of the result.
    modality : str
        Name of the modality.
    """
    check_modality(modality, store.manifest.modalities)
    clip_ids = np.array(ids, np.int64)
    values, present = store.vectors.of(clip_ids, modality)
    column = as_arrow(narrow(values), pa.array(~present))
    return Table(pa.table({"clip_id": int64s(clip_ids), "vector": column}), f"{modality} vectors")


@dataclass(frozen=True)
class SearchRequest:
    """A search request; see :class:`sleepfm_index.query.question.Question`.

    Parameters
    ----------
    modality, to : str
        Modality of the query, and target of the search.
    k : int
        Number of clips to return.
    exclude : {"subject", "recording", "none"}
        Exclude clips of the query's subject or recording, or none.
    where : str or None
        SQL condition over the columns of ``clips``.
    min_gap : float or None
        Minimum time between results of one recording, in seconds.
    exact : bool
        Whether to compare with every clip instead of using an index.
    like, unlike : sequence of int
        Ids of positive and negative example clips.
    recording, from_s, until_s : str, float, float
        Recording, and start and end of an interval in seconds from its start; the clips of the
        interval are positive examples.
    file : str
        Id of an uploaded file; its clip at ``from_s`` is the query.
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
        """Return the request as a question, without its examples.

        Parameters
        ----------
        **other : object
            Further fields of :class:`~sleepfm_index.query.question.Question`.
        """
        names = ("modality", "to", "k", "exclude", "where", "min_gap", "exact")
        return Question(**{name: getattr(self, name) for name in names} | other)


def search(store: Reader, request: SearchRequest, files: UploadedFiles) -> Table:
    """Find the nearest clips, as :meth:`sleepfm_index.Store.query` does.

    Parameters
    ----------
    store : Reader
        The open store.
    request : SearchRequest
        The search to run.
    files : UploadedFiles
        Uploaded recordings.
    """
    known = store.manifest.modalities
    if request.file is not None:
        modalities = check_search(
            request.modality, request.to, request.exclude, request.k, request.min_gap, known
        )
        vector, text = files.vector(store, request.file, request.from_s or 0.0, modalities)
        examples = ExampleVectors(text, vector[None], "{cosine} to {target}", known=False)
        result = answer_to(store, request.question(exclude="none"), modalities, examples)
        return Table(result.table, result.note)
    like = [*request.like, *_interval_clips(store, request)]
    if not like:
        raise QueryError("pass a query: clip, like, recording with from_s, or file")
    question = request.question(clip=like, unlike=request.unlike or None)
    result = answer(store, question)
    return Table(result.table, result.note)


def _interval_clips(store: Reader, request: SearchRequest) -> list[int]:
    if request.recording is None:
        return []
    start = request.from_s or 0.0
    until = start if request.until_s is None else request.until_s
    seconds = store.manifest.contract.clip_seconds
    ids = store.metadata.clip_ids(
        f"recording_id = {quote_text(request.recording)} AND start_s <= {max(start, until)!r} "
        f"AND start_s + {seconds!r} > {start!r}"
    )
    if not len(ids):
        raise QueryError(f"no clip of {request.recording!r} lies between these times")
    return [int(i) for i in ids]


def _with_unique_names(rows: pa.Table) -> pa.Table:
    """Append numbers to equal column names, so that no column is lost in JSON."""
    seen: dict[str, int] = {}
    names = []
    for name in rows.column_names:
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return rows.rename_columns(names)


def columns(store: Reader) -> dict[str, list[dict[str, Any]]]:
    """Return the names and types of the columns of each table.

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
