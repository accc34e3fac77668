"""Measure which recordings are beyond the limit of a training distribution.

    python experiments/training_distance.py --folder work [--weights demo]
        [--slpdb RECORDINGS --channels channels.yaml] [--mgh RECORDINGS] [--ucddb FOLDER]

The training distribution (sleepfm/encoders/training_distribution.py) is that of --weights, or is
measured on simulated people, and is compared with these recordings:

- other simulated people, of whom 5 % should lie beyond the limit, with all and with few channels;
- simulated nights with common mistakes: clips prepared under another contract, exchanged channel
  names, a wrong unit;
- real recordings: PhysioNet slpdb, MGH/MF and ucddb (.npz files of experiments/real_eeg.py).

The last column is the share of recordings with a warning about units when they are read. No encoder
runs, because the distance depends on the prepared clips alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import needs
import numpy as np
from numpy.typing import NDArray
from real_eeg import clips_of, read_night

from sleepfm.clips import Clips
from sleepfm.cohort_choices import NO_CHOICES, Choices
from sleepfm.contract import BODY, ICML2024, ROBUST, Contract
from sleepfm.encoders.load import load_weights
from sleepfm.encoders.training_distribution import TrainingDistribution
from sleepfm.errors import SleepFMError
from sleepfm.recordings import find_recordings
from sleepfm.recordings.recording import Recording
from sleepfm.simulate import simulate_cohort
from sleepfm.training.measure_distribution import choose_people, measure_distribution

Signals = Mapping[str, NDArray[np.floating]]
Change = Callable[[Recording], Recording]


@dataclass(frozen=True)
class Case:
    """One row of the table.

    ``recordings`` has the prepared signals of each recording by modality, and whether reading it
    warned about a unit.
    """

    name: str
    recordings: list[tuple[Signals, bool]]


def main() -> None:
    """Measure the training distribution and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="for the simulated nights")
    parser.add_argument("--weights", help="weights with a training distribution, such as demo")
    parser.add_argument("--people", type=int, default=100, help="simulated training people")
    parser.add_argument("--further", type=int, default=60, help="simulated people to compare")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each simulated night")
    parser.add_argument("--slpdb", type=Path, help="folder of recordings")
    parser.add_argument("--channels", type=Path, help="channels file of slpdb")
    parser.add_argument("--mgh", type=Path, help="folder of recordings")
    parser.add_argument("--ucddb", type=Path, help="folder of .npz files")
    args = parser.parse_args()
    if args.weights:
        weights = load_weights(args.weights)
        if weights.distribution is None:
            parser.error(
                f"{args.weights} describes no training set: sleepfm-index weights reference"
            )
        contract, distribution = weights.contract, weights.distribution
    else:
        contract = ROBUST
        training = simulated(args.folder / "own", args.people, args.minutes, seed=101)
        shaping, _ = choose_people(path.stem for path in training)
        clips = ((path.stem, cut(path, contract).signals) for path in training)
        distribution = measure_distribution(contract, clips, shaping)
    further = simulated(args.folder / "further", args.further, args.minutes, seed=202)
    print(f"contract {contract.name}")
    print(f"training distribution: {distribution.facts}")
    print(f"{'':44} {'recordings':>10}  {'bas':>11}  {'ecg':>11}  {'resp':>11}    unit warning")
    for case in cases(args, further, contract):
        report(case, distribution)


def simulated(folder: Path, people: int, minutes: float, seed: int) -> list[Path]:
    """Simulate some minutes from anywhere in the night of each person, unless the folder exists."""
    if not folder.exists():
        simulate_cohort(folder, subjects=people, hours=minutes / 60, seed=seed, excerpts=True)
    return sorted(folder.glob("*.edf"))[:people]


def cut(
    path: Path,
    contract: Contract,
    choices: Choices = NO_CHOICES,
    change: Change = lambda recording: recording,
) -> Clips:
    """Read a recording, change it, and prepare its clips."""
    return choices.cut(change(choices.read(path)), contract)[1]


