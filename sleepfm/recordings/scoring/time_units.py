"""Whether times without a word about their unit can be seconds, and what is refused if not.

A table of milliseconds, minutes, samples or days reads as one of seconds, with every stage at a
wrong time. Epochs and breathing events have lengths that give such a unit away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.event_words import event_of
from sleepfm.recordings.scoring.stage_words import stage_of
from sleepfm.recordings.scoring.vocabulary import Annotation

_SHORTEST_EPOCH_S: Final = 0.95
_LONGEST_EPOCH_S: Final = 900.0
"""The shortest of a night's stages is never longer."""
_SHORTEST_EVENT_S: Final = 2.0
_LONGEST_EVENT_S: Final = 300.0
_FARTHEST_S: Final = 10 * 86400.0
_FEWEST_STAGES: Final = 5
_FEWEST_EVENTS: Final = 3
_BREATHING: Final = ("apnea", "hypopnea")


def refuse_other_units(
    notes: Sequence[Annotation], column: str, *, unit_said: bool = False
) -> None:
    """Refuse annotations whose times cannot be seconds from the start of the signals.

    Parameters
    ----------
    notes : sequence of Annotation
        What a table holds, its times taken as seconds.
    column : str
        Heading of the column of onsets, for the message.
    unit_said : bool
        Whether the heading states a unit, so that steps are what they are.

    Raises
    ------
    AnnotationError
        If stages follow each other, or apneas last, as no seconds do, or times lie days away.
    """
    name = "has times" if not column else f"has times in '{column}'"
    advice = "say their unit in the heading, e.g. 'onset (ms)', or give seconds"
    farthest = max((abs(n.onset_s) for n in notes), default=0.0)
    if farthest > _FARTHEST_S:
        raise AnnotationError(
            f"{name} that count from another moment than the start of the signals; give seconds "
            "from there, or dates with times of day"
        )
    if unit_said:
        return
    staged = {n.onset_s for n in notes if n.role == "stage" or stage_of(n.text) is not None}
    steps = np.diff(sorted(staged))
    if len(staged) >= _FEWEST_STAGES:
        usual = float(np.median(steps))
        if usual < _SHORTEST_EPOCH_S:
            raise AnnotationError(f"{name} of which stages lie {usual:g} apart; {advice}")
        if steps.min() > _LONGEST_EPOCH_S:
            raise AnnotationError(
                f"{name} of which stages lie at least {steps.min():g} apart; {advice}"
            )
    lengths = [
        n.duration_s
        for n in notes
        if n.duration_s and n.role != "stage" and (event_of(n.text) or ("",))[0] in _BREATHING
    ]
    if len(lengths) >= _FEWEST_EVENTS:
        usual = float(np.median(lengths))
        if not _SHORTEST_EVENT_S <= usual <= _LONGEST_EVENT_S:
            raise AnnotationError(
                f"has apneas and hypopneas that last {usual:g} by its numbers, which are no "
                f"seconds; {advice}"
            )
