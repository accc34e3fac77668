"""Pretraining speed in clips per second: this project and the authors' code.

    python benchmarks/train.py [--steps 4] [--threads 2] [--device cpu]
    python benchmarks/train.py --steps 1 --batch-size 2       shows that it runs

Both train the same encoders leave-one-out on the same drawn clips, each in its own process; reading
the clips counts, the first step does not. The authors' method: one .npy file per clip, torch's
DataLoader, 1-D convolutions, eager float32, SGD, batch 32. This project: the memory-mapped clip
cache, read ahead by a thread, 2-D channels-last kernels, bfloat16 if the processor multiplies it,
and the recipe `short` (AdamW, batch 64). Before the timing, the outputs of the 1-D encoder are
checked against ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from machine import machine
from torch import Tensor, nn
from torch.nn import functional as F

from sleepfm.contract import ROBUST
from sleepfm.encoders.effnet import Conv, EffNet
from sleepfm.encoders.inference import choose_device
from sleepfm.encoders.networks import initialise
from sleepfm.training import loop
from sleepfm.training.batches import ClipSet, in_order
from sleepfm.training.clipcache import CachedRecording, stored_dtype
from sleepfm.training.objectives import contrast
from sleepfm.training.pretrain import Contrastive
from sleepfm.training.recipe import AUTHORS, SHORT, Recipe
from sleepfm.training.task import Run, choose_precision

CHANNELS = {m: len(ROBUST.slots_of(m)) for m in ROBUST.modalities}


class Plain(EffNet):
    """The encoder with 1-D convolutions and batch norms, as in the authors' code."""

    @classmethod
    def of(cls, network: EffNet) -> Plain:
        """Copy a network and its tensors."""
        for module in network.modules():
            if isinstance(module, Conv):
                module.__class__ = nn.Conv1d
            elif isinstance(module, nn.BatchNorm2d):
                module.__class__ = nn.BatchNorm1d
        network.__class__ = cls
        return network  # type: ignore[return-value]

    def forward(self, clips: Tensor) -> Tensor:
        """Return [n, outputs], as :class:`EffNet` does."""
        x = self.b0(self.stage1(clips))
        for number in range(2, 9):
            x = getattr(self, f"stage{number}")(x)
            if number in (3, 6):
                x = F.max_pool1d(x, 3, stride=1, padding=1)
        out: Tensor = self.fc(self.dropout(F.relu(self.stage9(x).mean(dim=2))))
        return out


class OneFileAClip(torch.utils.data.Dataset):
    """Clips of nine channels, one file per clip."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.npy"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> list[np.ndarray]:
        clip = np.load(self.files[index])
        edges = np.cumsum(list(CHANNELS.values()))[:-1]
        return np.split(clip, edges)


class Stopwatch:
    """Records the ends of steps; the first one is a warm-up."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, float, float]] = []

    def step(self, number: int) -> None:
        """Record the end of a step."""
        self.marks.append((number, time.perf_counter(), time.process_time()))

    def result(self, batch: int) -> dict[str, object]:
        """Return clips per second and processor seconds per clip."""
        (first, wall, busy), (last, wall_end, busy_end) = self.marks[0], self.marks[-1]
        clips = (last - first) * batch
        return {
            "batch": batch,
            "clips": clips,
            "clips_per_s": clips / (wall_end - wall),
            "cpu_s_per_clip": (busy_end - busy) / clips,
        }


def theirs(folder: Path, device: torch.device, args: argparse.Namespace) -> dict[str, object]:
    """Time the authors' method."""
    fresh = initialise(ROBUST, ROBUST.modalities, 0)
    probe = torch.randn(1, CHANNELS["ecg"], ROBUST.clip_samples)
    with torch.no_grad():
        expected = fresh["ecg"].eval()(probe)
        networks = {m: Plain.of(n) for m, n in fresh.items()}
        torch.testing.assert_close(networks["ecg"].eval()(probe), expected, rtol=1e-4, atol=1e-4)
    temperature = nn.Parameter(torch.zeros((), device=device))
    parameters = [temperature]
    for network in networks.values():
        parameters += network.train().to(device).parameters()
    optimizer = torch.optim.SGD(parameters, AUTHORS.lr, momentum=0.9)
    loader = torch.utils.data.DataLoader(
        OneFileAClip(folder / "files"), size(AUTHORS, args), shuffle=True, num_workers=args.workers
    )
    watch = Stopwatch()
    for done, batch in enumerate(loader):
        own = zip(networks.values(), batch, strict=True)
        vectors = [F.normalize(n(x.to(device, torch.float32))) for n, x in own]
        loss = contrast("leave-one-out", vectors, temperature).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # their progress bar reads it every step, which waits for the device
        watch.step(done)
    return {"precision": "float32", **watch.result(size(AUTHORS, args))}


