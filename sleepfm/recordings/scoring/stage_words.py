"""Labels and codes of sleep stages in scoring files."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from sleepfm.choices import Coding
from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.other_scripts import in_english, is_foreign

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
    "N1": "n1 s1 nrem1 nonrem1 nmor1 nomor1 nremi nonremi ni si",
    "N2": "n2 s2 nrem2 nonrem2 nmor2 nomor2 nremii nonremii nii sii",
    "N3": "n3 s3 nrem3 nonrem3 nmor3 nomor3 nremiii nonremiii niii siii n4 s4 nrem4 nonrem4 "
    "nremiv nonremiv niv siv sws slowwave tiefschlaf lentprofond n3n4 s3s4 n34 s34",
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
    """Return a text in lower case and without accents, for comparison.

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

    The channel of EDF+ (``@@``), the marker type of BrainVision and the code of NSRR are removed.

    Parameters
    ----------
    text : str
        Label as written.

    Returns
    -------
    str
    """
    text = text.partition("@@")[0]
    marker_type, slash, rest = text.partition("/")
    if slash and marker_type.strip().lower() in ("comment", "stimulus", "response", "annotation"):
        text = rest
    return text.partition("|")[0].strip()


@functools.lru_cache(maxsize=4096)
def stage_of(text: str) -> str | None:
    """Return the AASM stage that a label names.

    Rechtschaffen and Kales S3 and S4 are N3, movement time is ``UNS``. Labels are those of EDF+
    (``Sleep stage N2``), Sleep-EDF (``Sleep stage 4``, ``Movement time``), NSRR
    (``Stage 2 sleep|2``), Luna, RemLogic (``SLEEP-S2``), bare names, and German, French, Italian
    and Spanish ones. A bare number names no stage: what it means depends on the coding.

    Parameters
    ----------
    text : str
        Label as written.

    Returns
    -------
    str or None
        A stage of :data:`~.vocabulary.STAGES`; None if the label names no stage.
    """
    return _stage(text)[0]


@functools.lru_cache(maxsize=4096)
def is_certain_stage(text: str) -> bool:
    """Return whether a label is certainly a stage: ``Sleep stage W`` or ``N2``, but not ``awake``.

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
    """Return the stage in a cell of a stage column, where ``?`` and ``L`` also mean unscored.

    Parameters
    ----------
    text : str
        Cell of a column of stages.

    Returns
    -------
    str or None
        A stage as from :func:`stage_of`; None if the cell names no stage.
    """
    stage = stage_of(text)
    return stage if stage is not None else _IN_A_COLUMN.get(re.sub(r"[\s\"]", "", plain(text)))


def _stage(text: str) -> tuple[str | None, bool]:
    name = name_of(text)
    if len(name) > LONGEST:
        return None, False
    lowered = in_english(plain(name), "stage")
    if is_foreign(lowered):
        return None, False
    two_names = re.fullmatch(r"([^()]+)\(([^()]+)\)\s*", name)
    if two_names:  # "N3 (SWS)": two names of the same stage
        first, second = _stage(two_names.group(1)), _stage(two_names.group(2))
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
    """Return the stage of an integer code in a coding.

    Parameters
    ----------
    text : str
        Cell of a column of stages.
    coding : str, optional
        Name of the coding: a key of :data:`CODINGS`.

    Returns
    -------
    str or None
        The stage; None if the text is not an integer or the coding does not have the code.

    Raises
    ------
    AnnotationError
        If the text is an integer and no coding is given.
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


def coding_from_letters(texts: Iterable[str]) -> Coding | None:
    """Interpret digits in a list with letters for wake and REM: ``W 1 2 3 4 R``.

    In such a list, 1 to 4 can only be stages of Rechtschaffen and Kales.

    Parameters
    ----------
    texts : iterable of str
        Stages as written.

    Returns
    -------
    {"rk"} or None
        None if the letter for wake or for REM is missing, if there are fewer than two different
        codes, or if there are codes other than 1 to 4.
    """
    distinct = set(texts)
    codes = {code for text in distinct if (code := integer(text)) is not None}
    letters = {stage_of(text) for text in distinct}
    return "rk" if {"W", "R"} <= letters and len(codes) > 1 and codes <= set("1234") else None


def integer(text: str) -> str | None:
    """Normalise an integer code: ``"2.0"`` becomes ``"2"``.

    Parameters
    ----------
    text : str
        Cell of a column of stages.

    Returns
    -------
    str or None
        The integer as in a coding; None if the text is not an integer.
    """
    number = re.fullmatch(r"\s*\"?([+-]?\d{1,4})(?:[.,]0*)?\"?\s*", text)
    if number:
        return str(int(number.group(1)))
    if re.fullmatch(r"\s*[+-]?\d(?:\.\d+)?[eE][+-]?\d{1,2}\s*", text):  # as numpy.savetxt writes
        value = float(text)
        return str(int(value)) if value == int(value) and abs(value) < 10_000 else None
    return None
