"""Check that times without a stated unit are plausible as seconds.

If milliseconds, minutes, samples or days were read as seconds, every stage would be at a wrong
time. The lengths of epochs and breathing events reveal such units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.event_words import event_of
from sleepfm.recordings.scoring.stage_words import stage_of
from sleepfm.recordings.scoring.vocabulary import Annotation

_MIN_EPOCH_S: Final = 0.95
_MAX_EPOCH_S: Final = 900.0
"""Maximum for the shortest step between stages of a night, in seconds."""
_MIN_EVENT_S: Final = 2.0
_MAX_EVENT_S: Final = 300.0
_MAX_DISTANCE_S: Final = 10 * 86400.0
_MIN_STAGES: Final = 5
_MIN_EVENTS: Final = 3
_BREATHING: Final = ("apnea", "hypopnea")


def refuse_other_units(
    notes: Sequence[Annotation], column: str, *, unit_given: bool = False
) -> None:
    """Refuse annotations whose times cannot be seconds from the start of the signals.

    Parameters
    ----------
    notes : sequence of Annotation
        Annotations of a table, with times taken as seconds.
    column : str
        Heading of the column of onsets, for the error message; empty without a heading.
    unit_given : bool
        Whether the heading states a unit; steps and durations are then not checked.

    Raises
    ------
    AnnotationError
        If steps between stages or durations of apneas are implausible as seconds, or times are
        more than 10 days from the start.
    """
    name = "has times" if not column else f"has times in '{column}'"
    advice = "say their unit in the heading, e.g. 'onset (ms)', or give seconds"
    farthest = max((abs(n.onset_s) for n in notes), default=0.0)
    if farthest > _MAX_DISTANCE_S:
        raise AnnotationError(
            f"{name} that count from another moment than the start of the signals; give seconds "
            "from there, or dates with times of day"
        )
    if unit_given:
        return
    stage_onsets = {n.onset_s for n in notes if n.role == "stage" or stage_of(n.text) is not None}
    steps = np.diff(sorted(stage_onsets))
    if len(stage_onsets) >= _MIN_STAGES:
        median = float(np.median(steps))
        if median < _MIN_EPOCH_S:
            raise AnnotationError(f"{name} of which stages lie {median:g} apart; {advice}")
        if steps.min() > _MAX_EPOCH_S:
            raise AnnotationError(
                f"{name} of which stages lie at least {steps.min():g} apart; {advice}"
            )
    lengths = [
        n.duration_s
        for n in notes
        if n.duration_s and n.role != "stage" and (event_of(n.text) or ("",))[0] in _BREATHING
    ]
    if len(lengths) >= _MIN_EVENTS:
        median = float(np.median(lengths))
        if not _MIN_EVENT_S <= median <= _MAX_EVENT_S:
            raise AnnotationError(
                f"has apneas and hypopneas that last {median:g} by its numbers, which are no "
                f"seconds; {advice}"
            )
