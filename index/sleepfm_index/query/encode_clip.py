"""One clip of a file is encoded as the store's own clips were."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sleepfm.errors import WeightsError
from sleepfm.modality import Modality
from sleepfm_index.building.preparation import Preparation
from sleepfm_index.errors import QueryError
from sleepfm_index.query.clip_time import clip_position

if TYPE_CHECKING:
    from sleepfm_index.store import Store


def encode_clip(
    store: Store, file: Path, at: str, modality: Modality, weights: str | None = None
) -> NDArray[np.float32]:
    """Encode one clip of a recording as the store's own clips were.

    Parameters
    ----------
    at : str
        As in :class:`sleepfm_index.query.answer.Question`.
    weights : str, optional
        Name or path of the store's weights; by default the name that the manifest states.

    Returns
    -------
    ndarray of float32, shape [512]
        A unit vector, rounded to float16 as in the store.

    Raises
    ------
    QueryError
        If the weights are not the store's, no clip covers ``at``, or it lacks the modality.
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
            f"the store was built with the weights {own.name}, which cannot be loaded ({error}); "
            "name their file by --weights"
        ) from error
    if loaded.sha256 != own.sha256:
        raise QueryError(
            f"{loaded.name} ({loaded.sha256[:12]}) are not the store's weights {own.name} "
            f"({own.sha256[:12]}); name those by --weights"
        )
    _, _, clips = Preparation(store.manifest.contract).prepare(file)
    seconds = store.manifest.contract.clip_seconds
    at_clip = clip_position(at, clips.start_s, clips.clock_s, seconds)
    if not clips.filled[modality][at_clip]:
        raise QueryError(f"{file.name} has no {modality} signal at {at}")
    one = clips.signals[modality][at_clip : at_clip + 1]
    vectors = Encoder(loaded).encode(modality, one).astype(np.float16)
    stored: NDArray[np.float32] = vectors[0].astype(np.float32)
    return stored
