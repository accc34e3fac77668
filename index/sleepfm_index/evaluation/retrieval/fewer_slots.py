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
from sleepfm.progress import Progress
from sleepfm.recordings import RecordingFile, find_recordings
from sleepfm.stages import SCORED
from sleepfm.training.geometry import stage_auroc
from sleepfm_index.building.preparation import Preparation
from sleepfm_index.building.subjects import Subjects, no_subjects
from sleepfm_index.errors import QueryError
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


def fewer_slots(
    paths: Sequence[str | Path],
    encode: Encode,
    preparation: Preparation,
    *,
    subjects: Subjects | None = None,
    clips: int = 2000,
    seed: int = 0,
    include_seen: bool = False,
    progress: Progress | None = None,
) -> Result:
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
    seed : int
        Random seed of all draws.
    include_seen : bool
        Whether to keep the training subjects of the weights.
    progress : Progress, optional
        Called with (recordings read, total recordings).

    Returns
    -------
    Result
        One row per modality and number of slots: ``recall_at_10``, the mean over the directions to
        and from the other modalities, and ``chance_at_10``; ``stage_auroc``, macro, of a ridge
        regression on the modality's vectors, trained on every second subject and tested on the
        others (null if fewer than 20 clips are scored on either side).

    Raises
    ------
    QueryError
        If fewer than two clips have all modalities of the weights.
    """
    draw = np.random.default_rng(seed)
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
    rows = []
    for modality in modalities:
        slots = max(len(night.filled[modality]) for night in nights)
        for remaining in range(slots, 0, -1):
            reduced = complete[modality]
            if remaining < slots:
                reduced = _encode(encode, modality, nights, remaining, draw)
            rows.append(_row(modality, remaining, slots, reduced, complete, owner, stage))
    failures = f", {len(problems)} recordings left out" if problems else ""
    note = f"{count:,} clips of {len(nights)} recordings{failures}; seed {seed}"
    if seen:
        note += f"; {_seen(len(seen), include_seen)}"
    return Result(pa.Table.from_pylist(rows), note)


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


def _row(
    modality: str,
    remaining: int,
    slots: int,
    reduced: Vectors,
    complete: dict[str, Vectors],
    owner: NDArray[np.str_],
    stage: NDArray[np.str_],
) -> dict[str, Any]:
    hits = [
        (true_ranks(a, b) <= K).mean()
        for other, vectors in complete.items()
        if other != modality
        for a, b in ((reduced, vectors), (vectors, reduced))
    ]
    one_hot = np.array([[float(s == name) for name in SCORED] for s in stage])
    one_hot[one_hot.sum(axis=1) == 0] = np.nan
    auroc = stage_auroc(reduced, one_hot, np.unique(owner, return_inverse=True)[1])
    return {
        "modality": str(modality),
        "slots_left": remaining,
        "slots": slots,
        "recall_at_10": float(np.mean(hits)),
        "chance_at_10": min(1.0, K / len(reduced)),
        "stage_auroc": auroc if np.isfinite(auroc) else None,
    }
