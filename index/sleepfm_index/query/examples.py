"""The examples of a question: their vectors, what they are, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.errors import QueryError
from sleepfm_index.query.origin import query_vectors, resolve_origin
from sleepfm_index.query.question import Question
from sleepfm_index.query.spans import Spans
from sleepfm_index.reader import Reader
from sleepfm_index.storage.manifest import as_ranges
from sleepfm_index.storage.quoting import shown

AWAY: Final = 0.2
"""Weight of the mean of the clips to be unlike, against that of the examples: Rocchio 1971 with the
weights of Manning, Raghavan and Schütze 2008, section 9.1.1, 0.75 and 0.15, whose ratio counts."""
MOST_EXAMPLES: Final = 1000
"""Most examples that each ask by themselves."""
_FEW: Final = 64
_AT_ONCE: Final = 1 << 16

Owner = tuple[str, str]


@dataclass(frozen=True)
class ExampleVectors:
    """Query vectors, and the clips that they came from.

    Parameters
    ----------
    text : str
        Description for the note of an answer.
    vectors : ndarray of float32, shape [n, 512]
        A clip's score is its highest inner product with any of them.
    score : str
        What that score is, in words; ``{cosine}`` and ``{target}`` stand for what is searched.
    owners : tuple of (recording, subject)
        Whose clips they are.
    own : tuple of (first, last)
        Runs of the clips themselves, where an answer leaves them out.
    known : bool
        Whether it is known whose they are.
    """

    text: str
    vectors: NDArray[np.float32]
    score: str
    owners: tuple[Owner, ...] = ()
    own: tuple[tuple[int, int], ...] = ()
    known: bool = True

    @property
    def several(self) -> bool:
        """Whether more than one clip, or clips to be unlike, ask."""
        return bool(self.own)


def examples_of(reader: Reader, question: Question, modalities: tuple[str, ...]) -> ExampleVectors:
    """Look up the examples of a question, and combine them into query vectors.

    The mean of the examples, less :data:`AWAY` times the mean of those to be unlike, is scaled to
    length one. With ``combine="max"`` each example asks by itself, less the same.

    Parameters
    ----------
    reader : Reader
        The open store.
    question : Question
        What is asked, as checked by :func:`~sleepfm_index.query.question.check_question`.
    modalities : tuple of str
        What to search with.

    Returns
    -------
    ExampleVectors
        Several clips, and those to be unlike, are in ``own``.

    Raises
    ------
    QueryError
        If a clip is not in the store, none has the modalities, or the examples cancel out.
    """
    near = _near(reader, question, modalities)
    far = None if question.unlike is None else _far(reader, question.unlike, modalities)
    if far is None and len(near.vectors) == 1 and not near.several:
        return near
    text = near.text
    own = list(near.ids)
    vectors = near.vectors
    if far is not None:
        away, ids, said = far
        text += f", unlike {said}"
        own += ids
    if question.combine == "max" and len(vectors) > MOST_EXAMPLES:
        raise QueryError(
            f"{len(vectors):,} examples are too many to ask one by one, at most {MOST_EXAMPLES:,}; "
            "combine them by mean, or name fewer"
        )
    if question.combine == "mean":
        vectors = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)[None]
    if far is not None:
        vectors = vectors - np.float32(AWAY) * away
    if question.combine == "mean":
        length = float(np.linalg.norm(vectors))
        if length < 1e-6:
            raise QueryError("the examples cancel each other out; choose others")
        vectors = vectors / np.float32(length)
    runs = tuple(as_ranges(np.unique(np.array(own, np.int64))))
    score = _score(question, far is not None)
    return ExampleVectors(text, vectors, score, near.owners, runs, near.known)


def _score(question: Question, away: bool) -> str:
    if question.combine == "max":
        less = f" less {AWAY:g} x that of the mean of those to be unlike" if away else ""
        return f"{{cosine}} of the nearest example to {{target}}{less}"
    less = f" less {AWAY:g} x the mean of those to be unlike," if away else ""
    return f"{{cosine}} of the mean of the examples{less} to {{target}}"


@dataclass(frozen=True)
class _Near(ExampleVectors):
    ids: tuple[int, ...] = ()

    @property
    def several(self) -> bool:
        return len(self.ids) > 1 or len(self.vectors) > 1


def _near(reader: Reader, question: Question, modalities: tuple[str, ...]) -> _Near:
    cosine = "{cosine} to {target}"
    if question.vector is not None:
        vectors = _given(question.vector)
        text = "the given vector" if len(vectors) == 1 else f"{len(vectors):,} given vectors"
        return _Near(text, vectors, cosine, known=False)
    single = question.like_where is None and (
        question.clip is None or np.size(np.asarray(question.clip)) == 1
    )
    if single:
        origin = resolve_origin(reader, question, modalities)
        owner = (origin.recording_id, origin.subject_id)
        if len(modalities) > 1:
            cosine = f"mean cosine of {' and '.join(modalities)} to {{target}}"
        own = () if origin.clip_id is None else (origin.clip_id,)
        owners = (owner,) if origin.known else ()
        return _Near(origin.text, origin.vector[None], cosine, owners, known=origin.known, ids=own)
    named = [] if question.clip is None else np.atleast_1d(np.asarray(question.clip)).tolist()
    text = ""
    if question.like_where is not None:
        found = reader.metadata.clip_ids(question.like_where).tolist()
        if not found:
            raise QueryError(f"no clip meets {shown(question.like_where)}, so there is no example")
        text = f" where {shown(question.like_where)}"
        text += f" and {len(named):,} named" if named else ""
        named = list(dict.fromkeys([*named, *found]))
    ids = np.array(list(dict.fromkeys(named)), np.int64)
    _check(reader, ids)
    vectors, present = _vectors(reader, ids, modalities)
    lack = int((~present).sum())
    lacking = f" ({lack:,} without {' and '.join(modalities)} not used)" if lack else ""
    plural = "s" if len(ids) > 1 else ""
    return _Near(
        f"{len(ids):,} example{plural}{text}{lacking}",
        vectors,
        cosine,
        owners_of(reader, ids),
        ids=tuple(ids.tolist()),
    )


def _far(
    reader: Reader, unlike: Any, modalities: tuple[str, ...]
) -> tuple[NDArray[np.float32], list[int], str]:
    """Mean vector of the clips to be unlike, their ids, and what the note says of them."""
    if isinstance(unlike, str):
        ids = reader.metadata.clip_ids(unlike)
        if not len(ids):
            raise QueryError(f"no clip meets {shown(unlike)}, so there is none to be unlike")
        said = f"{len(ids):,} where {shown(unlike)}"
    else:
        ids = np.unique(np.atleast_1d(np.asarray(unlike, np.int64)))
        said = f"{len(ids):,}"
    _check(reader, ids)
    vectors, _ = _vectors(reader, ids, modalities)
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean, ids.tolist(), said


def _vectors(
    reader: Reader, ids: NDArray[np.int64], modalities: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors of the clips that have all modalities, and for each clip whether it has."""
    parts = [
        query_vectors(reader, ids[at : at + _AT_ONCE], modalities)
        for at in range(0, len(ids), _AT_ONCE)
    ]
    present = np.concatenate([there for _, there in parts])
    if not present.any():
        names = " and ".join(modalities)
        raise QueryError(f"none of these clips has {names} signals to search with; name others")
    return np.concatenate([vectors[there] for vectors, there in parts]), present


