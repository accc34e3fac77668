"""From channel names to slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tier = Literal["alias", "derive", "substitute"]


@dataclass(frozen=True)
class SlotMatch:
    """How one slot is filled: by which channel (or difference of two), and by which rule."""

    slot: str
    labels: tuple[str, ...]
    tier: Tier


@dataclass(frozen=True)
class ChannelMap:
    """Slots that a recording fills, by slot name, and the channel names that no slot took."""

    slots: dict[str, SlotMatch]
    unmatched: tuple[str, ...]
