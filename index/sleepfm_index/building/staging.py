"""Staging: shared storage where workers put their rows for the writer.

The rows of a recording are one object, which is written atomically both on a POSIX file system
(temporary file and rename) and on S3 or Google Cloud Storage (a put). Its name is a hash of
everything that determines its content, so writing it twice does no harm.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import uuid
import zipfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from sleepfm_index.building.recording_task import Outcome, Rows
from sleepfm_index.building.subjects import Subject
from sleepfm_index.errors import StoreError
from sleepfm_index.storage.segments import CLIPS, EVENTS, RECORDINGS, SegmentData
from sleepfm_index.storage.table_checks import unpacked_limit
from sleepfm_index.truth import Truth

_FORMAT: Final = 1
_ABOUT: Final = "about.json"
_ODD: Final = (AttributeError, MemoryError, NotImplementedError, RecursionError, TypeError)


class Staging:
    """A folder on storage that the workers and the writer share.

    Parameters
    ----------
    uri : str
        A path, or an address such as ``s3://bucket/folder`` or ``gs://bucket/folder`` that
        :func:`pyarrow.fs.FileSystem.from_uri` supports. Credentials come from the environment.
    folder : str
        Subfolder for one store.

    Raises
    ------
    StoreError
        If the address is not valid.
    """

    def __init__(self, uri: str, folder: str) -> None:
        self._system: fs.FileSystem
        try:
            if "://" in uri:
                self._system, root = fs.FileSystem.from_uri(uri)
            else:
                self._system, root = fs.LocalFileSystem(), str(Path(uri).absolute())
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StoreError(f"cannot stage rows at {without_query(uri)}: {error}") from error
        self._root = f"{root.rstrip('/')}/{folder}"

    def has(self, name: str) -> bool:
        """Check whether an object exists.

        Parameters
        ----------
        name : str
            Path within the folder.

        Returns
        -------
        bool
        """
        info = self._system.get_file_info(f"{self._root}/{name}")
        return bool(info.type == fs.FileType.File)

    def write(self, name: str, content: bytes) -> None:
        """Write an object atomically; an existing one is replaced.

        Parameters
        ----------
        name : str
            Path within the folder.
        content : bytes
            Bytes of the object.
        """
        path = f"{self._root}/{name}"
        local = isinstance(self._system, fs.LocalFileSystem)
        temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp" if local else path
        if local:
            self._system.create_dir(path.rpartition("/")[0], recursive=True)
        with self._system.open_output_stream(temporary) as stream:
            stream.write(content)
        if local:
            self._system.move(temporary, path)

    def read(self, name: str) -> bytes:
        """Read an object.

        Parameters
        ----------
        name : str
            Path within the folder.

        Returns
        -------
        bytes
        """
        with self._system.open_input_stream(f"{self._root}/{name}") as stream:
            content: bytes = stream.read()
            return content

    def remove(self, name: str) -> None:
        """Remove an object if it exists.

        Parameters
        ----------
        name : str
            Path within the folder.
        """
        with suppress(FileNotFoundError):
            self._system.delete_file(f"{self._root}/{name}")

    def clear(self) -> None:
        """Remove the folder, and its parent if it is empty."""
        with suppress(FileNotFoundError):
            self._system.delete_dir(self._root)
        if isinstance(self._system, fs.LocalFileSystem):
            with suppress(OSError):
                Path(self._root).parent.rmdir()


def staged_name(key: str, recording_id: str, subject: Subject, truth: Truth | None = None) -> str:
    """Name of the object with a recording's rows.

    Parameters
    ----------
    key : str
        Content key of the recording.
    recording_id : str
        Name of the recording in the store.
    subject : Subject
        Facts of the subject, which are part of the rows.
    truth : mapping of str to ndarray, optional
        Reference values of the clips, which are part of the rows.

    Returns
    -------
    str
        Path within the staging folder.
    """
    facts = [_FORMAT, key, recording_id, asdict(subject)]
    if truth:
        facts.append({name: values.tolist() for name, values in truth.items()})
    text = json.dumps(facts, default=str, sort_keys=True)
    return f"rows/{hashlib.sha256(text.encode()).hexdigest()}.zip"


def pack(rows: Rows) -> bytes:
    """Serialise the rows of one recording: tables, vectors and the outcome of its task.

    Parameters
    ----------
    rows : Rows
        Rows with data.

    Returns
    -------
    bytes
        An uncompressed ZIP archive.
    """
    data = rows.data
    assert data is not None
    about = asdict(rows.outcome) | {"key": rows.key}
    del about["file"]  # the writer has the path, which must not leave this machine
    tables = {CLIPS: data.clips, EVENTS: data.events, RECORDINGS: data.recordings}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_ABOUT, json.dumps(about))
        for name, table in tables.items():
            content = pa.BufferOutputStream()
            pq.write_table(table, content, compression="zstd")
            archive.writestr(name, content.getvalue().to_pybytes())
        for modality, vectors in data.vectors.items():
            with archive.open(f"{modality}.npy", "w") as file:
                np.lib.format.write_array(file, vectors, allow_pickle=False)
    return buffer.getvalue()


def unpack(content: bytes, file: Path, modalities: tuple[str, ...]) -> Rows:
    """Read the output of :func:`pack`, whose parts carry checksums.

    Parameters
    ----------
    content : bytes
        The archive.
    file : Path
        The recording's signal file.
    modalities : tuple of str
        Modalities that may have vectors: those of the contract.

    Returns
    -------
    Rows

    Raises
    ------
    StoreError
        If the archive is damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # As they were packed: nothing in them unpacks to more than there is.
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise ValueError("a part is compressed")
            about: dict[str, Any] = json.loads(archive.read(_ABOUT))
            clips, events, recordings = (
                _table(archive.read(name), about["clips"]) for name in (CLIPS, EVENTS, RECORDINGS)
            )
            names = set(archive.namelist())
            vectors = {
                modality: _array(archive.read(f"{modality}.npy"))
                for modality in modalities
                if f"{modality}.npy" in names
            }
        key = about.pop("key")
        lists = {name: tuple(about[name]) for name in ("unmatched", "warnings", "unread")}
        if about.get("distances") is not None:
            about["distances"] = {
                str(m): (float(ratio), str(slot)) for m, (ratio, slot) in about["distances"].items()
            }
        data = SegmentData(key, clips, events, recordings, vectors)
        return Rows(Outcome(file, **(about | lists)), key, data)
    except (zipfile.BadZipFile, pa.ArrowException, KeyError, ValueError, *_ODD) as error:
        raise StoreError(f"staged rows of {file.name} are damaged; build again") from error


def _table(content: bytes, clips: int) -> pa.Table:
    with pq.ParquetFile(pa.BufferReader(content)) as parquet:
        footer = parquet.metadata
        size = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
        if size > unpacked_limit(clips):
            raise ValueError("a table would unpack to more than its clips can need")
        return parquet.read()


def _array(content: bytes) -> NDArray[Any]:
    part = io.BytesIO(content)
    if np.lib.format.read_magic(part) != (1, 0):
        raise ValueError("an array of another format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(part)
    if math.prod(shape) * dtype.itemsize != len(content) - part.tell():
        raise ValueError("an array that is not as large as it states")
    part.seek(0)
    array: NDArray[Any] = np.lib.format.read_array(part, allow_pickle=False)
    return array


def without_query(uri: str) -> str:
    """Remove the query part of an address, which may contain credentials.

    Parameters
    ----------
    uri : str
        The address.

    Returns
    -------
    str
    """
    return uri.partition("?")[0]