def _given(vector: ArrayLike) -> NDArray[np.float32]:
    try:
        given = np.atleast_2d(np.asarray(vector, np.float64))
    except (TypeError, ValueError) as error:
        raise QueryError(f"the vector is no array of numbers: {error}") from error
    if given.ndim != 2 or given.shape[1] != EMBEDDING_DIM or not len(given):
        shape = " x ".join(map(str, np.shape(vector)))
        raise QueryError(
            f"a vector has {EMBEDDING_DIM} numbers, several are [n, {EMBEDDING_DIM}], got {shape}; "
            "shorter ones end in zeros, as in the store"
        )
    lengths = np.linalg.norm(given, axis=1)
    if not np.all(np.isfinite(lengths)) or not np.all(lengths > 0):
        raise QueryError("the vector has entries that are no finite number, or is all zero")
    return np.asarray(given / lengths[:, None], np.float32)


def _check(reader: Reader, ids: NDArray[np.int64]) -> None:
    known = reader.vectors.known_ids()
    unknown = (ids < 0) | (ids >= len(known))
    unknown |= ~known[np.where(unknown, 0, ids)] if len(known) else True
    if unknown.any():
        raise QueryError(f"no clip {ids[unknown][0]} in this store")


def owners_of(reader: Reader, ids: NDArray[np.int64]) -> tuple[Owner, ...]:
    """Say whose some clips are.

    Parameters
    ----------
    reader : Reader
        The open store.
    ids : ndarray of int64, shape [n]
        Clip ids.

    Returns
    -------
    tuple of (recording, subject)
        Each pair once, in order.
    """
    if len(ids) <= _FEW:
        rows = reader.rows(ids)
        pairs = zip(rows["recording_id"].to_pylist(), rows["subject_id"].to_pylist(), strict=True)
        return tuple(sorted(set(pairs)))
    spans = Spans.of(reader)
    places = np.unique(spans.places(ids)).tolist()
    return tuple(sorted((spans.recordings[at], spans.subjects[at]) for at in places))


def runs_of(reader: Reader, exclude: str, owners: tuple[Owner, ...]) -> list[tuple[int, int]]:
    """Find the clips that a question leaves out because they are its own.

    Parameters
    ----------
    reader : Reader
        The open store.
    exclude : {"subject", "recording", "none"}
        Exclude the clips of the examples' subjects, of their recordings, or none.
    owners : tuple of (recording, subject)
        Whose the examples are.

    Returns
    -------
    list of (first, last)
        Runs of clip ids.
    """
    if exclude == "none" or not owners:
        return []
    names = {subject if exclude == "subject" else recording for recording, subject in owners}
    if len(names) <= _FEW:
        return [run for name in sorted(names) for run in reader.runs(f"{exclude}_id", name)]
    spans = Spans.of(reader)
    if exclude == "subject":
        return spans.of_subjects(names)
    return [
        (int(spans.first[at]), int(spans.last[at]))
        for at, name in enumerate(spans.recordings)
        if name in names
    ]
