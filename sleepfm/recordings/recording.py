"""Data types of a recording: channels at their native rates, and scoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.recordings.scoring.vocabulary import Scoring

MAX_HOURS: Final = 72
"""Maximum length of a recording in hours; limits memory use with damaged headers."""


@dataclass(frozen=True)
class Channel:
    """One signal of a recording, read on demand.

    Parameters
    ----------
    label : str
        Label as written in the file; a repeated label has a stable suffix (``"EEG#2"``).
    sample_rate : float
        Native sampling rate, in Hz.
    unit : str
        Unit as written in the file; ``""`` if the file gives none.
    read : callable
        Returns the whole signal in that unit, float32 of shape [samples], NaN in gaps; a new array
        at every call, which the caller may modify.
    read_part : callable, optional
        Returns the samples ``[first, last)``, equal to ``read()[first:last]``, without reading the
        others; None if the reader can only read the whole signal.
    """

    label: str
    sample_rate: float
    unit: str
    read: Callable[[], NDArray[np.float32]] = field(repr=False)
    read_part: Callable[[int, int], NDArray[np.float32]] | None = field(default=None, repr=False)

    def part(self, first: int, last: int) -> NDArray[np.float32]:
        """Read the samples ``[first, last)``, as far as they exist.

        Parameters
        ----------
        first : int
            Index of the first sample; negative values count as 0.
        last : int
            Index after the last sample.

        Returns
        -------
        ndarray of float32, shape [samples]
            The samples, in the unit of the channel.
        """
        first, last = max(0, first), max(0, last)
        if self.read_part is not None:
            return self.read_part(first, last)
        return self.read()[first:last]


@dataclass(frozen=True)
class Recording:
    """One night: one file, or a file and its annotation files.

    Parameters
    ----------
    sources : tuple of Path
        The files from which it was read, signals first.
    format : str
        ``"EDF"``, ``"EDF+C"``, ``"EDF+D"``, ``"BDF"``, ``"WFDB"``, or mne's name of the format.
    duration_s : float
        Duration of the signals, in seconds.
    start_clock_s : float or None
        Time of day at which it starts, in seconds after midnight; None if the file gives none. The
        calendar date is never stored.
    channels : tuple of Channel
        All signals, in file order.
    scoring : Scoring
        Stages and events; empty if nothing was scored.
    warnings : tuple of str
        Warnings for the user, one sentence each, without patient information.
    start_day : int or None
        Calendar day of the start (``date.toordinal``), used to align scoring that has dates; never
        stored or shown.
    unread : tuple of str
        Names of files that may be scoring of this recording but could not be used. A scan and a
        build show them; they are never stored.
    """

    sources: tuple[Path, ...]
    format: str
    duration_s: float
    start_clock_s: float | None
    channels: tuple[Channel, ...]
    scoring: Scoring
    warnings: tuple[str, ...] = ()
    start_day: int | None = field(default=None, repr=False)
    unread: tuple[str, ...] = field(default=(), repr=False)

    @property
    def stem(self) -> str:
        """Name of the signal file without its extension: the default ``recording_id``."""
        return self.sources[0].stem


def unique_labels(labels: Iterable[str]) -> list[str]:
    """Make labels unique by appending ``#2``, ``#3`` and so on to repeated ones.

    Parameters
    ----------
    labels : iterable of str
        Channel names, in file order.

    Returns
    -------
    list of str
        The unique labels, in the same order.
    """
    repeats: Counter[str] = Counter()
    taken: set[str] = set()
    unique: list[str] = []
    for label in labels:
        name = label
        while name in taken:
            repeats[label] += 1
            name = f"{label}#{repeats[label] + 1}"
        taken.add(name)
        unique.append(name)
    return unique
