"""A short description of a clip: time, stage, and events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sleepfm.labels import EVENT_COLUMNS


def clip_facts(row: Mapping[str, Any]) -> str:
    """Describe a clip: ``22:31:02, N2, hypopnea 12 s``.

    Parameters
    ----------
    row : mapping of str to object
        A row of ``clips``.

    Returns
    -------
    str
    """
    events = clip_events(row)
    parts = [_time(row.get("clock"), row["start_s"]), row["stage"], *([events] if events else [])]
    return ", ".join(parts)


def clip_events(row: Mapping[str, Any]) -> str:
    """Describe the scored events that overlap a clip: ``hypopnea 12 s, arousal 4 s``.

    Parameters
    ----------
    row : mapping of str to object
        A row of ``clips``.

    Returns
    -------
    str
        Description; empty if there are no events.
    """
    events = []
    for column, (event_type, subtype) in EVENT_COLUMNS.items():
        seconds = row.get(column) or 0.0
        if seconds > 0:
            name = f"{subtype} {event_type}" if subtype else event_type
            events.append(f"{name.replace('_', ' ')} {max(1, round(seconds))} s")
    return ", ".join(events)


def _time(clock: float | None, start_s: float) -> str:
    seconds = round(start_s if clock is None else clock % 86400)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"+{text}" if clock is None else text
