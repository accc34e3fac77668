"""Vectors of other programs, from Parquet, npz, or HDF5 as written by SleepFM-clinical.

The modalities are those of the file; a name has at most 16 lower-case letters and digits.

Parquet
    One row per clip: ``recording_id``; ``start_s``, or rows in order; one column of lists of
    numbers per modality, null where it is absent; optionally ``subject_id``, ``site``, ``stage``.
npz
    One recording per file, with the file's name: one array [n, d] per modality; optionally
    ``start_s`` [n] and ``stage`` [n].
HDF5
    One recording per file, with the file's name: one dataset [t, d] per modality, one row per 5 s;
    six unit vectors are averaged to one of 30 s. Names become lower case, and ``EKG`` is ``ecg``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sleepfm.contract import ROBUST, modality_problem
from sleepfm.modality import EMBEDDING_DIM
from sleepfm.stages import STAGES
from sleepfm_index.errors import StoreError

CLIP_S: Final = 30
_HDF5_ROW_S: Final = 5
_HDF5_NAMES: Final = {"ekg": "ecg"}
_NPZ_METADATA: Final = ("start_s", "stage")

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class ForeignRecording:
    """The clips of one recording with vectors of another program.

    Parameters
    ----------
    recording_id : str
        Name of the recording.
    start_s : ndarray of float64, shape [n]
        Offset of each clip from the recording's start, in seconds.
    vectors : dict of str to ndarray of float32, shape [n, 512]
        Unit vectors by modality; shorter vectors are padded with zeros, and a clip without the
        modality has a zero row.
    stage : tuple of str, length n
        Stage of each clip; ``UNS`` if unknown.
    subject_id, site : str or None
        Subject and site, if the file has them.
    """

    recording_id: str
    start_s: NDArray[np.float64]
    vectors: dict[str, Vectors]
    stage: tuple[str, ...]
    subject_id: str | None = None
    site: str | None = None


def read_vectors(path: Path) -> Iterator[ForeignRecording]:
    """Read a file, or all files of a folder.

    Parameters
    ----------
    path : Path
        A file or a folder; in a folder, files of other kinds are skipped.

    Raises
    ------
    StoreError
        If a file cannot be read, or has no vectors, vectors of more than 512 dimensions, values
        that are not finite, or columns of different lengths.
    """
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in _READERS)
        if not files:
            raise StoreError(f"{path.name} holds no file ending in {', '.join(_READERS)}")
        for file in files:
            yield from read_vectors(file)
        return
    if path.suffix not in _READERS:
        raise StoreError(
            f"{path.name}: vectors are read from {', '.join(_READERS)}, not from {path.suffix!r}"
        )
    try:
        yield from _READERS[path.suffix](path)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise StoreError(f"{path.name} cannot be read: {error}") from error


def modalities_of(paths: Iterable[Path]) -> tuple[str, ...]:
    """List the modalities of files: those of SleepFM first, in their order.

    Parameters
    ----------
    paths : iterable of Path
        Files or folders, as for :func:`read_vectors`.

    Raises
    ------
    StoreError
        As in :func:`read_vectors`.
    """
    present = {m for path in paths for recording in read_vectors(path) for m in recording.vectors}
    known = [m for m in ROBUST.modalities if m in present]
    return (*known, *sorted(present.difference(known)))


def _parquet(path: Path) -> Iterator[ForeignRecording]:
    with pq.ParquetFile(path) as file:  # one file; its path is never read as data
        table = file.read()
    names = table.column_names
    modalities = [f.name for f in table.schema if _holds_vectors(f.type)]
    if "recording_id" not in names or not modalities:
        raise StoreError(
            f"{path.name} needs recording_id and a column of lists of numbers per modality, e.g. "
            f"bas, ecg, resp; it has {', '.join(names)}"
        )
    owner = np.array(table["recording_id"].to_pylist(), dtype=object)
    for name in dict.fromkeys(owner):
        clips = table.filter(pa.array(owner == name))
        start = clips["start_s"].to_numpy() if "start_s" in names else _in_order(clips.num_rows)
        order = np.argsort(start, kind="stable")
        clips = clips.take(order)
        rows = {m: _lists(path, clips[str(m)], m) for m in modalities}
        yield _recording(
            path,
            str(name),
            np.asarray(start, np.float64)[order],
            rows,
            clips["stage"].to_pylist() if "stage" in names else None,
            _one(clips, "subject_id"),
            _one(clips, "site"),
        )


def _holds_vectors(data_type: pa.DataType) -> bool:
    listed = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_type(data_type) for is_type in listed) and (
        pa.types.is_floating(data_type.value_type) or pa.types.is_integer(data_type.value_type)
    )


def _lists(path: Path, column: pa.ChunkedArray, modality: str) -> Vectors:
    lists = column.to_pylist()
    sizes = {len(row) for row in lists if row is not None}
    if len(sizes) > 1:
        raise StoreError(
            f"{path.name}: vectors of {modality} have {min(sizes)} to {max(sizes)} values"
        )
    width = next(iter(sizes), 0)
    return np.array([row or [0.0] * width for row in lists], np.float32).reshape(len(lists), width)


def _one(table: pa.Table, name: str) -> str | None:
    if name not in table.column_names:
        return None
    values = {v for v in table[name].to_pylist() if v is not None}
    if len(values) > 1:
        raise StoreError(
            f"a recording has more than one {name}: {', '.join(sorted(map(str, values)))}"
        )
    return str(next(iter(values))) if values else None


def _npz(path: Path) -> Iterator[ForeignRecording]:
    with np.load(path, allow_pickle=False) as arrays:
        rows = {
            name: np.asarray(arrays[name], np.float32)
            for name in arrays.files
            if name not in _NPZ_METADATA
        }
        count = len(next(iter(rows.values()), ()))
        start = np.asarray(arrays["start_s"]) if "start_s" in arrays else _in_order(count)
        stage = [str(s) for s in arrays["stage"]] if "stage" in arrays else None
    yield _recording(path, path.stem, start.astype(np.float64), rows, stage)


def _hdf5(path: Path) -> Iterator[ForeignRecording]:
    try:
        import h5py  # an optional extra
    except ImportError as error:
        raise StoreError("reading HDF5 needs h5py: pip install 'sleepfm-index[wfdb]'") from error
    rows_per_clip = CLIP_S // _HDF5_ROW_S
    rows: dict[str, Vectors] = {}
    with h5py.File(path) as file:
        for name, dataset in file.items():
            if isinstance(dataset, h5py.Dataset) and dataset.ndim == 2:
                modality = _HDF5_NAMES.get(name.lower(), name.lower())
                if modality in rows:
                    raise StoreError(f"{path.name} holds two datasets of {modality}")
                x = np.asarray(dataset, np.float32)
                x = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
                count = len(x) // rows_per_clip
                rows[modality] = (
                    x[: count * rows_per_clip].reshape(count, rows_per_clip, -1).mean(axis=1)
                )
    if rows:
        count = min(map(len, rows.values()))
        rows = {m: x[:count] for m, x in rows.items()}
    yield _recording(path, path.stem, _in_order(len(next(iter(rows.values()), ()))), rows, None)


_READERS: Final = {".parquet": _parquet, ".npz": _npz, ".hdf5": _hdf5, ".h5": _hdf5}


def _in_order(count: int) -> NDArray[np.float64]:
    return np.arange(count, dtype=np.float64) * CLIP_S


def _recording(
    path: Path,
    name: str,
    start_s: NDArray[np.float64],
    rows: dict[str, Vectors],
    stage: Iterable[str | None] | None,
    subject_id: str | None = None,
    site: str | None = None,
) -> ForeignRecording:
    """Check the data, and convert the vectors to unit length and 512 dimensions."""
    if not rows or not len(start_s):
        raise StoreError(
            f"{path.name} holds no vectors; name its arrays by modality, e.g. bas, ecg, resp"
        )
    stages = tuple(s or "UNS" for s in stage) if stage is not None else ("UNS",) * len(start_s)
    unknown = set(stages) - set(STAGES)
    if unknown:
        raise StoreError(
            f"{path.name}: stage {min(unknown)!r} is none of {', '.join(STAGES)}; rename it first"
        )
    vectors = {}
    for modality, x in rows.items():
        problem = modality_problem(modality)
        if problem:
            raise StoreError(f"{path.name}: {problem}")
        if x.ndim != 2 or len(x) != len(start_s) or len(stages) != len(x):
            raise StoreError(
                f"{path.name}: {modality} has the shape {x.shape}, with {len(start_s)} clips"
            )
        if x.shape[1] > EMBEDDING_DIM:
            raise StoreError(
                f"{path.name}: vectors of {modality} have {x.shape[1]} dimensions, a store holds "
                f"{EMBEDDING_DIM}; reduce them first (e.g. by principal components)"
            )
        if not np.isfinite(x).all():
            raise StoreError(f"{path.name}: vectors of {modality} hold NaN or infinity")
        length = np.linalg.norm(x, axis=1, keepdims=True)
        padded = np.zeros((len(x), EMBEDDING_DIM), np.float32)
        padded[:, : x.shape[1]] = x / np.maximum(length, 1e-12)
        vectors[modality] = padded
    if (np.diff(start_s) <= 0).any():
        raise StoreError(f"{path.name}: two clips of {name} start at the same time")
    return ForeignRecording(name, start_s, vectors, stages, subject_id, site)
