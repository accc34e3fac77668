"""What the prepared clips of a training set look like, and how far a recording is from it.

Per slot, the logarithm of a clip's power in :data:`BANDS` bands has a mean and a covariance over
the clips of some people. A clip's distance to it is Mahalanobis (1936), and a recording's is the
median over its clips. The distances of other people of the same kind say what is usual: one in
twenty of them is beyond the limit (split conformal prediction: Vovk et al. 2005; Lei et al. 2018).

Spectra of the input and not vectors: an encoder may give input unlike any that it has seen the
vectors of input that it knows. What scaling removes is not seen: under robust scaling, the unit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from sleepfm.contract import Contract
from sleepfm.errors import TrainingError, WeightsError

BANDS: Final = 24
"""Bands from 0.1 Hz to half the sampling rate, of equal width on a logarithmic scale."""
SHARE: Final = 0.05
"""Share of the people of the same kind that lie beyond the limit."""
MIN_CALIBRATING: Final = math.ceil(1 / SHARE) - 1
"""People without whom there is no such limit: 19."""
MIN_PEOPLE: Final = MIN_CALIBRATING + 5
MAX_PEOPLE: Final = 400
_MAX_CLIPS: Final = 120
"""Clips of a recording that are looked at, spread over the night."""
_LOWEST_HZ: Final = 0.1
_FLOOR: Final = 1e-6
"""Power density (per Hz) that counts as none, about 1 % of a robustly scaled signal's deviation:
what lies below it is the number format, not the signal."""
_MIN_DEVIATION: Final = 0.1
"""In powers of ten: a spread below 1 dB is no tighter a bound."""
_RIDGE: Final = 0.05
_SYMMETRY: Final = 0.01
"""Difference that rounding can make between the halves of a precision matrix."""
_AT_ONCE: Final = 32
_PARTS: Final = ("mean", "deviation", "precision", "usual")
_COUNTS: Final = ("people", "calibrating", "clips")
_MAX_POWER: Final = 100.0
"""Bound on powers of ten; float32 ends at 38, so its squares end at 77."""

Floats = NDArray[np.float32]
PersonClips = tuple[str, Mapping[str, NDArray[Any]]]
"""A person and clips, [n, slots, samples] by modality; a slot that is not there is zero."""


@dataclass(frozen=True)
class Distance:
    """How far a recording is from the training distribution in one modality.

    Parameters
    ----------
    ratio : float
        Distance over the limit, which one in twenty of the people of the same kind exceeds; above
        1 the recording is unlike the training set.
    slot : str
        The slot that is farthest.
    """

    ratio: float
    slot: str

    @property
    def unlike(self) -> bool:
        """Whether it is beyond the limit."""
        return self.ratio > 1


@dataclass(frozen=True)
class Spectra:
    """The spectra of one modality; a slot that nobody has is NaN.

    Parameters
    ----------
    mean, deviation : ndarray of float32, shape [slots, BANDS]
        Of the decimal logarithm of the power.
    precision : ndarray of float32, shape [slots, BANDS, BANDS]
        Inverse of the correlation matrix, which has a ridge.
    usual : ndarray of float32, shape [people, slots]
        Distances of the people who calibrate; NaN where one lacks a slot.
    """

    mean: Floats
    deviation: Floats
    precision: Floats
    usual: Floats

    def distances(self, powers: Floats, filled: NDArray[np.bool_]) -> Floats:
        """Return the median distance over clips of each slot, float32 [slots].

        Parameters
        ----------
        powers : ndarray of float32, shape [n, slots, BANDS]
            As from :func:`band_powers`.
        filled : ndarray of bool, shape [n, slots]
            Which slots carry signal; NaN is returned for those that never do.
        """
        found = np.full(len(self.mean), np.nan, np.float32)
        for slot in np.flatnonzero(filled.any(axis=0) & np.isfinite(self.mean[:, 0])):
            own = powers[filled[:, slot], slot]
            found[slot] = np.median(self._mahalanobis(own, int(slot)))
        return found

    def judge(self, distances: Floats) -> tuple[float, int] | None:
        """Compare with what is usual, by the farthest slot, in units of the slot's median.

        Slots that too few of the calibrating people share are left out, the rarest first.

        Parameters
        ----------
        distances : ndarray of float32, shape [slots]
            As from :meth:`distances`.

        Returns
        -------
        tuple of (float, int), or None
            Ratio to the limit and the farthest slot; None where no slot can be judged.
        """
        known = np.isfinite(self.usual)
        slots = [int(s) for s in np.flatnonzero(np.isfinite(distances))]
        while slots and known[:, slots].all(axis=1).sum() < MIN_CALIBRATING:
            slots.remove(min(slots, key=lambda s: int(known[:, s].sum())))
        if not slots:
            return None
        usual = self.usual[known[:, slots].all(axis=1)][:, slots].astype(np.float64)
        middle = np.median(usual, axis=0)
        own = distances[slots] / middle
        ratio = float(own.max()) / limit((usual / middle).max(axis=1))
        return ratio, slots[int(own.argmax())]

    def is_sound(self) -> bool:
        """Whether each slot has values that a measurement can give, or none at all."""
        for slot in range(len(self.mean)):
            shape = (self.mean[slot], self.deviation[slot], self.precision[slot])
            usual = self.usual[:, slot][np.isfinite(self.usual[:, slot])]
            if all(np.isnan(part).all() for part in (*shape, self.usual[:, slot])):
                continue
            mean, deviation, precision = (part.astype(np.float64) for part in shape)
            checks = (  # NaN fails each
                np.abs(mean) <= _MAX_POWER,
                (deviation >= 0.99 * _MIN_DEVIATION) & (deviation <= _MAX_POWER),
                np.abs(precision - precision.T) <= _SYMMETRY,
                usual > 0,
                ~np.isinf(self.usual[:, slot]),
            )
            if not all(check.all() for check in checks):
                return False
            lowest, *_, highest = np.linalg.eigvalsh(precision)
            if lowest <= 0 or highest > 1.01 / _RIDGE:
                return False
        return True

    def _mahalanobis(self, powers: Floats, slot: int) -> NDArray[np.float64]:
        """Distance of each clip, over the root of the number of bands: about 1 where usual."""
        scores = (powers.astype(np.float64) - self.mean[slot]) / self.deviation[slot]
        squared = np.einsum("ni,ij,nj->n", scores, self.precision[slot], scores)
        return np.asarray(np.sqrt(np.maximum(squared, 0) / BANDS))


@dataclass(frozen=True)
class TrainingDistribution:
    """The training distribution that weights carry.

    Parameters
    ----------
    contract : Contract
        How the clips were prepared.
    spectra : mapping of str to Spectra
        Of each modality.
    people, calibrating, clips : int
        How many people gave mean and covariance, how many others the limit, and from how many
        clips of both.
    """

    contract: Contract
    spectra: Mapping[str, Spectra]
    people: int
    calibrating: int
    clips: int

    def distance(self, modality: str, clips: NDArray[Any]) -> Distance | None:
        """Measure how far the clips of a recording are from the training distribution.

        Parameters
        ----------
        modality : str
            Their modality.
        clips : ndarray of float, shape [n, slots, samples]
            Prepared as the contract requires; a slot that is not there is zero.

        Returns
        -------
        Distance or None
            None where it cannot be judged: no training clips of this modality, or of its slots.
        """
        own = self.spectra.get(modality)
        if own is None:
            return None
        judged = own.judge(own.distances(*band_powers(clips, self.contract.sample_rate)))
        if judged is None:
            return None
        ratio, slot = judged
        return Distance(ratio, self.contract.slots_of(modality)[slot])

    @property
    def facts(self) -> dict[str, int]:
        """Counts, for the header of a weights file."""
        return {"people": self.people, "calibrating": self.calibrating, "clips": self.clips}

    def tensors(self) -> dict[str, Floats]:
        """Arrays by ``<modality>.<part>``, for a weights file."""
        return {f"{m}.{p}": getattr(own, p) for m, own in self.spectra.items() for p in _PARTS}

    @classmethod
    def from_tensors(
        cls, contract: Contract, facts: Mapping[str, int], tensors: Mapping[str, NDArray[Any]]
    ) -> Self:
        """Read what :meth:`tensors` and :attr:`facts` gave.

        Parameters
        ----------
        contract : Contract
        facts : mapping of str to int
            After :func:`counts_of`.
        tensors : mapping of str to ndarray

        Raises
        ------
        WeightsError
            If a part is missing or does not go with the contract.
        """
        spectra = {}
        for modality in dict.fromkeys(name.partition(".")[0] for name in tensors):
            n = len(contract.slots.get(modality, ()))
            people = len(tensors.get(f"{modality}.usual", ()))
            shapes = {"mean": (n, BANDS), "deviation": (n, BANDS), "precision": (n, BANDS, BANDS)}
            for part, shape in (shapes | {"usual": (people, n)}).items():
                own = tensors.get(f"{modality}.{part}")
                if own is None or not n or own.shape != shape or own.dtype != np.float32:
                    raise WeightsError(
                        f"the training distribution of {modality} does not go with the contract: "
                        f"{part} is not float32 of shape {list(shape)}"
                    )
            spectra[modality] = Spectra(
                **{p: np.asarray(tensors[f"{modality}.{p}"]) for p in _PARTS}
            )
            if people > facts["calibrating"] or not spectra[modality].is_sound():
                raise WeightsError(
                    f"the training distribution of {modality} has values that no measurement gives"
                )
        if len(tensors) != len(spectra) * len(_PARTS) or not spectra:
            raise WeightsError("the training distribution has unknown tensors, or none")
        return cls(contract, spectra, **facts)


def counts_of(facts: Mapping[str, Any]) -> dict[str, int]:
    """Check counts that :attr:`TrainingDistribution.facts` gave.

    Parameters
    ----------
    facts : mapping of str to int
        From the header of a weights file.

    Raises
    ------
    ValueError
        If a count is missing, unknown, or not a positive integer.
    """
    if facts.keys() != set(_COUNTS) or not all(type(n) is int and n > 0 for n in facts.values()):
        raise ValueError(f"the training distribution does not count {', '.join(_COUNTS)}")
    return dict(facts)


def limit(usual: NDArray[np.float64]) -> float:
    """Return the distance that a further person of the same kind exceeds in 5 % of cases at most.

    The ``ceil((n + 1) * 0.95)``-th smallest of ``n`` (Lei et al. 2018).

    Parameters
    ----------
    usual : ndarray of float64, shape [n]
        Distances of ``n`` people, at least :data:`MIN_CALIBRATING`.
    """
    place = math.ceil((len(usual) + 1) * (1 - SHARE) - 1e-9)
    return float(np.sort(usual)[place - 1])


def band_powers(clips: NDArray[Any], rate: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Compute log band powers of clips spread over a recording.

    Parameters
    ----------
    clips : ndarray of float, shape [n, slots, samples]
        Prepared clips.
    rate : int
        Samples per second.

    Returns
    -------
    powers : ndarray of float32, shape [at most 120, slots, BANDS]
        Decimal logarithm of the mean power density (per Hz) of each band, under a Hann window.
    filled : ndarray of bool, shape [at most 120, slots]
        Whether a slot is not zero all the time.
    """
    rows = np.unique(np.linspace(0, len(clips) - 1, min(len(clips), _MAX_CLIPS)).round())
    rows = rows.astype(np.int64)
    samples = clips.shape[-1]
    window = np.hanning(samples).astype(np.float32)
    edges = np.geomspace(_LOWEST_HZ, rate / 2, BANDS + 1) * samples / rate
    first = np.ceil(edges[:-1] - 1e-9).astype(np.int64)
    last = np.maximum(np.ceil(edges[1:] - 1e-9).astype(np.int64), first + 1)
    powers = np.zeros((len(rows), clips.shape[1], BANDS), np.float32)
    filled = np.zeros(powers.shape[:2], bool)
    for start in range(0, len(rows), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        x = np.asarray(clips[rows[some]], np.float32)
        filled[some] = x.any(axis=-1)
        density = np.square(np.abs(np.fft.rfft(x * window, axis=-1)))
        density /= rate * float(np.square(window).sum())
        for band, (a, b) in enumerate(zip(first, last, strict=True)):
            powers[some, :, band] = density[..., a:b].mean(axis=-1)
    return np.log10(powers + _FLOOR), filled


def choose_people(people: Iterable[str]) -> tuple[list[str], list[str]]:
    """Choose who gives mean and covariance, and who calibrates the limit.

    The order is that of SHA-256, so that it depends on nothing but the names.

    Parameters
    ----------
    people : iterable of str
        Subject ids; repeated ones count once.

    Returns
    -------
    shaping, calibrating : list of str
        At most :data:`MAX_PEOPLE` together.

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
        How the clips were prepared.
    clips : iterable of (str, mapping of str to ndarray, shape [n, slots, samples])
        A person and the clips of a recording, by modality.
    shaping : sequence of str
        The people who give mean and covariance; all others calibrate.

    Raises
    ------
    TrainingError
        If no slot has people enough.
    """
    powers: dict[str, list[tuple[str, Floats, NDArray[np.bool_]]]] = {}
    first, seen, count = set(shaping), set(), 0
    for person, signals in clips:
        seen.add(person)
        longest = 0
        for modality, x in signals.items():
            own = band_powers(x, contract.sample_rate)
            powers.setdefault(modality, []).append((person, *own))
            longest = max(longest, len(own[0]))
        count += longest
    spectra = {}
    for modality in contract.modalities:
        nights = powers.get(modality, [])
        shape = [(p, f) for person, p, f in nights if person in first]
        rest = [night for night in nights if night[0] not in first]
        made = _spectra(shape, rest) if shape and rest else None
        if made is not None:
            spectra[modality] = made
    if not spectra:
        raise TrainingError(
            f"no slot is filled for {MIN_CALIBRATING} of the people who calibrate; add people"
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
        own = powers[filled[:, slot], slot].astype(np.float64)
        if len(own) < 2:
            continue
        mean[slot] = own.mean(axis=0)
        deviation[slot] = own.std(axis=0) + _MIN_DEVIATION
        scores = (own - mean[slot]) / deviation[slot]
        precision[slot] = np.linalg.inv(np.cov(scores.T) + _RIDGE * np.eye(BANDS))
    found = Spectra(mean, deviation, precision, np.empty((0, slots), np.float32))
    by_person: dict[str, list[Floats]] = {}
    for person, own_powers, own_filled in rest:
        by_person.setdefault(person, []).append(found.distances(own_powers, own_filled))
    usual = np.full((len(by_person), slots), np.nan, np.float32)
    for at, nights in enumerate(by_person.values()):
        known = np.isfinite(nights)
        some = known.any(axis=0)
        usual[at, some] = np.nansum(nights, axis=0)[some] / known.sum(axis=0)[some]
    if np.isfinite(usual).sum(axis=0).max() < MIN_CALIBRATING:
        return None
    return Spectra(mean, deviation, precision, usual)
