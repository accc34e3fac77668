"""Pretraining speed, clips a second through all three encoders: this project and the authors' way.

Theirs: one .npy file a clip, torch's DataLoader, 1-D convolutions, eager float32, SGD, batch 32.
Ours: the memory-mapped clip cache, loading ahead in a thread, 2-D channels-last kernels, bfloat16
where the processor multiplies it, and the recipe `short` (AdamW, batch 64). Both train the same
encoders leave-one-out on the same drawn clips, loading included, each in a process of its own; the
first step of each is not counted. The 1-D encoder is checked against ours before it is timed.

    python benchmarks/train.py [--steps 4] [--threads 2] [--device cpu]
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
from sleepfm.modality import Modality
from sleepfm.training import loop
from sleepfm.training.batches import ClipSet, in_order
from sleepfm.training.clipcache import CachedRecording, stored_dtype
from sleepfm.training.loop import Run, choose_precision
from sleepfm.training.objectives import contrast
from sleepfm.training.pretrain import Contrastive
from sleepfm.training.recipe import AUTHORS, SHORT

CHANNELS = {m: len(ROBUST.slots_of(m)) for m in Modality}


class Plain(EffNet):
    """The encoder with 1-D convolutions and batch norms, as the authors run it."""

    @classmethod
    def of(cls, network: EffNet) -> Plain:
        """Take over a network and its tensors."""
        for module in network.modules():
            if isinstance(module, Conv):
                module.__class__ = nn.Conv1d
            elif isinstance(module, nn.BatchNorm2d):
                module.__class__ = nn.BatchNorm1d
        network.__class__ = cls
        return network  # type: ignore[return-value]

    def forward(self, clips: Tensor) -> Tensor:
        """Give [n, outputs], as :class:`EffNet` does."""
        x = self.b0(self.stage1(clips))
        for number in range(2, 9):
            x = getattr(self, f"stage{number}")(x)
            if number in (3, 6):
                x = F.max_pool1d(x, 3, stride=1, padding=1)
        out: Tensor = self.fc(self.dropout(F.relu(self.stage9(x).mean(dim=2))))
        return out


class OneFileAClip(torch.utils.data.Dataset):
    """Clips of nine channels, each read from a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.npy"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> list[np.ndarray]:
        clip = np.load(self.files[index])
        edges = np.cumsum(list(CHANNELS.values()))[:-1]
        return np.split(clip, edges)


def theirs(folder: Path, device: torch.device, workers: int) -> dict[str, object]:
    """Time the authors' way."""
    fresh = initialise(ROBUST, Modality, 0)
    probe = torch.randn(1, CHANNELS[Modality.ECG], ROBUST.clip_samples)
    with torch.no_grad():
        expected = fresh[Modality.ECG].eval()(probe)
        networks = {m: Plain.of(n) for m, n in fresh.items()}
        torch.testing.assert_close(
            networks[Modality.ECG].eval()(probe), expected, rtol=1e-4, atol=1e-4
        )
    temperature = nn.Parameter(torch.zeros((), device=device))
    parameters = [temperature]
    for network in networks.values():
        parameters += network.train().to(device).parameters()
    optimizer = torch.optim.SGD(parameters, AUTHORS.lr, momentum=0.9)
    loader = torch.utils.data.DataLoader(
        OneFileAClip(folder / "files"), AUTHORS.batch_size, shuffle=True, num_workers=workers
    )
    started = 0.0
    for done, batch in enumerate(loader):
        own = zip(networks.values(), batch, strict=True)
        vectors = [F.normalize(n(x.to(device, torch.float32))) for n, x in own]
        loss = contrast("leave-one-out", vectors, temperature).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # their progress bar reads it every step, which waits for the device
        if not done:
            started = time.perf_counter()
    rate = done * AUTHORS.batch_size / (time.perf_counter() - started)
    return {"batch": AUTHORS.batch_size, "precision": "float32", "clips_per_s": rate}


def ours(folder: Path, device: torch.device, workers: int) -> dict[str, object]:
    """Time this project's loop, whose own log gives the rate."""
    run = Run(device, choose_precision(device, "auto"))
    recipe = replace(SHORT, epochs=1)
    modalities = tuple(Modality)
    warm, counted, valid = (
        ClipSet([cached(folder / name)], ROBUST, modalities)
        for name in ("warm", "counted", "valid")
    )
    # the rate in the log is that of the steps alone: validation is cut short
    with mock.patch.object(loop, "measure_norms", lambda task, batches, context: task.eval()):
        for name, clips in (("warm", warm), ("counted", counted)):
            task = Contrastive("leave-one-out", modalities, ROBUST, recipe, valid, {}).to(device)
            (last,) = loop.fit(
                task, clips, recipe, run, folder / f"{name}.safetensors", identity=""
            )
    precision = str(run.dtype).removeprefix("torch.")
    return {
        "batch": recipe.batch_size,
        "precision": precision,
        "clips_per_s": last["clips_per_s"],
        "waiting_for_data": last["waiting_for_data"],
    } | ({"device_busy": busy(task, warm, run)} if device.type == "cuda" else {})


def busy(task: Contrastive, clips: ClipSet, run: Run) -> float:
    """Share of the time of some steps in which the GPU runs a kernel."""
    from torch.profiler import ProfilerActivity, profile

    orders = in_order(clips, SHORT.batch_size) * 20
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


def write(folder: Path, steps: int) -> None:
    """Write the same kind of noise once as files of a clip each, once as caches."""
    draw = np.random.default_rng(0)
    (folder / "files").mkdir()
    channels = sum(CHANNELS.values())
    for i in range((steps + 1) * AUTHORS.batch_size):
        clip = draw.standard_normal((channels, ROBUST.clip_samples), np.float32)
        np.save(folder / "files" / f"{i:05d}.npy", clip)
    sizes = {"warm": SHORT.batch_size, "counted": steps * SHORT.batch_size, "valid": 2}
    for name, count in sizes.items():
        (folder / name).mkdir()
        for modality, slots in CHANNELS.items():
            shape = (count, slots, ROBUST.clip_samples)
            clips = draw.standard_normal(shape, np.float32).astype(stored_dtype(ROBUST))
            np.save(folder / name / f"{modality}.npy", clips)


def cached(folder: Path) -> CachedRecording:
    """Map a cache as training does."""
    signals = {m: np.load(folder / f"{m}.npy", mmap_mode="r") for m in Modality}
    count = len(signals[Modality.ECG])
    present = {m: np.ones(count, bool) for m in Modality}
    return CachedRecording(folder.name, count, ("UNS",) * count, present, signals)


WAYS = {"theirs": theirs, "ours": ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=4, help="steps that are counted")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes of their DataLoader")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        torch.set_num_threads(asked.threads)
        print(json.dumps(WAYS[asked.way](asked.folder, choose_device(asked.device), asked.workers)))
        return
    print(f"{machine()}, torch {torch.__version__}, device {asked.device}")
    print(f"threads {asked.threads}, counted steps {asked.steps}, workers {asked.workers}")
    rates = {}
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), asked.steps)
        for way in WAYS:
            before = os.getloadavg()[0]
            words = [sys.executable, __file__, *sys.argv[1:], "--way", way, "--folder", name]
            out = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
            found = json.loads(out.splitlines()[-1])
            rates[way] = found["clips_per_s"]
            figures = ", ".join(
                f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items()
            )
            print(f"{way:8s} {figures}; load average before it {before:.1f}")
    print(f"ours / theirs: {rates['ours'] / rates['theirs']:.2f}")


if __name__ == "__main__":
    main()
