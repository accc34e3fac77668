"""Where workers leave their rows for the one writer: a shared folder, or object storage.

A recording's rows are one object, so it is whole or not there, on a POSIX file system (written
aside and renamed) as on S3 or Google Cloud Storage (a put). Its name is a hash of all that decides
its content: who writes it twice writes the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
import zipfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from sleepfm.modality import Modality
from sleepfm_index.building.recording_task import Outcome, Rows
from sleepfm_index.building.subjects import Subject
from sleepfm_index.errors import StoreError
from sleepfm_index.storage.segments import CLIPS, EVENTS, RECORDINGS, SegmentData
from sleepfm_index.truth import Truth

_FORMAT: Final = 1
_ABOUT: Final = "about.json"


class Staging:
    """A folder on storage that the workers and the writer share.

    Parameters
    ----------
    uri : str
        A path, or ``s3://bucket/folder``, ``gs://bucket/folder``: whatever
        :func:`pyarrow.fs.FileSystem.from_uri` knows. Credentials come from the environment.
    folder : str
        A folder in it, for one store alone.

    Raises
    ------
    StoreError
        If the address is not one.
    """

    def __init__(self, uri: str, folder: str) -> None:
        self._system: fs.FileSystem
        try:
            if "://" in uri:
                self._system, root = fs.FileSystem.from_uri(uri)
            else:
                self._system, root = fs.LocalFileSystem(), str(Path(uri).absolute())
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StoreError(f"{place(uri)} is no place to stage rows at: {error}") from error
        self._root = f"{root.rstrip('/')}/{folder}"

    def has(self, name: str) -> bool:
        """Whether there is an object of this name."""
        info = self._system.get_file_info(f"{self._root}/{name}")
        return bool(info.type == fs.FileType.File)

    def write(self, name: str, content: bytes) -> None:
        """Put an object, whole; one of the same name is replaced."""
        path = f"{self._root}/{name}"
        local = isinstance(self._system, fs.LocalFileSystem)
        aside = f"{path}.{uuid.uuid4().hex[:8]}.tmp" if local else path
        if local:
            self._system.create_dir(path.rpartition("/")[0], recursive=True)
        with self._system.open_output_stream(aside) as stream:
            stream.write(content)
        if local:
            self._system.move(aside, path)

    def read(self, name: str) -> bytes:
        """Give the content of an object."""
        with self._system.open_input_stream(f"{self._root}/{name}") as stream:
            content: bytes = stream.read()
            return content

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        with suppress(FileNotFoundError):
            self._system.delete_file(f"{self._root}/{name}")

    def clear(self) -> None:
        """Remove the whole folder, and the one it lies in if nothing else does."""
        with suppress(FileNotFoundError):
            self._system.delete_dir(self._root)
        if isinstance(self._system, fs.LocalFileSystem):
            with suppress(OSError):
                Path(self._root).parent.rmdir()


def staged_name(key: str, recording_id: str, subject: Subject, truth: Truth | None = None) -> str:
    """Name of the object that holds a recording's rows.

    Parameters
    ----------
    key : str
        The recording's content key.
    recording_id : str
    subject : Subject
        What is known of whose it is, which is in the rows, too.
    truth : mapping of str to ndarray, optional
        What is known of its clips, which is in the rows as well.
    """
    facts = [_FORMAT, key, recording_id, asdict(subject)]
    if truth:
        facts.append({name: values.tolist() for name, values in truth.items()})
    known = json.dumps(facts, default=str, sort_keys=True)
    return f"rows/{hashlib.sha256(known.encode()).hexdigest()}.zip"


def pack(rows: Rows) -> bytes:
    """Write the rows of one recording as one archive: tables, vectors, and what is told of it."""
    data = rows.data
    assert data is not None
    about = asdict(rows.outcome) | {"key": rows.key}
    del about["file"]  # the writer knows it; it is nobody else's business
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


def unpack(content: bytes, file: Path) -> Rows:
    """Read what :func:`pack` wrote of a file; every part carries a checksum.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            about: dict[str, Any] = json.loads(archive.read(_ABOUT))
            clips, events, recordings = (
                pq.read_table(pa.BufferReader(archive.read(name)))
                for name in (CLIPS, EVENTS, RECORDINGS)
            )
            names = set(archive.namelist())
            vectors = {}
            for modality in Modality:
                if f"{modality}.npy" in names:
                    part = io.BytesIO(archive.read(f"{modality}.npy"))
                    vectors[modality] = np.lib.format.read_array(part, allow_pickle=False)
    except (zipfile.BadZipFile, pa.ArrowException, KeyError, ValueError) as error:
        raise StoreError(f"staged rows of {file.name} are damaged; build again") from error
    key = about.pop("key")
    lists = {name: tuple(about[name]) for name in ("unmatched", "warnings")}
    return Rows(
        Outcome(file, **(about | lists)), key, SegmentData(key, clips, events, recordings, vectors)
    )


def place(uri: str) -> str:
    """Give an address without what may stand behind the question mark: keys, for one."""
    return uri.partition("?")[0]
