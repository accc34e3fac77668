"""The words and codes that real files use for sleep stages."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from sleepfm.choices import Coding
from sleepfm.errors import AnnotationError

CODINGS: Final[dict[Coding, dict[str, str]]] = {
    "yasa": {"-2": "UNS", "-1": "ART", "0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "R"},
    "profusion": {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "5": "R", "6": "UNS",
                  "9": "UNS"},
    "rk": {"-1": "UNS", "0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "5": "R", "6": "UNS",
           "7": "UNS", "9": "UNS"},
    "ucddb": {"0": "W", "1": "R", "2": "N1", "3": "N2", "4": "N3", "5": "N3", "6": "ART",
              "7": "UNS", "8": "UNS"},
    "dreams": {"5": "W", "4": "R", "3": "N1", "2": "N2", "1": "N3", "0": "N3", "-1": "UNS",
               "-2": "UNS", "-3": "UNS"},
    "bdsp": {"1": "N3", "2": "N2", "3": "N1", "4": "R", "5": "W", "0": "UNS", "9": "UNS"},
}  # fmt: skip
"""Stages by integer code. REM is 4 in YASA, DREAMS and BDSP, 5 in Profusion and R&K, 1 in
ucddb. DREAMS: readme of the database (Devuyst 2005); BDSP: CAISR's annotation files."""

LONGEST: Final = 80
"""Maximum length of a label; longer text is a remark."""

_PREFIXES: Final = (
    "sleepstage", "slaapstadium", "schlafstadium", "nremstage", "nremstadium", "sleep", "stage",
    "stg", "stadium", "stade", "stadio", "estadio", "estagio", "etapa", "fase", "sommeil", "sonno",
    "sueno", "sono", "slaap",
)  # fmt: skip
_SUFFIXES: Final = ("sleep", "stage", "schlaf", "sommeil", "sonno", "sueno", "sono",
                    "slaap", "phase")  # fmt: skip
_CORES: Final = {
    "W": "w wake awake wakefulness wk wach wachheit eveil veille veglia vigilia despierto "
    "acordado waak wakker nrem0 s0",
    "N1": "n1 s1 nrem1 nonrem1 nremi nonremi ni si",
    "N2": "n2 s2 nrem2 nonrem2 nremii nonremii nii sii",
    "N3": "n3 s3 nrem3 nonrem3 nremiii nonremiii niii siii n4 s4 nrem4 nonrem4 nremiv nonremiv niv "
    "siv sws slowwave tiefschlaf lentprofond n3n4 s3s4 n34 s34",
    "R": "r rem mor paradoxal paradoxical sp",
    "UNS": "uns unscored unknown notscored nonscored nostage notstaged undefined u mt movement "
    "movementtime m bodymovement bewegung mouvement movimento movimiento beweging mvt "
    "nichtbewertet nonscore nonclasse disconnected disconnection unsure indeterminate ns none "
    "unstaged nscored",
    "ART": "art artefact artifact artefakt artefacto artefatto artefatti artifacts artefacts",
}
_CORE: Final = {word: stage for stage, words in _CORES.items() for word in words.split()}
_AFTER_STAGE: Final = {
    "0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "5": "R", "6": "UNS", "9": "UNS",
    "34": "N3", "a": "ART", "i": "N1", "ii": "N2", "iii": "N3", "iv": "N3",
}  # fmt: skip
_EXPLICIT: Final = frozenset(
    f"{kind}{n}" for kind in ("n", "s", "nrem", "nonrem") for n in (1, 2, 3, 4)
)
_NEVER_ALONE: Final = frozenset(("ni", "si", "sp", "unsure", "none", "ns"))
_IN_A_COLUMN: Final = {"?": "UNS", "l": "UNS", "a": "ART", "ns": "UNS", "none": "UNS", "sp": "R",
                       "nan": "UNS", "n/a": "UNS", "na": "UNS", "unsure": "UNS", "-": "UNS",
                       "lightson": "UNS", "lightsoff": "UNS"}  # fmt: skip


