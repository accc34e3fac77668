"""Measuring the training distribution, and adding it to weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sleepfm.cohort_choices import NO_CHOICES, Choices
from sleepfm.encoders.training_distribution import MIN_PEOPLE
from sleepfm.encoders.weights import Weights, read_weights
from sleepfm.errors import SleepFMError, TrainingError
from sleepfm.progress import Progress
from sleepfm.recordings import find_recordings
from sleepfm.recordings.find import refuse_shared_ids
from sleepfm.training.clipcache import CachedRecording
from sleepfm.training.measure_distribution import PersonClips, choose_people, measure_distribution
from sleepfm.training.splits import read_subjects


def with_distribution(
    weights: Weights,
    paths: Sequence[str | Path],
    subjects: Path | None = None,
    *,
    choices: Choices = NO_CHOICES,
    progress: Progress | None = None,
) -> tuple[Weights, list[tuple[str, str]]]:
    """Measure recordings as the training distribution of weights.

    Parameters
    ----------
    weights : Weights
        Their contract prepares the recordings; an earlier distribution is replaced.
    paths : sequence of str or Path
        Recordings, folders, globs or cohort lists: the training set, or others of its kind.
    subjects : Path, optional
        subjects.csv; without it every recording is its own subject.
    choices : Choices
        Options for reading the recordings.
    progress : Progress, optional
        Called with (done, total) after every recording.

    Returns
    -------
    weights : Weights
        A copy with its own identity.
    left_out : list of (str, str)
        Recordings that could not be used, with the reason.

    Raises
    ------
    TrainingError
        If there are recordings of too few people.
    RecordingError
        If two recordings have the same id.
    """
    found = find_recordings(paths)
    refuse_shared_ids(found.recordings)
    left_out = [(x.path.name, x.reason) for x in found.left_out]
    known = read_subjects(subjects) if subjects else {}
    subject = {file.stem: known.get(file.stem, file.stem) for file in found.recordings}
    shaping, calibrating = choose_people(subject.values())
    wanted = {*shaping, *calibrating}
    files = [file for file in found.recordings if subject[file.stem] in wanted]

    def clips() -> Iterator[PersonClips]:
        for done, file in enumerate(files, start=1):
            try:
                recording = choices.read(file.path, file.annotations)
                yield subject[file.stem], choices.cut(recording, weights.contract)[1].signals
            except SleepFMError as error:
                left_out.append((file.path.name, str(error)))
            if progress is not None:
                progress(done, len(files))

    distribution = measure_distribution(weights.contract, clips(), shaping)
    return replace(weights, distribution=distribution, sha256=""), left_out


def add_distribution(
    out: Path, recordings: Sequence[CachedRecording], subject: Mapping[str, str]
) -> None:
    """Put the training distribution into a weights file, unless there are too few people.

    Parameters
    ----------
    out : Path
        The weights file, which is replaced.
    recordings : sequence of CachedRecording
        Those trained and validated on.
    subject : mapping of str to str
        The subject of every recording.

    Raises
    ------
    OutputError
        If the file cannot be written; the weights without it remain.
    """
    people = {subject[r.recording_id] for r in recordings}
    if len(people) < MIN_PEOPLE:
        return
    shaping, calibrating = choose_people(people)
    wanted = {*shaping, *calibrating}
    clips = (
        (subject[r.recording_id], r.signals)
        for r in recordings
        if subject[r.recording_id] in wanted
    )
    weights = read_weights(out)
    try:
        distribution = measure_distribution(weights.contract, clips, shaping)
    except TrainingError:  # the people are enough, but no channel is common to them
        return
    replace(weights, distribution=distribution, sha256="").save(out)
