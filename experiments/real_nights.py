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
4. With --truth, heart rate and breathing rate: a ridge regression fitted on the other folds' people
   against what experiments/measure_truth.py has measured.

Each set of vectors is measured as it is and, as "centred", with the mean of each person's vectors
subtracted, as plain features are standardised within each person.

With --fine-tune each fold's weights go on, from those given, on the people of the other folds;
this needs --truth. Each fold's weights lie in --cache
as <name>-<identity>-fold<i>.safetensors with their checkpoint, so that the same command goes on
where it was stopped. With --along, other recordings with truth are mixed in, such as simulated
nights (recipe "mixed"):

    python experiments/measure_truth.py records --channels channels.yaml --out truth.parquet
    python experiments/real_nights.py records --subjects subjects.csv --channels channels.yaml \
        --weights my.safetensors --fine-tune --truth truth.parquet --out figures.json \
        [--along nights nights/truth.parquet 1 --along mgh mgh-truth.parquet 4 --times 6]
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import needs
import numpy as np
from numpy.typing import NDArray
from plain_features import CanonicalCorrelation, features
from real_nights_measures import (
    FOLDS,
    Clips,
    Figures,
    Floats,
    print_tables,
    probe,
    probe_apnea,
    retrieve,
)

from sleepfm.cohort_choices import NO_CHOICES, Choices
from sleepfm.contract import BODY, Contract
from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import load_weights
from sleepfm.encoders.networks import initial_tensors
from sleepfm.encoders.weights import Weights
from sleepfm.labels import clip_event_seconds, clip_stages, scoring_grid
from sleepfm.recordings import find_recordings
from sleepfm.training.clipcache import CachedRecording, prepare_clips
from sleepfm.training.pretrain import Data, pretrain
from sleepfm.training.recipe import FINE_TUNING, MIXED
from sleepfm.training.splits import Split
from sleepfm_index.evaluation.labels.labels import SDB_SECONDS
from sleepfm_index.evaluation.labels.respiratory_scoring import BREATHING
from sleepfm_index.evaluation.models.plain_features import band_powers
from sleepfm_index.truth import read_truth

DECODED = ("rr_mean_s", "breath_hz")
PLAIN = replace(BODY, name="plain", sample_rate=128, boost={})


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
    truth = read_truth(args.truth) if args.truth else {}
    known = {
        column: np.concatenate([_column(truth, r, column) for r in recordings])
        for column in (DECODED if truth else ())
    }
    apnea = apneas(args, choices, {r.recording_id: r for r in recordings}, contract.clip_seconds)
    return Clips(
        recordings,
        np.concatenate([[subject[r.recording_id]] * r.count for r in recordings]),
        np.concatenate([r.stage for r in recordings]),
        np.concatenate([apnea[r.recording_id] for r in recordings]),
        {person: i % FOLDS for i, person in enumerate(people)},
        known,
    )


def _column(
    truth: Mapping[str, Mapping[str, NDArray[np.floating]]], recording: CachedRecording, name: str
) -> Floats:
    values = truth.get(recording.recording_id, {}).get(name)
    if values is None:
        return np.full(recording.count, np.nan)
    return np.asarray(values, float)[: recording.count]


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
        lacking = [r.recording_id for r in clips.recordings if modality not in r.signals]
        if lacking:
            raise SystemExit(f"no channel of {lacking[0]} fills {modality}; name one (--channels)")
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


def fine_tune(args: argparse.Namespace, weights: Weights, clips: Clips, fold: int) -> Weights:
    """Fine-tune weights on the people of the other folds; one of them selects the epoch.

    Among other recordings (--along) there is one epoch, and four of their people validate it.
    """
    others = [p for p in clips.fold if clips.fold[p] != fold]
    recipe = MIXED if args.along else FINE_TUNING
    if args.epochs:
        recipe = replace(recipe, epochs=args.epochs)
    if args.epoch_clips:
        batch = min(recipe.batch_size, args.epoch_clips)
        recipe = replace(recipe, epoch_clips=args.epoch_clips, batch_size=batch)
    settings = hashlib.sha256(json.dumps(recipe.to_json()).encode()).hexdigest()
    name = f"{weights.name}-{weights.sha256[:8]}-{settings[:8]}-fold{fold}"
    out = args.cache / f"{name}.safetensors"
    assigned: dict[str, Split] = dict.fromkeys(others, "pretrain")
    truth = dict(read_truth(args.truth))
    subject = {r.recording_id: str(clips.person[row]) for r, row in first_rows(clips)}
    repeats = dict.fromkeys(subject, args.times)
    for path, known, times in args.along:
        more = read_truth(Path(known))
        people = subjects_of(Path(path), more)
        truth |= more
        subject |= people
        assigned |= dict.fromkeys(people.values(), "pretrain")
        repeats |= dict.fromkeys(people, int(times))
    along = [person for person in assigned if person not in others]
    assigned |= dict.fromkeys(along[:4] or others[:1], "valid")
    subjects = args.cache / "people.csv"
    with subjects.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("recording_id", "subject_id"), *subject.items()])
    pretrain(
        Data(
            [*args.recordings, *(path for path, _, _ in args.along)],
            subjects=subjects,
            assigned=assigned,
            contract=weights.contract,
            cache=args.cache,
            choices=NO_CHOICES.updated(weights.contract, channels=args.channels),
            truth=truth,
            repeats=repeats,
            description="slpdb (PhysioNet, ODC-By 1.0)" + ", mixed" * bool(along),
        ),
        out,
        "leave-one-out",
        recipe,
        device=args.device,
        threads=args.threads,
        start=weights,
        resume=True,
    )
    return load_weights(out)


