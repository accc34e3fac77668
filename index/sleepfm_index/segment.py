"""A segment: the clips of one or more recordings on disk, written once, then only read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sleepfm.modality import EMBEDDING_DIM, Modality
from sleepfm_index.disk import publish_folder
from sleepfm_index.errors import FormatError
from sleepfm_index.manifest import SegmentEntry
from sleepfm_index.schema import CLIP_COLUMNS, SUBJECT_COLUMNS, VECTOR

FOLDER: Final = "segments"
CLIPS: Final = "clips.parquet"
EVENTS: Final = "events.parquet"
RECORDINGS: Final = "recordings.parquet"


@dataclass(frozen=True)
class SegmentData:
    """What becomes a segment, in memory.

    Parameters
    ----------
    key : str
        Name of the segment: the hash of (source content, contract, weights).
    clips, events, recordings : pyarrow.Table
        As in :mod:`sleepfm_index.schema`; ``clips`` without ``clip_id``, which the commit gives.
    vectors : dict of Modality to ndarray of float16, shape [n, 512]
        Unit vectors, row by row with ``clips``; zero rows where a clip lacks the modality; a
        modality that no clip has is left out.
    """

    key: str
    clips: pa.Table
    events: pa.Table
    recordings: pa.Table
    vectors: dict[Modality, NDArray[np.float16]]


def vector_file(modality: Modality) -> str:
    """Name of a modality's vector file."""
    return f"{modality}.arrow"


def write_segment(store: Path, data: SegmentData, first_clip_id: int) -> SegmentEntry:
    """Write and publish a segment; it belongs to the store once the manifest names it."""
    rows = data.clips.num_rows
    ids = pa.array(np.arange(first_clip_id, first_clip_id + rows, dtype=np.int64))
    clips = data.clips.add_column(0, "clip_id", ids)

    def write(folder: Path) -> None:
        pq.write_table(clips, folder / CLIPS, compression="zstd")
        pq.write_table(data.events, folder / EVENTS, compression="zstd")
        pq.write_table(data.recordings, folder / RECORDINGS, compression="zstd")
        for modality, vectors in data.vectors.items():
            write_vectors(folder / vector_file(modality), vectors)

    files = publish_folder(store / FOLDER / data.key, write)
    return SegmentEntry(
        id=data.key,
        rows=rows,
        first_clip_id=first_clip_id,
        last_clip_id=first_clip_id + rows - 1,
        sources=(data.key,),
        columns=extra_columns(clips.schema),
        files=files,
    )


def extra_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Subject columns of a clips table beyond those of the schema, as ``name:type``."""
    known = {*CLIP_COLUMNS.names, *SUBJECT_COLUMNS.names}
    return tuple(sorted(f"{f.name}:{f.type}" for f in schema if f.name not in known))


def write_vectors(path: Path, vectors: NDArray[np.float16]) -> None:
    """Write float16 [n, 512] as one uncompressed Arrow record batch, so it can be mapped."""
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(vectors).reshape(-1)), EMBEDDING_DIM
    )
    table = pa.table({"vector": column.cast(VECTOR)})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(1, len(vectors)))


def map_vectors(store: Path, segment: SegmentEntry, modality: Modality) -> NDArray[np.float16]:
    """Memory-map the vectors of one segment, shape [rows, 512], float16, read-only.

    A modality that no clip of the segment has gives zero rows without a file.

    Raises
    ------
    FormatError
        If the file is missing, is not the size that the manifest states, or is not such a file.
    """
    name = vector_file(modality)
    if name not in segment.files:
        return np.broadcast_to(np.zeros(1, np.float16), (segment.rows, EMBEDDING_DIM))
    path = store / FOLDER / segment.id / name
    check_size(path, segment.files[name].bytes)
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            if reader.num_record_batches != 1 or reader.schema != pa.schema([("vector", VECTOR)]):
                raise FormatError(f"{path} is not a vector file of this store")
            column = reader.get_batch(0).column(0)
            column.validate(full=True)
            values = column.values
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path} is damaged: {error}; run `sleepfm-index verify`") from error
    if len(values) != segment.rows * EMBEDDING_DIM:
        raise FormatError(f"{path} does not hold the {segment.rows} rows that the manifest states")
    # From the buffer, because Array.to_numpy imports pandas where there is one.
    flat = np.frombuffer(values.buffers()[1], np.float16, len(values), 2 * values.offset)
    return flat.reshape(segment.rows, EMBEDDING_DIM)


def check_size(path: Path, expected: int) -> None:
    """Refuse a published file that is missing, a link, or not as long as the manifest states."""
    if path.is_symlink() or not path.is_file():
        raise FormatError(f"{path} is missing or not a plain file; run `sleepfm-index verify`")
    actual = path.stat().st_size
    if actual != expected:
        raise FormatError(
            f"{path} has {actual:,} bytes, the manifest states {expected:,}; "
            "run `sleepfm-index verify`"
        )
