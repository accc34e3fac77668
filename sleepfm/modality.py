"""The three modalities of SleepFM and the slots (fixed input channels) of their encoders."""

from __future__ import annotations

import enum
from typing import Final

EMBEDDING_DIM: Final = 512
"""Length of an embedding (Thapa et al., ICML 2024, arXiv 2405.17766, section 3)."""


class Modality(enum.StrEnum):
    """One group of signals with one encoder: ``bas``, ``ecg`` or ``resp``."""

    BAS = "bas"
    ECG = "ecg"
    RESP = "resp"

    @property
    def others(self) -> tuple[Modality, ...]:
        """The other modalities, in order."""
        return tuple(m for m in Modality if m is not self)


SLOTS: Final[dict[Modality, tuple[str, ...]]] = {
    Modality.BAS: ("C3-M2", "C4-M1", "O1-M2", "O2-M1", "E1-M2"),
    Modality.ECG: ("ECG",),
    Modality.RESP: ("CHEST", "SaO2", "ABD"),
}
"""Slots of the published encoders, in input order (the authors' ``config.py``, CHANNEL_DATA)."""

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
}
"""Unit of each slot; ``""`` for the belts, whose unit is the device's own."""
