"""The first experiments one would run, on simulated nights, as one page of tables.

    python experiments/simulated.py
    python experiments/simulated.py --subjects 8 --test-subjects 4 --hours 0.2 --epochs 1 \
        --batch-size 8 --folder small

1. One modality's encoder trained end to end to tell age; 2. pairwise and 3. leave-one-out
pretraining, age told by a probe. Then, by leave-one-out: two modalities instead of three, a quarter
of the subjects at as many steps, another lead of the ECG; and age in bins against age in years.

Every step is the command `sleepfm-index`, and what is there is not done again, so the same command
goes on with a run that was stopped. Under --folder lie nights-II/ and nights-V1/ (EDF+ files of the
same nights), the weights of each arm, their stores, and table.md. Subjects are numbered;
the last --test-subjects are never trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from machine import machine
from pairwise import between, tool

Rows = list[dict[str, Any]]
PAIRS: Final = (("ecg", "bas"), ("bas", "ecg"), ("ecg", "others"), ("resp", "others"))
"""Directions that are shown."""
DIFFERENT: Final = (("ecg", "bas"), ("bas", "ecg"))


@dataclass(frozen=True)
class Arm:
    """One pretraining: its name, what it is, and how it differs from leave-one-out on all."""

    name: str
    title: str
    objective: str = "leave-one-out"
    on: str = "bas,ecg,resp"
    share: int = 1
    lead: str = "II"


ARMS: Final = (
    Arm("pairwise", "(2) pairwise", objective="pairwise"),
    Arm("leave-one-out", "(3) leave-one-out"),
    Arm("two-modalities", "leave-one-out, BAS and ECG only", on="bas,ecg"),
    Arm("fewer-subjects", "leave-one-out, a quarter of the subjects, as many steps", share=4),
    Arm("lead-V1", "leave-one-out, ECG lead V1", lead="V1"),
)
UNTRAINED: Final = "untrained"


class Study:
    """The folder, the sizes, and what is made of them."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.folder: Path = asked.folder
        self.last = f"sim-{asked.subjects:04d}"
        """The last recording to train on."""
        self.tested = f"recording_id > '{self.last}'"

    def nights(self, lead: str) -> Path:
        """Simulate the cohort with one lead of the ECG, unless it is there."""
        folder = self.folder / f"nights-{lead}"
        total = self.asked.subjects + self.asked.test_subjects
        sized = {"subjects": total, "hours": self.asked.hours, "seed": self.asked.seed}
        about = folder / "cohort.json"
        if about.exists():
            if json.loads(about.read_text()) != sized:
                sys.exit(f"{folder} holds another cohort ({about.read_text()}); name a --folder")
            return folder
        words = (word for name, value in sized.items() for word in (f"--{name}", value))
        tool("simulate", folder, *words, "--lead", lead)
        about.write_text(json.dumps(sized))
        return folder

    def files(self, lead: str, first: int, last: int) -> list[Path]:
        """Name the recordings of some subjects, both ends included."""
        return [self.nights(lead) / f"sim-{i:04d}.edf" for i in range(first, last + 1)]

    def weights(self, arm: Arm) -> Path:
        """Pretrain an arm, or go on with it."""
        asked, out = self.asked, self.folder / f"{arm.name}.safetensors"
        csv = self.nights(arm.lead) / "subjects.csv"
        epochs = asked.epochs * arm.share
        log = out.with_name(f"{out.stem}.log.jsonl")
        if log.exists() and len(log.read_text().splitlines()) == epochs:
            return out
        resume = out.with_name(f"{out.stem}.checkpoint.pt").exists()
        tool(
            *("pretrain", *self.files(arm.lead, 1, asked.subjects // arm.share)),
            *("--subjects", csv, "--out", out, "--objective", arm.objective, "--on", arm.on),
            *("--recipe", "short", "--epochs", epochs, "--seed", asked.seed),
            *("--split", "0.9,0,0.1,0", "--cache", self.folder / f"clips-{arm.lead}"),
            *("--device", asked.device, "--describe", "simulated nights"),
            *self.given("--batch-size", "--lr", "--threads"),
            *(["--resume"] if resume else []),
        )
        return out

    def given(self, *options: str) -> list[Any]:
        """Options that were asked for, with their values."""
        values = {o: getattr(self.asked, o.strip("-").replace("-", "_")) for o in options}
        return [
            word for name, value in values.items() if value is not None for word in (name, value)
        ]

    def store(self, weights: Path | str, lead: str = "II", *, whole: bool = False) -> Path:
        """Build a store of the tested subjects, or of all, unless it is there."""
        name = weights if isinstance(weights, str) else weights.stem
        store = self.folder / "stores" / f"{name}-{lead}{'-all' if whole else ''}"
        total = self.asked.subjects + self.asked.test_subjects
        tool(
            *("build", *self.files(lead, 1 if whole else self.asked.subjects + 1, total)),
            *("--subjects", self.nights(lead) / "subjects.csv", "--weights", weights),
            *("--store", store, "--device", self.asked.device),
        )
        return store

    def age(self, store: Path, on: str, *more: Any) -> tuple[Rows, Rows]:
        """Age of the tested subjects by probes of the others: in bins, and in years."""
        split = ("--train-where", f"recording_id <= '{self.last}'", "--test-where", self.tested)
        words = ("--store", store, "--format", "json", "--on", on, *split, "--label", "age")
        bins = json.loads(tool("probe", *words, *more))
        return bins, json.loads(tool("probe", *words, "--task", "regression"))

    def supervised(self, store: Path, on: str) -> Path:
        """Train one modality's encoder end to end to tell the bins of age."""
        out = self.folder / f"age-by-{on}.parquet"
        if not out.exists():
            split = ("--train-where", f"recording_id <= '{self.last}'", "--test-where", self.tested)
            tool(
                *(
                    "supervise",
                    "--store",
                    store,
                    "--label",
                    "age",
                    "--on",
                    on,
                    "--out",
                    out,
                    *split,
                ),
                *("--epochs", self.asked.epochs, "--seed", self.asked.seed),
                *("--device", self.asked.device, *self.given("--batch-size", "--threads")),
            )
        return out

    def retrieval(self, store: Path, *more: Any) -> Rows:
        """Measure retrieval among the clips of the tested subjects."""
        words = ("evaluate", "--store", store, "--where", self.tested, "--format", "json")
        rows: Rows = json.loads(tool(*words, *more))
        return rows


def ages(study: Study, whole: dict[str, Path]) -> list[str]:
    """Write the table of age: end to end, probes, and a probe of untrained vectors."""
    lines = [
        "### Age of people never trained on",
        "",
        "| experiment | signals | 50 or older: AUROC per subject | per clip "
        "| in years: MAE per subject | r |",
        "|---" * 6 + "|",
    ]
    titles = {arm.name: f"{arm.title}, then a probe" for arm in ARMS} | {
        UNTRAINED: "no training, then a probe"
    }
    for on in ("bas", "ecg", "resp"):
        predictions = study.supervised(whole["leave-one-out"], on)
        bins, _ = study.age(whole["leave-one-out"], on, "--compare-with", predictions)
        own = [row for row in bins if row["features"] == predictions.stem]
        cells = [classified(own, level) for level in ("subject", "clip")]
        lines.append(f"| (1) trained end to end for age | {on} | {' | '.join(cells)} | – | – |")
    for name in (UNTRAINED, "pairwise", "leave-one-out"):
        for on in ("bas", "ecg", "resp", "bas+ecg+resp"):
            bins, years = study.age(whole[name], on)
            cells = [classified(bins, level) for level in ("subject", "clip")]
            (subject,) = (row for row in years if row["level"] == "subject")
            cells += [measured(subject, "mae", ".1f"), measured(subject, "r")]
            lines.append(f"| {titles[name]} | {on} | {' | '.join(cells)} |")
    return [*lines, ""]


def classified(rows: Rows, level: str) -> str:
    """Write the AUROC of the bins of age."""
    found = [row for row in rows if row["level"] == level and row["class"] == "macro"]
    return measured(found[0], "auroc") if found else "–"


def measured(row: dict[str, Any], name: str, form: str = ".2f") -> str:
    """Write a measure and its interval, or a dash where it is not defined."""
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if value is None:
        return "–"
    return f"{value:{form}}" + ("" if low is None else f" [{low:{form}}, {high:{form}}]")


def retrievals(study: Study, stores: dict[str, Path]) -> tuple[list[str], Rows]:
    """Write the table of retrieval, and give the rows of leave-one-out."""
    titles = {UNTRAINED: "no training"} | {arm.name: arm.title for arm in ARMS}
    head = " | ".join(f"{a} → {b}" for a, b in PAIRS)
    lines = [
        "### Recall@10 on the nights of people never trained on",
        "",
        f"| experiment | clip passes | {head} | chance |",
        "|---" * (3 + len(PAIRS)) + "|",
    ]
    found: dict[str, Rows] = {}
    for name, store in stores.items():
        found[name] = study.retrieval(store)
        by_pair = {(row["query"], row["target"]): row for row in found[name]}
        shown = [by_pair.get(pair) for pair in PAIRS]
        cells = " | ".join("–" if row is None else between(row, "recall_at_10") for row in shown)
        chance = found[name][0]["chance_at_10"]
        lines.append(f"| {titles[name]} | {passes(study, name)} | {cells} | {chance:.3f} |")
    return [*lines, ""], found["leave-one-out"]


def passes(study: Study, name: str) -> str:
    """How many clips the training of an arm has seen, counting repeats."""
    if name == UNTRAINED:
        return "0"
    shown = tool("weights", "show", study.folder / f"{name}.safetensors", "--format", "json")
    record = json.loads(shown)["record"]
    return f"{record['clips']['pretrain'] * record['recipe']['epochs']:,}"


def differences(study: Study, comparisons: dict[str, tuple[Path, Path]]) -> list[str]:
    """Write paired differences of recall@10, the first of a comparison minus the second."""
    lines = [
        "### Paired differences in recall@10",
        "",
        f"| comparison | {' | '.join(f'{a} → {b}' for a, b in DIFFERENT)} |",
        "|---" * (1 + len(DIFFERENT)) + "|",
    ]
    for title, (store, other) in comparisons.items():
        rows = study.retrieval(store, "--against", other)
        by_pair = {(row["query"], row["target"]): row for row in rows}
        cells = [measured(by_pair[pair], "recall_at_10_difference", "+.3f") for pair in DIFFERENT]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return [*lines, "", "An interval that holds 0 shows no difference.", ""]


def caption(study: Study, rows: Rows) -> list[str]:
    """Say what the data is, how much was trained, and whether the comparisons mean anything."""
    asked = study.asked
    above = [row for row in rows if row["recall_at_10_low"] > row["chance_at_10"]]
    lines = [
        "**Simulated data**: "
        f"{asked.subjects} subjects to train on and {asked.test_subjects} others to test, one "
        f"night of {asked.hours:g} h each, seed {asked.seed}; {asked.epochs} epochs of the recipe "
        "`short`. Simulated nights are easier than people (docs/simulation.md). In brackets 95 % "
        "intervals over the tested subjects; one training run an arm, so luck of the run is in no "
        "interval.",
        "",
        f"Leave-one-out is above chance in {len(above)} of {len(rows)} directions (its interval of "
        "recall@10 lies above).",
    ]
    if len(above) < len(rows):
        lines[-1] += (
            " **That is too little training for differences between arms of pretraining to mean "
            "much**: run it with more subjects, hours or epochs."
        )
    return [*lines, "", f"Run on {machine()}.", ""]


def main() -> None:
    """Make every arm, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("experiments-simulated"))
    parser.add_argument("--subjects", type=int, default=32, help="subjects to train on")
    parser.add_argument("--test-subjects", type=int, default=12)
    parser.add_argument("--hours", type=float, default=0.5, help="of each night")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch-size", type=int, help="default the recipe's")
    parser.add_argument("--lr", type=float, help="default the recipe's")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    if asked.subjects < 8 or asked.test_subjects < 2:
        parser.error("a quarter of --subjects must be 2 or more, and --test-subjects too")
    study = Study(asked)
    weights: dict[str, Path | str] = {UNTRAINED: UNTRAINED}
    weights |= {arm.name: study.weights(arm) for arm in ARMS}
    whole = {
        name: study.store(weights[name], whole=True)
        for name in (UNTRAINED, "pairwise", "leave-one-out")
    }
    stores = whole | {
        name: study.store(weights[name]) for name in ("two-modalities", "fewer-subjects")
    }
    stores["lead-V1"] = study.store(weights["lead-V1"], "V1")
    tables, rows = retrievals(study, stores)
    two = whole["leave-one-out"]
    tables += differences(
        study,
        {
            "leave-one-out − pairwise": (two, whole["pairwise"]),
            "three modalities − two": (two, stores["two-modalities"]),
            "all subjects − a quarter": (two, stores["fewer-subjects"]),
            "trained on lead II: tested on II − on V1": (
                two,
                study.store(weights["leave-one-out"], "V1"),
            ),
            "trained on lead V1: tested on V1 − on II": (
                stores["lead-V1"],
                study.store(weights["lead-V1"]),
            ),
            "lead II throughout − lead V1 throughout": (two, stores["lead-V1"]),
        },
    )
    text = "\n".join([*caption(study, rows), *ages(study, whole), *tables])
    (study.folder / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
