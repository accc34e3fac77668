"""A question, and what makes one valid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.modality import Modality
from sleepfm_index.errors import QueryError
from sleepfm_index.schema import OTHERS, target_name

EXCLUSIONS: Final = ("subject", "recording", "none")


@dataclass(frozen=True)
class Question:
    """What is asked.

    The clip is named by exactly one of ``clip``, ``recording`` with ``at``, or ``file`` with
    ``at``.

    Parameters
    ----------
    modality : str
        What to search with: ``bas``, ``ecg``, ``resp``, or two of them joined by a comma. Two are
        averaged, not scaled to length one again, so a score is the mean of two cosines.
    to : {"others", "bas", "ecg", "resp"}
        What to search in; ``others`` of two modalities is the third.
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
    clips: NDArray[np.int64] | None = None
    recording: str | None = None
    k: int = 10
    where: str | None = None
    exclude: str = "subject"
    spread: float | None = None
    exact: bool = False


def check_question(asked: Question) -> tuple[Modality, ...]:
    """Refuse a question that no store could answer; give its modalities.

    Raises
    ------
    QueryError
        With one sentence that says what to change.
    """
    modalities = check_search(asked.modality, asked.to, asked.exclude, asked.k, asked.spread)
    named = [asked.clip is not None, asked.recording is not None, asked.file is not None]
    if sum(named) != 1:
        raise QueryError("name one clip: by --clip, by --recording and --at, or by --file and --at")
    if (asked.at is None) == (asked.clip is None):
        raise QueryError("--at goes with --recording or --file, and they need it")
    return modalities


def check_search(
    modality: str, to: str, exclude: str, k: int, spread: float | None
) -> tuple[Modality, ...]:
    """Refuse what no search could be; give the modalities to search with."""
    known = [m.value for m in Modality]
    names = [name.strip() for name in modality.split(",")]
    for name in names:
        if name not in known:
            raise QueryError(f"no modality {name!r}; choose from {', '.join(known)}")
    if len(set(names)) != len(names):
        raise QueryError(f"{modality!r} names a modality twice")
    if to not in (*known, OTHERS):
        raise QueryError(f"no target {to!r}; choose from {', '.join(known)}, {OTHERS}")
    if to == OTHERS and len(names) == len(known):
        raise QueryError("all modalities leave no others; name a target by --to")
    if exclude not in EXCLUSIONS:
        raise QueryError(f"cannot exclude {exclude!r}; choose from {', '.join(EXCLUSIONS)}")
    if k < 1:
        raise QueryError(f"k is the number of clips to give, at least 1, not {k}")
    if spread is not None and not 0 < spread < float("inf"):
        raise QueryError(f"clips are spread by a number of seconds above 0, not {spread:g}")
    return tuple(Modality(name) for name in names)


def target_of(modalities: tuple[Modality, ...], to: str) -> str:
    """Name what a search with some modalities looks in."""
    if to != OTHERS or len(modalities) == 1:
        return target_name(modalities[0], to)
    (third,) = (m for m in Modality if m not in modalities)
    return str(third)
