"""The examples of a query: their vectors, description, recordings and subjects."""

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

UNLIKE_WEIGHT: Final = 0.2
"""Weight of the mean of the ``unlike`` clips relative to the mean of the examples: Rocchio (1971)
with the ratio of the weights 0.15 and 0.75 of Manning, Raghavan and Schütze (2008, sec. 9.1.1)."""
MAX_EXAMPLES: Final = 1000
"""Maximum number of examples with ``combine="max"``."""
_FEW: Final = 64
_BLOCK: Final = 1 << 16

Owner = tuple[str, str]


@dataclass(frozen=True)
class ExampleVectors:
    """Query vectors, and the clips that they came from.

    Parameters
    ----------
    text : str
        Description for the note of the result.
    vectors : ndarray of float32, shape [n, 512]
        Query vectors; the score of a clip is its highest inner product with any of them.
    score : str
        Description of the score, with the placeholders ``{cosine}`` and ``{target}``.
    owners : tuple of (str, str)
        Recording and subject of the clips.
    runs : tuple of (int, int)
        First and last clip id of runs of the example clips that the result excludes.
    known : bool
        Whether recording and subject of the clips are known.
    """

    text: str
    vectors: NDArray[np.float32]
    score: str
    owners: tuple[Owner, ...] = ()
    runs: tuple[tuple[int, int], ...] = ()
    known: bool = True

    @property
    def several(self) -> bool:
        """Whether the query has more than one example, or clips to be unlike."""
        return bool(self.runs)


def examples_of(reader: Reader, question: Question, modalities: tuple[str, ...]) -> ExampleVectors:
    """Look up the examples of a query, and combine them into query vectors.

    The query vector is the mean of the examples minus :data:`UNLIKE_WEIGHT` times the mean of the
    ``unlike`` clips, normalised. With ``combine="max"`` each example is a query vector of its own,
    minus the same, and not normalised.

    Parameters
    ----------
    reader : Reader
        The open store.
    question : Question
        The query, after :func:`~sleepfm_index.query.question.check_question`.
    modalities : tuple of str
        Modalities of the query vectors.

    Returns
    -------
    ExampleVectors
        Query vectors; with several clips, or clips to be unlike, all of them are in ``runs``.

    Raises
    ------
    QueryError
        If a clip is not in the store, none has the modalities, or the examples cancel out.
    """
    examples = _near(reader, question, modalities)
    unlike = None if question.unlike is None else _far(reader, question.unlike, modalities)
    if unlike is None and len(examples.vectors) == 1 and not examples.several:
        return examples
    text = examples.text
    example_ids = list(examples.ids)
    vectors = examples.vectors
    if unlike is not None:
        unlike_mean, ids, unlike_text = unlike
        text += f", unlike {unlike_text}"
        example_ids += ids
    if question.combine == "max" and len(vectors) > MAX_EXAMPLES:
        raise QueryError(
            f"{len(vectors):,} examples are too many to search one by one, at most "
            f"{MAX_EXAMPLES:,}; combine them by mean, or give fewer"
        )
    if question.combine == "mean":
        vectors = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)[None]
    if unlike is not None:
        vectors = vectors - np.float32(UNLIKE_WEIGHT) * unlike_mean
    if question.combine == "mean":
        length = float(np.linalg.norm(vectors))
        if length < 1e-6:
            raise QueryError("the examples cancel each other out; choose others")
        vectors = vectors / np.float32(length)
    runs = tuple(as_ranges(np.unique(np.array(example_ids, np.int64))))
    score = _score(question, unlike is not None)
    return ExampleVectors(text, vectors, score, examples.owners, runs, examples.known)


