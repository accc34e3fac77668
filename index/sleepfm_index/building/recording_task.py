"""Processing of one recording into rows, the unit of work of a build.

:func:`rows_of` takes and returns plain values, so it can run in this process, in another process or
on another machine; only the writer of the store commits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sleepfm.clips import Clips
from sleepfm.encoders.backend import Options
from sleepfm.encoders.external import ExternalWeights
from sleepfm.errors import RecordingError, SleepFMError, WeightsError
from sleepfm.malloc import keep_freed_memory
from sleepfm.recordings import RecordingFile
from sleepfm.recordings.identifying_names import identifying_stem
from sleepfm.recordings.signal_digest import signal_digest
from sleepfm_index.building.preparation import Preparation, recorded, signatures
from sleepfm_index.building.subjects import Subjects
from sleepfm_index.building.tables import segment_rows
from sleepfm_index.building.training_distance import Distances, distances_of
from sleepfm_index.errors import QueryError
from sleepfm_index.storage.manifest import WeightsIdentity
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.withdrawals import signals_mark
from sleepfm_index.truth import Truth

if TYPE_CHECKING:
    from sleepfm.encoders.inference import Encoder
    from sleepfm.encoders.weights import Weights

    AnyWeights = Weights | ExternalWeights

READMIT: Final = "build with --readmit to add it again"
_NORM_TOLERANCE: Final = 1e-3
Status = Literal["added", "already there", "left out", "failed"]


@dataclass(frozen=True)
class Outcome:
    """Outcome of one file.

    Parameters
    ----------
    file : Path
        The file.
    status : {"added", "already there", "left out", "failed"}
        Status of the file.
    reason : str
        Reason in one sentence if it was left out or failed.
    recording_id : str
        Id of the recording in the store.
    clips : int
        Number of clips added.
    slots : dict of str to str
        Channel of each filled slot.
    unmatched : tuple of str
        Channels that fill no slot.
    warnings : tuple of str
        Warnings about the recording.
    hours : float
        Duration of the added clips, in hours.
    scored : bool
        Whether the recording has any scored stage or event.
    dropped : dict of str to int
        Number of scored items that are not stored, by reason.
    unread : tuple of str
        Files that look like scorings but were not used; shown, not stored.
    distances : mapping of str to (float, str), optional
        By modality, how far it is from the training distribution of the weights, and the slot that
        is farthest; see :mod:`sleepfm_index.building.training_distance`.
    seconds : dict of str to float
        Time of each phase in seconds: ``read``, ``cut``, ``encode``, ``commit``.
    """

    file: Path
    status: Status
    reason: str = ""
    recording_id: str = ""
    clips: int = 0
    slots: dict[str, str] | None = None
    unmatched: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    hours: float = 0.0
    scored: bool = False
    dropped: dict[str, int] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    distances: Distances | None = None
    seconds: dict[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Plan:
    """Settings common to all recordings of a build; plain values.

    Parameters
    ----------
    weights : Weights or ExternalWeights
        The encoders; tens of megabytes, so the plan is sent only once to each worker.
    running : Options
        Runtime options of the encoders.
    preparation : Preparation
        Preparation of files for the encoders.
    subjects : Subjects
        The subjects of the recordings.
    present, withdrawn : frozenset of str
        Content keys of the recordings in the store, and of those deleted from it, when the build
        began; the latter with the marks of :mod:`sleepfm_index.storage.withdrawals`.
    taken : frozenset of str
        Recording ids that are in use.
    warn_names : bool
        Whether to warn about file names that look like a person's name.
    """

    weights: AnyWeights
    running: Options
    preparation: Preparation
    subjects: Subjects
    present: frozenset[str] = frozenset()
    withdrawn: frozenset[str] = frozenset()
    taken: frozenset[str] = frozenset()
    warn_names: bool = True


@dataclass(frozen=True)
class Job:
    """One file to read, and its recording id in the store.

    Parameters
    ----------
    file : RecordingFile
        The recording and its scoring.
    recording_id : str
        Name of the recording in the store.
    truth : mapping of str to ndarray, shape [clips], optional
        Reference values of its clips, by column.
    """

    file: RecordingFile
    recording_id: str
    truth: Truth | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Rows:
    """Result of one job: its outcome and, if ``added``, the data to commit.

    Parameters
    ----------
    outcome : Outcome
        Outcome of the file.
    key : str
        Content key; empty if the file could not be read.
    data : SegmentData, optional
        Tables and vectors, if the outcome is ``added``.
    """

    outcome: Outcome
    key: str = ""
    data: SegmentData | None = None


def rows_of(plan: Plan, job: Job, is_staged: Callable[[str], bool] = lambda _: False) -> Rows:
    """Read, cut and encode one recording; a failure is an outcome, not an exception.

    The encoders are created on first use and kept for further recordings of the same plan.

    Parameters
    ----------
    plan : Plan
        Settings of the build.
    job : Job
        The recording to encode.
    is_staged : callable, optional
        Function of a content key that returns whether its rows exist already; the outcome is then
        ``already there``.
    """
    file = job.file
    keep_freed_memory()  # otherwise clearing new pages takes half of the reading time
    clock = Clock()
    try:
        with clock("read"):
            before = signatures([file.path])
            recording = plan.preparation.read(file.path, file.annotations)
            before += signatures(recording.sources)
            key = plan.preparation.key(recording, identity_of(plan.weights))
            signals = signal_digest(recording, file.annotations)
        refused = refusal(
            file.path,
            key,
            job.recording_id,
            plan.present,
            plan.withdrawn,
            plan.taken,
            signals_mark(signals),
        )
        if refused is None and is_staged(key):
            refused = Outcome(file.path, "already there")
        if refused is not None:
            return Rows(refused, key)
        with clock("cut"):
            channels, clips = plan.preparation.cut(recording)
            clips = _encodable(clips, plan.weights)
        encoder = encoder_of(plan)
        with clock("encode"):
            vectors = {m: encoder.encode(m, x) for m, x in clips.signals.items()}
        _check_vectors(vectors, clips, plan.weights)
        if signatures([file.path, *recording.sources]) != before:
            raise RecordingError(f"{file.path.name} changed while it was read; build again")
        distances = distances_of(plan.weights, clips)
        data = segment_rows(
            *(key, job.recording_id, recording, channels, clips, vectors, plan.subjects),
            plan.preparation.contract.modalities,
            signals,
            job.truth,
            None if distances is None else {m: ratio for m, (ratio, _) in distances.items()},
        )
    except (SleepFMError, OSError) as error:
        return Rows(Outcome(file.path, "failed", str(error)))
    except Exception as error:  # one faulty file must not stop the build
        return Rows(Outcome(file.path, "failed", f"unexpected {type(error).__name__}: {error}"))
    resemblance = identifying_stem(file.stem) if plan.warn_names else None
    name_warning = (
        (f"the name looks like {resemblance}: consider --ids hash",) if resemblance else ()
    )
    outcome = Outcome(
        file.path,
        "added",
        recording_id=job.recording_id,
        clips=len(clips),
        slots={slot: " - ".join(m.labels) for slot, m in channels.slots.items()},
        unmatched=channels.unmatched,
        warnings=(*name_warning, *recording.warnings, *channels.warnings, *clips.warnings),
        hours=len(clips) * plan.preparation.contract.clip_seconds / 3600,
        scored=bool(recording.scoring),
        dropped={str(r): n for r, n in recording.scoring.dropped.items()},
        unread=recording.unread,
        distances=distances,
        seconds=clock.seconds,
    )
    return Rows(outcome, key, data)


def _check_vectors(
    vectors: Mapping[str, NDArray[np.float32]], clips: Clips, weights: AnyWeights
) -> None:
    """Refuse vectors without a direction, whose similarities are undefined."""
    for modality, rows in vectors.items():
        lengths = np.linalg.norm(rows[clips.filled[modality] != 0], axis=1)
        if not np.all(np.abs(lengths - 1) < _NORM_TOLERANCE):
            raise WeightsError(
                f"{weights.name} give {modality} vectors that are zero or not finite; the "
                "weights are damaged or not suitable for these clips"
            )


def _encodable(clips: Clips, weights: AnyWeights) -> Clips:
    """Drop the modalities for which the weights have no encoder."""
    missing = [m for m in clips.signals if m not in weights.modalities]
    if len(missing) == len(clips.signals):
        raise WeightsError(
            f"{weights.name} has encoders for {', '.join(weights.modalities)}; the recording has "
            f"only {', '.join(missing)}"
        )
    notes = [f"{m} was left out: {weights.name} has no encoder for it" for m in missing]
    return replace(
        clips,
        signals={m: x for m, x in clips.signals.items() if m not in missing},
        filled={m: x for m, x in clips.filled.items() if m not in missing},
        warnings=(*clips.warnings, *notes),
    )


def refusal(
    file: Path,
    key: str,
    recording_id: str,
    present: Set[str],
    withdrawn: Collection[str],
    taken: Set[str],
    mark: str = "",
) -> Outcome | None:
    """Return the outcome of a recording that must not be added; None if it may be added.

    Parameters
    ----------
    file : Path
        The recording's signal file.
    key : str
        Content key of the recording.
    recording_id : str
        Name of the recording in the store.
    present : set of str
        Content keys of the recordings in the store.
    withdrawn : collection of str
        Content keys and marks that must not be added again.
    taken : set of str
        Recording ids that are in use.
    mark : str
        Mark of the recording's samples; see
        :func:`~sleepfm_index.storage.withdrawals.signals_mark`.
    """
    if key in present:
        return Outcome(file, "already there")
    if recorded(key) in map(recorded, withdrawn):  # with any options
        return Outcome(file, "left out", f"it was deleted from this store; {READMIT}")
    if mark and mark in withdrawn:
        why = "its signals equal those of a recording that was deleted from this store"
        return Outcome(file, "left out", f"{why}; {READMIT}")
    if recording_id in taken:
        error = QueryError(
            f"another recording named {file.stem} is already in the store; if this is the same one "
            "with other signals or scoring, delete it and build with --readmit; else rename this "
            "file or build with --ids folder"
        )
        return Outcome(file, "failed", str(error))
    return None


class Clock:
    """Stopwatch for the phases of a job, in seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time a ``with`` block."""
        start = time.perf_counter()
        yield
        self.seconds[phase] = time.perf_counter() - start


def encoder_of(plan: Plan) -> Encoder:
    """Return the encoders of a plan, created once per process.

    Parameters
    ----------
    plan : Plan
        Settings of the build.
    """
    from sleepfm.encoders.inference import Encoder

    running = plan.running
    key = (plan.weights.sha256, running)
    with _one_at_a_time:
        if key not in _encoders:
            _encoders.clear()
            _encoders[key] = Encoder(plan.weights, running=running)
        return _encoders[key]


_encoders: dict[tuple[str, Options], Encoder] = {}
_one_at_a_time = threading.Lock()


def identity_of(weights: AnyWeights) -> WeightsIdentity:
    """Return the identity of weights for the manifest.

    Parameters
    ----------
    weights : Weights or ExternalWeights
        The loaded weights.
    """
    return WeightsIdentity(weights.name, weights.sha256, weights.trained, _note(weights))


def _note(weights: AnyWeights) -> str:
    if isinstance(weights, ExternalWeights):
        return f"encoder of {weights.package}; vectors of {weights.dimensions} dimensions"
    if not weights.trained:
        return (
            "UNTRAINED: a seeded random initialisation for demonstration; neighbours and recall "
            "are meaningless"
        )
    notes = []
    data = str(weights.record.get("data", ""))
    if data.startswith("simulated"):
        notes.append(
            f"trained on {data}; for trying the tool out. For science: `sleepfm-index weights "
            "fetch`, or `pretrain` on nights of your own"
        )
    if weights.simultaneous:
        notes.append(
            "trained on modalities cut at the same moment: they may be matched by the times of "
            "single heart beats (docs/training.md)"
        )
    return "; ".join(notes)
