"""The candidates of a query: a condition, a list of clips, and exclusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.query.spans import Spans
from sleepfm_index.reader import Reader
from sleepfm_index.storage.quoting import shown

Run = tuple[int, int]


@dataclass(frozen=True)
class Scope:
    """The candidates of a query.

    Parameters
    ----------
    allowed : ndarray of int64, shape [n], or None
        Ids of the candidates, ascending; None allows all.
    without : tuple of (int, int)
        First and last clip id of excluded runs, both inclusive.
    text : str
        Description for the note of the result; empty, or beginning with a comma.
    """

    allowed: NDArray[np.int64] | None
    without: tuple[Run, ...]
    text: str


def scope(
    reader: Reader,
    where: str | None = None,
    allowed: ArrayLike | None = None,
    exclude_subjects: Sequence[str] = (),
    without: Sequence[Run] = (),
) -> Scope:
    """Combine conditions, lists and exclusions.

    Parameters
    ----------
    reader : Reader
        The open store.
    where : str, optional
        SQL condition over the columns of ``clips``.
    allowed : array_like of int, shape [n], optional
        Clip ids, in any order; ``text`` states the number of ids that are not in the store.
    exclude_subjects : sequence of str
        Subjects whose clips are excluded; ``text`` names those that are not in the store.
    without : sequence of (int, int)
        First and last clip id of further runs to exclude, both inclusive.

    Returns
    -------
    Scope

    Raises
    ------
    QueryError
        If the condition is not valid, or the ids are not integers.
    """
    ids = None if where is None else reader.metadata.clip_ids(where)
    parts = [] if where is None else [f"where {shown(where)}"]
    if allowed is not None:
        listed, known = _known(reader, allowed)
        unknown = len(listed) - len(known)
        missing = f" ({unknown:,} of them not in this store)" if unknown else ""
        parts.append(f"among {len(listed):,} listed clips{missing}")
        ids = known if ids is None else np.intersect1d(ids, known, assume_unique=True)
    runs = list(without)
    if exclude_subjects:
        named = set(exclude_subjects)
        spans = Spans.of(reader)
        runs += spans.of_subjects(named)
        unknown_names = spans.unknown_subjects(named)
        missing = f" ({_few(unknown_names)} not in this store)" if unknown_names else ""
        parts.append(f"without {len(named):,} listed subject{'s' * (len(named) > 1)}{missing}")
    return Scope(ids, merged(runs), "".join(f", {part}" for part in parts))


def merged(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Sort runs and merge adjacent or overlapping ones.

    Parameters
    ----------
    runs : sequence of (int, int)
        First and last clip id of each run, both inclusive.
    """
    result: list[Run] = []
    for first, last in sorted(runs):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(result[-1][1], last))
        else:
            result.append((first, last))
    return tuple(result)


def _known(reader: Reader, allowed: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct listed ids, and the subset that is in the store, both ascending."""
    given = np.asarray(allowed)
    if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
        raise QueryError("allowed clips must be a list of integer clip ids")
    # np.unique hashes integers, which takes ten times as long for a million as sorting them.
    listed = np.sort(given.astype(np.int64))
    listed = listed[np.concatenate([[True], listed[1:] != listed[:-1]])] if len(listed) else listed
    stored = reader.vectors.known_ids()
    inside = listed[(listed >= 0) & (listed < len(stored))]
    return listed, inside[stored[inside]]


def _few(names: Sequence[str]) -> str:
    listed = ", ".join(names[:3])
    return listed if len(names) <= 3 else f"{listed} and {len(names) - 3:,} more"
