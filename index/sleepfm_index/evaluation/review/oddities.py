"""Outliers, duplicate clips, and recordings with nearly constant embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.query.spans import Spans
from sleepfm_index.reader import Reader

NEIGHBOURS: Final = 10
GALLERY: Final = 20_000
"""Maximum number of clips to compare with, drawn at random."""
OUTLYING: Final = 6.0
"""Scaled median absolute deviations below the median at which a clip is an outlier."""
SAME: Final = 0.999
"""Minimum cosine of duplicates, in every modality that both clips have."""
SAME_NIGHT: Final = 0.5
"""Minimum share of a recording's clips with a duplicate in one other recording, at which the two
are reported as the same night."""
FLAT: Final = 0.02
"""Embeddings of a recording are flat if the mean distance (1 - cosine) of its clips from their own
mean is below this share of the median over recordings."""
_MIN_CLIPS: Final = 20
"""Minimum number of clips of a recording that is judged."""
_BLOCK: Final = 1024


@dataclass(frozen=True)
class Odd:
    """Findings of one kind.

    Parameters
    ----------
    clip_ids : ndarray of int64, shape [n]
        Clip ids.
    reasons : list of str
        Reason for each clip.
    values : ndarray of float64, shape [n]
        Strength of each finding, on a scale that depends on the kind.
    others : ndarray of int64, shape [n]
        Id of the clip that each duplicates; -1 if there is none.
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
        Ids of the clips to examine, ascending.
    seed : int
        Random seed of the clips to compare with.
    """
    ids = _having(reader, ids, modality)
    if len(ids) <= NEIGHBOURS:
        return _no_findings()
    spans = Spans.of(reader)
    drawn = np.random.default_rng(seed).permutation(ids)[:GALLERY]
    gallery, _ = reader.vectors.of(drawn, modality)
    owner = spans.index_of(drawn)
    near = np.empty(len(ids))
    for start in range(0, len(ids), _BLOCK):
        block = ids[start : start + _BLOCK]
        scores = reader.vectors.of(block, modality)[0] @ gallery.T
        scores[spans.index_of(block)[:, None] == owner[None]] = -1
        k = min(NEIGHBOURS, scores.shape[1])
        near[start : start + len(block)] = np.partition(scores, -k, axis=1)[:, -k:].mean(axis=1)
    centre = float(np.median(near))
    spread = 1.4826 * float(np.median(np.abs(near - centre)))
    depth = (centre - near) / max(spread, 1e-6)
    outlying = np.flatnonzero(depth > OUTLYING)
    outlying = outlying[np.argsort(-depth[outlying], kind="stable")]
    reasons = [
        f"{modality} unlike all other recordings: mean cosine to the nearest {near[row]:.2f}, "
        f"median {centre:.2f}"
        for row in outlying
    ]
    return Odd(ids[outlying], reasons, depth[outlying], np.full(len(outlying), -1))


def duplicates(reader: Reader, ids: NDArray[np.int64]) -> Odd:
    """Find duplicate clips: copies, or clips of a night that was added twice.

    Candidates are found by searching each modality. Two clips are duplicates if they have the same
    modalities, at least one, and the cosine is at least :data:`SAME` in all of them. The clip with
    the larger id is reported.

    Parameters
    ----------
    reader : Reader
        The open store.
    ids : ndarray of int64, shape [n]
        Ids of the clips to examine, ascending.
    """
    modalities = reader.manifest.modalities
    duplicate_of: dict[int, tuple[int, float]] = {}
    for modality in modalities:
        with_modality = _having(reader, ids, modality)
        for start in range(0, len(with_modality), _BLOCK):
            block = with_modality[start : start + _BLOCK]
            vectors, _ = reader.vectors.of(block, modality)
            hits = reader.find(modality, vectors, 4, ids).hits
            pairs = [
                (int(clip), int(other))
                for clip, (neighbours, scores) in zip(block, hits, strict=True)
                for other in neighbours[scores >= SAME]
                if other < clip
            ]
            for clip, other, least in _in_all(reader, pairs, modalities):
                if clip not in duplicate_of or other < duplicate_of[clip][0]:
                    duplicate_of[clip] = (other, least)
    clips = np.array(sorted(duplicate_of), np.int64)
    others = np.array([duplicate_of[int(clip)][0] for clip in clips], np.int64)
    return _with_reasons(
        reader, clips, others, np.array([duplicate_of[int(clip)][1] for clip in clips])
    )


def flat(reader: Reader, modality: str, ids: NDArray[np.int64]) -> Odd:
    """Find recordings with nearly constant embeddings, e.g. of a disconnected sensor.

    Parameters
    ----------
    reader : Reader
        The open store.
    modality : str
        Name of the modality.
    ids : ndarray of int64, shape [n]
        Ids of the clips to examine, ascending.

    Returns
    -------
    Odd
        Findings for all clips of these recordings.
    """
    ids = _having(reader, ids, modality)
    spans = Spans.of(reader)
    recording_of = spans.index_of(ids)
    spread: dict[int, float] = {}
    for recording in np.unique(recording_of).tolist():
        of_recording = ids[recording_of == recording]
        if len(of_recording) < _MIN_CLIPS:
            continue
        vectors = reader.vectors.of(of_recording, modality)[0].astype(np.float64)
        mean = vectors.mean(axis=0)
        spread[recording] = float(1 - (vectors @ mean).mean() / max(np.linalg.norm(mean), 1e-12))
    if not spread:
        return _no_findings()
    usual = float(np.median(list(spread.values())))
    flat_recordings = [
        recording for recording, value in spread.items() if value < max(FLAT * usual, 1e-6)
    ]
    chosen = ids[np.isin(recording_of, flat_recordings)]
    values = np.array([spread[int(recording)] for recording in spans.index_of(chosen)])
    reasons = [
        f"{modality} embeddings of {spans.recordings[int(recording)]} hardly vary: {value:.1e}, "
        f"median recording {usual:.1e}"
        for recording, value in zip(spans.index_of(chosen), values, strict=True)
    ]
    return Odd(chosen, reasons, values, np.full(len(chosen), -1))


def _in_all(
    reader: Reader, pairs: list[tuple[int, int]], modalities: tuple[str, ...]
) -> list[tuple[int, int, float]]:
    """Pairs that are duplicates in every modality, with their smallest cosine."""
    if not pairs:
        return []
    first, second = np.array(pairs, np.int64).T
    smallest = np.full(len(pairs), np.inf)
    for modality in modalities:
        a, has_a = reader.vectors.of(first, modality)
        b, has_b = reader.vectors.of(second, modality)
        cosine = np.einsum("nd,nd->n", a.astype(np.float64), b.astype(np.float64))
        smallest = np.where(has_a & has_b, np.minimum(smallest, cosine), smallest)
        # A clip that lacks a modality of the other is not a duplicate.
        smallest = np.where(has_a != has_b, -1.0, smallest)
    kept = np.flatnonzero((smallest >= SAME) & np.isfinite(smallest))
    return [(int(first[pair]), int(second[pair]), float(smallest[pair])) for pair in kept]


def _with_reasons(
    reader: Reader,
    clips: NDArray[np.int64],
    others: NDArray[np.int64],
    values: NDArray[np.float64],
) -> Odd:
    """Add reasons, which state whether the nights of a pair are the same."""
    if not len(clips):
        return _no_findings()
    spans = Spans.of(reader)
    recordings, partners = spans.index_of(clips), spans.index_of(others)
    sizes = spans.last - spans.first + 1
    reasons = []
    for a, b, other in zip(recordings, partners, others, strict=True):
        shared = int(((recordings == a) & (partners == b)).sum())
        name = spans.recordings[int(b)]
        if a != b and shared >= SAME_NIGHT * sizes[a]:
            reasons.append(f"the same night as {name}: {shared} of {sizes[a]} clips")
        else:
            source = "the same recording" if a == b else name
            reasons.append(f"copy of clip {other} of {source}")
    return Odd(clips, reasons, values, others)


def _having(reader: Reader, ids: NDArray[np.int64], modality: str) -> NDArray[np.int64]:
    step = 1 << 16
    parts = [
        reader.vectors.of(ids[start : start + step], modality)[1]
        for start in range(0, len(ids), step)
    ]
    return np.asarray(ids[np.concatenate([np.empty(0, bool), *parts])], np.int64)


def _no_findings() -> Odd:
    return Odd(np.empty(0, np.int64), [], np.empty(0), np.empty(0, np.int64))
