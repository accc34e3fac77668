"""Why a query found nothing, in words."""

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
    """Explain why no clip was found, and what the columns of the condition hold.

    Parameters
    ----------
    reader : Reader
        The open store.
    question : Question
        What was asked.
    allowed : ndarray of int64, shape [n], optional
        Ids of the clips that meet ``question.where``; None if there is no condition.

    Returns
    -------
    str
    """
    if allowed is None or len(allowed):
        met = "no clip" if allowed is None else f"{len(allowed):,} clips meet the condition, none"
        own = f" outside the query's own {question.exclude}" if question.exclude != "none" else ""
        advice = "; --exclude none keeps its own" if own and allowed is not None else ""
        return f"{met} with {question.to}{own}{advice}"
    return no_clip_meets(reader, question.where or "")


def no_clip_meets(reader: Reader, condition: str) -> str:
    """Say that no clip meets a condition, and what its first columns hold.

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
    held = [held_by(reader, name) for name in columns_of(condition, reader)[:_COLUMNS]]
    return "; ".join(["no clip meets the condition", *held])


def columns_of(condition: str, reader: Reader) -> list[str]:
    """Columns of ``clips`` that a condition names, in its order.

    Parameters
    ----------
    condition : str
        SQL condition.
    reader : Reader
        The open store.
    """
    there = {name.lower(): name for name in reader.metadata.columns().names}
    found: list[str] = []
    for quoted, plain in _NAME.findall(_TEXT_IN_QUOTES.sub("", condition)):
        name = there.get((quoted.replace('""', '"') or plain).lower())
        if name is not None and name not in found:
            found.append(name)
    return found


def held_by(reader: Reader, name: str) -> str:
    """List which values a column holds: the most frequent texts, or the range of numbers.

    Parameters
    ----------
    reader : Reader
        The open store.
    name : str
        A column of ``clips``.
    """
    column = quote_name(name)
    kind = reader.metadata.columns().field(name).type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        (row,) = reader.metadata.select(
            f"SELECT min({column}) AS low, max({column}) AS high FROM clips"
        ).to_pylist()
        if row["low"] is None:
            return f"{name} holds no value"
        return f"{name} lies between {row['low']:g} and {row['high']:g}"
    if pa.types.is_nested(kind):
        return f"{name} holds lists"
    rows = reader.metadata.select(
        f"SELECT {column} AS value FROM clips WHERE {column} IS NOT NULL "
        f"GROUP BY value ORDER BY count(*) DESC, value LIMIT {_VALUES + 1}"
    ).to_pylist()
    if not rows:
        return f"{name} holds no value"
    texts = [str(row["value"]) for row in rows]
    more = ", ..." if len(texts) > _VALUES else ""
    return f"{name} holds {', '.join(texts[:_VALUES])}{more}"
