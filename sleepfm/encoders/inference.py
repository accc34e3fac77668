"""From clips to vectors: the encoders of a set of weights, ready to run."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from sleepfm.encoders.effnet import EffNet, folded
from sleepfm.encoders.networks import build
from sleepfm.encoders.weights import Weights
from sleepfm.errors import WeightsError
from sleepfm.modality import EMBEDDING_DIM, Modality

_BATCH: Final = {"cpu": 32, "cuda": 512, "mps": 128}


class Encoder:
    """The encoders of a set of weights.

    Parameters
    ----------
    weights : Weights
        From :func:`sleepfm.encoders.weights.load_weights`.
    device : str
        ``auto`` (CUDA, else Apple's MPS, else the CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    threads : int, optional
        Threads on the CPU, for the whole process; by default torch's own choice.

    Raises
    ------
    WeightsError
        If there is no such device.
    """

    def __init__(self, weights: Weights, device: str = "auto", threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.weights = weights
        self.device = choose_device(device)
        self._networks: dict[Modality, EffNet] = {}

    def encode(self, modality: Modality, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode clips into unit vectors.

        Parameters
        ----------
        modality : Modality
            Which encoder.
        clips : ndarray of float32, shape [n, slots, samples]
            Prepared as the weights' contract asks.

        Returns
        -------
        ndarray of float32, shape [n, 512]
            Of length one each; a clip's vector does not depend on the others.

        Raises
        ------
        WeightsError
            If the weights have no such encoder, or the clips do not fit it or are not finite.
        """
        self._check(modality, clips)
        out = np.empty((len(clips), EMBEDDING_DIM), np.float32)
        size = _BATCH[self.device.type]
        for start in range(0, len(clips), size):
            batch = torch.from_numpy(np.ascontiguousarray(clips[start : start + size]))
            out[start : start + size] = self._run(modality, batch).numpy()
        if not np.isfinite(out).all():
            raise WeightsError(
                f"The {modality} encoder of {self.weights.name} gave values that are not finite; "
                "the clips are far from what its contract asks."
            )
        return out

    @torch.inference_mode()
    def _run(self, modality: Modality, batch: torch.Tensor) -> torch.Tensor:
        network = self._networks.get(modality)
        if network is None:
            network = folded(build(self.weights, modality)).to(self.device)
            self._networks[modality] = network
        return F.normalize(network(batch.to(self.device)), dim=1).cpu()

    def _check(self, modality: Modality, clips: NDArray[np.float32]) -> None:
        contract = self.weights.contract
        if modality not in self.weights.tensors:
            raise WeightsError(f"{self.weights.name} has no encoder for {modality}.")
        expected = (len(contract.slots_of(modality)), contract.clip_samples)
        if clips.ndim != 3 or clips.shape[1:] != expected:
            raise WeightsError(
                f"{modality} clips must have the shape [n, {expected[0]}, {expected[1]}], "
                f"not {list(clips.shape)}."
            )
        if clips.dtype != np.float32:
            raise WeightsError(f"{modality} clips must be float32, not {clips.dtype}.")
        # a sum is finite only if every value is (float64: no overflow), and needs no second array
        if not np.isfinite(np.sum(clips, dtype=np.float64)):
            raise WeightsError(f"{modality} clips hold NaN or infinity; set such samples to zero.")


def choose_device(device: str) -> torch.device:
    """Resolve ``auto`` and check that the device is there.

    Raises
    ------
    WeightsError
        If it is not.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        if chosen.type not in _BATCH:
            raise RuntimeError
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise WeightsError(f"There is no device {device} here; use auto or cpu.") from error
    return chosen