def cases(args: argparse.Namespace, further: list[Path], contract: Contract) -> Iterator[Case]:
    """Yield the rows of the table."""

    def cohort(
        paths: Iterable[Path],
        cut_by: Contract = contract,
        choices: Choices = NO_CHOICES,
        change: Change = lambda recording: recording,
    ) -> list[tuple[Signals, bool]]:
        return prepared(paths, cut_by, choices, change)

    yield Case("other simulated people", cohort(further))
    some = further[:20]
    yield Case("  one EEG channel, one belt", [first_slots(s, w) for s, w in cohort(some)])
    boost = {k: v for k, v in BODY.boost.items() if k in contract.all_slots}
    name, other = ("without", {}) if contract.boost else ("with", boost)
    yield Case(
        f"  contract {name} boosted heart beats", cohort(some, replace(contract, boost=other))
    )
    yield Case("  contract without scaling", cohort(some, replace(contract, scaling="none")))
    if contract.all_slots == ICML2024.all_slots:
        yield Case("  contract of the authors", cohort(some, ICML2024))
    for first, second in (("ECG", "C3-M2"), ("E1-M2", "C3-M2"), ("CHEST", "C3-M2")):
        change = exchanged(first, second)
        yield Case(f"  {first} and {second} exchanged", cohort(some, change=change))
    yield Case("  uV and mV exchanged in the header", cohort(some, change=wrong_units))
    if args.slpdb:
        choices = NO_CHOICES.updated(contract, substitute=True, channels=args.channels)
        slpdb = cohort(recordings_in(args.slpdb), choices=choices)
        yield Case("slpdb, excerpts of 10 min", slpdb)
    if args.mgh:
        choices = NO_CHOICES.updated(contract, substitute=True)
        yield Case("MGH/MF, excerpts", cohort(recordings_in(args.mgh), choices=choices))
    if args.ucddb:
        nights = map(read_night, sorted(args.ucddb.glob("*.npz")))
        one_eeg = [({"bas": clips_of(night, contract)}, False) for night in nights]
        yield Case("ucddb, one EEG channel", one_eeg)


def recordings_in(folder: Path) -> list[Path]:
    """List the recordings of a folder."""
    return [file.path for file in find_recordings([folder]).recordings]


def prepared(
    paths: Iterable[Path], contract: Contract, choices: Choices, change: Change
) -> list[tuple[Signals, bool]]:
    """Prepare at most 20 clips of each recording; print which recordings cannot be used."""
    recordings = []
    for path in paths:
        try:
            clips = cut(path, contract, choices, change)
        except SleepFMError as error:
            print(f"left out: {path.stem}: {error}", file=sys.stderr)
            continue
        rows = np.unique(np.linspace(0, len(clips) - 1, min(len(clips), 20)).round().astype(int))
        signals = {m: x[rows] for m, x in clips.signals.items()}
        recordings.append((signals, any("contradicts its unit" in w for w in clips.warnings)))
    return recordings


def first_slots(signals: Signals, warned: bool) -> tuple[Signals, bool]:
    """Keep only the first slot of each modality."""
    return {m: x * (np.arange(x.shape[1]) == 0)[:, None] for m, x in signals.items()}, warned


def exchanged(first: str, second: str) -> Change:
    """Exchange the names and units of two channels."""

    def change(recording: Recording) -> Recording:
        by_label = {c.label: c for c in recording.channels}
        other = {first: by_label[second], second: by_label[first]}
        channels = (
            replace(other[c.label], label=c.label, unit=c.unit) if c.label in other else c
            for c in recording.channels
        )
        return replace(recording, channels=tuple(channels))

    return change


def wrong_units(recording: Recording) -> Recording:
    """Exchange microvolts and millivolts in the header."""
    wrong = {"uV": "mV", "mV": "uV"}
    return replace(
        recording,
        channels=tuple(replace(c, unit=wrong.get(c.unit, c.unit)) for c in recording.channels),
    )


def report(case: Case, distribution: TrainingDistribution) -> None:
    """Print one row: by modality the share beyond the limit, and the median ratio to it."""
    cells = []
    for modality in ROBUST.modalities:
        distances = [
            distribution.distance(modality, s[modality])
            for s, _ in case.recordings
            if modality in s
        ]
        ratios = [d.ratio for d in distances if d is not None]
        share = np.mean([ratio > 1 for ratio in ratios]) if ratios else np.nan
        cells.append(f"{share:4.0%} ({np.median(ratios):4.1f})" if ratios else "-")
    warned = np.mean([w for _, w in case.recordings])
    print(
        f"{case.name:44} {len(case.recordings):10}  "
        + "  ".join(f"{cell:>11}" for cell in cells)
        + f"  {warned:14.0%}",
        flush=True,
    )


if __name__ == "__main__":
    needs.run(main)
