"""The open questions of the paper on the real nights of slpdb, as far as 12 people go.

    python experiments/real_questions.py RECORDINGS --subjects subjects.csv \
        --channels channels.yaml --weights warm.safetensors

RECORDINGS are those of real_nights.py, and so are the four folds of three people and the measures.
Twelve people are too few to train encoders on, so these stay as they are: on the vectors of each
modality, standardised within each person, a linear head with 64 outputs is trained by contrast on
people of the other folds, for the same number of steps in every arm, and measured on the fold's
three people. --weights must not have seen any of them.

1. people: heads by leave-one-out on 1, 2, 4 and 8 people; slope of recall@10 over log2 of these;
2. objectives: on 8 people, pairwise minus leave-one-out; recall@10. Beside it SigLIP;
4. sharing: what contrast removes from the vectors: AUROC of apnea from ECG after the head, minus
   that of the vectors before it, by the same linear probe. Beside it stages from BAS.

Question 3 needs two leads of one night, which these recordings do not have. Whether the heart in
the EEG is what EEG and ECG share is in heart_lesion.py.

Each value of a person is the mean over --seeds, which draw the people and the heads. Means and 95 %
t intervals are over people, differences are paired by person, and p is adjusted for the three
questions (Holm). All 12 are men with apnea: everything here is underpowered.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import needs
import numpy as np
import torch
from numpy.typing import NDArray
from plain_features import CanonicalCorrelation
from real_nights import PLAIN, embed, plain, read
from real_nights_measures import FOLDS, Clips, Floats, K, interval, probe, probe_apnea, retrieve
from scipy.stats import t as student
from torch.nn import functional as F

from sleepfm.choices import Objective
from sleepfm.encoders.load import load_weights
from sleepfm.encoders.seen import Seen
from sleepfm.training.objectives import contrast
from sleepfm_index.evaluation.metrics.paired_difference import holm

SIZES: Final = (1, 2, 4, 8)
BEFORE: Final = "vectors without heads"
OUTPUTS: Final = 64
BATCH: Final = 64
LEARNING_RATE: Final = 1e-3
WEIGHT_DECAY: Final = 0.1
TEMPERATURE: Final = 2.0
"""Initial value; similarities are multiplied by its exponential. Like the four constants above, it
was fixed before any result was seen."""

Vectors = Mapping[str, Floats]


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count} people"


@dataclass(frozen=True)
class Arm:
    """Heads trained on so many people by one objective."""

    objective: Objective
    people: int = max(SIZES)

    @property
    def name(self) -> str:
        """Name of the arm in the tables."""
        return f"{self.objective}, {_people(self.people)}"


BY_PEOPLE: Final = tuple(Arm("leave-one-out", n) for n in SIZES)
ARMS: Final = (*BY_PEOPLE, Arm("pairwise"), Arm("siglip"))


def within_person(vectors: Vectors, clips: Clips) -> dict[str, Floats]:
    """Standardise the columns of vectors within each person."""
    found = {}
    for modality, x in vectors.items():
        rows = np.asarray(x, np.float32).copy()
        for person in clips.fold:
            own = clips.person == person
            rows[own] = (rows[own] - rows[own].mean(axis=0)) / (rows[own].std(axis=0) + 1e-6)
        found[modality] = rows
    return found


def heads(arm: Arm, vectors: Vectors, train: NDArray[np.bool_], steps: int, seed: int) -> Vectors:
    """Train a linear head per modality, and return the unit vectors that it makes of all clips.

    Parameters
    ----------
    arm : Arm
        The objective.
    vectors : mapping of str to ndarray of float32, shape [n, 512]
        Vectors of all clips by modality.
    train : ndarray of bool, shape [n]
        Clips to train on.
    steps : int
        Number of steps.
    seed : int
        Seed of the heads and of the batches.

    Returns
    -------
    mapping of str to ndarray of float32, shape [n, OUTPUTS]
    """
    torch.manual_seed(seed)
    own = [torch.from_numpy(x) for x in vectors.values()]
    linear = torch.nn.ModuleList(torch.nn.Linear(x.shape[1], OUTPUTS) for x in own)
    temperature = torch.nn.Parameter(torch.tensor(TEMPERATURE))
    bias = torch.nn.Parameter(torch.tensor(-10.0), requires_grad=arm.objective == "siglip")
    optimizer = torch.optim.AdamW(
        [
            {"params": linear.parameters(), "weight_decay": WEIGHT_DECAY},
            {"params": [temperature, bias], "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
    )
    rows = torch.from_numpy(np.flatnonzero(train))
    for _ in range(steps):
        batch = rows[torch.randperm(len(rows))[:BATCH]]
        outputs = [F.normalize(h(x[batch]), dim=1) for h, x in zip(linear, own, strict=True)]
        loss = contrast(arm.objective, outputs, temperature.clamp(min=0), bias=bias).loss
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        made = [F.normalize(h(x), dim=1).numpy() for h, x in zip(linear, own, strict=True)]
    return dict(zip(vectors, made, strict=True))


def drawn(clips: Clips, fold: int, people: int, seed: int) -> NDArray[np.bool_]:
    """Return the clips of so many people, drawn from the other folds."""
    others = [p for p in clips.fold if clips.fold[p] != fold]
    chosen = np.random.default_rng((seed, fold)).permutation(others)[:people]
    return np.isin(clips.person, chosen)


def measure(clips: Clips, folds: Sequence[Vectors], probes: bool) -> dict[str, list[float]]:
    """Return measures per person, with the vectors of each fold: recall@10, by probes the rest."""
    fold = np.array([clips.fold[p] for p in clips.person]) % len(folds)
    rows = np.arange(len(fold))
    tested = {m: np.stack([v[m] for v in folds])[fold, rows] for m in folds[0]}
    recalls = retrieve(clips, lambda _, a, b, own: tested[a][own] @ tested[b][own].T)
    found = {"recall_at_10": np.mean(list(recalls.values()), axis=0).tolist()}
    if not probes:
        return found
    return found | {
        "stages": probe(clips, *(v["bas"] for v in folds)),
        **{f"apnea_{m}": probe_apnea(clips, *(v[m] for v in folds)) for m in folds[0]},
    }


def measure_arm(
    clips: Clips, vectors: Vectors, arm: Arm, steps: int, seeds: int
) -> dict[str, list[float]]:
    """Train the heads of an arm in every fold with every seed, and return means over the seeds."""
    found = [
        measure(
            clips,
            [
                heads(arm, vectors, drawn(clips, fold, arm.people, seed), steps, seed)
                for fold in range(FOLDS)
            ],
            probes=arm.people == max(SIZES),
        )
        for seed in range(seeds)
    ]
    return {key: np.mean([one[key] for one in found], axis=0).tolist() for key in found[0]}


def plain_by_people(args: argparse.Namespace) -> dict[int, list[float]]:
    """Return recall@10 per person of canonical correlation fitted to so many people."""
    clips = read(args, PLAIN)
    rows, _ = plain(clips)
    recalls = {}
    for count in SIZES:
        found = []
        for seed in range(args.seeds):

            def similar(
                person: str, a: str, b: str, own: NDArray[np.bool_],
                count: int = count, seed: int = seed,
            ) -> Floats:  # fmt: skip
                train = drawn(clips, clips.fold[person], count, seed)
                fitted = CanonicalCorrelation(rows[a][train], rows[b][train])
                return fitted.similarity(rows[a][own], rows[b][own])

            found.append(np.mean(list(retrieve(clips, similar).values()), axis=0))
        recalls[count] = np.mean(found, axis=0).tolist()
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
    chance = np.mean([min(1.0, K / n) for n in sizes])
    print(f"{len(clips.person):,} clips of {len(sizes)} people; chance of recall@10 {chance:.3f}\n")
    names = {
        "recall_at_10": "recall@10",
        "stages": "stages from bas, balanced accuracy",
        **{f"apnea_{m}": f"apnea from {m}, AUROC" for m in ("bas", "ecg", "resp")},
    }
    print("| | " + " | ".join(names.values()) + " |\n|---" + "|---" * len(names) + "|")
    for arm, own in measures.items():
        print(
            f"| {arm} | "
            + " | ".join(interval(own[key]) if key in own else "" for key in names)
            + " |"
        )
    for count, recalls in by_cca.items():
        named = f"canonical correlation on plain features, {_people(count)}"
        print(f"| {named} | {interval(recalls)} | | | | |")

    def less(one: str, other: str, key: str) -> list[float]:
        return [a - b for a, b in zip(measures[one][key], measures[other][key], strict=True)]

    full, by_pairs, by_sigmoid = BY_PEOPLE[-1].name, ARMS[-2].name, ARMS[-1].name
    asked = {
        "1. recall@10 per doubling of the people": slope(
            [measures[arm.name]["recall_at_10"] for arm in BY_PEOPLE]
        ),
        "2. recall@10, pairwise - leave-one-out": less(by_pairs, full, "recall_at_10"),
        "4. apnea from ecg, after - before the head": less(full, BEFORE, "apnea_ecg"),
    }
    beside = {
        "1. the same, canonical correlation on plain features": slope(list(by_cca.values())),
        "2. recall@10, siglip - leave-one-out": less(by_sigmoid, full, "recall_at_10"),
        "4. stages from bas, after - before the head": less(full, BEFORE, "stages"),
    }
    print("\n| outcome | mean [95 %, over people] | p | p (Holm) |\n|---|---|---|---|")
    found = [difference(values) for values in asked.values()]
    adjusted = holm([p for _, p in found])
    for name, (text, p), own_adjusted in zip(asked, found, adjusted, strict=True):
        print(f"| {name} | {text} | {_shown(p)} | {_shown(own_adjusted)} |")
    for name, values in beside.items():
        text, p = difference(values)
        print(f"| {name} | {text} | {_shown(p)} | not adjusted |")


def _shown(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def main() -> None:
    """Measure every arm, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--subjects", type=Path, required=True)
    parser.add_argument("--weights", required=True, help="whose vectors the heads take")
    parser.add_argument("--channels", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("real-nights"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--nice", type=int, default=19, help="19: the lowest priority")
    parser.add_argument("--out", type=Path, help="write the measures per person as JSON")
    parser.set_defaults(truth=None)  # of real_nights.read
    args = parser.parse_args()
    os.nice(args.nice)
    if args.threads:
        torch.set_num_threads(args.threads)
    weights = load_weights(args.weights)
    clips = read(args, weights.contract)
    seen = Seen.of_record(weights.record)
    known = sum(seen.split_of(person) is not None for person in clips.fold) if seen else 0
    if known:
        parser.error(f"{args.weights} have seen {known} of these people")
    vectors = within_person(embed(weights, clips), clips)
    measures = {BEFORE: measure(clips, [vectors], probes=True)}
    for arm in ARMS:
        measures[arm.name] = measure_arm(clips, vectors, arm, args.steps, args.seeds)
    by_cca = plain_by_people(args)
    print_tables(clips, measures, by_cca)
    if args.out:
        figures = {"people": list(clips.fold), "arms": measures, "plain": by_cca}
        args.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    needs.run(main)
