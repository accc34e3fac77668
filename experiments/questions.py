"""The four open questions of the paper on simulated nights: people, objectives, leads, sharing.

    python experiments/questions.py                  # 45 trainings: goes on in pieces
    python experiments/questions.py --minutes 120    # stops after two hours, between trainings
    python experiments/questions.py --people 8 --test-people 4 --hours 0.1 --steps 6 \
        --batch-size 8 --epochs 1 --seeds 1 --folder questions-tiny  # whether it runs, no more

Every arm is trained from scratch on one cohort, for the same number of steps, with several seeds,
and measured on people of another cohort. Completed trainings are not repeated; an interrupted one
resumes from its checkpoint. Everything runs at the lowest priority. --folder contains the cohorts,
the weights, one JSON file of measures per arm and seed, and table.md, questions.png and
questions.svg, which questions_report.py updates after every training.

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
from numpy.typing import NDArray
from questions_report import write_page

from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import load_weights
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
PLAIN_ARM: Final = "leave-one-out"


@dataclass(frozen=True)
class Arm:
    """One training configuration, and the question for which it is compared."""

    name: str
    question: str
    options: tuple[str, ...] = ()
    share: float = 1.0
    leads: tuple[str, ...] = ("II",)
    tested: tuple[str, ...] = ("II",)
    objective: str = "leave-one-out"


ARMS: Final = (
    Arm(PLAIN_ARM, "all", tested=("II", "V1")),
    *(Arm(f"people-1/{n}", "people", share=1 / n) for n in (2, 4, 8, 16)),
    Arm("pairwise", "objectives", objective="pairwise"),
    Arm("loo + covariance", "objectives", ("--covariance", "0.02")),
    Arm("barlow", "objectives", objective="barlow"),
    Arm("siglip", "objectives", objective="siglip"),
    Arm("loo + masked", "objectives", ("--masked", "0.3")),
    Arm("lead V1", "leads", leads=("V1",), tested=("II", "V1")),
    Arm("half II, half V1", "leads", leads=("II", "V1"), tested=("II", "V1")),
    *(Arm(f"within {w}", "sharing", ("--within", w)) for w in ("0.1", "0.3", "1.0")),
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
        people, seed = {
            "train": (self.args.people, 1),
            "test": (self.args.test_people, 4242),
        }[kind]
        sizes = {"subjects": people, "hours": self.args.hours, "seed": seed}
        marker = folder / "cohort.json"
        if marker.exists():
            if json.loads(marker.read_text()) != sizes:
                sys.exit(f"{folder} holds another cohort ({marker.read_text()}); name a --folder")
            return folder
        words = (word for name, value in sizes.items() for word in (f"--{name}", value))
        run_command("simulate", folder, *words, "--lead", lead, "--excerpts", "--truth",
             "--contract", self.args.contract)  # fmt: skip
        marker.write_text(json.dumps(sizes))
        return folder

    def weights(self, arm: Arm, seed: int) -> Path:
        """Train an arm, or resume its training."""
        out = self.folder / "weights" / f"{_plain(arm.name)}-{seed}.safetensors"
        done = out.with_suffix(".done")
        if done.exists():
            return out
        out.parent.mkdir(parents=True, exist_ok=True)
        people = max(2, round(self.args.people * arm.share))
        files: list[Path] = []
        for number, lead in enumerate(arm.leads):
            recordings = sorted(self.cohort("train", lead).glob("*.edf"))[:people]
            files += recordings[number :: len(arm.leads)]
        epoch = self.args.steps * self.args.batch_size // self.args.epochs
        resume = out.with_name(f"{out.stem}.checkpoint.pt").exists()
        run_command(
            *("pretrain", *files, "--out", out, "--objective", arm.objective),
            *("--subjects", self.cohort("train", arm.leads[0]) / "subjects.csv"),
            *("--contract", self.args.contract, "--recipe", "short", "--crop-s", 30),
            *("--epochs", self.args.epochs, "--epoch-clips", epoch),
            *("--batch-size", self.args.batch_size, "--together", self.args.together),
            *("--split", "0.9,0,0.1,0", "--seed", seed, "--cache", self.folder / "clips"),
            *("--average", 0.999 if self.args.steps >= 1000 else 0.9, "--device", "cpu"),
            *("--describe", "simulated nights, experiments/questions.py", *arm.options),
            *(["--resume"] if resume else []),
        )
        done.touch()
        return out

    def measured(self, arm: Arm, seed: int) -> dict[str, Any]:
        """Measure an arm, unless it has been measured."""
        file = self.folder / "measures" / f"{_plain(arm.name)}-{seed}.json"
        if not file.exists():
            path = self.weights(arm, seed)
            tested = {lead: self.measure(path, lead) for lead in arm.tested}
            description = {
                "arm": arm.name,
                "question": arm.question,
                "seed": seed,
                "share": arm.share,
            }
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(description | {"tested": tested}, indent=1))
        measures: dict[str, Any] = json.loads(file.read_text())
        return measures

    def measure(self, path: Path, lead: str) -> dict[str, Any]:
        """Measure retrieval by person and decoding from each modality, on the test cohort."""
        weights = load_weights(path)
        encoder = Encoder(weights, "cpu", backend="auto")
        folder = self.cohort("test", lead)
        recordings = prepare_clips([folder], self.folder / "clips", weights.contract).recordings
        truth = read_truth(folder / "truth.parquet")
        per_recording = max(1, GALLERY // len(recordings))
        rows = [
            np.linspace(0, r.count - 1, min(per_recording, r.count)).astype(int) for r in recordings
        ]
        pairs = list(zip(recordings, rows, strict=True))
        vectors = {
            m: np.concatenate(
                [
                    encoder.encode(m, np.asarray(r.signals[m][selected], np.float32))
                    for r, selected in pairs
                ]
            )
            for m in weights.modalities
        }
        owner = np.repeat(np.arange(len(rows)), [len(selected) for selected in rows])
        hits = [
            true_ranks(vectors[a], vectors[b]) <= 10 for a, b in permutations(weights.modalities, 2)
        ]
        person = np.bincount(owner, np.mean(hits, axis=0)) / np.bincount(owner)

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
            "by_person": person.tolist(),
            "chance": 10 / len(owner),
            "heart_rate_r": decoded["ecg"].get("rr_mean_s"),
            "private_r2": float(np.nanmean(np.square(np.maximum(private, 0)))),
            "shared_r2": float(np.nanmean(np.square(np.maximum(shared, 0)))),
            "stage_auroc": stage_auroc(vectors["bas"], one_hot, owner),
            "effective_rank": {m: effective_rank(x) for m, x in vectors.items()},
        }

    @property
    def late(self) -> bool:
        """Whether the time limit (--minutes) is over."""
        limit = self.args.minutes
        return limit is not None and time.monotonic() - self.begun > 60 * limit


def run_command(*arguments: object) -> None:
    """Print and run a command of sleepfm-index."""
    args = [str(argument) for argument in arguments]
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
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=4, help="validations, at equal distances")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--together", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--contract", default="sleepfm-index-body")
    parser.add_argument("--minutes", type=float, help="begin no training after so many minutes")
    args = parser.parse_args()
    os.nice(19)
    study = Study(args)
    runs: list[dict[str, Any]] = []
    for seed in range(args.seeds):
        for arm in ARMS:
            file = study.folder / "measures" / f"{_plain(arm.name)}-{seed}.json"
            if study.late and not file.exists():
                continue
            runs.append(study.measured(arm, seed))
            sizes = vars(args) | {"arms": len(ARMS)}
            write_page(study.folder, runs, sizes)
    print((study.folder / "table.md").read_text())


if __name__ == "__main__":
    main()
