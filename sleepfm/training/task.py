"""Interface between the training loop and a task, and the device of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sleepfm.choices import Precision
from sleepfm.training.batches import Batch, ClipSet, stream

Metrics = dict[str, Any]


class Task(nn.Module, ABC):
    """A training task: networks, loss and evaluation."""

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, and counts that are summed over an epoch.

        Parameters
        ----------
        batch : Batch
            On the device, in the working precision.
        """

    @abstractmethod
    def train_metrics(self, counts: dict[str, float]) -> Metrics:
        """Convert the summed counts of an epoch to metrics.

        Parameters
        ----------
        counts : dict of str to float
            The counts of ``loss``, summed over the batches of the epoch.
        """

    @abstractmethod
    def evaluate(self, run: Run) -> Metrics:
        """Measure on the validation clips; ``loss`` chooses the best epoch.

        Parameters
        ----------
        run : Run
        """

    @abstractmethod
    def export(self, path: Path, history: list[Metrics]) -> None:
        """Write weights as they are.

        Parameters
        ----------
        path : Path
            The weights file to write.
        history : list of dict
            Metrics of each epoch, in order.
        """

    def constrain(self) -> None:
        """Clamp parameters to their bounds after a step."""


@dataclass(frozen=True)
class Run:
    """Device and precision of a run."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context in which networks run."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to the device, in the working precision.

        Parameters
        ----------
        batch : Batch
        """
        signals = {
            m: x.to(self.device, non_blocking=True).to(self.dtype) for m, x in batch.signals.items()
        }
        present, targets = batch.present, batch.targets
        return Batch(
            signals,
            None if present is None else present.to(self.device),
            batch.labels.to(self.device),
            None if targets is None else targets.to(self.device),
        )

    def batches(self, clips: ClipSet, orders: list[Any]) -> Iterator[Batch]:
        """Stream batches to the device.

        Parameters
        ----------
        clips : ClipSet
        orders : list of ndarray of intp
            The clips of each batch, by number.
        """
        for batch in stream(clips, orders, pin=self.device.type == "cuda"):
            yield self.to_device(batch)


def choose_precision(device: torch.device, precision: Precision) -> torch.dtype:
    """Resolve ``auto``: bfloat16 where the device multiplies it natively, else float32.

    Parameters
    ----------
    device : torch.device
    precision : {"auto", "float32", "bfloat16"}
    """
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        able = torch.cpu.get_capabilities()
        native = bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))
    else:
        native = False
    return torch.bfloat16 if native else torch.float32
