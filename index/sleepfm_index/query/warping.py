"""Stretches compared with elastic time: dynamic time warping by dtaidistance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import StoreError
from sleepfm_index.query.scope import Scope
from sleepfm_index.query.spans import Spans
from sleepfm_index.reader import Reader
from sleepfm_index.search.selection import Selection


@dataclass(frozen=True)
class Warped:
    """A stretch that was found.

    Parameters
    ----------
    first : int
        Id of its first clip.
    clips : int
        How many clips it has.
    score : float
        How near it is.
    """

    first: int
    clips: int
    score: float


def warp(
    reader: Reader,
    target: str,
    vectors: NDArray[np.float32],
    length: int,
    near: Sequence[Warped],
    within: Scope,
) -> list[Warped]:
    """Compare stretches with the query along the best warping path.

    Each stretch is widened by a quarter of its length on both sides; where the path begins and ends
    in it is free (Sakoe and Chiba 1978; psi relaxation, Silva and Batista 2016). The squared
    Euclidean distance of unit vectors is 2 - 2 cos, so the path of least distance is that of the
    least sum of 1 - cos; the score is one less this sum, per clip of the query.

    Parameters
    ----------
    reader : Reader
        The open store.
    target : str
        What is searched.
    vectors : ndarray of float32, shape [m, 512]
        Vectors of the query's clips, in order.
    length : int
        Clips of a stretch.
    near : sequence of Warped
        Stretches to compare.
    within : Scope
        Which clips may be found.

    Returns
    -------
    list of Warped
        The stretches between the ends of their paths, with their scores.

    Raises
    ------
    StoreError
        If dtaidistance is not installed.
    """
    try:
        from dtaidistance import dtw_ndim
    except ImportError as error:
        raise StoreError(
            'elastic stretches need dtaidistance; pip install "sleepfm-index[elastic]"'
        ) from error
    spans = Spans.of(reader)
    margin = max(1, round(length / 4))
    known = reader.vectors.known_ids()
    selection = Selection.of(reader.manifest, within.allowed, within.without)
    query = np.ascontiguousarray(vectors, np.float64)
    found = []
    for one in near:
        span = int(spans.places(np.array([one.first]))[0])
        begin = max(int(spans.first[span]), one.first - margin)
        end = min(int(spans.last[span]), one.first + one.clips - 1 + margin)
        ids = np.arange(begin, end + 1)
        allowed = known[ids] if selection.keep is None else known[ids] & selection.keep(ids)
        ids = ids[allowed]
        read, present = reader.vectors.of(ids, target)
        ids, series = ids[present], np.ascontiguousarray(read[present], np.float64)
        before = int((ids < one.first).sum())
        after = int((ids >= one.first + one.clips).sum())
        path = dtw_ndim.warping_path(query, series, psi=(0, 0, before, after))
        mine, theirs = np.array(path).T
        cosines = np.einsum("pd,pd->p", query[mine], series[theirs])
        score = 1 - float((1 - cosines).sum()) / len(query)
        first, last = int(ids[theirs[0]]), int(ids[theirs[-1]])
        found.append(Warped(first, last - first + 1, score))
    return found
