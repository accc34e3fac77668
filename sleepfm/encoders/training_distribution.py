"""Distribution of the prepared clips of a training set, and the distance of a recording from it.

For each slot, the logarithm of a clip's power in :data:`BANDS` bands has a mean and a covariance
over the clips of one group of people. A clip's distance is that of Mahalanobis (1936), and a
recording's is the median over its clips. The distances of a second group of people from the same
cohort set the limit, which one person in twenty exceeds (split conformal prediction: Vovk et al.
2005; Lei et al. 2018).

Spectra of the input are compared, and not vectors, because an encoder may map unfamiliar input to
familiar vectors. What scaling removes cannot be detected; under robust scaling that is the unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from sleepfm.contract import Contract
from sleepfm.encoders.clip_spectra import BANDS, log_band_powers
from sleepfm.errors import WeightsError

SHARE: Final = 0.05
"""Share of people of the same kind who lie beyond the limit."""
MIN_CALIBRATING: Final = math.ceil(1 / SHARE) - 1
"""Minimum number of people for such a limit: 19."""
MIN_PEOPLE: Final = MIN_CALIBRATING + 5
"""Minimum number of people for mean, covariance and limit together."""
MIN_DEVIATION: Final = 0.1
"""Added to every standard deviation, in powers of ten (1 dB), so that a band that hardly varies in
the training set does not dominate the distance."""
RIDGE: Final = 0.05
"""Added to the diagonal of the correlation matrix."""
_SYMMETRY: Final = 0.01
"""Difference that rounding can make between the halves of a precision matrix."""
_AT_ONCE: Final = 32
_PARTS: Final = ("mean", "deviation", "precision", "usual")
_COUNTS: Final = ("people", "calibrating", "clips")
_MAX_POWER: Final = 100.0
"""Bound on powers of ten; float32 ends at 38, so its squares end at 77."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Distance:
    """Distance of a recording from the training distribution, in one modality.

    Parameters
    ----------
    ratio : float
        Distance over the limit, which one person in twenty of the same kind exceeds; above 1 the
        recording is unlike the training set.
    slot : str
        The slot with the largest distance.
    """

    ratio: float
    slot: str

    @property
    def unlike(self) -> bool:
        """Whether it is beyond the limit."""
        return self.ratio > 1


@dataclass(frozen=True)
class Spectra:
    """The spectra of one modality; NaN in slots that no training recording fills.

    Parameters
    ----------
    mean, deviation : ndarray of float32, shape [slots, BANDS]
        Mean and standard deviation of the decimal logarithm of the power.
    precision : ndarray of float32, shape [slots, BANDS, BANDS]
        Inverse of the correlation matrix, to whose diagonal a ridge is added.
    usual : ndarray of float32, shape [people, slots]
        Distances of the people who set the limit; NaN for a slot that a person lacks.
    """

    mean: Floats
    deviation: Floats
    precision: Floats
    usual: Floats

    def distances(self, powers: Floats, filled: NDArray[np.bool_]) -> Floats:
        """Return the distance of each slot, the median over its clips.

        Parameters
        ----------
        powers : ndarray of float32, shape [n, slots, BANDS]
            Result of :func:`~.clip_spectra.log_band_powers`.
        filled : ndarray of bool, shape [n, slots]
            Whether a slot carries a signal.

        Returns
        -------
        ndarray of float32, shape [slots]
            Mahalanobis distances over the root of :data:`BANDS`; NaN for slots without a signal
            here or in the training set.
        """
        distances = np.full(len(self.mean), np.nan, np.float32)
        for slot in np.flatnonzero(filled.any(axis=0) & np.isfinite(self.mean[:, 0])):
            slot_powers = powers[filled[:, slot], slot]
            distances[slot] = np.median(self._mahalanobis(slot_powers, int(slot)))
        return distances

    def judge(self, distances: Floats) -> tuple[float, int] | None:
        """Compare the slot with the largest distance with the limit.

        Distances are in units of the slot's median over the people who set the limit. Until
        :data:`MIN_CALIBRATING` of them have all slots, the slot that the fewest have is left out.

        Parameters
        ----------
        distances : ndarray of float32, shape [slots]
            Result of :meth:`distances`.

        Returns
        -------
        tuple of (float, int), or None
            Ratio to the limit, and the slot with the largest distance; None if no slot can be
            compared.
        """
        known = np.isfinite(self.usual)
        slots = [int(s) for s in np.flatnonzero(np.isfinite(distances))]
        while slots and known[:, slots].all(axis=1).sum() < MIN_CALIBRATING:
            slots.remove(min(slots, key=lambda s: int(known[:, s].sum())))
        if not slots:
            return None
        usual = self.usual[known[:, slots].all(axis=1)][:, slots].astype(np.float64)
        middle = np.median(usual, axis=0)
        scaled = distances[slots] / middle
        ratio = float(scaled.max()) / limit((usual / middle).max(axis=1))
        return ratio, slots[int(scaled.argmax())]

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
                (deviation >= 0.99 * MIN_DEVIATION) & (deviation <= _MAX_POWER),
                np.abs(precision - precision.T) <= _SYMMETRY,
                usual > 0,
                ~np.isinf(self.usual[:, slot]),
            )
            if not all(check.all() for check in checks):
                return False
            lowest, *_, highest = np.linalg.eigvalsh(precision)
            if lowest <= 0 or highest > 1.01 / RIDGE:
                return False
        return True

    def _mahalanobis(self, powers: Floats, slot: int) -> NDArray[np.float64]:
        """Distance of each clip over the root of the number of bands, typically about 1."""
        scores = (powers.astype(np.float64) - self.mean[slot]) / self.deviation[slot]
        squared = np.einsum("ni,ij,nj->n", scores, self.precision[slot], scores)
        return np.asarray(np.sqrt(np.maximum(squared, 0) / BANDS))


