"""Real nights, whole people left out: what weights know of them, beside plain means.

    python experiments/real_nights.py RECORDINGS --subjects subjects.csv [--weights NAME ...]

RECORDINGS is the MIT-BIH Polysomnographic Database (PhysioNet slpdb, ODC-By 1.0) as WFDB records
with stages: 12 people with EEG, ECG and respiration. People are dealt to folds of three.

1. Retrieval: a clip of one modality asks for its counterpart among all clips of the same person, in
   both directions of each pair; recall@10, mean over people, 95 % t interval over people. Beside it
   canonical correlation on plain features, fitted on the people of the other folds, and chance.
2. Staging: a linear probe on the vectors of the other folds' people; balanced accuracy, mean over
   people. Beside it the same probe on band power, on the vectors of untrained encoders, and on
   any other vectors (--vectors NAME=FILE.npz with one array per recording, e.g. of gssc).

With --fine-tune each fold's weights go on, from those given, on the people of the other folds;
--truth is then what experiments/measure_truth.py wrote for them.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plain_features import CanonicalCorrelation, features
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression

from sleepfm.cohort_choices import NO_CHOICES
from sleepfm.contract import BODY, Contract
from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import load_weights
from sleepfm.encoders.weights import Weights
from sleepfm.stages import SCORED
from sleepfm.training.clipcache import CachedRecording, prepare_clips
from sleepfm.training.pretrain import Data, pretrain
from sleepfm.training.recipe import FINE_TUNING
from sleepfm_index.evaluation.models.plain_features import band_powers
from sleepfm_index.truth import read_truth

Floats = NDArray[np.floating]

FOLDS = 4
PLAIN = replace(BODY, name="plain", sample_rate=128, boost={})
K = 10


@dataclass(frozen=True)
class Clips:
    """All clips of all people: one row per clip.

    Parameters
    ----------
    recordings : list of CachedRecording
        In the order of the rows.
    person : ndarray of str, shape [n]
        Whose clip.
    stage : ndarray of str, shape [n]
        AASM stages.
    fold : mapping of str to int
        Of each person.
    """

    recordings: list[CachedRecording]
    person: NDArray[np.str_]
    stage: NDArray[np.str_]
    fold: Mapping[str, int]


def read(asked: argparse.Namespace, contract: Contract) -> Clips:
    """Prepare all recordings under a contract."""
    prepared = prepare_clips(
        asked.recordings,
        asked.cache,
        contract,
        choices=NO_CHOICES.told(contract, channels=asked.channels),
    )
    with asked.subjects.open(newline="", encoding="utf-8") as file:
        subject = {row["recording_id"]: row["subject_id"] for row in csv.DictReader(file)}
    recordings = sorted(prepared.recordings, key=lambda r: r.recording_id)
    people = sorted({subject[r.recording_id] for r in recordings})
    return Clips(
        recordings,
        np.concatenate([[subject[r.recording_id]] * r.count for r in recordings]),
        np.concatenate([r.stage for r in recordings]),
        {person: i % FOLDS for i, person in enumerate(people)},
    )


def embed(weights: Weights, clips: Clips) -> dict[str, Floats]:
    """Encode all clips; zero rows where a modality is absent."""
    encoder = Encoder(weights, "cpu")
    out = {}
    for modality in BODY.modalities:
        rows = [
            encoder.encode(modality, np.asarray(r.signals[modality], np.float32))
            if modality in r.signals
            else np.zeros((r.count, 512), np.float32)
            for r in clips.recordings
        ]
        out[modality] = np.concatenate(rows)
    return out


def plain(clips: Clips) -> tuple[dict[str, Floats], Floats]:
    """Give plain features per modality, standardised within each person, and band powers."""
    rate = PLAIN.sample_rate
    found = {}
    for modality in BODY.modalities:
        rows = np.concatenate(
            [
                features(modality, np.asarray(r.signals[modality], np.float32), rate)
                for r in clips.recordings
            ]
        )
        for person in clips.fold:
            own = clips.person == person
            rows[own] = (rows[own] - rows[own].mean(axis=0)) / (rows[own].std(axis=0) + 1e-6)
        found[modality] = np.clip(rows, -4, 4)
    bands = [band_powers(np.asarray(r.signals["bas"], np.float32), rate) for r in clips.recordings]
    return found, np.concatenate(bands)


Similarity = Callable[[str, str, str, NDArray[np.bool_]], Floats]


def retrieve(clips: Clips, similar: Similarity) -> dict[str, list[float]]:
    """Give recall@10 per person for every ordered pair of modalities."""
    found: dict[str, list[float]] = {}
    for a, b in permutations(BODY.modalities, 2):
        for person in clips.fold:
            own = clips.person == person
            scores = similar(person, a, b, own)
            rank = (scores >= scores.diagonal()[:, None]).sum(axis=1)
            found.setdefault(f"{a}->{b}", []).append(float((rank <= K).mean()))
    return found


def probe(clips: Clips, x: Floats) -> list[float]:
    """Give the balanced accuracy per person of a linear probe learned from other folds' people."""
    found = []
    fold = np.array([clips.fold[p] for p in clips.person])
    scored = np.isin(clips.stage, SCORED)
    guess = np.full(len(fold), "", dtype=clips.stage.dtype)
    for number in range(FOLDS):
        train, test = scored & (fold != number), fold == number
        mean, spread = x[train].mean(axis=0), x[train].std(axis=0) + 1e-6
        model = LogisticRegression(class_weight="balanced", C=0.01, max_iter=2000)
        model.fit((x[train] - mean) / spread, clips.stage[train])
        guess[test] = model.predict((x[test] - mean) / spread)
    for person in clips.fold:
        own = scored & (clips.person == person)
        right = guess[own] == clips.stage[own]
        found.append(
            float(
                np.mean([right[clips.stage[own] == s].mean() for s in np.unique(clips.stage[own])])
            )
        )
    return found


