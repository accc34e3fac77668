"""Measurement of a training distribution on the clips of a training set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.contract import Contract
from sleepfm.encoders.clip_spectra import BANDS, log_band_powers
from sleepfm.encoders.training_distribution import (
    MIN_CALIBRATING,
    MIN_DEVIATION,
    MIN_PEOPLE,
    RIDGE,
    Floats,
    Spectra,
    TrainingDistribution,
)
from sleepfm.errors import TrainingError

MAX_PEOPLE: Final = 400
"""Maximum number of people to measure."""

PersonClips = tuple[str, Mapping[str, NDArray[Any]]]
"""A person, and clips [n, slots, samples] by modality; absent slots are zero."""


def choose_people(people: Iterable[str]) -> tuple[list[str], list[str]]:
    """Divide people into those for mean and covariance, and those who set the limit.

    They are drawn in the order of the SHA-256 of their ids, so that the choice depends on nothing
    but the ids.

    Parameters
    ----------
    people : iterable of str
        Subject ids; repeated ones count once.

    Returns
    -------
    shaping : list of str
        People for mean and covariance.
    calibrating : list of str
        People who set the limit; at most :data:`MAX_PEOPLE` together with ``shaping``.

    Raises
    ------
    TrainingError
        If there are fewer than :data:`MIN_PEOPLE`.
    """
    names = sorted(set(people), key=lambda s: hashlib.sha256(s.encode()).hexdigest())
    names = names[:MAX_PEOPLE]
    if len(names) < MIN_PEOPLE:
        raise TrainingError(
            f"a training distribution needs recordings of at least {MIN_PEOPLE} people, got "
            f"{len(names)}"
        )
    count = max(MIN_CALIBRATING, len(names) // 2)
    return names[count:], names[:count]


def measure_distribution(
    contract: Contract, clips: Iterable[PersonClips], shaping: Sequence[str]
) -> TrainingDistribution:
    """Measure the training distribution on clips of two groups of people.

    Parameters
    ----------
    contract : Contract
        Contract under which the clips were prepared.
    clips : iterable of (str, mapping of str to ndarray of float, shape [n, slots, samples])
        For each recording its subject, and its clips by modality.
    shaping : sequence of str
        Subjects for mean and covariance; all others set the limit.

    Returns
    -------
    TrainingDistribution

    Raises
    ------
    TrainingError
        If no slot is filled for :data:`MIN_CALIBRATING` of the people who set the limit.
    """
    powers: dict[str, list[tuple[str, Floats, NDArray[np.bool_]]]] = {}
    first, seen, count = set(shaping), set(), 0
    for person, signals in clips:
        seen.add(person)
        most_clips = 0
        for modality, x in signals.items():
            log_powers, filled = log_band_powers(x, contract.sample_rate)
            powers.setdefault(modality, []).append((person, log_powers, filled))
            most_clips = max(most_clips, len(log_powers))
        count += most_clips
    spectra = {}
    for modality in contract.modalities:
        nights = powers.get(modality, [])
        shape = [(p, f) for person, p, f in nights if person in first]
        rest = [night for night in nights if night[0] not in first]
        measured = _spectra(shape, rest) if shape and rest else None
        if measured is not None:
            spectra[modality] = measured
    if not spectra:
        raise TrainingError(
            f"no slot is filled for {MIN_CALIBRATING} of the people who set the limit; add people"
        )
    shaped = len(seen & first)
    return TrainingDistribution(contract, spectra, shaped, len(seen) - shaped, count)


def _spectra(
    shape: list[tuple[Floats, NDArray[np.bool_]]],
    rest: list[tuple[str, Floats, NDArray[np.bool_]]],
) -> Spectra | None:
    powers = np.concatenate([p for p, _ in shape])
    filled = np.concatenate([f for _, f in shape])
    slots = powers.shape[1]
    mean = np.full((slots, BANDS), np.nan, np.float32)
    deviation, precision = mean.copy(), np.full((slots, BANDS, BANDS), np.nan, np.float32)
    for slot in range(slots):
        slot_powers = powers[filled[:, slot], slot].astype(np.float64)
        if len(slot_powers) < 2:
            continue
        mean[slot] = slot_powers.mean(axis=0)
        deviation[slot] = slot_powers.std(axis=0) + MIN_DEVIATION
        scores = (slot_powers - mean[slot]) / deviation[slot]
        precision[slot] = np.linalg.inv(np.cov(scores.T) + RIDGE * np.eye(BANDS))
    uncalibrated = Spectra(mean, deviation, precision, np.empty((0, slots), np.float32))
    by_person: dict[str, list[Floats]] = {}
    for person, night_powers, night_filled in rest:
        distances = uncalibrated.distances(night_powers, night_filled)
        by_person.setdefault(person, []).append(distances)
    usual = np.full((len(by_person), slots), np.nan, np.float32)
    for row, nights in enumerate(by_person.values()):
        known = np.isfinite(nights)
        some = known.any(axis=0)
        usual[row, some] = np.nansum(nights, axis=0)[some] / known.sum(axis=0)[some]
    if np.isfinite(usual).sum(axis=0).max() < MIN_CALIBRATING:
        return None
    return Spectra(mean, deviation, precision, usual)
