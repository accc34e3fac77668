"""Evaluation of weights on real nights, with whole people left out, against simple baselines.

    python experiments/real_nights.py RECORDINGS --subjects subjects.csv [--weights NAME ...]

RECORDINGS is the MIT-BIH Polysomnographic Database (PhysioNet slpdb, ODC-By 1.0) as WFDB records
with stages: 12 people with EEG, ECG and respiration. People are dealt to folds of three.

1. Retrieval: a clip of one modality asks for its counterpart among all clips of the same person, in
   both directions of each pair; recall@10, mean over people, 95 % t interval over people. Beside it
   canonical correlation on plain features, fitted on the people of the other folds, and chance.
2. Staging: a linear probe on the vectors of the other folds' people; balanced accuracy, mean over
   people. Beside it the same probe on band power, on the vectors of untrained encoders, on plain
   features and their canonical correlates, and on any other vectors (--vectors NAME=FILE.npz with
   one array per recording, e.g. of benchmarks/gssc.py).
3. Apnea by the label `sdb` of `probe`: a clip with 10 s or more of apnea and hypopnea. The same
   probe on the vectors of each modality; AUROC per person, mean over people that have both kinds.

With --fine-tune each fold's weights go on, from those given, on the people of the other folds;
--truth is then what experiments/measure_truth.py wrote for them. Each fold's weights lie in --cache
as <name>-<identity>-fold<i>.safetensors with their checkpoint, so that the same command goes on
where it was stopped:

    python experiments/measure_truth.py records --channels channels.yaml --out truth.parquet
    python experiments/real_nights.py records --subjects subjects.csv --channels channels.yaml \
        --weights my.safetensors --fine-tune --truth truth.parquet --out figures.json
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plain_features import CanonicalCorrelation, features
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from sleepfm.cohort_choices import NO_CHOICES, Choices
from sleepfm.contract import BODY, Contract
from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import load_weights
from sleepfm.encoders.weights import Weights
from sleepfm.labels import clip_event_seconds, clip_stages, scoring_grid
from sleepfm.recordings import find_recordings
from sleepfm.stages import SCORED
from sleepfm.training.clipcache import CachedRecording, prepare_clips
from sleepfm.training.pretrain import Data, pretrain
from sleepfm.training.recipe import FINE_TUNING
from sleepfm_index.evaluation.labels.labels import SDB_SECONDS
from sleepfm_index.evaluation.labels.respiratory_scoring import BREATHING
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
        Recordings, in the order of the rows.
    person : ndarray of str, shape [n]
        Person of each clip.
    stage : ndarray of str, shape [n]
        AASM stage of each clip.
    apnea : ndarray of bool, shape [n]
        Whether apnea and hypopnea cover 10 s or more.
    fold : mapping of str to int
        Fold of each person.
    """

    recordings: list[CachedRecording]
    person: NDArray[np.str_]
    stage: NDArray[np.str_]
    apnea: NDArray[np.bool_]
    fold: Mapping[str, int]


def read(args: argparse.Namespace, contract: Contract) -> Clips:
    """Prepare all recordings under a contract."""
    choices = NO_CHOICES.updated(contract, channels=args.channels)
    prepared = prepare_clips(args.recordings, args.cache, contract, choices=choices)
    for name, why in prepared.left_out:
        print(f"left out: {name}: {why}", file=sys.stderr)
    with args.subjects.open(newline="", encoding="utf-8") as file:
        subject = {row["recording_id"]: row["subject_id"] for row in csv.DictReader(file)}
    recordings = sorted(prepared.recordings, key=lambda r: r.recording_id)
    people = sorted({subject[r.recording_id] for r in recordings})
    apnea = apneas(args, choices, {r.recording_id: r for r in recordings}, contract.clip_seconds)
    return Clips(
        recordings,
        np.concatenate([[subject[r.recording_id]] * r.count for r in recordings]),
        np.concatenate([r.stage for r in recordings]),
        np.concatenate([apnea[r.recording_id] for r in recordings]),
        {person: i % FOLDS for i, person in enumerate(people)},
    )


