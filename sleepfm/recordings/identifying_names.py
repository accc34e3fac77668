"""Detection of names, dates and hospital numbers in names of files and columns."""

from __future__ import annotations

import re
from typing import Final

_DATE: Final = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])([-_.]?)(?:0[1-9]|1[0-2])\2(?:19|20)\d\d"
    r"|(?:0?[1-9]|[12]\d|3[01])\.(?:0?[1-9]|1[0-2])\.\d\d)(?!\d)"
)
_NUMBER: Final = re.compile(r"^\d{7,}$|\b(?:mrn|pid|pat|patient|case)[-_ ]?\d{4,}", re.IGNORECASE)
_NAME_PART: Final = r"[A-ZÀ-ÖØ-Þ][a-zß-öø-ÿ]{2,}"
_NAME: Final = re.compile(rf"(?<![^\W\d_])({_NAME_PART})[ _,.-]+({_NAME_PART})(?![^\W\d_])")
_ORDINARY: Final = frozenset((
    "sleep", "night", "study", "visit", "baseline", "raw", "psg", "hypnogram", "record",
    "recording", "subject", "patient", "control", "demo", "test", "data", "file", "clinic", "lab",
    "eeg", "edf", "day", "week", "follow", "first", "second", "nap", "scored", "final",
))  # fmt: skip


def identifying_stem(stem: str) -> str | None:
    """Return the kind of identifying content that a file stem resembles.

    Parameters
    ----------
    stem : str
        File name without its extension.

    Returns
    -------
    str or None
        ``"a date"``, ``"a hospital number"`` or ``"a person's name"``; None if no pattern matches,
        which does not prove that the name is not identifying.
    """
    if _DATE.search(stem):
        return "a date"
    if _NUMBER.search(stem):
        return "a hospital number"
    for first, second in _NAME.findall(stem):
        if first.lower() not in _ORDINARY and second.lower() not in _ORDINARY:
            return "a person's name"
    return None


_SENSOR_WORD: Final = re.compile(
    r"(?:[A-Z]{1,4}|[A-Za-z]{1,3}(?=\d))\d{0,2}|(?i:abd|accel|activ|airflow|ampl|art[ei]|audio|axis"
    r"|batt|beat|belt|body|breath|button|cannula|capn|central|chan|chest|chin|cpap|deriv|device|elev"
    r"|effort|electr|etco|event|eye|eeg|ecg|ekg|emg|eog|finger|flow|front|gain|gravity|head|heart"
    r"|horiz|imp|inst|left|leak|leg|level|light|limb|lower|lumin|manom|mark|mask|mean|micr|mouth|nas"
    r"|neck|noise|occip|oral|oxi|oxy|pariet|phase|plet|posit|pressure|pulse|quality|rate|ratio|raw"
    r"|ref|resp|rib|right|room|saturation|sensor|signal|snor|sound|spare|stat|sum|sync|temp|therm"
    r"|thor|tibia|tidal|time|trans|trigger|upper|unit|vent|vert|vibr|video|vol)\w*"
)


def without_identity(label: str) -> str:
    """Return a channel label for a store: words that may tell who slept become ``...``.

    Parameters
    ----------
    label : str
        Label of a channel, as the file has it.

    Returns
    -------
    str
        The label itself if it looks like no date, number or name: a guess, as in
        :func:`identifying_stem`.
    """
    if identifying_stem(label) is None and identifying_value(label) is None:
        return label
    return re.sub(r"\w+", lambda m: m[0] if _SENSOR_WORD.fullmatch(m[0]) else "...", label)


_COLUMNS: Final = {
    "a date": r"(visit|exam|psg|study|scan|recording|record|start|end|sleep)?_?(date|datum|day_of)"
    r"|timestamp|recorded_(on|at)|datetime",
    "a date of birth": r"dob|yob|birth_?(date|day|year)s?|(date|day|year)_of_birth|born|geb(urts)?"
    r"_?(datum|jahr|tag)|(date_de_)?naissance|fecha_de_nacimiento",
    "a person's name": r"(sur|last|first|middle|fore|given|family|full|maiden|patient|subject"
    r"|person|participant|user|physician|doctor|scorer|technician|tech|own)?_?names?|initials|vorname"
    r"|nachname|familienname|nom|prenom|nombre|apellidos?|scorer|technician|physician|doctor",
    "an address": r"(home_?|street_?|mail_?|e_?mail_?|postal_?|ip_?)?address|street|zip_?(code)?"
    r"|post_?code|postal_?code|plz|city|town|county|(tele)?phone(_?(no|nr|number))?|tel|mobile|fax"
    r"|e_?mail|latitude|longitude|gps",
    "a record number": r"mrn|ssn|nhs|nhs_?(no|number)|cpr|personnummer|bsn|(medical|hospital|health"
    r"|patient|clinic|chart|case|insurance|passport|social_security|accession|account)"
    r"_?(record)?_?(id|no|nr|num|number)|passport|pid|pat_?id|license",
    "the name of a file": r"path|file_?(name|path)?|folder|directory|edf_?(file|path)|url|uri",
}
_EMAIL: Final = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_CALENDAR: Final = re.compile(
    r"(?<!\d)(?:(?:18|19|20)\d\d([-/.])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])"
    r"|(?:0?[1-9]|[12]\d|3[01])([-/.])(?:0?[1-9]|[12]\d|3[01])\2(?:(?:18|19|20)\d\d|\d\d))(?!\d)"
)


def identifying_column(name: str) -> str | None:
    """Return the kind of identifying content that a column name suggests.

    Parameters
    ----------
    name : str
        Heading of the column.

    Returns
    -------
    str or None
        For example ``"a date"``; None if no pattern matches.
    """
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    plain = re.sub(r"[^a-z0-9]+", "_", split.casefold()).strip("_")
    for kind_of_content, pattern in _COLUMNS.items():
        if re.fullmatch(rf"(?:(?:nsrr|pat|pt|sub|subj|participant)_)?(?:{pattern})", plain):
            return kind_of_content
    return None


def identifying_value(text: str) -> str | None:
    """Return the kind of identifying content that a cell resembles.

    Parameters
    ----------
    text : str
        Content of the cell.

    Returns
    -------
    str or None
        ``"an e-mail address"`` or ``"a date"``; None if no pattern matches.
    """
    if _EMAIL.search(text):
        return "an e-mail address"
    if _CALENDAR.search(text):
        return "a date"
    return None
