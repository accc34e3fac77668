"""Loading of weights by name or from a file of either format."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from sleepfm.contract import ROBUST, Contract
from sleepfm.encoders import cache
from sleepfm.encoders.external import ExternalWeights, external_names, find_external
from sleepfm.encoders.weights import Weights, read_weights
from sleepfm.errors import WeightsError

_INITIAL_TEMPERATURE: Final = 0.0
_UNTRAINED: Final = re.compile(r"untrained(?::(\d+))?")


def load_weights(name_or_path: str | os.PathLike[str]) -> Weights:
    """Load weights by name or from a file.

    Parameters
    ----------
    name_or_path : str
        ``untrained`` or ``untrained:SEED`` (a seeded random initialisation), the path of a
        safetensors file of this project or of a checkpoint of the authors (``.pt``), or the name
        of weights that ship with the package or are in the user's cache.

    Returns
    -------
    Weights

    Raises
    ------
    WeightsError
        If there are no such weights, or the file is damaged or does not match the encoders.
    """
    text = os.fspath(name_or_path)
    seed = _UNTRAINED.fullmatch(text)
    if seed:
        return untrained(int(seed[1] or 0))
    if _is_external(text):
        raise WeightsError(
            f"{text} is an encoder of another package: it can fill a store and answer queries, but "
            "has no weights of this project to train on or to convert"
        )
    path = cache.locate(text)
    if path.suffix in (".pt", ".pth"):
        # Only this format needs torch, which takes seconds to import.
        from sleepfm.encoders.published import read_checkpoint

        return read_checkpoint(path)
    return read_weights(path)


def find_weights(name_or_path: str | os.PathLike[str]) -> Weights | ExternalWeights:
    """Find weights of this project or another package's encoder, by name or file.

    Parameters
    ----------
    name_or_path : str
        As for :func:`load_weights`, or the name of an entry point of the group
        ``sleepfm.encoders``; weights of this project take precedence.

    Returns
    -------
    Weights or ExternalWeights

    Raises
    ------
    WeightsError
        If nothing has this name, or it cannot be loaded.
    """
    text = os.fspath(name_or_path)
    if _is_external(text):
        return find_external(text)
    return load_weights(text)


def _is_external(text: str) -> bool:
    is_ours = _UNTRAINED.fullmatch(text) or text in cache.available() or Path(text).is_file()
    return not is_ours and text in external_names()


def untrained(seed: int = 0, contract: Contract = ROBUST) -> Weights:
    """Initialise the encoders of a contract at random; their vectors are for trials only.

    Parameters
    ----------
    seed : int
        Random seed; equal seeds give equal weights on every machine.
    contract : Contract
        Defines the modalities and their slots.

    Returns
    -------
    Weights
        With ``trained`` false.
    """
    from sleepfm.encoders.networks import initial_tensors

    return Weights(
        name=f"untrained:{seed}" if seed else "untrained",
        trained=False,
        contract=contract,
        record={"seed": seed},
        temperature=_INITIAL_TEMPERATURE,
        tensors=initial_tensors(contract, contract.modalities, seed),
    )
