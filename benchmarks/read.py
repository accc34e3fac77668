"""From an EDF file to clips: time and peak memory of this project and of mne.

    python benchmarks/read.py [--hours 8] [--repeat 3]

A recording of 8 h with 13 channels at 512, 256, 25 and 3 Hz is written to a temporary folder. Each
reader cuts it into clips of 30 s at 256 Hz for the nine slots, in its own process: once to warm the
file cache, then --repeat times, of which the fastest counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CHANNELS = {
    "C3-M2": (512, "uV"), "C4-M1": (512, "uV"), "O1-M2": (512, "uV"), "O2-M1": (512, "uV"),
    "E1-M2": (256, "uV"), "E2-M1": (256, "uV"), "ECG": (256, "uV"), "EMG chin": (256, "uV"),
    "Leg": (256, "uV"), "Chest": (25, "V"), "Abdomen": (25, "V"), "SpO2": (3, "%"),
    "Pulse": (3, "bpm"),
}  # fmt: skip
SLOTS = ["C3-M2", "C4-M1", "O1-M2", "O2-M1", "E1-M2", "ECG", "Chest", "SpO2", "Abdomen"]


def write(path: Path, hours: float) -> None:
    """Write noise at each channel's rate, in records of 1 s."""
    import edfio

    rng = np.random.default_rng(0)
    seconds = int(hours * 3600)
    signals = []
    for label, (rate, unit) in CHANNELS.items():
        digital = rng.integers(-3000, 3000, seconds * rate, dtype=np.int16)
        span = (0, 110) if unit == "%" else (-3276.8, 3276.7)
        signals.append(
            edfio.EdfSignal.from_digital(
                digital, rate, label=label, physical_dimension=unit, physical_range=span,
                digital_range=(-32768, 32767),
            )
        )  # fmt: skip
    edfio.Edf(signals, data_record_duration=1).write(path)


def ours(path: Path) -> int:
    """Read, resample and cut with this project."""
    from sleepfm.clips import cut_clips
    from sleepfm.contract import ROBUST
    from sleepfm.recordings import read_recording
    from sleepfm.recordings.channels import match_channels

    recording = read_recording(path)
    return len(cut_clips(recording, match_channels(recording, ROBUST), ROBUST))


def with_mne(path: Path) -> int:
    """Read the same nine channels with mne, resample and cut; no quality, no scaling."""
    import mne

    raw = mne.io.read_raw_edf(path, preload=True, include=SLOTS, verbose="ERROR")
    raw.resample(256, method="polyphase", verbose="ERROR")
    data = raw.get_data()
    clips = data.shape[1] // 7680
    cut = data[:, : clips * 7680].reshape(len(SLOTS), clips, 7680).astype(np.float32)
    return len(cut.transpose(1, 0, 2).copy())


READERS = {"sleepfm": ours, "mne": with_mne}


def one(reader: str, path: Path, repeat: int) -> dict[str, float]:
    """Return the fastest of ``repeat`` runs after a warm-up, and peak memory of the process."""
    clips = READERS[reader](path)
    seconds = []
    for _ in range(repeat):
        begin = time.perf_counter()
        READERS[reader](path)
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"clips": clips, "seconds": round(min(seconds), 3), "peak_mib": round(peak)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--reader", choices=READERS)
    parser.add_argument("--file", type=Path)
    args = parser.parse_args()
    if args.reader:
        print(json.dumps(one(args.reader, args.file, args.repeat)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "night.edf"
        write(path, args.hours)
        result: dict[str, object] = {
            "hours": args.hours,
            "channels": len(CHANNELS),
            "file_mib": round(path.stat().st_size / 2**20),
            "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
            "load": round(os.getloadavg()[0], 2),
        }
        for reader in READERS:
            command = [sys.executable, __file__, "--reader", reader, "--file", str(path)]
            command += ["--repeat", str(args.repeat)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            result[reader] = json.loads(done.stdout)
        times = [result[reader]["seconds"] for reader in ("mne", "sleepfm")]  # type: ignore[index]
        result["times_faster"] = round(times[0] / times[1], 1)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
