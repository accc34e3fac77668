"""Names of columns in tables of the user: which are known, valid and not identifying."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from sleepfm.errors import SubjectsError
from sleepfm.recordings.identifying_names import identifying_column

Kind = Literal["text", "integer", "number", "boolean"]

KNOWN: Final[Mapping[str, Kind]] = {
    "recording_id": "text",
    "subject_id": "text",
    "site": "text",
    "nsrr_age": "number",
    "nsrr_age_gt89": "boolean",
    "nsrr_sex": "text",
    "nsrr_bmi": "number",
    "nsrr_ahi_hp3r_aasm15": "number",
}
"""Columns with a defined meaning; all others are stored unchanged."""

_PROBABLY: Final = {"age": "nsrr_age", "sex": "nsrr_sex", "gender": "nsrr_sex", "bmi": "nsrr_bmi"}
_NAME: Final = re.compile(r"[^\W_][\w .()/%+-]{0,62}")


def check_names(
    names: Sequence[str],
    source: str,
    reserved: Callable[[str], bool],
    *,
    allow_identifying: bool,
    notes: list[str],
) -> None:
    """Refuse column names that are reserved, duplicate, invalid or identifying.

    Parameters
    ----------
    names : sequence of str
        Headings of the table, in order.
    source : str
        Name of the table, for messages.
    reserved : callable
        Returns whether the store uses a name itself.
    allow_identifying : bool
        Whether to accept columns whose names look identifying.
    notes : list of str
        Notes for the user are appended here.

    Raises
    ------
    SubjectsError
        If there is such a name; the message says what to do about the first one.
    """
    seen: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise SubjectsError(
                f"{source}: column {number} has values but no name; name it or drop it"
            )
        if name not in KNOWN and not _NAME.fullmatch(name):
            raise SubjectsError(
                f"{source}: rename the column {name!r}; a name starts with a letter or digit and "
                "has at most 63 of them, spaces and .()/%+-"
            )
        if name.casefold() in seen:
            raise SubjectsError(
                f"{source}: rename the column {name}, which differs only in case from another "
                f"column ({seen[name.casefold()]})"
            )
        seen[name.casefold()] = name
        if name in KNOWN:
            continue
        if name.casefold() in KNOWN:
            raise SubjectsError(f"{source}: write {name.casefold()} for the column {name}")
        if reserved(name):
            raise SubjectsError(f"{source}: rename the column {name}: the store uses this name")
        content = identifying_column(name)
        if content and not allow_identifying:
            raise SubjectsError(
                f"{source}: the column {name} looks like {content}, which must not be stored; drop "
                "it, or accept it with --allow-identifying"
            )
        probable = _PROBABLY.get(name.casefold())
        if probable is not None and probable not in names:
            notes.append(
                f"{name} is kept as a column of its own; rename it to {probable} if that is what "
                f"it holds, which is what --label {probable.removeprefix('nsrr_')} reads"
            )
