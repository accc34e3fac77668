"""Batch-norm statistics for use, measured with the weights as they are.

In training a batch norm keeps an exponential average (momentum 0.1) of what it has seen: of the
last ten steps or so, of weights that have moved on since, and of activations thinned by dropout. In
use none of that holds. So the statistics are measured afresh, as plain averages over a fixed number
of training batches, before every validation and so before every export. This is ``update_bn`` of
stochastic weight averaging (Izmailov et al., 2018, arXiv 1803.05407; torch.optim.swa_utils) and
"precise BN" (Wu and Johnson, 2021, arXiv 2105.07576, section 3); that dropout shifts the variance
that a batch norm sees is from Li et al. (CVPR 2019, arXiv 1801.05134).
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
    """Replace the running statistics of all batch norms by their averages over some batches.

    Draws no random number, so that a run with and without it trains alike; statistics of a network
    that no clip reaches stay as they are. Leaves the task in evaluation mode.

    Parameters
    ----------
    task : Task
        Whose networks.
    batches : iterable of Batch
        Training clips, on the device.
    context : callable
        Gives the context (autocast) in which networks run.
    """
    norms = [m for m in task.modules() if isinstance(m, _BatchNorm)]
    task.train()
    for module in task.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = None  # torch's word for a plain average
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
