"""The columns of clips, events and recordings, and the search targets of a store."""

from __future__ import annotations

from functools import cache
from typing import Final

import pyarrow as pa

from sleepfm.labels import EVENT_COLUMNS as MEASURED_EVENTS
from sleepfm_index.errors import QueryError

OTHERS: Final = "others"
"""Target: the mean of the clip's other unit vectors, not renormalised."""

_CLIP: Final = (
    ("clip_id", pa.int64()),
    ("recording_id", pa.string()),
    ("subject_id", pa.string()),
    ("site", pa.string()),
    ("start_s", pa.float64()),
    ("clock", pa.float64()),
    ("stage", pa.string()),
    ("raw_stage", pa.string()),
)


@cache
def clip_schema(modalities: tuple[str, ...]) -> pa.Schema:
    """Return the schema of the columns that every clip of a store has.

    ``start_s``: offset from the recording's start, in seconds; ``clock``: time of day in seconds
    after midnight; ``has_*``, ``slots_*``: whether a clip has a modality, and the bitmask of its
    slots that carry signal. Columns of event overlap (seconds), quality (fractions) and subjects
    follow them.

    Parameters
    ----------
    modalities : tuple of str
        Modalities of the store's contract, in order.
    """
    return pa.schema(
        [
            *_CLIP,
            *[(f"has_{m}", pa.bool_()) for m in modalities],
            *[(f"slots_{m}", pa.uint16()) for m in modalities],
        ]
    )


LATER_CLIP_COLUMNS: Final = pa.schema(
    [(name, pa.float32()) for name in ("stage_share", "rera_s", "limb_movement_s", "unsure_s")]
)
"""Columns of ``clips`` in every store; NULL for segments that lack them."""


def modalities_of(clips: pa.Schema) -> tuple[str, ...]:
    """Return the modalities of a table of clips.

    Parameters
    ----------
    clips : pyarrow.Schema
        Schema with ``has_<modality>`` as bool and ``slots_<modality>`` as uint16, a combination
        that subject columns cannot have.
    """
    types = {f.name: f.type for f in clips}
    modalities = (name.removeprefix("has_") for name in types if name.startswith("has_"))
    return tuple(m for m in modalities if types.get(f"slots_{m}") == pa.uint16())


SUBJECT_COLUMNS: Final = pa.schema(
    [
        ("nsrr_age", pa.float32()),
        ("nsrr_age_gt89", pa.bool_()),
        ("nsrr_sex", pa.string()),
        ("nsrr_bmi", pa.float32()),
        ("nsrr_ahi_hp3r_aasm15", pa.float32()),
    ]
)
"""Subject data, named as by the National Sleep Research Resource."""

WEIGHTS_SPLIT: Final = "weights_split"
"""Column of a store whose weights list their training subjects: the split of the clip's subject
(``pretrain``, ``valid``), null for subjects that are not in the list."""

_ANSWER_COLUMNS: Final = frozenset({
    "rank", "score", "query", "query_clip_id", "neighbour", "label", "predicted", "vector",
    "source", OTHERS,
})  # fmt: skip
_RESERVED_PREFIXES: Final = ("has_", "slots_", "quality_", "query_", "others_of_", "p_", "_")


def is_reserved(name: str, modalities: tuple[str, ...]) -> bool:
    """Whether a column name is reserved for measured columns or columns of results.

    Parameters
    ----------
    name : str
        Name of the column; case is ignored, as in SQL.
    modalities : tuple of str
        Modalities of the store.
    """
    folded = name.casefold()
    reserved = {column for column, _ in _CLIP} - {"recording_id", "subject_id", "site"}
    reserved |= {*LATER_CLIP_COLUMNS.names, *_ANSWER_COLUMNS, *MEASURED_EVENTS, WEIGHTS_SPLIT}
    reserved |= {m.casefold() for m in modalities}
    return folded in reserved or folded.startswith(_RESERVED_PREFIXES)


