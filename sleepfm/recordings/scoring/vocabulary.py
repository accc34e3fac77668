"""Data types of scoring: stages, events, annotations and reasons for dropping them.

Every annotation is either stored as a stage or an event, or counted by :data:`Reason`; none is
dropped without a count.
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
"""Reasons why an annotation is neither a stage nor an event.

``artifact``: the label marks an artifact (``Apnea artifact``). ``no duration``: a remark such as
Movement, or an isolated stage mark, without a duration. ``overlapping``: another stage is scored
for the same time. ``unreadable``: damaged bytes or an invalid number.
"""
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


@dataclass(frozen=True)
class ScoredStage:
    """An interval of one stage.

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
        Length, in seconds; 0 if the scorer gave none.
    type : str
        Type of event, e.g. ``"apnea"``.
    subtype : str
        Subtype, e.g. ``"obstructive"``; empty if the label names none.
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
        Intervals of one stage, without overlap.
    events : tuple of Event
        Scored events; they may overlap.
    dropped : mapping of Reason to int
        Number of annotations that are neither stage nor event, by reason.
    words : mapping of str to int
        Unrecognised labels of the file and their counts. A scan shows them on the user's machine;
        they are never stored.
    """

    stages: tuple[ScoredStage, ...] = ()
    events: tuple[Event, ...] = ()
    dropped: Mapping[Reason, int] = field(default_factory=dict, compare=False)
    words: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def __bool__(self) -> bool:
        return bool(self.stages or self.events)


@dataclass(frozen=True)
class Annotation:
    """A text with a time, as in the file.

    Parameters
    ----------
    onset_s : float
        Start, in seconds.
    duration_s : float or None
        Length, in seconds; None if the file gives none.
    text : str
        The text as written.
    role : {"", "stage", "event", "remark"}
        Type of the column that contains the text; empty if the column may contain any text.
        A remark is neither a stage nor an event.
    """

    onset_s: float
    duration_s: float | None
    text: str
    role: Literal["", "stage", "event", "remark"] = ""


@dataclass(frozen=True)
class Notes:
    """Content of a scoring file, with onsets relative to its own start.

    Parameters
    ----------
    annotations : tuple of Annotation
        Annotations, in any order.
    start_clock_s : float or None
        Time of day from which onsets count, in seconds after midnight; None where they count from
        the start of the signals.
    start_day : int or None
        Calendar day of that time (``date.toordinal``), where the file gives one; never stored.
    dropped : mapping of Reason to int
        Number of entries that could not be converted to annotations, by reason.
    warnings : tuple of str
        Warnings for the user, one sentence each, without text of the file.
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
    start_clock_s : float or None
        Time of day at which the signals start, in seconds after midnight.
    start_day : int or None
        Calendar day on which the signals start (``date.toordinal``).
    duration_s : float or None
        Duration of the signals, in seconds.
    coding : str, optional
        Coding of integer stages: a key of :data:`~.stage_words.CODINGS`.
    epoch_s : float, optional
        Epoch length of files that do not state one, in seconds.
    """

    start_clock_s: float | None = None
    start_day: int | None = None
    duration_s: float | None = None
    coding: Coding | None = None
    epoch_s: float | None = None


def describe_dropped(dropped: Mapping[Reason, int]) -> str:
    """Describe dropped annotations by reason: ``"2 unknown word, 1 overlapping"``.

    Parameters
    ----------
    dropped : mapping of Reason to int
        Number of annotations, by reason.

    Returns
    -------
    str
        Empty if nothing was dropped.
    """
    ordered = Counter(dropped)
    return ", ".join(f"{ordered[r]} {r}" for r in REASONS if ordered[r])
