"""The encoders under torch: the CPU, CUDA, Apple's MPS.

In float32, which every other way of running them is checked against; or on a GPU in half precision,
the early part of the network apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sleepfm.encoders.effnet import EffNet, folded
from sleepfm.encoders.networks import build
from sleepfm.encoders.weights import Weights
from sleepfm.errors import WeightsError
from sleepfm.modality import EMBEDDING_DIM

BATCH: Final = {"cpu": 32, "cuda": 512, "mps": 128}
KINDS: Final = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class Torch:
    """Backend ``torch``.

    Parameters
    ----------
    weights : Weights
        Whose encoders.
    device : torch.device
        Where they run.
    kind : {"f32", "f16", "bf16"}
        What the late part multiplies.
    batch_size : int, optional
        Clips of a batch; the last one is filled up with zeros on a GPU, whose kernels are chosen by
        the size of a batch.
    """

    def __init__(
        self,
        weights: Weights,
        device: torch.device,
        kind: str = "f32",
        batch_size: int | None = None,
    ) -> None:
        self.name = f"torch {kind}" + (f" on {device}" if device.type != "cpu" else "")
        self._weights = weights
        self._device = device
        self._dtype = KINDS[kind]
        self._batch = batch_size or BATCH[device.type]
        self._networks: dict[str, EffNet] = {}

    @torch.inference_mode()
    def run(self, modality: str, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the vectors of clips, [n, 512], not normalised."""
        if modality not in self._networks:
            network = folded(build(self._weights, modality))
            self._networks[modality] = network.to(self._device)
        network = self._networks[modality]
        if self._device.type == "cpu":
            batches: Iterator[torch.Tensor] = (
                torch.from_numpy(np.ascontiguousarray(clips[start : start + self._batch]))
                for start in range(0, len(clips), self._batch)
            )
        else:
            batches = self._sent(clips)
        found = [self._vectors(network, batch) for batch in batches]
        if not found:
            return np.empty((0, EMBEDDING_DIM), np.float32)
        return torch.cat(found)[: len(clips)].cpu().numpy()

    def _vectors(self, network: EffNet, batch: torch.Tensor) -> torch.Tensor:
        early = network.early(batch)
        with torch.autocast(
            self._device.type, self._dtype, enabled=self._dtype is not torch.float32
        ):
            return network.late(early).float()

    def _sent(self, clips: NDArray[np.float32]) -> Iterator[torch.Tensor]:
        """Send batches to the device; the next one is on its way while one is encoded.

        Two buffers in pinned memory take turns, and each is filled again only when its content has
        arrived. Where memory cannot be pinned, the copies are plain ones.
        """
        cuda = self._device.type == "cuda"
        shape = (self._batch, *clips.shape[1:])
        buffers = [torch.zeros(shape, pin_memory=cuda) for _ in range(2 if cuda else 1)]
        arrived: dict[int, torch.cuda.Event] = {}
        for number, start in enumerate(range(0, len(clips), self._batch)):
            at = number % len(buffers)
            if at in arrived:
                arrived[at].synchronize()
            batch = torch.from_numpy(np.ascontiguousarray(clips[start : start + self._batch]))
            buffers[at][: len(batch)] = batch
            buffers[at][len(batch) :] = 0
            yield buffers[at].to(self._device, non_blocking=cuda)
            if cuda:
                arrived[at] = torch.cuda.Event()  # type: ignore[no-untyped-call]
                arrived[at].record()


def on_torch(
    weights: Weights,
    device: str,
    kind: str = "f32",
    threads: int | None = None,
    batch_size: int | None = None,
) -> Torch:
    """Give the backend; threads are set for the whole process, by default torch's own choice."""
    chosen = choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    return Torch(weights, chosen, kind, batch_size)


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
        if chosen.type not in BATCH:
            raise RuntimeError
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise WeightsError(f"There is no device {device} here; use auto or cpu.") from error
    return chosen
