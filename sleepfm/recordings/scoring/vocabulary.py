"""What was scored: sleep stages and events, and the words that real files use for them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

from sleepfm.errors import AnnotationError
from sleepfm.stages import STAGES as STAGES

"""AASM stages, ``UNS`` for unscored or movement, ``ART`` for artefact; always strings."""

EPOCH_S: Final = 30.0
"""Length of a scored epoch where a file does not say (AASM manual), in seconds."""


@dataclass(frozen=True)
class ScoredStage:
    """A stretch of one stage: onset and duration in seconds from the recording's start."""

    onset_s: float
    duration_s: float
    stage: str
    raw: str


@dataclass(frozen=True)
class Event:
    """A scored event, e.g. type ``"apnea"``, subtype ``"obstructive"``; times in seconds."""

    onset_s: float
    duration_s: float
    type: str
    subtype: str = ""


@dataclass(frozen=True)
class Scoring:
    """Stages and events of one recording, each sorted by onset."""

    stages: tuple[ScoredStage, ...] = ()
    events: tuple[Event, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.stages or self.events)


@dataclass(frozen=True)
class Annotation:
    """A text with a time, as a file has it; ``duration_s`` is None where it gives none."""

    onset_s: float
    duration_s: float | None
    text: str


@dataclass(frozen=True)
class Notes:
    """What a scoring file holds, with onsets counted from ``start_clock_s``, if it gives one.

    ``start_clock_s`` is a time of day in seconds after midnight; without it onsets count from the
    start of the signals.
    """

    annotations: tuple[Annotation, ...]
    start_clock_s: float | None = None


_Timed = TypeVar("_Timed", ScoredStage, Event)

