"""Training of weights from scratch on simulated people, and their measurement.

    make train-demo                                  # processor hours: docs/training.md
    make train-demo TRAIN="--trial --folder small"   # the same steps in minutes, as a test
    make train-demo TRAIN="--faint-subjects 1000"    # with step 5, half an hour more
    make train-demo TRAIN="--gpu --folder large"     # 16 times the people, 20 times the clips
    python benchmarks/train_demo.py --help           # the command that both call

1. Simulate nights with known truth: 1,000 people for training, 84 others for testing.
2. If real cohorts are given, read heart rate and breathing from their signals with a detector
   (--mgh, MGH/MF; --slpdb, the MIT-BIH Polysomnographic Database; PhysioNet, ODC-By 1.0).
3. Warm start: regress known values; the EEG learns heart rate, then stages, then all targets
   (recipe warm-up).
4. Train leave-one-out together with that regression (recipe body; --physiology sets its weight).
5. With --faint-subjects or --gpu: go on with 1,000 (--gpu: 7,575) other people, of whom 65 % show
   little of one modality in another (simulate --faint), with more dropped slots and half the
   learning rate.
6. With --slpdb: fine-tune on the 12 people of slpdb and those of mgh (recipe fine-tuning; with
   --gpu the recipe mixed, with 750 simulated people among them).
7. Write the tables. experiments/decode_truth.py measures each weights file on the 84 people:
   decoding, effective rank, stages and recall. experiments/synchrony.py measures recall with later
   queries, which cannot be matched by the times of heart beats. experiments/real_nights.py measures
   the weights of step 4 or 5 on slpdb with whole people held out, unchanged and fine-tuned fold by
   fold. The weights of step 6 are not measured there, because they have seen all 12 people.

Completed steps are not repeated, and training resumes from its checkpoint; repeat the command to
resume an interrupted run. The folder of --folder contains train/, test/, clips/ (the cache),
warm.safetensors, body.safetensors and so on with their logs, steps.json and table.md.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from machine import machine
from steps import Steps

from sleepfm.resources import cores
from sleepfm.training.recipe import RECIPES

EXPERIMENTS: Final = Path(__file__).parent.parent / "experiments"
SHARED: Final = Path(__file__).parent.parent.parent / "shared"
CHANNELS: Final = 'CHEST: Resp. Imp.\nC3-M2: ["EEG (C3-O1)"]\n'
"""What mgh and slpdb call channels that the table does not know."""
REAL_SPLIT: Final = "0.9,0,0.1,0"
TRIAL: Final = {"subjects": 12, "hours": 0.1, "test_subjects": 6, "epochs": 1, "epoch_clips": 128}
GPU: Final = {
    "subjects": 8425,
    "hours": 0.16667,
    "valid": 0.01,
    "repeat": 16,
    "precision": "float32",
    "faint_subjects": 7575,
    "along_subjects": 750,
}
GPU_STEPS: Final = {
    "warm": ("--batch-size", 128, "--epoch-clips", 51_200, "--average", 0.995),
    "body": ("--batch-size", 256, "--epoch-clips", 192_000, "--average", 0.995),
}
"""Sizes for a GPU; further options of each step."""
FAINT: Final = ("--lr", 1e-3, "--slot-dropout", 0.5)
FAINT_EPOCHS: Final = 5
FAINT_SHARE: Final = 0.65
FAINT_SEED_OFFSET: Final = 10
MIXED_TIMES: Final = {"slpdb": 6, "mgh": 4}
"""How often the recipe mixed uses the clips of each real cohort."""


def simulate(steps: Steps, args: argparse.Namespace) -> None:
    """Simulate all cohorts."""
    training = ("--hours", args.hours, "--second-nights", 0.1, "--failures", 0.08)
    training += ("--excerpts", "--truth", "--workers", args.workers)
    cohorts = {"train": (args.subjects, args.seed, 0.0)}
    cohorts["faint"] = (args.faint_subjects, args.seed + FAINT_SEED_OFFSET, FAINT_SHARE)
    cohorts["along"] = (args.along_subjects, args.seed + FAINT_SEED_OFFSET, FAINT_SHARE)
    for name, (subjects, seed, share) in cohorts.items():
        if subjects:
            steps.tool(
                *(f"simulate {name}", "simulate", args.folder / name, "--subjects", subjects),
                *("--seed", seed, "--faint", share, *training),
            )
    steps.tool(
        *("simulate test", "simulate", args.folder / "test", "--subjects", args.test_subjects),
        *("--hours", args.test_hours, "--seed", args.test_seed, "--excerpts", "--truth"),
        *("--workers", args.workers),
    )


def read_real(steps: Steps, args: argparse.Namespace) -> dict[str, Path]:
    """Read the truth of the available real cohorts; return it by cohort."""
    found = {}
    for name, path in cohorts(args).items():
        found[name] = args.folder / f"{name}-truth.parquet"
        steps.run(
            f"truth of {name}",
            (
                *(EXPERIMENTS / "measure_truth.py", path, "--out", found[name]),
                *("--channels", args.folder / "channels.yaml"),
            ),
        )
    return found


def cohorts(args: argparse.Namespace) -> dict[str, Path]:
    """Return the available real cohorts."""
    named = {"mgh": args.mgh, "slpdb": args.slpdb and args.slpdb / "records"}
    return {name: path for name, path in named.items() if path is not None and path.is_dir()}


def write_people(args: argparse.Namespace, names: Sequence[str]) -> Path:
    """Write one subjects.csv of the named cohorts; each recording of mgh is a separate person."""
    out: Path = args.folder / f"subjects-{'-'.join(names)}.csv"
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("recording_id", "subject_id"))
        for name in names:
            if name == "mgh":
                stems = sorted(p.stem for p in args.mgh.glob("*.hea"))
                writer.writerows((stem, f"mgh-{stem}") for stem in stems)
                continue
            table = (args.slpdb if name == "slpdb" else args.folder / name) / "subjects.csv"
            with table.open(newline="", encoding="utf-8") as source:
                writer.writerows(
                    (row["recording_id"], row["subject_id"]) for row in csv.DictReader(source)
                )
    return out


def train(steps: Steps, args: argparse.Namespace, truths: dict[str, Path]) -> dict[str, Path]:
    """Train step by step; return the weights files by name."""
    folder, real = args.folder, cohorts(args)
    common: tuple[object, ...] = ("--cache", folder / "clips", "--seed", args.seed)
    common += ("--channels", folder / "channels.yaml")
    common += ("--device", args.device, "--precision", args.precision)
    if args.threads:
        common += ("--threads", args.threads)
    if args.epoch_clips:
        common += ("--epoch-clips", args.epoch_clips)
    if args.batch_size:
        common += ("--batch-size", args.batch_size)
    describe = {
        "train": f"simulated nights: {args.subjects} subjects x {args.hours:g} h, seed {args.seed}",
        "faint": f"simulated nights, {FAINT_SHARE:.0%} faint: {args.faint_subjects} subjects x "
        f"{args.hours:g} h, seed {args.seed + FAINT_SEED_OFFSET}",
        "mgh": "mgh: ECG and breathing of 43 patients (PhysioNet, ODC-By 1.0)",
        "slpdb": "slpdb: 12 people (PhysioNet, ODC-By 1.0)",
    }
    # The record of weights also names the data of the weights that a step starts from.
    seen: list[str] = []

    def nights(times: dict[str, int], *names: str) -> tuple[object, ...]:
        there = [n for n in names if n in real or n in ("train", "faint", "along")]
        words: list[object] = [real.get(n, folder / n) for n in there]
        for name in there:
            words += ["--truth", truths.get(name, folder / name / "truth.parquet")]
            if name in times:
                words += ["--repeat", f"{real[name]}={times[name]}"]
        seen.extend(n for n in there if n in describe and n not in seen)
        words += ["--describe", "; ".join(describe[n] for n in seen)]
        return (*words, "--subjects", write_people(args, there), *common)

    def epochs(of: int | None) -> tuple[object, ...]:
        return ("--epochs", of) if of else ()

    split = ("--split", f"{1 - args.valid:g},0,{args.valid:g},0")
    sizes = GPU_STEPS if args.gpu and not args.trial else {"warm": (), "body": ()}
    often = {"mgh": args.repeat}
    jitter = ("--jitter-s", args.jitter_s) if args.jitter_s is not None else ()
    made = {}
    made["warm"] = steps.pretrain(
        *("warm", folder / "warm.safetensors", *nights(often, "train", "mgh"), *sizes["warm"]),
        *(*split, "--contract", "sleepfm-index-body", "--objective", "physiology"),
        *("--recipe", "warm-up", *epochs(args.warm_epochs or args.epochs)),
    )
    made["body"] = steps.pretrain(
        *("body", folder / "body.safetensors", *nights(often, "train", "mgh"), *sizes["body"]),
        *(*split, "--from", made["warm"], "--recipe", "body"),
        *(("--physiology", args.physiology) if args.physiology is not None else ()),
        *jitter,
        *epochs(args.epochs),
    )
    if args.faint_subjects:
        made["faint"] = steps.pretrain(
            *("faint", folder / "faint.safetensors", *nights(often, "faint", "mgh")),
            *(*sizes["body"], *split, "--from", made["body"], "--recipe", "body"),
            *(*FAINT, *jitter, *epochs(args.faint_epochs or args.epochs or FAINT_EPOCHS)),
        )
    if "slpdb" in real and args.along_subjects:
        made["real"] = steps.pretrain(
            *("real", folder / "real.safetensors", *nights(MIXED_TIMES, "slpdb", "mgh", "along")),
            *("--from", made["faint"], "--recipe", "mixed", *split),
            *(("--batch-size", 64) if args.trial else ()),
        )
    elif "slpdb" in real:
        made["real"] = steps.pretrain(
            *("real", folder / "real.safetensors", *nights({}, "slpdb", "mgh")),
            *("--from", made.get("faint", made["body"]), "--recipe", "fine-tuning"),
            *("--split", REAL_SPLIT),
            *epochs(args.epochs and min(args.epochs, 3)),
        )
    return made


def tables(
    steps: Steps, args: argparse.Namespace, made: dict[str, Path], truths: dict[str, Path]
) -> str:
    """Measure all weights, and return the tables as Markdown."""
    parts = [
        steps.run(
            f"measure {name}",
            (
                *(EXPERIMENTS / "decode_truth.py", args.folder / "test", "--weights", weights),
                *("--clips", args.clips, "--cache", args.folder / "clips"),
            ),
        )
        for name, weights in made.items()
    ]
    matched = [weights for name, weights in made.items() if name != "warm"]
    words: tuple[object, ...] = (EXPERIMENTS / "synchrony.py", args.folder / "test")
    words += ("--weights", *matched, "--later", 0.4, 5, "--cache", args.folder / "clips")
    parts.append(steps.run("measure with later queries", words))
    if "slpdb" in truths:
        words = (EXPERIMENTS / "real_nights.py", args.slpdb / "records")
        words += ("--subjects", args.slpdb / "subjects.csv")
        words += ("--channels", args.folder / "channels.yaml", "--cache", args.folder / "clips")
        unseen = made.get("faint", made["body"])
        words += ("--weights", unseen, "--out", args.folder / "real-nights.json")
        if args.folds:
            words += ("--fine-tune", "--truth", truths["slpdb"], "--device", args.device)
            if args.along_subjects:
                along = args.folder / "along"
                words += ("--along", along, along / "truth.parquet", 1)
                words += ("--times", MIXED_TIMES["slpdb"])
            if args.along_subjects and "mgh" in truths:
                words += ("--along", args.mgh, truths["mgh"], MIXED_TIMES["mgh"])
            words += ("--epochs", args.epochs) if args.epochs else ()
            words += ("--epoch-clips", args.epoch_clips) if args.epoch_clips else ()
        parts.append(steps.run("measure on slpdb", words))
    return "\n".join(parts)


def main() -> None:
    """Run all steps that are not done."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("train-demo"))
    parser.add_argument("--subjects", type=int, default=1000, help="simulated training subjects")
    parser.add_argument("--hours", type=float, default=0.3334, help="hours per training night")
    parser.add_argument("--seed", type=int, default=1, help="seed of cohort, splits and training")
    parser.add_argument(
        "--test-subjects", type=int, default=84, help="test subjects, of another seed"
    )
    parser.add_argument("--test-hours", type=float, default=0.5)
    parser.add_argument("--test-seed", type=int, default=4242)
    parser.add_argument("--clips", type=int, default=60, help="clips per test subject")
    parser.add_argument("--mgh", type=Path, default=SHARED / "mgh", help="folder of WFDB records")
    parser.add_argument(
        "--slpdb",
        type=Path,
        default=SHARED / "slpdb",
        help="folder of WFDB records with subjects.csv",
    )
    parser.add_argument(
        "--warm-epochs", type=int, help="epochs of the warm start; default: from the recipe"
    )
    parser.add_argument(
        "--epochs", type=int, help="epochs of the further steps; default: from the recipe"
    )
    parser.add_argument("--epoch-clips", type=int, help="default: from the recipe")
    parser.add_argument("--batch-size", type=int, help="default: from the recipe")
    parser.add_argument(
        "--physiology", type=float, help="its weight with leave-one-out; default: from the recipe"
    )
    parser.add_argument(
        "--jitter-s",
        type=float,
        help="in steps 4 and 5; default: from the recipe; 0: the same window",
    )
    parser.add_argument("--folds", action="store_true", help="also fine-tune on slpdb fold by fold")
    parser.add_argument(
        "--valid", type=float, default=0.04, help="share of the training subjects for validation"
    )
    parser.add_argument(
        "--repeat", type=int, default=4, help="how often a pass contains the clips of mgh"
    )
    parser.add_argument(
        "--gpu", action="store_true", help="sizes for a quarter of an hour of a GPU"
    )
    parser.add_argument(
        "--faint-subjects", type=int, default=0, help="people of step 5, who show little"
    )
    parser.add_argument(
        "--faint-epochs", type=int, help="epochs of step 5; default: --epochs, or 5"
    )
    parser.add_argument(
        "--along-subjects", type=int, default=0, help="of them, in fine-tuning on slpdb"
    )
    parser.add_argument("--trial", action="store_true", help="tiny sizes, as a test")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, default=cores(), help="processes that simulate")
    args = parser.parse_args()
    if args.seed == args.test_seed:
        parser.error("--test-seed must differ from --seed: the test subjects are new people")
    if args.gpu:
        vars(args).update(GPU)
    if args.trial:
        vars(args).update(TRIAL)
        if args.gpu:
            vars(args).update(faint_subjects=12, along_subjects=8)
    elsewhere = ("folder", "trial", "threads", "workers", "device", "clips", "folds")
    last = "mixed" if args.along_subjects else "fine-tuning"
    settings = {k: str(v) for k, v in vars(args).items() if k not in elsewhere}
    settings["recipes"] = json.dumps([RECIPES[r].to_json() for r in ("warm-up", "body", last)])
    steps = Steps(args.folder, settings)
    (args.folder / "channels.yaml").write_text(CHANNELS)
    simulate(steps, args)
    truths = read_real(steps, args)
    made = train(steps, args, truths)
    found = tables(steps, args, made, truths)
    spent = ", ".join(f"{n} {steps.cpu_minutes(n) / 60:.2f}" for n in ("simulate train", *made))
    text = (
        f"{found}\nProcessor hours of all steps: {steps.cpu_minutes() / 60:.2f} ({spent}); "
        f"{machine()}\n"
    )
    (args.folder / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
