"""From clips to vectors: the encoders of a set of weights, ready to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sleepfm.encoders.backend import Options
from sleepfm.encoders.choice import choose
from sleepfm.encoders.weights import Weights
from sleepfm.errors import WeightsError
from sleepfm.modality import EMBEDDING_DIM, Modality

if TYPE_CHECKING:
    import torch


class Encoder:
    """The encoders of a set of weights.

    Parameters
    ----------
    weights : Weights
        From :func:`sleepfm.encoders.load.load_weights`.
    device : str
        ``auto`` (CUDA, else Apple's MPS, else the CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    threads : int, optional
        Threads on the CPU, under torch for the whole process; by default all cores.
    backend : {"torch", "auto", "openvino"}
        ``torch`` is float32 on the CPU, to be compared with; ``auto`` the fastest whose vectors of
        a few clips have a cosine of 0.999 with those, which is what a store is built by.
    batch_size : int, optional
        Clips at a time; by default what is fastest for the backend.
    running : Options, optional
        All of these in one.

    Attributes
    ----------
    backend : str
        What it runs on, e.g. ``openvino bf16``.
    why : str
        One sentence: why that was chosen, and why nothing else.

    Raises
    ------
    WeightsError
        If there is no such device or backend, or the backend fails its check.
    """

    def __init__(
        self,
        weights: Weights,
        device: str = "auto",
        threads: int | None = None,
        *,
        backend: str = "torch",
        batch_size: int | None = None,
        running: Options | None = None,
    ) -> None:
        self.weights = weights
        choice = choose(weights, running or Options(backend, device, threads, batch_size))
        self._backend = choice.backend
        self.backend, self.why = choice.backend.name, choice.why

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
        if not len(clips):
            return np.empty((0, EMBEDDING_DIM), np.float32)
        out = self._backend.run(modality, clips)
        lengths = np.linalg.norm(out, axis=1, keepdims=True)
        if not np.isfinite(lengths).all():
            raise WeightsError(
                f"The {modality} encoder of {self.weights.name} gave values that are not finite; "
                "the clips are far from what its contract asks."
            )
        out /= np.maximum(lengths, np.float32(1e-12))
        return out

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
    """Resolve ``auto`` and check that the device is there; see :mod:`sleepfm.encoders.on_torch`."""
    from sleepfm.encoders import on_torch

    return on_torch.choose_device(device)
