"""Validation metrics with running and with recomputed batch-norm statistics.

    python benchmarks/norms.py [--recipe short] [--epochs 3] [--hours 0.5] [--batch-size 32]

A model is trained on simulated nights at 64 Hz, which is fast, and validated in both ways after
every epoch. Spread is the mean squared distance of the validation clips' unit vectors from their
mean, averaged over the modalities; it is 0 if all clips have the same vector.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from machine import machine

from sleepfm.contract import ROBUST
from sleepfm.simulate import simulate_cohort
from sleepfm.training import loop, norms
from sleepfm.training.batches import Batch, in_order
from sleepfm.training.pretrain import Contrastive, Data, pretrain
from sleepfm.training.recipe import RECIPES
from sleepfm.training.task import Run

RUN = Run(torch.device("cpu"), torch.float32)


def show(task: Contrastive, statistics: str) -> None:
    """Print the metrics of the task in its current state."""
    with torch.no_grad():
        found = task.evaluate(RUN)
        (batch,) = RUN.batches(task._valid, in_order(task._valid, len(task._valid)))
        vectors = task.encode(batch)
    spread = sum(float((v - v.mean(0)).square().sum(1).mean()) for v in vectors) / len(vectors)
    own = found["gallery"].values()
    recall = sum(g["recall_at_10"] for g in own) / len(own)
    chance = 10 / len(task._valid)
    print(
        f"  {statistics:16s} validation loss {found['loss']:.4f}, recall@10 {recall:.4f} "
        f"(chance {chance:.4f}), spread {spread:.5f}",
        flush=True,
    )


def twice(
    task: Contrastive, batches: Iterable[Batch], context: Callable[[], AbstractContextManager[None]]
) -> None:
    """Measure the norms, and print the effect."""
    task.eval()
    show(task, "running averages")
    norms.measure_norms(task, batches, context)
    show(task, "measured afresh")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", choices=RECIPES, default="short")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    recipe = replace(
        RECIPES[args.recipe],
        epochs=args.epochs,
        batch_size=args.batch_size,
        crop_s=None,
        jitter_s=0.0,
    )
    print(f"{machine()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name, mock.patch.object(loop, "measure_norms", twice):
        nights = simulate_cohort(Path(name) / "nights", subjects=7, hours=args.hours)
        data = Data(
            nights,
            fractions={"pretrain": 0.7, "valid": 0.3},
            contract=replace(ROBUST, sample_rate=64),
            cache=Path(name) / "clips",
        )
        print(f"{args.recipe}: 5 nights of {args.hours:g} h to train on, 2 to validate on")
        pretrain(
            data, Path(name) / "w.safetensors", recipe=recipe, device="cpu", precision="float32"
        )


if __name__ == "__main__":
    main()
