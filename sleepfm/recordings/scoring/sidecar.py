"""Meaning of codes in a column from a BIDS sidecar: ``Levels`` of the JSON beside an events file.

A sidecar may lie beside the file or further up, and holds for every file whose entities include its
own (https://bids-specification.readthedocs.io, the inheritance principle).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

_MAX_BYTES: Final = 1 << 20
_UP: Final = 4


def entities_of(name: str) -> tuple[dict[str, str], str]:
    """Split a BIDS name, ``sub-1_task-sleep_events.tsv``, into its entities and suffix.

    Parameters
    ----------
    name : str
        File name.

    Returns
    -------
    entities : dict of str to str
        Values by key.
    suffix : str
        Last part of the name, without the file's ending.
    """
    *parts, suffix = name.partition(".")[0].split("_")
    pairs = [p.partition("-") for p in parts]
    return {key: value for key, dash, value in pairs if dash}, suffix


def levels_beside(path: Path, column: str) -> dict[str, str] | None:
    """Find the names of the codes in a column, nearest sidecar first; None where none has them.

    Parameters
    ----------
    path : Path
        Events file.
    column : str
        Heading of the column.

    Returns
    -------
    dict of str to str, or None
        Name of each code.
    """
    own, suffix = entities_of(path.name)
    if suffix != "events":
        return None
    place = path.parent
    for _ in range(_UP):
        try:
            found = os.listdir(place)  # noqa: PTH208, names are all that is wanted
            names = [n for n in found if n.lower().endswith("events.json")]
        except OSError:
            return None
        fitting = []
        for name in names:
            entities, kind = entities_of(name)
            if kind == suffix and entities.items() <= own.items():
                fitting.append((-len(entities), name))
        for _, name in sorted(fitting):
            levels = _levels(place / name, column)
            if levels:
                return levels
        if place.parent == place or (place / "dataset_description.json").exists():
            return None
        place = place.parent
    return None


def _levels(path: Path, column: str) -> dict[str, str] | None:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        plain = json.loads(path.read_text(encoding="utf-8-sig"))
        levels = plain[column]["Levels"]
        return {str(code): _name(level) for code, level in levels.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _name(level: object) -> str:
    if isinstance(level, dict):
        return str(level.get("Description", ""))
    return str(level)
