"""Batch queries: thousands of clips or a night, with results as a stream of Arrow batches."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.query.answer_table import answer_table
from sleepfm_index.query.examples import runs_of
from sleepfm_index.query.nearest import Search, nearest
from sleepfm_index.query.origin import query_vectors
from sleepfm_index.query.question import Questions, check_search, target_of
from sleepfm_index.query.scope import merged, scope
from sleepfm_index.reader import Reader
from sleepfm_index.runtime.at_exit import closed_at_exit
from sleepfm_index.search.exact import Hits

BATCH: Final = 1024
"""Queries per batch; their results form one record batch."""


def answers(reader: Reader, questions: Questions) -> pa.RecordBatchReader:
    """Run many queries, one batch at a time.

    Parameters
    ----------
    reader : Reader
        The open store.
    questions : Questions
        The queries.

    Returns
    -------
    pyarrow.RecordBatchReader
        Columns query_clip_id, rank, score, clip_id and all metadata of the result clips. Queries
        are in the given order and the rows of each are sorted by rank. The schema's metadata
        states the search method and the candidates under ``note``.

    Raises
    ------
    QueryError
        If the queries are not valid for the store.
    """
    known = reader.manifest.modalities
    modalities = check_search(
        questions.modality, questions.to, questions.exclude, questions.k, questions.min_gap, known
    )
    query_ids = _query_clips(reader, questions)
    vectors, present = query_vectors(reader, query_ids, modalities)
    if not present.any():
        raise QueryError(f"none of these clips has {questions.modality} signals to search with")
    candidates = scope(reader, questions.where, questions.allowed, questions.exclude_subjects)
    search = Search(
        target_of(modalities, questions.to, known),
        questions.k,
        candidates.allowed,
        candidates.without,
        min_gap=questions.min_gap,
        exact=questions.exact,
    )
    batches = closed_at_exit(
        _batches(
            reader, questions.exclude, search, candidates.text, query_ids[present], vectors[present]
        )
    )
    first = next(batches)
    schema = first.schema

    def stream() -> Generator[pa.RecordBatch, None, None]:
        yield first
        for batch in batches:
            yield batch.cast(schema)

    return pa.RecordBatchReader.from_batches(schema, closed_at_exit(stream()))


def _query_clips(reader: Reader, questions: Questions) -> NDArray[np.int64]:
    if (questions.clips is None) == (questions.recording is None):
        raise QueryError("pass either clips or recording")
    if questions.clips is not None:
        return check_clip_ids(reader, questions.clips)
    runs = reader.runs("recording_id", str(questions.recording))
    if not runs:
        raise QueryError(f"no recording {questions.recording!r} in this store")
    return np.concatenate([np.arange(first, last + 1) for first, last in runs])


def check_clip_ids(reader: Reader, clips: ArrayLike) -> NDArray[np.int64]:
    """Check clip ids and return them, int64 [n].

    Parameters
    ----------
    reader : Reader
        The open store.
    clips : array_like of int, shape [n]
        Clip ids.

    Raises
    ------
    QueryError
        If they are not integers, or one was deleted or never in the store.
    """
    array = np.asarray(clips)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise QueryError("clips must be a list of integer clip ids")
    ids = np.ascontiguousarray(array, np.int64)
    known = reader.vectors.known_ids()
    unknown = (ids < 0) | (ids >= len(known))
    unknown |= ~known[np.where(unknown, 0, ids)] if len(known) else True
    if unknown.any():
        further = int(unknown.sum()) - 1
        raise QueryError(
            f"no clip {ids[unknown][0]} in this store; it was deleted or never existed"
            + (f" (and {further:,} more)" if further else "")
        )
    return ids


def _batches(
    reader: Reader,
    exclude: str,
    search: Search,
    text: str,
    query_ids: NDArray[np.int64],
    vectors: NDArray[np.float32],
) -> Generator[pa.RecordBatch, None, None]:
    for start in range(0, len(query_ids), BATCH):
        batch_ids, queries = query_ids[start : start + BATCH], vectors[start : start + BATCH]
        hits: list[Hits] = [(np.empty(0, np.int64), np.empty(0))] * len(batch_ids)
        method = ""
        for indices, without in _by_owner(reader, exclude, batch_ids):
            runs = merged([*search.without, *without])
            result = nearest(reader, queries[indices], replace(search, without=runs))
            for index, hit in zip(indices, result.hits, strict=True):
                hits[index] = hit
            method = result.method
        yield _record_batch(reader, batch_ids, hits, method + text)


def _by_owner(
    reader: Reader, exclude: str, clips: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], tuple[tuple[int, int], ...]]]:
    """Group queries that exclude the same clips: (indices of the queries, runs to exclude)."""
    if exclude == "none":
        yield np.arange(len(clips)), ()
        return
    owners = reader.rows(clips)[f"{exclude}_id"].to_pylist()
    for owner in dict.fromkeys(owners):
        indices = np.array(
            [index for index, other in enumerate(owners) if other == owner], np.int64
        )
        yield indices, tuple(runs_of(reader, exclude, ((owner, owner),)))


def _record_batch(
    reader: Reader, query_ids: NDArray[np.int64], hits: list[Hits], note: str
) -> pa.RecordBatch:
    ids = np.concatenate([ids for ids, _ in hits])
    scores = np.concatenate([scores for _, scores in hits])
    table = answer_table(reader.rows(ids), scores, [len(ids) for ids, _ in hits], query_ids)
    table = table.replace_schema_metadata({"note": note}).combine_chunks()
    return table.to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], table.schema)
