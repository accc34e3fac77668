"""Encoding speed in clips per second: the authors' code, tuned torch, and OpenVINO.

    python benchmarks/encode.py [--clips 192] [--repeat 5] [--threads N] [--weights untrained]
    python benchmarks/encode.py --sweep         # OpenVINO by batch size
    python benchmarks/encode.py --clips 2 --repeat 1 --ways "torch tuned f32" "OpenVINO f32"

Clips are those of a simulated night. Each method runs in its own process and waits while another is
timed, so that methods do not change each other's memory or threads. Speeds are medians of --repeat
rounds. The cosine is the minimum over all clips between the vectors of a method and those of the
authors' code (eager float32, 1-D convolutions, separate batch norms, batch 32), or of the first
method of --ways. The peak is the fastest matrix product of torch in the same precision, measured in
the same run. OpenVINO in bfloat16 needs a processor with bfloat16 arithmetic, and is left out on
others.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
from machine import machine

from sleepfm.encoders.load import load_weights
from sleepfm.encoders.reference import check_clips
from sleepfm.encoders.weights import Weights
from sleepfm.errors import WeightsError
from sleepfm.resources import cores

Run = Callable[[str, np.ndarray], np.ndarray]
BATCH = 32


def eager(weights: Weights, threads: int) -> Run:
    """Run the encoders as in the authors' code."""
    import torch
    from train import Plain

    from sleepfm.encoders.networks import build

    torch.set_num_threads(threads)
    networks = {m: Plain.of(build(weights, m)).eval() for m in weights.modalities}

    def run(modality: str, clips: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            batches = torch.from_numpy(clips).split(BATCH)
            return torch.cat([networks[modality](batch) for batch in batches]).numpy()

    return run


def tuned(weights: Weights, threads: int, kind: str = "f32") -> Run:
    """Run them channels-last with folded batch norms, kept memory and optionally bfloat16."""
    from sleepfm.encoders.on_torch import on_torch
    from sleepfm.malloc import keep_freed_memory

    keep_freed_memory()
    return on_torch(weights, "cpu", kind, threads).run


def on_openvino(
    weights: Weights, threads: int, half: bool, batch: int | None = None, whole: bool = False
) -> Run:
    """Run them on OpenVINO; ``whole``: the early part in bfloat16 too."""
    from sleepfm.encoders.on_openvino import OpenVINO

    class Whole(OpenVINO):
        def _options(self, half: bool) -> dict[str, object]:
            return super()._options(True)

    return (Whole if whole else OpenVINO)(weights, half, threads, batch).run


def gemm(threads: int, kind: str) -> float:
    """Return the speed of the fastest of several matrix products, in GFLOP/s."""
    import torch

    torch.set_num_threads(threads)
    n = 2048
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / min(seconds) / 1e9


WAYS: dict[str, tuple[str, Callable[[Weights, int], Run]]] = {
    "torch eager, as the authors": ("f32", eager),
    "torch tuned f32": ("f32", tuned),
    "torch tuned bf16": ("bf16", lambda w, t: tuned(w, t, "bf16")),
    "OpenVINO f32": ("f32", lambda w, t: on_openvino(w, t, False)),
    "OpenVINO bf16": ("bf16", lambda w, t: on_openvino(w, t, True)),
    "OpenVINO bf16 throughout": ("bf16", lambda w, t: on_openvino(w, t, True, whole=True)),
}
SWEEP: dict[str, tuple[str, Callable[[Weights, int], Run]]] = {
    f"OpenVINO {kind}, batch {size}": (
        kind,
        lambda w, t, kind=kind, size=size: on_openvino(w, t, kind == "bf16", size),
    )
    for kind in ("f32", "bf16")
    for size in (1, 2, 4, 8, 16, 32)
}


def serve(name: str, ways: str, weights: str, count: int, threads: int, pipe: Connection) -> None:
    """Time requests from a pipe until it ends; first send the vectors, or why there are none."""
    loaded = load_weights(weights)
    kind, make = (SWEEP if ways == "sweep" else WAYS)[name]
    try:
        run = make(loaded, threads)
    except WeightsError as error:
        pipe.send(str(error))
        return
    clips = {}
    for m in loaded.modalities:
        own = check_clips(loaded, m)
        clips[m] = np.resize(own, (count, *own.shape[1:]))
    pipe.send({m: run(m, clips[m]) for m in clips})
    while (request := pipe.recv()) is not None:
        if request == "gemm":
            pipe.send(gemm(threads, kind))
            continue
        start = time.perf_counter()
        run(request, clips[request])
        pipe.send(time.perf_counter() - start)


def gflop(weights: Weights, modality: str) -> float:
    """Count multiplications and additions per clip, as torch counts them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from train import Plain

    from sleepfm.encoders.networks import build

    slots = len(weights.contract.slots_of(modality))
    network = Plain.of(build(weights, modality))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, slots, weights.contract.clip_samples))
    return counter.get_total_flops() / 1e9


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the minimum cosine between two sets of vectors, row by row."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / lengths).min())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=192)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--weights", default="untrained")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--ways", nargs="+", choices=WAYS, help="methods; default: all")
    args = parser.parse_args()
    weights = load_weights(args.weights)
    work = {m: gflop(weights, m) for m in weights.modalities}
    print(f"{machine()}; {args.threads} threads; load average {os.getloadavg()[0]:.1f}")
    counted = ", ".join(f"{m} {g:.3f}" for m, g in work.items())
    print(f"{args.clips} clips, median of {args.repeat} rounds; GFLOP a clip: {counted}\n")
    ways = dict(SWEEP if args.sweep else {name: WAYS[name] for name in args.ways or WAYS})
    context = multiprocessing.get_context("spawn")
    pipes, vectors = {}, {}
    for name in ways:
        pipes[name], theirs = context.Pipe()
        words = (name, "sweep" if args.sweep else "", args.weights, args.clips, args.threads)
        context.Process(target=serve, args=(*words, theirs), daemon=True).start()
        theirs.close()
        answer = pipes[name].recv()
        if isinstance(answer, str):
            print(f"left out: {name}: {answer}")
            del pipes[name]
        else:
            vectors[name] = answer
    ways = {name: ways[name] for name in vectors}
    if not ways:
        sys.exit("no method can run on this machine")
    seconds: dict[tuple[str, str], list[float]] = {}
    peaks: dict[str, list[float]] = {"f32": [], "bf16": []}
    for _ in range(args.repeat):
        for name, (kind, _) in ways.items():
            for modality in weights.modalities:
                pipes[name].send(modality)
                seconds.setdefault((name, modality), []).append(pipes[name].recv())
            pipes[name].send("gemm")
            peaks[kind].append(pipes[name].recv())
    for pipe in pipes.values():
        pipe.send(None)
    report(weights, work, vectors, seconds, {k: max(v, default=0) for k, v in peaks.items()}, args)


def report(
    weights: Weights,
    work: dict[str, float],
    vectors: dict[str, dict[str, np.ndarray]],
    seconds: dict[tuple[str, str], list[float]],
    peaks: dict[str, float],
    args: argparse.Namespace,
) -> None:
    """Print the table."""
    ways = {name: (SWEEP if args.sweep else WAYS)[name] for name in vectors}
    columns = [*(f"{m} clips/s" for m in weights.modalities), "all three", "x first", "cosine"]
    print(f"| {'':28s} | " + " | ".join(columns) + " | share of peak |")
    print("|---" * (len(columns) + 2) + "|")
    first = next(iter(ways))
    totals = {}
    for name, (kind, _) in ways.items():
        median = {m: statistics.median(seconds[name, m]) for m in weights.modalities}
        totals[name] = sum(median.values())
        rates = [f"{args.clips / median[m]:,.0f}" for m in weights.modalities]
        least = min(cosine(vectors[name][m], vectors[first][m]) for m in weights.modalities)
        share = args.clips * sum(work.values()) / totals[name] / peaks[kind]
        cells = [
            *rates,
            f"{args.clips / totals[name]:,.0f}",
            f"{totals[first] / totals[name]:.2f}",
        ]
        print(f"| {name:28s} | " + " | ".join(cells) + f" | {least:.5f} | {share:.0%} |")
    listed = ", ".join(f"{kind} {peak:,.0f} GFLOP/s" for kind, peak in peaks.items() if peak)
    print(
        f"\nPeak of a matrix product: {listed}. Load average at the end {os.getloadavg()[0]:.1f}."
    )


if __name__ == "__main__":
    main()
