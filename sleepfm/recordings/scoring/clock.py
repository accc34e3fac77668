"""Times of day, as seconds after midnight. A calendar date is never kept."""

from __future__ import annotations

import re
from typing import Final

DAY_S: Final = 86400.0
_CLOCK: Final = re.compile(
    r"(\d{1,2})[:.](\d{2})(?:[:.](\d{2})(?:[.,](\d{1,9}))?)?\s*([ap]m)?", re.IGNORECASE
)


def clock_seconds(text: str) -> float | None:
    """Seconds after midnight of ``HH:MM:SS`` (also with dots, fractions, am or pm), else None."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = (int(match.group(i) or 0) for i in (1, 2, 3))
    half = (match.group(5) or "").lower()
    if half:
        hours = hours % 12 + (12 if half == "pm" else 0)
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    fraction = float(f"0.{match.group(4)}") if match.group(4) else 0.0
    return hours * 3600.0 + minutes * 60 + seconds + fraction


def offset_seconds(clock_s: float, start_clock_s: float) -> float:
    """Seconds from a recording's start to a time of day, between 6 h before it and 18 h after."""
    return (clock_s - start_clock_s + 6 * 3600) % DAY_S - 6 * 3600