def plain(text: str) -> str:
    """Return a text in lower case and without accents, as words are compared.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def name_of(text: str) -> str:
    """Extract the name from a label: ``Comment/Stage 2 sleep|2@@C3-M2`` is ``Stage 2 sleep``.

    Drops the channel of EDF+ (``@@``), BrainVision's kind of a marker, and NSRR's code.

    Parameters
    ----------
    text : str
        Label as written.

    Returns
    -------
    str
    """
    text = text.partition("@@")[0]
    kind, slash, rest = text.partition("/")
    if slash and kind.strip().lower() in ("comment", "stimulus", "response", "annotation"):
        text = rest
    return text.partition("|")[0].strip()


@functools.lru_cache(maxsize=4096)
def stage_of(text: str) -> str | None:
    """Return the AASM stage that a label names; None where it names none.

    Rechtschaffen and Kales S3 and S4 are N3, movement time is ``UNS``. Knows EDF+ (``Sleep stage
    N2``), Sleep-EDF (``Sleep stage 4``, ``Movement time``), NSRR (``Stage 2 sleep|2``), Luna,
    RemLogic (``SLEEP-S2``), bare names, and German, French, Italian and Spanish ones. A bare number
    names no stage: what it means depends on the coding.

    Parameters
    ----------
    text : str
        Label as written.

    Returns
    -------
    str or None
        A stage of :data:`~.vocabulary.STAGES`.
    """
    return _stage(text)[0]


@functools.lru_cache(maxsize=4096)
def says_stage(text: str) -> bool:
    """Return whether a label cannot be a remark: ``Sleep stage W`` and ``N2``, but not ``awake``.

    Parameters
    ----------
    text : str
        Label as written.

    Returns
    -------
    bool
    """
    return _stage(text)[1]


def stage_in_column(text: str) -> str | None:
    """Read a stage as :func:`stage_of` does, in a column, where ``?`` and ``L`` mean unscored.

    Parameters
    ----------
    text : str
        Cell of a column of stages.

    Returns
    -------
    str or None
    """
    found = stage_of(text)
    return found if found is not None else _IN_A_COLUMN.get(re.sub(r"[\s\"]", "", plain(text)))


def _stage(text: str) -> tuple[str | None, bool]:
    name = name_of(text)
    if len(name) > LONGEST:
        return None, False
    lowered = plain(name)
    twice = re.fullmatch(r"([^()]+)\(([^()]+)\)\s*", name)
    if twice:  # "N3 (SWS)": the stage and another name of it
        first, second = _stage(twice.group(1)), _stage(twice.group(2))
        return first if first[0] is not None and first[0] == second[0] else (None, False)
    word = re.sub(r"[^a-z0-9]", "", lowered)
    if word in ("sleepstage", "stage"):
        return ("UNS", True) if lowered.endswith("?") else (None, False)
    prefix = next((p for p in _PREFIXES if word.startswith(p) and word != p), "")
    core = word.removeprefix(prefix)
    suffix = next((s for s in _SUFFIXES if core.endswith(s) and core != s), "")
    bare = core.removesuffix(suffix)
    for candidate in (core, bare):
        if prefix and candidate in _AFTER_STAGE:
            return _AFTER_STAGE[candidate], True
        if candidate in _CORE and (prefix or candidate not in _NEVER_ALONE):
            stage = _CORE[candidate]
            certain = bool(prefix) or (
                stage not in ("UNS", "ART") and (candidate in _EXPLICIT or candidate != core)
            )
            return stage, certain
    return None, False


def stage_of_code(text: str, coding: Coding | None) -> str | None:
    """Return the stage that an integer code means in a coding; None if the text is no integer.

    Parameters
    ----------
    text : str
        Cell of a column of stages.
    coding : str, optional
        Name of the coding: a key of :data:`CODINGS`.

    Returns
    -------
    str or None
        None also for a code that the coding does not have.

    Raises
    ------
    AnnotationError
        If it is an integer and the coding is unknown.
    """
    code = integer(text)
    if code is None:
        return None
    if coding is None:
        raise AnnotationError(
            "holds integer codes, which mean different stages in different codings; "
            f"name one of {', '.join(CODINGS)} (--coding)"
        )
    return CODINGS[coding].get(code)


def coding_beside_letters(texts: Iterable[str]) -> Coding | None:
    """Interpret digits in a list with letters for wake and REM: ``W 1 2 3 4 R``.

    There 1 to 4 can only be the stages of Rechtschaffen and Kales; any other code leaves it open.

    Parameters
    ----------
    texts : iterable of str
        Stages as written.

    Returns
    -------
    {"rk"} or None
    """
    found = set(texts)
    codes = {code for text in found if (code := integer(text)) is not None}
    letters = {stage_of(text) for text in found}
    return "rk" if {"W", "R"} <= letters and len(codes) > 1 and codes <= set("1234") else None


def integer(text: str) -> str | None:
    """Return an integer code as it stands in a coding: ``"2.0"`` is ``"2"``; None if it is none.

    Parameters
    ----------
    text : str
        Cell of a column of stages.

    Returns
    -------
    str or None
    """
    number = re.fullmatch(r"\s*\"?([+-]?\d{1,4})(?:[.,]0*)?\"?\s*", text)
    if number:
        return str(int(number.group(1)))
    if re.fullmatch(r"\s*[+-]?\d(?:\.\d+)?[eE][+-]?\d{1,2}\s*", text):  # as numpy.savetxt writes
        value = float(text)
        return str(int(value)) if value == int(value) and abs(value) < 10_000 else None
    return None
