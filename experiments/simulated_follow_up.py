"""Simulate follow-up of simulated people: a table for `annotate` and `survival`.

    sleepfm-index simulate people --subjects 80 --hours 0.25 --seed 7 --excerpts --truth
    python experiments/simulated_follow_up.py people --out followup.csv

The hazard of the event is constant in time and depends on two facts of a person: it is
exp(AGE_EFFECT) higher per 10 years of age and exp(RATE_EFFECT) higher per 10 beats per minute of
the mean heart rate of the night. Times are exponential; people leave between 5 and 15 years, at
random. The printed C-index of the true hazard is what no model exceeds but by chance.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import NamedTuple

import needs
import numpy as np
from numpy.typing import NDArray

from sleepfm_index.evaluation.models.survival import FollowUp, concordance
from sleepfm_index.truth import read_truth

Floats = NDArray[np.float64]

AGE_EFFECT = 0.6
RATE_EFFECT = 0.8
EVENTS_PER_YEAR = 0.06
"""Hazard of a person of mean age and heart rate."""
LEAVE_YEARS = (5.0, 15.0)


class People(NamedTuple):
    """Subject ids [n], ages in years [n] and mean heart rates in beats per minute [n]."""

    ids: list[str]
    age: Floats
    rate: Floats


def read_people(folder: Path) -> People:
    """Read the subjects of a folder of ``simulate --truth``."""
    truth_file = folder / "truth.parquet"
    if not truth_file.exists():
        sys.exit(f"there is no {truth_file}: sleepfm-index simulate {folder} --truth makes one")
    truth = read_truth(truth_file)
    with (folder / "subjects.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["recording_id"]: row for row in csv.DictReader(file)}
    nights: dict[str, list[str]] = {}
    for recording, row in rows.items():
        nights.setdefault(row["subject_id"], []).append(recording)
    rates, ages = [], []
    for recordings in nights.values():
        intervals = np.concatenate([truth[name]["rr_mean_s"] for name in recordings])
        rates.append(60 / np.nanmean(intervals, dtype=np.float64))
        ages.append(float(rows[recordings[0]]["nsrr_age"]))
    return People(list(nights), np.array(ages), np.array(rates))


def log_hazard(people: People) -> Floats:
    """Return the logarithm of the hazard of each person, relative to that of the mean, [n]."""
    age, rate = people.age - people.age.mean(), people.rate - people.rate.mean()
    return AGE_EFFECT * age / 10 + RATE_EFFECT * rate / 10


def follow_up(risk: Floats, seed: int) -> FollowUp:
    """Draw the years until the event, or until the person leaves."""
    rng = np.random.default_rng(seed)
    event = rng.exponential(1 / (EVENTS_PER_YEAR * np.exp(risk)))
    leave = rng.uniform(*LEAVE_YEARS, len(risk))
    return FollowUp(np.minimum(event, leave), event <= leave)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("people", type=Path, help="folder of sleepfm-index simulate --truth")
    parser.add_argument("--out", type=Path, default=Path("followup.csv"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    people = read_people(args.people)
    risk = log_hazard(people)
    drawn = follow_up(risk, args.seed)
    with args.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("subject_id", "years", "died"))
        for name, years, died in zip(people.ids, drawn.time, drawn.event, strict=True):
            writer.writerow((name, f"{years:.3f}", str(bool(died)).lower()))
    print(f"{args.out}: {len(risk)} people, {int(drawn.event.sum())} events")
    alone = np.zeros(len(risk), np.int64)
    for name, values in (("hazard", risk), ("age", people.age), ("heart rate", people.rate)):
        print(f"C-index of the true {name}: {concordance(values, drawn, alone).value:.3f}")


if __name__ == "__main__":
    needs.run(main)
