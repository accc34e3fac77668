"""The four open questions of the paper on simulated nights: people, objectives, leads, sharing.

    python experiments/questions.py                  # 45 trainings: goes on in pieces
    python experiments/questions.py --minutes 120    # stops after two hours, between trainings
    python experiments/questions.py --people 8 --test-people 4 --hours 0.1 --steps 6 \
        --batch-size 8 --epochs 1 --seeds 1 --folder questions-tiny  # whether it runs, no more

Every arm is trained from scratch on one cohort, at the same number of steps, with several seeds,
and measured on people of another cohort. What is there is not done again; a training that was
stopped goes on from its checkpoint. It runs at the lowest priority. Under --folder lie the cohorts,
the weights, one JSON file of measures per arm and seed, table.md and questions.png and .svg, which
questions_report.py writes after every training, so that they show how far it is.

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
"""What is known of a clip and mostly in one modality: muscle tone and depth of sleep in the EEG and
EOG, variability of R-R in the ECG, movement in the belts."""
PLAIN_ARM: Final = "leave-one-out"


@dataclass(frozen=True)
class Arm:
    """One way of training, and what it is compared for."""

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
    """The folder, the sizes, and what is made of them."""

    asked: argparse.Namespace
    begun: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        folder: Path = self.asked.folder
        return folder

    def cohort(self, kind: str, lead: str) -> Path:
        """Simulate people to train on, or others to test, unless they are there."""
        folder = self.folder / f"{kind}-{lead}"
        people, seed = {
            "train": (self.asked.people, 1),
            "test": (self.asked.test_people, 4242),
        }[kind]
        sized = {"subjects": people, "hours": self.asked.hours, "seed": seed}
        about = folder / "cohort.json"
        if about.exists():
            if json.loads(about.read_text()) != sized:
                sys.exit(f"{folder} holds another cohort ({about.read_text()}); name a --folder")
            return folder
        words = (word for name, value in sized.items() for word in (f"--{name}", value))
        tool("simulate", folder, *words, "--lead", lead, "--excerpts", "--truth",
             "--contract", self.asked.contract)  # fmt: skip
        about.write_text(json.dumps(sized))
        return folder

    def weights(self, arm: Arm, seed: int) -> Path:
        """Train an arm, or go on with it."""
        out = self.folder / "weights" / f"{_plain(arm.name)}-{seed}.safetensors"
        done = out.with_suffix(".done")
        if done.exists():
            return out
        out.parent.mkdir(parents=True, exist_ok=True)
        people = max(2, round(self.asked.people * arm.share))
        files: list[Path] = []
        for number, lead in enumerate(arm.leads):
            own = sorted(self.cohort("train", lead).glob("*.edf"))[:people]
            files += own[number :: len(arm.leads)]
        epoch = self.asked.steps * self.asked.batch_size // self.asked.epochs
        resume = out.with_name(f"{out.stem}.checkpoint.pt").exists()
        tool(
            *("pretrain", *files, "--out", out, "--objective", arm.objective),
            *("--subjects", self.cohort("train", arm.leads[0]) / "subjects.csv"),
            *("--contract", self.asked.contract, "--recipe", "short", "--crop-s", 30),
            *("--epochs", self.asked.epochs, "--epoch-clips", epoch),
            *("--batch-size", self.asked.batch_size, "--together", self.asked.together),
            *("--split", "0.9,0,0.1,0", "--seed", seed, "--cache", self.folder / "clips"),
            *("--average", 0.999 if self.asked.steps >= 1000 else 0.9, "--device", "cpu"),
            *("--describe", "simulated nights, experiments/questions.py", *arm.options),
            *(["--resume"] if resume else []),
        )
        done.touch()
        return out

    def measured(self, arm: Arm, seed: int) -> dict[str, Any]:
        """Measure an arm, unless it was."""
        file = self.folder / "measures" / f"{_plain(arm.name)}-{seed}.json"
        if not file.exists():
            path = self.weights(arm, seed)
            found = {lead: self.measure(path, lead) for lead in arm.tested}
            about = {"arm": arm.name, "question": arm.question, "seed": seed, "share": arm.share}
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(about | {"tested": found}, indent=1))
        own: dict[str, Any] = json.loads(file.read_text())
        return own

    def measure(self, path: Path, lead: str) -> dict[str, Any]:
        """Measure retrieval by person, and what decodes from each modality, on tested people."""
        weights = load_weights(path)
        encoder = Encoder(weights, "cpu", backend="auto")
        folder = self.cohort("test", lead)
        recordings = prepare_clips([folder], self.folder / "clips", weights.contract).recordings
        truth = read_truth(folder / "truth.parquet")
        each = max(1, GALLERY // len(recordings))
        rows = [np.linspace(0, r.count - 1, min(each, r.count)).astype(int) for r in recordings]
        pairs = list(zip(recordings, rows, strict=True))
        vectors = {
            m: np.concatenate(
                [encoder.encode(m, np.asarray(r.signals[m][own], np.float32)) for r, own in pairs]
            )
            for m in weights.modalities
        }
        owner = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
        hits = [
            true_ranks(vectors[a], vectors[b]) <= 10 for a, b in permutations(weights.modalities, 2)
        ]
        person = np.bincount(owner, np.mean(hits, axis=0)) / np.bincount(owner)

        def column(key: str) -> NDArray[np.float64]:
            return np.concatenate([truth[r.recording_id][key][own] for r, own in pairs]).astype(
                float
            )

        keys = {*SHARED, *(k for own in PRIVATE.values() for k in own)}
        known = {k: column(k) for k in sorted(keys)}
        known |= {k: np.log(np.maximum(known[k], 1e-3)) for k in (*SHARED, "rr_sd_s")}
        decoded = {m: decode(own, known, owner) for m, own in vectors.items()}
        stage = np.concatenate([np.array(r.stage)[own] for r, own in pairs])
        one_hot = np.stack([stage == s for s in SCORED], axis=1).astype(float)
        private = [decoded[m].get(k, np.nan) for m, own in PRIVATE.items() for k in own]
        shared = [decoded[m].get(k, np.nan) for m in vectors for k in SHARED]
        return {
            "recall_at_10": float(person.mean()),
            "by_person": person.tolist(),
            "chance": 10 / len(owner),
            "heart_rate_r": decoded["ecg"].get("rr_mean_s"),
            "private_r2": float(np.nanmean(np.square(np.maximum(private, 0)))),
            "shared_r2": float(np.nanmean(np.square(np.maximum(shared, 0)))),
            "stage_auroc": stage_auroc(vectors["bas"], one_hot, owner),
            "effective_rank": {m: effective_rank(own) for m, own in vectors.items()},
        }

    @property
    def late(self) -> bool:
        """Whether the time asked for is over."""
        limit = self.asked.minutes
        return limit is not None and time.monotonic() - self.begun > 60 * limit


def tool(*words: object) -> None:
    """Run a verb of sleepfm-index, and show which."""
    asked = [str(word) for word in words]
    print("$ sleepfm-index", shlex.join(asked)[:500], file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "sleepfm_cli.main", *asked])
    if done.returncode:
        sys.exit(done.returncode)


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def main() -> None:
    """Train and measure what is not there yet, seed by seed, and write the page each time."""
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
    asked = parser.parse_args()
    os.nice(19)
    study = Study(asked)
    found: list[dict[str, Any]] = []
    for seed in range(asked.seeds):
        for arm in ARMS:
            there = study.folder / "measures" / f"{_plain(arm.name)}-{seed}.json"
            if study.late and not there.exists():
                continue
            found.append(study.measured(arm, seed))
            sizes = vars(asked) | {"arms": len(ARMS)}
            write_page(study.folder, found, sizes)
    print((study.folder / "table.md").read_text())


if __name__ == "__main__":
    main()
