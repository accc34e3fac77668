"""Windows of clips in a row, scored against the clips of a stretch place by place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.query.scope import Scope
from sleepfm_index.query.spans import Spans
from sleepfm_index.reader import Reader
from sleepfm_index.search.selection import Selection

_ASKING: Final = 40
"""Most clips of a stretch that look for likely windows, evenly spaced."""
_DEPTH: Final = 200
_SCORED: Final = 1000
"""Likely windows whose every clip is compared."""
_AT_ONCE: Final = 1 << 15


@dataclass(frozen=True)
class Windows:
    """Windows and their scores, best first.

    Parameters
    ----------
    first : ndarray of int64, shape [n]
        The first clip of each; the others have the ids that follow.
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
        What is searched.
    vectors : ndarray of float32, shape [m, 512]
        Vectors of the query's clips.
    offsets : ndarray of int64, shape [m]
        Place of each within the stretch, from 0.
    length : int
        Clips of a window.
    k : int
        Without effect here: all windows are given.
    within : Scope
        Which clips may be found.

    Returns
    -------
    Windows
        Those in one recording whose clips all may be found and have the target.
    """
    limit = reader.manifest.stored_ids
    total = np.zeros(limit + length, np.float64)
    count = np.zeros(limit + length, np.int64)
    selection = Selection.of(reader.manifest, within.allowed, within.without)
    for segment in reader.manifest.segments:
        for ids, block in reader.vectors.blocks(segment.id, target, selection.keep):
            scores = block @ vectors.T
            for at, offset in enumerate(offsets.tolist()):
                begins = ids >= offset
                total[ids[begins] - offset] += scores[begins, at]
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
    """Score the windows that hold a clip near to the query's clip at the same place.

    Of these, those are scored whose clips score highest where they were found, and where they were
    not, at most as high as the last that was.

    Parameters
    ----------
    reader, target, vectors, offsets, length, within
        As for :func:`all_windows`.
    k : int
        How many are wanted.

    Returns
    -------
    Windows
    """
    chosen = np.unique(np.linspace(0, len(offsets) - 1, min(_ASKING, len(offsets))).round())
    places = chosen.astype(np.int64)
    found = reader.find(
        target, vectors[places], max(_DEPTH, 20 * k), within.allowed, without=within.without
    )
    pairs = zip(offsets[places].tolist(), found.hits, strict=True)
    begins, gains, floor = [], [], 0.0
    for offset, (ids, scores) in pairs:
        if len(ids):
            begins.append(ids - offset)
            gains.append(scores - scores[-1])
            floor += float(scores[-1])
    if not begins:
        return Windows(np.empty(0, np.int64), np.empty(0))
    first, at = np.unique(np.concatenate(begins), return_inverse=True)
    most = np.bincount(at, np.concatenate(gains), len(first))
    selection = Selection.of(reader.manifest, within.allowed, within.without)
    possible = _possible(reader, first, length, selection)
    first, most = first[possible], most[possible]
    first = first[np.argsort(-most, kind="stable")[: max(_SCORED, 20 * k)]]
    return _scored(reader, target, vectors, offsets, first)


def _scored(
    reader: Reader,
    target: str,
    vectors: NDArray[np.float32],
    offsets: NDArray[np.int64],
    first: NDArray[np.int64],
) -> Windows:
    scores = np.full(len(first), -np.inf)
    step = max(1, _AT_ONCE // len(offsets))
    for start in range(0, len(first), step):
        some = first[start : start + step]
        read, present = reader.vectors.of((some[:, None] + offsets).ravel(), target)
        there = present.reshape(len(some), -1).all(axis=1)
        products = np.einsum(
            "wmd,md->w", read.reshape(len(some), len(offsets), -1), vectors, optimize=True
        )
        scores[start : start + step] = np.where(there, products / len(offsets), -np.inf)
    kept = np.isfinite(scores)
    return _ranked(first[kept], scores[kept])


def _possible(
    reader: Reader, first: NDArray[np.int64], length: int, selection: Selection
) -> NDArray[np.bool_]:
    """Which windows lie in one recording, with every clip in the store and allowed."""
    known = reader.vectors.known_ids()
    if selection.keep is not None:
        places = np.flatnonzero(known)
        known[places] = selection.keep(places)
    before = np.concatenate([[0], np.cumsum(known)])
    inside = (first >= 0) & (first + length <= len(known))
    safe = np.where(inside, first, 0)
    end = np.minimum(safe + length, len(known))
    whole = inside & (before[end] - before[safe] == length)
    spans = Spans.of(reader)
    same = spans.places(safe) == spans.places(np.maximum(end - 1, 0))
    return np.asarray(whole & same, bool)


def _ranked(first: NDArray[np.int64], scores: NDArray[np.float64]) -> Windows:
    order = np.lexsort((first, -scores))
    return Windows(first[order], scores[order])
