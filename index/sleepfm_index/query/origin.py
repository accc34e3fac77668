"""Where a query vector comes from: a clip of the store, or a clip of a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import Modality
from sleepfm_index.errors import QueryError
from sleepfm_index.query.clip_time import clip_position
from sleepfm_index.query.encode_clip import encode_clips
from sleepfm_index.query.question import Question
from sleepfm_index.reader import Reader
from sleepfm_index.storage.quoting import quote_text


@dataclass(frozen=True)
class Origin:
    """A query vector, and the clip that it belongs to.

    Parameters
    ----------
    text : str
        The clip in words, for the note of an answer.
    recording_id, subject_id : str
        Whose clips an exclusion leaves out.
    vector : ndarray of float32, shape [512]
        The clip's unit vector, or the mean of several.
    """

    text: str
    recording_id: str
    subject_id: str
    vector: NDArray[np.float32]


def resolve_origin(reader: Reader, question: Question, modalities: tuple[Modality, ...]) -> Origin:
    """Find the query vector of a question, encoding a clip of a file where one is named.

    Parameters
    ----------
    reader : Reader
    question : Question
    modalities : tuple of Modality
        As from :func:`~sleepfm_index.query.question.check_question`.

    Raises
    ------
    QueryError
        If there is no such clip, or it lacks one of the modalities.
    """
    if question.file is not None:
        return _from_file(reader, question, modalities)
    clip = question.clip
    if clip is None:
        assert question.recording is not None and question.at is not None
        clip = clip_at(reader, question.recording, question.at)
    row = reader.rows(np.array([clip]))
    if not row.num_rows:
        raise QueryError(f"no clip {clip} in this store; {_range(reader)}")
    recording, subject = row["recording_id"][0].as_py(), row["subject_id"][0].as_py()
    vectors, present = query_vectors(reader, np.array([clip]), modalities)
    if not present[0]:
        lacking = next(m for m in modalities if not row[f"has_{m}"][0].as_py())
        raise QueryError(f"clip {clip} ({recording}) has no {lacking} signal to search with")
    return Origin(f"clip {clip} of {recording}", recording, subject, vectors[0])


def query_vectors(
    reader: Reader, clip_ids: NDArray[np.int64], modalities: tuple[Modality, ...]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean of the vectors that clips have in some modalities, and which clips have them all.

    Parameters
    ----------
    reader : Reader
    clip_ids : ndarray of int64, shape [n]
    modalities : tuple of Modality

    Returns
    -------
    vectors : ndarray of float32, shape [n, 512]
    present : ndarray of bool, shape [n]
    """
    parts = [reader.vectors.of(clip_ids, str(m)) for m in modalities]
    present = np.asarray(np.logical_and.reduce([there for _, there in parts]))
    return mean_vector([vectors for vectors, _ in parts]), present


def mean_vector(vectors: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Average the vectors of several modalities; the mean is not normalised again."""
    return np.asarray(sum(vectors) / len(vectors), np.float32)


def clip_at(reader: Reader, recording: str, at: str) -> int:
    """Find the clip of a recording that covers a time, as in :class:`Question`.

    Parameters
    ----------
    reader : Reader
    recording : str
        Its ``recording_id``.
    at : str
        A time; see :func:`~sleepfm_index.query.clip_time.clip_position`.

    Raises
    ------
    QueryError
        If there is no such recording, or no clip covers the time.
    """
    clips = reader.metadata.select(
        "SELECT clip_id, start_s, clock FROM clips "
        f"WHERE recording_id = {quote_text(recording)} ORDER BY start_s"
    )
    if not clips.num_rows:
        raise QueryError(f"no recording {recording!r} in this store")
    starts = clips["start_s"].to_numpy()
    clock = clips["clock"].to_numpy() if clips["clock"].null_count == 0 else None
    place = clip_position(at, starts, clock, reader.manifest.contract.clip_seconds)
    return int(clips["clip_id"][place].as_py())


def _from_file(reader: Reader, question: Question, modalities: tuple[Modality, ...]) -> Origin:
    assert question.file is not None and question.at is not None
    manifest = reader.manifest
    vectors = encode_clips(
        manifest.weights,
        manifest.contract,
        question.file,
        question.at,
        modalities,
        question.weights,
    )
    # A file may be a recording of the store: its stem tells whose clips to leave out.
    stem = question.file.stem
    known = reader.metadata.select(
        f"SELECT any_value(subject_id) AS s FROM clips WHERE recording_id = {quote_text(stem)}"
    )["s"][0].as_py()
    return Origin(
        f"{question.file.name} at {question.at}", stem, known or stem, mean_vector(vectors)
    )


def _range(reader: Reader) -> str:
    if not len(reader):
        return "the store is empty"
    return f"clip ids run from 0 to {reader.manifest.next_clip_id - 1}"
