"""A recording as every reader gives it: channels at their native rates, and what was scored."""

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
"""Maximum length of a recording in hours, which bounds memory against damaged headers."""


@dataclass(frozen=True)
class Channel:
    """One signal of a recording, read only when asked for.

    Parameters
    ----------
    label : str
        As written in the file; a repeated label carries a stable suffix (``"EEG#2"``).
    sample_rate : float
        Native rate, in Hz.
    unit : str
        As written in the file, unchanged; ``""`` when the file does not say.
    read : callable
        Gives the whole signal in that unit, shape ``[samples]``, float32, NaN where the file has a
        gap; a fresh array at every call, which the caller may change.
    read_part : callable, optional
        Gives the samples ``[first, last)`` as ``read()[first:last]`` would be, without reading the
        others; None where the reader can only read all.
    """

    label: str
    sample_rate: float
    unit: str
    read: Callable[[], NDArray[np.float32]] = field(repr=False)
    read_part: Callable[[int, int], NDArray[np.float32]] | None = field(default=None, repr=False)

    def part(self, first: int, last: int) -> NDArray[np.float32]:
        """Read the samples ``[first, last)``, cut to what there is.

        Parameters
        ----------
        first : int
            Index of the first sample; below 0 counts as 0.
        last : int
            Index behind the last sample.

        Returns
        -------
        ndarray of float32, shape [samples]
            In the channel's unit.
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
        The files it was read from, signals first.
    format : str
        ``"EDF"``, ``"EDF+C"``, ``"EDF+D"``, ``"BDF"``, ``"WFDB"``, or mne's name of the format.
    duration_s : float
        Length of the signals, in seconds.
    start_clock_s : float or None
        Time of day at which it starts, in seconds after midnight, when the file says so. The
        calendar date is never kept.
    channels : tuple of Channel
        All signals, in file order.
    scoring : Scoring
        Stages and events; empty when nothing was scored.
    warnings : tuple of str
        What was odd but readable, one sentence each, with no patient field in it.
    start_day : int or None
        The day of the start (``date.toordinal``), to place a scoring that has dates. It is in no
        table and in nothing that is shown.
    unread : tuple of str
        Names of files that look like this recording's scoring and gave nothing. They are shown by a
        scan and a build, and never stored.
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
        """The signal file's name without its ending: the default ``recording_id``."""
        return self.sources[0].stem


def unique_labels(labels: Iterable[str]) -> list[str]:
    """Return labels in order, the second and later of a name marked ``#2``, ``#3`` ...

    Parameters
    ----------
    labels : iterable of str
        Channel names, in file order.

    Returns
    -------
    list of str
        As many names, all different.
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
