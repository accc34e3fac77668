"""Scoring in XML: the NSRR's form and Compumedics Profusion's own.

Parsed by defusedxml: entity expansion and external entities are refused. The NSRR form lists stages
and events alike as ``ScoredEvent`` with ``EventConcept``; Profusion lists events with ``Name`` and
stages as one number per epoch (https://github.com/nsrr/edf-editor-translator/wiki).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import clock_seconds
from sleepfm.recordings.scoring.vocabulary import CODINGS, EPOCH_S, Annotation, Notes

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_BYTES: Final = 64 * 2**20
_WORDS: Final = {"W": "Wake", "R": "REM", "UNS": "Unscored"}


def read_xml(path: Path) -> Notes:
    """Read an NSRR or Profusion file.

    Raises
    ------
    AnnotationError
        If the file is no XML, is hostile, is larger than ``MAX_BYTES``, or holds no scoring.
    """
    from xml.etree.ElementTree import ParseError

    import defusedxml.ElementTree
    from defusedxml.common import DefusedXmlException

    if path.stat().st_size > MAX_BYTES:
        raise AnnotationError(f"is larger than {MAX_BYTES // 2**20} MiB")
    try:
        root = defusedxml.ElementTree.parse(path, forbid_dtd=True).getroot()
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise AnnotationError("is not well-formed XML that is safe to read") from error
    scored = root.findall(".//ScoredEvent")
    stages = root.findall(".//SleepStages/SleepStage")
    if not scored and not stages:
        raise AnnotationError("holds neither NSRR nor Profusion scoring")
    notes = [note for event in scored if (note := _event(event)) is not None]
    notes += _stages(stages, _float(root.findtext(".//EpochLength")) or EPOCH_S)
    return Notes(tuple(notes), _start_clock(scored))


def _event(event: Element) -> Annotation | None:
    found = {child.tag: child.text or "" for child in event}
    text = (found.get("EventConcept") or found.get("Name") or "").strip()
    onset = _float(found.get("Start"))
    if onset is None or not text or text.startswith("Recording Start"):
        return None
    return Annotation(onset, _float(found.get("Duration")), text)


def _stages(stages: list[Element], epoch_s: float) -> list[Annotation]:
    notes = []
    for i, element in enumerate(stages):
        code = (element.text or "").strip()
        if code not in CODINGS["profusion"]:
            raise AnnotationError("holds a sleep stage that Profusion does not know")
        # spelled out, so that the raw label says what the number meant
        stage = CODINGS["profusion"][code]
        word = _WORDS.get(stage, f"Stage {code}")
        notes.append(Annotation(i * epoch_s, epoch_s, f"{word}|{code}"))
    return notes


def _start_clock(scored: list[Element]) -> float | None:
    for event in scored:
        if (event.findtext("EventConcept") or "").startswith("Recording Start"):
            return clock_seconds((event.findtext("ClockTime") or "").split(" ")[-1])
    return None


def _float(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
