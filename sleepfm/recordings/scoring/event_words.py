"""The words that real files use for events, by rule: what an event is, then of which kind.

A label is read as words. What negates it goes first (``Apnea artifact`` is no event), then what it
says that there was not (``Hypopnea without desaturation`` is a hypopnea), then the head: the part
before ``with`` and outside brackets, so that a cause or a consequence is not taken for the event
(``Arousal (Apnea)`` is an arousal, ``Hypopnea with arousal`` a hypopnea).
"""

from __future__ import annotations

import functools
import re
from typing import Final

from sleepfm.recordings.scoring.stage_words import LONGEST, name_of, plain

EVENT_TYPES: Final = (
    "apnea", "hypopnea", "desaturation", "rera", "arousal", "limb_movement", "unsure", "snore",
    "flow_limitation", "hypoventilation", "periodic_breathing", "bradycardia", "tachycardia",
    "asystole", "bruxism", "spindle", "k_complex", "cap",
)  # fmt: skip
"""Event types that are stored; any other annotation is dropped and counted."""

_NEGATED: Final = re.compile(
    r"\b(?:art[ei]fa[ck]t\w*|art[ei]fatt\w*|excluded?|deleted|rejected|invalid|index"
    r"|(?:end|start|begin|beginning|onset|offset|stop) of|(?:end|start|begin|stop|onset|offset)$)"
)
"""What is no event itself; the two ends of one would be two events."""
_WITHOUT: Final = re.compile(
    r"\((?:no|not|without|w o|ohne|keine?|sans|senza|sin|sem|zonder)\b[^)]*\)"
    r"|\b(?:no|not|without|w o|ohne|keine?|sans|senza|sin|sem|zonder)\b.*"
)
_SENTENCE: Final = re.compile(
    r"\b(?:history|patient|pt|tests?|study|titration|tech|diagnos\w*|syndrome|observed|noted|heard"
    r"|witnessed|reported)\b"
)
_DOUBTED: Final = re.compile(
    r"\?\s*$|\b(?:possibl[ey]|probabl[ey]|questionable|suspected)\b", re.IGNORECASE
)
_WITH: Final = re.compile(
    r"\s(?:with|w|mit|avec|con|com|met|plus|and|und|et|e|y|en)\s|\+|\bassoc\w*"
)
_AROUSAL: Final = re.compile(
    r"\b(?:micro ?)?(?:arou[sz]al\w*|aro)\b|weckreaktion|aufwachreaktion|micro ?eveil"
    r"|micro ?risvegli|micro ?despertar|\brisvegli|\bdespertar|ontwaakreactie|micro ?alerta"
)
_RERA: Final = re.compile(r"\breras?\b|respiratory effort related")
_HYPOPNEA: Final = re.compile(
    r"\w*h[yi]popn\w*|\bipopne\w*|\bhyp(?:op)?\b|\bh(?= (?:obstr|centr|mixed|zentr))"
)
_APNEA: Final = re.compile(
    r"\bapn\w*|\b(?:osa|csa|msa)\b|\w+apn(?:o?ea|oe|ee)s?\b"
    r"|\ba(?= (?:obstr|centr|mixed|zentr|gem|mix))|^(?:ob|cn|mx) a$|^(?:obstructive|mixed)$"
)
_DESATURATION: Final = re.compile(
    r"\b(?:sp|sa)?(?:o2)?desat\w*|\bdessat\w*|entsattigung\w*|sattigungsabfall"
    r"|\b(?:sp|sa)?o2 (?:drop|dip|abfall)s?\b"
)
_LIMB: Final = re.compile(
    r"\blimb|\bplm\w*|\blm[slr]?\b|\bleg (?:movement|mov|jerk|activity)|beinbewegung|beenbeweging"
    r"|mouvements? (?:periodiques? )?(?:des? )?jambe|\bmpj\b|gamb[ae]|piernas?\b|\bpernas?\b"
)
_SUBTYPES: Final = (
    ("", re.compile(r"\bnon ?(?:obstr|centr)")),
    ("obstructive", re.compile(r"obst|ostrutt|\bobs?\b|\bosa\b|\bo\b")),
    ("central", re.compile(r"\bcent?\b|centr|\bze?ntr|clear ?airway|open ?airway|\bcsa\b|\bcn\b"
                           r"|\bc\b")),
    ("mixed", re.compile(r"\bmix|\bmx\b|\bgem(?:ischt\w*|engde?)?\b|mist[ao]|\bmsa\b|\bm\b")),
)  # fmt: skip
_CAUSES: Final = (
    ("respiratory", re.compile(r"resp|apn|popn|desat|snor|\bres\b|rera|flow")),
    ("limb_movement", re.compile(r"limb|plm|\blms?\b|leg|\bmov")),
    ("spontaneous", re.compile(r"spont|\bspon?\b")),
)
_KINDS: Final = (
    ("unsure", re.compile(r"^unsure$"), ""),
    ("periodic_breathing", re.compile(r"cheyne|\bcsr\b"), "cheyne_stokes"),
    ("periodic_breathing", re.compile(r"periodic (?:breath|resp)|periodische atmung"), ""),
    (
        "flow_limitation",
        re.compile(
            r"(?:flow|fluss) ?limit|flussbegrenzung|atemfluss ?limit|limita\w+ "
            r"(?:de |di |del )?(?:debit|fluj?[sx]?o)"
        ),
        "",
    ),
    ("hypoventilation", re.compile(r"hypoventil"), ""),
    ("snore", re.compile(r"\bsnor|schnarch|ronfl|\bruss|\bronqu|\bronco|snurk"), ""),
    ("bradycardia", re.compile(r"bradyc?[ck]ard|bradikard"), ""),
    ("tachycardia", re.compile(r"tachy[ck]ard|takikard"), ""),
    ("asystole", re.compile(r"asystol"), ""),
    ("bruxism", re.compile(r"bruxis|\brmma\b"), ""),
    ("spindle", re.compile(r"\bspindel|\bspindles?\b"), ""),
    ("k_complex", re.compile(r"\bk ?complex|\bk ?komplex"), ""),
)
_CAP: Final = re.compile(r"^(?:m?cap) ?(a[123]|b)\b")
_COMMON: Final = re.compile(
    r"event|respirat|resp\b|related|sleep|scored|left|right|bilateral|links|rechts|spo2|sao2|o2|oxygen"
    r"|saturation|ekg|ecg|eeg|emg|nasal|flow|leg|limb|movement|phase|clear|open|airway|standard|auto"
    r"|periodic|isolated|spontan\w*|\d+|[lr]\b|of|de|di|der|breathing|rhythm|wave|partial\w*|unspecified"
    r"|type|with|w\b|mit|avec|con"
)


