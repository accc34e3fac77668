"""Normalisation of channel names for comparison."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Final

from sleepfm.recordings.scoring.stage_words import plain

_ELECTRODE: Final = r"(?:[fcopt]p?[z0-9]|[ma][12]|e[12]|loc|roc)"
_REFERENCE: Final = r"(?:[am][12]|fpz|ref|avg|cz|nz|c?ler?|lle|linked)"
NO_REFERENCE: Final = re.compile(r"imp|stat|qual|ohm|off|raw\d")
"""Suffixes of electrode names that are not a shared reference."""


@functools.lru_cache(maxsize=16384)
def normalise(label: str) -> str:
    """Normalise a channel name, so that all names of a derivation are equal.

    Parameters
    ----------
    label : str
        Name as written in the file.

    Returns
    -------
    str
        Lower-case letters, digits and ``%``.

    Examples
    --------
    >>> normalise("EEG (C4-A1)"), normalise("LOC-A2"), normalise("EKG")
    ('c4m1', 'e1m2', 'ecg')
    """
    name = re.sub(r"(?<=[A-Za-z0-9)%])#\d+$", "", plain(label.strip()))
    # the two leads of one sensor, recorded separately
    name = re.sub(r"^(abd\w*|tho\w*|chest|e[ck]g|emg)\s*([+-])$", _lead, name)
    name = re.sub(r"^psg[_\s.-]+", "", name)
    name = re.sub(r"\((?:[lr]eog|[lr]oc|left eye|right eye)\)", "", name)
    name = re.sub(r"(?<![a-z0-9])a([12])(?!\d)", r"m\1", name)
    words = [word for word in re.split(r"[^a-z0-9%]+", name) if word]
    # "SaO2 SaO2": signal type and name are the same
    name = "".join(w for w, before in zip(words, ["", *words], strict=False) if w != before)
    name = re.sub(rf"^(?:eeg|eog)(?={_ELECTRODE})", "", name)
    name = re.sub(r"^eeg(?=e[ck]g)", "", name)
    name = re.sub(r"^ecg(?=ecg[12])", "", name.replace("ekg", "ecg"))
    name = re.sub(rf"^(?:loc|leog|eogl|eogleft|lefteog)(?={_REFERENCE}|$)", _eye("e1"), name)
    name = re.sub(rf"^(?:roc|reog|eogr|eogright|righteog)(?={_REFERENCE}|$)", _eye("e2"), name)
    return re.sub(r"(^|(?<=[0-9z]))a(?=[12](?!\d))", "m", name)


def _lead(match: re.Match[str]) -> str:
    return f"{match.group(1)} {'plus' if match.group(2) == '+' else 'minus'}"


def _eye(electrode: str) -> Callable[[re.Match[str]], str]:
    """Return a replacement by E1 or E2, except for ``EOG L`` alone, whose reference is unknown."""

    def replaced(match: re.Match[str]) -> str:
        bare = match.end() == len(match.string)
        return match.group(0) if bare and "eog" in match.group(0) else electrode

    return replaced


def shared_references(slot: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Find pairs whose difference is a slot's derivation: its two electrodes, one reference.

    Parameters
    ----------
    slot : str
        For example ``"C3-M2"``.
    names : sequence of str
        Normalised names of the available channels.

    Returns
    -------
    list of (str, str)
        Normalised names of minuend and subtrahend.
    """
    parts = [normalise(part) for part in slot.split("-")]
    if len(parts) != 2:
        return []
    plus, minus = parts
    shared = []
    for name in names:
        reference = name.removeprefix(plus)
        if name == plus or reference == name or NO_REFERENCE.search(reference):
            continue
        if reference[:1].isalpha() and minus + reference in names and reference != minus:
            shared.append((name, minus + reference))
    return shared
