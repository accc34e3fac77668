"""The training loop, for any task: steps, precision, checkpoints, resumption, log."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from sleepfm.atomic_write import write_bytes
from sleepfm.contract import Contract
from sleepfm.errors import OutputError, TrainingError, WeightsError
from sleepfm.malloc import keep_freed_memory
from sleepfm.training.batches import Batch, ClipSet, Order, shuffled
from sleepfm.training.curves import can_draw, draw
from sleepfm.training.norms import NORM_BATCHES, measure_norms
from sleepfm.training.recipe import Optimizer, Recipe
from sleepfm.training.task import Metrics, Run, Task

_VERSION: Final = 1
_CLIP_NORM: Final = 1.0
_TIMINGS: Final = ("seconds", "valid_seconds", "clips_per_s", "waiting_for_data")


def refuse_taken(out: Path, resume: bool) -> None:
    """Refuse to write where a run has written, unless it is to go on.

    Raises
    ------
    TrainingError
        If its checkpoint or, without one, its weights are there.
    """
    checkpoint = _checkpoint_of(out)
    if checkpoint.exists() and not resume:
        raise TrainingError(
            f"{checkpoint.name} is there already; go on with it by --resume, or name another --out."
        )
    if out.exists() and not checkpoint.exists():
        raise TrainingError(
            f"{out.name} is there already, without a checkpoint to go on from; name another --out."
        )


def _checkpoint_of(out: Path) -> Path:
    return out.with_name(f"{out.stem}.checkpoint.pt")


def record_at_end(record: Metrics, history: list[Metrics]) -> Metrics:
    """Give a training record with the last epoch's metrics; timings are left out."""
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
    progress: Callable[[int, int, int, float], None] | None = None,
    report: Callable[[Metrics], None] | None = None,
) -> list[Metrics]:
    """Train a task and write what came of it.

    Beside ``out`` lie, from the end of the first epoch on, ``<stem>.checkpoint.pt``, replaced
    atomically every epoch, ``<stem>.log.jsonl``, one line an epoch, and, where matplotlib is there,
    ``<stem>.curves.png``. ``out`` itself holds the epoch with the lowest validation loss. Before
    every validation the batch norms are measured afresh (:mod:`sleepfm.training.norms`).

    Parameters
    ----------
    task : Task
        On the device already.
    clips : ClipSet
        To train on.
    recipe, run
        How, and where.
    out : Path
        The weights file.
    identity : str
        Hash of task and data; a checkpoint of another one is refused.
    resume : bool
        Go on from the checkpoint if there is one. On the CPU, and with the same number of threads,
        the numbers are those of an unbroken run.
    progress : callable, optional
        Called with (epoch, batches done, batches, loss of the last one).
    report : callable, optional
        Called with the metrics of each epoch.

    Returns
    -------
    list of dict
        Metrics of every epoch.

    Raises
    ------
    TrainingError
        If there are too few clips for a batch, the loss is not finite, the checkpoint is of another
        run, or a file cannot be written; the last good checkpoint is left as it was.
    """
    if len(clips) < recipe.batch_size:
        raise TrainingError(
            f"{len(clips)} clips are fewer than one batch of {recipe.batch_size}; "
            "give more recordings or a smaller batch."
        )
    if run.device.type == "cpu":
        keep_freed_memory()
    refuse_taken(out, resume)
    optimizer = _optimizer(task, recipe)
    checkpoint = _checkpoint_of(out)
    history: list[Metrics] = []
    torch.manual_seed(recipe.seed)
    if resume and checkpoint.exists():
        history = _restore(checkpoint, task, optimizer, recipe, run, identity)
        _publish(task, out, history)  # it may have been killed between checkpoint and weights
    for epoch in range(len(history), recipe.epochs):
        metrics = {
            "epoch": epoch + 1,
            **_epoch(task, clips, recipe, run, optimizer, epoch, progress),
        }
        started = time.perf_counter()
        measure_norms(task, run.batches(clips, _for_norms(clips, recipe, epoch)), run.autocast)
        with torch.no_grad():
            metrics["valid"] = task.evaluate(run)
        metrics["valid_seconds"] = round(time.perf_counter() - started, 3)
        if not math.isfinite(metrics["valid"]["loss"]):
            raise TrainingError("The validation loss is not finite; use a lower learning rate.")
        history.append(metrics)
        try:
            _save(checkpoint, task, optimizer, recipe, run, identity, history)
            _publish(task, out, history)
        except (OutputError, WeightsError, TrainingError) as error:
            raise TrainingError(
                f"Epoch {epoch + 1} cannot be saved ({error}) The last good checkpoint is intact; "
                "make room and run the same command with --resume."
            ) from error
        if report is not None:
            report(metrics)
    return history


def _publish(task: Task, out: Path, history: list[Metrics]) -> None:
    """Write weights if the last epoch is the best, then log and curves; twice gives the same."""
    losses = [h["valid"]["loss"] for h in history]
    if losses[-1] <= min(losses):
        task.export(out, history)
    log = "".join(json.dumps(h) + "\n" for h in history)
    write_bytes(out.with_name(f"{out.stem}.log.jsonl"), log.encode())
    if can_draw():
        draw(history, out.with_name(f"{out.stem}.curves.png"))


