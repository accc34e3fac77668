"""Training steps and encoding on a GPU: with and without CUDA graphs, and against the CPU.

    python benchmarks/gpu.py                                # on a machine with a GPU
    python benchmarks/gpu.py --device cpu --clips 8 --batch 2 --steps 1 --warm-up 1

Clips are noise of the contract `sleepfm-index-body`. A training step is one of the recipe `body`
(leave-one-out with regression, augmentation, clipping of gradients, AdamW, moving average, windows
of 15 s) and includes loading of its batch; milliseconds are means over --steps steps after
--warm-up others. Encoding is of whole clips with the weights `demo`; the cosine is the minimum over
256 clips between the vectors of the GPU and of the CPU. The second command shows that it runs.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from machine import machine

from sleepfm.contract import BODY as CONTRACT
from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import load_weights
from sleepfm.training.augment import augment
from sleepfm.training.averaging import Average
from sleepfm.training.batches import ClipSet, of_epoch
from sleepfm.training.clipcache import CachedRecording, stored_dtype
from sleepfm.training.contrastive import Contrastive
from sleepfm.training.physiology import NAMES
from sleepfm.training.recipe import BODY
from sleepfm.training.task import Run


def noise(count: int) -> ClipSet:
    """Draw clips with all slots, with regression targets."""
    draw = np.random.default_rng(0)
    signals = {
        m: draw.standard_normal(
            (count, len(CONTRACT.slots_of(m)), CONTRACT.clip_samples), np.float32
        ).astype(stored_dtype(CONTRACT))
        for m in CONTRACT.modalities
    }
    present = {m: np.ones(count, bool) for m in CONTRACT.modalities}
    recording = CachedRecording("noise", count, ("UNS",) * count, present, signals)
    targets = {"noise": draw.standard_normal((count, len(NAMES)), np.float32)}
    return ClipSet([recording], CONTRACT, CONTRACT.modalities, targets=targets)


def step_seconds(clips: ClipSet, args: argparse.Namespace, run: Run, graphs: bool) -> float:
    """Return the mean duration of a training step, in seconds."""
    epoch_clips = args.batch * (args.steps + args.warm_up)
    recipe = replace(BODY, batch_size=args.batch, epoch_clips=epoch_clips)
    task = Contrastive("leave-one-out", CONTRACT.modalities, CONTRACT, recipe, clips, {})
    assert clips.targets is not None
    task.add_regression(clips.targets)
    task.to(run.device).train()
    if graphs:
        task.networks.capture(CONTRACT, recipe, run)
    fused = run.device.type == "cuda"
    optimizer = torch.optim.AdamW(task.parameters(), lr=recipe.lr, fused=fused)
    average = Average(task, recipe.average)
    started = 0.0
    for number, loaded in enumerate(run.batches(clips, of_epoch(clips, recipe, 0))):
        if number == args.warm_up:
            synchronize(run)
            started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with run.autocast():
            loss, _ = task.loss(augment(loaded, CONTRACT, recipe, 0, number))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        task.constrain()
        average.update(task, number)
    synchronize(run)
    return (time.perf_counter() - started) / args.steps


def synchronize(run: Run) -> None:
    """Wait for the GPU."""
    if run.device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--clips", type=int, default=16_384)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=60, help="timed steps")
    parser.add_argument("--warm-up", type=int, default=10, help="steps before these")
    args = parser.parse_args()
    gpu = args.device == "cuda"
    name = torch.cuda.get_device_name() if gpu else args.device
    print(f"{machine()}, torch {torch.__version__}, {name}\n")
    clips = noise(args.clips)
    print("| precision | CUDA graphs | ms per step | clips/s |\n|---|---|---|---|")
    for dtype in (torch.float32, torch.bfloat16) if gpu else (torch.float32,):
        for graphs in (False, True) if gpu else (False,):
            run = Run(torch.device(args.device), dtype)
            seconds = step_seconds(clips, args, run, graphs)
            kind = str(dtype).removeprefix("torch.")
            print(
                f"| {kind} | {'yes' if graphs else 'no'} | {1000 * seconds:.1f} "
                f"| {args.batch / seconds:,.0f} |"
            )
    weights = load_weights("demo")
    encoder, reference = Encoder(weights, args.device), Encoder(weights, "cpu")
    print("\n| encoding | clips/s | lowest cosine with the CPU |\n|---|---|---|")
    draw = np.random.default_rng(1)
    for modality in weights.modalities:
        shape = (args.clips // 4, len(CONTRACT.slots_of(modality)), CONTRACT.clip_samples)
        signals = draw.standard_normal(shape, np.float32)
        vectors = encoder.encode(modality, signals)
        started = time.perf_counter()
        encoder.encode(modality, signals)
        rate = len(signals) / (time.perf_counter() - started)
        expected = reference.encode(modality, signals[:256])
        cosine = (vectors[:256] * expected).sum(axis=1).min()
        print(f"| {modality} | {rate:,.0f} | {cosine:.6f} |")


if __name__ == "__main__":
    main()
