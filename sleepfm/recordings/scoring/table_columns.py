"""A table taken apart: which column is the time, which the label, and what each row says."""

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
from sleepfm.recordings.scoring.event_words import event_of
from sleepfm.recordings.scoring.headings import heading_of
from sleepfm.recordings.scoring.sidecar import levels_beside
from sleepfm.recordings.scoring.stage_words import integer, stage_in_column, stage_of
from sleepfm.recordings.scoring.table_times import NOTHING, TimeColumns, dates_apart
from sleepfm.recordings.scoring.time_units import refuse_other_units
from sleepfm.recordings.scoring.vocabulary import Annotation, Notes, Reason, Scored

_BY_HAND: Final = frozenset(
    ("hum", "human", "manual", "expert", "user", "consensus", "majority", "hand", "visual")
)
_BY_MACHINE: Final = frozenset(
    ("pred", "predicted", "prediction", "predictions", "auto", "automatic", "machine", "model")
)


@dataclass(frozen=True)
class Columns(TimeColumns):
    """A table taken apart: the columns of times, and those of labels that are read."""

    onset: int | None = None
    label: int | None = None
    events: int | None = None
    epoch: int | None = None
    levels: dict[str, str] | None = None

    @classmethod
    def of(cls, written: list[str], rows: list[list[str]], first_line: int) -> Columns:
        """Parse a table; AnnotationError if a row has more cells than the header.

        Parameters
        ----------
        written, rows, first_line : list of str, list of list of str, int
            Headings; cells of each row; number of the first row's line in the file, from 1.
        """
        headings = tuple(map(heading_of, written))
        for number, row in enumerate(rows):
            if len(row) > len(headings) and any(row[len(headings) :]):
                raise AnnotationError(
                    f"has more cells than the header in line {first_line + number}; with decimal "
                    "commas, separate the columns with semicolons or tabs"
                )
        return cls(dates_apart(headings, rows), rows, first_line)

    def choose(self, path: Path, warnings: list[str]) -> Columns:
        """Decide which columns are read; refuse what can carry time and is not understood.

        Parameters
        ----------
        path, warnings : Path, list of str
            File of the table, for its sidecar; sentences on what to check are added to the list.
        """
        self.refuse_unknown_times()
        stages, events = self.having("stage"), self.having("event")
        others = self.having("label")
        if not (stages or events or others):
            raise AnnotationError("has no known column of stages or events")
        stage = self._stage_column(stages, warnings)
        # RemLogic and CAP name the stage in the column of events, and repeat it beside each event.
        named = [
            i for i in (*events, *others)
            if any(stage_of(c) is not None or event_of(c) is not None for c in self.cells(i))
        ]  # fmt: skip
        label = stage
        beside = None
        if named and stage is not None:
            spoken = self.cells(named[0])
            if any(stage_of(c) is not None for c in spoken) or (
                self.having("onset") and not self._is_epochs()
            ):
                label = named[0]
            else:
                beside = named[0]
        elif stage is None:
            label = named[0] if named else (*events, *others)[0]
        assert label is not None
        replace(self, label=label)._say_unread(warnings)
        epochs = self.having("epoch") or (self.having("number") if not self.having("onset") else [])
        return replace(
            self,
            onset=self.find_onset(),
            label=label,
            events=beside,
            epoch=epochs[0] if epochs else None,
            levels=levels_beside(path, self.headings[label].written),
        )

    def by_epoch(self, scored: Scored, legend: dict[str, str], warnings: list[str]) -> Notes:
        """Read rows that are epochs, numbered or one after the other.

        Parameters
        ----------
        scored, legend, warnings : Scored, dict of str to str, list of str
            Signals that are scored; names of codes, from above the table; sentences on what to
            check, returned with the notes.
        """
        assert self.label is not None
        labels = self.cells(self.label)
        numbers = None if self.epoch is None else self.cells(self.epoch)
        durations = self.having("duration")
        stated = None
        if durations:
            unit = self.headings[durations[0]].unit_s
            lengths = {number_of(c) for c in self.cells(durations[0])} - {None}
            if len(lengths) == 1:
                stated = float(lengths.pop() or 0) * unit or None
        starts, rows = numbered_starts(numbers, len(labels))
        epoch_s = stated or epoch_length(rows, scored)
        texts = self._texts(labels, scored, legend, always=True)
        notes = [
            Annotation(start * epoch_s, epoch_s, text, "stage")
            for start, text in zip(starts, texts, strict=True)
            if text
        ]
        notes += self._events_beside([s * epoch_s for s in starts], [epoch_s] * len(starts))
        return Notes(tuple(notes), warnings=tuple(warnings))

    def by_onset(self, scored: Scored, legend: dict[str, str], warnings: list[str]) -> Notes:
        """Read rows that say when they begin.

        Parameters
        ----------
        scored, legend, warnings : Scored, dict of str to str, list of str
            As for :meth:`by_epoch`.
        """
        assert self.label is not None and self.onset is not None
        dropped: Counter[Reason] = Counter()
        onsets = self.placed(self.onset, scored, warnings, dropped, needed=True)
        start_clock, start_day = self.second_clock(self.onset, onsets)
        durations = self.lengths(onsets, scored, warnings, dropped)
        role: Literal["", "stage"] = "stage" if self.headings[self.label].role == "stage" else ""
        texts = self._texts(self.cells(self.label), scored, legend, always=role == "stage")
        texts = self._with_subtypes(texts)
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
        notes += self._events_beside(onsets, durations)
        heading = self.headings[self.onset]
        refuse_other_units(notes, heading.written, unit_said=heading.unit_said)
        return Notes(tuple(notes), start_clock, start_day, dropped, tuple(warnings))

    def _stage_column(self, stages: list[int], warnings: list[str]) -> int | None:
        if not stages:
            return None
        if len(stages) == 1:
            return stages[0]
        by_hand = [i for i in stages if self.headings[i].words & _BY_HAND]
        words = [
            i for i in stages
            if any(integer(c) is None and stage_in_column(c) for c in self.cells(i))
        ]  # fmt: skip
        if len(by_hand) == 1:
            return by_hand[0]
        chosen = (by_hand or words or stages)[0]
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
        """Whether rows follow each other in equal steps, so that a row is an epoch."""
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
        """Join labels with their subtypes: ``Stage`` and ``N2`` is N2, ``Apnea`` gets its kind."""
        named = [i for i, h in enumerate(self.headings) if h.words & {"subtype", "subtypes"}]
        if not named or self.label in named:
            return texts
        whole = []
        for text, subtype in zip(texts, self.cells(named[0]), strict=True):
            if subtype.lower() in NOTHING:
                whole.append(text)
            elif event_of(text) is not None:
                whole.append(f"{text} ({subtype})")
            else:
                known = stage_of(text) is None and stage_of(subtype) is not None
                whole.append(subtype if known else text)
        return whole

    def _say_unread(self, warnings: list[str]) -> None:
        """Say of columns named by an event that they are not read, and of stages by a machine."""
        unread = [
            i
            for i, h in enumerate(self.headings)
            if h.role in ("other", "number")
            and event_of(h.written) is not None
            and any(c.lower() not in (*NOTHING, "0", "0.0", "false", "no") for c in self.cells(i))
        ]
        if unread:
            warnings.append(
                f"{len(unread)} columns named by an event are not read; an event needs a row with "
                "its onset"
            )
        if self.label is not None and self.headings[self.label].words & _BY_MACHINE:
            warnings.append("the stages are a machine's, by the heading of their column")

    def _events_beside(
        self, onsets: Sequence[float | None], durations: Sequence[float | None]
    ) -> list[Annotation]:
        if self.events is None:
            return []
        return [
            Annotation(onset, duration, text, "event")
            for onset, duration, text in zip(
                onsets, durations, self.cells(self.events), strict=True
            )
            if onset is not None and text.lower() not in NOTHING
        ]
