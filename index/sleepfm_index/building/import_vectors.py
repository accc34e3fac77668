"""Import of clips exported by a store, or of vectors of another program."""

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

RecordingsOfFiles = Iterator[tuple[Path, SegmentData]]
"""Recordings, each with its file."""


def import_vectors(
    store: str | Path,
    paths: Iterable[str | Path],
    *,
    name: str | None = None,
    subjects: str | Path | None = None,
    readmit: bool = False,
    mode: StoreMode | None = None,
) -> Result:
    """Add an export, or vectors of another program, to a store; create the store if needed.

    An export keeps its weights, contract, rows and vectors unchanged. Vectors of another program
    are normalised to unit length and padded with zeros, which preserves cosines; the modalities of
    the store are those of the files that it is created from. Each recording is committed
    separately. A recording that is in the store already is skipped, and one that was deleted from
    it, or whose subject was deleted, is left out.

    Parameters
    ----------
    store : path
        The store's folder; a store has vectors of one encoder only.
    paths : iterable of path
        Files that ``export`` wrote, or files and folders of vectors
        (:mod:`sleepfm_index.building.foreign_vectors`).
    name : str, optional
        Name of the program that made the vectors, e.g. ``sleepfm-clinical``, which becomes the name
        of the weights; required if the files are not exports.
    subjects : path, optional
        subjects.csv, for files that are not exports.
    readmit : bool
        Whether to add recordings and subjects again that were deleted from this store.
    mode : {"private", "group"}, optional
        Access for the owner only, or for the owner's group as well; by default unchanged.

    Returns
    -------
    Result
        One row per recording: ``recording_id``, ``clips``, ``modalities``, ``outcome`` (added,
        already there, left out, failed) and ``reason``.

    Raises
    ------
    StoreError
        If a file cannot be read, has a modality that the store lacks, or has vectors of another
        encoder than the store; if files that are not exports have no ``name``; or if exports and
        other files are mixed.
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
            f"{files[0].name} is not an export of a store; name the model of the vectors, e.g. "
            "--name sleepfm-clinical"
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
    encoder_name = str(name)
    made_by = WeightsIdentity(
        encoder_name,
        hashlib.sha256(f"made elsewhere/{encoder_name}".encode()).hexdigest(),
        trained=True,
        note="imported vectors of another program; this store cannot encode files",
    )
    cohort = read_subjects(Path(subjects)) if subjects is not None else no_subjects()
    modalities = modalities_of(files)  # every file is checked before anything is written
    contract = _contract_of(Path(store), made_by) or _contract(encoder_name, modalities)
    _check_modalities(modalities, contract)
    source = _foreign(files, encoder_name, cohort, contract.modalities)
    with Writer(Path(store), made_by, contract, mode=mode) as writer:
        return _import(writer, source, f"vectors of {encoder_name}", readmit)


def _exported(files: list[Path], modalities: tuple[str, ...]) -> RecordingsOfFiles:
    for path in files:
        for _, data in read_export(path, modalities):
            yield path, data


def _foreign(
    files: list[Path], name: str, cohort: Subjects, modalities: tuple[str, ...]
) -> RecordingsOfFiles:
    for path in files:
        for recording in read_vectors(path):
            yield path, _segment(recording, _key(recording, name), path, cohort, modalities)


def _import(writer: Writer, recordings: RecordingsOfFiles, note: str, readmit: bool) -> Result:
    """Commit recordings one by one, except present and deleted ones and duplicate names."""
    with Reader(writer.path) as opened:
        names = opened.sql("SELECT recording_id, subject_id FROM recordings").to_pylist()
    taken = {row["recording_id"] for row in names}
    rows = []
    for path, data in recordings:
        recording = data.recordings.to_pylist()[0]
        manifest = writer.manifest
        mark = subject_mark(manifest.uuid, recording["subject_id"])
        withdrawn = () if readmit else (*manifest.withdrawn, *manifest.withdrawals)
        name = recording["recording_id"]
        refused = refusal(path, data.key, name, manifest.sources, withdrawn, taken, mark)
        if refused is None:
            writer.append(data, manifest.readmitted(data.key, (mark,)) if readmit else None)
            taken.add(name)
        rows.append(
            {
                "recording_id": name,
                "clips": recording["clips"],
                "modalities": ", ".join(map(str, data.vectors)),
                "outcome": "added" if refused is None else refused.status,
                "reason": "" if refused is None else _reason(refused, name, mark in withdrawn),
            }
        )
    update_indexes(writer, IndexRequest())
    return Result(pa.Table.from_pylist(rows), note)


def _reason(refused: Outcome, name: str, subject_gone: bool) -> str:
    if refused.status == "failed":
        return f"another recording named {name} is already in the store; delete that one first"
    if refused.status == "left out":
        subject = "its subject" if subject_gone else "it"
        return f"{subject} was deleted from this store; import with --readmit to take it again"
    return refused.reason or ""


def _contract_of(store: Path, made_by: WeightsIdentity) -> Contract | None:
    """Return the contract of a store with these vectors; None if there is no such store."""
    try:
        manifest = read_manifest(store)
    except StoreError:
        return None  # the writer reports the error
    return manifest.contract if manifest.weights.sha256 == made_by.sha256 else None


def _contract(name: str, modalities: tuple[str, ...]) -> Contract:
    slots = {m: ROBUST.slots.get(m, (m,)) for m in modalities}
    return Contract(
        f"made elsewhere: {name}",
        "polyphase",
        "none",
        slots,
        {slot: ROBUST.units.get(slot, "") for names in slots.values() for slot in names},
        clip_seconds=CLIP_S,
    )


def _check_modalities(modalities: tuple[str, ...], contract: Contract) -> None:
    unknown = [m for m in modalities if m not in contract.modalities]
    if unknown:
        raise StoreError(
            f"the files hold vectors of {unknown[0]}, the store is of "
            f"{', '.join(contract.modalities)}; the modalities of a "
            "store are those of the files that it was made from: name them all at once, with "
            "another --store"
        )


def _key(recording: ForeignRecording, name: str) -> str:
    """Content key of recording and encoder, in the form of a build."""
    content = hashlib.sha256(recording.recording_id.encode())
    content.update(np.ascontiguousarray(recording.start_s).tobytes())
    for modality, vectors in recording.vectors.items():
        content.update(str(modality).encode() + vectors.tobytes())
    encoder = hashlib.sha256(f"made elsewhere/{name}".encode())
    return content.hexdigest()[:32] + encoder.hexdigest()[:32]


def _segment(
    recording: ForeignRecording,
    key: str,
    path: Path,
    cohort: Subjects,
    modalities: tuple[str, ...],
) -> SegmentData:
    n = len(recording.start_s)
    clips = Clips(
        start_s=recording.start_s,
        clock_s=None,
        stage=recording.stage,
        raw_stage=recording.stage,
        signals={},
        filled={
            m: (np.abs(x).max(axis=1) > 0).astype(np.uint16) for m, x in recording.vectors.items()
        },
        quality={
            f"quality_{m}_{issue}": np.zeros(n, np.float32)
            for m in recording.vectors
            for issue in ISSUES
        },
        event_seconds=clip_event_seconds((), n, CLIP_S),
        events=(),
    )
    merged_recording = Recording(
        sources=(path,),
        format="vectors",
        duration_s=float(recording.start_s[-1] + CLIP_S),
        start_clock_s=None,
        channels=(),
        scoring=Scoring(),
    )
    subject = cohort.of(recording.recording_id)
    if same_id(recording.recording_id) not in cohort.by_recording:
        subject = Subject(
            recording.subject_id or recording.recording_id, recording.site, subject.facts
        )
    known = replace(cohort, by_recording={same_id(recording.recording_id): subject})
    return segment_rows(
        *(
            key,
            recording.recording_id,
            merged_recording,
            ChannelMap({}, ()),
            clips,
            recording.vectors,
            known,
        ),
        modalities,
    )
