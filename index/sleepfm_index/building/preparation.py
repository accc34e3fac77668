"""How a file is prepared for the encoders; with its content it decides the vectors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sleepfm.clips import Clips, cut_clips
from sleepfm.contract import Contract
from sleepfm.recordings import read_recording
from sleepfm.recordings.channels import ChannelMap, match_channels
from sleepfm.recordings.recording import Recording
from sleepfm.recordings.scoring.vocabulary import Coding
from sleepfm_index.storage.files import fingerprint
from sleepfm_index.storage.manifest import WeightsIdentity

_DIGITS: Final = 32


@dataclass(frozen=True)
class Preparation:
    """How a file is to be prepared; with the file's content it decides the vectors."""

    contract: Contract
    substitute: bool = False
    channels: Path | None = None
    strict: bool = False
    coding: Coding | None = None

    def read(self, path: Path, annotations: Path | None = None) -> Recording:
        """Read a recording and its scoring."""
        return read_recording(path, annotations, coding=self.coding)

    def prepare(self, path: Path) -> tuple[Recording, ChannelMap, Clips]:
        """Read a recording, find its channels and cut it into clips."""
        recording = self.read(path)
        return recording, *self.cut(recording)

    def cut(self, recording: Recording) -> tuple[ChannelMap, Clips]:
        """Find a recording's channels and cut it into clips."""
        channels = match_channels(
            recording, self.contract, substitute=self.substitute, overrides=self.channels
        )
        return channels, cut_clips(recording, channels, self.contract, strict=self.strict)

    def key(self, recording: Recording, weights: WeightsIdentity) -> str:
        """Content key: what was recorded, then how it became vectors, 32 hexadecimal digits each.

        The first half is SHA-256 over the sources, cut; the second over contract, weights and the
        options that decide what is read from the sources.
        """
        how = [self.contract.sha256, weights.sha256, f"substitute={self.substitute}"]
        if self.channels is not None:
            how.append(fingerprint(self.channels).sha256)
        if self.coding is not None:
            how.append(f"coding={self.coding}")
        what = [fingerprint(source).sha256 for source in recording.sources]
        return _half(what) + _half(how)


def recorded(key: str) -> str:
    """Give the part of a content key that stands for the recording itself."""
    return key[:_DIGITS]


def _half(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_DIGITS]
