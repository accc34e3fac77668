"""What was scored: sleep stages and events, from whatever file they come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STAGES: Final = ("W", "N1", "N2", "N3", "R", "UNS", "ART")
"""AASM stages, ``UNS`` for unscored or movement, ``ART`` for artefact; always strings."""


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
