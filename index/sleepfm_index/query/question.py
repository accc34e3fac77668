"""A question, and what makes one valid."""

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
    """What is asked.

    The clip is named by exactly one of ``clip``, ``recording`` with ``at``, or ``file`` with
    ``at``.

    Parameters
    ----------
    modality : str
        What to search with: a modality of the store, or several joined by a comma. Several are
        averaged, not scaled to length one again, so a score is the mean of their cosines.
    to : str
        What to search in: a modality of the store, or ``others``, the mean of all but the one
        searched with; of several, the one that is left (two of three leave the third).
    clip : int, optional
        A clip of the store.
    recording : str, optional
        A recording of the store, by its ``recording_id``.
    file : Path, optional
        A recording that need not be in the store; it is read and encoded.
    at : str, optional
        Where in the recording: ``HH:MM:SS``, a time of day if the recording knows one and it falls
        within the night, else an offset from its start; or ``+SECONDS``, always an offset.
    k : int
        How many clips to give.
    where : str, optional
        SQL condition over the columns of ``clips``; only clips for which it holds are found.
    exclude : {"subject", "recording", "none"}
        Leave out the clips of the query's own subject, of its recording, or nothing.
    spread : float, optional
        Give at most one clip per so many seconds of a recording, the nearest one.
    exact : bool
        Compare with every clip, whatever index there is.
    weights : str, optional
        For ``file``: the weights that made the store, if they cannot be found by name.
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
    spread: float | None = None
    exact: bool = False
    weights: str | None = None


@dataclass(frozen=True)
class Questions:
    """What is asked of many clips; fields as in :class:`Question`.

    Parameters
    ----------
    clips : ndarray of int64, optional
        Clips of the store that ask.
    recording : str, optional
        All clips of this recording ask. One of the two is given. Clips without the modality are
        passed over.
    """

    modality: str
    to: str = OTHERS
    clips: NDArray[np.integer[Any]] | None = None
    recording: str | None = None
    k: int = 10
    where: str | None = None
    exclude: str = "subject"
    spread: float | None = None
    exact: bool = False


def check_question(asked: Question, known: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a question that a store cannot answer; give the modalities to search with.

    Parameters
    ----------
    asked : Question
    known : tuple of str
        Modalities of the store.

    Raises
    ------
    QueryError
        With one sentence that says what to change.
    """
    modalities = check_search(asked.modality, asked.to, asked.exclude, asked.k, asked.spread, known)
    named = [asked.clip is not None, asked.recording is not None, asked.file is not None]
    if sum(named) != 1:
        raise QueryError("name one clip: by --clip, by --recording and --at, or by --file and --at")
    if (asked.at is None) == (asked.clip is None):
        raise QueryError("--at goes with --recording or --file, and they need it")
    return modalities


def check_search(
    modality: str, to: str, exclude: str, k: int, spread: float | None, known: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse what no search of a store could be; give the modalities to search with.

    Parameters
    ----------
    modality, to, exclude, k, spread
        Fields of :class:`Question`.
    known : tuple of str
        Modalities of the store.

    Raises
    ------
    QueryError
        With one sentence that says what to change.
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
            raise QueryError("all modalities leave no others; name a target by --to")
        if len(names) > 1 and len(left) > 1:
            raise QueryError(
                f"{' and '.join(names)} leave several others; name one by --to: {', '.join(left)}"
            )
    if exclude not in EXCLUSIONS:
        raise QueryError(f"cannot exclude {exclude!r}; choose from {', '.join(EXCLUSIONS)}")
    if k < 1:
        raise QueryError(f"k is the number of clips to give, at least 1, not {k}")
    if spread is not None and not 0 < spread < float("inf"):
        raise QueryError(f"clips are spread by a number of seconds above 0, not {spread:g}")
    return names


def target_of(modalities: tuple[str, ...], to: str, known: tuple[str, ...]) -> str:
    """Name what a search with some modalities looks in.

    Parameters
    ----------
    modalities : tuple of str
        What is searched with, as :func:`check_search` gives it.
    to : str
        A modality or ``others``: of one modality the mean of all but it, of several the only one
        that is left.
    known : tuple of str
        Modalities of the store.
    """
    if to != OTHERS or len(modalities) == 1:
        return target_name(modalities[0], to, known)
    (left,) = (m for m in known if m not in modalities)
    return left
