"""Preparation of files for the encoders, part of the content key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sleepfm.clips import Clips
from sleepfm.cohort_choices import NO_CHOICES, Choices
from sleepfm.contract import Contract
from sleepfm.errors import RecordingError
from sleepfm.recordings.channels import ChannelMap
from sleepfm.recordings.recording import Recording
from sleepfm_index.storage.files import fingerprint
from sleepfm_index.storage.manifest import WeightsIdentity

_DIGITS: Final = 32


@dataclass(frozen=True)
class Preparation:
    """Preparation of a file; with its content, it determines the vectors.

    Parameters
    ----------
    contract : Contract
        Contract of the weights: the input that they expect.
    choices : Choices
        Options for reading the recordings of a cohort.
    strict : bool
        Whether values that contradict their unit are an error instead of a warning.
    """

    contract: Contract
    choices: Choices = NO_CHOICES
    strict: bool = False

    def read(self, path: Path, annotations: Path | None = None) -> Recording:
        """Read a recording and its scoring.

        Parameters
        ----------
        path : Path
            The recording's signal file.
        annotations : Path, optional
            The scoring; by default searched for in the signal file and in its folder.
        """
        return self.choices.read(path, annotations)

    def prepare(self, path: Path) -> tuple[Recording, ChannelMap, Clips]:
        """Read a recording, find its channels and cut it into clips.

        Parameters
        ----------
        path : Path
            The recording's signal file.
        """
        recording = self.read(path)
        return recording, *self.cut(recording)

    def cut(self, recording: Recording) -> tuple[ChannelMap, Clips]:
        """Find a recording's channels and cut it into clips.

        Parameters
        ----------
        recording : Recording
            The recording that was read.
        """
        return self.choices.cut(recording, self.contract, strict=self.strict)

    def key(self, recording: Recording, weights: WeightsIdentity) -> str:
        """Content key of the recording and of its encoding, 32 hexadecimal digits each.

        The first half is a truncated SHA-256 over the source files; the second over contract,
        weights and the options that affect what is read from them.

        Parameters
        ----------
        recording : Recording
            The recording that was read.
        weights : WeightsIdentity
            Identity of the encoders.
        """
        encoding = [self.contract.sha256, weights.sha256, *self.choices.identity]
        return content_digest(recording) + _half(encoding)


def content_digest(recording: Recording) -> str:
    """Return the first half of a content key: a hash of all files of a recording, scoring included.

    Parameters
    ----------
    recording : Recording
        The recording that was read.
    """
    return _half([fingerprint(source).sha256 for source in recording.sources])


def signatures(files: Iterable[Path]) -> list[tuple[int, ...]]:
    """Return what tells whether files were changed or replaced: inode, size and time of each.

    Parameters
    ----------
    files : iterable of Path
        The files.

    Raises
    ------
    RecordingError
        If a file does not exist.
    """
    found: list[tuple[int, ...]] = []
    for file in files:
        try:
            stat = file.stat()
        except FileNotFoundError as error:
            raise RecordingError(f"{file.name} cannot be opened: no such file") from error
        found.append((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return found


def recorded(key: str) -> str:
    """Return the part of a content key that identifies the recording.

    Parameters
    ----------
    key : str
        Content key of a recording.
    """
    return key[:_DIGITS]


def _half(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_DIGITS]
