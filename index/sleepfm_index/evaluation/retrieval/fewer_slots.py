"""Performance with missing channels: retrieval and stages against remaining slots."""

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
"""Maps a modality and clips [n, slots, samples] to unit vectors [n, 512]."""


@dataclass(frozen=True)
class _Night:
    """The clips of a recording that have all modalities, and whose they are."""

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
    """Encode recordings again with fewer and fewer slots of one modality, the others whole.

    For each number of slots left, every recording keeps as many of those that it fills, drawn at
    random; one that fills fewer keeps what it has.

    Parameters
    ----------
    paths : sequence of str or Path
        Recordings, folders, globs or cohort lists.
    encode : callable
        Of any encoder, e.g. :meth:`sleepfm.encoders.inference.Encoder.encode`.
    preparation : Preparation
        How files are read, under the contract of the same weights.
    subjects : Subjects, optional
        Whose recordings they are; by default each is of a subject of its own. Where they say whom
        the weights have seen in training (:meth:`.Subjects.marked`), those people are left out.
    clips : int
        At most this many are drawn, evenly from the recordings.
    seed : int
        Of all draws.
    include_seen : bool
        Keep people whom the weights have seen.
    progress : Progress, optional
        Called with (recordings read, recordings).

    Returns
    -------
    Result
        One row per modality and number of slots left: ``recall_at_10`` of finding the other two
        modalities' vectors and of being found by them, mean of the four directions, and
        ``chance_at_10``; ``stage_auroc``, macro, by a ridge regression on the modality's vectors
        with every second subject left out (null where nothing is scored).

    Raises
    ------
    QueryError
        If fewer than two clips have all modalities of the weights.
    """
    draw = np.random.default_rng(seed)
    found = find_recordings(paths).recordings
    people = subjects or no_subjects()
    known = [file for file in found if people.of(file.stem).facts.get(WEIGHTS_SPLIT) is not None]
    files = found if include_seen else [file for file in found if file not in known]
    nights, problems = _read(files, preparation, people, clips, draw, progress)
    count = sum(len(night.stage) for night in nights)
    modalities = [
        m for m in preparation.contract.modalities if all(m in night.signals for night in nights)
    ]
    if count < 2 or len(modalities) < 2:
        why = f": {problems[0]}" if problems else ""
        if known and not include_seen:
            why += f"; {_seen(len(known), include_seen)}"
        raise QueryError(f"fewer than two clips have two modalities in common{why}")
    whole = {m: _encode(encode, m, nights, None, draw) for m in modalities}
    owner = np.concatenate([[n.subject] * len(n.stage) for n in nights])
    stage = np.concatenate([n.stage for n in nights])
    rows = []
    for modality in modalities:
        most = max(len(night.filled[modality]) for night in nights)
        for left in range(most, 0, -1):
            some = whole[modality]
            if left < most:
                some = _encode(encode, modality, nights, left, draw)
            rows.append(_row(modality, left, most, some, whole, owner, stage))
    left_out = f", {len(problems)} recordings left out" if problems else ""
    note = f"{count:,} clips of {len(nights)} recordings{left_out}; seed {seed}"
    if known:
        note += f"; {_seen(len(known), include_seen)}"
    return Result(pa.Table.from_pylist(rows), note)


def _seen(recordings: int, include_seen: bool) -> str:
    who = f"{recordings} recordings of people whom the weights have seen in training"
    return f"includes {who}" if include_seen else f"left out: {who} (--include-seen keeps them)"


def _read(
    found: Sequence[RecordingFile],
    preparation: Preparation,
    subjects: Subjects,
    clips: int,
    draw: np.random.Generator,
    progress: Progress | None,
) -> tuple[list[_Night], list[str]]:
    each = max(1, -(-clips // max(1, len(found))))
    nights, problems = [], []
    for number, file in enumerate(found, start=1):
        try:
            cut = preparation.cut(preparation.read(file.path, file.annotations))[1]
            nights.append(_night(cut, subjects.of(file.stem).subject_id, each, draw))
        except SleepFMError as error:
            problems.append(f"{file.path.name}: {error}")
        if progress is not None:
            progress(number, len(found))
    return [n for n in nights if len(n.stage)], problems


def _night(clips: Clips, subject: str, most: int, draw: np.random.Generator) -> _Night:
    there = np.all([bits > 0 for bits in clips.filled.values()], axis=0)
    rows = np.sort(draw.permutation(np.flatnonzero(there))[:most])
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
    left: int | None,
    draw: np.random.Generator,
) -> Vectors:
    parts = []
    for night in nights:
        signals = night.signals[modality].astype(np.float32)
        if left is not None:
            kept = draw.permutation(night.filled[modality])[:left]
            signals[:, ~np.isin(np.arange(signals.shape[1]), kept)] = 0
        parts.append(encode(modality, signals))
    return np.concatenate(parts)


def _row(
    modality: str,
    left: int,
    most: int,
    some: Vectors,
    whole: dict[str, Vectors],
    owner: NDArray[np.str_],
    stage: NDArray[np.str_],
) -> dict[str, Any]:
    hits = [
        (true_ranks(a, b) <= K).mean()
        for other, vectors in whole.items()
        if other != modality
        for a, b in ((some, vectors), (vectors, some))
    ]
    one_hot = np.array([[float(s == name) for name in SCORED] for s in stage])
    one_hot[one_hot.sum(axis=1) == 0] = np.nan
    auroc = stage_auroc(some, one_hot, np.unique(owner, return_inverse=True)[1])
    return {
        "modality": str(modality),
        "slots_left": left,
        "slots": most,
        "recall_at_10": float(np.mean(hits)),
        "chance_at_10": min(1.0, K / len(some)),
        "stage_auroc": auroc if np.isfinite(auroc) else None,
    }
