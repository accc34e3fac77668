"""Units as files write them, and how to get from one to another."""

from __future__ import annotations

import functools
import re
from typing import Final

_SPELLINGS: Final = {
    "uV": "uv µv μv uvolt uvolts microv microvolt microvolts muv mkv",
    "mV": "mv mvolt mvolts millivolt millivolts",
    "V": "v volt volts",
    "nV": "nv nanovolt nanovolts",
    "%": "% percent pct perc %sat %spo2 sao2% spo2%",
    "1": "ratio fraction",
    "cmH2O": "cmh2o cmh20",
    "mmHg": "mmhg",
    "Ohm": "ohm ohms kohm ω",
}
_UNIT_OF: Final = {word: unit for unit, words in _SPELLINGS.items() for word in words.split()}
_COUNTS: Final = re.compile(r"(?P<gain>[\d.]+)\((?P<baseline>-?\d+)\)/(?P<unit>.+)")
_SCALES: Final = {
    "voltage": {"nV": 1e-3, "uV": 1.0, "mV": 1e3, "V": 1e6},
    "saturation": {"%": 1.0, "1": 100.0},
}


@functools.lru_cache(maxsize=1024)
def known_unit(written: str) -> str | None:
    """Recognise a spelling: ``"uVolt"``, ``"µV"`` and ``"UV"`` are ``"uV"``; None if unknown.

    A capital ``M`` before V is taken as milli: no biosignal is in megavolts.

    Parameters
    ----------
    written : str
        Unit as a file has it.

    Returns
    -------
    str or None
        The unit as this project spells it.
    """
    bare = re.sub(r"[\s\[\]]", "", written.strip().lower())
    return _UNIT_OF.get(bare.rstrip("."))  # "perc." is a percentage; ".V" is not volts


def conversion(written: str, wanted: str) -> tuple[float, float] | None:
    """Find the gain and offset that bring values to a wanted unit; None if there are none.

    A wanted unit of ``""`` takes values as they come. A wanted unit may be stored counts in WFDB's
    notation, ``gain(baseline)/unit``: ``655.35(-32768)/%`` makes 98 % the count 31,456.

    Parameters
    ----------
    written : str
        Unit of the values, as a file has it.
    wanted : str
        Unit to bring them to.

    Returns
    -------
    tuple of float, or None
        Gain and offset: ``wanted = gain * written + offset``.
    """
    if not wanted:
        return 1.0, 0.0
    counts = _COUNTS.fullmatch(wanted)
    if counts:
        inner = conversion(written, counts["unit"])
        gain = float(counts["gain"])
        return inner and (inner[0] * gain, float(counts["baseline"]))
    unit = known_unit(written)
    for scale in _SCALES.values():
        if unit in scale and wanted in scale:
            return scale[unit] / scale[wanted], 0.0
    return None
