"""Codes of a column from a BIDS sidecar: ``Levels`` in the JSON file of an events file.

A sidecar is in the same folder or in one above, and applies to every file whose entities include
those of the sidecar (https://bids-specification.readthedocs.io, the inheritance principle).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

_MAX_BYTES: Final = 1 << 20
_MAX_PARENTS: Final = 4


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
        Last part of the name, without the extension.
    """
    *parts, suffix = name.partition(".")[0].split("_")
    pairs = [p.partition("-") for p in parts]
    return {key: value for key, dash, value in pairs if dash}, suffix


def sidecar_levels(path: Path, column: str) -> dict[str, str] | None:
    """Find the names of the codes in a column, in the nearest sidecar that has them.

    Parameters
    ----------
    path : Path
        Events file.
    column : str
        Heading of the column.

    Returns
    -------
    dict of str to str, or None
        Name of each code; None if no sidecar has them.
    """
    file_entities, suffix = entities_of(path.name)
    if suffix != "events":
        return None
    folder = path.parent
    for _ in range(_MAX_PARENTS):
        try:
            entries = os.listdir(folder)  # noqa: PTH208, only names are needed
            names = [n for n in entries if n.lower().endswith("events.json")]
        except OSError:
            return None
        applicable = []
        for name in names:
            entities, sidecar_suffix = entities_of(name)
            if sidecar_suffix == suffix and entities.items() <= file_entities.items():
                applicable.append((-len(entities), name))
        for _, name in sorted(applicable):
            levels = _levels(folder / name, column)
            if levels:
                return levels
        if folder.parent == folder or (folder / "dataset_description.json").exists():
            return None
        folder = folder.parent
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
