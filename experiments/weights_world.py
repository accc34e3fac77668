"""Which recordings are unlike what the weights were trained on, and which are found to be.

    python experiments/weights_world.py --folder work [--slpdb RECORDINGS --channels channels.yaml]
        [--mgh RECORDINGS] [--ucddb FOLDER]

The training distribution (sleepfm/encoders/training_distribution.py) is measured on simulated
people. Against it stand other simulated people, whose share beyond the limit should be 5 %, the
same with some of their channels, real recordings (PhysioNet slpdb, MGH/MF and ucddb, the latter as
.npz files of experiments/real_eeg.py), and simulated nights with what goes wrong in practice: clips
prepared by another contract, channels that bear each other's names, a unit that is wrong. Beside it
stands the share of recordings with a warning about units when they are read.

No encoder runs: the distance is one of the prepared clips, whichever weights carry it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from real_eeg import clips_256, read_night

from sleepfm.clips import Clips
from sleepfm.cohort_choices import NO_CHOICES, Choices
from sleepfm.contract import BODY, ICML2024, ROBUST, Contract
from sleepfm.encoders.training_distribution import (
    TrainingDistribution,
    choose_people,
    measure_distribution,
)
from sleepfm.errors import SleepFMError
from sleepfm.recordings import find_recordings
from sleepfm.recordings.recording import Recording
from sleepfm.simulate import simulate_cohort

BOOSTED = replace(ROBUST, boost={k: v for k, v in BODY.boost.items() if k in ROBUST.all_slots})
Signals = Mapping[str, NDArray[np.floating]]
Change = Callable[[Recording], Recording]


@dataclass(frozen=True)
class Case:
    """A kind of recordings: prepared signals by modality, and whether a unit was warned of."""

    name: str
    recordings: list[tuple[Signals, bool]]


def main() -> None:
    """Measure the training distribution and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="for the simulated nights")
    parser.add_argument("--people", type=int, default=100, help="simulated for the distribution")
    parser.add_argument("--further", type=int, default=60, help="simulated people beside them")
    parser.add_argument("--slpdb", type=Path)
    parser.add_argument("--channels", type=Path, help="channels file of slpdb")
    parser.add_argument("--mgh", type=Path)
    parser.add_argument("--ucddb", type=Path)
    asked = parser.parse_args()
    own = simulated(asked.folder / "own", asked.people, seed=101)
    further = simulated(asked.folder / "further", asked.further, seed=202)
    shaping, _ = choose_people(path.stem for path in own)
    people = ((path.stem, cut(path).signals) for path in own)
    known = measure_distribution(ROBUST, people, shaping)
    print(f"training distribution: {known.facts}")
    print(f"{'':44} {'recordings':>10}  {'bas':>11}  {'ecg':>11}  {'resp':>11}  unit warned of")
    for case in cases(asked, further):
        report(case, known)


def simulated(folder: Path, people: int, seed: int) -> list[Path]:
    """Simulate ten minutes from somewhere in the night of each person, unless they are there."""
    if not folder.exists():
        simulate_cohort(folder, subjects=people, hours=1 / 6, seed=seed, excerpts=True)
    return sorted(folder.glob("*.edf"))[:people]


def cut(
    path: Path,
    contract: Contract = ROBUST,
    choices: Choices = NO_CHOICES,
    change: Change = lambda recording: recording,
) -> Clips:
    """Read a recording, change it, and prepare its clips."""
    return choices.cut(change(choices.read(path)), contract)[1]


def cases(asked: argparse.Namespace, further: list[Path]) -> Iterator[Case]:
    """Yield the kinds of recordings, one after the other."""
    yield Case("other simulated people", all_of(further))
    some = further[:20]
    yield Case("  one EEG channel, one belt", [kept(s, w) for s, w in all_of(some)])
    yield Case("  contract with boosted heart beats", all_of(some, BOOSTED))
    yield Case("  contract without scaling", all_of(some, replace(ROBUST, scaling="none")))
    yield Case("  contract of the authors", all_of(some, ICML2024))
    yield Case("  ECG and C3-M2 exchanged", all_of(some, change=exchanged("ECG", "C3-M2")))
    yield Case("  E1-M2 and C3-M2 exchanged", all_of(some, change=exchanged("E1-M2", "C3-M2")))
    yield Case("  CHEST and C3-M2 exchanged", all_of(some, change=exchanged("CHEST", "C3-M2")))
    yield Case("  uV and mV exchanged in the header", all_of(some, change=wrong_units))
    if asked.slpdb:
        told = NO_CHOICES.updated(ROBUST, substitute=True, channels=asked.channels)
        yield Case("slpdb, excerpts of 10 min", all_of(found(asked.slpdb), choices=told))
    if asked.mgh:
        told = NO_CHOICES.updated(ROBUST, substitute=True)
        yield Case("MGH/MF, excerpts", all_of(found(asked.mgh), choices=told))
    if asked.ucddb:
        nights = map(read_night, sorted(asked.ucddb.glob("*.npz")))
        yield Case("ucddb, one EEG channel", [({"bas": clips_256(n)}, False) for n in nights])


def found(folder: Path) -> list[Path]:
    """List the recordings of a folder."""
    return [file.path for file in find_recordings([folder]).recordings]


def all_of(
    paths: Iterable[Path],
    contract: Contract = ROBUST,
    choices: Choices = NO_CHOICES,
    change: Change = lambda recording: recording,
) -> list[tuple[Signals, bool]]:
    """Prepare recordings; those that cannot be used are named."""
    made = []
    for path in paths:
        try:
            clips = cut(path, contract, choices, change)
        except SleepFMError as error:
            print(f"left out: {path.stem}: {error}", file=sys.stderr)
            continue
        rows = np.unique(np.linspace(0, len(clips) - 1, min(len(clips), 20)).round().astype(int))
        signals = {m: x[rows] for m, x in clips.signals.items()}
        made.append((signals, any("contradicts its unit" in w for w in clips.warnings)))
    return made


def kept(signals: Signals, warned: bool) -> tuple[Signals, bool]:
    """Keep the first slot of each modality."""
    return {m: x * (np.arange(x.shape[1]) == 0)[:, None] for m, x in signals.items()}, warned


def exchanged(first: str, second: str) -> Change:
    """Let two channels bear each other's names and units."""

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
    """Call microvolts millivolts and the other way round."""
    wrong = {"uV": "mV", "mV": "uV"}
    return replace(
        recording,
        channels=tuple(replace(c, unit=wrong.get(c.unit, c.unit)) for c in recording.channels),
    )


def report(case: Case, known: TrainingDistribution) -> None:
    """Print one line: per modality the share beyond the limit, and the median ratio to it."""
    cells = []
    for modality in ROBUST.modalities:
        judged = [
            known.distance(modality, s[modality]) for s, _ in case.recordings if modality in s
        ]
        ratios = [d.ratio for d in judged if d is not None]
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
    main()
