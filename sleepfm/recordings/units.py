"""Units in files, and conversion between them."""

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
    """Normalise the spelling of a unit: ``"uVolt"``, ``"µV"`` and ``"UV"`` are ``"uV"``.

    A capital ``M`` before V is read as milli, as no biosignal is in megavolts.

    Parameters
    ----------
    written : str
        Unit as written in the file.

    Returns
    -------
    str or None
        The normalised unit; None if it is unknown.
    """
    bare = re.sub(r"[\s\[\]]", "", written.strip().lower())
    return _UNIT_OF.get(bare.rstrip("."))  # "perc." is a percentage; ".V" is not volts


def conversion(written: str, target: str) -> tuple[float, float] | None:
    """Return gain and offset for conversion to a target unit.

    A target of ``""`` leaves values unchanged. A target may also be stored counts in WFDB's
    notation, ``gain(baseline)/unit``: with ``655.35(-32768)/%``, 98 % is the count 31,456.

    Parameters
    ----------
    written : str
        Unit of the values, as written in the file.
    target : str
        Unit after conversion.

    Returns
    -------
    tuple of float, or None
        Gain and offset: ``converted = gain * value + offset``; None if the units are not
        convertible.
    """
    if not target:
        return 1.0, 0.0
    counts = _COUNTS.fullmatch(target)
    if counts:
        inner = conversion(written, counts["unit"])
        gain = float(counts["gain"])
        return inner and (inner[0] * gain, float(counts["baseline"]))
    unit = known_unit(written)
    for scale in _SCALES.values():
        if unit in scale and target in scale:
            return scale[unit] / scale[target], 0.0
    return None
