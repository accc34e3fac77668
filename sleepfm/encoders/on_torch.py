"""The encoders under torch, on the CPU, CUDA or Apple's MPS.

float32 is the reference that every other backend is checked against. In half precision, on a GPU,
the early part of the network stays in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sleepfm.encoders.effnet import EffNet, fold_batch_norms
from sleepfm.encoders.networks import build
from sleepfm.encoders.weights import Weights
from sleepfm.errors import WeightsError
from sleepfm.modality import EMBEDDING_DIM

BATCH: Final = {"cpu": 32, "cuda": 512, "mps": 128}
PRECISIONS: Final = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class Torch:
    """Backend ``torch``.

    Parameters
    ----------
    weights : Weights
        Weights to run.
    device : torch.device
        Device to run on.
    precision : {"f32", "f16", "bf16"}
        Compute precision of the late part.
    batch_size : int, optional
        Clips per batch. On a GPU the last batch is padded with zeros, because its kernels depend
        on the size of a batch.
    """

    def __init__(
        self,
        weights: Weights,
        device: torch.device,
        precision: str = "f32",
        batch_size: int | None = None,
    ) -> None:
        self.name = f"torch {precision}" + (f" on {device}" if device.type != "cpu" else "")
        self._weights = weights
        self._device = device
        self._dtype = PRECISIONS[precision]
        self._batch = batch_size or BATCH[device.type]
        self._networks: dict[str, EffNet] = {}

    @torch.inference_mode()
    def run(self, modality: str, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode clips.

        Parameters
        ----------
        modality : str
            The encoder to run.
        clips : ndarray of float32, shape [n, slots, samples]
            Prepared as the weights' contract requires.

        Returns
        -------
        ndarray of float32, shape [n, 512]
            Not normalised.
        """
        if modality not in self._networks:
            network = fold_batch_norms(build(self._weights, modality))
            self._networks[modality] = network.to(self._device)
        network = self._networks[modality]
        if self._device.type == "cpu":
            batches: Iterator[torch.Tensor] = (
                torch.from_numpy(np.ascontiguousarray(clips[start : start + self._batch]))
                for start in range(0, len(clips), self._batch)
            )
        else:
            batches = self._transfer(clips)
        vectors = [self._vectors(network, batch) for batch in batches]
        if not vectors:
            return np.empty((0, EMBEDDING_DIM), np.float32)
        return torch.cat(vectors)[: len(clips)].cpu().numpy()

    def _vectors(self, network: EffNet, batch: torch.Tensor) -> torch.Tensor:
        early = network.early(batch)
        with torch.autocast(
            self._device.type, self._dtype, enabled=self._dtype is not torch.float32
        ):
            return network.late(early).float()

    def _transfer(self, clips: NDArray[np.float32]) -> Iterator[torch.Tensor]:
        """Copy batches to the device, each while the one before is encoded.

        Two buffers in pinned memory alternate, and each is refilled only after its content has
        arrived. Where memory cannot be pinned, the copies are synchronous.
        """
        cuda = self._device.type == "cuda"
        shape = (self._batch, *clips.shape[1:])
        buffers = [torch.zeros(shape, pin_memory=cuda) for _ in range(2 if cuda else 1)]
        arrived: dict[int, torch.cuda.Event] = {}
        for number, start in enumerate(range(0, len(clips), self._batch)):
            i = number % len(buffers)
            if i in arrived:
                arrived[i].synchronize()
            batch = torch.from_numpy(np.ascontiguousarray(clips[start : start + self._batch]))
            buffers[i][: len(batch)] = batch
            buffers[i][len(batch) :] = 0
            yield buffers[i].to(self._device, non_blocking=cuda)
            if cuda:
                arrived[i] = torch.cuda.Event()  # type: ignore[no-untyped-call]
                arrived[i].record()


def on_torch(
    weights: Weights,
    device: str,
    precision: str = "f32",
    threads: int | None = None,
    batch_size: int | None = None,
) -> Torch:
    """Create the backend on a named device.

    Parameters
    ----------
    weights : Weights
        Weights to run.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    precision : {"f32", "f16", "bf16"}
        Compute precision of the late part.
    threads : int, optional
        Threads on the CPU, set for the whole process; by default torch's own choice.
    batch_size : int, optional
        Clips per batch; by default the fastest size for the device.

    Returns
    -------
    Torch

    Raises
    ------
    WeightsError
        If the device is not available.
    """
    chosen = choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    return Torch(weights, chosen, precision, batch_size)


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
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        if chosen.type not in BATCH:
            raise RuntimeError
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise WeightsError(
            f"there is no device {device} on this machine; use auto or cpu"
        ) from error
    return chosen
