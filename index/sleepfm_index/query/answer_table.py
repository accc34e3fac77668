"""The table and the note of a result, for single queries, batches and engines."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.query.question import Question
from sleepfm_index.storage.arrow_columns import int64s
from sleepfm_index.storage.quoting import shown


def answer_table(
    rows: pa.Table,
    scores: NDArray[np.float64],
    counts: list[int],
    query_clip_ids: NDArray[np.int64] | None = None,
) -> pa.Table:
    """Add ranks and scores to the metadata of the result clips.

    Parameters
    ----------
    rows : pyarrow.Table, n rows
        Metadata of the result clips, query by query, best first.
    scores : ndarray of float64, shape [n]
        Score of each row.
    counts : list of int
        Number of rows of each query.
    query_clip_ids : ndarray of int64, shape [queries], optional
        Clip id of each query, for the column ``query_clip_id``.

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


def answer_note(
    question: Question,
    origin: str,
    count: int,
    method: str,
    *,
    target: str,
    score: str,
    scope: str | None = None,
    known: bool = True,
) -> str:
    """Summarise a query and its search method in one line.

    Parameters
    ----------
    question : Question
        The query.
    origin : str
        Description of the query clip.
    count : int
        Number of rows of the result.
    method : str
        ``exact search``, or the kind of index and its measured recall.
    target : str
        Description of the target.
    score : str
        Description of the score.
    scope : str, optional
        Description of the candidates; by default the condition only.
    known : bool
        Whether the recording and subject of the query are known.

    Returns
    -------
    str
    """
    exclusion = f", own {question.exclude} left out" if question.exclude != "none" else ""
    if exclusion and not known:
        unknown = "file is not" if question.file is not None else "vector is not of"
        exclusion = f", the {unknown} a recording of this store, so nothing was excluded as its own"
    if scope is None:
        scope = f", where {shown(question.where)}" if question.where else ""
    min_gap = f", one per {question.min_gap:g} s of a recording" if question.min_gap else ""
    return (
        f"{question.modality} of {origin} -> {target}: "
        f"{count} nearest{scope}{exclusion}{min_gap}; score: {score}; {method}"
    )


def float64s(values: NDArray[np.float64]) -> pa.Array:
    """Wrap numbers as an Arrow array; see :func:`~sleepfm_index.storage.metadata.int64s`.

    Parameters
    ----------
    values : ndarray of float64, shape [n]
        The numbers.

    Returns
    -------
    pyarrow.Array of double
    """
    contiguous = np.ascontiguousarray(values, np.float64)
    return pa.Array.from_buffers(pa.float64(), len(contiguous), [None, pa.py_buffer(contiguous)])
