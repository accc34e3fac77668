"""The query vector, from a clip of the store or a clip of a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sleepfm.cohort_choices import Choices
from sleepfm.contract import Contract
from sleepfm_index.errors import QueryError
from sleepfm_index.query.clip_facts import clip_facts
from sleepfm_index.query.clip_time import clip_position
from sleepfm_index.query.question import Question
from sleepfm_index.reader import Reader
from sleepfm_index.storage.manifest import WeightsIdentity
from sleepfm_index.storage.quoting import quote_text


@dataclass(frozen=True)
class Origin:
    """A query vector and the clip that it belongs to.

    Parameters
    ----------
    text : str
        Description of the clip, for the note of the result.
    recording_id, subject_id : str
        Recording and subject whose clips can be excluded.
    vector : ndarray of float32, shape [512]
        Unit vector of the clip, or the mean over several modalities.
    known : bool
        Whether recording and subject of the clip are known.
    clip_id : int, optional
        Clip id, if the clip is in the store.
    """

    text: str
    recording_id: str
    subject_id: str
    vector: NDArray[np.float32]
    known: bool = True
    clip_id: int | None = None


def resolve_origin(reader: Reader, question: Question, modalities: tuple[str, ...]) -> Origin:
    """Look up a query vector, or encode it from a file.

    Parameters
    ----------
    reader : Reader
        The open store.
    question : Question
        The query.
    modalities : tuple of str
        Result of :func:`~sleepfm_index.query.question.check_question`.

    Returns
    -------
    Origin

    Raises
    ------
    QueryError
        If the clip does not exist, or lacks one of the modalities.
    """
    if question.file is not None:
        return origin_of_file(
            question,
            modalities,
            weights=reader.manifest.weights,
            contract=reader.manifest.contract,
            choices=reader.manifest.choices,
            recognise=lambda file: recording_of(reader, file),
        )
    clip = None if question.clip is None else int(np.asarray(question.clip).item())
    if clip is None:
        assert question.recording is not None and question.at is not None
        clip = clip_at(reader, question.recording, question.at)
    if not 0 <= clip < reader.manifest.next_clip_id:
        raise QueryError(f"no clip {clip} in this store; {_range(reader)}")
    (row,) = reader.rows(np.array([clip])).to_pylist()
    recording, subject = row["recording_id"], row["subject_id"]
    vectors, present = query_vectors(reader, np.array([clip]), modalities)
    if not present[0]:
        lacking = next(m for m in modalities if not row[f"has_{m}"])
        raise QueryError(f"clip {clip} ({recording}) has no {lacking} signal to search with")
    text = f"clip {clip} of {recording} ({clip_facts(row)})"
    return Origin(text, recording, subject, vectors[0], clip_id=clip)


def query_vectors(
    reader: Reader, clip_ids: NDArray[np.int64], modalities: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Average the vectors of clips over modalities.

    Parameters
    ----------
    reader : Reader
        The open store.
    clip_ids : ndarray of int64, shape [n]
        Clip ids.
    modalities : tuple of str
        Modalities to average.

    Returns
    -------
    vectors : ndarray of float32, shape [n, 512]
        Mean vectors, not normalised again.
    present : ndarray of bool, shape [n]
        True for clips with all of the modalities.
    """
    parts = [reader.vectors.of(clip_ids, m, ahead=True) for m in modalities]
    present = np.asarray(np.logical_and.reduce([mask for _, mask in parts]))
    return mean_vector([vectors for vectors, _ in parts]), present


