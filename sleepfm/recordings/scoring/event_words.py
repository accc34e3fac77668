"""Rules that recognise sleep events by the labels of scoring software, with type and subtype.

A label is split into words. Negations are handled first (``Apnea artifact`` is not an event), then
exclusions are removed (``Hypopnea without desaturation`` is a hypopnea). The type is taken from the
part before ``with`` and outside brackets, so that a cause or a consequence is not taken for the
event (``Arousal (Apnea)`` is an arousal, ``Hypopnea with arousal`` a hypopnea).
"""

from __future__ import annotations

import functools
import re
from typing import Final

from sleepfm.recordings.scoring.other_scripts import in_english, is_foreign
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
"""Labels that are not events; start and end marks would count an event twice."""
_EXCLUDED: Final = re.compile(
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
_OTHER_TYPES: Final = (
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
CODES: Final = {
    "oa": ("apnea", "obstructive"),
    "ca": ("apnea", "central"),
    "ma": ("apnea", "mixed"),
    "ua": ("apnea", ""),
    "oh": ("hypopnea", "obstructive"),
    "ch": ("hypopnea", "central"),
    "mh": ("hypopnea", "mixed"),
    "hy": ("hypopnea", ""),
    "h": ("hypopnea", ""),
}
"""Type and subtype of respiratory events, by abbreviation. Alone, they are read only where the file
shows that they are respiratory (:mod:`~.event_codes`)."""
_RESPIRATORY_CODE: Final = re.compile(
    r"^(?:resp\w*|apn\w*|sdb|breathing|atmung\w*|atem\w*)(?: events?)? (\w{1,2})$"
)
_COMMON: Final = re.compile(
    r"event|respirat|resp\b|related|sleep|scored|left|right|bilateral|links|rechts|spo2|sao2|o2|oxygen"
    r"|saturation|ekg|ecg|eeg|emg|nasal|flow|leg|limb|movement|phase|clear|open|airway|standard|auto"
    r"|periodic|isolated|spontan\w*|\d+|[lr]\b|of|de|di|der|breathing|rhythm|wave|partial\w*|unspecified"
    r"|type|with|w\b|mit|avec|con"
)


@functools.lru_cache(maxsize=4096)
def event_of(text: str) -> tuple[str, str] | None:
    """Return type and subtype of the event that a label names.

    The labels are those of NSRR, Profusion, Luna, CinC 2018 (``resp_obstructiveapnea``),
    Noxturnal (``A. Obstructive``), Embla, RemLogic, Domino and ucddb (``HYP-C``), in English,
    German, French, Italian and Spanish. The subtype of an arousal is its cause.

    Parameters
    ----------
    text : str
        Label as written.

    Returns
    -------
    tuple of str, or None
        Type and subtype; the subtype is empty if the label names none. None if the label names no
        event.
    """
    words = _EXCLUDED.sub(" ", _words(text)).strip()
    if not words or _NEGATED.search(words) or _SENTENCE.search(words):
        return None
    if _DOUBTED.search(name_of(text)):
        event = _classify(words, words)
        return ("unsure", "") if event and event[0] in ("apnea", "hypopnea", "rera") else None
    full = re.sub(r"[()]", " ", words)
    code = _RESPIRATORY_CODE.match(" ".join(full.split()))
    if code and code.group(1) in CODES:  # "RESP_OA", "Respiratory event (CA)"
        return CODES[code.group(1)]
    head = _WITH.split(re.sub(r"\(.*?\)", " ", words))[0]
    for part in (head, full):
        event = _classify(" ".join(part.split()), " ".join(full.split()))
        if event is not None:
            return event
    return None


@functools.lru_cache(maxsize=4096)
def is_artifact(text: str) -> bool:
    """Return whether a label marks an artifact: ``SpO2 desaturation artifact``.

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
    """Return whether a label is a remark rather than an event: ``CPAP started for apnea``.

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
                    *(p for _, p, _ in _OTHER_TYPES)):  # fmt: skip
        words = re.sub(
            rf"\w*(?:{pattern.pattern.replace('^', '').replace('$', '')})\w*", " ", words
        )
    other_words = [w for w in words.split() if not _COMMON.fullmatch(w) and len(w) > 2]
    return len(other_words) > 1


def _classify(head: str, full: str) -> tuple[str, str] | None:
    if _RERA.search(head):
        return "rera", ""
    if _AROUSAL.search(head):
        remainder = _AROUSAL.sub(" ", full)
        return "arousal", next((name for name, cause in _CAUSES if cause.search(remainder)), "")
    matches = []
    for event_type, pattern in (("desaturation", _DESATURATION), ("hypopnea", _HYPOPNEA),
                          ("apnea", _APNEA)):  # fmt: skip
        match = pattern.search(head)
        if match:
            matches.append((match.start(), event_type))
    if matches:
        event_type = min(matches)[1]
        if event_type == "desaturation":
            return event_type, ""
        return event_type, next((name for name, subtype in _SUBTYPES if subtype.search(full)), "")
    if _LIMB.search(head):
        return "limb_movement", "periodic" if re.search(r"period|\bplm|\bmpj", full) else ""
    cap = _CAP.match(head)
    if cap:
        return "cap", cap.group(1).upper()
    return next(
        ((event_type, sub) for event_type, pattern, sub in _OTHER_TYPES if pattern.search(head)),
        None,
    )


def _words(text: str) -> str:
    """Normalise a label: lower case, no accents, words separated by one space, brackets kept."""
    name = name_of(text)
    if len(name) > LONGEST:
        return ""
    second = text.partition("@@")[0].partition("|")[2]
    if second and not name:
        name = second.strip()
    name = re.sub(r"^[A-Z]{2,5}:\s*", "", name)  # a vendor's event class: "SRO: Hypopnea"
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    english = in_english(plain(name), "event")
    return "" if is_foreign(english) else re.sub(r"[^a-z0-9()+]+", " ", english).strip()
