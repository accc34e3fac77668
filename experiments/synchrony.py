"""How much retrieval between modalities depends on their being cut at the same moment.

    python experiments/synchrony.py RECORDINGS [--weights demo] [--channels channels.yaml]
    python experiments/synchrony.py RECORDINGS --later 0.4 2 5

Clips of one modality are cut some tenths of a second later than those of the others, which changes
neither rate nor stage nor event of a clip, but the time of its heart beats; some seconds later also
changes the time of its breaths. Each direction is measured with queries as they are and with later
queries: recall@10 among all clips, and recall@1 among the clips of the same recording. What is lost
was matched by simultaneity: two clips whose beats happen to fall at the same times are near each
other, whoever they are of.
"""

from __future__ import annotations

import argparse
import sys
from itertools import permutations
from pathlib import Path

import needs
import numpy as np
from numpy.typing import NDArray

from sleepfm.cohort_choices import NO_CHOICES
from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import load_weights
from sleepfm.encoders.weights import Weights
from sleepfm.training.clipcache import CachedRecording, prepare_clips


def main() -> None:
    """Measure each set of weights."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--weights", nargs="+", default=["demo"])
    parser.add_argument("--later", type=float, nargs="+", default=[0.4], help="seconds")
    parser.add_argument("--clips", type=int, default=24, help="of each recording")
    parser.add_argument("--channels", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("synchrony"))
    args = parser.parse_args()
    if args.clips < 1:
        parser.error("--clips must be at least 1")
    for name in args.weights:
        weights = load_weights(name)
        if not all(0 < later <= weights.contract.clip_seconds for later in args.later):
            parser.error(f"--later must be above 0 and at most {weights.contract.clip_seconds:g} s")
        measure(args, name, weights)


def measure(args: argparse.Namespace, name: str, weights: Weights) -> None:
    """Print the table of one set of weights."""
    contract = weights.contract
    choices = NO_CHOICES.updated(contract, channels=args.channels)
    prepared = prepare_clips(args.recordings, args.cache, contract, choices=choices)
    chosen = [
        (r, np.unique(np.linspace(0, r.count - 2, args.clips).astype(int)))
        for r in prepared.recordings
        if r.count > 2 and set(weights.modalities) <= set(r.signals)
    ]
    if not chosen:
        sys.exit(f"no recording has three clips of {', '.join(weights.modalities)}")
    encoder = Encoder(weights, "cpu", backend="auto")

    def vectors(modality: str, by: int) -> NDArray[np.float32]:
        return np.concatenate(
            [encoder.encode(modality, cut(r, modality, rows, by)) for r, rows in chosen]
        )

    shifts = [0.0, *args.later]
    queries = {
        (m, shift): vectors(m, round(shift * contract.sample_rate))
        for m in weights.modalities
        for shift in shifts
    }
    owner = np.repeat(np.arange(len(chosen)), [len(rows) for _, rows in chosen])
    own = float(np.mean([1 / len(rows) for _, rows in chosen]))
    print(f"\n{name}: {len(owner):,} clips of {len(chosen)} recordings\n")
    after = [f"queries {later:g} s later" for later in args.later]
    columns = ("", f"recall@10 (chance {10 / len(owner):.3f})", *after)
    columns += (f"within a recording, recall@1 (chance {own:.3f})", *after)
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    rows = []
    for a, b in permutations(weights.modalities, 2):
        found = [recall(queries[a, shift], queries[b, 0.0], owner) for shift in shifts]
        rows.append([ten for ten, _ in found] + [one for _, one in found])
        print(f"| {a} -> {b} | {' | '.join(f'{value:.3f}' for value in rows[-1])} |")
    print(f"| **mean** | {' | '.join(f'{value:.3f}' for value in np.mean(rows, axis=0))} |")
    for later in args.later:
        cosines = (
            f"{m} {np.vecdot(queries[m, 0.0], queries[m, later]).mean():.2f}"
            for m in weights.modalities
        )
        print(f"\ncosine of a clip with itself {later:g} s later, mean: {', '.join(cosines)}")


def cut(
    recording: CachedRecording, modality: str, rows: NDArray[np.int64], by: int
) -> NDArray[np.float32]:
    """Cut clips ``by`` samples later, float32 [n, slots, samples]; none may be the last clip."""
    signals = np.asarray(recording.signals[modality], np.float32)
    count, slots, length = signals.shape
    whole = signals.transpose(1, 0, 2).reshape(slots, count * length)
    starts = rows * length + by
    return np.stack([whole[:, start : start + length] for start in starts.tolist()])


def recall(
    queries: NDArray[np.float32], targets: NDArray[np.float32], owner: NDArray[np.int64]
) -> tuple[float, float]:
    """Return recall@10 among all clips, and recall@1 among those of the same recording."""
    scores = queries @ targets.T
    own = scores.diagonal()[:, None]
    inside = np.where(owner[:, None] == owner, scores, -np.inf)
    return float(((scores >= own).sum(1) <= 10).mean()), float(((inside >= own).sum(1) == 1).mean())


if __name__ == "__main__":
    needs.run(main)