def ours(folder: Path, device: torch.device, args: argparse.Namespace) -> dict[str, object]:
    """Time the training loop of this project, by the rate in its log."""
    run = Run(device, choose_precision(device, "auto"))
    # whole clips, as the authors train on, so that both do the same work per clip
    recipe = replace(SHORT, epochs=1, crop_s=None, jitter_s=0.0, batch_size=size(SHORT, args))
    modalities = ROBUST.modalities
    clips, valid = (
        ClipSet([cached(folder / name)], ROBUST, modalities) for name in ("clips", "valid")
    )
    task = Contrastive("leave-one-out", modalities, ROBUST, recipe, valid, {}).to(device)
    if device.type == "cuda":
        task.networks.capture(ROBUST, recipe, run)
    watch = Stopwatch()
    # only the steps are timed: what follows an epoch is cut short
    with mock.patch.object(loop, "measure_norms", lambda task, batches, context: task.eval()):
        out = folder / "weights.safetensors"
        (log,) = loop.fit(
            *(task, clips, recipe, run, out),
            identity="",
            progress=lambda epoch, done, total, loss: watch.step(done),
        )
    found = {
        "precision": str(run.dtype).removeprefix("torch."),
        **watch.result(recipe.batch_size),
        "waiting_for_data": log["waiting_for_data"],
    }
    return found | (
        {"device_busy": busy(task, clips, run, recipe)} if device.type == "cuda" else {}
    )


def busy(task: Contrastive, clips: ClipSet, run: Run, recipe: Recipe) -> float:
    """Return the share of time in which the GPU runs a kernel."""
    from torch.profiler import ProfilerActivity, profile

    orders = in_order(clips, recipe.batch_size)
    torch.cuda.synchronize()
    started = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for batch in run.batches(clips, orders):
            with run.autocast():
                task.loss(batch)[0].backward()
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    kernels = sum(e.self_device_time_total for e in profiled.key_averages())
    return kernels / 1e6 / seconds


def size(recipe: Recipe, args: argparse.Namespace) -> int:
    """Return the batch size: that of --batch-size or of the recipe."""
    return int(args.batch_size or recipe.batch_size)


def write(folder: Path, args: argparse.Namespace) -> None:
    """Write the same noise as one file per clip and as caches."""
    draw = np.random.default_rng(0)
    (folder / "files").mkdir()
    channels = sum(CHANNELS.values())
    for i in range((args.steps + 1) * size(AUTHORS, args)):
        clip = draw.standard_normal((channels, ROBUST.clip_samples), np.float32)
        np.save(folder / "files" / f"{i:05d}.npy", clip)
    sizes = {"clips": (args.steps + 1) * size(SHORT, args), "valid": 2}
    for name, count in sizes.items():
        (folder / name).mkdir()
        for modality, slots in CHANNELS.items():
            shape = (count, slots, ROBUST.clip_samples)
            clips = draw.standard_normal(shape, np.float32).astype(stored_dtype(ROBUST))
            np.save(folder / name / f"{modality}.npy", clips)


def cached(folder: Path) -> CachedRecording:
    """Map a cache as in training."""
    signals = {m: np.load(folder / f"{m}.npy", mmap_mode="r") for m in ROBUST.modalities}
    count = len(signals["ecg"])
    present = {m: np.ones(count, bool) for m in ROBUST.modalities}
    return CachedRecording(folder.name, count, ("UNS",) * count, present, signals)


WAYS = {"theirs": theirs, "ours": ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=4, help="timed steps; on a GPU 40 or more")
    parser.add_argument(
        "--batch-size", type=int, help="default: 32 of the authors, 64 of the recipe"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes of the authors' DataLoader"
    )
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        torch.set_num_threads(args.threads)
        print(json.dumps(WAYS[args.way](args.folder, choose_device(args.device), args)))
        return
    print(f"{machine()}, torch {torch.__version__}, device {args.device}")
    print(f"threads {args.threads}, counted steps {args.steps}, workers {args.workers}")
    found = {}
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), args)
        for way in WAYS:
            before = os.getloadavg()[0]
            words = [sys.executable, __file__, *sys.argv[1:], "--way", way, "--folder", name]
            out = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[way] = json.loads(out.splitlines()[-1])
            figures = ", ".join(
                f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}"
                for k, v in found[way].items()
            )
            print(f"{way:8s} {figures}; load average before it {before:.1f}")
    wall = found["ours"]["clips_per_s"] / found["theirs"]["clips_per_s"]
    spent = found["theirs"]["cpu_s_per_clip"] / found["ours"]["cpu_s_per_clip"]
    print(f"ours is {wall:.2f} times as fast by the clock, {spent:.2f} times by processor time")


if __name__ == "__main__":
    main()
