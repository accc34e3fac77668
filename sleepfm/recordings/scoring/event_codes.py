"""Two-letter codes of respiratory events: OA, CA, MA (apneas) and OH, CH, MH (hypopneas).

They are the abbreviations of CAISR, OSCAR and laboratory exports. Two letters alone may mean
something else (CA a cortical arousal, MA a micro-arousal), so a code is read only where its column
or label says that it is respiratory, or where the file shows it: nearly all of its marks last as
long as an apnea (AASM manual: 10 s or more in adults), and for MA, another apnea is scored under
its own name or code.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Final

from sleepfm.recordings.scoring.event_words import CODES, event_of
from sleepfm.recordings.scoring.stage_words import name_of, plain
from sleepfm.recordings.scoring.vocabulary import Annotation

_SHORTEST_S: Final = 9.5
"""Shortest apnea, in seconds: 10 s, rounded by half a second."""
_LONGEST_S: Final = 300.0
_USUAL: Final = 0.9
"""Share of the marks of a code that must be as long as an apnea."""
_NEEDS_COMPANY: Final = frozenset(("ma", "ua", "mh", "ch", "oh", "h"))
_CONSEQUENCE: Final = re.compile(
    r"\s(?:with|w|mit|avec|con|com|and|und|et)\s.*|\s(?:arousal|aro|desat)\w*$"
)


@functools.lru_cache(maxsize=4096)
def code_of(text: str) -> str | None:
    """Return the code that a label consists of: ``OA``, ``O.A.``, ``CA with arousal``.

    Parameters
    ----------
    text : str
        Label as written.

    Returns
    -------
    str or None
        A key of :data:`~.event_words.CODES`; None if the label is something else.
    """
    words = " ".join(re.sub(r"[^a-z0-9]+", " ", plain(name_of(text))).split())
    head = _CONSEQUENCE.sub("", words)
    spaced = re.fullmatch(r"([ocmu]) ([ah])", head)
    code = "".join(spaced.groups()) if spaced else head
    return code if code in CODES else None


def codes_in(annotations: Sequence[Annotation]) -> dict[str, tuple[str, str]]:
    """Decide which codes of a file are respiratory events.

    Parameters
    ----------
    annotations : sequence of Annotation
        All annotations of the file.

    Returns
    -------
    dict of str to (str, str)
        Type and subtype by label, for the labels that are respiratory events.
    """
    lengths: dict[str, list[float | None]] = {}
    labels: dict[str, set[str]] = {}
    for note in annotations:
        code = code_of(note.text) if note.role in ("", "event") else None
        if code is not None:
            lengths.setdefault(code, []).append(note.duration_s)
            labels.setdefault(code, set()).add(note.text)
    if not lengths:
        return {}
    spelled_out = {
        event_of(n.text) for n in annotations if n.role in ("", "event") and code_of(n.text) is None
    } - {None}
    apneas = any(event is not None and event[0] == "apnea" for event in spelled_out)
    read: dict[str, tuple[str, str]] = {}
    for code, durations in lengths.items():
        known = [d for d in durations if d]
        company = apneas or bool(lengths.keys() & {"oa", "ca"} - {code})
        if code in _NEEDS_COMPANY and (not company or CODES[code] in spelled_out):
            continue
        if len(known) < _USUAL * len(durations):
            accepted = code in ("oa", "ca") and company and not known
        else:
            usual = sum(_SHORTEST_S <= d <= _LONGEST_S for d in known)
            accepted = usual >= _USUAL * len(known)
        if accepted:
            read |= dict.fromkeys(labels[code], CODES[code])
    return read
