"""Pretraining objectives and loss terms at equal CPU time, on the same simulated people.

    python benchmarks/objectives.py --minutes 20                  # CPU minutes per arm, one core
    python benchmarks/objectives.py --trial --folder small        # seconds per arm, as a test

Every arm trains on the same 64 people from the same seed, by the recipe `body` in float32 on one
thread, and is tested on 84 others (experiments/decode_truth.py): recall@10 in all directions,
decoding of heart rate and breathing, effective rank, stages. An arm with a warm start spends half
of its time on regression of physiology. The number of steps of an arm follows from the time of its
first few steps, without validation. The table shows the processor time that the whole arm took,
including validation and export.

Completed parts are not repeated, and an interrupted arm resumes from its checkpoint; repeat the
same command. Each arm has one seed: a difference between arms means something only if it is larger
than that between seeds (--seed).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from machine import machine
from steps import Steps

from sleepfm.choices import Objective
from sleepfm.contract import BODY
from sleepfm.encoders.load import load_weights
from sleepfm.training.data import Data, TrainingCallbacks
from sleepfm.training.pretrain import pretrain
from sleepfm.training.recipe import BODY as RECIPE
from sleepfm.training.recipe import Recipe
from sleepfm_index.truth import read_truth

EXPERIMENTS: Final = Path(__file__).parent.parent / "experiments"
TIMED: Final = 6
"""Steps of which the first is not timed."""
EPOCHS: Final = 2


@dataclass(frozen=True)
class Arm:
    """One training configuration.

    Parameters
    ----------
    objective : str
        Of the second half, or of all of it.
    warm : bool
        Whether physiology is regressed first, for half of the time.
    terms : dict of str to object
        What differs from the recipe.
    """

    objective: Objective = "leave-one-out"
    warm: bool = False
    terms: tuple[tuple[str, Any], ...] = (("physiology", 0.0),)


ARMS: Final[dict[str, Arm]] = {
    "pairwise": Arm("pairwise"),
    "leave-one-out": Arm(),
    "siglip": Arm("siglip"),
    "barlow": Arm("barlow"),
    "vicreg": Arm("vicreg"),
    "leave-one-out + SimCLR 0.3": Arm(terms=(("physiology", 0.0), ("within", 0.3))),
    "leave-one-out + masked 0.3": Arm(terms=(("physiology", 0.0), ("masked", 0.3))),
    "leave-one-out + covariance 0.04": Arm(terms=(("physiology", 0.0), ("covariance", 0.04))),
    "leave-one-out + memory 1024": Arm(terms=(("physiology", 0.0), ("memory", 1024))),
    "leave-one-out + physiology 0.3": Arm(terms=(("physiology", 0.3),)),
    "warm, leave-one-out": Arm(warm=True),
    "warm, leave-one-out + physiology 0.3": Arm(warm=True, terms=(("physiology", 0.3),)),
    "warm, leave-one-out + physiology 1": Arm(warm=True, terms=(("physiology", 1.0),)),
    "warm, pairwise + physiology 1": Arm("pairwise", True, (("physiology", 1.0),)),
    "physiology only": Arm(
        "physiology", terms=(("physiology", 1.0), ("together", 1), ("jitter_s", 0.0))
    ),
}


def train(args: argparse.Namespace, name: str, arm: Arm) -> tuple[Path, float]:
    """Train an arm; return its weights and the CPU minutes of its runs."""
    folder = args.folder / name.replace(" ", "-").replace(",", "")
    folder.mkdir(exist_ok=True)
    common = replace(RECIPE, batch_size=args.batch_size, seed=args.seed, jitter_s=args.jitter_s)
    recipe = replace(common, **dict(arm.terms))
    start, minutes = None, args.minutes
    if arm.warm:
        minutes /= 2
        warm = replace(common, together=1, jitter_s=0.0)
        start = run(args, folder / "warm.safetensors", "physiology", warm, minutes, None)
    out = run(args, folder / "weights.safetensors", arm.objective, recipe, minutes, start)
    return out, sum(spent(path) for path in folder.glob("*.cpu.json"))


def run(
    args: argparse.Namespace,
    out: Path,
    objective: Objective,
    recipe: Recipe,
    minutes: float,
    start: Path | None,
) -> Path:
    """Train for a number of CPU minutes, or resume."""
    log = out.with_name(f"{out.stem}.cpu.json")
    known = json.loads(log.read_text()) if log.exists() else {"spent_s": 0.0}
    if known.get("done"):
        return out
    if "steps" not in known:
        few = replace(recipe, epochs=1, epoch_clips=TIMED * recipe.batch_size)
        marks: list[float] = []
        probe = out.with_name(f"{out.stem}-timed.safetensors")
        for left in probe.parent.glob(f"{probe.stem}.*"):
            left.unlink()
        _pretrain(args, probe, objective, few, start, lambda *_: marks.append(time.process_time()))
        known["step_s"] = (marks[-1] - marks[0]) / (len(marks) - 1)
        known["steps"] = max(2, round(60 * minutes / known["step_s"]))
        log.write_text(json.dumps(known))
    # one whole epoch needs at least one batch
    each = max(1, known["steps"] // EPOCHS) * recipe.batch_size
    began, before = time.process_time(), known["spent_s"]

    def count(*_: object) -> None:
        known["spent_s"] = before + time.process_time() - began
        log.write_text(json.dumps(known))

    whole = replace(recipe, epochs=EPOCHS, epoch_clips=each)
    _pretrain(args, out, objective, whole, start, count)
    count()
    log.write_text(json.dumps(known | {"done": True}))
    return out


def _pretrain(
    args: argparse.Namespace,
    out: Path,
    objective: Objective,
    recipe: Recipe,
    start: Path | None,
    on_step: Any,
) -> None:
    cohort = args.folder / "train"
    data = Data(
        [cohort],
        subjects=cohort / "subjects.csv",
        fractions={"pretrain": 0.9, "train": 0, "valid": 0.1, "test": 0},
        contract=BODY,
        cache=args.folder / "clips",
        truth=read_truth(cohort / "truth.parquet"),
        description=f"simulated nights: {args.subjects} subjects, seed 1",
    )
    pretrain(
        data,
        out,
        objective,
        recipe,
        device="cpu",
        precision="float32",
        threads=1,
        resume=True,
        start=None if start is None else load_weights(start),
        checkpoint_minutes=2,
        callbacks=TrainingCallbacks(training=on_step),
    )


def spent(path: Path) -> float:
    """Return the CPU minutes of a run."""
    return float(json.loads(path.read_text())["spent_s"]) / 60


def row(name: str, minutes: float, found: dict[str, Any]) -> str:
    """Format one row of the table."""
    pairs = {k: v for k, v in found.items() if "->" in k}
    recall = [np.mean([v["recall_at_10"] for k, v in pairs.items() if set(p) <= set(k.split())])
              for p in (("ecg", "resp"), ("bas", "ecg"), ("bas", "resp"))]  # fmt: skip
    cells = [f"{minutes:.1f}", *(f"{x:.3f}" for x in (np.mean(recall), *recall))]
    for fact in ("rr_mean_s", "breath_hz"):
        cells.append(" / ".join(f"{found[m].get(fact, float('nan')):.2f}" for m in BODY.modalities))
    cells.append(" / ".join(f"{found[m]['effective_rank']:.0f}" for m in BODY.modalities))
    cells.append(f"{found['bas']['stage_auroc']:.3f}")
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Train and measure every missing arm, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("objectives"))
    parser.add_argument("--minutes", type=float, default=20.0, help="CPU minutes per arm")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--subjects", type=int, default=64)
    parser.add_argument("--test-subjects", type=int, default=84)
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument(
        "--jitter-s",
        type=float,
        default=RECIPE.jitter_s,
        help="between the windows of the modalities; 0: the same window",
    )
    parser.add_argument("--clips", type=int, default=24, help="clips per tested person")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trial", action="store_true", help="tiny sizes, as a test")
    args = parser.parse_args()
    if args.trial:
        vars(args).update(
            minutes=0.05, subjects=10, test_subjects=4, hours=0.1, batch_size=8, clips=12
        )
    torch.set_num_threads(1)
    elsewhere = ("folder", "arms", "trial", "clips")
    steps = Steps(args.folder, {k: v for k, v in vars(args).items() if k not in elsewhere})
    for cohort, size, seed in (("train", args.subjects, 1), ("test", args.test_subjects, 4242)):
        steps.tool(
            *(f"simulate {cohort}", "simulate", args.folder / cohort, "--subjects", size),
            *("--hours", args.hours, "--seed", seed, "--excerpts", "--truth"),
        )
    rows = []
    for name in args.arms:
        weights, minutes = train(args, name, ARMS[name])
        figures = weights.with_name("figures.json")
        steps.run(
            f"measure {name}",
            (
                *(EXPERIMENTS / "decode_truth.py", args.folder / "test", "--weights", weights),
                *("--clips", args.clips, "--cache", args.folder / "clips", "--out", figures),
            ),
        )
        found = json.loads(figures.read_text())[0]
        rows.append(row(name, minutes, found))
        chance = 10 / found["clips"]
    modalities = " / ".join(BODY.modalities)
    head = ("arm", "CPU min", f"recall@10, mean (chance {chance:.3f})", "ecg-resp", "bas-ecg")
    head += ("bas-resp", f"heart rate r, {modalities}", f"breathing rate r, {modalities}")
    head += (f"effective rank, {modalities}", "stages AUROC, bas")
    text = "\n".join(
        [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows, "", f"{machine()}", ""]
    )
    (args.folder / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
