"""File names that may tell who slept: a person's name, a date, a hospital number."""

from __future__ import annotations

import re
from typing import Final

_DATE: Final = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])([-_.]?)(?:0[1-9]|1[0-2])\2(?:19|20)\d\d"
    r"|(?:0?[1-9]|[12]\d|3[01])\.(?:0?[1-9]|1[0-2])\.\d\d)(?!\d)"
)
_NUMBER: Final = re.compile(r"^\d{7,}$|\b(?:mrn|pid|pat|patient|case)[-_ ]?\d{4,}", re.IGNORECASE)
_NAME_PART: Final = r"[A-ZÀ-ÖØ-Þ][a-zß-öø-ÿ]{2,}"
_NAME: Final = re.compile(rf"(?<![^\W\d_])({_NAME_PART})[ _,.-]+({_NAME_PART})(?![^\W\d_])")
_ORDINARY: Final = frozenset((
    "sleep", "night", "study", "visit", "baseline", "raw", "psg", "hypnogram", "record",
    "recording", "subject", "patient", "control", "demo", "test", "data", "file", "clinic", "lab",
    "eeg", "edf", "day", "week", "follow", "first", "second", "nap", "scored", "final",
))  # fmt: skip


def telling(stem: str) -> str | None:
    """Say what a file's stem looks like when it may identify a person; None if it does not.

    Returns
    -------
    str or None
        ``"a date"``, ``"a hospital number"`` or ``"a person's name"``. A guess: names that look
        like nothing in particular pass.
    """
    if _DATE.search(stem):
        return "a date"
    if _NUMBER.search(stem):
        return "a hospital number"
    for first, second in _NAME.findall(stem):
        if first.lower() not in _ORDINARY and second.lower() not in _ORDINARY:
            return "a person's name"
    return None
