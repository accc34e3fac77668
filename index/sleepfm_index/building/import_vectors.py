"""Fill a store with clips that a store exported, or with vectors that another program made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
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
from sleepfm_index.building.exported_clips import origin_of, read_export
from sleepfm_index.building.foreign_vectors import (
    CLIP_S,
    ForeignRecording,
    modalities_of,
    read_vectors,
)
from sleepfm_index.building.recording_task import Outcome, refusal
from sleepfm_index.building.subjects import Subject, Subjects, no_subjects, read_subjects
from sleepfm_index.building.tables import segment_rows
from sleepfm_index.choices import StoreMode
from sleepfm_index.errors import StoreError
from sleepfm_index.indexing.maintenance import IndexRequest
from sleepfm_index.indexing.reindex import update_indexes
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result
from sleepfm_index.storage.manifest import WeightsIdentity, read_manifest
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.withdrawals import subject_mark
from sleepfm_index.storage.writer import Writer

Found = Iterator[tuple[Path, SegmentData]]
"""Recordings, each with the file that it comes from."""


def import_vectors(
    store: str | Path,
    paths: Iterable[str | Path],
    *,
    name: str | None = None,
    subjects: str | Path | None = None,
    readmit: bool = False,
    mode: StoreMode | None = None,
) -> Result:
    """Add an export, or vectors made elsewhere, to a store, which is made if there is none.

    What a store exported keeps its weights, contract, rows and vectors as they are. Of vectors made
    elsewhere cosines are kept: they are brought to unit length, and shorter ones end in zeros; the
    modalities of the store are those of the files that it is made from. Each recording is committed
    by itself; one that the store has already is skipped, and one that was deleted from it, or of a
    subject that was, is left out.

    Parameters
    ----------
    store : path
        The store; it holds vectors of one encoder only.
    paths : iterable of path
        Files that ``export`` wrote, or files and folders of vectors
        (:mod:`sleepfm_index.building.foreign_vectors`).
    name : str, optional
        What made vectors that no store exported, e.g. ``sleepfm-clinical``; the store is of this
        name.
    subjects : path, optional
        subjects.csv, for vectors that no store exported.
    readmit : bool
        Take recordings and subjects again that were deleted from this store.
    mode : {"private", "group"}, optional
        Who may read the store: its owner, or the group too; by default as it is.

    Returns
    -------
    Result
        One row per recording: ``recording_id``, ``clips``, ``modalities``, ``outcome`` (added,
        already there, left out, failed) and ``reason``.

    Raises
    ------
    StoreError
        If a file cannot be read as vectors, holds a modality that the store has not, or the store
        is of another encoder; if a file is no export and nothing says what made it, or files of
        both kinds are named.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise StoreError("no file of vectors was given")
    origins = [origin_of(path) for path in files]
    first = origins[0]
    if any(origin != first for origin in origins):
        raise StoreError(
            "these files were not made by the same weights under the same contract; import them "
            "into stores of their own"
        )
    if name is None and first is None:
        raise StoreError(
            f"{files[0].name} was not exported by a store; say what made the vectors, e.g. --name "
            "sleepfm-clinical"
        )
    if first is not None and name is None:
        if subjects is not None:
            raise StoreError(
                "an export brings its subjects along; correct them by `sleepfm-index annotate`"
            )
        source = _exported(files, first.contract.modalities)
        with Writer(Path(store), first.weights, first.contract, mode=mode) as writer:
            if not writer.manifest.segments:
                writer.remember(first.choices)
            return _import(writer, source, f"clips of {first.weights.name}", readmit)
    told = str(name)
    made_by = WeightsIdentity(
        told,
        hashlib.sha256(f"made elsewhere/{told}".encode()).hexdigest(),
        trained=True,
        note="imported vectors of another program; this store cannot encode files",
    )
    cohort = read_subjects(Path(subjects)) if subjects is not None else no_subjects()
    modalities = modalities_of(files)  # every file is checked before anything is written
    contract = _contract_of(Path(store), made_by) or _contract(told, modalities)
    _check_modalities(modalities, contract)
    source = _foreign(files, told, cohort, contract.modalities)
    with Writer(Path(store), made_by, contract, mode=mode) as writer:
        return _import(writer, source, f"vectors of {told}", readmit)


def _exported(files: list[Path], modalities: tuple[str, ...]) -> Found:
    for path in files:
        for _, data in read_export(path, modalities):
            yield path, data


def _foreign(files: list[Path], name: str, cohort: Subjects, modalities: tuple[str, ...]) -> Found:
    for path in files:
        for found in read_vectors(path):
            yield path, _segment(found, _key(found, name), path, cohort, modalities)


def _import(writer: Writer, found: Found, note: str, readmit: bool) -> Result:
    """Commit recordings one after another, unless they are there, deleted, or of a taken name."""
    with Reader(writer.path) as opened:
        names = opened.sql("SELECT recording_id, subject_id FROM recordings").to_pylist()
    taken = {row["recording_id"] for row in names}
    rows = []
    for path, data in found:
        recording = data.recordings.to_pylist()[0]
        held = writer.manifest
        mark = subject_mark(held.uuid, recording["subject_id"])
        gone = () if readmit else (*held.withdrawn, *held.withdrawals)
        name = recording["recording_id"]
        refused = refusal(path, data.key, name, held.sources, gone, taken, mark)
        if refused is None:
            writer.append(data, held.readmitted(data.key, (mark,)) if readmit else None)
            taken.add(name)
        rows.append(
            {
                "recording_id": name,
                "clips": recording["clips"],
                "modalities": ", ".join(map(str, data.vectors)),
                "outcome": "added" if refused is None else refused.status,
                "reason": "" if refused is None else _reason(refused, name, mark in gone),
            }
        )
    update_indexes(writer, IndexRequest())
    return Result(pa.Table.from_pylist(rows), note)


def _reason(refused: Outcome, name: str, subject_gone: bool) -> str:
    if refused.status == "failed":
        return f"another recording named {name} is already in the store; delete that one first"
    if refused.status == "left out":
        what = "its subject" if subject_gone else "it"
        return f"{what} was deleted from this store; import with --readmit to take it again"
    return refused.reason or ""


def _contract_of(store: Path, made_by: WeightsIdentity) -> Contract | None:
    """Return the contract of a store of these vectors, None where there is none yet."""
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
