"""Encoding of a clip of a file, in the same way as the clips of a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from sleepfm.clips import Clips
from sleepfm.cohort_choices import Choices
from sleepfm.contract import Contract
from sleepfm.errors import WeightsError
from sleepfm.recordings.channels import ChannelMap
from sleepfm.recordings.recording import Recording
from sleepfm_index.building.preparation import Preparation
from sleepfm_index.building.training_distance import distances_of, unlike_sentence
from sleepfm_index.errors import QueryError
from sleepfm_index.query.clip_time import clip_position
from sleepfm_index.storage.manifest import WeightsIdentity
from sleepfm_index.storage.vector_format import narrow, widen

if TYPE_CHECKING:
    from sleepfm.encoders.inference import Encoder


@dataclass(frozen=True)
class FileRecording:
    """A recording read from a file and cut into clips, which need not be in the store.

    Parameters
    ----------
    file : Path
        The recording's signal file.
    recording : Recording
        The recording.
    channels : ChannelMap
        Channels that fill the slots.
    clips : Clips
        Clips of the recording.
    clip_seconds : float
        Length of a clip, in seconds.
    encoder : Encoder
        Encoder with the weights of the store.
    """

    file: Path
    recording: Recording
    channels: ChannelMap
    clips: Clips
    clip_seconds: float
    encoder: Encoder

    @classmethod
    def open(
        cls,
        made_by: WeightsIdentity,
        contract: Contract,
        choices: Choices,
        file: Path,
        weights: str | None = None,
    ) -> Self:
        """Read a recording and cut it into clips.

        Parameters
        ----------
        made_by : WeightsIdentity
            The weights of the store.
        contract : Contract
            The contract of the store.
        choices : Choices
            Options with which the store's recordings were read.
        file : Path
            The recording's signal file.
        weights : str, optional
            Name or path of the store's weights; by default the name in the manifest.

        Raises
        ------
        QueryError
            If the file does not exist, or the weights are not the store's.
        """
        # torch takes seconds to import; a query by a clip of the store does not need it.
        from sleepfm.encoders.inference import Encoder
        from sleepfm.encoders.load import find_weights

        if not file.is_file():
            raise QueryError(f"there is no file {file}")
        try:
            loaded = find_weights(weights or made_by.name)
        except WeightsError as error:
            raise QueryError(
                f"the store was built with the weights {made_by.name}, which cannot be loaded "
                f"({error}); pass their file with --weights"
            ) from error
        if loaded.sha256 != made_by.sha256:
            raise QueryError(
                f"{loaded.name} ({loaded.sha256[:12]}) are not the store's weights {made_by.name} "
                f"({made_by.sha256[:12]}); pass those with --weights"
            )
        recording, channels, clips = Preparation(contract, choices).prepare(file)
        return cls(file, recording, channels, clips, contract.clip_seconds, Encoder(loaded))

    def encode(self, at: str, modalities: tuple[str, ...]) -> list[NDArray[np.float32]]:
        """Encode the clip that covers a time, like the clips of a store.

        Parameters
        ----------
        at : str
            Time of day or offset; see :func:`~sleepfm_index.query.clip_time.clip_position`.
        modalities : tuple of str
            Modalities to encode.

        Raises
        ------
        QueryError
            If no clip covers ``at``, or it lacks a modality.
        """
        clips = self.clips
        index = clip_position(at, clips.start_s, clips.clock_s, self.clip_seconds)
        for modality in modalities:
            if not clips.filled[modality][index]:
                raise QueryError(f"{self.file.name} has no {modality} signal at {at}")
        parts = (clips.signals[m][index : index + 1] for m in modalities)
        vectors = (self.encoder.encode(m, x)[0] for m, x in zip(modalities, parts, strict=True))
        return [widen(narrow(vector[None]))[0] for vector in vectors]

    def unlike(self, modalities: tuple[str, ...]) -> list[str]:
        """Report the modalities in which the whole recording differs from the training set.

        Parameters
        ----------
        modalities : tuple of str
            Modalities to compare.

        Returns
        -------
        list of str
            One sentence per modality beyond the limit; empty also if the weights carry no training
            distribution.
        """
        weights = self.encoder.weights
        distances = distances_of(weights, self.clips) or {}
        return [
            unlike_sentence(weights.name, m, *distances[m])
            for m in modalities
            if m in distances and distances[m][0] > 1
        ]
