"""Columns of a scoring table: selection of time and label columns, and conversion of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

from sleepfm.errors import AnnotationError
from sleepfm.recordings.scoring.clock import moment_of, number_of
from sleepfm.recordings.scoring.epochs import (
    checked_codes,
    epoch_length,
    named_codes,
    numbered_starts,
)
from sleepfm.recordings.scoring.event_codes import code_of
from sleepfm.recordings.scoring.event_words import event_of, is_remark
from sleepfm.recordings.scoring.headings import RESPIRATORY, heading_of
from sleepfm.recordings.scoring.sidecar import sidecar_levels
from sleepfm.recordings.scoring.stage_words import integer, stage_in_column, stage_of
from sleepfm.recordings.scoring.table_times import EMPTY_CELLS, TimeColumns, with_date_columns
from sleepfm.recordings.scoring.time_units import refuse_other_units
from sleepfm.recordings.scoring.vocabulary import Annotation, Notes, Reason, Scored

_MANUAL: Final = frozenset(
    ("hum", "human", "manual", "expert", "user", "consensus", "majority", "hand", "visual")
)
_AUTOMATIC: Final = frozenset(
    ("pred", "predicted", "prediction", "predictions", "auto", "automatic", "machine", "model")
)
_REMARKS: Final = frozenset(
    ("comment", "comments", "remark", "remarks", "text", "note", "notes", "anmerkung", "opmerking")
)
_KINDS: Final = frozenset(("group", "category", "class", "family", "type", "kind", "eventtype"))


@dataclass(frozen=True)
class Columns(TimeColumns):
    """A scoring table with its selected columns.

    Parameters
    ----------
    headings, rows, first_line
        As for :class:`~.table_times.TimeColumns`.
    onset, label, epoch : int, optional
        Indices of the columns of onsets, of labels, and of epoch numbers.
    others : tuple of int
        Indices of further columns of events or labels, whose events are read in addition.
    levels : dict of str to str, optional
        Name of each code, from a BIDS sidecar.
    """

    onset: int | None = None
    label: int | None = None
    others: tuple[int, ...] = ()
    epoch: int | None = None
    levels: dict[str, str] | None = None

    @classmethod
    def of(cls, written: list[str], rows: list[list[str]], first_line: int) -> Columns:
        """Interpret the headings of a table.

        Parameters
        ----------
        written : list of str
            Headings as written.
        rows : list of list of str
            Cells of each row.
        first_line : int
            Line number of the first row in the file, from 1.

        Raises
        ------
        AnnotationError
            If a row has more cells than the header.
        """
        headings = tuple(map(heading_of, written))
        for number, row in enumerate(rows):
            if len(row) > len(headings) and any(row[len(headings) :]):
                raise AnnotationError(
                    f"has more cells than the header in line {first_line + number}; with decimal "
                    "commas, separate the columns with semicolons or tabs"
                )
        return cls(with_date_columns(headings, rows), rows, first_line)

    def choose(self, path: Path, warnings: list[str]) -> Columns:
        """Select the columns to read.

        Parameters
        ----------
        path : Path
            File of the table; its sidecar is searched from there.
        warnings : list of str
            Warnings for the user are appended here.

        Returns
        -------
        Columns
            The table with its selected columns.

        Raises
        ------
        AnnotationError
            If no column has stages or events, or a column may contain times that are not
            understood.
        """
        self.refuse_unknown_times()
        stages, events = self.with_role("stage"), self.with_role("event")
        labels = self.with_role("label")
        if not (stages or events or labels):
            raise AnnotationError("has no known column of stages or events")
        stage = self._stage_column(stages, warnings)
        # RemLogic and CAP have the stage in the event column, and repeat it in each event row.
        recognised = [
            i for i in (*events, *labels)
            if any(map(is_known, self.cells(i)))
        ]  # fmt: skip
        label = stage
        if recognised and stage is not None:
            label_cells = self.cells(recognised[0])
            if any(stage_of(c) is not None for c in label_cells) or (
                self.with_role("onset") and not self._is_epochs()
            ):
                label = recognised[0]
        elif stage is None:
            label = recognised[0] if recognised else (*events, *labels)[0]
        assert label is not None
        others = tuple(
            i for i in recognised
            if i != label and (label == stage or not self.headings[i].words & _KINDS)
        )  # fmt: skip
        replace(self, label=label, others=others)._warn_unread(warnings)
        epochs = self.with_role("epoch") or (
            self.with_role("number") if not self.with_role("onset") else []
        )
        return replace(
            self,
            onset=self.find_onset(),
            label=label,
            others=others,
            epoch=epochs[0] if epochs else None,
            levels=sidecar_levels(path, self.headings[label].written),
        )

    def by_epoch(self, scored: Scored, legend: dict[str, str], warnings: list[str]) -> Notes:
        """Convert rows that are epochs, numbered or consecutive.

        Parameters
        ----------
        scored : Scored
            Properties of the scored signals.
        legend : dict of str to str
            Name of each code, from the lines above the table.
        warnings : list of str
            Warnings so far, which are returned with the notes.

        Returns
        -------
        notes : Notes
            Annotations as written, and what was dropped.
        """
        assert self.label is not None
        labels = self.cells(self.label)
        numbers = None if self.epoch is None else self.cells(self.epoch)
        durations = self.with_role("duration")
        stated_epoch_s = None
        if durations:
            unit = self.headings[durations[0]].unit_s
            lengths = {number_of(c) for c in self.cells(durations[0])} - {None}
            if len(lengths) == 1:
                stated_epoch_s = float(lengths.pop() or 0) * unit or None
        starts, rows = numbered_starts(numbers, len(labels))
        epoch_s = stated_epoch_s or epoch_length(rows, scored)
        texts = self._texts(labels, scored, legend, always=True)
        notes = [
            Annotation(start * epoch_s, epoch_s, text, "stage")
            for start, text in zip(starts, texts, strict=True)
            if text
        ]
        onsets = [start * epoch_s for start in starts]
        notes += self._further_events(onsets, [epoch_s] * len(onsets), texts)
        return Notes(tuple(notes), warnings=tuple(warnings))

    def by_onset(self, scored: Scored, legend: dict[str, str], warnings: list[str]) -> Notes:
        """Convert rows with an onset.

        Parameters
        ----------
        scored, legend, warnings
            As for :meth:`by_epoch`.

        Returns
        -------
        notes : Notes
            Annotations as written, and what was dropped.
        """
        assert self.label is not None and self.onset is not None
        dropped: Counter[Reason] = Counter()
        onsets = self.aligned_times(self.onset, scored, warnings, dropped, required=True)
        start_clock, start_day = self.origin_clock(self.onset, onsets)
        durations = self.lengths(onsets, scored, warnings, dropped)
        role: Literal["", "stage"] = "stage" if self.headings[self.label].role == "stage" else ""
        texts = self._texts(self.cells(self.label), scored, legend, always=role == "stage")
        texts = self._with_kinds(self._with_subtypes(texts))
        notes = []
        for onset, duration, text in zip(onsets, durations, texts, strict=True):
            if onset is None:
                continue
            if duration is not None and duration < 0:
                dropped["unreadable"] += 1
                continue
            if role == "stage" and not duration:
                duration = scored.epoch_s
            if text:
                notes.append(Annotation(onset, duration, text, role))
        notes += self._further_events(onsets, durations, texts)
        heading = self.headings[self.onset]
        refuse_other_units(notes, heading.written, unit_given=heading.unit_given)
        return Notes(tuple(notes), start_clock, start_day, dropped, tuple(warnings))

    def _stage_column(self, stages: list[int], warnings: list[str]) -> int | None:
        if not stages:
            return None
        if len(stages) == 1:
            return stages[0]
        manual = [i for i in stages if self.headings[i].words & _MANUAL]
        words = [
            i for i in stages
            if any(integer(c) is None and stage_in_column(c) for c in self.cells(i))
        ]  # fmt: skip
        if len(manual) == 1:
            return manual[0]
        chosen = (manual or words or stages)[0]
        codes = [i for i in stages if i != chosen and i not in words] if words else []
        rivals = [i for i in stages if i != chosen and i not in codes]
        if any(self.cells(i) != self.cells(chosen) for i in rivals):
            raise AnnotationError(
                f"has {len(rivals) + 1} columns of stages that differ "
                f"({', '.join(repr(self.headings[i].written) for i in (chosen, *rivals))}); keep "
                "only the valid one"
            )
        return chosen

    def _is_epochs(self) -> bool:
        """Return whether rows are epochs: their onsets have equal steps."""
        onset = self.find_onset()
        if onset is None:
            return True
        moments = [moment_of(c) for c in self.cells(onset)]
        seconds = np.array([m.seconds for m in moments if m is not None])
        steps = np.diff(seconds) % 86400.0
        return len(steps) > 0 and bool(np.mean(np.abs(steps - np.median(steps)) < 0.5) > 0.9)

    def _texts(
        self, cells: list[str], scored: Scored, legend: dict[str, str], *, always: bool
    ) -> list[str]:
        levels = self.levels or legend
        if levels and any(integer(c) in levels for c in cells):
            return named_codes(cells, levels)
        if always:
            coding = scored.coding
            if any("cast" in h.words for h in self.headings):
                coding = coding or "rk"  # the Wisconsin Sleep Cohort's .stg
            return checked_codes(cells, coding)
        return cells

    def _with_subtypes(self, texts: list[str]) -> list[str]:
        """Join labels with a subtype column: ``Stage`` and ``N2`` give N2, an apnea its subtype."""
        subtype_columns = [
            i for i, h in enumerate(self.headings) if h.words & {"subtype", "subtypes"}
        ]
        if not subtype_columns or self.label in subtype_columns:
            return texts
        joined = []
        for text, subtype in zip(texts, self.cells(subtype_columns[0]), strict=True):
            if subtype.lower() in EMPTY_CELLS:
                joined.append(text)
            elif event_of(text) is not None:
                joined.append(f"{text} ({subtype})")
            else:
                only_subtype_is_stage = stage_of(text) is None and stage_of(subtype) is not None
                joined.append(subtype if only_subtype_is_stage else text)
        return joined

    def _with_kinds(self, texts: list[str]) -> list[str]:
        """Join labels with their kind in another column: ``Respiratory`` and ``OA``."""
        kinds = [
            i
            for i, h in enumerate(self.headings)
            if h.words & _KINDS and h.role in ("label", "event", "other") and i != self.label
        ]
        joined = texts
        for column in kinds:
            joined = [
                _joined(text, kind) for text, kind in zip(joined, self.cells(column), strict=True)
            ]
        return joined

    def _warn_unread(self, warnings: list[str]) -> None:
        """Warn of event columns that are not read, and of stages from automatic scoring."""
        read = (self.label, *self.others)
        unread = [
            i
            for i, h in enumerate(self.headings)
            if h.role in ("other", "number", "event")
            and i not in read
            and (event_of(h.written) is not None or h.words & RESPIRATORY)
            and any(
                c.lower() not in (*EMPTY_CELLS, "0", "0.0", "false", "no") for c in self.cells(i)
            )
        ]
        if unread:
            warnings.append(
                f"{len(unread)} columns named by an event are not read; an event needs a row with "
                "its onset"
            )
        if self.label is not None and self.headings[self.label].words & _AUTOMATIC:
            warnings.append("the stages are a machine's, by the heading of their column")

    def _further_events(
        self,
        onsets: Sequence[float | None],
        durations: Sequence[float | None],
        texts: Sequence[str],
    ) -> list[Annotation]:
        """Return the events of further columns, except those that repeat the label of their row."""
        notes = []
        for column in self.others:
            respiratory = bool(self.headings[column].words & RESPIRATORY)
            remarks = bool(self.headings[column].words & _REMARKS)
            cells = zip(onsets, durations, self.cells(column), texts, strict=True)
            for onset, duration, cell, text in cells:
                if onset is None or cell.lower() in EMPTY_CELLS or stage_of(cell) is not None:
                    continue
                if respiratory and code_of(cell) is not None:
                    cell = f"Resp ({cell})"
                event, labelled = event_of(cell), event_of(text)
                if event is not None and (remarks or is_remark(cell)):
                    notes.append(Annotation(onset, None, cell, "remark"))
                elif event is None or labelled is None or event[0] != labelled[0]:
                    notes.append(Annotation(onset, duration, cell, "event"))
        return notes


def is_known(cell: str) -> bool:
    """Return whether a cell names a stage or an event, or consists of a code of an event.

    Parameters
    ----------
    cell : str
        Cell of a column of labels.

    Returns
    -------
    bool
    """
    return stage_of(cell) is not None or event_of(cell) is not None or code_of(cell) is not None


def _joined(text: str, kind: str) -> str:
    """Return ``Arousal (Spontaneous)`` or ``Respiratory (OA)`` where the two cells belong together.

    They do where the pair names an event that the text alone does not, or its subtype.
    """
    if kind.lower() in EMPTY_CELLS or stage_of(text) is not None:
        return text
    alone = event_of(text)
    for pair, head in ((f"{text} ({kind})", text), (f"{kind} ({text})", kind)):
        event = event_of(pair)
        if event is None:
            continue
        named = event_of(head) is not None or code_of(text) or code_of(kind)
        if named if alone is None else event[0] == alone[0] and event[1] and not alone[1]:
            return pair
    return text
