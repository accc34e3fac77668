"""Evaluation of weights on simulated people: decoding of the truth, geometry and retrieval.

    sleepfm-index simulate test --subjects 84 --hours 0.5 --seed 4242 --excerpts --truth
    python experiments/decode_truth.py test --weights demo my.safetensors

Per modality: Pearson's r between true values of a clip and a ridge regression on the vectors
(fitted to every second recording, tested on the others), macro AUROC of stages likewise, effective
rank and uniformity; per direction recall@1 and recall@10 among all clips (`others` is the mean of
the two other vectors of a clip, as in leave-one-out). `--slots C3-M2 FLOW`
empties the other slots of their modalities, as in a recording with one EEG lead and one airflow.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection
from itertools import permutations
from pathlib import Path
from typing import Any

import needs
import numpy as np
from numpy.typing import NDArray

from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import load_weights
from sleepfm.stages import SCORED
from sleepfm.training.clipcache import prepare_clips
from sleepfm.training.geometry import decode, effective_rank, stage_auroc, uniformity
from sleepfm_index.evaluation.retrieval.ranks import true_ranks
from sleepfm_index.truth import read_truth

LOGARITHMS = ("rr_mean_s", "rr_sd_s", "breath_hz", "breath_depth")
PLAIN = ("movement", "sleep_depth", "infraslow", "tone")


def measure(
    folder: Path, name: str, each: int, cache: Path, slots: Collection[str] = ()
) -> dict[str, Any]:
    """Print the tables of one set of weights, and return their values."""
    known_truth = folder / "truth.parquet"
    if not known_truth.exists():
        sys.exit(f"there is no {known_truth}: sleepfm-index simulate {folder} --truth makes one")
    truth = read_truth(known_truth)
    weights = load_weights(name)
    encoder = Encoder(weights, "cpu", backend="auto")
    recordings = prepare_clips([folder], cache, weights.contract).recordings

    def only(signals: NDArray[np.float32], modality: str) -> NDArray[np.float32]:
        names = weights.contract.slots_of(modality)
        if not set(slots) & set(names):
            return signals
        return signals * np.isin(names, list(slots))[:, None].astype(np.float32)

    rows = [np.linspace(0, r.count - 1, min(each, r.count)).astype(int) for r in recordings]
    pairs = list(zip(recordings, rows, strict=True))
    vectors = {
        m: np.concatenate(
            [
                encoder.encode(m, only(np.asarray(r.signals[m][own], np.float32), m))
                for r, own in pairs
            ]
        )
        for m in weights.modalities
    }
    owner = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
    stage = np.concatenate([np.array(r.stage)[own] for r, own in pairs])
    one_hot = np.stack([stage == s for s in SCORED], axis=1).astype(float)

    def column(key: str) -> NDArray[np.float64]:
        return np.concatenate([truth[r.recording_id][key][own] for r, own in pairs]).astype(float)

    known = {k: np.log(np.maximum(column(k), 1e-3)) for k in LOGARITHMS}
    known |= {k: column(k) for k in PLAIN}
    print(f"\n{name}: {len(owner):,} clips of {len(rows)} recordings\n")
    names = (*known, "stages, AUROC", "effective rank", "uniformity")
    print("| | " + " | ".join(names) + " |\n|---" + "|---" * len(names) + "|")
    figures: dict[str, Any] = {"weights": name, "clips": len(owner), "recordings": len(rows)}
    for modality, own in vectors.items():
        found = decode(own, known, owner)
        found |= {"stage_auroc": stage_auroc(own, one_hot, owner)}
        found |= {"effective_rank": effective_rank(own), "uniformity": uniformity(own)}
        figures[modality] = found
        cells = [f"{found[k]:.3f}" if k in found else "-" for k in known]
        cells += [f"{found['stage_auroc']:.3f}", f"{found['effective_rank']:.1f}"]
        print(f"| {modality} | " + " | ".join([*cells, f"{found['uniformity']:.2f}"]) + " |")
    print(f"\n| | recall@1 | recall@10 (chance {10 / len(owner):.4f}) |\n|---|---|---|")
    directions = {f"{a} -> {b}": (vectors[a], vectors[b]) for a, b in permutations(vectors, 2)}
    for name in vectors if len(vectors) > 2 else ():
        others = np.mean([own for m, own in vectors.items() if m != name], axis=0)
        directions[f"{name} -> others"] = (vectors[name], others)
    for direction, (queries, targets) in directions.items():
        rank = true_ranks(queries, targets)
        first, ten = float((rank == 1).mean()), float((rank <= 10).mean())
        figures[direction] = {"recall_at_1": first, "recall_at_10": ten}
        print(f"| {direction} | {first:.4f} | {ten:.4f} |")
    mean = [np.mean([figures[d][r] for d in directions]) for r in ("recall_at_1", "recall_at_10")]
    print(f"| mean of {len(directions)} | {mean[0]:.4f} | {mean[1]:.4f} |")
    return figures


def main() -> None:
    """Measure each set of weights."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of simulate --truth")
    parser.add_argument("--weights", nargs="+", default=["demo"])
    parser.add_argument("--clips", type=int, default=24, help="of each recording")
    parser.add_argument("--cache", type=Path, default=Path("decode-truth"))
    parser.add_argument(
        "--slots", nargs="+", default=[], help="the only filled slots of their modalities"
    )
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    figures = [
        measure(args.folder, name, args.clips, args.cache, args.slots) for name in args.weights
    ]
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    needs.run(main)
