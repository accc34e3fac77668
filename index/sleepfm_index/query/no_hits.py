"""Explanation of a query without results."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm_index.query.question import Question
from sleepfm_index.reader import Reader
from sleepfm_index.storage.quoting import quote_name

_VALUES: Final = 8
_COLUMNS: Final = 3
_TEXT_IN_QUOTES: Final = re.compile(r"'(?:[^']|'')*'")
_NAME: Final = re.compile(r'"((?:[^"]|"")+)"|([A-Za-z_]\w*)')


def why_none(reader: Reader, question: Question, allowed: NDArray[np.int64] | None) -> str:
    """Explain why no clip was found, with the values of the condition's columns.

    Parameters
    ----------
    reader : Reader
        The open store.
    question : Question
        The query.
    allowed : ndarray of int64, shape [n], optional
        Ids of the clips that meet ``question.where``; None if there is no condition.

    Returns
    -------
    str
    """
    if allowed is None or len(allowed):
        count = "no clip" if allowed is None else f"{len(allowed):,} clips meet the condition, none"
        excluded = (
            f" outside the query's own {question.exclude}" if question.exclude != "none" else ""
        )
        advice = "; --exclude none keeps its own" if excluded and allowed is not None else ""
        return f"{count} with {question.to}{excluded}{advice}"
    return no_clip_meets(reader, question.where or "")


def no_clip_meets(reader: Reader, condition: str) -> str:
    """Return a sentence on a condition that no clip meets, with the values of its first columns.

    Parameters
    ----------
    reader : Reader
        The open store.
    condition : str
        SQL condition over the columns of ``clips``.

    Returns
    -------
    str
    """
    descriptions = [
        describe_values(reader, name) for name in columns_of(condition, reader)[:_COLUMNS]
    ]
    return "; ".join(["no clip meets the condition", *descriptions])


def columns_of(condition: str, reader: Reader) -> list[str]:
    """Columns of ``clips`` in a condition, in order.

    Parameters
    ----------
    condition : str
        SQL condition.
    reader : Reader
        The open store.
    """
    names = {name.lower(): name for name in reader.metadata.columns().names}
    columns: list[str] = []
    for quoted, plain in _NAME.findall(_TEXT_IN_QUOTES.sub("", condition)):
        name = names.get((quoted.replace('""', '"') or plain).lower())
        if name is not None and name not in columns:
            columns.append(name)
    return columns


def describe_values(reader: Reader, name: str) -> str:
    """Describe the values of a column: the most frequent texts, or the range of numbers.

    Parameters
    ----------
    reader : Reader
        The open store.
    name : str
        Name of a column of ``clips``.
    """
    column = quote_name(name)
    data_type = reader.metadata.columns().field(name).type
    if pa.types.is_integer(data_type) or pa.types.is_floating(data_type):
        (row,) = reader.metadata.select(
            f"SELECT min({column}) AS low, max({column}) AS high FROM clips"
        ).to_pylist()
        if row["low"] is None:
            return f"{name} holds no value"
        return f"{name} is between {row['low']:g} and {row['high']:g}"
    if pa.types.is_nested(data_type):
        return f"{name} holds lists"
    rows = reader.metadata.select(
        f"SELECT {column} AS value FROM clips WHERE {column} IS NOT NULL "
        f"GROUP BY value ORDER BY count(*) DESC, value LIMIT {_VALUES + 1}"
    ).to_pylist()
    if not rows:
        return f"{name} holds no value"
    texts = [str(row["value"]) for row in rows]
    ellipsis = ", ..." if len(texts) > _VALUES else ""
    return f"{name} holds {', '.join(texts[:_VALUES])}{ellipsis}"
