"""Clips unlike all others, clips that lie twice in a store, and embeddings that hardly vary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.query.spans import Spans
from sleepfm_index.reader import Reader

NEIGHBOURS: Final = 10
GALLERY: Final = 20_000
"""Clips drawn to compare with, where a store has more."""
OUTLYING: Final = 6.0
"""Scaled median absolute deviations below the median at which a clip is an outlier."""
SAME: Final = 0.999
"""Cosine at and above which two clips are the same, in every modality that both have."""
SAME_NIGHT: Final = 0.5
"""Share of a recording's clips that lie in one other recording from which on they are one night."""
FLAT: Final = 0.02
"""Mean distance (1 - cosine) of clips from the mean of their recording below which, as a share of
the median recording's, its embeddings are flat."""
_LEAST: Final = 20
_AT_ONCE: Final = 1024


@dataclass(frozen=True)
class Odd:
    """Clips that are odd in one way.

    Parameters
    ----------
    clip_ids : ndarray of int64, shape [n]
    reasons : list of str
    values : ndarray of float64, shape [n]
        How odd each is; what it measures depends on the kind.
    others : ndarray of int64, shape [n]
        The clip that each is the same as; -1 where there is none.
    """

    clip_ids: NDArray[np.int64]
    reasons: list[str]
    values: NDArray[np.float64]
    others: NDArray[np.int64]


def outliers(reader: Reader, modality: str, ids: NDArray[np.int64], seed: int = 0) -> Odd:
    """Find the clips that are far from all clips of other recordings.

    The mean cosine to the :data:`NEIGHBOURS` nearest clips of other recordings is compared with its
    median over all clips, in scaled median absolute deviations (Leys et al. 2013).

    Parameters
    ----------
    reader : Reader
        The open store.
    modality : str
        Name of the modality.
    ids : ndarray of int64, shape [n]
        Clips to look at, ascending.
    seed : int
        Seed by which clips are drawn to compare with.
    """
    ids = _having(reader, ids, modality)
    if len(ids) <= NEIGHBOURS:
        return _nothing()
    spans = Spans.of(reader)
    drawn = np.random.default_rng(seed).permutation(ids)[:GALLERY]
    gallery, _ = reader.vectors.of(drawn, modality)
    owner = spans.index_of(drawn)
    near = np.empty(len(ids))
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        scores = reader.vectors.of(some, modality)[0] @ gallery.T
        scores[spans.index_of(some)[:, None] == owner[None]] = -1
        k = min(NEIGHBOURS, scores.shape[1])
        near[start : start + len(some)] = np.partition(scores, -k, axis=1)[:, -k:].mean(axis=1)
    centre = float(np.median(near))
    spread = 1.4826 * float(np.median(np.abs(near - centre)))
    depth = (centre - near) / max(spread, 1e-6)
    odd = np.flatnonzero(depth > OUTLYING)
    odd = odd[np.argsort(-depth[odd], kind="stable")]
    reasons = [
        f"{modality} unlike all other recordings: mean cosine to the nearest {near[at]:.2f}, "
        f"median {centre:.2f}"
        for at in odd
    ]
    return Odd(ids[odd], reasons, depth[odd], np.full(len(odd), -1))


def duplicates(reader: Reader, ids: NDArray[np.int64]) -> Odd:
    """Find the clips that are the same as another: copied, or of a night that was added twice.

    Candidates come from one modality after another by the store's own search; a pair counts where
    the cosine is at least :data:`SAME` in every modality that both clips have, and they share one.
    The later clip of a pair is named.

    Parameters
    ----------
    reader : Reader
        The open store.
    ids : ndarray of int64, shape [n]
        Clips to look at, ascending.
    """
    modalities = reader.manifest.modalities
    same: dict[int, tuple[int, float]] = {}
    for modality in modalities:
        some = _having(reader, ids, modality)
        for start in range(0, len(some), _AT_ONCE):
            asked = some[start : start + _AT_ONCE]
            vectors, _ = reader.vectors.of(asked, modality)
            hits = reader.find(modality, vectors, 4, ids).hits
            pairs = [
                (int(clip), int(other))
                for clip, (found, scores) in zip(asked, hits, strict=True)
                for other in found[scores >= SAME]
                if other < clip
            ]
            for clip, other, least in _in_all(reader, pairs, modalities):
                if clip not in same or other < same[clip][0]:
                    same[clip] = (other, least)
    clips = np.array(sorted(same), np.int64)
    others = np.array([same[int(clip)][0] for clip in clips], np.int64)
    return _named(reader, clips, others, np.array([same[int(clip)][1] for clip in clips]))


