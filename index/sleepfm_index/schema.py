"""The columns of a store: clips, events, recordings; and the targets one can search."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from sleepfm.modality import EMBEDDING_DIM, Modality

OTHERS: Final = "others"
"""As a target: the mean of the clip's other unit vectors, not renormalised."""

CLIP_COLUMNS: Final = pa.schema(
    [
        ("clip_id", pa.int64()),
        ("recording_id", pa.string()),
        ("subject_id", pa.string()),
        ("site", pa.string()),
        ("start_s", pa.float64()),
        ("clock", pa.float64()),
        ("stage", pa.string()),
        ("raw_stage", pa.string()),
        *[(f"has_{m}", pa.bool_()) for m in Modality],
        *[(f"slots_{m}", pa.uint16()) for m in Modality],
    ]
)
"""Columns every clip has. ``start_s``: offset from the recording's start, in seconds; ``clock``:
time of day in seconds after midnight; ``slots_*``: bitmask of the slots that carry signal. Columns
of event overlap (seconds), quality (fractions) and subjects follow them."""

SUBJECT_COLUMNS: Final = pa.schema(
    [
        ("nsrr_age", pa.float32()),
        ("nsrr_age_gt89", pa.bool_()),
        ("nsrr_sex", pa.string()),
        ("nsrr_bmi", pa.float32()),
        ("nsrr_ahi_hp3r_aasm15", pa.float32()),
    ]
)
"""What is known of the subject, in the National Sleep Research Resource's terms."""

WEIGHTS_SPLIT: Final = "weights_split"
"""Column of a store whose weights say whom they have seen in training: the split in which they saw
the clip's subject (``pretrain``, ``valid``), null for people they have not seen."""

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
    ]
)
"""How each recording was read. ``slots``: slot name to ``"tier: channel"``."""

VECTOR: Final = pa.list_(pa.float16(), EMBEDDING_DIM)
"""One row of a vector file: a unit vector; all zero where the clip lacks the modality."""


def target_name(modality: Modality, to: str) -> str:
    """Name of what a query from ``modality`` searches: a modality, or ``others_of_<modality>``."""
    return f"{OTHERS}_of_{modality}" if to == OTHERS else str(Modality(to))


def target_parts(target: str) -> tuple[Modality, ...]:
    """Modalities whose unit vectors a target averages: one, or the others of one."""
    if target.startswith(f"{OTHERS}_of_"):
        return Modality(target.removeprefix(f"{OTHERS}_of_")).others
    return (Modality(target),)


TARGETS: Final = (
    *[str(m) for m in Modality],
    *[target_name(m, OTHERS) for m in Modality],
)
"""Everything that can be searched; one index each."""