Coding = Literal["yasa", "profusion", "rk", "ucddb"]
CODINGS: Final[dict[Coding, dict[str, str]]] = {
    "yasa": {"-2": "UNS", "-1": "ART", "0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "R"},
    "profusion": {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "5": "R", "6": "UNS",
                  "9": "UNS"},
    "rk": {"-1": "UNS", "0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "5": "R", "6": "UNS",
           "7": "UNS", "9": "UNS"},
    "ucddb": {"0": "W", "1": "R", "2": "N1", "3": "N2", "4": "N3", "5": "N3", "6": "ART",
              "7": "UNS", "8": "UNS"},
}  # fmt: skip
"""What integer hypnograms mean. REM is 4 in YASA, 5 in Profusion and R&K, 1 in ucddb."""


def stage_of_code(text: str, coding: Coding | None) -> str | None:
    """Stage that an integer code means in a coding; None if the text is no integer.

    Raises
    ------
    AnnotationError
        If it is an integer and the coding is unknown, or has no such code.
    """
    number = re.fullmatch(r"\s*([+-]?\d{1,4})(?:\.0*)?\s*", text)
    if not number:
        return None
    if coding is None:
        raise AnnotationError(
            "holds integer codes, which mean different stages in different codings; "
            f"name one of {', '.join(CODINGS)}"
        )
    code = str(int(number.group(1)))
    if code not in CODINGS[coding]:
        raise AnnotationError(f"holds the code {code}, which the coding {coding} does not have")
    return CODINGS[coding][code]


_LONGEST: Final = 80
_STAGE_WORDS: Final = {
    "W": "w wake awake wakefulness stagew stagewake wk stage0",
    "N1": "n1 stage1 stagen1 nrem1 s1 stages1",
    "N2": "n2 stage2 stagen2 nrem2 s2 stages2",
    "N3": "n3 stage3 stagen3 nrem3 s3 stages3 n4 stage4 stagen4 nrem4 s4 stages4 sws",
    "R": "r rem stager stagerem remsleep",
    "UNS": "uns unscored unknown notscored undefined u mt movement movementtime stagemt stagem "
    "stagemovement m stageunscored stageunknown stagenotscored stage9 stage6 nostage",
    "ART": "art artefact artifact stageartifact stageart",
}
_STAGE_OF: Final = {word: stage for stage, words in _STAGE_WORDS.items() for word in words.split()}
_SLEEP_STAGE: Final = re.compile(r"^sleep[\s_-]*stage[\s_:-]*(.*)$", re.IGNORECASE | re.DOTALL)
_STAGE_CODES: Final = {
    "0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "5": "R", "6": "UNS", "?": "UNS",
    "9": "UNS", "a": "ART",
}  # fmt: skip


@functools.lru_cache(maxsize=4096)
def stage_of(text: str) -> str | None:
    """AASM stage named by a label, None where the label names none.

    Rechtschaffen and Kales S3 and S4 are N3, movement time is ``UNS``. Knows EDF+ (``Sleep stage
    N2``), Sleep-EDF (``Sleep stage 4``, ``Movement time``), NSRR (``Stage 2 sleep|2``), Luna and
    bare names. A bare number names no stage: what it means depends on the coding.
    """
    text = text.partition("|")[0].strip()
    if len(text) > _LONGEST:
        return None
    match = _SLEEP_STAGE.match(text)
    if match:
        code = re.sub(r"[\s_-]", "", match.group(1).lower())
        return _STAGE_CODES.get(code) or _STAGE_OF.get(code)
    word = re.sub(r"[^a-z0-9]", "", text.lower())
    word = word.removesuffix("sleep") if word.startswith("stage") else word
    return _STAGE_OF.get(word)


_EVENT_RULES: Final = (
    (r"central.*(hypopno?ea)|(hypopno?ea).*central", "hypopnea", "central"),
    (r"obstructive.*hypopno?ea|hypopno?ea.*obstructive", "hypopnea", "obstructive"),
    (r"hypopno?ea|^hyp$", "hypopnea", ""),
    (r"obstructive.*apno?ea|apno?ea.*obstructive|^obstructive$|^osa$", "apnea", "obstructive"),
    (r"central.*apno?ea|apno?ea.*central|^csa$", "apnea", "central"),
    (r"mixed.*apno?ea|apno?ea.*mixed|^mixed$|^msa$", "apnea", "mixed"),
    (r"apno?ea", "apnea", ""),
    (r"desat", "desaturation", ""),
    (r"\brera\b|respiratory effort related", "rera", ""),
    (r"arousal", "arousal", ""),
    (r"limb|plm|leg ?movement", "limb_movement", ""),
)
_EVENT_PATTERNS: Final = tuple((re.compile(p), t, s) for p, t, s in _EVENT_RULES)
EVENT_TYPES: Final = ("apnea", "hypopnea", "desaturation", "rera", "arousal", "limb_movement")
"""Types of event that are kept; any other annotation is free text and is dropped."""


@functools.lru_cache(maxsize=4096)
def event_of(text: str) -> tuple[str, str] | None:
    """Type and subtype of the event that a label names, None where it names none.

    Knows NSRR's ``Obstructive apnea|Obstructive Apnea``, Profusion's, Luna's, CinC 2018's
    ``resp_obstructiveapnea`` and the usual spellings of EDF+ exports.
    """
    if len(text) > _LONGEST:
        return None
    words = re.sub(r"[\s_./()|-]+", " ", text.lower()).strip()
    for pattern, kind, subtype in _EVENT_PATTERNS:
        if pattern.search(words):
            return kind, subtype
    return None


def scoring_from_texts(
    annotations: Sequence[Annotation],
    warnings: list[str],
    coding: Coding | None = None,
    *,
    markers: bool = False,
) -> Scoring:
    """Stages and events among annotations; everything else is dropped and only counted.

    A stage without a duration lasts until the next one, the last for one epoch.

    Parameters
    ----------
    annotations : sequence of Annotation
        What the file holds.
    warnings : list of str
        Takes the count of what was dropped.
    coding : str, optional
        What integers mean; without it they are no stages.
    markers : bool
        Whether other marks stand among them, so that a lone letter without a duration is as likely
        one of those (an R peak, a mark W) as a stage.

    Raises
    ------
    AnnotationError
        If an integer is not in ``coding``.
    """
    stages: list[tuple[Annotation, str]] = []
    events: list[Event] = []
    dropped = 0
    for note in annotations:
        stage = stage_of(note.text)
        if stage is None and coding is not None:
            stage = stage_of_code(note.text, coding)
        if stage is not None and (note.duration_s or not markers or len(note.text) > 2):
            stages.append((note, stage))
            continue
        event = event_of(note.text)
        if event is not None and note.duration_s is not None:
            events.append(Event(note.onset_s, note.duration_s, *event))
        else:
            dropped += 1
    if dropped:
        warnings.append(f"{dropped} annotations name neither a stage nor an event with a duration")
    return Scoring(tuple(_lasting(stages)), tuple(sorted(events, key=lambda e: e.onset_s)))


def fit(scoring: Scoring, duration_s: float, warnings: list[str]) -> Scoring:
    """Keep what lies within the signals, from 0 to ``duration_s`` seconds; report the rest."""
    stages = [_within(s, duration_s) for s in scoring.stages]
    events = [_within(e, duration_s) for e in scoring.events]
    kept = Scoring(
        tuple(s for s in stages if s is not None), tuple(e for e in events if e is not None)
    )
    if not scoring.stages:
        return kept
    before = -min(s.onset_s for s in scoring.stages)
    end = max(s.onset_s + s.duration_s for s in scoring.stages)
    if before > 1:
        warnings.append(f"scoring starts {before:.0f} s before the signals; that part is left out")
    if end - duration_s >= EPOCH_S:
        warnings.append(
            f"scoring goes on for {end - duration_s:.0f} s after the signals; that part is left out"
        )
    if duration_s - end >= EPOCH_S:
        warnings.append(f"the last {duration_s - end:.0f} s of the signals are not scored")
    sleep = {s.stage for s in kept.stages} - {"W", "UNS", "ART"}
    asleep = sum(s.duration_s for s in kept.stages if s.stage in sleep)
    if len(sleep) == 1 and asleep >= 3600:
        warnings.append(f"only wake and {sleep.pop()} occur: this looks like sleep/wake scoring")
    return kept


def _within(item: _Timed, duration_s: float) -> _Timed | None:
    start = max(item.onset_s, 0.0)
    end = min(item.onset_s + item.duration_s, duration_s)
    if end <= start:
        return None
    if start == item.onset_s and end == item.onset_s + item.duration_s:
        return item
    return replace(item, onset_s=start, duration_s=end - start)


def _lasting(notes: Sequence[tuple[Annotation, str]]) -> Iterable[ScoredStage]:
    ordered = sorted(notes, key=lambda n: n[0].onset_s)
    for i, (note, stage) in enumerate(ordered):
        length = note.duration_s
        if not length:
            last = i + 1 == len(ordered)
            length = EPOCH_S if last else ordered[i + 1][0].onset_s - note.onset_s
        if length > 0:
            yield ScoredStage(note.onset_s, length, stage, _label(note.text))


def _label(text: str) -> str:
    """Drop what may stand behind a stage's name, save NSRR's code: ``Stage 2 sleep|2``."""
    name, _, code = text.partition("|")
    return text if code.isdecimal() and len(code) <= 2 else name