def apneas(
    args: argparse.Namespace,
    choices: Choices,
    prepared: Mapping[str, CachedRecording],
    clip_s: float,
) -> dict[str, NDArray[np.bool_]]:
    """Return for each clip of each recording whether apnea and hypopnea cover 10 s or more."""
    apnea_of = {}
    for file in find_recordings(args.recordings).recordings:
        if file.stem not in prepared:
            continue
        scoring = choices.read(file.path, file.annotations).scoring
        clips, offset_s = prepared[file.stem], scoring_grid(scoring.stages, clip_s)
        stages = clip_stages(scoring.stages, clips.count, clip_s, offset_s)[0]
        if stages != clips.stage:
            raise SystemExit(f"{file.stem}: its scoring is not that of its clips")
        seconds = clip_event_seconds(scoring.events, clips.count, clip_s, offset_s)
        apnea_of[file.stem] = np.sum([seconds[name] for name in BREATHING], axis=0) >= SDB_SECONDS
    return apnea_of


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
    """Return plain features per modality, standardised within each person, and band powers."""
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
    """Return recall@10 per person for every ordered pair of modalities."""
    recalls: dict[str, list[float]] = {}
    for a, b in permutations(BODY.modalities, 2):
        for person in clips.fold:
            selected = clips.person == person
            scores = similar(person, a, b, selected)
            rank = (scores >= scores.diagonal()[:, None]).sum(axis=1)
            recalls.setdefault(f"{a}->{b}", []).append(float((rank <= K).mean()))
    return recalls


def folded(
    clips: Clips, vectors: Sequence[Floats], truth: NDArray[Any], known: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.bool_], LogisticRegression, Floats]]:
    """Yield for each fold its test clips, a probe fitted to the others, and the test vectors.

    ``vectors`` are those of all clips: one array for all folds, or one per fold if each fold has
    its own weights.
    """
    fold = np.array([clips.fold[p] for p in clips.person])
    for number in range(FOLDS):
        x = vectors[number % len(vectors)]
        train, test = known & (fold != number), fold == number
        mean, spread = x[train].mean(axis=0), x[train].std(axis=0) + 1e-6
        model = LogisticRegression(class_weight="balanced", C=0.01, max_iter=2000)
        model.fit((x[train] - mean) / spread, truth[train])
        yield test, model, (x[test] - mean) / spread


def probe_apnea(clips: Clips, *vectors: Floats) -> list[float]:
    """Return the AUROC of apnea per person, NaN where a person has clips of one class only."""
    score = np.zeros(len(clips.person))
    known = np.any([np.abs(x).max(axis=1) > 0 for x in vectors], axis=0)
    for test, model, x in folded(clips, vectors, clips.apnea, known):
        score[test] = model.decision_function(x)
    aurocs = []
    for person in clips.fold:
        selected = known & (clips.person == person)
        both = 0 < clips.apnea[selected].sum() < selected.sum()
        aurocs.append(
            float(roc_auc_score(clips.apnea[selected], score[selected])) if both else float("nan")
        )
    return aurocs


def probe(clips: Clips, *vectors: Floats) -> list[float]:
    """Return the balanced accuracy per person of a probe fitted on the other folds."""
    accuracies = []
    scored = np.isin(clips.stage, SCORED)
    predicted = np.full(len(scored), "", dtype=clips.stage.dtype)
    for test, model, x in folded(clips, vectors, clips.stage, scored):
        predicted[test] = model.predict(x)
    for person in clips.fold:
        selected = scored & (clips.person == person)
        right = predicted[selected] == clips.stage[selected]
        accuracies.append(
            float(
                np.mean(
                    [
                        right[clips.stage[selected] == s].mean()
                        for s in np.unique(clips.stage[selected])
                    ]
                )
            )
        )
    return accuracies


def pooled(clips: Clips, values: list[float]) -> float:
    """Return the mean over clips of a value per person."""
    return float(np.average(values, weights=[(clips.person == p).sum() for p in clips.fold]))


def interval(values: list[float]) -> str:
    """Format mean and 95 % t interval over the people with a value."""
    values = [v for v in values if np.isfinite(v)]
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return f"{mean:.3f}"
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return f"{mean:.3f} [{max(mean - half, 0):.3f}, {min(mean + half, 1):.3f}]"


