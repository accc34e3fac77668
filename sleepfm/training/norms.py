"""Batch-norm statistics for inference, measured with the current weights.

During training, batch normalisation keeps an exponential moving average (momentum 0.1) of its
statistics. That average reflects about the last ten steps, weights that have changed since, and
activations under dropout; at inference none of these apply. The statistics are therefore measured
again, as plain averages over a fixed number of training batches, before every validation and so
before every export. This is ``update_bn`` of stochastic weight averaging (Izmailov et al., 2018,
arXiv 1803.05407; torch.optim.swa_utils) and "precise BN" (Wu and Johnson, 2021, arXiv 2105.07576,
section 3); that dropout shifts the variance that a batch norm sees is from Li et al. (CVPR 2019,
arXiv 1801.05134).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sleepfm.training.batches import Batch
from sleepfm.training.task import Task

NORM_BATCHES: Final = 64
"""Maximum number of training batches for measuring the statistics."""


def measure_norms(
    task: Task, batches: Iterable[Batch], context: Callable[[], AbstractContextManager[None]]
) -> None:
    """Replace the running statistics of all batch norms by averages over training batches.

    No random numbers are drawn, so that training itself is not affected. The statistics of a
    network that sees no clip stay unchanged. The task is left in evaluation mode.

    Parameters
    ----------
    task : Task
        The task whose networks are measured.
    batches : iterable of Batch
        Training clips, on the device.
    context : callable
        Returns the autocast context in which networks run.
    """
    norms = [m for m in task.modules() if isinstance(m, _BatchNorm)]
    task.train()
    for module in task.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = None  # in torch, a plain average
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.zero_()
        with torch.no_grad():
            for batch in batches:
                with context():
                    task.loss(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        task.eval()
