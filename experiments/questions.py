"""The four open questions of the paper on simulated nights: people, objectives, leads, sharing.

    python experiments/questions.py                  # 48 trainings: goes on in pieces
    python experiments/questions.py --minutes 120    # stops after two hours, between trainings
    python experiments/questions.py --weights my.safetensors  # starts from weights that exist
    python experiments/questions.py --people 16 --test-people 4 --hours 0.1 --steps 4 \
        --batch-size 8 --together 2 --epochs 1 --seeds 1 --warm-steps 4 \
        --folder questions-tiny                      # whether it runs, no more

The arms of a seed start from the same weights, which know the heart: the warm start of
docs/training.md, trained on a cohort of its own (one per seed), or --weights (one for all seeds).
From there every arm is trained on one cohort for the same number of steps, without known values,
with the windows of the modalities cut --jitter-s apart, so that they cannot be matched by the times
of single heart beats, and measured on people of another cohort; so is the start. People whom
--weights have seen are refused. Completed trainings are not repeated; an interrupted one resumes
from its checkpoint. Everything runs at the lowest priority (--nice). --folder contains the cohorts,
the weights, one JSON file of measures per arm and seed, table.md, and a figure per question
(people.svg, objectives.svg, leads.svg, sharing.svg; also as PNG), which questions_report.py updates
after every training.

Primary outcomes, fixed beforehand (recall@10 is the mean over six directions and over people, among
at most 1,000 clips):

1. people: gain of recall@10 per doubling of the people trained on;
2. objectives: recall@10 of pairwise minus leave-one-out;
3. leads: recall@10 of weights trained on lead II, tested on II minus tested on V1;
4. sharing: R2 of what a modality has to itself, with 0.3 of SimCLR within it minus without.

Gate: where the heart rate does not decode from ECG with r > 0.5 in every seed of the plain arm,
nothing is concluded about pretraining.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from questions_report import LATER_S, PLAIN, START, write_page
from synchrony import cut

from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import load_weights
from sleepfm.encoders.seen import Seen
from sleepfm.stages import SCORED
from sleepfm.training.clipcache import prepare_clips
from sleepfm.training.geometry import decode, effective_rank, stage_auroc
from sleepfm_index.evaluation.retrieval.ranks import true_ranks
from sleepfm_index.truth import read_truth

GALLERY: Final = 1000
SHARED: Final = ("rr_mean_s", "breath_hz", "breath_depth")
PRIVATE: Final = {"bas": ("tone", "sleep_depth"), "ecg": ("rr_sd_s",), "resp": ("movement",)}
"""Known values of a clip that are mostly in one modality: muscle tone and sleep depth in EEG and
EOG, R-R variability in the ECG, movement in the belts."""
COHORTS: Final = {"start": 1, "train": 11, "test": 4242}
"""Seed of each simulated cohort: of the warm start, of the arms, and to test."""
PASSING: Final = ("folder", "arms", "minutes", "seeds", "threads", "workers", "nice")
"""Options that may differ when a study is continued."""


@dataclass(frozen=True)
class Arm:
    """One training configuration, and the question for which it is compared.

    The arms of the primary outcomes are trained first, with all seeds.
    """

    name: str
    question: str
    options: tuple[str, ...] = ()
    share: float = 1.0
    leads: tuple[str, ...] = ("II",)
    tested: tuple[str, ...] = ("II",)
    objective: str = "leave-one-out"
    primary: bool = False


ARMS: Final = (
    Arm(START, "none", tested=("II", "V1"), primary=True),
    Arm(PLAIN, "all", tested=("II", "V1"), primary=True),
    *(Arm(f"people-1/{n}", "people", share=1 / n, primary=True) for n in (2, 4, 8, 16)),
    Arm("pairwise", "objectives", objective="pairwise", primary=True),
    Arm("loo + covariance", "objectives", ("--covariance", "0.02")),
    Arm("barlow", "objectives", objective="barlow"),
    Arm("siglip", "objectives", objective="siglip"),
    Arm("loo + masked", "objectives", ("--masked", "0.3")),
    Arm("loo, same windows", "objectives", ("--jitter-s", "0")),
    Arm("lead V1", "leads", leads=("V1",), tested=("II", "V1")),
    Arm("half II, half V1", "leads", leads=("II", "V1"), tested=("II", "V1")),
    Arm("within 0.1", "sharing", ("--within", "0.1")),
    Arm("within 0.3", "sharing", ("--within", "0.3"), primary=True),
    Arm("within 1.0", "sharing", ("--within", "1.0")),
)


@dataclass
class Study:
    """Folder and sizes of the study, and its cohorts, weights and measures."""

    args: argparse.Namespace
    begun: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> Path:
        """Folder of the study."""
        folder: Path = self.args.folder
        return folder

    def cohort(self, kind: str, lead: str) -> Path:
        """Simulate the training or test cohort, unless it exists."""
        folder = self.folder / f"{kind}-{lead}"
        people = self.args.test_people if kind == "test" else self.args.people
        sizes = {"subjects": people, "hours": self.args.hours, "seed": COHORTS[kind]}
        marker = folder / "cohort.json"
        if marker.exists():
            if json.loads(marker.read_text()) != sizes:
                sys.exit(f"{folder} holds another cohort ({marker.read_text()}); name a --folder")
            return folder
        words = (word for name, value in sizes.items() for word in (f"--{name}", value))
        run_command("simulate", folder, *words, "--lead", lead, "--excerpts", "--truth",
             "--contract", self.args.contract, "--workers", self.args.workers)  # fmt: skip
        marker.write_text(json.dumps(sizes))
        return folder

    def check(self) -> None:
        """Refuse other settings than the folder's, and people whom the given weights have seen."""
        own = {k: v for k, v in vars(self.args).items() if k not in PASSING}
        if self.args.weights is not None:
            weights = load_weights(self.args.weights)
            own["weights"] = weights.sha256
            seen = Seen.of_record(weights.record)
            for kind in ("train", "test"):
                people = subjects(self.cohort(kind, "II"))
                known = sum(seen.split_of(p) is not None for p in people) if seen else 0
                if known:
                    sys.exit(f"{self.args.weights} have seen {known} of the people of {kind}")
        settings = self.folder / "settings.json"
        if settings.exists() and json.loads(settings.read_text()) != own:
            sys.exit(f"{settings} holds other settings; name another --folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps(own, indent=1))

    def start(self, seed: int) -> Path | str:
        """Return the weights from which the arms start, and train them unless they are given."""
        if self.args.weights is not None:
            name: str = self.args.weights
            return name
        out = self.folder / "weights" / f"warm-{seed}.safetensors"
        cohort, steps = self.cohort("start", "II"), self.args.warm_steps
        batch = min(32, self.args.batch_size)
        self.pretrain(
            *(cohort, "--truth", cohort / "truth.parquet", "--objective", "physiology"),
            *("--subjects", cohort / "subjects.csv", "--contract", self.args.contract),
            *("--recipe", "warm-up", "--batch-size", batch, "--epoch-clips", steps * batch // 4),
            *("--average", 0.99 if steps >= 200 else 0.9, "--seed", seed),
            out=out,
        )
        return out

    def weights(self, arm: Arm, seed: int) -> Path | str:
        """Train an arm from the start, or resume its training."""
        start = self.start(seed)
        if arm.name == START:
            return start
        out = self.folder / "weights" / f"{_plain(arm.name)}-{seed}.safetensors"
        people = self.people(arm)
        files: list[Path] = []
        for number, lead in enumerate(arm.leads):
            recordings = sorted(self.cohort("train", lead).glob("*.edf"))[:people]
            files += recordings[number :: len(arm.leads)]
        epoch = self.args.steps * self.args.batch_size // self.args.epochs
        self.pretrain(
            *(*files, "--from", start, "--objective", arm.objective, "--recipe", "short"),
            *("--subjects", self.cohort("train", arm.leads[0]) / "subjects.csv"),
            *("--crop-s", 15, "--jitter-s", self.args.jitter_s),
            *("--epochs", self.args.epochs, "--epoch-clips", epoch),
            *("--batch-size", self.args.batch_size, "--together", self.args.together),
            *("--average", 0.99 if self.args.steps >= 200 else 0.9, "--seed", seed),
            *arm.options,
            out=out,
        )
        return out

    def people(self, arm: Arm) -> int:
        """Return the number of people of an arm, who train or validate it."""
        return max(2, round(self.args.people * arm.share))

    def pretrain(self, *words: object, out: Path) -> None:
        """Run `pretrain` with what all trainings share, unless it has been completed."""
        done = out.with_suffix(".done")
        if done.exists():
            return
        out.parent.mkdir(parents=True, exist_ok=True)
        resume = out.with_name(f"{out.stem}.checkpoint.pt").exists()
        run_command(
            *("pretrain", *words, "--out", out, "--split", "0.9,0,0.1,0"),
            *("--cache", self.folder / "clips", "--device", self.args.device),
            *("--describe", "simulated nights, experiments/questions.py"),
            *(["--threads", self.args.threads] if self.args.threads else []),
            *(["--resume"] if resume else []),
        )
        done.touch()

    def file(self, arm: Arm, seed: int) -> Path:
        """Return the file of the measures of an arm."""
        return self.folder / "measures" / f"{_plain(arm.name)}-{seed}.json"

    def measured(self, arm: Arm, seed: int) -> dict[str, Any]:
        """Measure an arm, unless it has been measured."""
        file = self.file(arm, seed)
        if not file.exists():
            path = self.weights(arm, seed)
            tested = {lead: self.measure(path, lead) for lead in arm.tested}
            description = {
                "arm": arm.name,
                "question": arm.question,
                "seed": seed,
                "people": self.people(arm),
            }
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(description | {"tested": tested}, indent=1))
        measures: dict[str, Any] = json.loads(file.read_text())
        return measures

    def measure(self, path: Path | str, lead: str) -> dict[str, Any]:
        """Measure retrieval by person and decoding from each modality, on the test cohort."""
        weights = load_weights(path)
        encoder = Encoder(weights, self.args.device, backend="auto")
        folder = self.cohort("test", lead)
        recordings = prepare_clips([folder], self.folder / "clips", weights.contract).recordings
        truth = read_truth(folder / "truth.parquet")
        per_recording = max(1, GALLERY // len(recordings))
        rows = [  # without the last clip, which cannot be cut later
            np.linspace(0, r.count - 2, min(per_recording, r.count - 1)).astype(int)
            for r in recordings
        ]
        pairs = list(zip(recordings, rows, strict=True))

        def encode(modality: str, by: int = 0) -> NDArray[np.float32]:
            return np.concatenate(
                [encoder.encode(modality, cut(r, modality, own, by)) for r, own in pairs]
            )

        vectors = {m: encode(m) for m in weights.modalities}
        later = {
            m: encode(m, round(LATER_S * weights.contract.sample_rate)) for m in weights.modalities
        }
        owner = np.repeat(np.arange(len(rows)), [len(selected) for selected in rows])
        directions = list(permutations(weights.modalities, 2))
        hits, hits_later = (
            np.array([true_ranks(queries[a], vectors[b]) <= 10 for a, b in directions])
            for queries in (vectors, later)
        )
        person = np.bincount(owner, hits.mean(axis=0)) / np.bincount(owner)

        def column(key: str) -> NDArray[np.float64]:
            return np.concatenate(
                [truth[r.recording_id][key][selected] for r, selected in pairs]
            ).astype(float)

        keys = {*SHARED, *(k for columns in PRIVATE.values() for k in columns)}
        known = {k: column(k) for k in sorted(keys)}
        known |= {k: np.log(np.maximum(known[k], 1e-3)) for k in (*SHARED, "rr_sd_s")}
        decoded = {m: decode(x, known, owner) for m, x in vectors.items()}
        stage = np.concatenate([np.array(r.stage)[selected] for r, selected in pairs])
        one_hot = np.stack([stage == s for s in SCORED], axis=1).astype(float)
        private = [decoded[m].get(k, np.nan) for m, columns in PRIVATE.items() for k in columns]
        shared = [decoded[m].get(k, np.nan) for m in vectors for k in SHARED]
        return {
            "recall_at_10": float(person.mean()),
            "recall_later": float(hits_later.mean()),
            "by_person": person.tolist(),
            "chance": 10 / len(owner),
            "heart_rate_r": decoded["ecg"].get("rr_mean_s"),
            "private_r2": float(np.nanmean(np.square(np.maximum(private, 0)))),
            "shared_r2": float(np.nanmean(np.square(np.maximum(shared, 0)))),
            "stage_auroc": stage_auroc(vectors["bas"], one_hot, owner),
            "effective_rank": {m: effective_rank(x) for m, x in vectors.items()},
        }

    @property
    def start_name(self) -> str:
        """What the arms start from, for display."""
        if self.args.weights is None:
            return f"a warm start of {self.args.warm_steps} steps per seed"
        return f"`{load_weights(self.args.weights).name}`, the same for all seeds"

    @property
    def late(self) -> bool:
        """Whether the time limit (--minutes) is over."""
        limit = self.args.minutes
        return limit is not None and time.monotonic() - self.begun > 60 * limit


def subjects(cohort: Path) -> set[str]:
    """Return the subject ids of a simulated cohort."""
    with (cohort / "subjects.csv").open(newline="", encoding="utf-8") as file:
        return {row["subject_id"] for row in csv.DictReader(file)}


def run_command(*words: object) -> None:
    """Print and run a command of sleepfm-index."""
    args = [str(word) for word in words]
    print("$ sleepfm-index", shlex.join(args)[:500], file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "sleepfm_cli.main", *args])
    if done.returncode:
        sys.exit(done.returncode)


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def main() -> None:
    """Train and measure missing arms, seed by seed, and update the report after each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("questions"))
    parser.add_argument("--people", type=int, default=400, help="to train on")
    parser.add_argument("--test-people", type=int, default=84)
    parser.add_argument("--hours", type=float, default=0.5, help="of each night")
    parser.add_argument("--weights", help="to start from; default: a warm start of the study's own")
    parser.add_argument("--warm-steps", type=int, default=800, help="of that warm start")
    parser.add_argument("--steps", type=int, default=300, help="of every arm, after the start")
    parser.add_argument(
        "--jitter-s", type=float, default=1.0, help="between the windows of the modalities"
    )
    parser.add_argument("--epochs", type=int, default=4, help="validations, at equal distances")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--together", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=[a.name for a in ARMS], help="default: all")
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="processes that simulate")
    parser.add_argument("--nice", type=int, default=19, help="19: the lowest priority")
    parser.add_argument("--contract", default="sleepfm-index-body")
    parser.add_argument("--minutes", type=float, help="begin no training after so many minutes")
    args = parser.parse_args()
    if args.hours * 120 < 2:
        parser.error(
            "--hours must give two clips of 30 s at least, the last of which is not tested"
        )
    os.nice(args.nice)
    if args.threads:
        torch.set_num_threads(args.threads)
    study = Study(args)
    study.check()
    order = {arm.name: number for number, arm in enumerate(ARMS)}
    wanted = [
        (arm, seed)
        for primary in (True, False)
        for seed in range(args.seeds)
        for arm in ARMS
        if arm.primary is primary and (args.arms is None or arm.name in args.arms)
    ]
    runs = [study.measured(*one) for one in wanted if study.file(*one).exists()]
    sizes = vars(args) | {"arms": len(ARMS), "start": study.start_name}
    for one in [None, *(one for one in wanted if not study.file(*one).exists())]:
        if one is not None:
            if study.late:
                break
            runs.append(study.measured(*one))
        if runs:
            runs.sort(key=lambda run: (run["seed"], order[run["arm"]]))
            write_page(study.folder, runs, sizes)
    print((study.folder / "table.md").read_text() if runs else "no arm has been measured")


if __name__ == "__main__":
    main()
