"""Modalities: groups of signals with one encoder each, as a contract describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EMBEDDING_DIM: Final = 512
"""Length of an embedding (Thapa et al., ICML 2024, arXiv 2405.17766, section 3)."""


@dataclass(frozen=True)
class Modality:
    """A group of signals with one encoder.

    Parameters
    ----------
    name : str
        Name in files, columns and commands, e.g. ``ecg``.
    slots : tuple of str
        Input channels, in order.
    title : str
        Title in figures.
    colour : str
        Colour in figures, ``#rrggbb``.
    """

    name: str
    slots: tuple[str, ...]
    title: str
    colour: str


SLOT_UNITS: Final[dict[str, str]] = {
    "C3-M2": "uV",
    "C4-M1": "uV",
    "O1-M2": "uV",
    "O2-M1": "uV",
    "E1-M2": "uV",
    "ECG": "uV",
    "CHEST": "",
    "SaO2": "%",
    "ABD": "",
    "F3-M2": "uV",
    "F4-M1": "uV",
    "E2-M2": "uV",
    "CHIN": "uV",
    "LEGS": "uV",
    "ECG2": "uV",
    "PULSE": "",
    "FLOW": "",
    "THERM": "",
    "SNORE": "",
}
"""Physical unit of each slot in the channel table; ``""`` for sensors, such as the belts,
whose unit depends on the device."""

COLOURS: Final[dict[str, str]] = {"bas": "#0072b2", "ecg": "#d55e00", "resp": "#009e73"}
FURTHER_COLOURS: Final = ("#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f", "#a65628", "#f0c000")
"""Colours of modalities without one in their contract, distinguishable for most colour-blind
readers."""
