"""Splits of subjects for training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from sleepfm import subjects
from sleepfm.errors import SubjectsError, TrainingError

Split = Literal["pretrain", "train", "valid", "test"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)

FRACTIONS: Final[dict[Split, float]] = {"pretrain": 0.7, "train": 0.1, "valid": 0.1, "test": 0.1}
"""Default fraction of the subjects in each split."""


@dataclass(frozen=True)
class Splits:
    """Assignment of subjects to splits.

    Parameters
    ----------
    of_subject : mapping of str to str
        The split of each subject.
    """

    of_subject: Mapping[str, Split]

    def subjects(self, split: Split) -> tuple[str, ...]:
        """Return the subjects of one split, sorted.

        Parameters
        ----------
        split : {"pretrain", "train", "valid", "test"}
            Name of the split.
        """
        return tuple(sorted(s for s, assigned in self.of_subject.items() if assigned == split))

    def to_json(self) -> str:
        """Return the sorted subjects of each split as JSON text."""
        return json.dumps({s: self.subjects(s) for s in SPLITS}, indent=1) + "\n"


def split_subjects(
    subjects: Iterable[str], fractions: Mapping[Split, float] = FRACTIONS, seed: int = 0
) -> Splits:
    """Assign each subject to one split.

    Subjects are ordered by the SHA-256 of seed and subject, so that the result depends neither on
    the order of files nor on a random generator. Every split with a fraction above zero gets at
    least one subject.

    Parameters
    ----------
    subjects : iterable of str
        Subject identifiers; duplicates count once.
    fractions : mapping of str to float
        Fraction of the subjects in each split.
    seed : int
        Seed of the order.

    Returns
    -------
    Splits
        The split of each subject.

    Raises
    ------
    TrainingError
        If there are fewer subjects than splits with a fraction above zero.
    """
    used = [s for s in SPLITS if fractions.get(s, 0) > 0]
    names = sorted(set(subjects), key=lambda s: hashlib.sha256(f"{seed}/{s}".encode()).hexdigest())
    if len(names) < len(used):
        raise TrainingError(
            f"{len(names)} subject{'s' * (len(names) != 1)} cannot be split into "
            f"{', '.join(used)} without overlap; add subjects up to at least {len(used)}"
        )
    total = sum(fractions[s] for s in used)
    # the smaller splits are filled first; the largest one takes the remaining subjects
    largest = max(used, key=lambda s: fractions[s])
    of_subject: dict[str, Split] = {}
    start = 0
    for split in used:
        if split != largest:
            size = max(1, int(len(names) * fractions[split] / total))
            of_subject.update(dict.fromkeys(names[start : start + size], split))
            start += size
    of_subject.update(dict.fromkeys(names[start:], largest))
    if largest not in of_subject.values():
        raise TrainingError(f"no subject is left for {largest}; give more subjects")
    return Splits(of_subject)


def read_subjects(path: Path) -> dict[str, str]:
    """Read the subject of each recording from subjects.csv.

    Parameters
    ----------
    path : Path
        The file, as for :func:`sleepfm.subjects.read_subjects`.

    Returns
    -------
    dict of str to str
        Subject id by recording id; the recording id itself where no subject is given.

    Raises
    ------
    TrainingError
        If the file cannot be read or has no column ``recording_id``.
    """
    try:
        # Columns that a store would refuse as identifying are not used here.
        table = subjects.read_subjects(path, allow_identifying=True)
    except SubjectsError as error:
        raise TrainingError(str(error)) from error
    return {name: str(row.get("subject_id") or name) for name, row in table.rows.items()}