@functools.lru_cache(maxsize=4096)
def event_of(text: str) -> tuple[str, str] | None:
    """Return the type and subtype of the event that a label names; None where it names none.

    Knows NSRR, Profusion, Luna, CinC 2018 (``resp_obstructiveapnea``), Noxturnal (``A.
    Obstructive``), Embla, RemLogic, Domino and ucddb (``HYP-C``), in English, German, French,
    Italian and Spanish. The subtype of an arousal is its cause.

    Parameters
    ----------
    text : str
        Label as written.

    Returns
    -------
    tuple of str, or None
        Type and subtype; the subtype is empty where the label names none.
    """
    words = _WITHOUT.sub(" ", _words(text)).strip()
    if not words or _NEGATED.search(words) or _SENTENCE.search(words):
        return None
    if _DOUBTED.search(name_of(text)):
        found = _kind(words, words)
        return ("unsure", "") if found and found[0] in ("apnea", "hypopnea", "rera") else None
    whole = re.sub(r"[()]", " ", words)
    head = _WITH.split(re.sub(r"\(.*?\)", " ", words))[0]
    for part in (head, whole):
        found = _kind(" ".join(part.split()), " ".join(whole.split()))
        if found is not None:
            return found
    return None


@functools.lru_cache(maxsize=4096)
def is_artifact(text: str) -> bool:
    """Return whether a label denies an event: ``SpO2 desaturation artifact``.

    Parameters
    ----------
    text : str
        Label as written.

    Returns
    -------
    bool
    """
    words = _words(text)
    return bool(words and re.search(r"art[ei]fa", words))


@functools.lru_cache(maxsize=4096)
def is_remark(text: str) -> bool:
    """Return whether a label is a sentence about an event: ``CPAP started for apnea``.

    Parameters
    ----------
    text : str
        Label that names an event.

    Returns
    -------
    bool
    """
    words = " ".join(re.sub(r"[()]", " ", _words(text)).split())
    patterns = (_AROUSAL, _RERA, _HYPOPNEA, _APNEA, _DESATURATION, _LIMB, _CAP)
    for pattern in (*patterns, *(p for _, p in _SUBTYPES), *(p for _, p in _CAUSES),
                    *(p for _, p, _ in _KINDS)):  # fmt: skip
        words = re.sub(
            rf"\w*(?:{pattern.pattern.replace('^', '').replace('$', '')})\w*", " ", words
        )
    rest = [w for w in words.split() if not _COMMON.fullmatch(w) and len(w) > 2]
    return len(rest) > 1


def _kind(head: str, whole: str) -> tuple[str, str] | None:
    if _RERA.search(head):
        return "rera", ""
    if _AROUSAL.search(head):
        beside = _AROUSAL.sub(" ", whole)
        return "arousal", next((name for name, cause in _CAUSES if cause.search(beside)), "")
    found = []
    for kind, pattern in (("desaturation", _DESATURATION), ("hypopnea", _HYPOPNEA),
                          ("apnea", _APNEA)):  # fmt: skip
        match = pattern.search(head)
        if match:
            found.append((match.start(), kind))
    if found:
        kind = min(found)[1]
        if kind == "desaturation":
            return kind, ""
        return kind, next((name for name, subtype in _SUBTYPES if subtype.search(whole)), "")
    if _LIMB.search(head):
        return "limb_movement", "periodic" if re.search(r"period|\bplm|\bmpj", whole) else ""
    cap = _CAP.match(head)
    if cap:
        return "cap", cap.group(1).upper()
    return next(((kind, sub) for kind, pattern, sub in _KINDS if pattern.search(head)), None)


def _words(text: str) -> str:
    """Words of a label in lower case, brackets kept, one space between them."""
    name = name_of(text)
    if len(name) > LONGEST:
        return ""
    second = text.partition("@@")[0].partition("|")[2]
    if second and not name:
        name = second.strip()
    name = re.sub(r"^[A-Z]{2,5}:\s*", "", name)  # a vendor's class of events: "SRO: Hypopnea"
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.sub(r"[^a-z0-9()+]+", " ", plain(name)).strip()
