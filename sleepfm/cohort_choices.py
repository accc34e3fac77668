"""Options for reading a cohort: channels, codings, epochs. They are stored in a store."""

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

_MAX_EPOCH_S = 120.0


@dataclass(frozen=True)
class Choices:
    """Options for reading recordings, in addition to the contract.

    Parameters
    ----------
    substitute : bool
        Whether missing derivations or sensors are substituted by others.
    channels : mapping of str to tuple of str, optional
        Content of a channels file, by slot: one label, two (plus, minus), or none.
    channels_sha256 : str
        SHA-256 of that file; empty without one.
    coding : str, optional
        Coding of integer stages.
    epoch_s : float, optional
        Epoch length of scoring files that do not state one, in seconds.
    grid : {"scoring", "recording"}
        Whether clips are aligned with the scored epochs or with the start of the recording.
    """

    substitute: bool = False
    channels: Mapping[str, tuple[str, ...]] | None = None
    channels_sha256: str = ""
    coding: Coding | None = None
    epoch_s: float | None = None
    grid: Grid = "scoring"

    def updated(
        self,
        contract: Contract,
        *,
        substitute: bool | None = None,
        channels: str | Path | None = None,
        coding: Coding | None = None,
        epoch_s: float | None = None,
        grid: Grid | None = None,
    ) -> Choices:
        """Return a copy with some options replaced; None leaves an option unchanged.

        Parameters
        ----------
        contract : Contract
            Supplies the slots that a channels file may name.
        substitute, coding, epoch_s, grid
            New values of the fields.
        channels : path, optional
            A channels file; ``"none"`` removes an earlier one.

        Returns
        -------
        Choices
            The updated options.

        Raises
        ------
        ChannelError
            If the channels file cannot be read.
        """
        updated = self
        if channels is not None and str(channels) == "none":
            updated = replace(updated, channels=None, channels_sha256="")
        elif channels is not None:
            from sleepfm.recordings.channels_file import read_overrides

            path = Path(channels)
            slots = [slot for modality_slots in contract.slots.values() for slot in modality_slots]
            overrides = read_overrides(path, slots)
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                raise ChannelError(f"the channels file {path.name} cannot be read") from error
            updated = replace(updated, channels=overrides, channels_sha256=digest)
        if substitute is not None:
            updated = replace(updated, substitute=substitute)
        if coding is not None:
            updated = replace(updated, coding=coding)
        if epoch_s is not None:
            updated = replace(updated, epoch_s=epoch_s)
        return updated if grid is None else replace(updated, grid=grid)

    def read(self, path: Path, annotations: Path | None = None) -> Recording:
        """Read a recording and its scoring; see :func:`~sleepfm.recordings.read.read_recording`.

        Parameters
        ----------
        path, annotations
            As for that function.

        Returns
        -------
        Recording
            The recording with its scoring.
        """
        # Readers are imported only where recordings are read; a store also has choices.
        from sleepfm.recordings.read import read_recording

        return read_recording(path, annotations, coding=self.coding, epoch_s=self.epoch_s)

    def cut(
        self, recording: Recording, contract: Contract, *, strict: bool = False
    ) -> tuple[ChannelMap, Clips]:
        """Assign channels and cut a recording; see :func:`~sleepfm.clips.cut_clips`.

        Parameters
        ----------
        recording, contract, strict
            As for that function.

        Returns
        -------
        channels : ChannelMap
            Assignment of channels to slots.
        clips : Clips
            The clips.
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
        """Return the options as JSON values, the inverse of :meth:`from_json`."""
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
            Options as returned by ``to_json``.

        Returns
        -------
        Choices
            The options.

        Raises
        ------
        ValueError
            If a value is not valid for its field.
        """
        channels = plain.get("channels")
        coding, epoch_s = plain.get("coding"), plain.get("epoch_s")
        grid = plain.get("grid", "scoring")
        if coding not in (None, *get_args(Coding)) or grid not in get_args(Grid):
            raise ValueError("an unknown coding or grid")
        if epoch_s is not None and not 0 < float(epoch_s) <= _MAX_EPOCH_S:
            raise ValueError(f"an epoch of {epoch_s} s")
        overrides = None
        if channels is not None:
            overrides = {str(slot): tuple(map(str, labels)) for slot, labels in channels.items()}
            if any(len(labels) > 2 for labels in overrides.values()):
                raise ValueError("a slot with more than two channels")
        return cls(
            substitute=bool(plain.get("substitute", False)),
            channels=overrides,
            channels_sha256=str(plain.get("channels_sha256", "")),
            coding=coding,
            epoch_s=None if epoch_s is None else float(epoch_s),
            grid=grid,
        )


NO_CHOICES = Choices()
"""Defaults."""
BEFORE_GRIDS = Choices(grid="recording")
"""Choices of stores that were built before choices were stored."""