def fine_tune(args: argparse.Namespace, weights: Weights, clips: Clips, fold: int) -> Weights:
    """Fine-tune weights on the people of the other folds; one of them selects the epoch."""
    out = args.cache / f"{weights.name}-{weights.sha256[:8]}-fold{fold}.safetensors"
    others = [p for p in clips.fold if clips.fold[p] != fold]
    options = {"epochs": args.epochs, "epoch_clips": args.epoch_clips}
    given = {name: value for name, value in options.items() if value is not None}
    pretrain(
        Data(
            args.recordings,
            subjects=args.subjects,
            assigned={p: "valid" if p == others[0] else "pretrain" for p in others},
            contract=weights.contract,
            cache=args.cache,
            choices=NO_CHOICES.updated(weights.contract, channels=args.channels),
            truth=read_truth(args.truth),
            description="slpdb (PhysioNet, ODC-By 1.0)",
        ),
        out,
        "leave-one-out",
        replace(FINE_TUNING, **given),
        device="cpu",
        threads=args.threads,
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
    parser.add_argument("--epoch-clips", type=int, help="of fine-tuning; default all clips")
    parser.add_argument("--threads", type=int, help="of fine-tuning; default all cores")
    parser.add_argument("--truth", type=Path, help="what is known of the clips, for --fine-tune")
    parser.add_argument("--vectors", nargs="*", default=[], help="NAME=FILE.npz, for staging")
    parser.add_argument("--out", type=Path, help="write the figures per person as JSON")
    args = parser.parse_args()
    if args.fine_tune and args.truth is None:
        parser.error("--fine-tune needs --truth, as experiments/measure_truth.py writes it")
    base = read(args, PLAIN)
    rows, bands = plain(base)

    def by_cca(person: str, a: str, b: str, own: NDArray[np.bool_]) -> Floats:
        train = np.array([base.fold[p] != base.fold[person] for p in base.person])
        fitted = CanonicalCorrelation(rows[a][train], rows[b][train])
        return fitted.similarity(rows[a][own], rows[b][own])

    sizes = [int((base.person == p).sum()) for p in base.fold]
    retrieval = {"CCA on plain features": retrieve(base, by_cca)}
    everything = np.concatenate(list(rows.values()), axis=1)
    staging = {"band power": probe(base, bands), "plain features": probe(base, everything)}
    staging["CCA on plain features"] = probe(base, *correlates(base, rows))
    apnea = {"band power": probe_apnea(base, bands)}
    apnea |= {f"plain features, {m}": probe_apnea(base, own) for m, own in rows.items()}
    for name in args.weights:
        weights = load_weights(name)
        clips = read(args, weights.contract)
        vectors = embed(weights, clips)
        retrieval[name] = retrieve(clips, lambda _, a, b, own, v=vectors: v[a][own] @ v[b][own].T)  # type: ignore[misc]
        staging[name] = probe(clips, vectors["bas"])
        apnea |= {f"{name}, {m}": probe_apnea(clips, own) for m, own in vectors.items()}
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
            apnea |= {f"{blank.name}, {m}": probe_apnea(clips, x) for m, x in own.items()}
            retrieval[blank.name] = retrieve(
                clips, lambda _, a, b, own_, v=own: v[a][own_] @ v[b][own_].T
            )  # type: ignore[misc]
        if args.fine_tune:
            tuned = {m: np.zeros_like(v) for m, v in vectors.items()}
            fold = np.array([clips.fold[p] for p in clips.person])
            every = [embed(fine_tune(args, weights, clips, n), clips) for n in range(FOLDS)]
            for number, found in enumerate(every):
                for m in BODY.modalities:
                    tuned[m][fold == number] = found[m][fold == number]
            label = f"{name}, fine-tuned"
            retrieval[label] = retrieve(
                clips, lambda _, a, b, own, v=tuned: v[a][own] @ v[b][own].T
            )  # type: ignore[misc]
            # the vectors of different folds lie in different spaces, so each fold has its own probe
            staging[label] = probe(clips, *(found["bas"] for found in every))
            for m in BODY.modalities:
                apnea[f"{label}, {m}"] = probe_apnea(clips, *(found[m] for found in every))
    for text in args.vectors:
        name, _, file = text.partition("=")
        with np.load(file) as arrays:
            staging[name] = probe(
                base, np.concatenate([arrays[r.recording_id] for r in base.recordings])
            )
    _print(base, sizes, retrieval, staging, apnea)
    if args.out:
        figures = {
            "people": list(base.fold),
            "recall_at_10": retrieval,
            "balanced_accuracy": staging,
            "apnea_auroc": {
                name: [v if np.isfinite(v) else None for v in values]
                for name, values in apnea.items()
            },
        }
        args.out.write_text(json.dumps(figures, indent=1))


def correlates(clips: Clips, rows: Mapping[str, Floats]) -> list[Floats]:
    """Return for each fold brain features projected on directions shared with heart and breath."""
    fold = np.array([clips.fold[p] for p in clips.person])
    found = []
    for number in range(FOLDS):
        train = fold != number
        maps = [
            CanonicalCorrelation(rows["bas"][train], rows[other][train]).first
            for other in rows
            if other != "bas"
        ]
        found.append(rows["bas"] @ np.concatenate(maps, axis=1))
    return found


def _untrained(contract: Contract) -> dict[str, Any]:
    from sleepfm.encoders.networks import initial_tensors

    return initial_tensors(contract, contract.modalities, 0)


def _print(
    clips: Clips,
    sizes: list[int],
    retrieval: dict[str, dict[str, list[float]]],
    staging: dict[str, list[float]],
    apnea: dict[str, list[float]],
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
    people = max(sum(np.isfinite(values)) for values in apnea.values())
    print(
        f"\napnea or hypopnea of 10 s or more in the clip ({clips.apnea.mean():.0%} of clips): "
        f"AUROC per person, mean over {people} people with both kinds\n\n| | |\n|---|---|"
    )
    for name, values in apnea.items():
        print(f"| {name} | {interval(values)} |")


if __name__ == "__main__":
    main()
