"""Checks before mne reads a file: size limits, and no references to other folders."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import Final

from sleepfm.errors import RecordingError
from sleepfm.recordings.named_files import check_hdf5, check_same_folder

_HEADER_BYTES: Final = 1 << 22
_MAX_CHANNELS: Final = 4096
_EXPANDED_BYTES: Final = 1 << 26
_EXPANSION: Final = 64
"""Compressed signals may expand to 64 MiB plus 64 times their size (2 to 8 times in real files)."""
_CHUNK_BYTES: Final = 1 << 20
_VHDR: Final = re.compile(
    r"^\s*(DataFile|MarkerFile|NumberOfChannels)\s*=\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE
)
_MAT_HEAD: Final = 128
_MAT_COMPRESSED: Final = 15
_HDF5: Final = b"\x89HDF\r\n\x1a\n"


def check_before_mne(path: Path) -> None:
    """Refuse a file that refers to files in other folders, or would expand beyond any recording.

    Parameters
    ----------
    path : Path
        File of a format that mne reads.

    Raises
    ------
    RecordingError
        If a check fails; the message says which.
    """
    lower = path.name.lower()
    try:
        if lower.endswith(".vhdr"):
            _check_vhdr(path)
        elif lower.endswith(".fif.gz"):
            _check_gzip(path)
        elif lower.endswith(".set"):
            _check_set(path)
    except (OSError, EOFError, zlib.error) as error:
        raise RecordingError(f"{path.name} cannot be read: {error}") from error


def check_after_mne(path: Path, named: list[Path]) -> None:
    """Refuse files that mne would read if they are in other folders or not regular files.

    Parameters
    ----------
    path : Path
        The recording.
    named : list of Path
        Files from which it is read.

    Raises
    ------
    RecordingError
        If there is such a file; the message names it.
    """
    for file in named:
        check_same_folder(path, file)


def _check_vhdr(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES + 1)
    if len(head) > _HEADER_BYTES:
        raise RecordingError(f"{path.name} is larger than a BrainVision header can be")
    for key, value in _VHDR.findall(head.decode("latin-1")):
        if key.lower() == "numberofchannels":
            if not value.isdecimal() or not 1 <= int(value[:12]) <= _MAX_CHANNELS:
                raise RecordingError(f"{path.name} claims {value[:12]} channels")
        elif value:
            check_same_folder(path, path.parent / value.replace("$b", path.stem))


def _check_gzip(path: Path) -> None:
    limit = _EXPANDED_BYTES + _EXPANSION * path.stat().st_size
    size = 0
    with gzip.open(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > limit:
                raise RecordingError(f"{path.name} would unpack to more than a recording can be")


def _check_set(path: Path) -> None:
    if _is_hdf5(path):
        _check_hdf5_set(path)
        return
    with path.open("rb") as file:
        head = file.read(_MAT_HEAD)
        file.seek(_MAT_HEAD)
        limit = _EXPANDED_BYTES + _EXPANSION * path.stat().st_size
        order = "little" if head[126:128] == b"IM" else "big"
        while len(tag := file.read(8)) == 8:
            element_type = int.from_bytes(tag[:4], order)  # type: ignore[arg-type]
            length = int.from_bytes(tag[4:], order)  # type: ignore[arg-type]
            end = file.tell() + length
            if element_type == _MAT_COMPRESSED:
                limit -= _inflated_size(file.read(length), limit)
                if limit < 0:
                    raise RecordingError(
                        f"{path.name} would unpack to more than a recording can be"
                    )
            file.seek(end)


def _inflated_size(packed: bytes, limit: int) -> int:
    """Return the size of a decompressed element, in bytes; stops once the limit is exceeded."""
    size, worker, remaining = 0, zlib.decompressobj(), packed
    while remaining and not worker.eof and size <= limit:
        size += len(worker.decompress(remaining, _CHUNK_BYTES))
        remaining = worker.unconsumed_tail
    return size


def _is_hdf5(path: Path) -> bool:
    # MATLAB writes a header of 512 bytes before the HDF5 content.
    with path.open("rb") as file:
        head = file.read(520)
    return head[:8] == _HDF5 or head[512:520] == _HDF5


def _check_hdf5_set(path: Path) -> None:
    try:
        import h5py
    except ImportError:
        return  # then mne cannot read it either
    try:
        with h5py.File(path, "r") as file:
            check_hdf5(file)
    except ValueError as error:
        raise RecordingError(f"{path.name} {error}") from error
