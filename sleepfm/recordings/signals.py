"""The readers of signals. A new format is a file beside this, and a line in :data:`READERS`."""

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
_WHOLE: Final = 1 << 30
_HOLLOW: Final = 64
"""A larger file of which less than one part in so many lies on the disk is mostly holes."""
_MOST_SAMPLES: Final = 1 << 28
"""Of one channel: 24 h at 3 kHz. Five times as many bytes as floats are in memory while it is
resampled."""


class SignalReader(Protocol):
    """Reads recordings of one format.

    Conventions that hold for every reader:

    - Channels are given at their native rates, in the unit that the file states, unchanged; samples
      stay on disk until a channel's ``read`` is called.
    - A gap is NaN and keeps its length, so that times stay true.
    - Sizes are bounded before anything is allocated (``MAX_HOURS``).
    - Patient and recording fields reach nothing. The day of the start serves to place scoring.
    - Scoring in the file itself is given as read; what stands beside it is joined elsewhere.
    - An error is a :class:`~sleepfm.errors.RecordingError`, a sentence that begins with the file.

    Parameters
    ----------
    endings : tuple of str
        Lower-case ends of the names of its files, the preferred form of a recording first.
    """

    endings: tuple[str, ...]

    def sniff(self, head: bytes) -> bool:
        """Return whether a file of any name that begins with these bytes is of the format.

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
        """Read a file's header and its own scoring.

        Parameters
        ----------
        path : Path
            The file; it exists.

        Returns
        -------
        Recording

        Raises
        ------
        RecordingError
            If it cannot be read as a recording.
        """
        ...


READERS: Final[tuple[SignalReader, ...]] = (Edf(), Wfdb(), Mne(), Hdf5())
"""Tried in this order: content takes precedence over the file name."""

SIGNAL_ENDINGS: Final = tuple(ending for reader in READERS for ending in reader.endings)
"""Extensions of signal files, in order of preference."""


def read_signals(path: Path) -> Recording:
    """Read a recording of any format, with the scoring that stands in the file itself.

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
    if stat.st_size > _WHOLE and 0 < there < stat.st_size // _HOLLOW:
        raise RecordingError(
            f"{path.name} has {stat.st_size / 1e9:.3g} GB, of which {there / 1e6:.3g} MB are on "
            "the disk; was it downloaded whole?"
        )


def _bounded(path: Path, recording: Recording) -> Recording:
    """Let no channel be read that would take gigabytes, such as sound; the others are."""

    def checked(channel: Channel) -> Channel:
        samples = channel.sample_rate * recording.duration_s
        if samples <= _MOST_SAMPLES:
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
    """Return the file name without the ending of a signal file (``a.b.edf`` gives ``a.b``).

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
