"""Real EEG: sleep stages by the vectors of an encoder, compared with band power.

    python experiments/real_eeg.py FOLDER [--weights NAME ...]

FOLDER holds nights of the St Vincent's database (PhysioNet ucddb) as ucddbNNN.npz: `eeg_int16 *
scale` is one EEG channel [clips, 3840] at `fs` Hz, `epoch` the clip's place in the night in 30 s,
`stage` its label, `flat` marks dead clips. Two tasks, each by a linear probe and by k-NN:

1. W against N3 over all nights, leaving one subject out at a time.
2. Five stages inside night 018, leaving one block of time out at a time.

Every arm sees the same clips: an encoder (the channel fills the slot C3-M2, the other four are
empty), and plain band power.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sleepfm.cohort_choices import NO_CHOICES
from sleepfm.contract import Contract
from sleepfm.recordings.recording import Channel, Recording
from sleepfm.recordings.scoring.vocabulary import Scoring
from sleepfm_index.evaluation.labels.labels import STAGES, Labels
from sleepfm_index.evaluation.metrics.assessment import Predictions, class_rows
from sleepfm_index.evaluation.models.knn import votes
from sleepfm_index.evaluation.models.neighbour_search import nearest
from sleepfm_index.evaluation.models.recipe import Recipe
from sleepfm_index.evaluation.models.train_test import learn

BANDS = {"delta": (0.5, 4), "theta": (4, 8), "alpha": (8, 12), "sigma": (12, 16), "beta": (16, 30)}
BLOCKS = 8
K = 20


@dataclass(frozen=True)
class Night:
    """One night: name, scaled EEG [clips, samples], its rate in Hz, places, and labels."""

    name: str
    eeg: NDArray[np.float32]
    rate: int
    epoch: NDArray[np.int64]
    stage: NDArray[np.str_]
    dead: int


def read_night(path: Path) -> Night:
    """Read a night, scaled by median and interquartile range of the clips with a signal."""
    with np.load(path) as file:
        alive = ~file["flat"]
        eeg = file["eeg_int16"][alive] * np.float32(file["scale"])
        low, middle, high = np.percentile(eeg, [25, 50, 75])
        eeg = np.clip((eeg - middle) / ((high - low) / 1.349), -20, 20).astype(np.float32)
        return Night(
            path.stem.removeprefix("ucddb"),
            eeg,
            int(file["fs"]),
            file["epoch"][alive].astype(np.int64),
            file["stage"][alive],
            int((~alive).sum()),
        )


def band_power(night: Night) -> NDArray[np.float32]:
    """Log power of five bands, by Welch over 4 s windows, float32 [clips, 5]."""
    from scipy.signal import welch

    frequency, density = welch(night.eeg, night.rate, nperseg=4 * night.rate, axis=1)
    powers = [density[:, (frequency >= a) & (frequency < b)].sum(axis=1) for a, b in BANDS.values()]
    return np.log10(np.stack(powers, axis=1) + 1e-12).astype(np.float32)


def clips_of(night: Night, contract: Contract) -> NDArray[np.float32]:
    """Prepare clips as ``build`` does, with one EEG channel, float32 [clips, slots, samples]."""
    samples = np.full((night.epoch.max() + 1, night.eeg.shape[1]), np.nan, np.float32)
    samples[night.epoch] = night.eeg
    channel = Channel("C3-M2", night.rate, "", samples.reshape(-1).copy)
    recording = Recording(
        sources=(Path(night.name),),
        format="npz",
        duration_s=len(samples) * contract.clip_seconds,
        start_clock_s=None,
        channels=(channel,),
        scoring=Scoring(),
    )
    return NO_CHOICES.cut(recording, contract)[1].signals["bas"][night.epoch]


def labelled(nights: Iterable[Night], classes: tuple[str, ...]) -> Labels:
    """Labels of all clips of the nights that are of the classes; clip ids count all clips."""
    nights = list(nights)
    stage = np.concatenate([n.stage for n in nights])
    subject = np.repeat(np.arange(len(nights)), [len(n.stage) for n in nights])
    code = np.array([classes.index(s) if s in classes else -1 for s in stage])
    rows = np.flatnonzero(code >= 0)
    names = tuple(n.name for n in nights)
    return Labels("stage", "", rows, code[rows], classes, subject[rows], names, {})


def by_probe(x: NDArray[np.float32], labels: Labels, part: NDArray[np.int64]) -> Predictions:
    """Predict each part by a probe fitted to the other parts."""
    scores = np.empty((len(labels), len(labels.classes)))
    converged = True
    for held_out in np.unique(part):
        test = part == held_out
        fitted = learn(
            Recipe(), lambda rows: x[labels.clip_ids[rows]], labels, np.flatnonzero(~test)
        )
        scores[test] = fitted.predict(x[labels.clip_ids[test]])
        converged &= fitted.converged
    return predictions("probe" + ("" if converged else " (not converged)"), labels, scores)


def by_votes(x: NDArray[np.float32], labels: Labels, part: NDArray[np.int64]) -> Predictions:
    """Predict each clip by its nearest clips of other parts, by cosine."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    vectors = unit[labels.clip_ids]
    rows, scores = nearest(vectors, part, lambda r: vectors[r], part, K)
    return predictions(f"{K} neighbours", labels, votes(labels, rows, scores, weighted=True))


