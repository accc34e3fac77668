"""The table of an answer, and its note; one place for one query, a batch and an engine."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.query.question import Question
from sleepfm_index.storage.metadata import int64s


def answer_table(
    rows: pa.Table,
    scores: NDArray[np.float64],
    counts: list[int],
    query_clip_ids: NDArray[np.int64] | None = None,
) -> pa.Table:
    """Put ranks and scores before the metadata of the clips that were found.

    Parameters
    ----------
    rows : pyarrow.Table
        Metadata of the clips found, those of one query after those of another, best first.
    scores : ndarray of float64, shape [n]
        One per row.
    counts : list of int
        How many rows each query has.
    query_clip_ids : ndarray of int64, shape [queries], optional
        Put the query's clip id before everything else.

    Returns
    -------
    pyarrow.Table
        Columns [query_clip_id,] rank, score, and those of ``rows``.
    """
    ranks = np.concatenate([np.arange(1, n + 1) for n in counts] or [np.empty(0, np.int64)])
    table = rows.add_column(0, "score", float64s(scores)).add_column(0, "rank", int64s(ranks))
    if query_clip_ids is not None:
        table = table.add_column(0, "query_clip_id", int64s(np.repeat(query_clip_ids, counts)))
    return table


def answer_note(question: Question, origin: str, found: int, method: str) -> str:
    """Say in one line what was asked, of what, and how surely it was found.

    Parameters
    ----------
    question : Question
    origin : str
        The query clip in words.
    found : int
        Rows of the answer.
    method : str
        ``exact search``, or the kind of index and its measured recall.
    """
    left_out = f", own {question.exclude} left out" if question.exclude != "none" else ""
    where = f", where {question.where}" if question.where else ""
    spread = f", one per {question.spread:g} s of a recording" if question.spread else ""
    return (
        f"{question.modality} of {origin} -> {question.to}: "
        f"{found} nearest{where}{left_out}{spread}; {method}"
    )


def float64s(values: NDArray[np.float64]) -> pa.Array:
    """Wrap numbers as an Arrow array; see :func:`~sleepfm_index.storage.metadata.int64s`.

    Parameters
    ----------
    values : ndarray of float64, shape [n]
    """
    whole = np.ascontiguousarray(values, np.float64)
    return pa.Array.from_buffers(pa.float64(), len(whole), [None, pa.py_buffer(whole)])
