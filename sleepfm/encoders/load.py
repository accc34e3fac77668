"""Loading weights by name or from a file, whatever their format."""

from __future__ import annotations

import os
import re
from typing import Final

from sleepfm.contract import ROBUST
from sleepfm.encoders import cache
from sleepfm.encoders.weights import Weights, read_weights
from sleepfm.modality import Modality

_INITIAL_TEMPERATURE: Final = 0.0


def load_weights(name_or_path: str | os.PathLike[str]) -> Weights:
    """Load weights by name or from a file.

    Parameters
    ----------
    name_or_path : str
        ``untrained`` or ``untrained:SEED`` (a seeded random initialisation), the path of a
        safetensors file of this project or of a checkpoint of the authors (``.pt``), or the name
        of weights that ship with the package or lie in the user's cache.

    Raises
    ------
    WeightsError
        If there are no such weights, or the file is damaged or does not fit the encoders.
    """
    text = os.fspath(name_or_path)
    seed = re.fullmatch(r"untrained(?::(\d+))?", text)
    if seed:
        return untrained(int(seed[1] or 0))
    path = cache.locate(text)
    if path.suffix in (".pt", ".pth"):
        # torch, which only this format needs, takes seconds to import.
        from sleepfm.encoders.published import read_checkpoint

        return read_checkpoint(path)
    return read_weights(path)


def untrained(seed: int = 0) -> Weights:
    """Give a seeded random initialisation of the three encoders, for trials only."""
    from sleepfm.encoders.networks import initial_tensors

    return Weights(
        name=f"untrained:{seed}" if seed else "untrained",
        trained=False,
        contract=ROBUST,
        record={"seed": seed},
        temperature=_INITIAL_TEMPERATURE,
        tensors=initial_tensors(ROBUST, tuple(Modality), seed),
    )
