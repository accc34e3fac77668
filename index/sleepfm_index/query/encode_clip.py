"""A clip of a file is encoded as the clips of a store were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sleepfm.contract import Contract
from sleepfm.errors import WeightsError
from sleepfm.modality import Modality
from sleepfm_index.building.preparation import Preparation
from sleepfm_index.errors import QueryError
from sleepfm_index.query.clip_time import clip_position
from sleepfm_index.storage.manifest import WeightsIdentity


def encode_clips(
    made_by: WeightsIdentity,
    contract: Contract,
    file: Path,
    at: str,
    modalities: tuple[Modality, ...],
    weights: str | None = None,
) -> list[NDArray[np.float32]]:
    """Encode one clip of a recording, in one or more modalities, as a store's own clips were.

    Parameters
    ----------
    made_by : WeightsIdentity
        The weights of the store.
    contract : Contract
        Its contract.
    file : Path
        The recording.
    at : str
        As in :class:`sleepfm_index.query.question.Question`.
    modalities : tuple of Modality
    weights : str, optional
        Name or path of the store's weights; by default the name that the manifest states.

    Returns
    -------
    list of ndarray of float32, shape [512]
        One unit vector per modality, rounded to float16 as in the store.

    Raises
    ------
    QueryError
        If the weights are not the store's, no clip covers ``at``, or it lacks a modality.
    """
    # torch takes seconds to import; a query by a clip of the store does without.
    from sleepfm.encoders.inference import Encoder
    from sleepfm.encoders.load import load_weights

    if not file.is_file():
        raise QueryError(f"there is no file {file}")
    try:
        loaded = load_weights(weights or made_by.name)
    except WeightsError as error:
        raise QueryError(
            f"the store was built with the weights {made_by.name}, which cannot be loaded "
            f"({error}); name their file by --weights"
        ) from error
    if loaded.sha256 != made_by.sha256:
        raise QueryError(
            f"{loaded.name} ({loaded.sha256[:12]}) are not the store's weights {made_by.name} "
            f"({made_by.sha256[:12]}); name those by --weights"
        )
    _, _, clips = Preparation(contract).prepare(file)
    place = clip_position(at, clips.start_s, clips.clock_s, contract.clip_seconds)
    for modality in modalities:
        if not clips.filled[modality][place]:
            raise QueryError(f"{file.name} has no {modality} signal at {at}")
    encoder = Encoder(loaded)
    vectors = (encoder.encode(m, clips.signals[m][place : place + 1])[0] for m in modalities)
    return [vector.astype(np.float16).astype(np.float32) for vector in vectors]
