"""Time from an EDF file to a committed store for one night, compared with the authors' steps.

    python benchmarks/night.py [--hours 8] [--repeat 3] [--threads N] [--rates uniform-200-Hz]

A simulated night of 13 channels is written twice: all channels at 200 Hz, and at 512, 256, 25 and
3 Hz. Both methods encode it with the same weights under the authors' contract (whole-record FFT
resampling, no scaling), alternately, each in its own process. The authors' steps are: mne reads and
resamples, one .npy file is written per clip, and a DataLoader of batch 32 feeds 1-D convolutions in
eager float32. Their vectors are not stored.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import machine
from read import CHANNELS

from sleepfm.contract import ICML2024, ROBUST
from sleepfm.encoders.load import load_weights, untrained
from sleepfm.encoders.weights import Weights
from sleepfm.resources import cores

CLIP = 7680
SLOT_OF = {"Chest": "CHEST", "SpO2": "SaO2", "Abdomen": "ABD"}
LABEL_OF = {SLOT_OF.get(label, label): label for label in CHANNELS}
BATCH = 32
LEAST = 0.999


def write_night(path: Path, hours: float, uniform: bool, seed: int = 0) -> None:
    """Write a simulated night under the labels and at the rates of a recorder with 13 channels."""
    import edfio
    import soxr

    from sleepfm.simulate.night import render_night, simulate_night

    epochs = int(hours * 120)
    signals = render_night(simulate_night(seed, 1, epochs))
    rng = np.random.default_rng(seed)
    channels = []
    for label, (own, unit) in CHANNELS.items():
        rate = 200 if uniform else own
        slot = SLOT_OF.get(label, label)
        count = epochs * 30 * rate
        if slot in signals:
            drawn = signals[slot]
            gain = 1000 if drawn.unit == "mV" else 1
            x = gain * soxr.resample(drawn.samples, drawn.rate, rate)[:count]
            x = np.pad(x, (0, count - len(x)), mode="edge")
        else:
            x = 10 * rng.standard_normal(count)
        if unit == "V":
            unit, x = "uV", 100 * x / max(np.abs(x).max(), 1e-9)
        low, high = (0.0, 110.0) if unit == "%" else (-3276.8, 3276.7)
        digital = np.clip(np.rint((x - low) / (high - low) * 65535 - 32768), -32768, 32767)
        channels.append(
            edfio.EdfSignal.from_digital(
                digital.astype(np.int16), rate, label=label, physical_dimension=unit,
                physical_range=(low, high), digital_range=(-32768, 32767),
            )
        )  # fmt: skip
    edfio.Edf(channels, data_record_duration=1).write(path)


def authors_weights() -> Weights:
    """Return untrained encoders whose contract is the authors'."""
    drawn = untrained()
    return Weights("bench", False, ICML2024, {}, 0.0, drawn.tensors)


def ours(night: Path, folder: Path, threads: int) -> dict[str, object]:
    """Build a store of one night; return seconds by phase."""
    import sleepfm_index

    notices: list[str] = []
    start = time.perf_counter()
    report = sleepfm_index.build(
        folder / "store", [night], weights=str(night.parent / "bench.safetensors"),
        threads=threads, notice=notices.append,
    )  # fmt: skip
    whole = time.perf_counter() - start
    (outcome,) = report.outcomes
    phases = dict(outcome.seconds)
    phases["else (weights, check, index)"] = whole - sum(phases.values())
    with sleepfm_index.open(folder / "store") as store:
        ids = np.arange(outcome.clips)
        vectors = {m: store.vectors.of(ids, m)[0] for m in ROBUST.modalities}
    np.savez(folder / "vectors.npz", **vectors)
    return {"seconds": whole, "phases": phases, "said": " ".join(notices)}


def theirs(night: Path, folder: Path, threads: int) -> dict[str, object]:
    """Process a night by the authors' steps; return seconds by phase."""
    import mne
    import torch
    from torch.nn import functional as F
    from train import Plain

    from sleepfm.encoders.networks import build

    torch.set_num_threads(threads)
    weights = load_weights(night.parent / "bench.safetensors")
    networks = {m: Plain.of(build(weights, m)).eval() for m in ROBUST.modalities}
    order = [LABEL_OF[slot] for m in ROBUST.modalities for slot in ICML2024.slots_of(m)]
    edges = np.cumsum([len(ICML2024.slots_of(m)) for m in ROBUST.modalities])[:-1]
    marks = [time.perf_counter()]
    raw = mne.io.read_raw_edf(night, preload=True, verbose="ERROR")
    marks.append(time.perf_counter())
    raw.resample(256, verbose="ERROR")
    marks.append(time.perf_counter())
    data = raw.get_data(picks=order)
    gain = np.array([655.35 if label == "SpO2" else 1e6 for label in order])[:, None]
    offset = np.array([-32768.0 if label == "SpO2" else 0.0 for label in order])[:, None]
    (folder / "clips").mkdir()
    count = data.shape[1] // CLIP
    for i in range(count):
        clip = data[:, i * CLIP : (i + 1) * CLIP] * gain + offset
        np.save(folder / "clips" / f"{i:05d}.npy", clip.astype(np.float32))
    marks.append(time.perf_counter())
    loader = torch.utils.data.DataLoader(_Files(folder / "clips"), BATCH, num_workers=0)
    found: dict[str, list[np.ndarray]] = {m: [] for m in ROBUST.modalities}
    with torch.no_grad():
        for batch in loader:
            for m, x in zip(
                ROBUST.modalities, torch.tensor_split(batch, edges.tolist(), 1), strict=True
            ):
                found[m].append(F.normalize(networks[m](x)).numpy())
    marks.append(time.perf_counter())
    np.savez(folder / "vectors.npz", **{m: np.concatenate(v) for m, v in found.items()})
    names = ("read (mne)", "resample (mne, FFT)", "one .npy a clip", "encode (eager float32)")
    phases = dict(zip(names, np.diff(marks).tolist(), strict=True))
    return {"seconds": marks[-1] - marks[0], "phases": phases, "said": "torch eager float32"}


