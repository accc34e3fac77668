"""The checkpoint of a run: all it takes to go on at the next step to the same numbers."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from sleepfm.atomic_write import write_bytes
from sleepfm.errors import TrainingError
from sleepfm.training.averaging import Average
from sleepfm.training.recipe import Recipe

_VERSION: Final = 2


@dataclass
class RunState:
    """State of a run.

    Parameters
    ----------
    history : list of dict
        Metrics of the epochs that are done.
    step : int
        Steps done in the epoch that is not.
    total : Tensor, scalar
        Their summed loss.
    counts : dict of str to Tensor
        Their summed counts.
    seconds, waited : float
        Time they took, and what of it was spent on waiting for data.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    counts: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    waited: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """File with the state of a run, and the identity of that run.

    Parameters
    ----------
    path : Path
        The file; replaced atomically.
    task, optimizer, average
        What is trained, by what, and the average of its weights.
    recipe : Recipe
        How; a checkpoint of another one is refused.
    device : torch.device
        Where.
    dtype : torch.dtype
        In which numbers.
    identity : str
        Hash of task and data; a checkpoint of another one is refused.
    """

    path: Path
    task: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average
    recipe: Recipe
    device: torch.device
    dtype: torch.dtype
    identity: str

    def save(self, progress: RunState) -> None:
        """Write the state as it is after a step.

        Parameters
        ----------
        progress : RunState
            How far the run has come.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        cuda = self.device.type == "cuda"
        state = {
            "version": _VERSION,
            "identity": self.identity,
            "recipe": self.recipe.to_json(),
            "dtype": str(self.dtype),
            "task": self.task.state_dict(),
            "average": self.average.values,
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if cuda else None,
            "history": json.dumps(progress.history),
            "step": progress.step,
            "total": progress.total,
            "counts": progress.counts,
            "seconds": progress.seconds,
            "waited": progress.waited,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(self.path, buffer.getvalue())

    def restore(self) -> RunState:
        """Restore the saved state.

        Raises
        ------
        TrainingError
            If the file is damaged, of another version, or of another run.
        """
        name = self.path.name
        try:
            state = torch.load(self.path, map_location=self.device, weights_only=True)
            version = state["version"]
        except Exception as error:  # torch raises many kinds over a damaged file
            raise TrainingError(f"{name} is damaged; remove it to start over") from error
        if version != _VERSION:
            raise TrainingError(f"{name} was written by another version of this program")
        differ = self.recipe.differences(state["recipe"])
        if state["dtype"] != str(self.dtype):
            differ.append("precision")
        if differ:
            raise TrainingError(
                f"{name} belongs to a run with another {', '.join(differ)}; resume with the same "
                "settings, or choose another --out"
            )
        if state["identity"] != self.identity:
            raise TrainingError(
                f"{name} belongs to a run on other data or of another kind; choose another --out"
            )
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.values = state["average"]
        torch.set_rng_state(state["random"].cpu())
        if state["random_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"].cpu(), self.device)
        return RunState(
            json.loads(state["history"]),
            *(state[k] for k in ("step", "total", "counts", "seconds", "waited")),
        )
