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
    """The split of every subject."""

    of_subject: Mapping[str, Split]

    def subjects(self, split: Split) -> tuple[str, ...]:
        """Subjects of one split, sorted.

        Parameters
        ----------
        split : str
        """
        return tuple(sorted(s for s, own in self.of_subject.items() if own == split))

    def to_json(self) -> str:
        """Write as JSON: the sorted subjects of each split."""
        return json.dumps({s: self.subjects(s) for s in SPLITS}, indent=1) + "\n"


def split_subjects(
    subjects: Iterable[str], fractions: Mapping[Split, float] = FRACTIONS, seed: int = 0
) -> Splits:
    """Assign subjects to splits; nobody is in two of them.

    The order is that of SHA-256 over seed and subject, so that it depends on no file order and on
    no random generator. Every split whose fraction is not zero gets at least one subject.

    Parameters
    ----------
    subjects : iterable of str
        Identifiers; repeated ones count once.
    fractions : mapping of str to float
        Share of the subjects in each split.
    seed : int

    Raises
    ------
    TrainingError
        If there are fewer subjects than such splits.
    """
    wanted = [s for s in SPLITS if fractions.get(s, 0) > 0]
    names = sorted(set(subjects), key=lambda s: hashlib.sha256(f"{seed}/{s}".encode()).hexdigest())
    if len(names) < len(wanted):
        raise TrainingError(
            f"{len(names)} subject{'s' * (len(names) != 1)} cannot be split into "
            f"{', '.join(wanted)} without overlap; add subjects up to at least {len(wanted)}"
        )
    total = sum(fractions[s] for s in wanted)
    # the splits kept apart are cut first, the largest one takes what is left
    largest = max(wanted, key=lambda s: fractions[s])
    of_subject: dict[str, Split] = {}
    at = 0
    for split in wanted:
        if split != largest:
            size = max(1, int(len(names) * fractions[split] / total))
            of_subject.update(dict.fromkeys(names[at : at + size], split))
            at += size
    of_subject.update(dict.fromkeys(names[at:], largest))
    if largest not in of_subject.values():
        raise TrainingError(f"no subject is left for {largest}; give more subjects")
    return Splits(of_subject)


def read_subjects(path: Path) -> dict[str, str]:
    """Read subjects.csv: which subject each recording is of.

    Parameters
    ----------
    path : Path
        As in :func:`sleepfm.subjects.read_subjects`.

    Raises
    ------
    TrainingError
        If it cannot be read or has no ``recording_id``.
    """
    try:
        # What a store would not take for a column is of no interest here.
        table = subjects.read_subjects(path, allow_identifying=True)
    except SubjectsError as error:
        raise TrainingError(str(error)) from error
    return {name: str(row.get("subject_id") or name) for name, row in table.rows.items()}
