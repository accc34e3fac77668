"""Options for reading a cohort: channels, codings, epochs. A store keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sleepfm.choices import Coding, Grid
from sleepfm.contract import Contract
from sleepfm.errors import ChannelError

if TYPE_CHECKING:
    from sleepfm.clips import Clips
    from sleepfm.recordings.channels import ChannelMap
    from sleepfm.recordings.recording import Recording

_LONGEST_EPOCH_S = 120.0


@dataclass(frozen=True)
class Choices:
    """Options for reading recordings, in addition to the contract.

    Parameters
    ----------
    substitute : bool
        Fill slots from other derivations or sensors where their own are missing.
    channels : mapping of str to tuple of str, optional
        What a channels file says, by slot: one label, two (plus, minus), or none.
    channels_sha256 : str
        Identity of that file; empty without one.
    coding : str, optional
        What integer stages mean.
    epoch_s : float, optional
        Length of a scored epoch that does not say its own, in seconds.
    grid : {"scoring", "recording"}
        Where clips begin.
    """

    substitute: bool = False
    channels: Mapping[str, tuple[str, ...]] | None = None
    channels_sha256: str = ""
    coding: Coding | None = None
    epoch_s: float | None = None
    grid: Grid = "scoring"

    def told(
        self,
        contract: Contract,
        *,
        substitute: bool | None = None,
        channels: str | Path | None = None,
        coding: Coding | None = None,
        epoch_s: float | None = None,
        grid: Grid | None = None,
    ) -> Choices:
        """Return the choices with what is told otherwise; None leaves a choice as it is.

        Parameters
        ----------
        contract : Contract
            Gives the slots that a channels file may name.
        substitute, coding, epoch_s, grid
            As the fields.
        channels : path, optional
            A channels file; ``"none"`` takes back an earlier one.

        Raises
        ------
        ChannelError
            If the channels file cannot be read.
        """
        made = self
        if channels is not None and str(channels) == "none":
            made = replace(made, channels=None, channels_sha256="")
        elif channels is not None:
            from sleepfm.recordings.channels import read_overrides

            path = Path(channels)
            slots = [slot for own in contract.slots.values() for slot in own]
            named = read_overrides(path, slots)
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                raise ChannelError(f"the channels file {path.name} cannot be read") from error
            made = replace(made, channels=named, channels_sha256=digest)
        if substitute is not None:
            made = replace(made, substitute=substitute)
        if coding is not None:
            made = replace(made, coding=coding)
        if epoch_s is not None:
            made = replace(made, epoch_s=epoch_s)
        return made if grid is None else replace(made, grid=grid)

    def read(self, path: Path, annotations: Path | None = None) -> Recording:
        """Read a recording and its scoring; see :func:`~sleepfm.recordings.read.read_recording`.

        Parameters
        ----------
        path, annotations
            As there.
        """
        # A store knows its choices; only what reads recordings by them loads the readers.
        from sleepfm.recordings.read import read_recording

        return read_recording(path, annotations, coding=self.coding, epoch_s=self.epoch_s)

    def cut(
        self, recording: Recording, contract: Contract, *, strict: bool = False
    ) -> tuple[ChannelMap, Clips]:
        """Find a recording's channels and cut it; see :func:`~sleepfm.clips.cut_clips`.

        Parameters
        ----------
        recording, contract, strict
            As there.
        """
        from sleepfm.clips import cut_clips
        from sleepfm.recordings.channels import match_channels

        channels = match_channels(
            recording, contract, substitute=self.substitute, overrides=self.channels
        )
        return channels, cut_clips(recording, channels, contract, strict=strict, grid=self.grid)

    @property
    def identity(self) -> tuple[str, ...]:
        """Part of the content key that depends on these choices."""
        parts = [f"substitute={self.substitute}"]
        if self.channels is not None:
            parts.append(self.channels_sha256)
        if self.coding is not None:
            parts.append(f"coding={self.coding}")
        if self.epoch_s is not None:
            parts.append(f"epoch_s={self.epoch_s:g}")
        if self.grid != "scoring":
            parts.append(f"grid={self.grid}")
        return tuple(parts)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, the inverse of :meth:`from_json`."""
        return {
            "substitute": self.substitute,
            "channels": None
            if self.channels is None
            else {slot: list(labels) for slot, labels in self.channels.items()},
            "channels_sha256": self.channels_sha256,
            "coding": self.coding,
            "epoch_s": self.epoch_s,
            "grid": self.grid,
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Choices:
        """Read choices from a manifest.

        Parameters
        ----------
        plain : mapping of str to object
            As ``to_json`` gives it.

        Raises
        ------
        ValueError
            If a value is not what its field holds.
        """
        channels = plain.get("channels")
        coding, epoch_s = plain.get("coding"), plain.get("epoch_s")
        grid = plain.get("grid", "scoring")
        if coding not in (None, *get_args(Coding)) or grid not in get_args(Grid):
            raise ValueError("an unknown coding or grid")
        if epoch_s is not None and not 0 < float(epoch_s) <= _LONGEST_EPOCH_S:
            raise ValueError(f"an epoch of {epoch_s} s")
        named = None
        if channels is not None:
            named = {str(slot): tuple(map(str, labels)) for slot, labels in channels.items()}
            if any(len(labels) > 2 for labels in named.values()):
                raise ValueError("a slot with more than two channels")
        return cls(
            substitute=bool(plain.get("substitute", False)),
            channels=named,
            channels_sha256=str(plain.get("channels_sha256", "")),
            coding=coding,
            epoch_s=None if epoch_s is None else float(epoch_s),
            grid=grid,
        )


NO_CHOICES = Choices()
"""Defaults."""
BEFORE_GRIDS = Choices(grid="recording")
"""Choices of stores that were built before choices were stored."""
