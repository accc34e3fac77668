"""Pairwise against leave-one-out training on simulated nights.

    python benchmarks/pairwise.py                           # on a GPU, or some hours of a CPU
    python benchmarks/pairwise.py --subjects 30 --hours 0.5 --epochs 2 --folder small

Simulates nights, trains and evaluates both objectives by commands of `sleepfm-index`, and writes a
table. Repeat the command to resume an interrupted run: simulated nights are kept, training resumes
from its checkpoint, and builds skip recordings that are in the store.

The folder of --folder then contains train/ and test/ (EDF+ files), clips/ (the cache), and for each
objective <objective>.safetensors with its log, curves, splits and checkpoint, and
<objective>-store/; table.json and table.md have the results.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import machine

OBJECTIVES = ("pairwise", "leave-one-out")
GALLERIES = {
    "all": "All clips of all held-out subjects compete",
    "cross-recording": "Across subjects: a clip competes with other subjects' clips only",
    "within-recording": "Within a subject: a clip competes with its own night's clips only",
}
MEASURES = ("recall_at_1", "recall_at_10", "median_rank")

Rows = list[dict[str, Any]]


def run_command(*arguments: object) -> str:
    """Run a command of sleepfm-index, print it, and return its output."""
    args = [str(argument) for argument in arguments]
    print("$ sleepfm-index", shlex.join(args), file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "sleepfm_cli.main", *args]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def simulate(folder: Path, subjects: int, hours: float, seed: int) -> None:
    """Simulate a cohort, unless it exists completely with this size and seed."""
    sized = {"subjects": subjects, "hours": hours, "seed": seed}
    about = folder / "cohort.json"
    if about.exists():
        if json.loads(about.read_text()) == sized:
            return
        sys.exit(f"{folder} holds another cohort ({about.read_text()}); name another --folder")
    run_command("simulate", folder, "--subjects", subjects, "--hours", hours, "--seed", seed)
    about.write_text(json.dumps(sized))


def train(args: argparse.Namespace, objective: str, out: Path) -> None:
    """Pretrain under one objective, or resume."""
    given = {
        "--epochs": args.epochs,
        "--batch-size": args.batch_size,
        "--lr": args.lr,
        "--together": args.together,
        "--threads": args.threads,
    }
    cohort = args.folder / "train"
    run_command(
        *("pretrain", cohort, "--subjects", cohort / "subjects.csv", "--out", out),
        *("--objective", objective, "--recipe", "short", "--split", "0.95,0,0.05,0"),
        *("--cache", args.folder / "clips", "--seed", args.seed, "--device", args.device),
        *("--precision", args.precision, "--describe", describe(args)),
        *(word for name, value in given.items() if value is not None for word in (name, value)),
        *(["--resume"] if out.with_name(f"{out.stem}.checkpoint.pt").exists() else []),
    )


def describe(args: argparse.Namespace) -> str:
    """Describe the training data."""
    return f"simulated nights: {args.subjects} subjects x {args.hours:g} h, seed {args.seed}"


def evaluate(args: argparse.Namespace, weights: Path) -> dict[str, Rows]:
    """Measure retrieval on the held-out subjects with `evaluate`, in each kind of gallery."""
    store, cohort = weights.with_name(f"{weights.stem}-store"), args.folder / "test"
    run_command(
        *("build", cohort, "--subjects", cohort / "subjects.csv", "--weights", weights),
        *("--store", store, "--device", args.device),
    )
    words = ("evaluate", "--store", store, "--gallery", args.gallery, "--seed", 0)
    return {
        gallery: json.loads(run_command(*words, "--among", gallery, "--format", "json"))
        for gallery in GALLERIES
    }


def table(found: dict[str, dict[str, Rows]]) -> str:
    """Format as Markdown: one section per gallery, one row per direction, both objectives."""
    lines = []
    for gallery, title in GALLERIES.items():
        first = found[OBJECTIVES[0]][gallery]
        size = max(row["gallery"] for row in first)
        lines += [
            f"### {title}",
            "",
            f"About {size:,.0f} candidates, 95 % intervals over subjects.",
        ]
        names = [
            f"{objective} {name}"
            for objective in OBJECTIVES
            for name in ("R@1", "R@10", "median rank")
        ]
        lines += [
            "",
            f"| pair | chance R@1 | {' | '.join(names)} |",
            "|---" * (2 + len(names)) + "|",
        ]
        for at, row in enumerate(first):
            cells = [f"{row['query']} -> {row['target']}", f"{row['chance_at_1']:.4f}"]
            for objective in OBJECTIVES:
                own = found[objective][gallery][at]
                assert (own["query"], own["target"]) == (row["query"], row["target"])
                cells += [between(own, name) for name in MEASURES]
            lines.append(f"| {' | '.join(cells)} |")
        cells = ["**mean**", ""]
        for objective in OBJECTIVES:
            rows = found[objective][gallery]
            cells += [f"**{mean(rows, name):.3f}**" for name in MEASURES[:2]] + [""]
        lines += [f"| {' | '.join(cells)} |", ""]
    return "\n".join(lines)


def between(row: dict[str, Any], name: str) -> str:
    """Format a measure with its interval, if there is one."""
    form = ".3f" if name.startswith("recall") else ".0f"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is None or high is None:  # too few subjects
        return f"{row[name]:{form}}"
    return f"{row[name]:{form}} [{low:{form}}, {high:{form}}]"


def mean(rows: Rows, name: str) -> float:
    """Return the mean over all directions."""
    return float(sum(row[name] for row in rows) / len(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("pairwise"))
    parser.add_argument("--subjects", type=int, default=400, help="training subjects")
    parser.add_argument("--hours", type=float, default=1.0, help="hours per training night")
    parser.add_argument("--seed", type=int, default=1, help="seed of cohort, splits and training")
    parser.add_argument("--epochs", type=int, default=2, help="passes over the clips")
    parser.add_argument("--batch-size", type=int, help="default: from the recipe")
    parser.add_argument("--lr", type=float, help="default: from the recipe")
    parser.add_argument("--together", type=int, help="default: from the recipe")
    parser.add_argument(
        "--test-subjects", type=int, default=12, help="test subjects, of another seed"
    )
    parser.add_argument("--test-hours", type=float, default=4.0)
    parser.add_argument("--test-seed", type=int, default=1001)
    parser.add_argument("--gallery", type=int, default=5000)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.seed == args.test_seed:
        parser.error("--test-seed must differ from --seed: the test subjects are new people")
    simulate(args.folder / "train", args.subjects, args.hours, args.seed)
    simulate(args.folder / "test", args.test_subjects, args.test_hours, args.test_seed)
    found: dict[str, dict[str, Rows]] = {}
    for objective in OBJECTIVES:
        weights = args.folder / f"{objective}.safetensors"
        train(args, objective, weights)
        found[objective] = evaluate(args, weights)
    records = {
        o: json.loads(
            run_command("weights", "show", args.folder / f"{o}.safetensors", "--format", "json")
        )
        for o in OBJECTIVES
    }
    test = f"{args.test_subjects} subjects x {args.test_hours:g} h, seed {args.test_seed}"
    head = [
        f"Trained on {describe(args)}; evaluated on {test}.",
        *(
            f"{o}: epoch {r['record']['epoch']} of {r['record']['recipe']['epochs']}, identity "
            f"{r['sha256'][:12]}, {r['record']['device']} in {r['record']['precision']}."
            for o, r in records.items()
        ),
        f"Evaluated on {machine()}.",
    ]
    text = "\n\n".join(head) + "\n\n" + table(found)
    (args.folder / "table.json").write_text(json.dumps({"weights": records, "rows": found}))
    (args.folder / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
