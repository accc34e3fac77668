"""The checkpoint of a run: the complete state from which it resumes with identical results."""

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
        Metrics of the completed epochs.
    step : int
        Completed steps of the current epoch.
    total : Tensor, scalar
        Loss summed over those steps.
    counts : dict of str to Tensor
        Counts of the task summed over those steps.
    seconds, waited : float
        Duration of those steps, and the part of it spent waiting for data, in seconds.
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
        The checkpoint file; replaced atomically.
    task : Module
        The networks and parameters being trained.
    optimizer : Optimizer
        The optimizer and its state.
    average : Average
        The moving average of the parameters.
    recipe : Recipe
        Settings of the run; a checkpoint with other settings is refused.
    device : torch.device
        Device of the run.
    dtype : torch.dtype
        Working precision; a checkpoint with another one is refused.
    identity : str
        Hash of task and data; a checkpoint with another one is refused.
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
        """Write the state after a step.

        Parameters
        ----------
        progress : RunState
            State of the run after that step.

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
        """Restore task, optimizer, average and random generators from the file.

        Returns
        -------
        RunState
            The state of the run when the file was written.

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
