"""The contract: requirements of a set of weights on its input.

The same night prepared in two ways gives two different vectors, so the preparation belongs to the
weights: it is stored in them, hashed, and part of the name of every segment. It includes the
modalities and the channels of each.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

from sleepfm.errors import WeightsError
from sleepfm.modality import COLOURS, FURTHER_COLOURS, SLOT_UNITS, Modality

Resampling = Literal["polyphase", "fft"]
Scaling = Literal["robust", "none"]

MAX_SLOTS: Final = 16
"""Maximum number of slots of a modality; a store has one bit of 16 for each."""
MAX_LETTERS: Final = 40
"""Maximum length of the name of a slot or the title of a modality."""

_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,15}")
_COLOUR: Final = re.compile(r"#[0-9a-f]{6}")
# Names that are reserved, because commands or columns of a store use them.
RESERVED: Final = frozenset({"others", "all", "auto", "clips", "clock", "group", "site", "stage"})

_MAX_RATE_HZ: Final = 4096
_MAX_CLIP_S: Final = 3600
"""Limits in Hz and seconds, so that a malicious contract cannot exhaust memory."""


@dataclass(frozen=True)
class Contract:
    """Input specification of a set of weights.

    Parameters
    ----------
    name : str
        Display name.
    resampling : {"polyphase", "fft"}
        Method of resampling the whole night to ``sample_rate``, per channel: band-limited polyphase
        (soxr, HQ), or one FFT over the whole record as in the authors' extraction.
    scaling : {"robust", "none"}
        ``robust``: per recording and channel ``(x - median) / (IQR / 1.349)``, both measured at
        the native rate, then clipped to +-20; ``none``: values are not scaled.
    slots : mapping of str to tuple of str
        Names of the input channels of each modality, in order; also sets the order of modalities.
    units : mapping of str to str
        Required unit of each slot; ``""`` accepts values in any unit, ``gain(baseline)/unit`` (in
        WFDB's notation) requires stored counts.
    sample_rate : int
        Sampling rate of every channel of a clip, in Hz.
    clip_seconds : int
        Length of a clip, in seconds.
    boost : mapping of str to tuple of float
        Boost of fast components per slot, (window in s, gain): the difference from a moving average
        over the window is added to the signal ``gain`` times, before clipping. It raises small fast
        components, such as heart beats in a belt or EEG, to the size of large slow ones. An empty
        boost (the default) is not part of the identity.
    titles : mapping of str to str
        Title of a modality in figures; by default its name.
    colours : mapping of str to str
        Colour of a modality in figures, ``#rrggbb``; by default from a palette.
    """

    name: str
    resampling: Resampling
    scaling: Scaling
    slots: Mapping[str, tuple[str, ...]]
    units: Mapping[str, str]
    sample_rate: int = 256
    clip_seconds: int = 30
    boost: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)

    @property
    def clip_samples(self) -> int:
        """Number of samples of a clip per channel (7,680 at 256 Hz)."""
        return self.sample_rate * self.clip_seconds

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return tuple(self.slots)

    @property
    def all_slots(self) -> tuple[str, ...]:
        """Slots of all modalities, in order."""
        return tuple(slot for modality_slots in self.slots.values() for slot in modality_slots)

    def slots_of(self, modality: str) -> tuple[str, ...]:
        """List the input channels of one modality, in order.

        Parameters
        ----------
        modality : str
            Name of the modality.

        Returns
        -------
        tuple of str
            Names of its slots.
        """
        return tuple(self.slots[modality])

    def modality(self, name: str) -> Modality:
        """Describe one modality.

        Parameters
        ----------
        name : str
            A name from :attr:`modalities`.
        """
        return Modality(
            name, self.slots_of(name), self.titles.get(name, name), self._colours()[name]
        )

    def _colours(self) -> dict[str, str]:
        known = {m: self.colours.get(m) or COLOURS.get(m, "") for m in self.modalities}
        palette = [c for c in FURTHER_COLOURS if c not in known.values()] or list(FURTHER_COLOURS)
        without = [m for m, colour in known.items() if not colour]
        return known | {m: palette[i % len(palette)] for i, m in enumerate(without)}

    def unit_of(self, slot: str) -> str:
        """Return the physical unit of a slot: ``uV``, ``%``, or ``""`` if device-specific.

        Parameters
        ----------
        slot : str
            Name of the slot.

        Returns
        -------
        str
        """
        return SLOT_UNITS.get(slot, self.units.get(slot, "").rpartition("/")[2])

    def to_json(self) -> dict[str, Any]:
        """Return the contract as JSON values, the inverse of :meth:`from_json`.

        Fields with default values are omitted, so that an added field does not change existing
        contracts.
        """
        plain: dict[str, Any] = {
            "name": self.name,
            "resampling": self.resampling,
            "scaling": self.scaling,
            "sample_rate": self.sample_rate,
            "clip_seconds": self.clip_seconds,
            "slots": {m: list(s) for m, s in self.slots.items()},
            "units": dict(self.units),
        }
        if list(self.modalities) != sorted(self.modalities):
            plain["order"] = list(self.modalities)  # the order of JSON objects is not reliable
        if self.boost:
            plain["boost"] = {slot: list(pair) for slot, pair in self.boost.items()}
        for name in ("titles", "colours"):
            if getattr(self, name):
                plain[name] = dict(getattr(self, name))
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Contract:
        """Read a contract from the metadata of weights, a manifest, or a file.

        Parameters
        ----------
        plain : mapping
            Fields; ``boost``, ``titles``, ``colours`` and ``order`` (of the modalities, by default
            alphabetical) may be missing.

        Returns
        -------
        Contract
            The contract.

        Raises
        ------
        WeightsError
            If a field is missing, unknown or of the wrong type, or the name of a modality is
            invalid.
        """
        try:
            given = dict(plain)
            order = [str(m) for m in given.pop("order", None) or sorted(plain["slots"])]
            if sorted(order) != sorted(plain["slots"]):
                raise ValueError("the order must name every modality once")
            given["slots"] = {m: tuple(map(str, _listed(plain["slots"][m]))) for m in order}
            for name in ("units", "titles", "colours"):
                given[name] = {str(k): str(v) for k, v in dict(plain.get(name, {})).items()}
            given["boost"] = {
                str(slot): (float(window), float(gain))
                for slot, (window, gain) in dict(plain.get("boost", {})).items()
            }
            if "units" not in plain:
                raise KeyError("units")
            unknown = set(given) - {f.name for f in fields(cls)}
            if unknown:
                raise ValueError(f"unknown field {sorted(unknown)[0]}")
            contract = cls(**given)
            contract._check()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WeightsError(f"not a contract that this version supports: {error}") from error
        return contract

    def _check(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError("a contract needs a name")
        if self.resampling not in get_args(Resampling) or self.scaling not in get_args(Scaling):
            raise ValueError("unknown resampling or scaling")
        for size in (self.sample_rate, self.clip_seconds):
            if type(size) is not int or size < 1:
                raise ValueError("sampling rate and clip length must be positive integers")
        if self.sample_rate > _MAX_RATE_HZ or self.clip_seconds > _MAX_CLIP_S:
            raise ValueError(
                f"clips of at most {_MAX_CLIP_S} s at {_MAX_RATE_HZ} Hz are prepared, not of "
                f"{self.clip_seconds} s at {self.sample_rate} Hz"
            )
        if not self.slots:
            raise ValueError("a contract needs at least one modality")
        for modality, slots in self.slots.items():
            problem = modality_problem(modality)
            if problem:
                raise ValueError(problem)
            if not 1 <= len(slots) <= MAX_SLOTS:
                raise ValueError(f"{modality} must have 1 to {MAX_SLOTS} slots")
        if len(set(self.all_slots)) != len(self.all_slots):
            raise ValueError("two slots have the same name")
        for slot, (window, gain) in self.boost.items():
            if slot not in self.all_slots:
                raise ValueError(f"boost of {slot!r}, which the contract does not have")
            if not (window > 0 and gain > 0 and math.isfinite(window * gain)):
                raise ValueError("window and gain of a boost must be above 0")
        unknown = ({*self.titles} | {*self.colours}).difference(self.slots)
        if unknown:
            raise ValueError(
                f"title or colour of {min(unknown)!r}, which the contract does not have"
            )
        if not all(map(_COLOUR.fullmatch, self.colours.values())):
            raise ValueError("a colour must have the form #rrggbb, in lower case")
        for text in (*self.titles.values(), *self.all_slots):
            # shown in a terminal, and by matplotlib, which parses formulas between $
            if not text or len(text) > MAX_LETTERS or not text.isprintable() or "$" in text:
                raise ValueError(f"a title or a slot must be 1 to {MAX_LETTERS} plain letters")

    @property
    def sha256(self) -> str:
        """Identity of the contract: SHA-256 of its canonical JSON, without display fields."""
        plain = self.to_json()
        for shown in ("name", "order", "titles", "colours"):
            plain.pop(shown, None)
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def modality_problem(name: str) -> str | None:
    """Explain why a name is not valid for a modality.

    Parameters
    ----------
    name : str
        Name to check.

    Returns
    -------
    str or None
        The reason; None if the name is valid.
    """
    if _NAME.fullmatch(name) and name not in RESERVED:
        return None
    return (
        f"{name!r} cannot be a modality: a name is at most 16 lower-case letters and digits, and "
        f"none of {', '.join(sorted(RESERVED))}"
    )


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError("slots must be lists of names")
    return list(value)


_RELEASED: Final = {
    "bas": ("C3-M2", "C4-M1", "O1-M2", "O2-M1", "E1-M2"),
    "ecg": ("ECG",),
    "resp": ("CHEST", "SaO2", "ABD"),
}
"""Slots of the published encoders, in input order (the authors' ``config.py``, CHANNEL_DATA)."""
_PAPER: Final = {
    "bas": (*_RELEASED["bas"], "F3-M2", "F4-M1", "E2-M2", "CHIN", "LEGS"),
    "ecg": ("ECG", "ECG2"),
    "resp": ("CHEST", "SaO2", "ABD", "PULSE", "FLOW", "THERM", "SNORE"),
}


def _units(slots: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {slot: SLOT_UNITS[slot] for modality_slots in slots.values() for slot in modality_slots}


ICML2024: Final = Contract(
    name="sleepfm-icml2024",
    resampling="fft",
    scaling="none",
    slots=_RELEASED,
    units=dict.fromkeys(_units(_RELEASED), "uV") | {"SaO2": "655.35(-32768)/%"},
)
"""The authors' extraction: whole-record FFT resampling, no filter, no scaling, values as stored.

They used the stored counts of PhysioNet/CinC 2018, where a count is 1 uV, and 1/655.35 % of
saturation above -32,768 (98 % is 31,456). By these units, other files are converted to that scale.
"""

ROBUST: Final = Contract(
    name="sleepfm-index-robust",
    resampling="polyphase",
    scaling="robust",
    slots=_RELEASED,
    units=_units(_RELEASED),
)
"""Default of this project: polyphase resampling, robust scaling per recording and channel."""

PAPER_MONTAGE: Final = Contract(
    name="sleepfm-paper-montage",
    resampling="polyphase",
    scaling="robust",
    slots=_PAPER,
    units=_units(_PAPER),
)
"""As many channels as the model in the paper (Thapa et al., ICML 2024): 10 BAS, 2 ECG, 7 RESP.

The released checkpoint is a smaller model with 5, 1 and 3 channels. The additional channels are not
published in full; these are the full montage of the AASM manual, prepared as in :data:`ROBUST`. No
trained weights exist for this contract.
"""

_BODY: Final = {**_RELEASED, "resp": (*_RELEASED["resp"], "FLOW", "PULSE")}

BODY: Final = Contract(
    name="sleepfm-index-body",
    resampling="polyphase",
    scaling="robust",
    sample_rate=64,
    slots=_BODY,
    units=_units(_BODY),
    boost={
        **dict.fromkeys(_BODY["bas"], (0.06, 3.0)),
        **dict.fromkeys(("CHEST", "ABD", "FLOW"), (0.35, 8.0)),
    },
)
"""64 Hz, with airflow and pulse in addition to the belts, and with boosted heart beats in EEG and
belts."""

CONTRACTS: Final[dict[str, Contract]] = {c.name: c for c in (ICML2024, ROBUST, PAPER_MONTAGE, BODY)}


def load_contract(name_or_path: str) -> Contract:
    """Return a contract by name, or read one from a JSON file.

    Parameters
    ----------
    name_or_path : str
        A name from :data:`CONTRACTS`, or the path of a ``.json`` file with the output of
        :meth:`Contract.to_json`.

    Returns
    -------
    Contract
        The contract.

    Raises
    ------
    WeightsError
        If there is no such contract, or the file is not a contract.
    """
    if name_or_path in CONTRACTS:
        return CONTRACTS[name_or_path]
    path = Path(name_or_path)
    if path.suffix != ".json":
        raise WeightsError(
            f"no contract {name_or_path!r}; choose from {', '.join(CONTRACTS)}, or name a JSON file"
        )
    try:
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"the contract {path.name} cannot be read: {error}") from error
    if not isinstance(plain, dict):
        raise WeightsError(f"{path.name} is not a contract: it must be a JSON object")
    return Contract.from_json(plain)