@dataclass(frozen=True)
class TrainingDistribution:
    """The training distribution that weights carry.

    Parameters
    ----------
    contract : Contract
        Contract under which the clips were prepared.
    spectra : mapping of str to Spectra
        Spectra by modality.
    people : int
        Number of people behind mean and covariance.
    calibrating : int
        Number of other people, who set the limit.
    clips : int
        Number of clips of both groups.
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
            Modality of the clips.
        clips : ndarray of float, shape [n, slots, samples]
            Clips prepared as the contract requires; absent slots are zero.

        Returns
        -------
        Distance or None
            None if there is nothing to compare with: no training clips of this modality, or of
            the slots that the recording has.
        """
        spectra = self.spectra.get(modality)
        if spectra is None:
            return None
        judged = spectra.judge(
            spectra.distances(*log_band_powers(clips, self.contract.sample_rate))
        )
        if judged is None:
            return None
        ratio, slot = judged
        return Distance(ratio, self.contract.slots_of(modality)[slot])

    @property
    def facts(self) -> dict[str, int]:
        """Counts, for the header of a weights file."""
        return {"people": self.people, "calibrating": self.calibrating, "clips": self.clips}

    def tensors(self) -> dict[str, Floats]:
        """Return the arrays by ``<modality>.<part>``, for a weights file."""
        return {f"{m}.{p}": getattr(s, p) for m, s in self.spectra.items() for p in _PARTS}

    @classmethod
    def from_tensors(
        cls, contract: Contract, facts: Mapping[str, int], tensors: Mapping[str, NDArray[Any]]
    ) -> Self:
        """Restore a distribution from :attr:`facts` and :meth:`tensors`.

        Parameters
        ----------
        contract : Contract
            Contract of the weights.
        facts : mapping of str to int
            Result of :attr:`facts`, checked by :func:`counts_of`.
        tensors : mapping of str to ndarray of float32
            Result of :meth:`tensors`.

        Returns
        -------
        TrainingDistribution

        Raises
        ------
        WeightsError
            If an array is missing, or its shape or type does not match the contract.
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
    """Return the distance that another person of the same kind exceeds in at most 5 % of cases.

    It is the ``ceil((n + 1) * 0.95)``-th smallest of ``n`` distances (Lei et al. 2018).

    Parameters
    ----------
    usual : ndarray of float64, shape [n]
        Distances of people who set the limit; ``n`` is at least :data:`MIN_CALIBRATING`.

    Returns
    -------
    float
    """
    position = math.ceil((len(usual) + 1) * (1 - SHARE) - 1e-9)
    return float(np.sort(usual)[position - 1])