class _Files:
    """The clips of a folder, one file per clip."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.npy"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.load(self.files[index])


WAYS = {"ours": ours, "theirs": theirs}
RATES = ("uniform-200-Hz", "mixed-rates")


def one(way: str, night: Path, threads: int, repeat: int) -> None:
    """Time one method in this process on request, and print a line of JSON each time."""
    work = night.parent / way
    work.mkdir(exist_ok=True)
    for i in range(repeat):
        sys.stdin.readline()
        folder = work / f"{night.stem}-{i}"
        folder.mkdir()
        clock, used = time.perf_counter(), time.process_time()
        result = WAYS[way](night, folder, threads)
        clock, used = time.perf_counter() - clock, time.process_time() - used
        result["busy"] = used / clock / threads
        result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        result["vectors"] = str(folder / "vectors.npz")
        print(json.dumps(result), flush=True)


def compare(night: Path, args: argparse.Namespace) -> None:
    """Time both methods in turn and print the table."""
    children = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, "--night", str(night)]
        command += ["--threads", str(args.threads), "--repeat", str(args.repeat)]
        children[way] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    runs: dict[str, list[dict]] = {way: [] for way in WAYS}
    for _ in range(args.repeat):
        for way, child in children.items():
            child.stdin.write("\n")
            child.stdin.flush()
            runs[way].append(json.loads(child.stdout.readline()))
    for child in children.values():
        child.communicate()  # closes its pipes and waits
    # The first run of a process also imports, loads and checks; it is reported separately.
    later = {way: own[1:] or own for way, own in runs.items()}
    seconds = {w: statistics.median(r["seconds"] for r in own) for w, own in later.items()}
    a, b = (np.load(runs[way][-1]["vectors"]) for way in WAYS)
    cosines = {m: np.sum(a[m] * b[m], 1) / np.linalg.norm(a[m], axis=1)
               for m in ROBUST.modalities}  # fmt: skip
    print(f"\n### {night.stem}: {night.stat().st_size / 2**20:,.0f} MiB, {len(a['ecg'])} clips\n")
    print("| way | phase | s |\n|---|---|---|")
    for way, own in runs.items():
        for phase in own[0]["phases"]:
            took = statistics.median(r["phases"][phase] for r in later[way])
            print(f"| {way} | {phase} | {took:.2f} |")
        peak = max(r["peak_mib"] for r in own)
        first = own[0]["seconds"]
        busy = statistics.median(r["busy"] for r in later[way])
        print(f"| **{way}** | **all** (first run {first:.2f}, peak {peak:,.0f} MiB, "
              f"threads busy {busy:.0%}; {own[0]['said']}) | **{seconds[way]:.2f}** |")  # fmt: skip
    least = ", ".join(f"{m} {c.min():.5f} (mean {c.mean():.5f})" for m, c in cosines.items())
    print(f"\n{seconds['theirs'] / seconds['ours']:.1f} times as fast; least cosine: {least}")
    for m, c in cosines.items():
        if c.min() < LEAST:
            print(f"{m}: clips with a cosine below {LEAST}: {np.flatnonzero(c < LEAST).tolist()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hours", type=float, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--rates", nargs="+", choices=RATES, default=RATES, help="default: both")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--night", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        one(args.way, args.night, args.threads, args.repeat)
        return
    print(f"{machine()}; {args.threads} threads; load average {os.getloadavg()[0]:.1f}; "
          f"{args.hours:g} h, 13 channels, {args.repeat} runs")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        authors_weights().save(Path(name) / "bench.safetensors")
        for kind in args.rates:
            night = Path(name) / f"{kind}.edf"
            write_night(night, args.hours, kind.startswith("uniform"))
            compare(night, args)
            night.unlink()


if __name__ == "__main__":
    main()
