"""Whether the heart in the EEG is what EEG and ECG share: retrieval with it subtracted.

    python experiments/measure_truth.py RECORDINGS --channels channels.yaml --out truth.parquet
    python experiments/heart_lesion.py RECORDINGS --subjects subjects.csv --channels channels.yaml \
        --truth truth.parquet --weights NAME ...

RECORDINGS are those of real_nights.py. What a FIR filter of +-0.16 s predicts of the EEG from the
same recording's ECG, by least squares, is subtracted from the EEG as the contract prepares it; in
the sham arm it is predicted from the ECG of another person, which removes as much as a filter of
this length removes by chance. Per arm: recall@10 between EEG and ECG among the person's clips, the
paired difference from the EEG as recorded, mean and 95 % t interval over people; and Pearson's r of
the heart rate with a ridge regression on the EEG's vectors, fitted on every second person and
tested on the others (no interval).

If retrieval goes by the heart in the EEG, it falls to chance without it and not in the sham arm.
What remains is not thereby shown to be brain activity: a filter does not remove everything.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, Final

import needs
import numpy as np
import torch
from numpy.typing import NDArray
from real_nights import read
from real_nights_measures import Clips, Floats, K, interval
from real_questions import difference
from scipy.linalg import lstsq

from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import load_weights
from sleepfm.encoders.weights import Weights
from sleepfm.training.geometry import decode
from sleepfm_index.truth import read_truth

LAG_S: Final = 0.16
PAIRS: Final = (("bas", "ecg"), ("ecg", "bas"))


def without(eeg: Floats, ecg: Floats, rate: int) -> tuple[Floats, float]:
    """Subtract what a FIR filter predicts of each EEG slot from the ECG.

    Parameters
    ----------
    eeg : ndarray of float, shape [clips, slots, samples]
        Prepared signals; empty slots stay empty.
    ecg : ndarray of float, shape [clips, 1, samples]
        Prepared ECG, as long.
    rate : int
        Samples per second.

    Returns
    -------
    rest : ndarray of float32, shape [clips, slots, samples]
        What is left of the EEG.
    share : float
        Share of the EEG's variance that was subtracted.
    """
    rest = np.asarray(eeg, np.float32).copy()
    heart = np.asarray(ecg, np.float64)[:, 0].ravel()
    lags = range(-round(LAG_S * rate), round(LAG_S * rate) + 1)
    design = np.stack([np.roll(heart, lag) for lag in lags] + [np.ones_like(heart)], axis=1)
    before = after = 0.0
    for slot in range(rest.shape[1]):
        own = rest[:, slot].astype(np.float64).ravel()
        if own.any():
            left = own - design @ lstsq(design, own, lapack_driver="gelsy")[0]
            before, after = before + float(own.var()), after + float(left.var())
            rest[:, slot] = left.reshape(rest[:, slot].shape)
    return rest, 1 - after / before if before else 0.0


def recall(clips: Clips, asking: Floats, candidates: Floats) -> list[float]:
    """Return recall@10 per person among the person's clips."""
    found = []
    for person in clips.fold:
        own = clips.person == person
        scores = asking[own] @ candidates[own].T
        found.append(float(((scores >= scores.diagonal()[:, None]).sum(axis=1) <= K).mean()))
    return found


def arms(clips: Clips, rate: int) -> dict[str, tuple[list[Floats], float]]:
    """Return the EEG of every recording in each arm, and the median share of variance removed."""
    eeg = [r.signals["bas"] for r in clips.recordings]
    ecg = [r.signals["ecg"] for r in clips.recordings]
    first = np.cumsum([0, *(r.count for r in clips.recordings)])[:-1]
    person = clips.person[first]
    other = [
        next(ecg[j % len(ecg)] for j in range(i + 1, i + len(ecg)) if person[j % len(ecg)] != own)
        for i, own in enumerate(person)
    ]
    as_long = [x[np.arange(len(y)) % len(x)] for x, y in zip(other, eeg, strict=True)]
    found: dict[str, tuple[list[Floats], float]] = {"as recorded": (eeg, 0.0)}
    for name, hearts in (("own ECG subtracted", ecg), ("sham, another person's ECG", as_long)):
        pairs = [without(x, heart, rate) for x, heart in zip(eeg, hearts, strict=True)]
        found[name] = [rest for rest, _ in pairs], float(np.median([share for _, share in pairs]))
    return found


def measure(
    name: str, weights: Weights, clips: Clips, rr: NDArray[np.floating]
) -> dict[str, dict[str, Any]]:
    """Print the table of one set of weights, and return its values."""
    number = np.unique(clips.person, return_inverse=True)[1]
    encoder = Encoder(weights, "cpu")

    def encoded(modality: str, signals: list[Floats]) -> Floats:
        return np.concatenate(
            [encoder.encode(modality, np.asarray(x, np.float32)) for x in signals]
        )

    ecg = encoded("ecg", [r.signals["ecg"] for r in clips.recordings])
    sizes = [int((clips.person == p).sum()) for p in clips.fold]
    chance = np.mean([min(1.0, K / n) for n in sizes])
    print(f"\n{name}: {len(clips.person):,} clips of {len(sizes)} people, chance {chance:.3f}\n")
    print("| EEG | variance removed | recall@10, bas->ecg | difference | ecg->bas | difference "
          "| heart rate, r |\n" + "|---" * 7 + "|")  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for arm, (eeg, share) in arms(clips, weights.contract.sample_rate).items():
        vectors = {"bas": encoded("bas", eeg), "ecg": ecg}
        own: dict[str, Any] = {f"{a}->{b}": recall(clips, vectors[a], vectors[b]) for a, b in PAIRS}
        own["variance_removed"] = share
        own["heart_rate_r"] = decode(vectors["bas"], {"rr": rr}, number).get("rr", float("nan"))
        found[arm] = own
        cells = []
        for a, b in PAIRS:
            key = f"{a}->{b}"
            changes = np.subtract(own[key], found["as recorded"][key]).tolist()
            cells += [interval(own[key]), difference(changes)[0] if any(changes) else ""]
        print(f"| {arm} | {share:.1%} | {' | '.join(cells)} | {own['heart_rate_r']:.2f} |")
    return found


def main() -> None:
    """Measure each set of weights."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--subjects", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--weights", nargs="+", required=True)
    parser.add_argument("--channels", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("real-nights"))
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--nice", type=int, default=19, help="19: the lowest priority")
    parser.add_argument("--out", type=Path, help="write the measures per person as JSON")
    args = parser.parse_args()
    os.nice(args.nice)
    if args.threads:
        torch.set_num_threads(args.threads)
    truth = read_truth(args.truth)
    figures = {}
    for name in args.weights:
        weights = load_weights(name)
        clips = read(args, weights.contract)
        known = [truth[r.recording_id]["rr_mean_s"] for r in clips.recordings]
        pairs = zip(known, clips.recordings, strict=True)
        rr = np.log(np.concatenate([values[: r.count] for values, r in pairs]))
        figures[name] = measure(name, weights, clips, rr)
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    needs.run(main)
