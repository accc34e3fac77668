"""Training data: recordings prepared as clips, split by subject."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sleepfm.atomic_write import write_bytes
from sleepfm.cohort_choices import NO_CHOICES, Choices
from sleepfm.contract import ROBUST, Contract
from sleepfm.progress import Progress
from sleepfm.training.batches import ClipSet
from sleepfm.training.clipcache import CachedRecording, Prepared, prepare_clips
from sleepfm.training.recipe import Recipe
from sleepfm.training.splits import FRACTIONS, Split, Splits, read_subjects, split_subjects
from sleepfm.training.task import Metrics, Run


@dataclass(frozen=True)
class TrainingCallbacks:
    """Progress callbacks, all optional.

    Parameters
    ----------
    preparing : Progress
        Called with (recordings done, recordings).
    prepared : callable
        Called once with the prepared clips and the splits.
    training : callable
        Called with (epoch, batches done, batches, loss).
    epoch : callable
        Called with the metrics of each epoch.
    """

    preparing: Progress | None = None
    prepared: Callable[[Prepared, Splits], None] | None = None
    training: Callable[[int, int, int, float], None] | None = None
    epoch: Callable[[Metrics], None] | None = None


@dataclass(frozen=True)
class Data:
    """Training data.

    Parameters
    ----------
    paths : sequence of str or Path
        Recordings, folders, globs or cohort lists.
    subjects : Path, optional
        subjects.csv; without it every recording is its own subject.
    fractions : mapping
        Fraction of the subjects in each split.
    assigned : mapping of str to str, optional
        The split of each subject, in place of a draw by ``fractions``; subjects that are not listed
        are in ``test``.
    contract : Contract
        The contract by which clips are prepared; stored with the weights.
    cache : Path, optional
        Folder of the clip cache; by default ``<stem>.clips`` next to the weights.
    choices : Choices
        Options for reading the recordings.
    description : str
        Description of the data for the training record.
    truth : mapping of str to mapping of str to ndarray, shape [clips], optional
        Known physiology of the clips, by recording id and column
        (:mod:`sleepfm.training.physiology`).
    repeats : mapping of str to int
        By recording id, how many times a pass contains its clips; 1 for recordings not listed.
    """

    paths: Sequence[str | Path]
    subjects: Path | None = None
    fractions: Mapping[Split, float] = field(default_factory=lambda: FRACTIONS)
    assigned: Mapping[str, Split] | None = None
    contract: Contract = ROBUST
    cache: Path | None = None
    choices: Choices = NO_CHOICES
    description: str = ""
    truth: Mapping[str, Mapping[str, NDArray[np.floating]]] | None = None
    repeats: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cohort:
    """Prepared recordings with their subjects and splits.

    Parameters
    ----------
    prepared : Prepared
        The recordings with clips, and those that could not be used.
    splits : Splits
        The split of each subject.
    subject : mapping of str to str
        Subject id by recording id.
    """

    prepared: Prepared
    splits: Splits
    subject: Mapping[str, str]

    def recordings(self, *splits: Split) -> list[CachedRecording]:
        """Return the recordings of the subjects in the given splits.

        Parameters
        ----------
        *splits : str
            Names of splits, such as ``"train"``.
        """
        of_subject, subject = self.splits.of_subject, self.subject
        recordings = self.prepared.recordings
        return [r for r in recordings if of_subject[subject[r.recording_id]] in splits]

    def write_splits(self, out: Path) -> None:
        """Write the splits to a file next to the weights.

        Parameters
        ----------
        out : Path
            The weights file; the splits go to ``<stem>.splits.json``.
        """
        path = out.with_name(f"{out.stem}.splits.json")
        write_bytes(path, self.splits.to_json().encode())


def prepare_cohort(data: Data, out: Path, seed: int, callbacks: TrainingCallbacks) -> Cohort:
    """Prepare all clips and split the subjects.

    Parameters
    ----------
    data : Data
        The training data.
    out : Path
        The weights file; the clip cache is created next to it unless ``data.cache`` is set.
    seed : int
        Seed of the split.
    callbacks : TrainingCallbacks
        Progress callbacks; ``preparing`` and ``prepared`` are called.

    Returns
    -------
    Cohort
        The prepared recordings with their subjects and splits.

    Raises
    ------
    TrainingError
        If no recording gives a clip, the cache cannot be written, or there are too few subjects.
    """
    cache = data.cache or out.with_name(f"{out.stem}.clips")
    prepared = prepare_clips(
        data.paths, cache, data.contract, choices=data.choices, progress=callbacks.preparing
    )
    subject_of = read_subjects(data.subjects) if data.subjects else {}
    subject = {
        r.recording_id: subject_of.get(r.recording_id, r.recording_id) for r in prepared.recordings
    }
    if data.assigned is None:
        splits = split_subjects(subject.values(), data.fractions, seed)
    else:
        splits = Splits({s: data.assigned.get(s, "test") for s in set(subject.values())})
    if callbacks.prepared is not None:
        callbacks.prepared(prepared, splits)
    return Cohort(prepared, splits, subject)


def training_record(data: Data, clips: Mapping[str, ClipSet], recipe: Recipe, run: Run) -> Metrics:
    """Describe data and settings for the training record stored in the weights.

    Parameters
    ----------
    data : Data
        The training data.
    clips : mapping of str to ClipSet
        The clips of each split used.
    recipe : Recipe
        Settings of the run.
    run : Run
        Device and precision of the run.

    Returns
    -------
    dict
        JSON values.
    """
    recordings = {name: len(np.unique(clip_set.owner)) for name, clip_set in clips.items()}
    return {
        "data": data.description or f"{sum(recordings.values())} recordings",
        "recordings": recordings,
        "clips": {name: len(clip_set) for name, clip_set in clips.items()},
        "recipe": recipe.to_json(),
        "precision": str(run.dtype).removeprefix("torch."),
        "device": run.device.type,
        "torch": torch.__version__,
    }


def run_identity(task: Sequence[object], clips: Mapping[str, Sequence[CachedRecording]]) -> str:
    """Hash the task and its recordings, so that a run resumes only with the same ones.

    Parameters
    ----------
    task : sequence
        The settings that define the task, as JSON values.
    clips : mapping of str to sequence of CachedRecording
        The recordings of each split used.

    Returns
    -------
    str
        SHA-256 as hexadecimal digits.
    """
    recordings_of = {
        name: [(r.recording_id, r.count) for r in recordings] for name, recordings in clips.items()
    }
    return hashlib.sha256(json.dumps([*task, recordings_of]).encode()).hexdigest()
