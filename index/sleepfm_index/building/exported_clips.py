"""Import of clips written by ``export``, as segments of another store.

The metadata of the file states the weights and the contract of the vectors. The importing store has
the same weights, so it supports ``--against`` and ``query --file`` like the exporting one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sleepfm.cohort_choices import NO_CHOICES, Choices
from sleepfm.contract import Contract
from sleepfm.errors import SleepFMError
from sleepfm.labels import EVENT_COLUMNS as MEASURED_EVENTS
from sleepfm.modality import EMBEDDING_DIM
from sleepfm.quality import ISSUES
from sleepfm.stages import STAGES
from sleepfm_index.errors import StoreError
from sleepfm_index.schema import (
    EVENT_COLUMNS,
    RECORDING_COLUMNS,
    SUBJECT_COLUMNS,
    WEIGHTS_SPLIT,
    clip_schema,
    is_reserved,
)
from sleepfm_index.storage.manifest import WeightsIdentity
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.vector_format import (
    ARROW,
    NORM_TOLERANCE,
    Stored,
    of_arrow,
    present,
    widen,
)

METADATA: Final = b"sleepfm_index"
"""Key in the file's metadata that marks it as an export of a store."""
_GROUP_BYTES: Final = 1 << 29
"""Maximum unpacked size of a row group; 8,192 clips of three modalities take 30 MB."""
_TEXTS_OF_CLIPS: Final = frozenset({"recording_id", "subject_id", "stage", "raw_stage"})
_EXTRA_TYPES: Final = (pa.string(), pa.int64(), pa.float64(), pa.float32(), pa.bool_())


@dataclass(frozen=True)
class Origin:
    """Origin of the vectors of an export.

    Parameters
    ----------
    weights : WeightsIdentity
        Weights of the store that was exported.
    contract : Contract
        Contract by which its clips were prepared.
    choices : Choices
        Options with which its recordings were read.
    """

    weights: WeightsIdentity
    contract: Contract
    choices: Choices = NO_CHOICES


def origin_of(path: Path) -> Origin | None:
    """Return the origin of the vectors of an export; None for any other file.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    StoreError
        If the file cannot be read, or its metadata are not valid.
    """
    if path.suffix != ".parquet" or not path.is_file():
        return None
    try:
        with pq.ParquetFile(path) as file:
            text = (file.metadata.metadata or {}).get(METADATA)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path.name} cannot be read: {error}") from error
    if text is None:
        return None
    try:
        plain = json.loads(text)
        if "contract" not in plain:
            raise StoreError(
                f"{path.name} was exported by a version that did not write the contract; export it "
                "again, or import it as vectors made elsewhere by --name"
            )
        contract = Contract.from_json(plain["contract"])
        if contract.sha256 != plain["contract_sha256"]:
            raise ValueError("the contract does not match its hash")
        choices = Choices.from_json(plain["choices"]) if "choices" in plain else NO_CHOICES
        return Origin(WeightsIdentity(**plain["weights"]), contract, choices)
    except StoreError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SleepFMError) as error:
        raise StoreError(
            f"{path.name} does not identify its weights correctly: {type(error).__name__}: {error}"
        ) from error


def read_export(path: Path, modalities: tuple[str, ...]) -> Iterator[tuple[str, SegmentData]]:
    """Yield the recordings of an export as segments.

    Parameters
    ----------
    path : Path
        The file.
    modalities : tuple of str
        Modalities of the contract.

    Yields
    ------
    tuple of (str, SegmentData)
        ``recording_id``, and data of its segment.

    Raises
    ------
    StoreError
        If a column is missing, of a wrong type, infinite or not supported by a store; if vectors
        are not of unit length or contradict ``has_*``; if the clips of a recording are not adjacent
        and in order of time.
    """
    seen: set[str] = set()
    pending: list[pa.Table] = []
    try:
        with pq.ParquetFile(path) as file:
            fields = _columns(path, file.schema_arrow, modalities)
            for group in range(file.num_row_groups):
                if file.metadata.row_group(group).total_byte_size > _GROUP_BYTES:
                    raise StoreError(f"{path.name} has a row group of more than 512 MB")
                table = file.read_row_group(group, columns=[*fields.names, *modalities])
                for name, part in _runs(path, table):
                    if pending and pending[0]["recording_id"][0].as_py() != name:
                        yield _segment(path, pending, fields, modalities, seen)
                        pending = []
                    pending.append(part)
        if pending:
            yield _segment(path, pending, fields, modalities, seen)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise StoreError(f"{path.name} cannot be read: {error}") from error


def _columns(path: Path, schema: pa.Schema, modalities: tuple[str, ...]) -> pa.Schema:
    """Return the schema of the file's columns of clips, in the types of a store."""
    names = schema.names
    if len(set(names)) < len(names):
        raise StoreError(f"{path.name} has two columns of one name")
    missing = {"recording_id", "start_s", "stage", *modalities} - set(names)
    if missing:
        raise StoreError(f"{path.name} has no column {min(missing)}; export the store again")
    measured = [*MEASURED_EVENTS, "stage_share"]
    measured += [f"quality_{m}_{issue}" for m in modalities for issue in ISSUES]
    known = {f.name: f.type for f in (*clip_schema(modalities), *SUBJECT_COLUMNS)}
    known |= dict.fromkeys(measured, pa.float32()) | {WEIGHTS_SPLIT: pa.string()}
    fields = []
    for field in schema:
        if field.name == "clip_id" or field.name in modalities:
            continue
        if field.name not in known and (
            is_reserved(field.name, modalities) or field.type not in _EXTRA_TYPES
        ):
            raise StoreError(
                f"{path.name}: a store cannot hold the column {field.name!r} of {field.type}"
            )
        fields.append(pa.field(field.name, known.get(field.name, field.type)))
    return pa.schema(fields)


