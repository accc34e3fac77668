"""The contract: what a set of weights expects of its input.

The same night prepared in two ways gives two different vectors, so the preparation belongs to the
weights: it is stored inside them, hashed, and part of every segment's name.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from sleepfm.errors import WeightsError
from sleepfm.modality import SLOT_UNITS, SLOTS, Modality

Resampling = Literal["polyphase", "fft"]
Scaling = Literal["robust", "none"]


@dataclass(frozen=True)
class Contract:
    """What weights expect of a clip.

    Parameters
    ----------
    name : str
        How people call it.
    resampling : {"polyphase", "fft"}
        How the whole night is brought to ``sample_rate``, once per channel: band-limited polyphase
        (soxr, HQ), or one FFT over the whole record as in the authors' extraction.
    scaling : {"robust", "none"}
        ``robust``: per recording and channel ``(x - median) / (IQR / 1.349)``, both measured at
        the native rate, then clipped to +-20; ``none``: values as they are.
    sample_rate : int
        Samples per second of every channel of a clip, in Hz.
    clip_seconds : int
        Length of a clip, in seconds.
    slots : mapping of str to tuple of str
        Per modality, the names of its input channels in order.
    units : mapping of str to str
        Unit asked for per slot; ``""`` takes the values as they come, ``gain(baseline)/unit``, in
        WFDB's notation, asks for stored counts.
    boost : mapping of str to tuple of float
        Per slot (window in s, gain): what is faster than a moving average over the window is added
        to the signal so many times over, before it is clipped. It lifts what is fast and small, as
        heart beats are in a belt or an EEG, to the size of what is slow and large. Empty by
        default, and then no part of the identity.
    """

    name: str
    resampling: Resampling
    scaling: Scaling
    sample_rate: int = 256
    clip_seconds: int = 30
    slots: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {m.value: s for m, s in SLOTS.items()}
    )
    units: Mapping[str, str] = field(default_factory=lambda: dict(SLOT_UNITS))
    boost: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def clip_samples(self) -> int:
        """Samples of a clip in one channel (7,680 for both contracts of this project)."""
        return self.sample_rate * self.clip_seconds

    def slots_of(self, modality: Modality) -> tuple[str, ...]:
        """Input channels of one modality, in order."""
        return tuple(self.slots[modality.value])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, the inverse of :meth:`from_json`."""
        plain = asdict(self)
        plain["slots"] = {m: list(s) for m, s in self.slots.items()}
        plain["units"] = dict(self.units)
        del plain["boost"]  # weights and stores from before there was one keep their identity
        if self.boost:
            plain["boost"] = {slot: list(pair) for slot, pair in self.boost.items()}
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Contract:
        """Read a contract from the metadata of weights or a manifest.

        Raises
        ------
        WeightsError
            If a field is missing, unknown or of the wrong type.
        """
        try:
            fields = dict(plain)
            fields["slots"] = {str(m): tuple(map(str, s)) for m, s in plain["slots"].items()}
            fields["units"] = {str(k): str(v) for k, v in plain["units"].items()}
            fields["boost"] = {
                str(slot): (float(window), float(gain))
                for slot, (window, gain) in plain.get("boost", {}).items()
            }
            contract = cls(**fields)
            known = contract.resampling in ("polyphase", "fft")
            known = known and contract.scaling in ("robust", "none")
            if not known or set(contract.slots) != {m.value for m in Modality}:
                raise ValueError("unknown resampling, scaling or modality")
            for size in (contract.sample_rate, contract.clip_seconds):
                if type(size) is not int or size < 1:
                    raise ValueError("rate and length of a clip must be whole numbers above 0")
            for window, gain in contract.boost.values():
                if not (window > 0 and gain > 0 and math.isfinite(window * gain)):
                    raise ValueError("window and gain of a boost must be above 0")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WeightsError(f"not a contract this version understands: {error}") from error
        return contract

    @property
    def sha256(self) -> str:
        """Identity of the contract: SHA-256 over its canonical JSON, name left out."""
        plain = self.to_json()
        del plain["name"]
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


ICML2024: Final = Contract(
    name="sleepfm-icml2024",
    resampling="fft",
    scaling="none",
    units=dict.fromkeys(SLOT_UNITS, "uV") | {"SaO2": "655.35(-32768)/%"},
)
"""The authors' extraction: whole-record FFT resampling, no filter, no scaling, values as stored.

They took the stored counts of PhysioNet/CinC 2018, where a count is 1 uV, and 1/655.35 % of
saturation above -32,768 (98 % is 31,456). Asked for by unit, other files come out in that scale.
"""

ROBUST: Final = Contract(name="sleepfm-index-robust", resampling="polyphase", scaling="robust")
"""This project's own: polyphase resampling, robust scaling per recording and channel."""

_EEG: Final = SLOTS[Modality.BAS]

BODY: Final = Contract(
    name="sleepfm-index-body",
    resampling="polyphase",
    scaling="robust",
    sample_rate=64,
    slots={
        "bas": _EEG,
        "ecg": SLOTS[Modality.ECG],
        "resp": (*SLOTS[Modality.RESP], "FLOW", "PULSE"),
    },
    units={**SLOT_UNITS, "FLOW": "", "PULSE": ""},
    boost={
        **dict.fromkeys(_EEG, (0.06, 3.0)),
        **dict.fromkeys(("CHEST", "ABD", "FLOW"), (0.35, 8.0)),
    },
)
"""64 Hz, airflow and pulse beside the belts, and beats lifted out of EEG and belts."""

CONTRACTS: Final[dict[str, Contract]] = {c.name: c for c in (ICML2024, ROBUST, BODY)}
