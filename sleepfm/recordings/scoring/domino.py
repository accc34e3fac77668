"""Text exports of Somnomedics DOMINO: one file each for the hypnogram, apneas, arousals and so on.

A header gives the signal, its start and the epoch length; then ``23:57:30,000; N2`` for a
hypnogram (``Discret``), ``23:57:39,992-23:57:51,992; 12;Hypopnea`` for events (``Impuls``).
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Final

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import Moment, align, moment_of, number_of
from sleepfm.recordings.scoring.event_words import event_of
from sleepfm.recordings.scoring.text_file import decoded, lines_of, read_text
from sleepfm.recordings.scoring.vocabulary import Annotation, Notes, Reason, Scored

_EPOCH: Final = re.compile(r"^([\d.]*\s*\d{1,2}:\d{2}:\d{2}[,.]?\d*)\s*;\s*(.+?)\s*$")
_TIME: Final = r"((?:[\d./]+\s+)?\d{1,2}:\d{2}:\d{2}[,.]?\d*)"
_EVENT: Final = re.compile(rf"^{_TIME}\s*-\s*{_TIME}\s*;\s*([\d.,]+)\s*;\s*(.+?)\s*$")


class Domino:
    """DOMINO's ASCII export of analysis data."""

    endings: tuple[str, ...] = (".txt",)

    def sniff(self, head: bytes) -> bool:
        """Return whether the file has the header of a DOMINO export.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        try:
            return "Signal ID:" in decoded(head)[:400]
        except AnnotationError:
            return False

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read an export; see :class:`~.reader.ScoringReader`.

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
        lines = lines_of(read_text(path))
        head = {
            key.strip().lower(): value.strip()
            for key, colon, value in (line.partition(":") for line in lines[:12])
            if colon
        }
        rate = re.match(r"(\d+(?:[.,]\d+)?)\s*s", head.get("rate", ""))
        epoch_s = number_of(rate.group(1)) if rate else None
        dropped: Counter[Reason] = Counter()
        times: list[Moment | None] = []
        texts: list[str] = []
        lengths: list[float | None] = []
        for line in lines:
            event, epoch = _EVENT.match(line), _EPOCH.match(line)
            if event:
                start, stop = moment_of(event.group(1)), moment_of(event.group(2))
                length = (
                    None
                    if start is None or stop is None
                    else (stop.seconds - start.seconds) % 86400
                )
                texts.append(event.group(4))
            elif epoch:
                start, length = moment_of(epoch.group(1)), epoch_s
                texts.append(epoch.group(2))
            else:
                dropped["unreadable"] += bool(re.match(r"^\d{1,2}:\d{2}", line))
                continue
            times.append(start)
            lengths.append(length)
        if not times:
            raise AnnotationError("is a DOMINO export without stages or events")
        warnings: list[str] = []
        onsets = align(times, scored, warnings, elapsed=False)
        signal = head.get("signal id", "").lower()
        hypnogram = "profil" in signal
        if "arousal" in signal:  # classified arousals are labelled by their cause alone: "PLM"
            texts = [t if _is_arousal(t) else f"Arousal ({t})" for t in texts]
        notes = tuple(
            Annotation(onset, length, text, "stage" if hypnogram else "")
            for onset, length, text in zip(onsets, lengths, texts, strict=True)
            if onset is not None
        )
        return Notes(notes, dropped=dropped, warnings=tuple(warnings))


def _is_arousal(text: str) -> bool:
    event = event_of(text)
    return event is not None and event[0] in ("arousal", "rera")
