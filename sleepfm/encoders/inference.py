"""The encoders of a set of weights, ready to turn clips into vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sleepfm.encoders.backend import Options
from sleepfm.encoders.choice import choose
from sleepfm.encoders.external import ExternalWeights
from sleepfm.encoders.weights import Weights
from sleepfm.errors import WeightsError
from sleepfm.modality import EMBEDDING_DIM

if TYPE_CHECKING:
    import torch


class Encoder:
    """The encoders of a set of weights.

    Parameters
    ----------
    weights : Weights or ExternalWeights
        From :func:`sleepfm.encoders.load.find_weights`.
    device : str
        ``auto`` (CUDA, else Apple's MPS, else the CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    threads : int, optional
        Threads on the CPU, under torch for the whole process; by default all cores.
    backend : {"torch", "auto", "openvino"}
        ``torch`` is the reference, float32 on the CPU. ``auto`` is the fastest backend whose
        vectors of a few clips have a cosine of at least 0.999 with the reference; stores are built
        with it.
    batch_size : int, optional
        Clips per batch; by default the fastest size for the backend.
    running : Options, optional
        Replaces the four options above.

    Attributes
    ----------
    backend : str
        Selected backend, e.g. ``openvino bf16``.
    why : str
        One sentence: why it was selected and why the others were not.

    Raises
    ------
    WeightsError
        If the device or backend is not available, or fails the check.
    """

    def __init__(
        self,
        weights: Weights | ExternalWeights,
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

    def encode(self, modality: str, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode clips into unit vectors.

        Parameters
        ----------
        modality : str
            The encoder to run.
        clips : ndarray of float32, shape [n, slots, samples]
            Prepared as the weights' contract requires.

        Returns
        -------
        ndarray of float32, shape [n, 512]
            Unit vectors; each depends on its own clip alone. Those of another package's encoder end
            in zeros where they are shorter.

        Raises
        ------
        WeightsError
            If the weights have no such encoder, or the clips do not match its contract or are not
            finite.
        """
        self._check(modality, clips)
        if not len(clips):
            return np.empty((0, EMBEDDING_DIM), np.float32)
        out = self._backend.run(modality, clips)
        lengths = np.linalg.norm(out, axis=1, keepdims=True)
        if not np.isfinite(lengths).all():
            raise WeightsError(
                f"the {modality} encoder of {self.weights.name} returned NaN or infinity; check "
                "that the clips are scaled as its contract requires"
            )
        out /= np.maximum(lengths, np.float32(1e-12))
        return out

    def _check(self, modality: str, clips: NDArray[np.float32]) -> None:
        contract = self.weights.contract
        if modality not in self.weights.modalities:
            raise WeightsError(f"{self.weights.name} has no encoder for {modality}")
        expected = (len(contract.slots_of(modality)), contract.clip_samples)
        if clips.ndim != 3 or clips.shape[1:] != expected:
            raise WeightsError(
                f"{modality} clips must have shape [n, {expected[0]}, {expected[1]}], "
                f"got {list(clips.shape)}"
            )
        if clips.dtype != np.float32:
            raise WeightsError(f"{modality} clips must be float32, got {clips.dtype}")
        # a sum is finite only if every value is (float64: no overflow), and needs no second array
        if not np.isfinite(np.sum(clips, dtype=np.float64)):
            raise WeightsError(
                f"{modality} clips contain NaN or infinity; set these samples to zero"
            )


def choose_device(device: str) -> torch.device:
    """Resolve ``auto`` and check that the device is available.

    Parameters
    ----------
    device : str
        ``auto`` (CUDA, else Apple's MPS, else the CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Returns
    -------
    torch.device

    Raises
    ------
    WeightsError
        If the device is not available.
    """
    from sleepfm.encoders import on_torch

    return on_torch.choose_device(device)
