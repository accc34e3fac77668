"""A question becomes an answer: which clips go with this one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm.modality import Modality
from sleepfm_index.errors import QueryError
from sleepfm_index.position import clip_position
from sleepfm_index.results import Result
from sleepfm_index.schema import OTHERS, target_name

if TYPE_CHECKING:
    from sleepfm_index.store import Store

EXCLUSIONS: Final = ("subject", "recording", "none")


@dataclass(frozen=True)
class Question:
    """What is asked.

    The clip is named by exactly one of ``clip``, ``recording`` with ``at``, or ``file`` with
    ``at``.

    Parameters
    ----------
    modality : {"bas", "ecg", "resp"}
        What to search with.
    to : {"others", "bas", "ecg", "resp"}
        What to search in.
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
    weights: str | None = None


def answer(store: Store, asked: Question) -> Result:
    """Answer a question by exact search.

    Returns
    -------
    Result
        Columns rank, score, clip_id and all metadata of the clips found. The score is the cosine
        of two unit vectors, or for ``others`` the mean of the cosines to the other modalities.

    Raises
    ------
    QueryError
        If the question does not fit the store.
    """
    modality = check_question(asked)
    vector, origin = _vector(store, asked, modality)
    allowed = _allowed(store, asked, origin)
    ((ids, scores),) = store.search(target_name(modality, asked.to), vector[None], asked.k, allowed)
    rows = store.metadata.rows(ids)
    ranks = np.arange(1, len(ids) + 1)
    table = rows.add_column(0, "score", _column(scores, pa.float64()))
    table = table.add_column(0, "rank", _column(ranks, pa.int64()))
    return Result(table, _note(asked, origin, len(ids)))


def _column(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    # pyarrow.array would import pandas, where there is one, to see whether this is a Series.
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def check_question(asked: Question) -> Modality:
    """Refuse a question that no store could answer; give its modality.

    Raises
    ------
    QueryError
        With one sentence that says what to change.
    """
    known = [m.value for m in Modality]
    if asked.modality not in known:
        raise QueryError(f"no modality {asked.modality!r}; choose from {', '.join(known)}")
    if asked.to not in (*known, OTHERS):
        raise QueryError(f"no target {asked.to!r}; choose from {', '.join(known)}, {OTHERS}")
    if asked.exclude not in EXCLUSIONS:
        raise QueryError(f"cannot exclude {asked.exclude!r}; choose from {', '.join(EXCLUSIONS)}")
    if asked.k < 1:
        raise QueryError(f"k is the number of clips to give, at least 1, not {asked.k}")
    named = [asked.clip is not None, asked.recording is not None, asked.file is not None]
    if sum(named) != 1:
        raise QueryError("name one clip: by --clip, by --recording and --at, or by --file and --at")
    if (asked.at is None) == (asked.clip is None):
        raise QueryError("--at goes with --recording or --file, and they need it")
    return Modality(asked.modality)


@dataclass(frozen=True)
class _Origin:
    """Where the query's vector comes from."""

    text: str
    recording_id: str
    subject_id: str


def _vector(
    store: Store, asked: Question, modality: Modality
) -> tuple[NDArray[np.float32], _Origin]:
    if asked.file is not None:
        return _encoded(store, asked, modality)
    clip = asked.clip
    if clip is None:
        assert asked.recording is not None and asked.at is not None
        clip = clip_at(store, asked.recording, asked.at)
    row = store.metadata.rows(np.array([clip]))
    if not row.num_rows:
        raise QueryError(f"no clip {clip} in this store; {_range(store)}")
    vectors, present = store.vectors.of(np.array([clip]), str(modality))
    recording, subject = row["recording_id"][0].as_py(), row["subject_id"][0].as_py()
    if not present[0]:
        raise QueryError(f"clip {clip} ({recording}) has no {modality} signal to search with")
    return vectors[0], _Origin(f"clip {clip} of {recording}", recording, subject)


def _range(store: Store) -> str:
    if not len(store):
        return "the store is empty"
    return f"clip ids run from 0 to {store.manifest.next_clip_id - 1}"


def clip_at(store: Store, recording: str, at: str) -> int:
    """Give the clip of a recording that covers a time, as in :class:`Question`.

    Raises
    ------
    QueryError
        If there is no such recording, or no clip covers the time.
    """
    name = recording.replace("'", "''")
    clips = store.metadata.select(
        f"SELECT clip_id, start_s, clock FROM clips WHERE recording_id = '{name}' ORDER BY start_s"
    )
    if not clips.num_rows:
        raise QueryError(f"no recording {recording!r} in this store")
    starts = clips["start_s"].to_numpy()
    clock = clips["clock"].to_numpy() if clips["clock"].null_count == 0 else None
    place = clip_position(at, starts, clock, store.manifest.contract.clip_seconds)
    return int(clips["clip_id"][place].as_py())


def _encoded(
    store: Store, asked: Question, modality: Modality
) -> tuple[NDArray[np.float32], _Origin]:
    from sleepfm_index.encoding import encode_clip

    assert asked.file is not None and asked.at is not None
    vector = encode_clip(store, asked.file, asked.at, modality, asked.weights)
    # A file may be a recording of the store: its stem tells whose clips to leave out.
    stem = asked.file.stem
    name = stem.replace("'", "''")
    known = store.metadata.select(
        f"SELECT any_value(subject_id) AS s FROM clips WHERE recording_id = '{name}'"
    )["s"][0].as_py()
    return vector, _Origin(f"{asked.file.name} at {asked.at}", stem, known or stem)


def _allowed(store: Store, asked: Question, origin: _Origin) -> NDArray[np.int64] | None:
    conditions = []
    if asked.exclude != "none":
        own = getattr(origin, f"{asked.exclude}_id").replace("'", "''")
        conditions.append(f"{asked.exclude}_id IS DISTINCT FROM '{own}'")
    return store.metadata.clip_ids(asked.where, *conditions) if asked.where or conditions else None


def _note(asked: Question, origin: _Origin, found: int) -> str:
    left_out = f", own {asked.exclude} left out" if asked.exclude != "none" else ""
    where = f", where {asked.where}" if asked.where else ""
    return (
        f"{asked.modality} of {origin.text} -> {asked.to}: "
        f"{found} nearest{where}{left_out}; exact search"
    )
