"""What ``sleepfm-index query`` is given as lists: clip ids, and files of ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer


def ids_of(option: str, values: list[str] | None) -> list[int] | None:
    """Parse clip ids, from ``17,18`` or a repeated option, without duplicates."""
    if not values:
        return None
    parts = [part.strip() for text in values for part in str(text).split(",") if part.strip()]
    if not parts or not all(part.lstrip("-").isdigit() for part in parts):
        raise typer.BadParameter(f"{option} takes clip ids, such as 17 or 17,18,240")
    return list(dict.fromkeys(int(part) for part in parts))


def ids_or_condition(text: str | None) -> list[int] | str | None:
    """Return clip ids if the text has only digits, otherwise the text, an SQL condition."""
    if text is None or not set(text) <= set("0123456789, "):
        return text
    return ids_of("--unlike", [text])


def lists_of(among: Path | None, exclude_subjects: Path | None) -> dict[str, Any]:
    """Read the files of ``--among`` and ``--exclude-subjects``, as options of a query."""
    if among is None and exclude_subjects is None:
        return {}
    from sleepfm_index.query.lists import read_clip_ids, read_subjects

    lists: dict[str, Any] = {}
    if among is not None:
        lists["allowed"] = read_clip_ids(among)
    if exclude_subjects is not None:
        lists["exclude_subjects"] = read_subjects(exclude_subjects)
    return lists


def names_of(text: str | None) -> list[str]:
    """Parse names of columns from ``rr_mean_s,nsrr_age``, without duplicates."""
    return list(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))