def _for_norms(clips: ClipSet, recipe: Recipe, epoch: int) -> list[Order]:
    # all nights mixed, whatever the batches of training are
    return shuffled(clips, recipe.batch_size, 1, recipe.seed, epoch)[:NORM_BATCHES]


def _epoch(
    task: Task,
    clips: ClipSet,
    recipe: Recipe,
    run: Run,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    progress: Callable[[int, int, int, float], None] | None,
) -> Metrics:
    task.train()
    orders = shuffled(clips, recipe.batch_size, recipe.together, recipe.seed, epoch)
    counts: dict[str, Tensor] = {}
    total = torch.zeros((), device=run.device)
    waited = 0.0
    started = ready = time.perf_counter()
    for done, batch in enumerate(run.batches(clips, orders)):
        waited += time.perf_counter() - ready
        rate = recipe.lr_at(epoch * len(orders) + done, recipe.epochs * len(orders))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        if recipe.crop_s is not None:
            batch = batch.window(*_crop(recipe, clips.contract, epoch, done))
        with run.autocast():
            loss, own = task.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.optimizer == "adamw":
            nn.utils.clip_grad_norm_(task.parameters(), _CLIP_NORM)
        optimizer.step()
        task.constrain()
        total += loss.detach()
        for name, count in own.items():
            counts[name] = counts.get(name, 0) + count.detach()
        if run.device.type == "cpu" or done % 20 == 0:  # a GPU is not made to wait for every step
            value = float(loss.detach())
            if not math.isfinite(value):
                raise _not_finite(batch, epoch)
            if progress is not None:
                progress(epoch + 1, done + 1, len(orders), value)
        ready = time.perf_counter()
    mean = float(total) / len(orders)
    seconds = time.perf_counter() - started
    if not math.isfinite(mean):
        raise _not_finite(batch, epoch)
    return {
        "loss": mean,
        **task.train_metrics({k: float(v) for k, v in counts.items()}),
        "seconds": round(seconds, 3),
        "clips_per_s": round(len(orders) * recipe.batch_size / seconds, 2),
        "waiting_for_data": round(waited / seconds, 4),
    }


def _crop(recipe: Recipe, contract: Contract, epoch: int, step: int) -> tuple[int, int]:
    """Draw the window of one step, a function of seed, epoch and step, in samples."""
    assert recipe.crop_s is not None
    length = min(round(recipe.crop_s * contract.sample_rate), contract.clip_samples)
    draw = np.random.default_rng((recipe.seed, epoch, step))
    start = int(draw.integers(contract.clip_samples - length + 1))
    return start, start + length


def _not_finite(batch: Batch, epoch: int) -> TrainingError:
    if not all(bool(x.isfinite().all()) for x in batch.signals.values()):
        why = "Prepared clips hold NaN or infinity; remove the clip cache and start again."
    else:
        why = (
            f"The loss of epoch {epoch + 1} is not finite; look at the clips' scaling, or use a "
            "lower learning rate."
        )
    return TrainingError(f"{why} The last good checkpoint is intact.")


def _optimizer(task: Task, recipe: Recipe) -> torch.optim.Optimizer:
    trained = [p for p in task.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind: Optimizer = recipe.optimizer
    if kind == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9)


def _save(
    path: Path,
    task: Task,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    run: Run,
    identity: str,
    history: list[Metrics],
) -> None:
    state = {
        "version": _VERSION,
        "identity": identity,
        "recipe": recipe.to_json(),
        "dtype": str(run.dtype),
        "task": task.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state(run.device) if run.device.type == "cuda" else None,
        "history": json.dumps(history),
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def _restore(
    path: Path,
    task: Task,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    run: Run,
    identity: str,
) -> list[Metrics]:
    try:
        state = torch.load(path, map_location=run.device, weights_only=True)
        version = state["version"]
    except Exception as error:  # torch raises many kinds over a damaged file
        raise TrainingError(f"{path.name} is damaged; remove it to start anew.") from error
    if version != _VERSION:
        raise TrainingError(f"{path.name} is of another version of this program.")
    differ = recipe.differences(state["recipe"])
    if state["dtype"] != str(run.dtype):
        differ.append("precision")
    if differ:
        raise TrainingError(
            f"{path.name} is of a run with another {', '.join(differ)}; resume with the same "
            "settings, or name another --out."
        )
    if state["identity"] != identity:
        raise TrainingError(
            f"{path.name} is of a run on other data, or of another kind; name another --out."
        )
    task.load_state_dict(state["task"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"].cpu())
    if state["random_cuda"] is not None and run.device.type == "cuda":
        torch.cuda.set_rng_state(state["random_cuda"].cpu(), run.device)
    history: list[Metrics] = json.loads(state["history"])
    return history