def _score(question: Question, away: bool) -> str:
    if question.combine == "max":
        subtracted = (
            f" less {UNLIKE_WEIGHT:g} x that of the mean of those to be unlike" if away else ""
        )
        return f"{{cosine}} of the nearest example to {{target}}{subtracted}"
    subtracted = f" less {UNLIKE_WEIGHT:g} x the mean of those to be unlike," if away else ""
    return f"{{cosine}} of the mean of the examples{subtracted} to {{target}}"


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
        origin_ids = () if origin.clip_id is None else (origin.clip_id,)
        owners = (owner,) if origin.known else ()
        return _Near(
            origin.text, origin.vector[None], cosine, owners, known=origin.known, ids=origin_ids
        )
    named = [] if question.clip is None else np.atleast_1d(np.asarray(question.clip)).tolist()
    text = ""
    if question.like_where is not None:
        matching = reader.metadata.clip_ids(question.like_where).tolist()
        if not matching:
            raise QueryError(f"no clip meets {shown(question.like_where)}, so there is no example")
        text = f" where {shown(question.like_where)}"
        text += f" and {len(named):,} named" if named else ""
        named = list(dict.fromkeys([*named, *matching]))
    ids = np.array(list(dict.fromkeys(named)), np.int64)
    _check(reader, ids)
    vectors, present = _vectors(reader, ids, modalities)
    missing = int((~present).sum())
    missing_text = f" ({missing:,} without {' and '.join(modalities)} not used)" if missing else ""
    plural = "s" if len(ids) > 1 else ""
    return _Near(
        f"{len(ids):,} example{plural}{text}{missing_text}",
        vectors,
        cosine,
        owners_of(reader, ids),
        ids=tuple(ids.tolist()),
    )


def _far(
    reader: Reader, unlike: Any, modalities: tuple[str, ...]
) -> tuple[NDArray[np.float32], list[int], str]:
    """Mean vector of the clips to be unlike, their ids, and their description for the note."""
    if isinstance(unlike, str):
        ids = reader.metadata.clip_ids(unlike)
        if not len(ids):
            raise QueryError(f"no clip meets {shown(unlike)}, so there is none to be unlike")
        text = f"{len(ids):,} where {shown(unlike)}"
    else:
        ids = np.unique(np.atleast_1d(np.asarray(unlike, np.int64)))
        text = f"{len(ids):,}"
    _check(reader, ids)
    vectors, _ = _vectors(reader, ids, modalities)
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean, ids.tolist(), text


def _vectors(
    reader: Reader, ids: NDArray[np.int64], modalities: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors of the clips that have all modalities, and the mask of these clips."""
    parts = [
        query_vectors(reader, ids[start : start + _BLOCK], modalities)
        for start in range(0, len(ids), _BLOCK)
    ]
    present = np.concatenate([mask for _, mask in parts])
    if not present.any():
        names = " and ".join(modalities)
        raise QueryError(f"none of these clips has {names} signals to search with; name others")
    return np.concatenate([vectors[mask] for vectors, mask in parts]), present


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
    """List the recordings and subjects of clips.

    Parameters
    ----------
    reader : Reader
        The open store.
    ids : ndarray of int64, shape [n]
        Clip ids.

    Returns
    -------
    tuple of (str, str)
        Distinct pairs of recording and subject, sorted.
    """
    if len(ids) <= _FEW:
        rows = reader.rows(ids)
        pairs = zip(rows["recording_id"].to_pylist(), rows["subject_id"].to_pylist(), strict=True)
        return tuple(sorted(set(pairs)))
    spans = Spans.of(reader)
    indices = np.unique(spans.index_of(ids)).tolist()
    return tuple(sorted((spans.recordings[i], spans.subjects[i]) for i in indices))


def runs_of(reader: Reader, exclude: str, owners: tuple[Owner, ...]) -> list[tuple[int, int]]:
    """Find the clips that a query excludes because of their recording or subject.

    Parameters
    ----------
    reader : Reader
        The open store.
    exclude : {"subject", "recording", "none"}
        Exclude the clips of the examples' subjects, of their recordings, or none.
    owners : tuple of (str, str)
        Recording and subject of the examples.

    Returns
    -------
    list of (int, int)
        First and last clip id of each run, both inclusive.
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
        (int(spans.first[i]), int(spans.last[i]))
        for i, name in enumerate(spans.recordings)
        if name in names
    ]
