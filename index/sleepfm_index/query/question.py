"""Queries and their validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sleepfm_index.choices import Combine, Exclusion
from sleepfm_index.errors import QueryError
from sleepfm_index.schema import OTHERS, check_modality, target_name, target_parts

EXCLUSIONS: Final = get_args(Exclusion)
COMBINATIONS: Final = get_args(Combine)

_MAX_K: Final = 1 << 31
"""Upper bound of the number of clips of a store."""


@dataclass(frozen=True)
class Question:
    """A query for the clips nearest to one clip, or to several examples.

    The examples are given by exactly one of: ``clip`` and/or ``like_where``; ``recording`` with
    ``at``; ``file`` with ``at``; ``vector``.

    Parameters
    ----------
    modality : str
        Modality of the query: a modality of the store, or several joined by commas, whose vectors
        are averaged without normalising the mean, so that a score is the mean of their cosines.
    to : str
        Modality to search: a modality of the store, or ``others``, the mean of all modalities
        except that of the query. With several query modalities, ``others`` is the remaining one.
    clip : int or sequence of int, optional
        Id of the query clip, or of several example clips.
    recording : str, optional
        ``recording_id`` of a recording of the store.
    file : Path, optional
        Signal file of a recording that need not be in the store; it is read and encoded.
    at : str, optional
        Time within the recording. ``HH:MM:SS`` is a time of day if the recording has a start time
        and the time falls within the night, otherwise an offset; ``+SECONDS`` is always
        an offset.
    k : int
        Number of clips to return.
    where : str, optional
        SQL condition over the columns of ``clips`` that the results must meet.
    exclude : {"subject", "recording", "none"}
        Exclude the clips of the query's subject, of its recording, or none.
    min_gap : float, optional
        Minimum distance in seconds between two results of one recording; the nearest one is kept.
    exact : bool
        Whether to compare all clips even if there is an approximate index.
    weights : str, optional
        For ``file``: name or path of the store's weights, if they cannot be found by name.
    substitute : bool, optional
        For ``file``: whether to fill missing slots from other derivations or sensors; by default as
        in the store's last build.
    channels : path, optional
        For ``file``: channel table; by default as in the store's last build.
    like_where : str, optional
        SQL condition over the columns of ``clips``; the matching clips are examples.
    unlike : int, sequence of int, or str, optional
        Ids of clips to be unlike, or an SQL condition for them.
    combine : {"mean", "max"}
        Combination of several examples: by the mean of their vectors, or by the highest score of
        any example.
    vector : array_like of float, shape [512] or [n, 512], optional
        Query vectors that are not in the store; they are normalised to length one.
    allowed : array_like of int, shape [n], optional
        Clip ids that may be found; by default all.
    exclude_subjects : sequence of str
        Subjects whose clips are excluded.
    """

    modality: str
    to: str = OTHERS
    clip: int | Sequence[int] | NDArray[np.integer[Any]] | None = None
    recording: str | None = None
    file: Path | None = None
    at: str | None = None
    k: int = 10
    where: str | None = None
    exclude: str = "subject"
    min_gap: float | None = None
    exact: bool = False
    weights: str | None = None
    substitute: bool | None = None
    channels: str | Path | None = None
    like_where: str | None = None
    unlike: int | Sequence[int] | NDArray[np.integer[Any]] | str | None = None
    combine: str = "mean"
    vector: ArrayLike | None = None
    allowed: ArrayLike | None = None
    exclude_subjects: Sequence[str] = ()

    @property
    def of_one_clip(self) -> bool:
        """Whether the query has one clip and no options besides a condition and an exclusion."""
        several = self.clip is not None and np.ndim(self.clip) > 0
        further = (self.like_where, self.unlike, self.vector, self.allowed)
        return (
            not several and all(option is None for option in further) and not self.exclude_subjects
        )


@dataclass(frozen=True)
class Questions:
    """Queries for the clips nearest to each of many clips.

    Query clips without the modality are skipped.

    Parameters
    ----------
    modality, to, k, where, exclude, min_gap, exact, allowed, exclude_subjects
        As in :class:`Question`.
    clips : ndarray of int64, shape [n], optional
        Ids of the query clips.
    recording : str, optional
        Query with all clips of this recording. Exactly one of ``clips`` and ``recording`` is given.
    """

    modality: str
    to: str = OTHERS
    clips: NDArray[np.integer[Any]] | None = None
    recording: str | None = None
    k: int = 10
    where: str | None = None
    exclude: str = "subject"
    min_gap: float | None = None
    exact: bool = False
    allowed: ArrayLike | None = None
    exclude_subjects: Sequence[str] = ()


def check_question(question: Question, known: tuple[str, ...]) -> tuple[str, ...]:
    """Check a query against a store, and split its modalities.

    Parameters
    ----------
    question : Question
        The query.
    known : tuple of str
        Modalities of the store.

    Returns
    -------
    tuple of str
        Modalities of the query.

    Raises
    ------
    QueryError
        If the query is not valid; the message states what to change.
    """
    modalities = check_search(
        question.modality, question.to, question.exclude, question.k, question.min_gap, known
    )
    examples = None if question.clip is None and question.like_where is None else True
    named = [examples, question.recording, question.file, question.vector]
    if sum(name is not None for name in named) != 1:
        raise QueryError(
            "name one clip with --clip, with --recording and --at, or with --file and --at; "
            "several with --clip 17,18 or --like-where; or give --vector"
        )
    if (question.at is None) == (question.recording is not None or question.file is not None):
        raise QueryError("pass --at together with --recording or --file, and only then")
    if question.combine not in COMBINATIONS:
        raise QueryError(
            f"cannot combine by {question.combine!r}; choose from {', '.join(COMBINATIONS)}"
        )
    return modalities


def check_search(
    modality: str, to: str, exclude: str, k: int, min_gap: float | None, known: tuple[str, ...]
) -> tuple[str, ...]:
    """Check the parameters of a search of a store, and split its modalities.

    Parameters
    ----------
    modality, to, exclude, k, min_gap
        As in :class:`Question`.
    known : tuple of str
        Modalities of the store.

    Returns
    -------
    tuple of str
        Modalities of the query.

    Raises
    ------
    QueryError
        If a parameter is not valid; the message states what to change.
    """
    names = tuple(name.strip() for name in modality.split(","))
    for name in names:
        check_modality(name, known)
    if len(set(names)) != len(names):
        raise QueryError(f"{modality!r} names a modality twice")
    if to not in (*known, OTHERS):
        raise QueryError(
            f"no target {to!r} in this store; choose from {', '.join((*known, OTHERS))}"
        )
    if to == OTHERS:
        others = [m for m in known if m not in names]
        if not others:
            raise QueryError(
                "with all modalities as query there are no others; choose a target with --to"
            )
        if len(names) > 1 and len(others) > 1:
            raise QueryError(
                f"{' and '.join(names)} leave several others; choose one with --to: "
                f"{', '.join(others)}"
            )
    if exclude not in EXCLUSIONS:
        raise QueryError(f"cannot exclude {exclude!r}; choose from {', '.join(EXCLUSIONS)}")
    if k < 1:
        raise QueryError(f"k must be at least 1, got {k}")
    if k > _MAX_K:
        raise QueryError(f"k must be at most {_MAX_K:,}, got {k:,}")
    if min_gap is not None and not 0 < min_gap < float("inf"):
        raise QueryError(f"min_gap must be a positive number of seconds, got {min_gap:g}")
    return names


def described(target: str, known: tuple[str, ...]) -> str:
    """Describe a target, e.g. ``the mean of bas and ecg``.

    Parameters
    ----------
    target : str
        One of :func:`sleepfm_index.schema.targets`.
    known : tuple of str
        Modalities of the store.
    """
    parts = target_parts(target, known)
    return parts[0] if len(parts) == 1 else f"the mean of {' and '.join(parts)}"


def in_words(score: str, target: str, known: tuple[str, ...]) -> str:
    """Complete the description of a score, e.g. ``mean cosine to bas and ecg``.

    Parameters
    ----------
    score : str
        Description with the placeholders ``{cosine}`` and ``{target}``.
    target : str
        One of :func:`sleepfm_index.schema.targets`.
    known : tuple of str
        Modalities of the store.
    """
    parts = target_parts(target, known)
    cosine = "cosine" if len(parts) == 1 else "mean cosine"
    return score.format(cosine=cosine, target=" and ".join(parts))


def target_of(modalities: tuple[str, ...], to: str, known: tuple[str, ...]) -> str:
    """Return the target of a search.

    Parameters
    ----------
    modalities : tuple of str
        Modalities of the query, as from :func:`check_search`.
    to : str
        Modality to search, or ``others``, as in :class:`Question`.
    known : tuple of str
        Modalities of the store.

    Returns
    -------
    str
        One of :func:`sleepfm_index.schema.targets`.
    """
    if to != OTHERS or len(modalities) == 1:
        return target_name(modalities[0], to, known)
    (other,) = (m for m in known if m not in modalities)
    return other
