"""A question becomes an answer: which clips go with this one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm.modality import Modality
from sleepfm_index.errors import QueryError
from sleepfm_index.query.clip_time import clip_position
from sleepfm_index.query.spacing import spread_out
from sleepfm_index.results import Result
from sleepfm_index.schema import OTHERS, target_name
from sleepfm_index.search.exact import Hits
from sleepfm_index.storage.metadata import int64s, numpy_of

if TYPE_CHECKING:
    from sleepfm_index.store import Store

EXCLUSIONS: Final = ("subject", "recording", "none")
_MORE: Final = 4


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


def answer(store: Store, asked: Question) -> Result:
    """Answer a question.

    Returns
    -------
    Result
        Columns rank, score, clip_id and all metadata of the clips found. The score is the cosine
        of two unit vectors, or for means their mean. Fewer than ``k`` rows where no more clips
        fit the question. The note says whether search was exact, else the measured recall.

    Raises
    ------
    QueryError
        If the question does not fit the store.
    """
    modalities = check_question(asked)
    vector, origin = _vector(store, asked, modalities)
    target = target_of(modalities, asked.to)
    allowed = None if asked.where is None else store.metadata.clip_ids(asked.where)
    without = own_runs(store, asked.exclude, origin.recording_id, origin.subject_id)
    how = ""

    def find(k: int) -> Hits:
        nonlocal how
        found = store.find(target, vector[None], k, allowed, without=without, exact=asked.exact)
        how = found.how
        return found.hits[0]

    if asked.spread is None:
        ids, scores = find(asked.k)
        rows = store.rows(ids)
    else:
        rows, scores = _spread(store, find, asked.k, asked.spread)
    ranks = int64s(np.arange(1, len(scores) + 1))
    table = rows.add_column(0, "score", float64s(scores)).add_column(0, "rank", ranks)
    return Result(table, _note(asked, origin, len(scores), how))


def float64s(values: NDArray[np.float64]) -> pa.Array:
    """Give numbers as an Arrow array; see :func:`.sql.int64s`."""
    whole = np.ascontiguousarray(values, np.float64)
    return pa.Array.from_buffers(pa.float64(), len(whole), [None, pa.py_buffer(whole)])


def _spread(
    store: Store, find: Callable[[int], Hits], k: int, seconds: float
) -> tuple[pa.Table, NDArray[np.float64]]:
    # The nearest clips are looked through in order, more of them until enough are left.
    wanted = _MORE * k
    while True:
        ids, scores = find(wanted)
        rows = store.rows(ids)
        kept = spread_out(rows["recording_id"].to_pylist(), numpy_of(rows["start_s"]), seconds)
        if len(kept) >= k or len(ids) < wanted:
            kept = kept[:k]
            return rows.take(int64s(kept)), scores[kept]
        wanted *= _MORE


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


def own_runs(
    store: Store, exclude: str, recording_id: str, subject_id: str
) -> tuple[tuple[int, int], ...]:
    """Give the runs of clip ids that a query leaves out as its own."""
    if exclude == "none":
        return ()
    own = subject_id if exclude == "subject" else recording_id
    return store.runs(f"{exclude}_id", own)


@dataclass(frozen=True)
class _Origin:
    """Where the query's vector comes from."""

    text: str
    recording_id: str
    subject_id: str


def _vector(
    store: Store, asked: Question, modalities: tuple[Modality, ...]
) -> tuple[NDArray[np.float32], _Origin]:
    if asked.file is not None:
        return _encoded(store, asked, modalities)
    clip = asked.clip
    if clip is None:
        assert asked.recording is not None and asked.at is not None
        clip = clip_at(store, asked.recording, asked.at)
    row = store.rows(np.array([clip]))
    if not row.num_rows:
        raise QueryError(f"no clip {clip} in this store; {_range(store)}")
    recording, subject = row["recording_id"][0].as_py(), row["subject_id"][0].as_py()
    vectors, present = query_vectors(store, np.array([clip]), modalities)
    if not present[0]:
        lacking = next(m for m in modalities if not row[f"has_{m}"][0].as_py())
        raise QueryError(f"clip {clip} ({recording}) has no {lacking} signal to search with")
    return vectors[0], _Origin(f"clip {clip} of {recording}", recording, subject)


def query_vectors(
    store: Store, clip_ids: NDArray[np.int64], modalities: tuple[Modality, ...]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean of the vectors that clips have in some modalities, and which clips have them all."""
    parts = [store.vectors.of(clip_ids, str(m)) for m in modalities]
    present = np.asarray(np.logical_and.reduce([there for _, there in parts]))
    return _mean([vectors for vectors, _ in parts]), present


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
    store: Store, asked: Question, modalities: tuple[Modality, ...]
) -> tuple[NDArray[np.float32], _Origin]:
    from sleepfm_index.query.encode_clip import encode_clip

    assert asked.file is not None and asked.at is not None
    encoded = [encode_clip(store, asked.file, asked.at, m, asked.weights) for m in modalities]
    vector = _mean(encoded)
    # A file may be a recording of the store: its stem tells whose clips to leave out.
    stem = asked.file.stem
    name = stem.replace("'", "''")
    known = store.metadata.select(
        f"SELECT any_value(subject_id) AS s FROM clips WHERE recording_id = '{name}'"
    )["s"][0].as_py()
    return vector, _Origin(f"{asked.file.name} at {asked.at}", stem, known or stem)


def _mean(vectors: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.asarray(sum(vectors) / len(vectors), np.float32)


def _note(asked: Question, origin: _Origin, found: int, how: str) -> str:
    left_out = f", own {asked.exclude} left out" if asked.exclude != "none" else ""
    where = f", where {asked.where}" if asked.where else ""
    spread = f", one per {asked.spread:g} s of a recording" if asked.spread is not None else ""
    return (
        f"{asked.modality} of {origin.text} -> {asked.to}: "
        f"{found} nearest{where}{left_out}{spread}; {how}"
    )