def _runs(path: Path, table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    names = table["recording_id"].combine_chunks()
    if names.null_count or not pa.types.is_string(names.type):
        raise StoreError(f"{path.name} has clips without a recording_id")
    if not len(names):
        return
    codes = names.dictionary_encode().indices.to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    for start, end in itertools.pairwise(edges):
        yield names[start].as_py(), table.slice(start, end - start)


def _segment(
    path: Path,
    parts: list[pa.Table],
    fields: pa.Schema,
    modalities: tuple[str, ...],
    seen: set[str],
) -> tuple[str, SegmentData]:
    table = pa.concat_tables(parts).combine_chunks()
    name = str(table["recording_id"][0].as_py())
    start = table["start_s"].to_numpy()
    if name in seen or not np.all(np.isfinite(start)) or np.any(np.diff(start) <= 0):
        raise StoreError(
            f"{path.name}: the clips of {name} are not together in order of time; sort the "
            "file by recording_id and start_s"
        )
    seen.add(name)
    vectors = {m: _vectors(path, table[m], m) for m in modalities}
    clips = _clips(path, table, fields, modalities, vectors)
    content = hashlib.sha256(name.encode() + start.astype("<f8").tobytes())
    for modality in modalities:
        content.update(vectors[modality].tobytes())
    recordings = pa.Table.from_pylist(
        [
            {
                "source": content.hexdigest(),
                "recording_id": name,
                "subject_id": clips["subject_id"][0].as_py(),
                "format": "export",
                "duration_s": float(start[-1]) + _clip_seconds(start),
                "clips": len(start),
                "slots": [],
                "unmatched": [],
                "warnings": [],
                "dropped": [],
            }
        ],
        schema=RECORDING_COLUMNS,
    )
    data = SegmentData(
        key=content.hexdigest(),
        clips=clips,
        events=EVENT_COLUMNS.empty_table(),
        recordings=recordings,
        vectors={m: x for m, x in vectors.items() if x.any()},
    )
    return name, data


def _clip_seconds(start: NDArray[np.float64]) -> float:
    return float(np.diff(start).min()) if len(start) > 1 else 0.0


def _vectors(path: Path, column: pa.ChunkedArray, modality: str) -> Stored:
    if column.type != ARROW:
        raise StoreError(f"{path.name}: {modality} is of {column.type}, not of {ARROW}")
    valid = column.is_valid().to_numpy()
    vectors = np.zeros((len(column), EMBEDDING_DIM), np.float16)
    lists = pa.concat_arrays([c.drop_null() for c in column.chunks] or [pa.array([], ARROW)])
    flat = lists.flatten()
    if flat.null_count:
        raise StoreError(f"{path.name}: vectors of {modality} hold nulls")
    vectors[valid] = of_arrow(flat, int(valid.sum()))
    lengths = np.linalg.norm(widen(vectors[valid]), axis=1)
    if not np.all(np.abs(lengths - 1) < NORM_TOLERANCE):
        raise StoreError(f"{path.name}: vectors of {modality} are not of length 1")
    return vectors


def _with_nulls(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as a store has it: what is missing is null, not NaN or an empty text."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
        if pc.any(pc.is_inf(column)).as_py():
            raise StoreError(f"{path.name}: {name} holds infinite values")
    elif pa.types.is_string(column.type) and name not in _TEXTS_OF_CLIPS:
        column = pc.if_else(pc.equal(column, ""), None, column)
    return column


def _clips(
    path: Path,
    table: pa.Table,
    fields: pa.Schema,
    modalities: tuple[str, ...],
    vectors: dict[str, Stored],
) -> pa.Table:
    """Clips in the column order of a store; columns that the file lacks are null."""
    n = len(table)
    values: dict[str, Any] = {
        f.name: _with_nulls(path, f.name, table[f.name].cast(f.type)) for f in fields
    }
    if "subject_id" not in values:
        values["subject_id"] = values["recording_id"]
    values["subject_id"] = pc.coalesce(values["subject_id"], values["recording_id"])
    if len(pc.unique(values["subject_id"])) > 1:
        raise StoreError(f"{path.name}: {values['recording_id'][0]} is of more than one subject")
    unknown = set(pc.unique(values["stage"]).to_pylist()) - set(STAGES)
    if unknown:
        raise StoreError(
            f"{path.name}: stage {min(map(str, unknown))!r} is none of {', '.join(STAGES)}"
        )
    if "raw_stage" not in values:
        values["raw_stage"] = pa.array([""] * n, pa.string())
    for modality in modalities:
        has_vector = present(vectors[modality])
        stated = values.get(f"has_{modality}")
        if stated is not None and stated.to_pylist() != has_vector.tolist():
            raise StoreError(f"{path.name}: has_{modality} does not go with the vectors")
        values[f"has_{modality}"] = pa.array(has_vector)
        if f"slots_{modality}" not in values:
            values[f"slots_{modality}"] = pa.array(has_vector.astype(np.uint16))
    schema = [f for f in clip_schema(modalities) if f.name != "clip_id"]
    first = {f.name for f in schema}
    schema += [f for f in fields if f.name not in first]
    schema += [f for f in SUBJECT_COLUMNS if f.name not in fields.names]
    return pa.table(
        [values.get(f.name, pa.nulls(n, f.type)) for f in schema], schema=pa.schema(schema)
    )
