"""Stores of drawn vectors, for tests that need no encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from sleepfm.clips import Clips
from sleepfm.contract import ROBUST, Contract
from sleepfm.recordings.channels import ChannelMap, SlotMatch
from sleepfm.recordings.recording import Recording
from sleepfm.recordings.scoring.vocabulary import Event, Scoring
from sleepfm_index.building.subjects import Subject, Subjects
from sleepfm_index.building.tables import segment_rows
from sleepfm_index.schema import SUBJECT_COLUMNS, targets
from sleepfm_index.schema import target_parts as parts_of
from sleepfm_index.search.ivf_builder import train, write
from sleepfm_index.search.ivf_format import Layout
from sleepfm_index.storage.manifest import Recall, SearchSetting, WeightsIdentity
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.vectors import Vectors
from sleepfm_index.storage.writer import Writer
from sleepfm_index.store import Store

WEIGHTS = WeightsIdentity("drawn", "0" * 64, False, "drawn at random for a test")
TARGETS = targets(ROBUST.modalities)
STAGES = ("W", "N1", "N2", "N3", "R")


def target_parts(target: str) -> tuple[str, ...]:
    """Modalities of a target in a store of three."""
    return parts_of(target, ROBUST.modalities)


def drawn_segment(
    name: str,
    n: int,
    seed: int,
    *,
    lacking: float = 0.2,
    age: float | None = 40.0,
    contract: Contract = ROBUST,
) -> SegmentData:
    """A recording of n clips whose vectors share a latent, a fraction lacking each modality."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 512))
    vectors, filled = {}, {}
    for modality in contract.modalities:
        x = latent + rng.standard_normal((n, 512))
        vectors[modality] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        full = np.uint16((1 << len(contract.slots[modality])) - 1)
        filled[modality] = np.where(rng.random(n) < lacking, 0, full).astype(np.uint16)
    start = 30.0 * np.arange(n)
    clips = Clips(
        start_s=start,
        clock_s=np.mod(82800.0 + start, 86400.0),
        stage=tuple(STAGES[i] for i in rng.integers(0, 5, n)),
        raw_stage=("",) * n,
        signals={},
        filled=filled,
        quality={f"quality_{m}_flat": np.zeros(n, np.float32) for m in contract.modalities},
        event_seconds={"hypopnea_s": rng.uniform(0, 30, n).astype(np.float32)},
        events=(Event(12.0, 20.0, "apnea", "obstructive"),),
    )
    recording = Recording((Path(f"{name}.edf"),), "EDF+C", 30.0 * n, 82800.0, (), Scoring())
    channels = ChannelMap({"ECG": SlotMatch("ECG", ("EKG",), "alias")}, ("Snore",))
    facts = {"nsrr_age": age, "nsrr_sex": "female"}
    cohort = Subjects({name: Subject(f"subject-{name}", "lab", facts)}, SUBJECT_COLUMNS)
    key = hashlib.sha256(f"{name} {seed}".encode()).hexdigest()
    return segment_rows(key, name, recording, channels, clips, vectors, cohort, contract.modalities)


def drawn_store(
    path: Path,
    sizes: dict[str, int],
    *,
    index: bool = True,
    lacking: float = 0.2,
    contract: Contract = ROBUST,
) -> Path:
    """A store with one drawn recording per entry of ``sizes``."""
    with Writer(path, WEIGHTS, contract):
        pass
    for seed, (name, n) in enumerate(sizes.items()):
        with Writer(path, WEIGHTS, contract) as writer:  # each is a step that one can go back
            writer.append(drawn_segment(name, n, seed, lacking=lacking, contract=contract))
    if index:
        with Writer(path, WEIGHTS, contract) as writer:
            index_all(writer)
    return path


def index_all(writer: Writer, targets: Sequence[str] | None = None) -> None:
    """An inverted file for every target, of which all is read, so that nothing is missed."""
    vectors = Vectors(writer.path, writer.manifest)
    names = tuple(s.id for s in writer.manifest.segments)
    made = []
    for target in targets or writer.manifest.targets:
        _, sample = vectors.draw(target, 1 << 20, 0)
        if not len(sample):
            continue
        structure = train(Layout(2, "SQ4"), sample, sample)
        blocks = (b for name in names for b in vectors.blocks(name, target))
        entry = write(writer.path, target, names, structure, blocks)
        recall = Recall(0.99, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 1, entry.rows)
        made.append(
            replace(entry, settings=(SearchSetting(0.0, 400, {"probes": 2}),), recall=recall)
        )
    writer.commit(replace(writer.manifest, indexes=tuple(made)))


def columns(table: pa.Table, *names: str) -> list[tuple[object, ...]]:
    """Some columns of a table as a list of tuples."""
    return list(zip(*(table[n].to_pylist() for n in names), strict=True))


def content(store: Store) -> dict[int, tuple[object, ...]]:
    """All that a store holds of each clip: its row and the bytes of its three vectors."""
    rows = store.sql("SELECT * FROM clips ORDER BY clip_id").to_pylist()
    ids = np.array([row["clip_id"] for row in rows], np.int64)
    vectors = [store.vectors.of(ids, m)[0].astype(np.float16) for m in ROBUST.modalities]
    return {
        row["clip_id"]: (*row.items(), *(v[at].tobytes() for v in vectors))
        for at, row in enumerate(rows)
    }