def pooled(clips: Clips, values: list[float]) -> float:
    """Give the mean over clips of what was measured per person."""
    return float(np.average(values, weights=[(clips.person == p).sum() for p in clips.fold]))


def interval(values: list[float]) -> str:
    """Write mean and 95 % t interval over people."""
    mean, n = float(np.mean(values)), len(values)
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return f"{mean:.3f} [{max(mean - half, 0):.3f}, {min(mean + half, 1):.3f}]"


def fine_tune(asked: argparse.Namespace, weights: Weights, clips: Clips, fold: int) -> Weights:
    """Go on with weights on the people of the other folds; one of them chooses the epoch."""
    out = asked.cache / f"{weights.name}-fold{fold}.safetensors"
    others = [p for p in clips.fold if clips.fold[p] != fold]
    pretrain(
        Data(
            asked.recordings,
            subjects=asked.subjects,
            assigned={p: "valid" if p == others[0] else "pretrain" for p in others},
            contract=weights.contract,
            cache=asked.cache,
            channels=asked.channels,
            truth=read_truth(asked.truth),
            description="slpdb (PhysioNet, ODC-By 1.0)",
        ),
        out,
        "leave-one-out",
        FINE_TUNING if asked.epochs is None else replace(FINE_TUNING, epochs=asked.epochs),
        device="cpu",
        start=weights,
        resume=True,
    )
    return load_weights(out)


