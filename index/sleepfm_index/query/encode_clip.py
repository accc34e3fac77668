"""Clips of a file are encoded as the store's own clips were."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from sleepfm.clips import Clips
from sleepfm.errors import WeightsError
from sleepfm.modality import Modality
from sleepfm.recordings.channels import ChannelMap
from sleepfm.recordings.recording import Recording
from sleepfm_index.building.preparation import Preparation
from sleepfm_index.errors import QueryError
from sleepfm_index.query.clip_time import clip_position

if TYPE_CHECKING:
    from sleepfm.encoders.inference import Encoder
    from sleepfm_index.store import Store


@dataclass(frozen=True)
class OwnClips:
    """A recording that need not be in the store, cut into clips, and what encodes them.

    Parameters
    ----------
    file : Path
    recording : Recording
    channels : ChannelMap
    clips : Clips
    clip_seconds : float
    encoder : Encoder
    """

    file: Path
    recording: Recording
    channels: ChannelMap
    clips: Clips
    clip_seconds: float
    encoder: Encoder

    @classmethod
    def of(cls, store: Store, file: Path, weights: str | None = None) -> Self:
        """Read a file and cut it into clips.

        Parameters
        ----------
        weights : str, optional
            Name or path of the store's weights; by default the name that the manifest states.

        Raises
        ------
        QueryError
            If there is no such file, or the weights are not the store's.
        """
        from sleepfm.encoders.inference import Encoder
        from sleepfm.encoders.weights import load_weights

        if not file.is_file():
            raise QueryError(f"there is no file {file}")
        own = store.manifest.weights
        try:
            loaded = load_weights(weights or own.name)
        except WeightsError as error:
            raise QueryError(
                f"the store was built with the weights {own.name}, which cannot be loaded "
                f"({error}); name their file by --weights"
            ) from error
        if loaded.sha256 != own.sha256:
            raise QueryError(
                f"{loaded.name} ({loaded.sha256[:12]}) are not the store's weights {own.name} "
                f"({own.sha256[:12]}); name those by --weights"
            )
        contract = store.manifest.contract
        recording, channels, clips = Preparation(contract).prepare(file)
        return cls(file, recording, channels, clips, contract.clip_seconds, Encoder(loaded))

    def vector(self, at: str, modality: Modality) -> NDArray[np.float32]:
        """Encode the clip that covers a time.

        Parameters
        ----------
        at : str
            As in :class:`sleepfm_index.query.answer.Question`.

        Returns
        -------
        ndarray of float32, shape [512]
            A unit vector, rounded to float16 as in the store.

        Raises
        ------
        QueryError
            If no clip covers ``at``, or it lacks the modality.
        """
        clips = self.clips
        place = clip_position(at, clips.start_s, clips.clock_s, self.clip_seconds)
        if not clips.filled[modality][place]:
            raise QueryError(f"{self.file.name} has no {modality} signal at {at}")
        one = clips.signals[modality][place : place + 1]
        vectors = self.encoder.encode(modality, one).astype(np.float16)
        stored: NDArray[np.float32] = vectors[0].astype(np.float32)
        return stored


def encode_clip(
    store: Store, file: Path, at: str, modality: Modality, weights: str | None = None
) -> NDArray[np.float32]:
    """Encode one clip of a recording; see :class:`OwnClips`."""
    return OwnClips.of(store, file, weights).vector(at, modality)
