"""A store handed on: clips joined with their vectors, as one Parquet file or Lance dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sleepfm.modality import Modality
from sleepfm_index.errors import QueryError, StoreError
from sleepfm_index.reader import Reader
from sleepfm_index.schema import VECTOR
from sleepfm_index.sharing.clip_batches import ClipBlock, clip_blocks, clips_schema
from sleepfm_index.sharing.deidentify import Pseudonyms, deidentified, kept
from sleepfm_index.storage import private
from sleepfm_index.storage.files import Sink, publish_file

FORMATS: Final = ("parquet", "lance")


@dataclass(frozen=True)
class Exported:
    """What was written: where, how many clips, in which format, and whether de-identified."""

    path: Path
    clips: int
    format: str
    deidentified: bool


def export(
    store: str | Path,
    out: str | Path,
    *,
    format: Literal["parquet", "lance"] = "parquet",  # noqa: A002
    deidentified: bool = False,
    where: str | None = None,
) -> Exported:
    """Write the clips of a store with their vectors, for every other tool.

    One row a clip: the columns of ``clips``, and ``bas``, ``ecg`` and ``resp`` as lists of 512
    float16, null where the clip lacks the modality. Written a block at a time.

    Parameters
    ----------
    store : path
        The store's folder.
    out : path
        The file (Parquet) or folder (Lance) to make; there must be nothing.
    format : {"parquet", "lance"}
        Lance needs ``pip install 'sleepfm-index[lance]'``.
    deidentified : bool
        Leave out what could lead back to a person; see :mod:`sleepfm_index.sharing.deidentify`.
    where : str, optional
        SQL condition over the columns of ``clips``; by default all clips.

    Raises
    ------
    QueryError
        If the condition is not valid or holds for no clip, or the format is not known.
    StoreError
        If ``out`` exists already, or the format's package is not installed.
    """
    path = Path(out)
    if format not in FORMATS:
        raise QueryError(f"no format {format!r}; choose from {', '.join(FORMATS)}")
    if path.exists() or path.is_symlink():
        raise StoreError(f"{path} is there already; name another place, or remove it first")
    if not path.parent.is_dir():
        raise StoreError(f"there is no folder {path.parent} to write {path.name} in")
    with Reader(store) as opened:
        clip_ids = opened.metadata.clip_ids(where)
        if not len(clip_ids):
            raise QueryError("there is no clip to export" + (f" where {where}" if where else ""))
        rows = _Rows(opened, clip_ids, deidentified)
        (_write_parquet if format == "parquet" else _write_lance)(path, rows)
    return Exported(path, rows.written, format, deidentified)


class _Rows:
    """The batches of an export, and their schema."""

    def __init__(self, store: Reader, clip_ids: NDArray[np.int64], hide: bool) -> None:
        self._store = store
        self._clip_ids = clip_ids
        self._names = Pseudonyms(private.key(store.path)) if hide else None
        columns = clips_schema(store)
        fields = [*(kept(columns) if hide else columns), *(pa.field(m, VECTOR) for m in Modality)]
        self.schema = pa.schema(fields, metadata=_origin(store, hide))
        self.written = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for block in self._blocks():
            clips = block.clips
            if self._names is not None:
                clips = deidentified(clips, self._names, self.written)
            arrays = [c.combine_chunks() for c in clips.columns]
            arrays += [_lists(block.vectors[m]) for m in Modality]
            self.written += len(clips)
            yield pa.record_batch(arrays, schema=self.schema)

    def _blocks(self) -> Iterator[ClipBlock]:
        names = self._names
        if names is None:
            return clip_blocks(self._store, clip_ids=self._clip_ids)
        segments = sorted(self._store.manifest.segments, key=lambda s: names.of("segment", s.id))
        return clip_blocks(
            self._store, clip_ids=self._clip_ids, segments=segments, order=names.order
        )


def _lists(vectors: NDArray[np.float16]) -> pa.Array:
    """Vectors as an Arrow column; a zero row, which stands for none, becomes null."""
    missing = ~vectors.any(axis=1)
    values = pa.Array.from_buffers(
        pa.float16(), vectors.size, [None, pa.py_buffer(np.ascontiguousarray(vectors))]
    )
    return pa.FixedSizeListArray.from_arrays(values, type=VECTOR, mask=pa.array(missing))


def _origin(store: Reader, hide: bool) -> dict[str, str]:
    # Which weights made the vectors, for whoever reads them; and whether they were ever trained.
    manifest = store.manifest
    told: dict[str, Any] = {
        "weights": asdict(manifest.weights),
        "contract_sha256": manifest.contract.sha256,
        "deidentified": hide,
    }
    if not hide:
        told |= {"store": manifest.uuid, "snapshot": manifest.snapshot}
    return {"sleepfm_index": json.dumps(told)}


def _write_parquet(path: Path, rows: _Rows) -> None:
    columns = [f.name for f in rows.schema if f.type != VECTOR]

    def write(sink: Sink) -> None:
        # Half floats of a unit vector hardly compress: the time is better spent elsewhere.
        compression = {f"{m}.list.element": "NONE" for m in Modality}
        with pq.ParquetWriter(
            sink,
            rows.schema,
            compression={**dict.fromkeys(columns, "zstd"), **compression},
            use_dictionary=columns,
            write_statistics=columns,
        ) as writer:
            for batch in rows:
                writer.write_batch(batch, row_group_size=len(batch))

    publish_file(path, write)


def _write_lance(path: Path, rows: _Rows) -> None:
    try:
        import lance
    except ImportError as error:
        raise StoreError("Lance is not installed: pip install 'sleepfm-index[lance]'") from error
    reader = pa.RecordBatchReader.from_batches(rows.schema, iter(rows))
    lance.write_dataset(reader, path)
