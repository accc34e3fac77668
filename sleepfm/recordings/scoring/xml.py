"""Scoring in XML: NSRR, Compumedics Profusion, and Philips ``.rml``.

defusedxml refuses entity expansion and external entities. The NSRR format lists both stages and
events as ``ScoredEvent`` with ``EventConcept``; Profusion lists events with ``Name`` and
stages as one number per epoch (https://github.com/nsrr/edf-editor-translator/wiki). Philips
Sleepware lists changes of stage and events with ``Family`` and ``Type`` (PatientStudy.xsd).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import moment_of
from sleepfm.recordings.scoring.epochs import epoch_length
from sleepfm.recordings.scoring.stage_words import CODINGS, stage_in_column
from sleepfm.recordings.scoring.text_file import MAX_BYTES
from sleepfm.recordings.scoring.vocabulary import EPOCH_S, Annotation, Notes, Reason, Scored

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_ASCII_LIKE: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml(?![^>]*encoding)[^>]*\?>|<\?xml[^>]*encoding\s*=\s*[\"']"
    rb"(?:utf-8|us-ascii|iso-8859-1|windows-1252)[\"'][^>]*\?>|<(?!\?))",
    re.IGNORECASE,
)
_WORDS: Final = {"W": "Wake", "R": "REM", "UNS": "Unscored"}


class NsrrOrProfusion:
    """XML of the National Sleep Research Resource, or of Compumedics Profusion."""

    endings: tuple[str, ...] = (".xml",)

    def sniff(self, head: bytes) -> bool:
        """Accept every file with this extension.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        return True

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read a file; see :class:`~.reader.ScoringReader`.

        Parameters
        ----------
        path : Path
            Scoring file.
        scored : Scored
            The signals that it scores.

        Returns
        -------
        notes : Notes
            Annotations as written, and what was dropped.
        """
        root = _root(path)
        events = list(root.iter("ScoredEvent"))
        stages = root.findall(".//SleepStages/SleepStage")
        if not events and not stages:
            raise AnnotationError("holds neither NSRR nor Profusion scoring")
        dropped: Counter[Reason] = Counter()
        notes = []
        start: Element | None = None
        for event in events:
            fields = {child.tag: child.text for child in event}
            text = (fields.get("EventConcept") or fields.get("Name") or "").strip()
            if text.startswith("Recording Start"):
                start = event if start is None else start
            elif text:
                onset = _float(fields.get("Start"))
                if onset is None:
                    dropped["no time"] += 1
                else:
                    is_stage = (fields.get("EventType") or "").startswith("Stages")
                    role: Literal["", "stage"] = "stage" if is_stage else ""
                    length = _float(fields.get("Duration"))
                    notes.append(Annotation(onset, length, text, role))
        stated = _float(root.findtext(".//EpochLength")) or 0.0
        epoch_s = stated if stated > 0 else epoch_length(len(stages), scored, EPOCH_S)
        notes += _profusion_stages(stages, epoch_s)
        clock, day = (None, None) if start is None else _start(start)
        return Notes(tuple(notes), clock, day, dropped)


class PhilipsRml:
    """Philips Sleepware G3 and Respironics Alice."""

    endings: tuple[str, ...] = (".rml",)

    def sniff(self, head: bytes) -> bool:
        """Accept every file with this extension.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        return True

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read a file; see :class:`~.reader.ScoringReader`.

        Parameters
        ----------
        path : Path
            Scoring file.
        scored : Scored
            The signals that it scores.

        Returns
        -------
        notes : Notes
            Annotations as written, and what was dropped.
        """
        root = _root(path)
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        staging = root.find(".//UserStaging//NeuroAdultAASMStaging")
        if staging is None:
            staging = next(
                (s for s in root.iter() if s.tag.startswith("Neuro") and s.tag.endswith("Staging")),
                None,
            )
        stages = [] if staging is None else staging.findall("Stage")
        events = root.findall(".//ScoringData//Event")
        if not stages and not events:
            raise AnnotationError("holds no scoring of Philips Sleepware")
        dropped: Counter[Reason] = Counter()
        changes = sorted(
            (start, stage.get("Type") or "")
            for stage in stages
            if (start := _float(stage.get("Start"))) is not None
        )
        dropped["no time"] += len(stages) - len(changes)
        length = _float(root.findtext(".//Session/Duration")) or scored.duration_s
        ends = [start for start, _ in changes[1:]] + [length or math.inf]
        notes = [
            Annotation(start, end - start if math.isfinite(end) else EPOCH_S, word, "stage")
            for (start, word), end in zip(changes, ends, strict=True)
            if end > start
        ]
        for event in events:
            start = _float(event.get("Start"))
            if start is None:
                dropped["no time"] += 1
                continue
            notes.append(Annotation(start, _float(event.get("Duration")), _philips_name(event)))
        start_time = moment_of(root.findtext(".//Session/RecordingStart") or "")
        if start_time is None or not start_time.clock:
            return Notes(tuple(notes), dropped=dropped)
        return Notes(
            tuple(notes),
            start_time.seconds,
            start_time.dates[0] if start_time.dates else None,
            dropped,
        )


def _root(path: Path) -> Element:
    import xml.etree.ElementTree
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException

    if path.stat().st_size > MAX_BYTES:
        raise AnnotationError(f"is larger than {MAX_BYTES // 2**20} MiB")
    raw = path.read_bytes()
    # Entities are defined in a document type. Without one, and in an ASCII-compatible encoding in
    # which it cannot be hidden, the standard library's parser is as safe and three times as fast.
    plain = b"\0" not in raw and b"<!DOCTYPE" not in raw and _ASCII_LIKE.match(raw) is not None
    parse = xml.etree.ElementTree.fromstring if plain else _defused
    try:
        root: Element = parse(raw)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise AnnotationError("is not well-formed XML that is safe to read") from error
    return root


def _defused(raw: bytes) -> Element:
    import defusedxml.ElementTree

    root: Element = defusedxml.ElementTree.fromstring(raw, forbid_dtd=True)
    return root


def _profusion_stages(stages: list[Element], epoch_s: float) -> list[Annotation]:
    notes = []
    for i, element in enumerate(stages):
        code = (element.text or "").strip()
        stage = CODINGS["profusion"].get(code)
        # spelled out, so that the raw label includes the meaning of the number
        word = _WORDS.get(stage or "", f"Stage {code}")
        text = f"{word}|{code}" if stage is not None else f"code {code}"
        if stage is None and stage_in_column(code) is not None:
            text = code  # a name instead of a number
        notes.append(Annotation(i * epoch_s, epoch_s, text, "stage"))
    return notes


def _start(event: Element) -> tuple[float | None, int | None]:
    moment = moment_of((event.findtext("ClockTime") or "").strip())
    if moment is None or not moment.clock:
        return None, None
    return moment.seconds, moment.dates[0] if moment.dates else None


def _philips_name(event: Element) -> str:
    family, event_type = event.get("Family") or "", event.get("Type") or ""
    return f"{event_type} ({family})" if "rousal" in event_type else event_type


def _float(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        try:
            value = float((text or "").replace(",", "."))
        except ValueError:
            return None
    return value if math.isfinite(value) else None
