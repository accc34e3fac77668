"""Reader for the checkpoint that the authors published.

The file is a pickled dict with ``epoch``, ``temperature``, ``optim_dict``, ``scheduler_dict``,
``best_loss``, ``loss`` and one ``<modality>_state_dict`` each for ``sleep_stages``, ``ekg`` and
``respiratory``, whose keys start with the ``module.`` of DataParallel.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sleepfm.contract import ICML2024
from sleepfm.encoders.weights import Weights, check_tensors
from sleepfm.errors import WeightsError

NAME: Final = "sleepfm-icml2024"
STATE_DICTS: Final = {
    "bas": "sleep_stages_state_dict",
    "ecg": "ekg_state_dict",
    "resp": "respiratory_state_dict",
}
SOURCE: Final = "Thapa et al., ICML 2024, arXiv 2405.17766, MIT licence"

_SCALAR: Final = np.float64().__reduce__()[0]
# A saved loss may be a numpy scalar; none of these types can run code.
_NUMPY_SCALARS: Final[list[Any]] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
]


def read_checkpoint(path: Path) -> Weights:
    """Read a checkpoint of the authors, and refuse it unless every tensor matches.

    Parameters
    ----------
    path : Path
        The ``.pt`` file.

    Returns
    -------
    Weights
        Named ``sleepfm-icml2024``, in float32.

    Raises
    ------
    WeightsError
        If the file is not such a checkpoint, would run code, or has other channels or layers.
    """
    checkpoint = _unpickle(path)
    if not isinstance(checkpoint, dict) or not all(k in checkpoint for k in STATE_DICTS.values()):
        required = ", ".join(STATE_DICTS.values())
        raise WeightsError(f"{path.name} is not a SleepFM checkpoint: it lacks one of {required}")
    tensors = {m: _arrays(path.name, checkpoint[key]) for m, key in STATE_DICTS.items()}
    check_tensors(path.name, ICML2024, tensors)
    return Weights(
        name=NAME,
        trained=True,
        contract=ICML2024,
        record={"source": SOURCE, **_numbers(checkpoint, "epoch", "loss", "best_loss")},
        temperature=_temperature(path.name, checkpoint),
        tensors=tensors,
    )


def _unpickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALARS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path.name} was not loaded: it is not a plain checkpoint of tensors and numbers, or "
            "it would run code"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise WeightsError(f"{path.name} is not a torch checkpoint, or is damaged") from error


def _arrays(file: str, state: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(f"{file}: a state dict contains a value that is not a tensor")
    try:
        return {str(k).removeprefix("module."): v.detach().numpy().copy() for k, v in state.items()}
    except (TypeError, RuntimeError) as error:  # bfloat16, sparse, or without values
        raise WeightsError(
            f"{file}: a tensor is of a type that is not read; save the state dict as dense float32"
        ) from error


def _temperature(file: str, plain: dict[str, Any]) -> float:
    try:
        return float(torch.as_tensor(plain["temperature"]).detach())
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{file}: the temperature is missing or not a number") from error


def _numbers(plain: dict[str, Any], *keys: str) -> dict[str, float]:
    return {k: float(plain[k]) for k in keys if isinstance(plain.get(k), (int, float))}
