"""Interface between the training loop and a task, and device and precision of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sleepfm.choices import Precision
from sleepfm.errors import TrainingError
from sleepfm.training.batches import Batch, ClipSet, stream

Metrics = dict[str, Any]


class Task(nn.Module, ABC):
    """A training task: networks, loss and evaluation."""

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and its counts.

        Parameters
        ----------
        batch : Batch
            Clips on the device, in the working precision.

        Returns
        -------
        loss : Tensor, scalar
            The loss to minimise.
        counts : dict of str to Tensor
            Counts that the loop sums over an epoch.
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
            Device and precision of the run.
        """

    @abstractmethod
    def export(self, path: Path, history: list[Metrics]) -> None:
        """Write the current weights.

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
    """Device and precision of a run.

    Parameters
    ----------
    device : torch.device
        Device of networks and batches.
    dtype : torch.dtype
        Working precision; networks run under autocast if it is not float32.
    """

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager[None]:
        """Return the autocast context in which networks run."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to the device, in the working precision.

        Parameters
        ----------
        batch : Batch
            Clips, usually on the CPU.

        Returns
        -------
        Batch
            The clips on the device; signals in the working precision.
        """
        signals = {
            m: x.to(self.device, non_blocking=True).to(self.dtype) for m, x in batch.signals.items()
        }
        present, targets = batch.present, batch.targets
        return replace(
            batch,
            signals=signals,
            present=None if present is None else present.to(self.device),
            labels=batch.labels.to(self.device),
            targets=None if targets is None else targets.to(self.device),
        )

    def batches(self, clips: ClipSet, orders: list[Any]) -> Iterator[Batch]:
        """Load batches and move them to the device.

        Parameters
        ----------
        clips : ClipSet
            The clips to load from.
        orders : list of ndarray of int64
            Numbers of the clips of each batch.

        Yields
        ------
        Batch
            The batches, in the given order.
        """
        for batch in stream(clips, orders, pin=self.device.type == "cuda"):
            yield self.to_device(batch)


def all_finite(batch: Batch) -> bool:
    """Return whether all signals of a batch are finite.

    Parameters
    ----------
    batch : Batch
        The clips.
    """
    return all(bool(x.isfinite().all()) for x in batch.signals.values())


def not_finite(batch: Batch, what: str) -> TrainingError:
    """Return the error for values that are not finite, with the probable reason.

    Parameters
    ----------
    batch : Batch
        The clips from which the values were computed.
    what : str
        What is not finite, in words.
    """
    if not all_finite(batch):
        reason = "prepared clips contain NaN or infinity; remove the clip cache and start again"
    else:
        reason = (
            f"{what} is not finite; check the scaling of the clips, or use a lower learning rate"
        )
    return TrainingError(f"{reason}; the last good checkpoint is intact")


def choose_precision(device: torch.device, precision: Precision) -> torch.dtype:
    """Resolve ``auto``: bfloat16 where the device supports it natively, otherwise float32.

    Parameters
    ----------
    device : torch.device
        Device of the run.
    precision : {"auto", "float32", "bfloat16"}
        The requested precision.

    Returns
    -------
    torch.dtype
        The working precision.
    """
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        native = bool(
            capabilities.get("avx512_bf16")
            or capabilities.get("amx_bf16")
            or capabilities.get("bf16")
        )
    else:
        native = False
    return torch.bfloat16 if native else torch.float32
