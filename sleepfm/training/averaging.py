"""An exponential moving average of the weights, which is what is validated and exported.

Averaged weights stand where a decaying learning rate would end (Polyak and Juditsky 1992; Tarvainen
and Valpola 2017, arXiv 1703.01780), so a run that is stopped early still gives good ones. The decay
grows with the steps, so that the start is soon forgotten.
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
        Whose parameters.
    decay : float
        Share of the average that a step keeps, 0 to 1.
    """

    def __init__(self, task: nn.Module, decay: float) -> None:
        self.decay = decay
        own = task.named_parameters() if decay else ()
        self.values: dict[str, Tensor] = {name: p.detach().clone() for name, p in own}

    @torch.no_grad()
    def update(self, task: nn.Module, step: int) -> None:
        """Update the average after a step, counted from 0.

        Parameters
        ----------
        task : Module
            Whose parameters are averaged.
        step : int
            Number of the step, counted from 0.
        """
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in task.named_parameters() if self.values else ():
            self.values[name].lerp_(parameter, 1 - keep)

    @contextmanager
    def applied(self, task: nn.Module) -> Iterator[None]:
        """Use the averaged weights of a task in a ``with`` block.

        Parameters
        ----------
        task : Module
            Gets its own parameters back at the end.
        """
        self._swap(task)
        try:
            yield
        finally:
            self._swap(task)

    @torch.no_grad()
    def _swap(self, task: nn.Module) -> None:
        for name, parameter in task.named_parameters() if self.values else ():
            other = parameter.clone()
            parameter.copy_(self.values[name])
            self.values[name] = other
