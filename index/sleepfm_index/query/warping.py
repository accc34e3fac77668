"""Comparison of stretches with elastic time: dynamic time warping by dtaidistance."""

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
    """A stretch with its score.

    Parameters
    ----------
    first : int
        Id of the first clip.
    clips : int
        Number of clips.
    score : float
        Similarity to the query; higher is nearer.
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

    Each stretch is extended by a quarter of its length on both sides, and the path may start and
    end anywhere in the extensions (Sakoe and Chiba 1978; psi relaxation, Silva and Batista 2016).
    The squared Euclidean distance of unit vectors is 2 - 2 cos, so the path of least distance has
    the least sum of 1 - cos. The score is 1 minus this sum divided by the number of query clips.

    Parameters
    ----------
    reader : Reader
        The open store.
    target : str
        Search target: a modality, or ``others_of_<modality>``.
    vectors : ndarray of float32, shape [m, 512]
        Vectors of the query's clips, in order.
    length : int
        Number of clips of a stretch.
    near : sequence of Warped
        Stretches to compare.
    within : Scope
        The candidates.

    Returns
    -------
    list of Warped
        The stretches between the ends of their warping paths, with their scores.

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
    results = []
    for stretch in near:
        span = int(spans.index_of(np.array([stretch.first]))[0])
        begin = max(int(spans.first[span]), stretch.first - margin)
        end = min(int(spans.last[span]), stretch.first + stretch.clips - 1 + margin)
        ids = np.arange(begin, end + 1)
        allowed = known[ids] if selection.keep is None else known[ids] & selection.keep(ids)
        ids = ids[allowed]
        read, present = reader.vectors.of(ids, target)
        ids, series = ids[present], np.ascontiguousarray(read[present], np.float64)
        before = int((ids < stretch.first).sum())
        after = int((ids >= stretch.first + stretch.clips).sum())
        path = dtw_ndim.warping_path(query, series, psi=(0, 0, before, after))
        query_rows, series_rows = np.array(path).T
        cosines = np.einsum("pd,pd->p", query[query_rows], series[series_rows])
        score = 1 - float((1 - cosines).sum()) / len(query)
        first, last = int(ids[series_rows[0]]), int(ids[series_rows[-1]])
        results.append(Warped(first, last - first + 1, score))
    return results
