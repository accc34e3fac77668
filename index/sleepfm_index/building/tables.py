"""Conversion of clips and their vectors to the tables of a segment."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm.clips import Clips
from sleepfm.recordings.channels import ChannelMap
from sleepfm.recordings.identifying_names import without_identity
from sleepfm.recordings.recording import Recording
from sleepfm_index.building.subjects import Subject, Subjects
from sleepfm_index.reader import Reader
from sleepfm_index.schema import EVENT_COLUMNS, RECORDING_COLUMNS, clip_schema, is_reserved
from sleepfm_index.storage.quoting import quote_name
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.vector_format import narrow
from sleepfm_index.truth import Truth

_TRUE: Final = "true_"
"""Prefix of a reference value that has the name of a scored column."""


def segment_rows(
    key: str,
    recording_id: str,
    recording: Recording,
    channels: ChannelMap,
    clips: Clips,
    vectors: dict[str, NDArray[np.float32]],
    subjects: Subjects,
    modalities: tuple[str, ...],
    signals: str | None = None,
    truth: Truth | None = None,
    distances: Mapping[str, float] | None = None,
) -> SegmentData:
    """Build the tables of a segment from one recording.

    Parameters
    ----------
    key : str
        Content key of the recording.
    recording_id : str
        Name of the recording in the store.
    recording : Recording
        The recording that was read.
    channels : ChannelMap
        Channels that fill the slots.
    clips : Clips
        The clips cut from the recording.
    vectors : dict of str to ndarray of float32, shape [n, 512]
        Unit vectors by modality, in the order of ``clips``.
    subjects : Subjects
        The subjects of the recordings.
    modalities : tuple of str
        Modalities of the contract, including those that the recording lacks.
    signals : str, optional
        Result of :func:`sleepfm.recordings.signal_digest.signal_digest`.
    truth : mapping of str to ndarray, shape [m], optional
        Additional columns of reference values; clips beyond the last value get nulls.
    distances : mapping of str to float, optional
        By modality, how far the recording is from the training distribution of the weights; None
        where that is not known.
    """
    subject = subjects.of(recording_id)
    stored = {}
    for modality, encoded in vectors.items():
        stored[modality] = narrow(encoded)
        stored[modality][clips.filled[modality] == 0] = 0
    return SegmentData(
        key=key,
        clips=_clip_rows(recording_id, clips, subject, subjects.columns, modalities, truth or {}),
        events=_event_rows(key, recording_id, clips, subject),
        recordings=_recording_row(
            key, recording_id, recording, channels, clips, subject, signals, distances
        ),
        vectors=stored,
    )


def _clip_rows(
    recording_id: str,
    clips: Clips,
    subject: Subject,
    known: pa.Schema,
    modalities: tuple[str, ...],
    truth: Truth,
) -> pa.Table:
    n = len(clips)
    values = {
        "recording_id": [recording_id] * n,
        "subject_id": [subject.subject_id] * n,
        "site": [subject.site] * n,
        "start_s": clips.start_s,
        "clock": [None] * n if clips.clock_s is None else clips.clock_s,
        "stage": clips.stage,
        "raw_stage": clips.raw_stage,
    }
    for modality in modalities:
        filled = clips.filled.get(modality, np.zeros(n, np.uint16))
        values[f"has_{modality}"] = filled > 0
        values[f"slots_{modality}"] = filled
    # The commit assigns the ids.
    fields = [field for field in clip_schema(modalities) if field.name != "clip_id"]
    shares = {} if clips.stage_share is None else {"stage_share": clips.stage_share}
    for measured in (shares, clips.event_seconds, clips.quality):
        values |= measured
        fields += [pa.field(name, pa.float32()) for name in measured]
    values |= {name: [subject.facts.get(name)] * n for name in known.names}
    extra = []
    for name, column in truth.items():
        if is_reserved(name, modalities) or name in known.names:
            name = f"{_TRUE}{name}"  # the scored column has the name
        padded = np.full(n, np.nan, np.float32)
        padded[: len(column)] = column[:n]
        values[name] = pa.array(padded, from_pandas=True)
        extra.append(pa.field(name, pa.float32()))
    return pa.table(values, schema=pa.schema([*fields, *known, *extra]))


def lacking_truth(reader: Reader, names: Collection[str]) -> list[str]:
    """List the recordings without a reference value in any of the given columns of a file.

    Parameters
    ----------
    reader : Reader
        The open store.
    names : collection of str
        Names of the columns in the file, before those of scored columns get a prefix.
    """
    modalities = reader.manifest.modalities
    stored = {f"{_TRUE}{n}" for n in names} | {n for n in names if not is_reserved(n, modalities)}
    filled = [f"{quote_name(n)} IS NOT NULL" for n in reader.clip_schema.names if n in stored]
    given = f"bool_or({' OR '.join(filled) or 'false'})"
    found = f"SELECT recording_id FROM clips GROUP BY recording_id HAVING NOT {given}"
    return list(reader.metadata.select(found)["recording_id"].to_pylist())


def _event_rows(key: str, recording_id: str, clips: Clips, subject: Subject) -> pa.Table:
    rows = [
        {
            "source": key,
            "recording_id": recording_id,
            "subject_id": subject.subject_id,
            "onset_s": event.onset_s,
            "duration_s": event.duration_s,
            "type": event.type,
            "subtype": event.subtype,
        }
        for event in clips.events
    ]
    return pa.Table.from_pylist(rows, schema=EVENT_COLUMNS)


def _recording_row(
    key: str,
    recording_id: str,
    recording: Recording,
    channels: ChannelMap,
    clips: Clips,
    subject: Subject,
    signals: str | None,
    distances: Mapping[str, float] | None,
) -> pa.Table:
    labels = [channel.label for channel in recording.channels]
    row = {
        "source": key,
        "recording_id": recording_id,
        "subject_id": subject.subject_id,
        "format": recording.format,
        "duration_s": recording.duration_s,
        "clips": len(clips),
        "slots": [
            (
                slot,
                f"{match.tier}{', turned' * match.turned}: "
                f"{' - '.join(map(without_identity, match.labels))}",
            )
            for slot, match in channels.slots.items()
        ],
        "unmatched": list(map(without_identity, channels.unmatched)),
        "warnings": [
            # Quoted text comes from the file; it is shown but not stored.
            *(_plain(re.sub(r"'[^']*'", "'...'", w), labels) for w in recording.warnings),
            *(_plain(warning, labels) for warning in (*channels.warnings, *clips.warnings)),
        ],
        "dropped": list(recording.scoring.dropped.items()),
        "signals": signals,
        "training_distance": None if distances is None else list(distances.items()),
    }
    return pa.Table.from_pylist([row], schema=RECORDING_COLUMNS)


def _plain(warning: str, labels: Sequence[str]) -> str:
    """Return a warning in which a channel is named as the store names it."""
    for label in labels:
        warning = warning.replace(label, without_identity(label))
    return warning
