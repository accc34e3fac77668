"""Cohorts of simulated nights as files: EDF+ recordings and subjects.csv."""

from __future__ import annotations

import csv
import math
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm import process_pool
from sleepfm.errors import SimulationError
from sleepfm.simulate.edf import to_edf
from sleepfm.simulate.heart import LEADS
from sleepfm.simulate.hypnogram import EPOCH_S
from sleepfm.simulate.montage import further_slots
from sleepfm.simulate.night import Night, simulate_night
from sleepfm.simulate.streams import Streams
from sleepfm.simulate.truth import clip_truth

MAX_SUBJECTS: Final = 9999
MAX_HOURS: Final = 24.0
_NIGHT_H: Final = 7.5

COLUMNS: Final = (
    "recording_id",
    "subject_id",
    "site",
    "nsrr_age",
    "nsrr_sex",
    "nsrr_bmi",
    "nsrr_ahi_hp3r_aasm15",
)
"""Columns of subjects.csv."""


def simulate_cohort(
    folder: Path,
    *,
    subjects: int = 8,
    hours: float = 1.0,
    seed: int = 0,
    lead: str = "II",
    slots: Sequence[str] = (),
    second_nights: float = 0.0,
    excerpts: bool = False,
    failures: float = 0.0,
    faint: float = 0.0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    known: Callable[[str, Mapping[str, NDArray[np.float32]]], None] | None = None,
) -> list[Path]:
    """Write a simulated cohort: ``sim-0001.edf`` and so on (EDF+), and ``subjects.csv``.

    Each file has the channels C3-M2, C4-M1, O1-M2, O2-M1, E1-M2 (uV), ECG (mV), CHEST, ABD (V or no
    unit), SaO2 (%), Flow and Pleth, and those added by ``slots``, at sampling rates drawn per
    subject and sensor. Stages, respiratory events, desaturations and arousals are annotations.
    Subject ``i`` does not depend on the number of subjects. Files are written atomically.

    Parameters
    ----------
    folder : Path
        Output folder; created if absent. Files of an earlier run with the same seed are replaced.
    subjects : int
        Number of subjects, 1 to 9999.
    hours : float
        Length of each night in hours, at most 24, rounded to whole epochs of 30 s.
    seed : int
        Seed of the cohort, >= 0; the same seed and hours give the same bytes.
    lead : {"II", "V1"}
        Lead of the ECG; the rest of a night does not depend on it.
    slots : sequence of str
        Slots of a contract: those in :data:`sleepfm.simulate.montage.FURTHER` are added to the
        standard channels, which do not change.
    second_nights : float
        Fraction of the subjects, 0 to 1, with a second night (``sim-0001-night2.edf``), recorded
        with other sensors.
    excerpts : bool
        Whether recordings begin at a random point of the night instead of at lights out.
    failures : float
        Probability, 0 to 1, that a channel fails for a part of the night or is lost.
    faint : float
        Fraction of the subjects, 0 to 1, whose modalities show little of each other
        (:mod:`sleepfm.simulate.faint`).
    workers : int
        Number of processes; the files do not depend on it.
    progress : callable, optional
        Called as ``progress(done, subjects)`` before the first and after each subject.
    known : callable, optional
        Called as ``known(recording_id, truth)`` after a file is written, with the true values of
        its clips (:func:`sleepfm.simulate.clip_truth`).

    Returns
    -------
    list of Path
        The EDF+ files, in the order of the subjects.

    Raises
    ------
    SimulationError
        If an argument is out of bounds, a slot cannot be simulated, the folder cannot be written,
        it holds a subjects.csv that is not from a cohort of this seed, or a process ended early.
    """
    epochs = _check(subjects, hours, seed)
    for name, share in (
        ("second nights", second_nights),
        ("failures", failures),
        ("faint subjects", faint),
    ):
        if not 0 <= share <= 1:
            raise SimulationError(f"the share of {name} must be 0 to 1, not {share}")
    if lead not in LEADS:
        raise SimulationError(f"no ECG lead {lead!r}; choose from {', '.join(LEADS)}")
    folder = Path(folder)
    plan = _Plan(
        folder, seed, epochs, lead, further_slots(slots), second_nights, excerpts, failures, faint
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rows = _known_rows(folder / "subjects.csv", seed)
        paths = []
        if progress:
            progress(0, subjects)
        with closing(_written(plan, subjects, workers)) as subjects_written:
            for done, written in enumerate(subjects_written, 1):
                for row, truth in written:
                    stem = row["recording_id"]
                    paths.append(folder / f"{stem}.edf")
                    rows[stem] = row
                    if known:
                        known(stem, truth)
                if progress and done < subjects:
                    progress(done, subjects)
        with _replacing(folder / "subjects.csv") as temporary:
            _write_rows(temporary, rows)
    except OSError as error:
        reason = error.strerror or "it cannot be written"
        raise SimulationError(
            f"cannot write to the folder {folder}: {reason}; choose another folder"
        ) from error
    if progress:
        progress(subjects, subjects)
    return paths


@dataclass(frozen=True)
class _Plan:
    """What all subjects of a cohort share."""

    folder: Path
    seed: int
    epochs: int
    lead: str
    further: tuple[str, ...]
    second_nights: float
    excerpts: bool
    failures: float
    faint: float


_Written = list[tuple[dict[str, str], dict[str, NDArray[np.float32]]]]
"""Row of subjects.csv and true values of the clips, for each night of a subject."""


def _written(plan: _Plan, subjects: int, workers: int) -> Generator[_Written]:
    """Write the subjects one by one, or in processes, and yield what was written in order."""
    numbers = range(1, subjects + 1)
    count = min(workers, subjects) if os.name == "posix" else 1  # processes inherit a socket
    if count <= 1:
        yield from (_write_subject(plan, number) for number in numbers)
        return
    results = process_pool.results(_try_subject, plan, numbers, count)
    try:
        for number, result in zip(numbers, results, strict=True):
            if isinstance(result, process_pool.Died):
                raise SimulationError(f"subject {number} was not simulated: {result.why}")
            if isinstance(result, OSError):
                raise result
            yield result
    finally:
        results.close()
        # a process that is ended while it writes cannot remove its own
        for temporary in plan.folder.glob(".sim-*.tmp"):
            temporary.unlink(missing_ok=True)


def _try_subject(plan: _Plan, number: int) -> _Written | OSError:
    """Write a subject in a process, which must outlive an error to return it."""
    try:
        return _write_subject(plan, number)
    except OSError as error:
        return error


def _write_subject(plan: _Plan, number: int) -> _Written:
    written = []
    for night in _nights(plan, number):
        night_number = night.streams.night
        stem = f"sim-{number:04d}" + (f"-night{night_number}" if night_number > 1 else "")
        with _replacing(plan.folder / f"{stem}.edf") as temporary:
            to_edf(night, plan.lead, plan.further, plan.failures).write(temporary)
        written.append((_row(night, stem), clip_truth(night)))
    return written


def _nights(plan: _Plan, number: int) -> Iterator[Night]:
    """Simulate the nights of one subject."""
    seed = plan.seed
    faint = Streams(seed, number)("faint").random() < plan.faint
    second = Streams(seed, number)("nights").random() < plan.second_nights
    for night_number in range(1, 2 + second):
        first = 0
        if plan.excerpts:
            spare_epochs = max(0, round(_NIGHT_H * 3600 / EPOCH_S) - plan.epochs)
            first = int(
                Streams(seed, number, night_number)("first epoch").integers(spare_epochs + 1)
            )
        yield simulate_night(
            seed, number, plan.epochs, night=night_number, first_epoch=first, faint=faint
        )


def _check(subjects: int, hours: float, seed: int) -> int:
    if not 1 <= subjects <= MAX_SUBJECTS:
        raise SimulationError(f"subjects must be 1 to {MAX_SUBJECTS}, not {subjects}")
    shortest = EPOCH_S / 3600
    if not (math.isfinite(hours) and shortest <= hours <= MAX_HOURS):
        raise SimulationError(f"hours must be {shortest:.4f} (one epoch) to 24, not {hours}")
    if seed < 0:
        raise SimulationError(f"the seed must be 0 or more, not {seed}")
    return round(hours * 3600 / EPOCH_S)


def _row(night: Night, stem: str) -> dict[str, str]:
    subject = night.subject
    ahi = "" if math.isnan(night.ahi) else f"{night.ahi:.2f}"
    values = (
        stem,
        f"sim-seed{night.streams.seed}-{night.streams.subject:04d}",
        subject.site,
        f"{subject.age:.1f}",
        subject.sex,
        f"{subject.bmi:.1f}",
        ahi,
    )
    return dict(zip(COLUMNS, values, strict=True))


def _known_rows(path: Path, seed: int) -> dict[str, dict[str, str]]:
    """Read the rows of an earlier run; refuse a subjects.csv of another origin."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.DictReader(file))
    prefix = f"sim-seed{seed}-"
    if any(
        set(row) != set(COLUMNS) or not str(row["subject_id"]).startswith(prefix) for row in rows
    ):
        raise SimulationError(
            "the folder holds a subjects.csv that is not of this seed; choose another folder"
        )
    return {row["recording_id"]: row for row in rows}


def _write_rows(path: Path, rows: dict[str, dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[stem] for stem in sorted(rows))


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name next to ``path``, which replaces ``path`` on success."""
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