def flat(reader: Reader, modality: str, ids: NDArray[np.int64]) -> Odd:
    """Find recordings whose embeddings hardly vary, as of a sensor that records nothing.

    Parameters
    ----------
    reader : Reader
        The open store.
    modality : str
        Name of the modality.
    ids : ndarray of int64, shape [n]
        Clips to look at, ascending.

    Returns
    -------
    Odd
        All clips of these recordings.
    """
    ids = _having(reader, ids, modality)
    spans = Spans.of(reader)
    places = spans.index_of(ids)
    spread: dict[int, float] = {}
    for place in np.unique(places).tolist():
        own = ids[places == place]
        if len(own) < _LEAST:
            continue
        vectors = reader.vectors.of(own, modality)[0].astype(np.float64)
        mean = vectors.mean(axis=0)
        spread[place] = float(1 - (vectors @ mean).mean() / max(np.linalg.norm(mean), 1e-12))
    if not spread:
        return _nothing()
    usual = float(np.median(list(spread.values())))
    found = [place for place, value in spread.items() if value < max(FLAT * usual, 1e-6)]
    chosen = ids[np.isin(places, found)]
    values = np.array([spread[int(place)] for place in spans.index_of(chosen)])
    reasons = [
        f"{modality} embeddings of {spans.recordings[int(place)]} hardly vary: {value:.1e}, median "
        f"recording {usual:.1e}"
        for place, value in zip(spans.index_of(chosen), values, strict=True)
    ]
    return Odd(chosen, reasons, values, np.full(len(chosen), -1))


def _in_all(
    reader: Reader, pairs: list[tuple[int, int]], modalities: tuple[str, ...]
) -> list[tuple[int, int, float]]:
    """Pairs that are the same in every modality that both have, and the least cosine."""
    if not pairs:
        return []
    left, right = np.array(pairs, np.int64).T
    least = np.full(len(pairs), np.inf)
    for modality in modalities:
        a, has_a = reader.vectors.of(left, modality)
        b, has_b = reader.vectors.of(right, modality)
        cosine = np.einsum("nd,nd->n", a.astype(np.float64), b.astype(np.float64))
        least = np.where(has_a & has_b, np.minimum(least, cosine), least)
        # One that lacks what the other has is no copy of it.
        least = np.where(has_a != has_b, -1.0, least)
    kept = np.flatnonzero((least >= SAME) & np.isfinite(least))
    return [(int(left[at]), int(right[at]), float(least[at])) for at in kept]


def _named(
    reader: Reader,
    clips: NDArray[np.int64],
    others: NDArray[np.int64],
    values: NDArray[np.float64],
) -> Odd:
    """Say of each pair whether whole nights are the same."""
    if not len(clips):
        return _nothing()
    spans = Spans.of(reader)
    mine, theirs = spans.index_of(clips), spans.index_of(others)
    sizes = spans.last - spans.first + 1
    reasons = []
    for a, b, other in zip(mine, theirs, others, strict=True):
        shared = int(((mine == a) & (theirs == b)).sum())
        name = spans.recordings[int(b)]
        if a != b and shared >= SAME_NIGHT * sizes[a]:
            reasons.append(f"the same night as {name}: {shared} of {sizes[a]} clips")
        else:
            where = "the same recording" if a == b else name
            reasons.append(f"copy of clip {other} of {where}")
    return Odd(clips, reasons, values, others)


def _having(reader: Reader, ids: NDArray[np.int64], modality: str) -> NDArray[np.int64]:
    step = 1 << 16
    parts = [reader.vectors.of(ids[at : at + step], modality)[1] for at in range(0, len(ids), step)]
    return np.asarray(ids[np.concatenate([np.empty(0, bool), *parts])], np.int64)


def _nothing() -> Odd:
    return Odd(np.empty(0, np.int64), [], np.empty(0), np.empty(0, np.int64))