def predictions(name: str, labels: Labels, scores: NDArray[np.float64]) -> Predictions:
    """Combine the predictions of all clips."""
    return Predictions(
        name, labels.classes, labels.values, scores, labels.subjects, labels.clip_ids
    )


def show(title: str, lines: list[tuple[str, Predictions]]) -> None:
    """Print a Markdown table, the best macro AUROC of each method marked."""
    print(f"\n### {title}\n")
    print("| features | by | AUROC | AUPRC | F1 | kappa |\n|---|---|---|---|---|---|")
    rows = [(arm, prediction, class_rows(prediction)) for arm, prediction in lines]
    for arm, prediction, (macro, *_) in rows:
        cells = " | ".join(between(macro, n) for n in ("auroc", "auprc", "f1", "kappa"))
        print(f"| {arm} | {prediction.features} | {cells} |")
    for method in dict.fromkeys(prediction.features.split(" (")[0] for _, prediction, _ in rows):
        ranking = [
            (r[0]["auroc"], arm)
            for arm, prediction, r in rows
            if prediction.features.startswith(method)
        ]
        print(f"\nBest AUROC by {method}: {max(ranking)[1]}.")
    counts = ", ".join(f"{r['class']} {r['clips']}" for r in rows[0][2][1:])
    print(f"\nClips tested: {counts}.")


def between(row: dict[str, object], name: str) -> str:
    """Write a measure and its interval."""
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")


def main() -> None:
    """Read the nights, compute all features, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", nargs="*", default=["untrained"])
    args = parser.parse_args()
    files = sorted(args.folder.glob("ucddb*.npz"))
    if not files:
        print(f"skipped: no ucddb*.npz in {args.folder}; see docs/evaluation.md", file=sys.stderr)
        return
    nights = [read_night(path) for path in files]
    arms = {"band power (5 log powers)": standardised([band_power(n) for n in nights])}
    for name in args.weights:
        short = Path(name).name.removesuffix(".safetensors")
        arms[name if short in arms else short] = encoded(nights, name)
    one = labelled(nights, ("W", "N3"))
    dead = sum(n.dead for n in nights)
    print(f"{len(nights)} nights, {len(one)} clips of W and N3; {dead} dead clips left out.")
    lines = [
        (arm, by(x, one, one.subjects)) for by in (by_probe, by_votes) for arm, x in arms.items()
    ]
    show("W against N3, one subject left out at a time", lines)
    at = [n.name for n in nights].index("018") if any(n.name == "018" for n in nights) else None
    if at is None:
        print("\nskipped: five stages need night 018, which is not there", file=sys.stderr)
        return
    five = labelled(nights, STAGES)
    five = five.take(five.subjects == at)
    block = np.arange(len(five)) * BLOCKS // len(five)
    lines = [(arm, by(x, five, block)) for by in (by_probe, by_votes) for arm, x in arms.items()]
    show(f"Five stages of night 018, one of {BLOCKS} blocks of time left out at a time", lines)


def standardised(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Standardise every feature over all nights, for the cosine similarity of k-NN."""
    x = np.concatenate(parts)
    return (x - x.mean(axis=0)) / x.std(axis=0)


def encoded(nights: list[Night], name: str) -> NDArray[np.float32]:
    """Encode all clips with the BAS encoder of some weights, in the precision of a store."""
    from sleepfm.encoders.inference import Encoder
    from sleepfm.encoders.load import load_weights

    weights = load_weights(name)
    if "bas" not in weights.tensors or "C3-M2" not in weights.contract.slots_of("bas"):
        sys.exit(f"{name} has no bas encoder with a slot C3-M2; name other weights")
    encoder = Encoder(weights)
    parts = []
    for night in nights:
        print(f"encoding {night.name} with {name}", file=sys.stderr)
        parts.append(encoder.encode("bas", clips_of(night, weights.contract)))
    # a store has float16 vectors; differences below its resolution are rounding errors
    return np.concatenate(parts).astype(np.float16).astype(np.float32)


if __name__ == "__main__":
    main()
