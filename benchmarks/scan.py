"""Dry run over a cohort: `scan` of many recordings with NSRR scoring in a parallel folder.

    python benchmarks/scan.py [--files 1000] [--workers 2] [--repeat 3]

Writes EDF files of 13 channels and one minute, because `scan` reads only headers, and for each an
XML file of a whole night as from the NSRR, with 960 stages and 300 events. Then times `scan` in one
process and in --workers, in turn, --repeat times; seconds are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

from read import write

EVENT = (
    "<ScoredEvent><EventType>x</EventType><EventConcept>{}</EventConcept><Start>{}</Start>"
    "<Duration>{}</Duration></ScoredEvent>"
)


def scoring() -> str:
    """Return the scoring of one night in the NSRR format."""
    stages = ["Wake|0", "Stage 1 sleep|1", "Stage 2 sleep|2", "Stage 3 sleep|3", "REM sleep|5"]
    rows = [EVENT.format(stages[i // 40 % 5], 30.0 * i, 30.0) for i in range(960)]
    kinds = ["Hypopnea|Hypopnea", "SpO2 desaturation|SpO2 desaturation", "Arousal|Arousal ()"]
    rows += [EVENT.format(kinds[i % 3], 90.0 * i + 7, 15.5) for i in range(300)]
    return f"<PSGAnnotation><ScoredEvents>{''.join(rows)}</ScoredEvents></PSGAnnotation>"


def main() -> None:
    """Write the cohort, scan it, and print a line of JSON."""
    from sleepfm.scan import scan

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        signals, scoring_folder = Path(folder, "edfs"), Path(folder, "annotations-events-nsrr")
        signals.mkdir()
        scoring_folder.mkdir()
        write(signals / "n0000.edf", 1 / 60)
        text = scoring()
        for i in range(args.files):
            if i:
                shutil.copy(signals / "n0000.edf", signals / f"n{i:04d}.edf")
            (scoring_folder / f"n{i:04d}-nsrr.xml").write_text(text)
        scan([signals / "n0000.edf"])  # imports
        seconds: dict[int, list[float]] = {1: [], args.workers: []}
        processor_seconds = []
        for _ in range(args.repeat):
            for workers in sorted(seconds):
                begun, worked = time.perf_counter(), time.process_time()
                found = scan([signals], workers=workers)
                seconds[workers].append(time.perf_counter() - begun)
                if workers == 1:
                    processor_seconds.append(time.process_time() - worked)
        result = {
            "files": len(found.files),
            "scored": sum(bool(f.scored_epochs) for f in found.files),
            "seconds_by_workers": {n: round(median(s), 2) for n, s in seconds.items()},
            "processor_seconds_in_one_process": round(median(processor_seconds), 2),
            "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
            "load": round(os.getloadavg()[0], 2),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
