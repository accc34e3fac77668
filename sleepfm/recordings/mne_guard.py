"""What a file must satisfy before mne is given it: bounded, and of files beside it alone."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import Final

from sleepfm.errors import RecordingError
from sleepfm.recordings.named_files import check_beside, check_hdf5

_HEADER_BYTES: Final = 1 << 22
_MOST_CHANNELS: Final = 4096
_UNPACKED: Final = 1 << 26
_TIMES: Final = 64
"""Packed signals may unpack to 64 MB and 64 times their size (measured of real ones: 2 to 8)."""
_PIECE: Final = 1 << 20
_VHDR: Final = re.compile(
    r"^\s*(DataFile|MarkerFile|NumberOfChannels)\s*=\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE
)
_MAT_HEAD: Final = 128
_MAT_COMPRESSED: Final = 15
_HDF5: Final = b"\x89HDF\r\n\x1a\n"


def check_before_mne(path: Path) -> None:
    """Refuse a file that names files elsewhere, or that would unpack to more than memory holds.

    Parameters
    ----------
    path : Path
        File of a format that mne reads.

    Raises
    ------
    RecordingError
        Saying which.
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
    """Refuse files that mne found named inside, if they lie elsewhere or are no plain files.

    Parameters
    ----------
    path : Path
        The recording.
    named : list of Path
        Files that it is read from.

    Raises
    ------
    RecordingError
        Naming the file.
    """
    for file in named:
        check_beside(path, file)


def _check_vhdr(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES + 1)
    if len(head) > _HEADER_BYTES:
        raise RecordingError(f"{path.name} is larger than a BrainVision header can be")
    for key, value in _VHDR.findall(head.decode("latin-1")):
        if key.lower() == "numberofchannels":
            if not value.isdecimal() or not 1 <= int(value[:12]) <= _MOST_CHANNELS:
                raise RecordingError(f"{path.name} claims {value[:12]} channels")
        elif value:
            check_beside(path, path.parent / value.replace("$b", path.stem))


def _check_gzip(path: Path) -> None:
    most = _UNPACKED + _TIMES * path.stat().st_size
    size = 0
    with gzip.open(path) as file:
        while piece := file.read(_PIECE):
            size += len(piece)
            if size > most:
                raise RecordingError(f"{path.name} would unpack to more than a recording can be")


def _check_set(path: Path) -> None:
    if _is_hdf5(path):
        _check_hdf5_set(path)
        return
    with path.open("rb") as file:
        head = file.read(_MAT_HEAD)
        file.seek(_MAT_HEAD)
        most = _UNPACKED + _TIMES * path.stat().st_size
        order = "little" if head[126:128] == b"IM" else "big"
        while len(tag := file.read(8)) == 8:
            kind = int.from_bytes(tag[:4], order)  # type: ignore[arg-type]
            length = int.from_bytes(tag[4:], order)  # type: ignore[arg-type]
            end = file.tell() + length
            if kind == _MAT_COMPRESSED:
                most -= _inflated(file.read(length), most)
                if most < 0:
                    raise RecordingError(
                        f"{path.name} would unpack to more than a recording can be"
                    )
            file.seek(end)


def _inflated(packed: bytes, most: int) -> int:
    """Bytes that a compressed element unpacks to; as many as are allowed and one more at most."""
    size, worker, rest = 0, zlib.decompressobj(), packed
    while rest and not worker.eof and size <= most:
        size += len(worker.decompress(rest, _PIECE))
        rest = worker.unconsumed_tail
    return size


def _is_hdf5(path: Path) -> bool:
    # MATLAB puts 512 bytes of its own before the HDF5 file.
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
