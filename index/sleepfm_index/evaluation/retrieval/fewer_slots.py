"""Performance with missing channels: retrieval and staging by number of remaining slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm.clips import Clips
from sleepfm.errors import SleepFMError
from sleepfm.modality import Modality
from sleepfm.progress import Progress
from sleepfm.recordings import RecordingFile, find_recordings
from sleepfm.stages import SCORED
from sleepfm.training.geometry import stage_scores
from sleepfm_index.building.preparation import Preparation
from sleepfm_index.building.subjects import Subjects, no_subjects
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.metrics.estimates import average, mean, ranking
from sleepfm_index.evaluation.metrics.intervals import (
    FEWEST,
    NONE,
    Interval,
    auroc,
    macro,
    proportion,
    too_few,
)
from sleepfm_index.evaluation.retrieval.gallery import Gallery
from sleepfm_index.evaluation.retrieval.ranks import true_ranks
from sleepfm_index.results import Result
from sleepfm_index.schema import WEIGHTS_SPLIT

K: Final = 10

Vectors = NDArray[np.float32]
Encode = Callable[[str, NDArray[np.float32]], Vectors]
"""Function that maps a modality and clips [n, slots, samples] to unit vectors [n, 512]."""


@dataclass(frozen=True)
class _Night:
    """The clips of a recording that have all modalities, with its subject."""

    subject: str
    stage: NDArray[np.str_]
    signals: dict[str, NDArray[np.float16]]
    filled: dict[str, NDArray[np.intp]]


@dataclass(frozen=True)
class _People:
    """Subject and stage of the clips, and the clips of the gallery.

    Parameters
    ----------
    drawn : ndarray of int64, shape [m]
        Rows of the gallery.
    subject : ndarray of int64, shape [n]
        Subject of each clip, as codes from 0 on.
    stage : ndarray of float64, shape [n, classes]
        One-hot stage of each clip; NaN where it is not scored.
    """

    drawn: NDArray[np.int64]
    subject: NDArray[np.int64]
    stage: NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class FewerSlots(Result):
    """The table of measures by number of slots, and the modalities measured."""

    modalities: tuple[Modality, ...] = ()


def fewer_slots(
    paths: Sequence[str | Path],
    encode: Encode,
    preparation: Preparation,
    *,
    subjects: Subjects | None = None,
    clips: int = 2000,
    gallery: int | None = None,
    seed: int = 0,
    include_seen: bool = False,
    progress: Progress | None = None,
) -> FewerSlots:
    """Encode recordings with decreasing numbers of slots of one modality, the others complete.

    For each number of slots, every recording keeps that many of its filled slots, drawn at random;
    a recording with fewer filled slots keeps all of them.

    Parameters
    ----------
    paths : sequence of str or Path
        Recordings, folders, globs or cohort lists.
    encode : callable
        Function of an encoder, e.g. :meth:`sleepfm.encoders.inference.Encoder.encode`.
    preparation : Preparation
        Preparation of the files, with the contract of the encoder's weights.
    subjects : Subjects, optional
        Subjects of the recordings; by default each recording is its own subject. If they mark the
        training subjects of the weights (:meth:`.Subjects.marked`), these are excluded.
    clips : int
        Maximum number of clips, drawn evenly from the recordings.
    gallery : int, optional
        Number of these clips to draw at random as queries and candidates of retrieval; by default
        all. It raises ``clips`` if it is larger.
    seed : int
        Random seed of all draws.
    include_seen : bool
        Whether to keep the training subjects of the weights.
    progress : Progress, optional
        Called with (recordings read, total recordings).

    Returns
    -------
    FewerSlots
        One row per modality and number of slots: ``recall_at_10``, the mean over the directions to
        and from the other modalities, and ``chance_at_10``; ``stage_auroc``, macro, of a ridge
        regression on the modality's vectors, trained on every second subject and tested on the
        others (null if fewer than 20 clips are scored on either side); ``subjects`` and
        ``stage_subjects``, those whose clips are queries or are staged for the test; and
        ``*_low`` and ``*_high``, 95 % intervals over these subjects, null where there is none. The
        note says where there is none.

    Raises
    ------
    QueryError
        If fewer than two clips have all modalities of the weights, or ``gallery`` is below 1.
    """
    draw = np.random.default_rng(seed)
    of_gallery = Gallery(size=gallery, seed=seed)
    clips = max(clips, gallery or 0)
    recordings = find_recordings(paths).recordings
    subject_table = subjects or no_subjects()
    seen = [
        file
        for file in recordings
        if subject_table.of(file.stem).facts.get(WEIGHTS_SPLIT) is not None
    ]
    files = recordings if include_seen else [file for file in recordings if file not in seen]
    nights, problems = _read(files, preparation, subject_table, clips, draw, progress)
    count = sum(len(night.stage) for night in nights)
    modalities = [
        m for m in preparation.contract.modalities if all(m in night.signals for night in nights)
    ]
    if count < 2 or len(modalities) < 2:
        why = f": {problems[0]}" if problems else ""
        if seen and not include_seen:
            why += f"; {_seen(len(seen), include_seen)}"
        raise QueryError(f"fewer than two clips have two modalities in common{why}")
    complete = {m: _encode(encode, m, nights, None, draw) for m in modalities}
    owner = np.concatenate([[n.subject] * len(n.stage) for n in nights])
    stage = np.concatenate([n.stage for n in nights])
    (drawn,) = of_gallery.drawn(np.arange(count))
    people = _People(drawn, np.unique(owner, return_inverse=True)[1], _one_hot(stage))
    rows = []
    for modality in modalities:
        slots = max(len(night.filled[modality]) for night in nights)
        for remaining in range(slots, 0, -1):
            reduced = complete[modality]
            if remaining < slots:
                reduced = _encode(encode, modality, nights, remaining, draw)
            rows.append(_row(modality, remaining, slots, reduced, complete, people))
    failures = f", {len(problems)} recordings left out" if problems else ""
    parts = [f"{count:,} clips of {len(nights)} recordings{failures}"]
    if len(drawn) < count:
        parts.append(f"gallery of {len(drawn):,} of them drawn at random")
    parts.append(f"seed {seed}")
    if seen:
        parts.append(_seen(len(seen), include_seen))
    parts.append(_intervals(rows))
    contract = preparation.contract
    described = tuple(map(contract.modality, modalities))
    return FewerSlots(pa.Table.from_pylist(rows), "; ".join(parts), described)


def _intervals(rows: list[dict[str, Any]]) -> str:
    """Say for which measures there are intervals, and why not for others."""
    few = too_few(rows[0]["subjects"])
    if few:
        return few
    note = "95 % intervals over subjects"
    staged = [row for row in rows if row["stage_auroc"] is not None]
    tested = min((row["stage_subjects"] for row in staged), default=FEWEST)
    if tested < FEWEST:
        return f"{note}, but not of stages, tested on {tested} of them; the minimum is {FEWEST}"
    if any(row["stage_auroc_low"] is None for row in staged):
        return f"{note}, but not of stages, one of which only one tested subject has"
    return note


def _seen(recordings: int, include_seen: bool) -> str:
    description = f"{recordings} recordings of people whom the weights have seen in training"
    return (
        f"includes {description}"
        if include_seen
        else f"left out: {description} (--include-seen keeps them)"
    )


def _read(
    files: Sequence[RecordingFile],
    preparation: Preparation,
    subjects: Subjects,
    clips: int,
    draw: np.random.Generator,
    progress: Progress | None,
) -> tuple[list[_Night], list[str]]:
    per_recording = max(1, -(-clips // max(1, len(files))))
    nights, problems = [], []
    for number, file in enumerate(files, start=1):
        try:
            cut = preparation.cut(preparation.read(file.path, file.annotations))[1]
            nights.append(_night(cut, subjects.of(file.stem).subject_id, per_recording, draw))
        except SleepFMError as error:
            problems.append(f"{file.path.name}: {error}")
        if progress is not None:
            progress(number, len(files))
    return [n for n in nights if len(n.stage)], problems


def _night(clips: Clips, subject: str, limit: int, draw: np.random.Generator) -> _Night:
    complete = np.all([bits > 0 for bits in clips.filled.values()], axis=0)
    rows = np.sort(draw.permutation(np.flatnonzero(complete))[:limit])
    return _Night(
        subject,
        np.array(clips.stage)[rows],
        {m: x[rows].astype(np.float16) for m, x in clips.signals.items()},
        {m: np.flatnonzero(np.abs(x).max(axis=(0, 2)) > 0) for m, x in clips.signals.items()},
    )


def _encode(
    encode: Encode,
    modality: str,
    nights: list[_Night],
    remaining: int | None,
    draw: np.random.Generator,
) -> Vectors:
    parts = []
    for night in nights:
        signals = night.signals[modality].astype(np.float32)
        if remaining is not None:
            kept = draw.permutation(night.filled[modality])[:remaining]
            signals[:, ~np.isin(np.arange(signals.shape[1]), kept)] = 0
        parts.append(encode(modality, signals))
    return np.concatenate(parts)


def _one_hot(stage: NDArray[np.str_]) -> NDArray[np.float64]:
    one_hot = np.array([[float(s == name) for name in SCORED] for s in stage])
    one_hot[one_hot.sum(axis=1) == 0] = np.nan
    return one_hot


def _row(
    modality: str,
    remaining: int,
    slots: int,
    reduced: Vectors,
    complete: dict[str, Vectors],
    people: _People,
) -> dict[str, Any]:
    drawn = people.drawn
    hits = [
        true_ranks(a[drawn], b[drawn]) <= K
        for other, vectors in complete.items()
        if other != modality
        for a, b in ((reduced, vectors), (vectors, reduced))
    ]
    per_clip = np.asarray(np.mean(hits, axis=0), np.float64)
    _, subjects = np.unique(people.subject[drawn], return_inverse=True)
    recall = mean(per_clip, subjects)
    area, between, tested = _stage_auroc(reduced, people)
    return {
        "modality": str(modality),
        "slots_left": remaining,
        "slots": slots,
        "recall_at_10": recall.value,
        **_ends("recall_at_10", proportion(recall, float(per_clip.var()) / len(per_clip))),
        "chance_at_10": min(1.0, K / len(drawn)),
        "subjects": recall.subjects,
        "stage_auroc": area if np.isfinite(area) else None,
        **_ends("stage_auroc", between),
        "stage_subjects": tested,
    }


def _stage_auroc(vectors: Vectors, people: _People) -> tuple[float, Interval, int]:
    """Macro AUROC of the stages, its interval, and the number of subjects tested."""
    predicted = stage_scores(vectors, people.stage, people.subject)
    if predicted is None:
        return np.nan, NONE, 0
    test, scores = predicted
    _, subjects = np.unique(people.subject[test], return_inverse=True)
    count = int(subjects.max()) + 1
    estimates, intervals = [], []
    for score, positive in zip(scores.T, people.stage[test].T > 0.5, strict=True):
        if positive.any() and not positive.all():
            estimate, _ = ranking(score, positive, subjects)
            counts = int(positive.sum()), int((~positive).sum())
            holders = len(np.unique(subjects[positive])), len(np.unique(subjects[~positive]))
            estimates.append(estimate)
            intervals.append(auroc(estimate, counts, holders))
    if not estimates:
        return np.nan, NONE, count
    return average(estimates).value, macro(estimates, intervals), count


def _ends(name: str, interval: Interval) -> dict[str, float | None]:
    return {
        f"{name}_{end}": value if np.isfinite(value) else None
        for end, value in zip(("low", "high"), interval, strict=True)
    }
