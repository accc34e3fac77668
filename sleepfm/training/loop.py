"""The training loop for any task: steps, mixed precision, checkpoints, resumption and log."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from sleepfm.atomic_write import write_bytes
from sleepfm.errors import OutputError, TrainingError, WeightsError
from sleepfm.malloc import keep_freed_memory
from sleepfm.training.augment import augment
from sleepfm.training.averaging import Average
from sleepfm.training.batches import Batch, ClipSet, of_epoch, shuffled
from sleepfm.training.checkpoint import Checkpoint, RunState
from sleepfm.training.curves import can_draw, draw
from sleepfm.training.norms import NORM_BATCHES, measure_norms
from sleepfm.training.recipe import Optimizer, Recipe
from sleepfm.training.task import Metrics, Run, Task, all_finite, not_finite

_CLIP_NORM: Final = 1.0
_NORM_STEP: Final = 1 << 40
"""Step number for augmenting the first batch that norms are measured on; no epoch reaches it."""
_TIMINGS: Final = ("seconds", "valid_seconds", "clips_per_s", "waiting_for_data")


def refuse_taken(out: Path, resume: bool) -> None:
    """Refuse an output path to which another run has written, unless to resume that run.

    Parameters
    ----------
    out : Path
        The weights file to write.
    resume : bool
        Whether to continue from the checkpoint of an earlier run.

    Raises
    ------
    TrainingError
        If a checkpoint exists and ``resume`` is false, or weights exist without a checkpoint.
    """
    checkpoint = _checkpoint_of(out)
    if checkpoint.exists() and not resume:
        raise TrainingError(
            f"{checkpoint.name} already exists; continue with --resume, or choose another --out"
        )
    if out.exists() and not checkpoint.exists():
        raise TrainingError(
            f"{out.name} already exists, without a checkpoint to resume from; choose another --out"
        )


def _checkpoint_of(out: Path) -> Path:
    return out.with_name(f"{out.stem}.checkpoint.pt")


def record_at_end(record: Metrics, history: list[Metrics]) -> Metrics:
    """Return a training record with the metrics of the last epoch, without timings.

    Parameters
    ----------
    record : dict
        The training record without results.
    history : list of dict
        Metrics of each epoch, in order.
    """
    last = {k: v for k, v in history[-1].items() if k not in _TIMINGS}
    return {**record, "epoch": last["epoch"], "metrics": last}


def fit(
    task: Task,
    clips: ClipSet,
    recipe: Recipe,
    run: Run,
    out: Path,
    *,
    identity: str,
    resume: bool = False,
    checkpoint_minutes: float = 5.0,
    progress: Callable[[int, int, int, float], None] | None = None,
    report: Callable[[Metrics], None] | None = None,
) -> list[Metrics]:
    """Train a task, and write weights, checkpoint, log and curves.

    Next to ``out`` are ``<stem>.checkpoint.pt``, replaced atomically every few minutes and after
    every epoch, and, from the end of the first epoch on, ``<stem>.log.jsonl`` with one line per
    epoch and, if matplotlib is installed, ``<stem>.curves.png``. ``out`` itself contains the
    weights of the epoch with the lowest validation loss. Before every validation, the batch-norm
    statistics are measured again (:mod:`sleepfm.training.norms`).

    Parameters
    ----------
    task : Task
        The task, on the device of the run.
    clips : ClipSet
        The training clips.
    recipe : Recipe
        Settings of the run.
    run : Run
        Device and precision.
    out : Path
        The weights file.
    identity : str
        Hash of task and data; a checkpoint with another one is refused.
    resume : bool
        Whether to continue from the checkpoint if there is one. On the CPU, with the same number of
        threads, the results equal those of an uninterrupted run.
    checkpoint_minutes : float
        Minutes between two checkpoints within an epoch.
    progress : callable, optional
        Called with (epoch, batches done, batches, loss of the last batch).
    report : callable, optional
        Called with the metrics of each epoch.

    Returns
    -------
    list of dict
        Metrics of each epoch, in order.

    Raises
    ------
    TrainingError
        If there are too few clips for a batch, the loss is not finite, the checkpoint belongs to
        another run, or a file cannot be written; the last good checkpoint is kept.
    """
    if len(clips) < recipe.batch_size:
        raise TrainingError(
            f"{len(clips)} clips are fewer than one batch of {recipe.batch_size}; add more "
            "recordings or a smaller batch"
        )
    if run.device.type == "cpu":
        keep_freed_memory()
    refuse_taken(out, resume)
    average = Average(task, recipe.average)
    checkpoint = Checkpoint(
        _checkpoint_of(out),
        task,
        _optimizer(task, recipe, run.device),
        average,
        recipe,
        run.device,
        run.dtype,
        identity,
    )
    done = RunState(total=torch.zeros((), device=run.device))
    torch.manual_seed(recipe.seed)
    if resume and checkpoint.path.exists():
        done = checkpoint.restore()
        if done.history and not done.step:
            with average.applied(task):  # in case it ended between checkpoint and weights
                _write_results(task, out, done.history)
    while len(done.history) < recipe.epochs:
        epoch = len(done.history)
        metrics = {
            "epoch": epoch + 1,
            **_epoch(checkpoint, clips, run, done, 60 * checkpoint_minutes, progress),
        }
        started = time.perf_counter()
        with average.applied(task):
            measure_norms(task, _norm_batches(clips, recipe, run, epoch), run.autocast)
            with torch.no_grad():
                metrics["valid"] = task.evaluate(run)
        metrics["valid_seconds"] = round(time.perf_counter() - started, 3)
        if not math.isfinite(metrics["valid"]["loss"]):
            raise TrainingError("the validation loss is not finite; use a lower learning rate")
        done = RunState([*done.history, metrics], total=torch.zeros((), device=run.device))
        with _saving(f"epoch {epoch + 1}"):
            checkpoint.save(done)
            with average.applied(task):
                _write_results(task, out, done.history)
        if report is not None:
            report(metrics)
    return done.history


@contextmanager
def _saving(point: str) -> Iterator[None]:
    """Add advice to errors raised while writing files in a ``with`` block."""
    try:
        yield
    except (OutputError, WeightsError, TrainingError) as error:
        raise TrainingError(
            f"{point} cannot be saved ({error}); the last good checkpoint is intact: "
            "make room and run the same command with --resume"
        ) from error


def _write_results(task: Task, out: Path, history: list[Metrics]) -> None:
    """Write the weights if the last epoch is the best, then log and curves; may be repeated."""
    losses = [h["valid"]["loss"] for h in history]
    if losses[-1] <= min(losses):
        task.export(out, history)
    log = "".join(json.dumps(h) + "\n" for h in history)
    write_bytes(out.with_name(f"{out.stem}.log.jsonl"), log.encode())
    if can_draw():
        draw(history, out.with_name(f"{out.stem}.curves.png"))


def _norm_batches(clips: ClipSet, recipe: Recipe, run: Run, epoch: int) -> Iterator[Batch]:
    # all nights are mixed, whatever the grouping in training; augmentation is the same
    orders = shuffled(clips, recipe.batch_size, 1, recipe.seed, epoch)[:NORM_BATCHES]
    for number, batch in enumerate(run.batches(clips, orders)):
        if not all_finite(batch):  # where no window of a step has reached
            raise not_finite(batch, "a prepared clip")
        yield augment(batch, clips.contract, recipe, epoch, _NORM_STEP + number, whole=True)


def _epoch(
    checkpoint: Checkpoint,
    clips: ClipSet,
    run: Run,
    state: RunState,
    every_s: float,
    progress: Callable[[int, int, int, float], None] | None,
) -> Metrics:
    task, recipe, optimizer = checkpoint.task, checkpoint.recipe, checkpoint.optimizer
    assert isinstance(task, Task)
    epoch = len(state.history)
    task.train()
    orders = of_epoch(clips, recipe, epoch)
    started = data_requested = saved = time.perf_counter()
    earlier_s = state.seconds
    for batch in run.batches(clips, orders[state.step :]):
        state.waited += time.perf_counter() - data_requested
        step = epoch * len(orders) + state.step
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr_at(step, recipe.epochs * len(orders))
        optimizer.zero_grad(set_to_none=True)
        batch = augment(batch, clips.contract, recipe, epoch, state.step)
        with run.autocast():
            loss, step_counts = task.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.optimizer == "adamw":
            nn.utils.clip_grad_norm_(task.parameters(), _CLIP_NORM)
        optimizer.step()
        task.constrain()
        checkpoint.average.update(task, step)
        state.total += loss.detach()
        for name, count in step_counts.items():
            state.counts[name] = state.counts.get(name, torch.zeros(())) + count.detach()
        state.step += 1
        # on a GPU, do not synchronise every step
        if run.device.type == "cpu" or state.step % 20 == 1:
            value = float(loss.detach())
            if not math.isfinite(value):
                raise not_finite(batch, f"the loss of epoch {epoch + 1}")
            if progress is not None:
                progress(epoch + 1, state.step, len(orders), value)
        data_requested = time.perf_counter()
        state.seconds = earlier_s + data_requested - started
        if data_requested - saved > every_s and state.step < len(orders):
            with _saving(f"step {step + 1}"):
                checkpoint.save(state)
            saved = data_requested = time.perf_counter()
    mean = float(state.total) / len(orders)
    if not math.isfinite(mean):
        raise not_finite(batch, f"the loss of epoch {epoch + 1}")
    return {
        "loss": mean,
        **task.train_metrics({k: float(v) for k, v in state.counts.items()}),
        "seconds": round(state.seconds, 3),
        "clips_per_s": round(len(orders) * recipe.batch_size / state.seconds, 2),
        "waiting_for_data": round(state.waited / state.seconds, 4),
    }


def _optimizer(task: Task, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    parameters = [p for p in task.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    name: Optimizer = recipe.optimizer
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, fused=device.type == "cuda")
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9)
