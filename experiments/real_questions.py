"""The open questions of the paper on the real nights of slpdb, as far as 12 people go.

    python experiments/real_questions.py records --subjects subjects.csv --channels channels.yaml \
        --weights warm.safetensors

RECORDINGS are those of real_nights.py, and so are the four folds of three people and the measures.
--weights are where every training starts; they must not have seen these people. In each fold every
arm goes on from them for the same number of steps on people of the other folds, and is measured on
the fold's three people:

1. people: on 1, 2, 4 or 8 people with leave-one-out; slope of recall@10 over log2 of the people;
2. objectives: on 8 people, pairwise minus leave-one-out; recall@10;
4. sharing: on 8 people, leave-one-out with 0.3 of SimCLR within each modality minus without;
   AUROC of apnea from ECG, and beside it stages from BAS and recall@10.

Question 3 needs two leads of one night, which these recordings do not have. What of question 4
needs no training, whether the heart in the EEG is what is shared, is in heart_lesion.py.

Means and 95 % t intervals are over people, differences are paired by person, p is adjusted for the
three questions (Holm). One training per arm and fold: the luck of a training is in no interval.
With 12 people, of whom all are men with apnea, everything here is underpowered.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from plain_features import CanonicalCorrelation
from real_nights import PLAIN, plain, read
from real_nights_measures import FOLDS, Clips, Floats, interval, probe, probe_apnea, retrieve
from scipy.stats import t as student

from sleepfm.choices import Objective
from sleepfm.cohort_choices import NO_CHOICES
from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import load_weights
from sleepfm.encoders.seen import Seen
from sleepfm.encoders.weights import Weights
from sleepfm.training.pretrain import Data, pretrain
from sleepfm.training.recipe import SHORT
from sleepfm_index.evaluation.metrics.intervals import holm

SIZES: Final = (1, 2, 4, 8)
PLAIN_ARM: Final = "leave-one-out, 8 people"


@dataclass(frozen=True)
class Arm:
    """One training configuration of every fold."""

    name: str
    people: int = max(SIZES)
    objective: Objective = "leave-one-out"
    within: float = 0.0


ARMS: Final = (
    *(Arm(f"leave-one-out, {n} people", n) for n in SIZES),
    Arm("pairwise, 8 people", objective="pairwise"),
    Arm("leave-one-out + within 0.3, 8 people", within=0.3),
)


def encoded(weights: Weights, signals: dict[str, list[Floats]]) -> dict[str, Floats]:
    """Encode the clips of recordings, by modality."""
    encoder = Encoder(weights, "cpu", backend="auto")
    return {
        m: np.concatenate([encoder.encode(m, np.asarray(x, np.float32)) for x in own])
        for m, own in signals.items()
    }


def signals_of(clips: Clips) -> dict[str, list[Floats]]:
    """Return the prepared signals of all recordings, by modality."""
    return {m: [r.signals[m] for r in clips.recordings] for m in ("bas", "ecg", "resp")}


def trained(args: argparse.Namespace, start: Weights, clips: Clips, arm: Arm, fold: int) -> Weights:
    """Train an arm of a fold from the start, or resume or load it."""
    sizes = f"{start.sha256[:8]}-{args.steps}x{args.batch_size}"
    name = "".join(c if c.isalnum() else "-" for c in arm.name)
    out = args.cache / f"{sizes}-{name}-fold{fold}.safetensors"
    done = out.with_suffix(".done")
    if not done.exists():
        others = [p for p in clips.fold if clips.fold[p] != fold]
        chosen = {others[0]: "valid"} | dict.fromkeys(others[1 : 1 + arm.people], "pretrain")
        pretrain(
            Data(
                args.recordings,
                subjects=args.subjects,
                assigned=chosen,
                contract=start.contract,
                cache=args.cache,
                choices=NO_CHOICES.updated(start.contract, channels=args.channels),
                description="slpdb (PhysioNet, ODC-By 1.0), experiments/real_questions.py",
            ),
            out,
            arm.objective,
            replace(
                SHORT,
                epochs=1,
                epoch_clips=args.steps * args.batch_size,
                batch_size=args.batch_size,
                together=4,
                crop_s=15.0,
                average=0.9,
                within=arm.within,
            ),
            device="cpu",
            threads=args.threads,
            start=start,
            resume=True,
        )
        done.touch()
    return load_weights(out)


def vectors_of(
    args: argparse.Namespace, start: Weights, clips: Clips, arm: Arm
) -> list[dict[str, Floats]]:
    """Return the vectors of all clips by the weights of each fold, kept in --cache."""
    found = []
    for fold in range(FOLDS):
        sizes = f"{start.sha256[:8]}-{args.steps}x{args.batch_size}"
        file = args.cache / f"{sizes}-{arm.name.replace(' ', '-')}-fold{fold}.npz"
        if not file.exists():
            print(f"{arm.name}, fold {fold + 1} of {FOLDS}", file=sys.stderr, flush=True)
            weights = trained(args, start, clips, arm, fold)
            np.savez(file, **encoded(weights, signals_of(clips)))  # type: ignore[arg-type]
        with np.load(file) as arrays:
            found.append({m: arrays[m] for m in arrays.files})
    return found


def measure(clips: Clips, vectors: list[dict[str, Floats]]) -> dict[str, list[float]]:
    """Return measures per person: recall@10 over directions, stages from BAS, apnea."""
    fold = np.array([clips.fold[p] for p in clips.person]) % len(vectors)
    rows = np.arange(len(fold))
    tested = {m: np.stack([v[m] for v in vectors])[fold, rows] for m in vectors[0]}
    recalls = retrieve(clips, lambda _, a, b, own: tested[a][own] @ tested[b][own].T)
    return {
        "recall_at_10": np.mean(list(recalls.values()), axis=0).tolist(),
        "stages": probe(clips, *(v["bas"] for v in vectors)),
        **{f"apnea_{m}": probe_apnea(clips, *(v[m] for v in vectors)) for m in vectors[0]},
    }


def plain_by_people(args: argparse.Namespace) -> dict[int, list[float]]:
    """Return recall@10 per person of canonical correlation fitted to 1, 2, 4 and 8 people."""
    clips = read(args, PLAIN)
    rows, _ = plain(clips)
    recalls = {}
    for count in SIZES:

        def similar(
            person: str, a: str, b: str, own: NDArray[np.bool_], count: int = count
        ) -> Floats:
            others = [p for p in clips.fold if clips.fold[p] != clips.fold[person]]
            train = np.isin(clips.person, others[1 : 1 + count])
            fitted = CanonicalCorrelation(rows[a][train], rows[b][train])
            return fitted.similarity(rows[a][own], rows[b][own])

        recalls[count] = np.mean(list(retrieve(clips, similar).values()), axis=0).tolist()
    return recalls


def slope(values: Sequence[Sequence[float]]) -> list[float]:
    """Return the slope of a measure over log2 of :data:`SIZES` for each person."""
    return [float(v) for v in np.polyfit(np.log2(SIZES), np.asarray(values), 1)[0]]


def difference(values: Sequence[float]) -> tuple[str, float]:
    """Format mean and 95 % t interval of a difference over people, and return its p as well."""
    known = np.array([v for v in values if np.isfinite(v)])
    error = float(known.std(ddof=1) / np.sqrt(len(known)))
    half, mean = float(student.ppf(0.975, len(known) - 1)) * error, float(known.mean())
    p = float(2 * student.sf(abs(mean) / error, len(known) - 1)) if error else float("nan")
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]", p


def print_tables(
    clips: Clips, measures: dict[str, dict[str, list[float]]], by_cca: dict[int, list[float]]
) -> None:
    """Print measures of every arm, and the outcome of each question, as Markdown."""
    sizes = [int((clips.person == p).sum()) for p in clips.fold]
    chance = np.mean([min(1.0, 10 / n) for n in sizes])
    print(f"{len(clips.person):,} clips of {len(sizes)} people; chance of recall@10 {chance:.3f}\n")
    names = {
        "recall_at_10": "recall@10",
        "stages": "stages, balanced accuracy",
        **{f"apnea_{m}": f"apnea from {m}, AUROC" for m in ("bas", "ecg", "resp")},
    }
    print("| | " + " | ".join(names.values()) + " |\n|---" + "|---" * len(names) + "|")
    for arm, own in measures.items():
        print(f"| {arm} | " + " | ".join(interval(own[key]) for key in names) + " |")
    for count, recalls in by_cca.items():
        print(f"| CCA on plain features, {count} people | {interval(recalls)} | | | | |")

    def less(one: str, key: str) -> list[float]:
        return list(np.subtract(measures[one][key], measures[PLAIN_ARM][key]))

    by_people = [measures[f"leave-one-out, {n} people"]["recall_at_10"] for n in SIZES]
    asked = {
        "1. recall@10 per doubling of the people": slope(by_people),
        "2. recall@10, pairwise - leave-one-out": less(ARMS[-2].name, "recall_at_10"),
        "4. apnea from ecg, within 0.3 - without": less(ARMS[-1].name, "apnea_ecg"),
    }
    beside = {
        "1. the same of CCA on plain features": slope(list(by_cca.values())),
        "4. stages, within 0.3 - without": less(ARMS[-1].name, "stages"),
        "4. recall@10, within 0.3 - without": less(ARMS[-1].name, "recall_at_10"),
    }
    print("\n| outcome | mean [95 %, over people] | p | p (Holm) |\n|---|---|---|---|")
    found = {name: difference(values) for name, values in asked.items()}
    for (name, (text, p)), adjusted in zip(
        found.items(), holm([p for _, p in found.values()]), strict=True
    ):
        print(f"| {name} | {text} | {p:.3f} | {adjusted:.3f} |")
    for name, values in beside.items():
        text, p = difference(values)
        print(f"| {name} | {text} | {p:.3f} | beside |")


def main() -> None:
    """Run what has not been run, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--subjects", type=Path, required=True)
    parser.add_argument("--weights", required=True, help="from which every training starts")
    parser.add_argument("--channels", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("real-questions"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--nice", type=int, default=19, help="19: the lowest priority")
    parser.add_argument("--out", type=Path, help="write the measures per person as JSON")
    args = parser.parse_args()
    os.nice(args.nice)
    if args.threads:
        torch.set_num_threads(args.threads)
    start = load_weights(args.weights)
    clips = read(args, start.contract)
    seen = Seen.of_record(start.record)
    known = sum(seen.split_of(person) is not None for person in clips.fold) if seen else 0
    if known:
        parser.error(f"{args.weights} have seen {known} of these people")
    measures = {"start": measure(clips, [encoded(start, signals_of(clips))])}
    for arm in ARMS:
        measures[arm.name] = measure(clips, vectors_of(args, start, clips, arm))
    by_cca = plain_by_people(args)
    print_tables(clips, measures, by_cca)
    if args.out:
        figures = {"people": list(clips.fold), "arms": measures, "plain": by_cca}
        args.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
