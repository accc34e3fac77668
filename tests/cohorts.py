"""Stores whose vectors carry stage, age and person, for tests of what is measured on them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from stores import STAGES, WEIGHTS

from sleepfm.clips import Clips
from sleepfm.contract import ROBUST
from sleepfm.recordings.channels import ChannelMap
from sleepfm.recordings.recording import Recording
from sleepfm.recordings.scoring.vocabulary import Event, Scoring
from sleepfm_index.building.subjects import Subject, Subjects
from sleepfm_index.building.tables import segment_rows
from sleepfm_index.indexing.reindex import update_indexes
from sleepfm_index.schema import SUBJECT_COLUMNS, WEIGHTS_SPLIT
from sleepfm_index.storage.manifest import WeightsIdentity
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.writer import Writer

AXES = np.linalg.qr(np.random.default_rng(99).standard_normal((512, 16)))[0].T
"""Directions that stand for stages (0 to 4), breathing events (5), age (6) and sex (7)."""


def night(
    name: str,
    n: int,
    *,
    noise: float = 1.0,
    signal: float = 1.0,
    unscored: int = 0,
    seen: str | None = None,
) -> SegmentData:
    """A recording of n clips; everything of it is drawn from its name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    stage = rng.integers(0, 5, n)
    breathing = np.where(rng.random(n) < 0.3, rng.uniform(10, 30, n), 0.0)
    age, sex = float(rng.integers(5, 85)), int(rng.integers(0, 2))
    common = signal * (
        4 * AXES[stage]
        + 4 * np.outer(breathing > 0, AXES[5])
        + (age - 45) / 10 * AXES[6]
        + 4 * (sex - 0.5) * AXES[7]
    )
    latent = common + rng.standard_normal((n, 512)) / 8
    vectors, filled = {}, {}
    for modality in ROBUST.modalities:
        x = latent + noise * rng.standard_normal((n, 512)) / 8
        vectors[modality] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        filled[modality] = np.full(n, (1 << len(ROBUST.slots[modality])) - 1, np.uint16)
    start = 30.0 * np.arange(n)
    names = ["UNS" if i < unscored else STAGES[k] for i, k in enumerate(stage)]
    clips = Clips(
        start_s=start,
        clock_s=np.mod(82800.0 + start, 86400.0),
        stage=tuple(names),
        raw_stage=("",) * n,
        signals={},
        filled=filled,
        quality={f"quality_{m}_flat": np.zeros(n, np.float32) for m in ROBUST.modalities},
        event_seconds={
            "apnea_obstructive_s": (breathing / 2).astype(np.float32),
            "hypopnea_s": (breathing / 2).astype(np.float32),
        },
        events=(Event(12.0, 20.0, "apnea", "obstructive"),),
    )
    recording = Recording((Path(f"{name}.edf"),), "EDF+C", 30.0 * n, 82800.0, (), Scoring())
    facts = {"nsrr_age": age, "nsrr_sex": ("female", "male")[sex], "nsrr_bmi": 25 + age / 10}
    columns = SUBJECT_COLUMNS
    if seen is not None:
        columns = columns.append(pa.field(WEIGHTS_SPLIT, pa.string()))
        facts[WEIGHTS_SPLIT] = seen or None
    site = "north" if zlib.crc32(name.encode()) % 2 else "south"
    cohort = Subjects({name: Subject(f"s-{name}", site, facts)}, columns)
    key = f"{zlib.crc32(name.encode()):08x}".ljust(64, "0")
    channels = ChannelMap({}, ())
    return segment_rows(key, name, recording, channels, clips, vectors, cohort, ROBUST.modalities)


def cohort_store(
    path: Path,
    names: Iterable[str],
    n: int = 40,
    *,
    weights: WeightsIdentity = WEIGHTS,
    noise: float = 1.0,
    signal: float = 1.0,
    unscored: int = 0,
    index: bool = True,
    seen: Mapping[str, str] | None = None,
) -> Path:
    """A store with one night of ``n`` clips per name, each its own subject.

    ``seen``: the split in which weights have seen some of them.
    """
    with Writer(path, weights, ROBUST) as writer:
        for name in names:
            split = None if seen is None else seen.get(name, "")
            writer.append(night(name, n, noise=noise, signal=signal, unscored=unscored, seen=split))
        if index:
            update_indexes(writer)
    return path
