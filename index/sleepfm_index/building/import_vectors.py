"""Fill a store with vectors that another program made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from sleepfm.clips import Clips
from sleepfm.contract import ROBUST, Contract
from sleepfm.csv_text import same_id
from sleepfm.labels import clip_event_seconds
from sleepfm.quality import ISSUES
from sleepfm.recordings.channels import ChannelMap
from sleepfm.recordings.recording import Recording
from sleepfm.recordings.scoring.vocabulary import Scoring
from sleepfm_index.building.foreign_vectors import (
    CLIP_S,
    ForeignRecording,
    modalities_of,
    read_vectors,
)
from sleepfm_index.building.subjects import Subject, Subjects, no_subjects, read_subjects
from sleepfm_index.building.tables import segment_rows
from sleepfm_index.errors import StoreError
from sleepfm_index.indexing.maintenance import IndexRequest
from sleepfm_index.indexing.reindex import update_indexes
from sleepfm_index.results import Result
from sleepfm_index.storage.manifest import WeightsIdentity, read_manifest
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.writer import Writer


def import_vectors(
    store: str | Path,
    paths: Iterable[str | Path],
    *,
    name: str,
    subjects: str | Path | None = None,
) -> Result:
    """Add vectors made elsewhere to a store of their own, which is made if there is none.

    Cosines are kept: vectors are brought to unit length, and shorter ones end in zeros. The
    modalities of the store are those of the files that it is made from. Each recording is committed
    by itself; one that the store has already is skipped.

    Parameters
    ----------
    store : path
        The store; it holds vectors of this one encoder only.
    paths : iterable of path
        Files or folders (:mod:`sleepfm_index.building.foreign_vectors`).
    name : str
        What made the vectors, e.g. ``sleepfm-clinical``; the store is of this name.
    subjects : path, optional
        subjects.csv.

    Returns
    -------
    Result
        One row per recording: ``recording_id``, ``clips``, ``modalities``, ``outcome``.

    Raises
    ------
    StoreError
        If a file cannot be read as vectors, holds a modality that the store has not, or the store
        is of another encoder.
    """
    made_by = WeightsIdentity(
        name,
        hashlib.sha256(f"made elsewhere/{name}".encode()).hexdigest(),
        trained=True,
        note="vectors made elsewhere and imported; files cannot be encoded by this store",
    )
    cohort = read_subjects(Path(subjects)) if subjects is not None else no_subjects()
    named = [Path(path) for path in paths]
    if not named:
        raise StoreError("no file of vectors was named")
    modalities = modalities_of(named)  # every file is checked before anything is written
    contract = _contract_of(Path(store), made_by) or _contract(name, modalities)
    _check_modalities(modalities, contract)
    rows = []
    with Writer(Path(store), made_by, contract) as writer:
        for path in named:
            for found in read_vectors(path):
                key = _key(found, name)
                there = key in writer.manifest.sources
                if not there:
                    writer.append(_segment(found, key, path, cohort, contract.modalities))
                rows.append(
                    {
                        "recording_id": found.recording_id,
                        "clips": len(found.start_s),
                        "modalities": ", ".join(map(str, found.vectors)),
                        "outcome": "already there" if there else "added",
                    }
                )
        update_indexes(writer, IndexRequest())
    return Result(pa.Table.from_pylist(rows), f"vectors of {name}")


def _contract_of(store: Path, made_by: WeightsIdentity) -> Contract | None:
    """Give the contract of a store of these vectors, None where there is none yet."""
    try:
        manifest = read_manifest(store)
    except StoreError:
        return None  # what is wrong with it the writer says
    return manifest.contract if manifest.weights.sha256 == made_by.sha256 else None


def _contract(name: str, modalities: tuple[str, ...]) -> Contract:
    slots = {m: ROBUST.slots.get(m, (m,)) for m in modalities}
    return Contract(
        f"made elsewhere: {name}",
        "polyphase",
        "none",
        slots,
        {slot: ROBUST.units.get(slot, "") for own in slots.values() for slot in own},
        clip_seconds=CLIP_S,
    )


def _check_modalities(found: tuple[str, ...], contract: Contract) -> None:
    odd = [m for m in found if m not in contract.modalities]
    if odd:
        raise StoreError(
            f"the files hold vectors of {odd[0]}, the store is of "
            f"{', '.join(contract.modalities)}; the modalities of a "
            "store are those of the files that it was made from: name them all at once, with "
            "another --store"
        )


def _key(found: ForeignRecording, name: str) -> str:
    """Hash what was recorded and what made the vectors, as a build does."""
    content = hashlib.sha256(found.recording_id.encode())
    content.update(np.ascontiguousarray(found.start_s).tobytes())
    for modality, vectors in found.vectors.items():
        content.update(str(modality).encode() + vectors.tobytes())
    how = hashlib.sha256(f"made elsewhere/{name}".encode())
    return content.hexdigest()[:32] + how.hexdigest()[:32]


def _segment(
    found: ForeignRecording,
    key: str,
    path: Path,
    cohort: Subjects,
    modalities: tuple[str, ...],
) -> SegmentData:
    n = len(found.start_s)
    clips = Clips(
        start_s=found.start_s,
        clock_s=None,
        stage=found.stage,
        raw_stage=found.stage,
        signals={},
        filled={m: (np.abs(x).max(axis=1) > 0).astype(np.uint16) for m, x in found.vectors.items()},
        quality={
            f"quality_{m}_{issue}": np.zeros(n, np.float32)
            for m in found.vectors
            for issue in ISSUES
        },
        event_seconds=clip_event_seconds((), n, CLIP_S),
        events=(),
    )
    recording = Recording(
        sources=(path,),
        format="vectors",
        duration_s=float(found.start_s[-1] + CLIP_S),
        start_clock_s=None,
        channels=(),
        scoring=Scoring(),
    )
    own = cohort.of(found.recording_id)
    if same_id(found.recording_id) not in cohort.by_recording:
        own = Subject(found.subject_id or found.recording_id, found.site, own.facts)
    known = replace(cohort, by_recording={same_id(found.recording_id): own})
    return segment_rows(
        *(key, found.recording_id, recording, ChannelMap({}, ()), clips, found.vectors, known),
        modalities,
    )
