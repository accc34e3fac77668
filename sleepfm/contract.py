"""The contract: what a set of weights expects of its input.

The same night prepared in two ways gives two different vectors, so the preparation belongs to the
weights: it is stored inside them, hashed, and part of every segment's name. Which modalities there
are, and which channels each takes, is part of it.
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

MOST_SLOTS: Final = 16
"""Slots of one modality: a store keeps which of them carry signal as the bits of 16."""
MOST_LETTERS: Final = 40
"""In the name of a slot or the title of a modality."""

_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,15}")
_COLOUR: Final = re.compile(r"#[0-9a-f]{6}")
# Words and columns of a store that a modality would be taken for.
RESERVED: Final = frozenset({"others", "all", "auto", "clips", "clock", "group", "site", "stage"})

_FASTEST: Final = 4096
_LONGEST_CLIP: Final = 3600
"""Hz and seconds: no recording of sleep is prepared at more, and a hostile contract could ask for
all memory."""


@dataclass(frozen=True)
class Contract:
    """Input specification of a set of weights.

    Parameters
    ----------
    name : str
        Display name.
    resampling : {"polyphase", "fft"}
        How the whole night is brought to ``sample_rate``, once per channel: band-limited polyphase
        (soxr, HQ), or one FFT over the whole record as in the authors' extraction.
    scaling : {"robust", "none"}
        ``robust``: per recording and channel ``(x - median) / (IQR / 1.349)``, both measured at
        the native rate, then clipped to +-20; ``none``: values as they are.
    slots : mapping of str to tuple of str
        Per modality, the names of its input channels in order. Its order is that of the modalities.
    units : mapping of str to str
        Unit asked for per slot; ``""`` takes the values as they come, ``gain(baseline)/unit``, in
        WFDB's notation, asks for stored counts.
    sample_rate : int
        Samples per second of every channel of a clip, in Hz.
    clip_seconds : int
        Length of a clip, in seconds.
    boost : mapping of str to tuple of float
        Per slot (window in s, gain): what is faster than a moving average over the window is added
        to the signal so many times over, before it is clipped. It lifts what is fast and small, as
        heart beats are in a belt or an EEG, to the size of what is slow and large. Empty by
        default, and then no part of the identity.
    titles : mapping of str to str
        How figures call a modality; by default by its name.
    colours : mapping of str to str
        Colour of a modality in figures, ``#rrggbb``; by default one of a palette.
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
        """Samples of a clip in one channel (7,680 for the contracts of this project)."""
        return self.sample_rate * self.clip_seconds

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return tuple(self.slots)

    @property
    def all_slots(self) -> tuple[str, ...]:
        """Slots of all modalities, in order."""
        return tuple(slot for own in self.slots.values() for slot in own)

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
            One of :attr:`modalities`.
        """
        return Modality(
            name, self.slots_of(name), self.titles.get(name, name), self._colours()[name]
        )

    def _colours(self) -> dict[str, str]:
        known = {m: self.colours.get(m) or COLOURS.get(m, "") for m in self.modalities}
        free = [c for c in FURTHER_COLOURS if c not in known.values()] or list(FURTHER_COLOURS)
        lacking = [m for m, colour in known.items() if not colour]
        return known | {m: free[i % len(free)] for i, m in enumerate(lacking)}

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
        """Plain JSON values, the inverse of :meth:`from_json`.

        What is at its default is left out, so that a contract reads as it did before a default
        was added.
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
            plain["order"] = list(self.modalities)  # JSON objects have none that one can rely on
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
            The fields; ``boost``, ``titles``, ``colours`` and ``order`` (of the modalities, by
            default alphabetical) may be missing.

        Raises
        ------
        WeightsError
            If a field is missing, unknown, of the wrong type, or names what cannot be a modality.
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
        if self.sample_rate > _FASTEST or self.clip_seconds > _LONGEST_CLIP:
            raise ValueError(
                f"clips of at most {_LONGEST_CLIP} s at {_FASTEST} Hz are prepared, not of "
                f"{self.clip_seconds} s at {self.sample_rate} Hz"
            )
        if not self.slots:
            raise ValueError("a contract needs at least one modality")
        for modality, slots in self.slots.items():
            problem = modality_problem(modality)
            if problem:
                raise ValueError(problem)
            if not 1 <= len(slots) <= MOST_SLOTS:
                raise ValueError(f"{modality} must have 1 to {MOST_SLOTS} slots")
        if len(set(self.all_slots)) != len(self.all_slots):
            raise ValueError("two slots have the same name")
        for slot, (window, gain) in self.boost.items():
            if slot not in self.all_slots:
                raise ValueError(f"boost of {slot!r}, which the contract does not have")
            if not (window > 0 and gain > 0 and math.isfinite(window * gain)):
                raise ValueError("window and gain of a boost must be above 0")
        odd = ({*self.titles} | {*self.colours}).difference(self.slots)
        if odd:
            raise ValueError(f"title or colour of {min(odd)!r}, which the contract does not have")
        if not all(map(_COLOUR.fullmatch, self.colours.values())):
            raise ValueError("a colour must have the form #rrggbb, in lower case")
        for text in (*self.titles.values(), *self.all_slots):
            # they are shown: in a terminal, and by matplotlib, which reads formulas between $
            if not text or len(text) > MOST_LETTERS or not text.isprintable() or "$" in text:
                raise ValueError(f"a title or a slot must be 1 to {MOST_LETTERS} plain letters")

    @property
    def sha256(self) -> str:
        """Identity of the contract: SHA-256 over its canonical JSON, without what is only shown."""
        plain = self.to_json()
        for shown in ("name", "order", "titles", "colours"):
            plain.pop(shown, None)
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def modality_problem(name: str) -> str | None:
    """Explain why a name is not valid for a modality; None if it is.

    Parameters
    ----------
    name : str
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
    return {slot: SLOT_UNITS[slot] for own in slots.values() for slot in own}


ICML2024: Final = Contract(
    name="sleepfm-icml2024",
    resampling="fft",
    scaling="none",
    slots=_RELEASED,
    units=dict.fromkeys(_units(_RELEASED), "uV") | {"SaO2": "655.35(-32768)/%"},
)
"""The authors' extraction: whole-record FFT resampling, no filter, no scaling, values as stored.

They took the stored counts of PhysioNet/CinC 2018, where a count is 1 uV, and 1/655.35 % of
saturation above -32,768 (98 % is 31,456). Asked for by unit, other files come out in that scale.
"""

ROBUST: Final = Contract(
    name="sleepfm-index-robust",
    resampling="polyphase",
    scaling="robust",
    slots=_RELEASED,
    units=_units(_RELEASED),
)
"""This project's own: polyphase resampling, robust scaling per recording and channel."""

PAPER_MONTAGE: Final = Contract(
    name="sleepfm-paper-montage",
    resampling="polyphase",
    scaling="robust",
    slots=_PAPER,
    units=_units(_PAPER),
)
"""As many channels as the paper's model had (Thapa et al., ICML 2024): 10 BAS, 2 ECG, 7 RESP.

The released checkpoint is another, smaller model, of 5, 1 and 3. Which channels the further ones
were is not published in full; these are the full montage of the AASM manual, prepared as in
:data:`ROBUST`. There are no weights for it but those that one trains.
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
        One of :data:`CONTRACTS`, or the path of a file ending in ``.json`` that holds what
        :meth:`Contract.to_json` gives.

    Raises
    ------
    WeightsError
        If there is no such contract, or the file holds none.
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
