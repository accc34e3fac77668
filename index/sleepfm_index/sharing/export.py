"""Export of clips joined with their vectors, as one Parquet file, Lance dataset or FAISS files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sleepfm.atomic_write import check_writable
from sleepfm_index.choices import ExportFormat
from sleepfm_index.errors import QueryError, StoreError
from sleepfm_index.reader import Reader
from sleepfm_index.sharing import faiss_index
from sleepfm_index.sharing.clip_batches import ClipBlock, clip_blocks, clips_schema
from sleepfm_index.sharing.deidentify import (
    KeptColumns,
    Pseudonyms,
    check_kept,
    deidentify,
    kept_columns,
)
from sleepfm_index.storage import private, vector_format
from sleepfm_index.storage.files import Sink, publish_file
from sleepfm_index.storage.vector_format import Stored

FORMATS: Final = get_args(ExportFormat)


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Parameters
    ----------
    path : Path
        The file or folder that was written.
    clips : int
        Number of clips.
    format : {"parquet", "lance", "faiss"}
        Format of the export.
    deidentified : bool
        True if ids were hashed and other columns omitted.
    """

    path: Path
    clips: int
    format: str
    deidentified: bool


def export(
    store: str | Path,
    out: str | Path,
    *,
    format: ExportFormat = "parquet",  # noqa: A002
    deidentified: bool = False,
    where: str | None = None,
    keep: Sequence[str] = (),
    allow_identifying: bool = False,
) -> Exported:
    """Write the clips of a store with their vectors, for use in other tools.

    The table has one row per clip: the columns of ``clips``, and for each modality the vector as a
    list of 512 float16 values, null if the clip lacks the modality. It is written block by block.
    For FAISS, the folder has one file per target with vectors and clip ids only; see
    :mod:`sleepfm_index.sharing.faiss_index`.

    Parameters
    ----------
    store : path
        The store's folder.
    out : path
        The file (Parquet) or folder (Lance, FAISS) to write; it must not exist.
    format : {"parquet", "lance", "faiss"}
        Format of the export; Lance needs ``pip install 'sleepfm-index[lance]'``.
    deidentified : bool
        Whether to omit or hash everything that could identify a person; see
        :mod:`sleepfm_index.sharing.deidentify`.
    where : str, optional
        SQL condition over the columns of ``clips``; by default all clips.
    keep : sequence of str
        Additional columns of a de-identified export: user-defined columns, or ``site``.
    allow_identifying : bool
        Whether to keep these columns even if they look identifying.

    Returns
    -------
    Exported

    Raises
    ------
    QueryError
        If the condition is not valid or matches no clip, the format is unknown, FAISS files are to
        be de-identified, or a column to keep does not exist or is never exported.
    OutputError
        If ``out`` cannot be written.
    StoreError
        If ``out`` exists, the format's package is not installed, or a column to keep looks
        identifying.
    """
    path = Path(out)
    if format not in FORMATS:
        raise QueryError(f"unknown format {format!r}; choose from {', '.join(FORMATS)}")
    if deidentified and format == "faiss":
        raise QueryError(
            "a FAISS file holds the store's clip ids and cannot be de-identified; export parquet"
        )
    if path.exists() or path.is_symlink():
        raise StoreError(f"{path} already exists; choose another name, or remove it first")
    check_writable(path)
    if keep and not deidentified:
        raise QueryError("an export that is not de-identified keeps every column; leave --keep out")
    with Reader(store) as opened:
        clip_ids = opened.metadata.clip_ids(where)
        if not len(clip_ids):
            raise QueryError("there are no clips to export" + (f" where {where}" if where else ""))
        if format == "faiss":
            faiss_index.write_files(opened, path, clip_ids)
            return Exported(path, len(clip_ids), format, deidentified)
        kept = check_kept(opened.clip_schema, tuple(keep), allow_identifying)
        rows = _Rows(opened, clip_ids, deidentified, kept)
        (_write_parquet if format == "parquet" else _write_lance)(path, rows)
    return Exported(path, rows.written, format, deidentified)


class _Rows:
    """Iterator over the record batches of an export, with their schema."""

    def __init__(
        self, store: Reader, clip_ids: NDArray[np.int64], hide: bool, kept: KeptColumns
    ) -> None:
        self._store = store
        self._clip_ids = clip_ids
        self._kept = kept
        self._names = Pseudonyms(private.key(store.path)) if hide else None
        columns = clips_schema(store)
        self._modalities = store.manifest.modalities
        if hide:
            columns = kept_columns(columns, self._modalities, kept.names)
        fields = [*columns, *(pa.field(m, vector_format.ARROW) for m in self._modalities)]
        self.schema = pa.schema(fields, metadata=_origin(store, hide))
        self.written = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for block in self._blocks():
            clips = block.clips
            if self._names is not None:
                clips = deidentify(clips, self._names, self.written, self._modalities, self._kept)
            arrays = [c.combine_chunks() for c in clips.columns]
            arrays += [_lists(block.vectors[m]) for m in self._modalities]
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


def _lists(vectors: Stored) -> pa.Array:
    """Convert vectors to an Arrow column; zero rows, which mark missing vectors, become null."""
    return vector_format.as_arrow(vectors, pa.array(~vector_format.present(vectors)))


def _origin(store: Reader, hide: bool) -> dict[str, str]:
    # Users of the file need to know the weights of the vectors, and whether they are trained.
    manifest = store.manifest
    origin: dict[str, Any] = {
        "weights": asdict(manifest.weights),
        "contract_sha256": manifest.contract.sha256,
        "contract": manifest.contract.to_json(),
        "deidentified": hide,
    }
    if not hide:
        origin |= {"store": manifest.uuid, "snapshot": manifest.snapshot}
        origin |= {"choices": manifest.choices.to_json()}
    return {"sleepfm_index": json.dumps(origin)}


def _write_parquet(path: Path, rows: _Rows) -> None:
    columns = [f.name for f in rows.schema if f.type != vector_format.ARROW]
    vectors = [f.name for f in rows.schema if f.type == vector_format.ARROW]

    def write(sink: Sink) -> None:
        # The float16 values of unit vectors hardly compress.
        compression = {f"{m}.list.element": "NONE" for m in vectors}
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