def mean_vector(vectors: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Average the vectors of several modalities, without normalising the mean.

    Parameters
    ----------
    vectors : list of ndarray of float32, shape [..., 512]
        One array per modality.

    Returns
    -------
    ndarray of float32, shape [..., 512]
    """
    return np.asarray(sum(vectors) / len(vectors), np.float32)


def clip_at(reader: Reader, recording: str, at: str) -> int:
    """Find the clip of a recording that covers a time, as in :class:`Question`.

    Parameters
    ----------
    reader : Reader
        The open store.
    recording : str
        The ``recording_id``.
    at : str
        Time; see :func:`~sleepfm_index.query.clip_time.clip_position`.

    Returns
    -------
    int
        Clip id.

    Raises
    ------
    QueryError
        If the recording does not exist, or no clip covers the time.
    """
    clips = reader.metadata.select(
        "SELECT clip_id, start_s, clock FROM clips "
        f"WHERE recording_id = {quote_text(recording)} ORDER BY start_s"
    )
    if not clips.num_rows:
        raise QueryError(f"no recording {recording!r} in this store")
    starts = clips["start_s"].to_numpy()
    clock = clips["clock"].to_numpy() if clips["clock"].null_count == 0 else None
    index = clip_position(at, starts, clock, reader.manifest.contract.clip_seconds)
    return int(clips["clip_id"][index].as_py())


def origin_of_file(
    question: Question,
    modalities: tuple[str, ...],
    *,
    weights: WeightsIdentity,
    contract: Contract,
    choices: Choices,
    recognise: Callable[[Path], tuple[str, str] | None],
) -> Origin:
    """Encode a clip of a file, and say where the file is unlike what the weights were trained on.

    Parameters
    ----------
    question : Question
        A question with ``file`` and ``at``.
    modalities : tuple of str
        Modalities to encode and average.
    weights : WeightsIdentity
        The weights that produced the vectors that are searched.
    contract : Contract
        Their contract.
    choices : Choices
        Options with which the searched recordings were read; those of the question override them.
    recognise : callable
        Returns recording id and subject id of a file, or None if it is not known.

    Returns
    -------
    Origin

    Raises
    ------
    QueryError
        If the file cannot be read or encoded with these weights.
    """
    # Importing the readers takes as long as a query; a clip of the store does not need them.
    from sleepfm_index.query.encode_clip import FileRecording

    assert question.file is not None and question.at is not None
    recording = FileRecording.open(
        weights,
        contract,
        choices.updated(contract, substitute=question.substitute, channels=question.channels),
        question.file,
        question.weights,
    )
    vector = mean_vector(recording.encode(question.at, modalities))
    text = f"{question.file.name} at {question.at}"
    differences = "; ".join(recording.unlike(modalities))
    if differences:
        text += f" ({differences})"
    known = recognise(question.file)
    if known is None:
        return Origin(text, "", "", vector, known=False)
    return Origin(text, *known, vector)


def recording_of(reader: Reader, file: Path) -> tuple[str, str] | None:
    """Find the recording of the store that equals a file by its samples; None if there is none.

    File names are not used: the same night may be stored under another name, and the nights of two
    subjects may both be called ``night1``.

    Parameters
    ----------
    reader : Reader
        The open store.
    file : Path
        Signal file.

    Returns
    -------
    tuple of (str, str) or None
        ``recording_id`` and ``subject_id``.
    """
    from sleepfm.recordings import read_recording
    from sleepfm.recordings.signal_digest import signal_digest
    from sleepfm_index.building.preparation import content_digest

    recording = read_recording(file)
    conditions = []
    if "signals" in reader.metadata.columns("recordings").names:
        conditions.append(f"signals = {quote_text(signal_digest(recording))}")
    # Stores of earlier versions have only a hash over all files, including the scoring.
    conditions.append(f"source[:32] = {quote_text(content_digest(recording))}")
    matches = reader.metadata.select(
        f"SELECT recording_id, subject_id FROM recordings WHERE {' OR '.join(conditions)} LIMIT 1"
    ).to_pylist()
    return (matches[0]["recording_id"], matches[0]["subject_id"]) if matches else None


def _range(reader: Reader) -> str:
    if not len(reader):
        return "the store is empty"
    return f"clip ids run from 0 to {reader.manifest.next_clip_id - 1}"
