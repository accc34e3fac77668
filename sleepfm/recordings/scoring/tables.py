"""Scoring in tables with a heading: BIDS, HMC, STAGES, RemLogic and CAP, WSC, SleepFM, mne.

A table is read only if every column that may contain times is understood
(:mod:`~sleepfm.recordings.scoring.headings`); otherwise it is refused, and the message names the
heading.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import moment_of
from sleepfm.recordings.scoring.epochs import legend_of
from sleepfm.recordings.scoring.event_words import event_of
from sleepfm.recordings.scoring.headings import heading_of
from sleepfm.recordings.scoring.stage_words import stage_of
from sleepfm.recordings.scoring.table_columns import Columns
from sleepfm.recordings.scoring.text_file import (
    cells_of,
    decoded,
    delimiter_of,
    lines_of,
    read_text,
    refuse_gaps,
)
from sleepfm.recordings.scoring.vocabulary import Notes, Scored

_PREAMBLE: Final = 80
"""Number of lines searched for a header."""
_POSITIONS: Final = ("onset", "end", "duration", "date", "epoch", "sample")


class Table:
    """Tables with column headings in one of the first lines."""

    endings: tuple[str, ...] = (".tsv", ".csv", ".txt", ".stg")

    def sniff(self, head: bytes) -> bool:
        """Return whether one of the first lines is a heading.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        try:
            return find_heading(lines_of(decoded(head))) is not None
        except AnnotationError:
            return False

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read a table; see :class:`~.reader.ScoringReader`.

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
        text = read_text(path)
        lines = lines_of(text)
        if not lines:
            raise AnnotationError("is empty")
        heading = find_heading(lines)
        if heading is None:
            raise AnnotationError("has no header with a time and a stage or event")
        heading_line, delimiter, written = heading
        body = [line for line in lines[heading_line + 1 :] if not line.startswith("#")]
        rows = [row for row in cells_of(body, delimiter) if any(row)]
        table = Columns.of(written, rows, heading_line + 2)
        warnings: list[str] = []
        table = table.choose(path, warnings)
        if table.onset is None:
            if table.epoch is None and body:
                refuse_gaps(text, body[0])
            return table.by_epoch(scored, legend_of(lines[:heading_line]), warnings)
        notes = table.by_onset(scored, legend_of(lines[:heading_line]), warnings)
        origin = re.search(r"orig_time\s*:\s*(\d{4}-\S+ \S+)", "\n".join(lines[:heading_line]))
        start = moment_of(origin.group(1)) if origin else None
        if start is None or not start.clock:
            return notes
        return replace(notes, start_clock_s=start.seconds, start_day=start.dates[0])


def find_heading(lines: Sequence[str]) -> tuple[int, str, list[str]] | None:
    """Find the heading of a table among its first lines.

    Parameters
    ----------
    lines : sequence of str
        Lines of the file, without empty ones.

    Returns
    -------
    (int, str, list of str) or None
        Index of its line, the delimiter, and its cells; None if there is no heading.
    """
    for index, line in enumerate(lines[:_PREAMBLE]):
        stripped = line.lstrip("#\ufeff ")
        delimiter = delimiter_of(stripped)
        try:
            (cells,) = cells_of([stripped], delimiter)
        except (AnnotationError, ValueError):
            continue
        if _is_heading(cells) and not (len(cells) == 1 and line[:1] in "#["):
            return index, delimiter, cells
    return None


def _is_heading(cells: list[str]) -> bool:
    if any(moment_of(c) is not None for c in cells if c):
        return False
    roles = [heading_of(c).role for c in cells]
    is_label = [stage_of(c) is not None or event_of(c) is not None for c in cells]
    labels = [
        c
        for c, r, named in zip(cells, roles, is_label, strict=True)
        if r in ("stage", "event", "label") and not named
    ]
    positions = [r for r in roles if r in _POSITIONS]
    if any(is_label) and not (labels and positions):  # columns of probabilities have stage names
        return False
    if len(cells) == 1:
        return roles[0] in ("stage", "label") and len(cells[0].split()) < 4
    return (bool(labels) and len(cells) > 1) or len(positions) > 1
