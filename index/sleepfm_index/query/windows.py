"""Windows of consecutive clips, scored against the clips of a stretch offset by offset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.query.scope import Scope
from sleepfm_index.query.spans import Spans
from sleepfm_index.reader import Reader
from sleepfm_index.search.selection import Selection

_MAX_PROBES: Final = 40
"""Maximum number of clips of a stretch, evenly spaced, that search for likely windows."""
_DEPTH: Final = 200
_SCORED: Final = 1000
"""Number of likely windows that are compared clip by clip."""
_BLOCK: Final = 1 << 15


@dataclass(frozen=True)
class Windows:
    """Windows and their scores, best first.

    Parameters
    ----------
    first : ndarray of int64, shape [n]
        Id of the first clip of each window, whose clip ids are consecutive.
    scores : ndarray of float64, shape [n]
        Mean inner product over the clips.
    """

    first: NDArray[np.int64]
    scores: NDArray[np.float64]


def all_windows(
    reader: Reader,
    target: str,
    vectors: NDArray[np.float32],
    offsets: NDArray[np.int64],
    length: int,
    k: int,
    within: Scope,
) -> Windows:
    """Score every window of a store.

    Parameters
    ----------
    reader : Reader
        The open store.
    target : str
        Search target: a modality, or ``others_of_<modality>``.
    vectors : ndarray of float32, shape [m, 512]
        Vectors of the query's clips.
    offsets : ndarray of int64, shape [m]
        Offset of each query clip within the stretch, in clips from 0.
    length : int
        Number of clips of a window.
    k : int
        Not used: all windows are returned.
    within : Scope
        The candidates.

    Returns
    -------
    Windows
        Windows within one recording whose clips are all candidates and have the target.
    """
    limit = reader.manifest.stored_ids
    total = np.zeros(limit + length, np.float64)
    count = np.zeros(limit + length, np.int64)
    selection = Selection.of(reader.manifest, within.allowed, within.without)
    for segment in reader.manifest.segments:
        for ids, block in reader.vectors.blocks(segment.id, target, selection.keep):
            scores = block @ vectors.T
            for column, offset in enumerate(offsets.tolist()):
                begins = ids >= offset
                total[ids[begins] - offset] += scores[begins, column]
                count[ids[begins] - offset] += 1
    first = np.flatnonzero(count == len(offsets))
    first = first[_possible(reader, first, length, selection)]
    return _ranked(first, total[first] / len(offsets))


def likely_windows(
    reader: Reader,
    target: str,
    vectors: NDArray[np.float32],
    offsets: NDArray[np.int64],
    length: int,
    k: int,
    within: Scope,
) -> Windows:
    """Score the windows with a clip near to the query's clip at the same offset.

    At most :data:`_MAX_PROBES` query clips, evenly spaced, search for their nearest clips. The
    windows with the highest sum of scores are compared clip by clip. In the sum, a clip that the
    search did not find counts as much as the last one that it found.

    Parameters
    ----------
    reader, target, vectors, offsets, length, within
        As in :func:`all_windows`.
    k : int
        Number of windows that the caller needs; fewer are returned if fewer are found.

    Returns
    -------
    Windows
    """
    chosen = np.unique(np.linspace(0, len(offsets) - 1, min(_MAX_PROBES, len(offsets))).round())
    probes = chosen.astype(np.int64)
    result = reader.find(
        target, vectors[probes], max(_DEPTH, 20 * k), within.allowed, without=within.without
    )
    pairs = zip(offsets[probes].tolist(), result.hits, strict=True)
    begins, gains, floor = [], [], 0.0
    for offset, (ids, scores) in pairs:
        if len(ids):
            begins.append(ids - offset)
            gains.append(scores - scores[-1])
            floor += float(scores[-1])
    if not begins:
        return Windows(np.empty(0, np.int64), np.empty(0))
    first, window = np.unique(np.concatenate(begins), return_inverse=True)
    gain = np.bincount(window, np.concatenate(gains), len(first))
    selection = Selection.of(reader.manifest, within.allowed, within.without)
    possible = _possible(reader, first, length, selection)
    first, gain = first[possible], gain[possible]
    first = first[np.argsort(-gain, kind="stable")[: max(_SCORED, 20 * k)]]
    return _scored(reader, target, vectors, offsets, first)


def _scored(
    reader: Reader,
    target: str,
    vectors: NDArray[np.float32],
    offsets: NDArray[np.int64],
    first: NDArray[np.int64],
) -> Windows:
    scores = np.full(len(first), -np.inf)
    step = max(1, _BLOCK // len(offsets))
    for start in range(0, len(first), step):
        block = first[start : start + step]
        read, present = reader.vectors.of((block[:, None] + offsets).ravel(), target)
        complete = present.reshape(len(block), -1).all(axis=1)
        products = np.einsum(
            "wmd,md->w", read.reshape(len(block), len(offsets), -1), vectors, optimize=True
        )
        scores[start : start + step] = np.where(complete, products / len(offsets), -np.inf)
    kept = np.isfinite(scores)
    return _ranked(first[kept], scores[kept])


def _possible(
    reader: Reader, first: NDArray[np.int64], length: int, selection: Selection
) -> NDArray[np.bool_]:
    """Mask of windows within one recording whose clips are all in the store and allowed."""
    known = reader.vectors.known_ids()
    if selection.keep is not None:
        ids = np.flatnonzero(known)
        known[ids] = selection.keep(ids)
    before = np.concatenate([[0], np.cumsum(known)])
    inside = (first >= 0) & (first + length <= len(known))
    safe = np.where(inside, first, 0)
    end = np.minimum(safe + length, len(known))
    complete = inside & (before[end] - before[safe] == length)
    spans = Spans.of(reader)
    same_recording = spans.index_of(safe) == spans.index_of(np.maximum(end - 1, 0))
    return np.asarray(complete & same_recording, bool)


def _ranked(first: NDArray[np.int64], scores: NDArray[np.float64]) -> Windows:
    order = np.lexsort((first, -scores))
    return Windows(first[order], scores[order])
