"""Interpretation of column headers: time, unit, label."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Final, Literal

from sleepfm.recordings.scoring.other_scripts import in_english
from sleepfm.recordings.scoring.stage_words import plain

Role = Literal[
    "onset", "end", "duration", "date", "epoch", "sample", "stage", "event", "label", "number",
    "other", "unknown time",
]  # fmt: skip

_UNITS: Final = {
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "sek": 1.0, "sekunden": 1.0,
    "secondes": 1.0, "secondi": 1.0, "segundos": 1.0, "seconden": 1.0,
    "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3, "millis": 1e-3,
    "us": 1e-6, "min": 60.0, "mins": 60.0, "minute": 60.0, "minutes": 60.0, "minuten": 60.0,
    "h": 3600.0, "hr": 3600.0, "hrs": 3600.0, "hour": 3600.0, "hours": 3600.0,
}  # fmt: skip
_FORMATS: Final = re.compile(
    r"^(?:[dmyh]{1,4}[-/.: ]?)*h{1,2}[:.]?m{2}(?:[:.]?s{2}(?:[.,:]\w+)?)?(?: ?am/?pm)?$"
)
_ONSET: Final = frozenset(
    [
        "onset",
        "onsets",
        "start",
        "starts",
        "starttime",
        "begin",
        "begins",
        "beginning",
        "began",
        "from",
        "beginn",
        "anfang",
        "startzeit",
        "debut",
        "inizio",
        "inicio",
        "comienzo",
        "begintijd",
        "starttijd",
        "aanvang",
    ]
)
_TIME: Final = frozenset(
    [
        "time",
        "times",
        "timestamp",
        "clock",
        "datetime",
        "zeit",
        "uhrzeit",
        "heure",
        "ora",
        "hora",
        "tiempo",
        "temps",
        "tempo",
        "tijd",
        "tijdstip",
        "horario",
    ]
)
_END: Final = frozenset(
    [
        "end",
        "ends",
        "ending",
        "stop",
        "stops",
        "finish",
        "until",
        "to",
        "endtime",
        "stoptime",
        "ende",
        "endzeit",
        "fin",
        "fine",
        "termine",
        "einde",
        "eindtijd",
        "eind",
        "fim",
        "final",
        "termino",
    ]
)
_DURATION: Final = frozenset(
    [
        "duration",
        "durations",
        "dur",
        "length",
        "len",
        "dauer",
        "lange",
        "duree",
        "durata",
        "duracion",
        "duur",
        "tijdsduur",
        "duracao",
    ]
)
_DATE: Final = frozenset(["date", "day", "datum", "fecha", "data", "jour", "dag", "dia"])
_EPOCH: Final = frozenset(["epoch", "epochs", "epoche", "epochen", "epoque", "epoca", "epoc", "ep"])
_SAMPLE: Final = frozenset(
    ["sample", "samples", "begsample", "endsample", "samp", "smp", "sampleindex"]
)
_STAGE: Final = frozenset(
    [
        "stage",
        "stages",
        "staging",
        "sleepstage",
        "sleepstages",
        "stagename",
        "stadium",
        "stadien",
        "schlafstadium",
        "schlafstadien",
        "schlafphase",
        "stade",
        "stades",
        "stadio",
        "stadi",
        "etapa",
        "fase",
        "hypnogram",
        "hypno",
        "hypnogramme",
        "score",
        "scoring",
        "slaapstadium",
        "slaapstadia",
        "stadia",
        "estagio",
        "estagios",
        "estadio",
        "estadios",
        "fases",
    ]
)
_EVENT: Final = frozenset(
    [
        "event",
        "events",
        "eventname",
        "ereignis",
        "ereignisse",
        "evenement",
        "evenements",
        "evento",
        "eventi",
        "eventos",
        "gebeurtenis",
        "gebeurtenissen",
        "evenementen",
    ]
)
_LABEL: Final = frozenset(
    [
        "trial",
        "annotation",
        "annotations",
        "description",
        "descriptions",
        "label",
        "labels",
        "class",
        "concept",
        "name",
        "value",
        "type",
        "eventtype",
        "comment",
        "text",
        "marker",
        "remark",
        "beschreibung",
        "bezeichnung",
        "descrizione",
        "descripcion",
        "anmerkung",
        "omschrijving",
        "beschrijving",
        "opmerking",
        "anotacao",
        "descricao",
    ]
)
_NUMBER: Final = frozenset(
    ["no", "nr", "n", "index", "idx", "id", "row", "number", "num", "nummer", "unnamed"]
)
_ELAPSED: Final = frozenset(
    ["elapsed", "relative", "since", "recording", "seconds", "sec", "offset"]
)
_CLOCK: Final = frozenset(["clock", "wall", "absolute", "local", "daytime", "uhrzeit"])
_FILLERS: Final = frozenset(
    [
        "recording",
        "recorded",
        "of",
        "the",
        "event",
        "events",
        "epoch",
        "stage",
        "sleep",
        "in",
        "and",
        "rel",
        "relative",
        "since",
        "elapsed",
        "annotation",
        "abs",
        "absolute",
        "real",
        "wall",
        "clock",
        "local",
        "utc",
        "d",
        "scored",
        "scoring",
        "start",
        "beg",
    ]
)
RESPIRATORY: Final = frozenset(
    ("resp", "respiratory", "respiration", "breathing", "apnea", "apnoea", "sdb", "atmung",
     "respiratoire", "respiratorio")
)  # fmt: skip
"""Words of a heading by which its column holds respiratory events."""
_LENGTHS: Final = frozenset(("sec", "secs", "seconds", "ms", "msec", "offset", "lag", "latency"))
END_WORDS: Final = _END
EPOCH_WORDS: Final = _EPOCH
_TIME_LIKE: Final = _ONSET | _TIME | _END | _DURATION | _DATE | _SAMPLE | _EPOCH | _LENGTHS


@dataclass(frozen=True)
class Heading:
    """Interpretation of a column heading.

    Parameters
    ----------
    written : str
        Heading as written in the file.
    role : str
        Content of the column; ``unknown time`` if it may contain times of an unknown kind.
    unit_s : float
        Unit of numeric times, in seconds.
    elapsed : bool or None
        Whether ``HH:MM:SS`` is time since the start (True) or a time of day (False); None if the
        heading does not specify it.
    words : frozenset of str
        Words of the heading, in lower case and without accents.
    unit_given : bool
        Whether the heading names a unit of time.
    """

    written: str
    role: Role
    unit_s: float = 1.0
    elapsed: bool | None = None
    words: frozenset[str] = frozenset()
    unit_given: bool = False


@functools.lru_cache(maxsize=4096)
def heading_of(written: str) -> Heading:
    """Interpret a heading, in any case and spacing, with its unit in brackets or at the end.

    Parameters
    ----------
    written : str
        Heading as written in the table.

    Returns
    -------
    Heading
        Its role, unit and words.

    Examples
    --------
    >>> heading_of("Onset (s)").role, heading_of("Duration[ms]").unit_s
    ('onset', 0.001)
    """
    text = written.strip().strip("\"'#*\ufeff ")
    unit, text = _bracketed(text)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    english = in_english(plain(text), "heading")
    words = [w for w in re.split(r"[^\w%]+|_", english) if w]
    if unit is None and len(words) > 1 and words[-1] in _UNITS:
        unit = _UNITS[words.pop()]
    word_set = frozenset(words)
    role = _role(words, word_set)
    elapsed = None
    if role in ("onset", "end"):
        if word_set & {"elapsed", "relative", "rel", "since"}:
            elapsed = True
        elif word_set & _CLOCK:
            elapsed = False
    if role == "other" and word_set & _TIME_LIKE:
        role = "unknown time"
    unit_s = 1.0 if unit is None else unit
    return Heading(written.strip(), role, unit_s, elapsed, word_set, unit is not None)


def _bracketed(text: str) -> tuple[float | None, str]:
    """Separate a unit in brackets from a heading; keep other brackets as words."""
    unit = None
    for match in re.finditer(r"[\(\[{（]([^\)\]}）]*)[\)\]}）]", text):
        inner = in_english(plain(match.group(1)), "heading")
        inner = re.sub(r"\s+", " ", inner.strip())
        if inner in _UNITS:
            unit = _UNITS[inner]
        elif not _FORMATS.fullmatch(inner) and inner not in ("24h", "am/pm", "clock"):
            continue
        text = text.replace(match.group(0), " ")
    return unit, text


def _role(words: list[str], word_set: frozenset[str]) -> Role:
    if not words:
        return "number"  # an index that pandas wrote without a name
    if word_set & _SAMPLE:
        return "sample"
    if word_set & _DURATION or (
        word_set & _EPOCH and len(words) > 1 and words[-1] in ("seconds", "sec")
    ):
        return "duration"
    other_words = word_set - _FILLERS
    if word_set & _END and not other_words - _END - _TIME - _DATE:
        return "end"
    if word_set & (_ONSET | _TIME) and not other_words - _ONSET - _TIME - _DATE - {"epoch"}:
        return "onset"
    if word_set & _DATE and not other_words - _DATE:
        return "date"
    if word_set & _STAGE and not word_set & (_NUMBER | {"probability", "prob", "confidence"}):
        return "stage"
    if word_set & _EPOCH and not word_set - _EPOCH - _NUMBER - {"sleep"}:
        return "epoch"
    if (
        word_set & _EVENT
        and not word_set & _NUMBER
        and not word_set - _EVENT - _LABEL - RESPIRATORY - {"user", "defined"}
    ):
        return "event"
    if word_set & _LABEL and not word_set & _NUMBER:
        return "label"
    if not word_set - _NUMBER - _EVENT - _EPOCH - _STAGE:
        return "number"
    return "other"
