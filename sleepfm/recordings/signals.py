"""The readers of signals. A new format is a module in this folder and a line in :data:`READERS`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sleepfm.errors import RecordingError
from sleepfm.recordings.edf import Edf
from sleepfm.recordings.hdf5 import Hdf5
from sleepfm.recordings.mne import Mne
from sleepfm.recordings.recording import Channel, Recording
from sleepfm.recordings.wfdb import Wfdb

_HEAD: Final = 256
_SPARSE_FROM: Final = 1 << 30
_SPARSE: Final = 64
"""A larger file of which less than one part in so many lies on the disk is mostly holes."""
_MAX_SAMPLES: Final = 1 << 28
"""Maximum samples of one channel (24 h at 3 kHz); resampling takes about five times the memory of
the signal as float32."""


class SignalReader(Protocol):
    """Reads recordings of one format.

    Conventions for every reader:

    - Channels have their native sampling rates and the unit stated in the file; samples stay on
      disk until ``read`` of a channel is called.
    - A gap is NaN for its whole length, so that times are preserved.
    - Sizes are bounded before memory is allocated (``MAX_HOURS``).
    - Patient and recording fields are not passed on. The start day is used only to align scoring.
    - Scoring in the signal file is returned with the recording; separate scoring files are merged
      elsewhere.
    - An error is a :class:`~sleepfm.errors.RecordingError`; its message begins with the file name.

    Parameters
    ----------
    endings : tuple of str
        Extensions of the format in lower case, the preferred one first.
    """

    endings: tuple[str, ...]

    def sniff(self, head: bytes) -> bool:
        """Return whether a file is of this format, by its first bytes, whatever its name.

        Parameters
        ----------
        head : bytes
            First 256 bytes of the file.

        Returns
        -------
        bool
        """
        ...

    def read(self, path: Path) -> Recording:
        """Read the header of a file and the scoring in it.

        Parameters
        ----------
        path : Path
            Signal file; it exists.

        Returns
        -------
        Recording
            The recording; its signals stay on disk.

        Raises
        ------
        RecordingError
            If the file cannot be read as a recording.
        """
        ...


READERS: Final[tuple[SignalReader, ...]] = (Edf(), Wfdb(), Mne(), Hdf5())
"""Tried in this order: content takes precedence over the file name."""

SIGNAL_ENDINGS: Final = tuple(ending for reader in READERS for ending in reader.endings)
"""Extensions of signal files, in order of preference."""


def read_signals(path: Path) -> Recording:
    """Read a recording of any format, with the scoring in the signal file.

    Parameters
    ----------
    path : Path
        Signal file.

    Returns
    -------
    Recording

    Raises
    ------
    RecordingError
        If the file cannot be read as a recording.
    """
    lower = path.name.lower()
    try:
        if path.exists() and not path.is_file():  # a folder, a pipe, a device
            raise RecordingError(f"{path.name} is not a file")
        with path.open("rb") as file:
            _refuse_holes(path, os.fstat(file.fileno()))
            head = file.read(_HEAD)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise RecordingError(f"{path.name} cannot be opened: {reason}") from error
    for reader in READERS:
        if reader.sniff(head):
            return _bounded(path, reader.read(path))
    for reader in READERS:
        if lower.endswith(reader.endings):
            return _bounded(path, reader.read(path))
    raise RecordingError(
        f"{path.name} has an unsupported file format ({', '.join(SIGNAL_ENDINGS)})"
    )


def _refuse_holes(path: Path, stat: os.stat_result) -> None:
    """Refuse a file that is mostly holes, before it is read whole to be hashed.

    A download that was cut short, or one that reserves its room first, leaves such a file.
    """
    # Some file systems do not count blocks.
    there = getattr(stat, "st_blocks", 0) * 512
    if stat.st_size > _SPARSE_FROM and 0 < there < stat.st_size // _SPARSE:
        raise RecordingError(
            f"{path.name} has {stat.st_size / 1e9:.3g} GB, of which {there / 1e6:.3g} MB are on "
            "the disk; was it downloaded whole?"
        )


def _bounded(path: Path, recording: Recording) -> Recording:
    """Refuse to read channels that would take gigabytes, such as audio; others are unchanged."""

    def checked(channel: Channel) -> Channel:
        samples = channel.sample_rate * recording.duration_s
        if samples <= _MAX_SAMPLES:
            return channel

        def refuse(*_: int) -> NDArray[np.float32]:
            raise RecordingError(
                f"{channel.label!r} of {path.name} has {samples:.2g} samples at "
                f"{channel.sample_rate:g} Hz, more than is read of one channel; bring it to a "
                "lower rate"
            )

        return replace(channel, read=refuse, read_part=refuse)

    return replace(recording, channels=tuple(map(checked, recording.channels)))


def signal_stem(path: Path) -> str:
    """Return the name of a signal file without its extension (``a.b.edf`` gives ``a.b``).

    Parameters
    ----------
    path : Path
        Signal file; it need not exist.

    Returns
    -------
    str
    """
    lower = path.name.lower()
    for ending in sorted(SIGNAL_ENDINGS, key=len, reverse=True):
        if lower.endswith(ending):
            return path.name[: -len(ending)]
    return path.stem
