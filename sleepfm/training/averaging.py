"""An exponential moving average of the weights; validation and export use the average.

Averaging has the effect of a decaying learning rate (Polyak and Juditsky 1992; Tarvainen and
Valpola 2017, arXiv 1703.01780), so a run that is stopped early still gives good weights. The decay
factor grows with the steps, so that the initial weights are soon forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The moving average of a task's parameters; with decay 0, the parameters themselves.

    Parameters
    ----------
    task : Module
        The task whose parameters are averaged.
    decay : float
        Decay factor of the average per step, at least 0 and below 1; 0 turns averaging off.
    """

    def __init__(self, task: nn.Module, decay: float) -> None:
        self.decay = decay
        parameters = task.named_parameters() if decay else ()
        self.values: dict[str, Tensor] = {name: p.detach().clone() for name, p in parameters}

    @torch.no_grad()
    def update(self, task: nn.Module, step: int) -> None:
        """Update the average after a step, counted from 0.

        Parameters
        ----------
        task : Module
            The task whose parameters are averaged.
        step : int
            Number of the step, counted from 0.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        if self.values:
            parameters: list[Tensor] = [p for _, p in task.named_parameters()]
            torch._foreach_lerp_(list(self.values.values()), parameters, 1 - decay)

    @contextmanager
    def applied(self, task: nn.Module) -> Iterator[None]:
        """Use the averaged weights of a task in a ``with`` block.

        Parameters
        ----------
        task : Module
            The task; its current parameters are restored at the end of the block.
        """
        self._swap(task)
        try:
            yield
        finally:
            self._swap(task)

    @torch.no_grad()
    def _swap(self, task: nn.Module) -> None:
        for name, parameter in task.named_parameters() if self.values else ():
            current = parameter.clone()
            parameter.copy_(self.values[name])
            self.values[name] = current