EVENT_COLUMNS: Final = pa.schema(
    [
        ("source", pa.string()),
        ("recording_id", pa.string()),
        ("subject_id", pa.string()),
        ("onset_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("type", pa.string()),
        ("subtype", pa.string()),
    ]
)
"""Scored events, times in seconds from the recording's start; ``source``: the recording's content
key."""

RECORDING_COLUMNS: Final = pa.schema(
    [
        ("source", pa.string()),
        ("recording_id", pa.string()),
        ("subject_id", pa.string()),
        ("format", pa.string()),
        ("duration_s", pa.float64()),
        ("clips", pa.int64()),
        ("slots", pa.map_(pa.string(), pa.string())),
        ("unmatched", pa.list_(pa.string())),
        ("warnings", pa.list_(pa.string())),
        ("signals", pa.string()),
        ("dropped", pa.map_(pa.string(), pa.int64())),
        ("training_distance", pa.map_(pa.string(), pa.float64())),
    ]
)
"""Columns of ``recordings``. ``slots``: ``"tier: channel"`` by slot name; ``signals``: hash of the
samples; ``dropped``: number of scored items that are not stored, by reason;
``training_distance``: by modality, how far a recording is from what the weights were trained on;
above 1 it is farther than 95 % of people of the same kind. The last three are NULL in segments that
were written without them, the last one also if the weights have no training distribution."""


def target_name(modality: str, to: str, modalities: tuple[str, ...]) -> str:
    """Name of the target of a query: a modality, or ``others_of_<modality>``.

    Parameters
    ----------
    modality : str
        Modality of the query.
    to : str
        Modality to search, or ``others``; with two modalities, ``others`` is the other one.
    modalities : tuple of str
        Modalities of the store.
    """
    if to != OTHERS:
        return to
    others = tuple(m for m in modalities if m != modality)
    return others[0] if len(others) == 1 else f"{OTHERS}_of_{modality}"


def target_parts(target: str, modalities: tuple[str, ...]) -> tuple[str, ...]:
    """Modalities whose unit vectors a target averages: one, or all except one.

    Parameters
    ----------
    target : str
        One of :func:`targets`.
    modalities : tuple of str
        Modalities of the store.
    """
    if is_mean(target):
        excluded = target.removeprefix(f"{OTHERS}_of_")
        return tuple(m for m in modalities if m != excluded)
    return (target,)


def is_mean(target: str) -> bool:
    """Whether the vectors of a target are means, which segments do not store.

    Parameters
    ----------
    target : str
        One of :func:`targets`.
    """
    return target.startswith(f"{OTHERS}_of_")


@cache
def targets(modalities: tuple[str, ...]) -> tuple[str, ...]:
    """Targets of a store: the modalities, then ``others_of_<modality>`` with three or more.

    Parameters
    ----------
    modalities : tuple of str
        Modalities of the store.
    """
    others = [target_name(m, OTHERS, modalities) for m in modalities] if modalities[1:] else []
    return tuple(dict.fromkeys((*modalities, *others)))


def check_target(target: str, modalities: tuple[str, ...]) -> None:
    """Refuse a target that a store does not have.

    Parameters
    ----------
    target : str
        Name of the target.
    modalities : tuple of str
        Modalities of the store.

    Raises
    ------
    QueryError
        If it is unknown; the message lists the valid names.
    """
    known = targets(modalities)
    if target not in known:
        raise QueryError(f"no target {target!r} in this store; choose from {', '.join(known)}")


def check_modality(modality: str, modalities: tuple[str, ...]) -> None:
    """Refuse a modality that a store does not have.

    Parameters
    ----------
    modality : str
        Name of the modality.
    modalities : tuple of str
        Modalities of the store.

    Raises
    ------
    QueryError
        If it is unknown; the message lists the valid names.
    """
    if modality not in modalities:
        raise QueryError(
            f"no modality {modality!r} in this store; choose from {', '.join(modalities)}"
        )
