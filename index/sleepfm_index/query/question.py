"""Questions to a store, and their validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.choices import Exclusion
from sleepfm_index.errors import QueryError
from sleepfm_index.schema import OTHERS, check_modality, target_name

EXCLUSIONS: Final = get_args(Exclusion)


@dataclass(frozen=True)
class Question:
    """A query for the clips nearest to one clip.

    The query clip is named by exactly one of ``clip``, ``recording`` with ``at``, or ``file``
    with ``at``.

    Parameters
    ----------
    modality : str
        What to search with: a modality of the store, or several joined by commas. Several are
        averaged without renormalisation, so a score is the mean of their cosine similarities.
    to : str
        What to search in: a modality of the store, or ``others``, the mean of all modalities but
        the one searched with. With several, ``others`` is the one that remains.
    clip : int, optional
        A clip of the store.
    recording : str, optional
        A recording of the store, by its ``recording_id``.
    file : Path, optional
        A recording that need not be in the store; it is read and encoded.
    at : str, optional
        Time within the recording. ``HH:MM:SS`` is a time of day if the recording has a start time
        and the time falls within the night, else an offset from the start; ``+SECONDS`` is always
        an offset.
    k : int
        Number of clips to return.
    where : str, optional
        SQL condition over the columns of ``clips`` that the results must meet.
    exclude : {"subject", "recording", "none"}
        Exclude the clips of the query's own subject, of its own recording, or none.
    min_gap : float, optional
        Minimum distance in seconds between two results of one recording; the nearest one is kept.
    exact : bool
        Compare with every clip, even if there is an index.
    weights : str, optional
        For ``file``: name or path of the store's weights, if they cannot be found by name.
    substitute : bool, optional
    channels : path, optional
        For ``file``: how its channels fill slots, where not as in the store's last build.
    """

    modality: str
    to: str = OTHERS
    clip: int | None = None
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


@dataclass(frozen=True)
class Questions:
    """Queries for the clips nearest to each of many clips.

    Query clips without the modality are skipped.

    Parameters
    ----------
    modality, to, k, where, exclude, min_gap, exact
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


def check_question(question: Question, known: tuple[str, ...]) -> tuple[str, ...]:
    """Check that a store can answer a question, and split its modalities.

    Parameters
    ----------
    question : Question
        What is asked.
    known : tuple of str
        Modalities of the store.

    Returns
    -------
    tuple of str
        The modalities to search with.

    Raises
    ------
    QueryError
        If the question is invalid; the message says what to change.
    """
    modalities = check_search(
        question.modality, question.to, question.exclude, question.k, question.min_gap, known
    )
    named = [question.clip, question.recording, question.file]
    if sum(name is not None for name in named) != 1:
        raise QueryError(
            "name one clip with --clip, with --recording and --at, or with --file and --at"
        )
    if (question.at is None) == (question.clip is None):
        raise QueryError("pass --at together with --recording or --file, and only then")
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
        The modalities to search with.

    Raises
    ------
    QueryError
        If a parameter is invalid; the message says what to change.
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
        left = [m for m in known if m not in names]
        if not left:
            raise QueryError(
                "with all modalities as query there are no others; choose a target with --to"
            )
        if len(names) > 1 and len(left) > 1:
            raise QueryError(
                f"{' and '.join(names)} leave several others; choose one with --to: "
                f"{', '.join(left)}"
            )
    if exclude not in EXCLUSIONS:
        raise QueryError(f"cannot exclude {exclude!r}; choose from {', '.join(EXCLUSIONS)}")
    if k < 1:
        raise QueryError(f"k must be at least 1, got {k}")
    if min_gap is not None and not 0 < min_gap < float("inf"):
        raise QueryError(f"min_gap must be a positive number of seconds, got {min_gap:g}")
    return names


def target_of(modalities: tuple[str, ...], to: str, known: tuple[str, ...]) -> str:
    """Name the target of a search.

    Parameters
    ----------
    modalities : tuple of str
        The modalities to search with, as from :func:`check_search`.
    to : str
        A modality or ``others``, as in :class:`Question`.
    known : tuple of str
        Modalities of the store.

    Returns
    -------
    str
        One of :func:`sleepfm_index.schema.targets`.
    """
    if to != OTHERS or len(modalities) == 1:
        return target_name(modalities[0], to, known)
    (left,) = (m for m in known if m not in modalities)
    return left
