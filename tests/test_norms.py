"""Batch norms are measured as plain averages, and nothing else changes."""

from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from sleepfm.modality import Modality
from sleepfm.training.batches import Batch
from sleepfm.training.norms import measure_norms
from sleepfm.training.task import Task


class _Small(Task):
    """A norm behind a dropout, and one that no clip reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(3)
        self.idle = nn.BatchNorm1d(3)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.norm(self.dropout(batch.signals[Modality.ECG])).sum(), {}

    def train_metrics(self, counts: dict[str, float]) -> dict[str, object]:
        return {}

    def evaluate(self, run: object) -> dict[str, object]:
        return {}

    def export(self, path: object, history: object) -> None: ...


def _batches(count: int) -> list[Batch]:
    draw = np.random.default_rng(count)
    arrays = [(5 + 3 * draw.standard_normal((16, 3))).astype(np.float32) for _ in range(count)]
    return [Batch({Modality.ECG: torch.from_numpy(x)}, None, torch.zeros(16)) for x in arrays]


def test_statistics_are_plain_averages_without_dropout() -> None:
    task, batches = _Small(), _batches(7)
    task.norm.running_mean += 100  # what training left behind has no say
    measure_norms(task, batches, nullcontext)
    x = np.stack([b.signals[Modality.ECG].numpy().astype(np.float64) for b in batches])
    assert task.norm.running_mean is not None and task.norm.running_var is not None
    np.testing.assert_allclose(task.norm.running_mean.numpy(), x.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(task.norm.running_var.numpy(), x.var(1, ddof=1).mean(0), rtol=1e-5)


def test_nothing_else_changes() -> None:
    torch.manual_seed(3)
    task = _Small()
    assert task.idle.running_mean is not None
    task.idle.running_mean += 2
    before = torch.get_rng_state()
    measure_norms(task, _batches(2), nullcontext)
    assert torch.equal(torch.get_rng_state(), before)
    assert task.norm.momentum == task.idle.momentum == 0.1
    assert task.idle.running_mean.tolist() == [2, 2, 2]
    assert not any(module.training for module in task.modules())


def test_norms_are_as_before_where_there_are_no_batches() -> None:
    task = _Small()
    before = {k: v.clone() for k, v in task.state_dict().items()}
    measure_norms(task, [], nullcontext)
    assert all(torch.equal(v, before[k]) for k, v in task.state_dict().items())