def first_rows(clips: Clips) -> Iterator[tuple[CachedRecording, int]]:
    """Yield each recording with the row of its first clip."""
    row = 0
    for recording in clips.recordings:
        yield recording, row
        row += recording.count


def subjects_of(folder: Path, recordings: Iterable[str]) -> dict[str, str]:
    """Return the subject of each recording: of the folder's subjects.csv, or itself."""
    subject = {name: name for name in recordings}
    if (folder / "subjects.csv").exists():
        with (folder / "subjects.csv").open(newline="", encoding="utf-8") as file:
            subject |= {r["recording_id"]: r["subject_id"] for r in csv.DictReader(file)}
    return subject


def centred(clips: Clips, vectors: Mapping[str, Floats]) -> dict[str, Floats]:
    """Subtract from each vector the mean of its person's vectors; scale the rest to unit length."""
    out = {}
    for modality, given in vectors.items():
        rows = np.array(given, np.float32)
        for person in clips.fold:
            own = clips.person == person
            rows[own] -= rows[own].mean(axis=0)
        out[modality] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return out


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
    parser.add_argument("--device", default="auto", help="of fine-tuning: auto, cpu or cuda")
    parser.add_argument(
        "--along",
        nargs=3,
        action="append",
        default=[],
        metavar=("PATH", "TRUTH", "TIMES"),
        help="fine-tune among these recordings too, each used TIMES times; repeatable",
    )
    parser.add_argument("--times", type=int, default=1, help="how often RECORDINGS are used then")
    parser.add_argument("--truth", type=Path, help="measured physiology of the clips")
    parser.add_argument("--vectors", nargs="*", default=[], help="NAME=FILE.npz, for staging")
    parser.add_argument("--out", type=Path, help="write the figures per person as JSON")
    args = parser.parse_args()
    if not all(times.isdecimal() and int(times) for _, _, times in args.along):
        parser.error("TIMES of --along must be a whole number of at least 1")
    if args.fine_tune and args.truth is None:
        parser.error("--fine-tune needs --truth, as experiments/measure_truth.py writes it")
    base = read(args, PLAIN)
    rows, bands = plain(base)

    def by_cca(person: str, a: str, b: str, own: NDArray[np.bool_]) -> Floats:
        train = np.array([base.fold[p] != base.fold[person] for p in base.person])
        fitted = CanonicalCorrelation(rows[a][train], rows[b][train])
        return fitted.similarity(rows[a][own], rows[b][own])

    everything = np.concatenate(list(rows.values()), axis=1)
    figures = Figures({"CCA on plain features": retrieve(base, by_cca)}, {}, {}, {})
    figures.staging |= {"band power": probe(base, bands), "plain features": probe(base, everything)}
    figures.staging["CCA on plain features"] = probe(base, *correlates(base, rows))
    figures.apnea["band power"] = probe_apnea(base, bands)
    figures.apnea |= {f"plain features, {m}": probe_apnea(base, own) for m, own in rows.items()}
    for modality, own in rows.items():
        figures.add_decoding(f"plain features, {modality}", base, own)
    for name in args.weights:
        weights = load_weights(name)
        clips = read(args, weights.contract)
        vectors = embed(weights, clips)
        figures.add(name, clips, vectors)
        figures.add(f"{name}, centred", clips, centred(clips, vectors))
        untrained = f"untrained, {weights.contract.name}"
        if untrained not in figures.staging:
            figures.add(untrained, clips, embed(_untrained(weights.contract, untrained), clips))
        if args.fine_tune:
            tuned = [embed(fine_tune(args, weights, clips, n), clips) for n in range(FOLDS)]
            figures.add(f"{name}, fine-tuned", clips, *tuned)
            own = [centred(clips, v) for v in tuned]
            figures.add(f"{name}, fine-tuned, centred", clips, *own)
    for text in args.vectors:
        name, _, file = text.partition("=")
        with np.load(file) as arrays:
            figures.staging[name] = probe(
                base, np.concatenate([arrays[r.recording_id] for r in base.recordings])
            )
    print_tables(base, figures)
    if args.out:
        args.out.write_text(json.dumps(figures.to_json(list(base.fold)), indent=1))


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


def _untrained(contract: Contract, name: str) -> Weights:
    tensors = initial_tensors(contract, contract.modalities, 0)
    return Weights(
        name=name, trained=False, contract=contract, record={}, temperature=0.0, tensors=tensors
    )


if __name__ == "__main__":
    needs.run(main)