def main() -> None:
    """Measure every arm, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--subjects", type=Path, required=True)
    parser.add_argument("--weights", nargs="*", default=["demo"])
    parser.add_argument("--channels", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("real-nights"))
    parser.add_argument("--fine-tune", action="store_true")
    parser.add_argument("--epochs", type=int, help="of fine-tuning; default the recipe's")
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--vectors", nargs="*", default=[], help="NAME=FILE.npz, for staging")
    parser.add_argument("--out", type=Path, help="write the figures per person as JSON")
    asked = parser.parse_args()
    base = read(asked, PLAIN)
    rows, bands = plain(base)

    def by_cca(person: str, a: str, b: str, own: NDArray[np.bool_]) -> Floats:
        train = np.array([base.fold[p] != base.fold[person] for p in base.person])
        fitted = CanonicalCorrelation(rows[a][train], rows[b][train])
        return fitted.similarity(rows[a][own], rows[b][own])

    sizes = [int((base.person == p).sum()) for p in base.fold]
    retrieval = {"CCA on plain features": retrieve(base, by_cca)}
    staging = {"band power": probe(base, bands)}
    for name in asked.weights:
        weights = load_weights(name)
        clips = read(asked, weights.contract)
        vectors = embed(weights, clips)
        retrieval[name] = retrieve(clips, lambda _, a, b, own, v=vectors: v[a][own] @ v[b][own].T)  # type: ignore[misc]
        staging[name] = probe(clips, vectors["bas"])
        blank = Weights(
            name=f"untrained, {weights.contract.name}",
            trained=False,
            contract=weights.contract,
            record={},
            temperature=0.0,
            tensors=_untrained(weights.contract),
        )
        if blank.name not in staging:
            own = embed(blank, clips)
            staging[blank.name] = probe(clips, own["bas"])
            retrieval[blank.name] = retrieve(
                clips, lambda _, a, b, own_, v=own: v[a][own_] @ v[b][own_].T
            )  # type: ignore[misc]
        if asked.fine_tune:
            tuned = {m: np.zeros_like(v) for m, v in vectors.items()}
            fold = np.array([clips.fold[p] for p in clips.person])
            for number in range(FOLDS):
                found = embed(fine_tune(asked, weights, clips, number), clips)
                for m in BODY.modalities:
                    tuned[m][fold == number] = found[m][fold == number]
            label = f"{name}, fine-tuned"
            retrieval[label] = retrieve(
                clips, lambda _, a, b, own, v=tuned: v[a][own] @ v[b][own].T
            )  # type: ignore[misc]
            # the vectors of different folds lie in different spaces, so each fold has its own probe
    for text in asked.vectors:
        name, _, file = text.partition("=")
        with np.load(file) as arrays:
            staging[name] = probe(
                base, np.concatenate([arrays[r.recording_id] for r in base.recordings])
            )
    _print(base, sizes, retrieval, staging)
    if asked.out:
        figures = {
            "people": list(base.fold),
            "recall_at_10": retrieval,
            "balanced_accuracy": staging,
        }
        asked.out.write_text(json.dumps(figures, indent=1))


def _untrained(contract: Contract) -> dict[str, Any]:
    from sleepfm.encoders.networks import initial_tensors

    return initial_tensors(contract, contract.modalities, 0)


def _print(
    clips: Clips,
    sizes: list[int],
    retrieval: dict[str, dict[str, list[float]]],
    staging: dict[str, list[float]],
) -> None:
    chance = float(np.mean([min(1.0, K / n) for n in sizes]))
    print(f"{len(clips.person):,} clips of {len(sizes)} people, {min(sizes)} to {max(sizes)} each")
    over_clips = pooled(clips, [min(1.0, K / n) for n in sizes])
    print(
        "\nrecall@10 among the person's clips, mean over people [95 %] and over clips; chance "
        f"{chance:.3f} and {over_clips:.3f}\n"
    )
    pairs = [f"{a}->{b}" for a, b in permutations(BODY.modalities, 2)]
    print("| | " + " | ".join(pairs) + " |\n|---" + "|---" * len(pairs) + "|")
    for name, found in retrieval.items():
        print(
            f"| {name} | "
            + " | ".join(f"{interval(found[p])} {pooled(clips, found[p]):.3f}" for p in pairs)
            + " |"
        )
    print("\nstages, balanced accuracy per person\n\n| | |\n|---|---|")
    for name, values in staging.items():
        print(f"| {name} | {interval(values)} {pooled(clips, values):.3f} |")


if __name__ == "__main__":
    main()
