"""Translation of conditions in plain English into SQL over the columns of a store, by rules.

No language model is involved: each phrase below gives one condition, and an unknown word is an
error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from sleepfm_index.errors import QueryError

NEAR_S: Final = 60
"""Maximum gap in seconds for ``after`` and ``before`` an event: between the end of the event and
the start of the clip, or between the end of the clip and the onset of the event."""

_STAGE: Final = {
    "n1": "N1", "n2": "N2", "n3": "N3", "deep sleep": "N3", "slow wave sleep": "N3",
    "slow-wave sleep": "N3", "rem sleep": "R", "rem": "R", "wakefulness": "W", "wake": "W",
    "awake": "W",
}  # fmt: skip
_STAGE_SETS: Final = {
    "light sleep": ("N1", "N2"),
    "nrem sleep": ("N1", "N2", "N3"),
    "nrem": ("N1", "N2", "N3"),
    "non-rem sleep": ("N1", "N2", "N3"),
    "non-rem": ("N1", "N2", "N3"),
    "asleep": ("N1", "N2", "N3", "R"),
    "sleep": ("N1", "N2", "N3", "R"),
}
_OF: Final = "type = 'apnea' AND subtype = '{}'"
_APNEAS: Final = ("obstructive", "central", "mixed", "unspecified")
_EVENTS: Final = {
    r"obstructive apno?eas?": (("apnea_obstructive_s",), _OF.format("obstructive")),
    r"central apno?eas?": (("apnea_central_s",), _OF.format("central")),
    r"mixed apno?eas?": (("apnea_mixed_s",), _OF.format("mixed")),
    r"apno?eas?": (tuple(f"apnea_{kind}_s" for kind in _APNEAS), "type = 'apnea'"),
    r"hypopno?eas?": (("hypopnea_s",), "type = 'hypopnea'"),
    r"respiratory events?": (
        (*(f"apnea_{kind}_s" for kind in _APNEAS), "hypopnea_s"),
        "type IN ('apnea', 'hypopnea')",
    ),
    r"desaturations?": (("desaturation_s",), "type = 'desaturation'"),
    r"(?:micro-?)?arousals?": (("arousal_s",), "type = 'arousal'"),
    r"reras?": (("rera_s",), "type = 'rera'"),
    r"(?:limb|leg) movements?": (("limb_movement_s",), "type = 'limb_movement'"),
}  # fmt: skip
Sources = tuple[tuple[str, str], ...]
_RATES: Final[dict[str, tuple[Sources, int, int]]] = {
    # Columns with the rate, as SQL for a rate per minute; limits of slow and fast (adults at rest).
    r"breathing|respiration": (
        (("respiratory_rate", "respiratory_rate"), ("breathing_rate", "breathing_rate"),
         ("breath_hz", "60 * breath_hz")), 12, 20,
    ),
    r"heart(?: ?beat| rate)?|pulse": (
        (("heart_rate", "heart_rate"), ("rr_mean_s", "60 / rr_mean_s")), 60, 100,
    ),
}  # fmt: skip
_NUMBERS: Final = {
    r"bmi": "nsrr_bmi",
    r"ahi": "nsrr_ahi_hp3r_aasm15",
    r"age|aged": "nsrr_age",
}
_ABOVE: Final = r"over|above|more than|greater than|at least|from|>=?"
_BELOW: Final = r"under|below|less than|at most|up to|<=?"
_OSA: Final = r"(?:osa|(?:obstructive )?sleep apno?ea)"
_PEOPLE: Final = {
    r"wom[ae]n|females?": "nsrr_sex = 'female'",
    r"m[ae]n|males?": "nsrr_sex = 'male'",
    r"children|child": "nsrr_age < 18",
    r"adults?": "nsrr_age >= 18",
    r"obese|obesity": "nsrr_bmi >= 30",
    rf"severe {_OSA}": "nsrr_ahi_hp3r_aasm15 >= 30",
    rf"moderate {_OSA}": "nsrr_ahi_hp3r_aasm15 >= 15 AND nsrr_ahi_hp3r_aasm15 < 30",
    rf"mild {_OSA}": "nsrr_ahi_hp3r_aasm15 >= 5 AND nsrr_ahi_hp3r_aasm15 < 15",
    rf"(?:no|without) {_OSA}": "nsrr_ahi_hp3r_aasm15 < 5",
    _OSA: "nsrr_ahi_hp3r_aasm15 >= 5",
}
_FILLER: Final = re.compile(
    r"(?:and|with|in|of|the|an?|clips?|epochs?|during|who|that|are|is|have|has|having|from|people|"
    r"patients?|subjects?|participants?|persons?|stage|where|all|on|by|their)\b"
)
_WORD: Final = re.compile(r"[^\s,;.]+")
_ARTICLE: Final = r"(?:an? |the |any )?"

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class Translation:
    """A condition in words, and in SQL.

    Parameters
    ----------
    sql : str
        Condition over the columns of ``clips``.
    phrases : tuple of (str, str)
        Each phrase with its SQL condition.
    """

    sql: str
    phrases: tuple[tuple[str, str], ...]


def translate(text: str, columns: Collection[str], clip_seconds: float = 30.0) -> Translation:
    """Translate words into a condition over the columns of ``clips``.

    Parameters
    ----------
    text : str
        Condition such as ``N3 with slow breathing after an apnea``.
    columns : collection of str
        Names of the columns of ``clips``.
    clip_seconds : float
        Length of a clip, in seconds.

    Returns
    -------
    Translation

    Raises
    ------
    QueryError
        If words are unknown or contradict each other, or the store lacks a column; the message
        names them.
    """
    rules = _rules(set(columns), clip_seconds)
    words = " ".join(text.split())
    remaining = words.lower()
    original = words if len(words) == len(remaining) else remaining
    phrases: list[tuple[str, str]] = []
    unknown: list[str] = []
    while remaining := remaining.lstrip(" ,;."):
        begin = len(original) - len(remaining)
        for pattern, sql in rules:
            if match := pattern.match(remaining):
                phrases.append((original[begin : begin + match.end()], sql(match)))
                break
        else:
            match = _FILLER.match(remaining)
            if match is None:
                match = _WORD.match(remaining)
                assert match is not None
                unknown.append(original[begin : begin + match.end()])
        remaining = remaining[match.end() :]
    if unknown:
        raise QueryError(
            f"no rule knows {', '.join(repr(word) for word in unknown)}; say it as SQL by --where, "
            "or in the words of docs/queries.md: stages, events, after and before an event, slow "
            "and fast breathing, sex, age, BMI, AHI, hours of the night"
        )
    if not phrases:
        raise QueryError(f"there is no condition in {text!r}")
    conditions = list(dict.fromkeys(sql for _, sql in phrases))
    for column in ("stage", "nsrr_sex"):
        twice = [words for words, sql in dict(phrases).items() if sql.split()[0] == column]
        if len({dict(phrases)[words] for words in twice}) > 1:
            raise QueryError(
                f"{' and '.join(map(repr, twice))} cannot both hold of a clip; join stages by "
                "'or', as in N2 or N3"
            )
    return Translation(" AND ".join(conditions), tuple(phrases))


def _rules(columns: set[str], clip_seconds: float) -> list[Rule]:
    """Patterns in order of precedence, each with the function that translates a match."""
    rules: list[Rule] = []

    def fixed(condition: str) -> Callable[[re.Match[str]], str]:
        return lambda _: _of_columns(condition, columns)

    def compared(column: str, sign: str) -> Callable[[re.Match[str]], str]:
        return lambda m: _of_columns(f"{column} {_sign(m[1], sign)} {m[2]}", columns)

    def overlapping(names: tuple[str, ...], sign: str) -> Callable[[re.Match[str]], str]:
        return lambda _: f"{_sum(names, columns)} {sign} 0"

    def rate(sources: Sources, slow: int, fast: int) -> Callable[[re.Match[str]], str]:
        return lambda m: _rate(m, sources, slow, fast, columns)

    def rule(pattern: str, sql: Callable[[re.Match[str]], str]) -> None:
        rules.append((re.compile(rf"(?:{pattern})(?![\w-])"), sql))

    for pattern, condition in _PEOPLE.items():
        rule(pattern, fixed(condition))
    for words, (names, event) in _EVENTS.items():
        rule(
            rf"(after|following|before|preceding) {_ARTICLE}(?:{words})",
            _next_to(event, clip_seconds),
        )
        rule(rf"(no|without) {_ARTICLE}(?:{words})", overlapping(names, "="))
        rule(words, overlapping(names, ">"))
    stage_name = "|".join(map(re.escape, [*_STAGE, *_STAGE_SETS]))
    rule(
        rf"(not (?:in )?)?(?:{stage_name})(?:(?:, | or | and |/|, or )(?:{stage_name}))*(?![\w-])",
        _stages,
    )
    for words, (sources, slow, fast) in _RATES.items():
        rule(
            rf"(slow|fast) (?:{words})",
            rate(sources, slow, fast),
        )
    for words, column in _NUMBERS.items():
        for signs, sign in ((_ABOVE, ">="), (_BELOW, "<")):
            rule(
                rf"(?:{words}) ({signs}) ?(\d+(?:\.\d+)?)",
                compared(column, sign),
            )
    for signs, sign in ((_ABOVE + "|older than", ">="), (_BELOW + "|younger than", "<")):
        rule(
            rf"({signs}) ?(?:the age of )?(\d+(?:\.\d+)?)(?: years?(?: old| of age)?)?",
            compared("nsrr_age", sign),
        )
    rule(r"first (\d+ )?hours?", lambda m: f"start_s < {3600 * int(m[1] or 1)}")
    return rules


def _of_columns(condition: str, columns: set[str]) -> str:
    name = condition.split()[0]
    if name not in columns:
        raise QueryError(
            f"this store has no column {name}, which these words need; `sleepfm-index annotate` "
            "adds columns"
        )
    return condition


def _sign(words: str, sign: str) -> str:
    if words in ("at most", "up to", "<="):
        return "<="
    if words in ("over", "above", "more than", "greater than", "older than", ">"):
        return ">"
    return sign


def _stages(match: re.Match[str]) -> str:
    negated = match[1] is not None
    stages: list[str] = []
    for part in re.split(r", or |, | or | and |/", match[0].removeprefix(match[1] or "")):
        stages += _STAGE_SETS.get(part) or (_STAGE[part],)
    names = list(dict.fromkeys(stages))
    if len(names) == 1:
        return f"stage {'<>' if negated else '='} '{names[0]}'"
    listed = ", ".join(f"'{name}'" for name in names)
    return f"stage {'NOT ' if negated else ''}IN ({listed})"


def _sum(names: tuple[str, ...], columns: set[str]) -> str:
    present = [name for name in names if name in columns]
    if not present:
        raise QueryError(f"this store has no column {names[0]}, which these words need")
    if len(present) == 1:
        return f"coalesce({present[0]}, 0)"
    return f"({' + '.join(f'coalesce({name}, 0)' for name in present)})"


def _next_to(event: str, clip_seconds: float) -> Callable[[re.Match[str]], str]:
    def sql(match: re.Match[str]) -> str:
        gap = (
            "clips.start_s - (e.onset_s + e.duration_s)"
            if match[1] in ("after", "following")
            else f"e.onset_s - (clips.start_s + {clip_seconds:g})"
        )
        named = event.replace("type", "e.type").replace("sube.type", "e.subtype")
        return (
            "EXISTS (SELECT 1 FROM events e WHERE e.recording_id = clips.recording_id "
            f"AND {named} AND {gap} BETWEEN 0 AND {NEAR_S})"
        )

    return sql


def _rate(
    match: re.Match[str],
    sources: Sources,
    slow: int,
    fast: int,
    columns: set[str],
) -> str:
    for column, rate in sources:
        if column in columns:
            return f"{rate} < {slow}" if match[1] == "slow" else f"{rate} > {fast}"
    names = ", ".join(column for column, _ in sources)
    raise QueryError(
        f"{match[0]!r} needs a column of it, and this store has none of {names}; `sleepfm-index "
        "annotate` adds one"
    )
