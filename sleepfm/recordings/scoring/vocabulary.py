"""Scoring in the terms of this project: stages, events and dropped annotations.

Whatever a scorer wrote ends in one of three places: stored as it was meant; stored as a kind of its
own, its words normalised; or counted by :data:`Reason`. Nothing is dropped without a count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from sleepfm.choices import Coding
from sleepfm.stages import STAGES as STAGES

EPOCH_S: Final = 30.0
"""Default length of a scored epoch (AASM manual), in seconds."""

Reason = Literal[
    "unknown word",
    "artifact",
    "no time",
    "no duration",
    "outside the signals",
    "overlapping",
    "unreadable",
]
"""Why an annotation is neither a stage nor an event.

``artifact``: it says that something is no event (``Apnea artifact``). ``no duration``: a remark
such as Movement, or a lone stage mark, without a length. ``overlapping``: another stage is scored
for the same time. ``unreadable``: damaged bytes or a number that is none.
"""
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


@dataclass(frozen=True)
class ScoredStage:
    """A stretch of one stage.

    Parameters
    ----------
    onset_s : float
        Start, in seconds from the recording's start.
    duration_s : float
        Length, in seconds.
    stage : str
        A stage of :data:`STAGES`.
    raw : str
        The label as written.
    """

    onset_s: float
    duration_s: float
    stage: str
    raw: str


@dataclass(frozen=True)
class Event:
    """A scored event.

    Parameters
    ----------
    onset_s : float
        Start, in seconds from the recording's start.
    duration_s : float
        Length, in seconds; 0 where the scorer gave none.
    type : str
        Kind of event, e.g. ``"apnea"``.
    subtype : str
        E.g. ``"obstructive"``; empty where the label names none.
    """

    onset_s: float
    duration_s: float
    type: str
    subtype: str = ""


@dataclass(frozen=True)
class Scoring:
    """Stages and events of one recording, each sorted by onset.

    Parameters
    ----------
    stages : tuple of ScoredStage
        Stretches that do not overlap.
    events : tuple of Event
        As scored.
    dropped : mapping of Reason to int
        Annotations that became neither, by reason.
    words : mapping of str to int
        The file's own words that name nothing known, with how often they occur. They are shown by a
        scan, on the user's machine, and never stored.
    """

    stages: tuple[ScoredStage, ...] = ()
    events: tuple[Event, ...] = ()
    dropped: Mapping[Reason, int] = field(default_factory=dict, compare=False)
    words: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def __bool__(self) -> bool:
        return bool(self.stages or self.events)


@dataclass(frozen=True)
class Annotation:
    """A text with a time, as a file has it.

    Parameters
    ----------
    onset_s : float
        Start, in seconds.
    duration_s : float or None
        Length, in seconds; None where the file gives none.
    text : str
        The text as written.
    role : {"", "stage", "event"}
        Kind of column that the text stands in; empty where anything may be written.
    """

    onset_s: float
    duration_s: float | None
    text: str
    role: Literal["", "stage", "event"] = ""


@dataclass(frozen=True)
class Notes:
    """Content of a scoring file, with onsets relative to its own start.

    Parameters
    ----------
    annotations : tuple of Annotation
        In any order.
    start_clock_s : float or None
        Time of day from which onsets count, in seconds after midnight; None where they count from
        the start of the signals.
    start_day : int or None
        Calendar day of that time (``date.toordinal``), where the file gives one; never stored.
    dropped : mapping of Reason to int
        What could not be made an annotation.
    warnings : tuple of str
        What is odd but readable, one sentence each, without words of the file.
    """

    annotations: tuple[Annotation, ...]
    start_clock_s: float | None = None
    start_day: int | None = None
    dropped: Mapping[Reason, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scored:
    """Properties of the scored signals and user options, for readers of scoring.

    Parameters
    ----------
    start_clock_s, start_day
        When the signals start: seconds after midnight, and the day (``date.toordinal``).
    duration_s : float or None
        Length of the signals, in seconds.
    coding : str, optional
        What integer stages mean: a name of :data:`~.stage_words.CODINGS`.
    epoch_s : float, optional
        Length of a row that does not say its own, in seconds.
    """

    start_clock_s: float | None = None
    start_day: int | None = None
    duration_s: float | None = None
    coding: Coding | None = None
    epoch_s: float | None = None


def counted(dropped: Mapping[Reason, int]) -> str:
    """Describe what was dropped, by reason: ``"2 unknown word, 1 overlapping"``; empty if nothing.

    Parameters
    ----------
    dropped : mapping of Reason to int
        Number of annotations, by reason.

    Returns
    -------
    str
    """
    ordered = Counter(dropped)
    return ", ".join(f"{ordered[r]} {r}" for r in REASONS if ordered[r])
