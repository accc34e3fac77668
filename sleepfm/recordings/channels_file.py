"""Channels files: which channel of a recording fills a slot, written by the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sleepfm.errors import ChannelError


def read_overrides(path: Path, slots: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read a channels file (YAML): for each slot one label, two to subtract, or none.

    Parameters
    ----------
    path : Path
        The channels file.
    slots : sequence of str
        Names of all slots.

    Raises
    ------
    ChannelError
        If the file cannot be read, or names an unknown slot.
    """
    import yaml

    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ChannelError(f"the channels file {path.name} cannot be read as YAML") from error
    if not isinstance(plain, dict):
        raise ChannelError(f"the channels file {path.name} must hold lines like 'ECG: my label'")
    chosen: dict[str, tuple[str, ...]] = {}
    for slot, value in plain.items():
        if slot not in slots:
            raise ChannelError(
                f"the channels file {path.name} names a slot '{slot}'; slots are {', '.join(slots)}"
            )
        labels = [] if value is None else value if isinstance(value, list) else [value]
        if len(labels) > 2 or not all(isinstance(x, str | int) for x in labels):
            raise ChannelError(
                f"the channels file {path.name} must give {slot} one label, or two to subtract"
            )
        chosen[slot] = tuple(map(str, labels))
    return chosen
