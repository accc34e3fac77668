"""Scoring from annotations: which are stages or events, the duration of marks, and what is dropped.

A stage mark without a duration extends to the next one only if stage marks follow each other as in
a hypnogram; a remark (Movement, Artifact, an isolated ``REM``) never becomes, ends or replaces a
stage. If two different stages are scored for the same time, neither is stored.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np

from sleepfm.choices import Coding
from sleepfm.recordings.scoring.event_codes import code_of, codes_in
from sleepfm.recordings.scoring.event_words import event_of, is_artifact, is_remark
from sleepfm.recordings.scoring.stage_words import (
    CODINGS,
    coding_from_letters,
    integer,
    is_certain_stage,
    name_of,
    plain,
    stage_in_column,
    stage_of,
)
from sleepfm.recordings.scoring.vocabulary import (
    EPOCH_S,
    Annotation,
    Event,
    Reason,
    ScoredStage,
    Scoring,
)

_NO_STAGE: Final = ("UNS", "ART")
_ROUNDING_S: Final = 1.0
"""Overlap of two epochs that is attributed to rounding, in seconds."""
_GRID_TOLERANCE_S: Final = 0.5
_MIN_MARKER_EPOCH_S: Final = 10.0
_MIN_AMBIGUOUS: Final = 5
"""Ambiguous marks (``W``, ``REM``) are remarks if there are fewer of them than this."""
_MAX_WORDS: Final = 200

_Item = TypeVar("_Item", ScoredStage, Event)


@dataclass(frozen=True)
class _Mark:
    """A stage mark without a known duration; ``certain`` if it cannot be a remark."""

    note: Annotation
    stage: str
    certain: bool

    @property
    def onset_s(self) -> float:
        return self.note.onset_s


def scoring_from_texts(
    annotations: Sequence[Annotation],
    warnings: list[str],
    coding: Coding | None = None,
    *,
    markers: bool = False,
) -> Scoring:
    """Extract stages and events from annotations, and count all others by reason.

    Parameters
    ----------
    annotations : sequence of Annotation
        Annotations of the file, onsets in seconds from the start of the signals.
    warnings : list of str
        Warnings for the user are appended here.
    coding : str, optional
        Name of the coding of integer stages; without it, integers are not stages.
    markers : bool
        Whether the annotations include other markers, so that a single letter without a duration
        may be one of them (an R peak, a mark W) rather than a stage.

    Returns
    -------
    Scoring
        Stages and events, sorted by onset, and the number of dropped annotations by reason.
    """
    spans: list[ScoredStage] = []
    marks: list[_Mark] = []
    events: list[Event] = []
    dropped: Counter[Reason] = Counter()
    words: Counter[str] = Counter()
    coding = coding or coding_from_letters(n.text for n in annotations if n.role != "event")
    codes = codes_in(annotations)
    for note in annotations:
        if note.duration_s is not None and not note.duration_s >= 0:
            dropped["unreadable"] += 1
            continue
        stage = _stage(note, coding)
        if stage is not None and note.role not in ("event", "remark"):
            if note.duration_s:
                spans.append(ScoredStage(note.onset_s, note.duration_s, stage, _label(note.text)))
            else:
                certain = note.role == "stage" or (
                    is_certain_stage(note.text) and not (markers and len(note.text) <= 2)
                )
                marks.append(_Mark(note, stage, certain))
            continue
        event = None if note.role in ("stage", "remark") else _event(note.text, codes)
        if event is not None and (
            note.duration_s or note.role == "event" or not is_remark(note.text)
        ):
            events.append(Event(note.onset_s, note.duration_s or 0.0, *event))
        elif is_artifact(note.text):
            dropped["artifact"] += 1
        elif name_of(note.text):
            dropped["unknown word"] += 1
            if len(words) < _MAX_WORDS:
                words[name_of(note.text)[:80]] += 1
    from_marks, remarks = _stages_of_marks(sorted(marks, key=lambda m: m.onset_s), markers)
    dropped["no duration"] += remarks
    stages, overlapping = _resolve_overlaps([*spans, *from_marks])
    dropped["overlapping"] += overlapping
    if overlapping and _contradicted([*spans, *from_marks], stages):
        warnings.append(
            f"{overlapping} stages contradict others scored for the same time (two scorers?); "
            "neither is stored"
        )
    return Scoring(
        stages=tuple(stages),
        events=tuple(sorted(events, key=lambda e: e.onset_s)),
        dropped={r: n for r, n in dropped.items() if n},
        words=dict(words),
    )


def clip_to_signals(scoring: Scoring, duration_s: float, warnings: list[str]) -> Scoring:
    """Clip scoring to the extent of the signals, and count what lies outside.

    Parameters
    ----------
    scoring : Scoring
        Times in seconds from the start of the signals.
    duration_s : float
        Duration of the signals, in seconds.
    warnings : list of str
        Warnings for the user are appended here.

    Returns
    -------
    Scoring
        Stages and events within the signals; those outside are counted in ``dropped``.
    """
    stages = _inside(scoring.stages, duration_s)
    events = _inside(scoring.events, duration_s)
    dropped: Counter[Reason] = Counter(scoring.dropped)
    dropped["outside the signals"] += len(scoring.stages) - len(stages)
    dropped["outside the signals"] += len(scoring.events) - len(events)
    kept = replace(
        scoring, stages=stages, events=events, dropped={r: n for r, n in dropped.items() if n}
    )
    if scoring and not kept:
        warnings.append("none of the scoring lies in the signals")
    if not scoring.stages:
        return kept
    before = -min(s.onset_s for s in scoring.stages)
    end = max(s.onset_s + s.duration_s for s in scoring.stages)
    if before > 1:
        warnings.append(f"scoring starts {before:.0f} s before the signals; that part is ignored")
    if end - duration_s >= EPOCH_S:
        warnings.append(
            f"scoring continues for {end - duration_s:.0f} s after the signals; that part is "
            "ignored"
        )
    if duration_s - end >= EPOCH_S:
        warnings.append(f"the last {duration_s - end:.0f} s of the signals are not scored")
    sleep = {s.stage for s in kept.stages} - {"W", *_NO_STAGE}
    asleep = sum(s.duration_s for s in kept.stages if s.stage in sleep)
    if len(sleep) == 1 and asleep >= 3600:
        warnings.append(f"only wake and {sleep.pop()} occur: this looks like sleep/wake scoring")
    return kept


def _inside(items: tuple[_Item, ...], duration_s: float) -> tuple[_Item, ...]:
    """Clip items to the signals and drop those outside; usually all are returned unchanged."""
    if all(x.onset_s >= 0 and x.onset_s + x.duration_s <= duration_s for x in items):
        return items
    cut = (_clip(item, duration_s) for item in items)
    return tuple(item for item in cut if item is not None)


def _clip(item: _Item, duration_s: float) -> _Item | None:
    start = max(item.onset_s, 0.0)
    end = min(item.onset_s + item.duration_s, duration_s)
    if not item.duration_s and 0 <= item.onset_s <= duration_s:
        return item
    if end <= start:
        return None
    if start == item.onset_s and end == item.onset_s + item.duration_s:
        return item
    return replace(item, onset_s=start, duration_s=end - start)


def _stage(note: Annotation, coding: Coding | None) -> str | None:
    stage = stage_in_column(note.text) if note.role == "stage" else stage_of(note.text)
    if stage is None and coding is not None:
        stage = CODINGS[coding].get(integer(note.text) or "")
    return stage


def _event(text: str, codes: Mapping[str, tuple[str, str]]) -> tuple[str, str] | None:
    if code_of(text) is not None:
        return codes.get(text)  # "OA with arousal" is an apnea or unknown, but no arousal
    return event_of(text)


def _stages_of_marks(marks: Sequence[_Mark], markers: bool) -> tuple[list[ScoredStage], int]:
    """Return stages from marks without a duration, and the number of marks that are remarks."""
    base = _hypnogram_marks(marks, markers)
    if not base:
        return [], len(marks)
    gaps = np.diff(sorted({m.onset_s for m in base}))
    epoch = _mode(gaps) if len(gaps) else EPOCH_S
    repeated = sum(a.stage == b.stage for a, b in itertools.pairwise(base))
    # A list of stage changes never repeats a stage; a list of epochs often does.
    by_epoch = repeated > 0.1 * max(len(gaps), 1) and epoch > 0
    if by_epoch:
        base = sorted([*base, *_marks_in_gaps(marks, base, epoch)], key=lambda m: m.onset_s)
    stages = []
    starts = sorted({m.onset_s for m in base})
    following = dict(zip(starts, [*starts[1:], None], strict=True))
    for mark in base:
        next_onset = following[mark.onset_s]
        length = epoch if next_onset is None else next_onset - mark.onset_s
        if next_onset is None and not by_epoch:
            length = min(epoch, EPOCH_S) if epoch > 0 else EPOCH_S
        if by_epoch and length > epoch + _GRID_TOLERANCE_S:
            length = epoch  # an epoch without a mark is not scored
        stages.append(ScoredStage(mark.onset_s, length, mark.stage, _label(mark.note.text)))
    return stages, len(marks) - len(base)


def _hypnogram_marks(marks: Sequence[_Mark], markers: bool) -> list[_Mark]:
    """Select the marks that form a hypnogram; return none if they are remarks."""
    certain = [m for m in marks if m.certain]
    if any(m.note.role == "stage" for m in certain):
        return certain
    # One style per hypnogram: "Sleep stage W" with "Sleep stage N2", or "W" with "N2".
    spelled_out = any(len(plain(name_of(m.note.text)).split()) > 1 for m in certain)
    usual_text = {
        stage: Counter(m.note.text for m in marks if m.stage == stage).most_common(1)[0][0]
        for stage in {m.stage for m in marks if m.stage not in _NO_STAGE}
    }
    base = certain
    if not spelled_out:
        base = [m for m in marks if m.certain or usual_text.get(m.stage) == m.note.text]
    if len(base) < 2 or (not certain and len(base) < _MIN_AMBIGUOUS):
        return []
    gaps = np.diff(sorted({m.onset_s for m in base}))
    epoch = _mode(gaps)
    on_grid = epoch > 0 and np.mean(
        np.abs(gaps - epoch * np.rint(gaps / epoch)) < _GRID_TOLERANCE_S
    )
    alternate = all(a.stage != b.stage for a, b in itertools.pairwise(base))
    if markers and not certain and (epoch < _MIN_MARKER_EPOCH_S or len(base) < 3 or on_grid < 0.9):
        return []
    if markers and not certain and len({m.stage for m in base}) < 2:
        return []
    if on_grid < 0.9 and not (alternate and certain):
        return []
    if on_grid >= 0.9 and not spelled_out:
        phase = _mode(np.mod([m.onset_s for m in base], epoch))
        base = [
            m
            for m in base
            if m.certain or _distance_to_grid(m.onset_s - phase, epoch) < _GRID_TOLERANCE_S
        ]
    return base


def _marks_in_gaps(marks: Sequence[_Mark], base: Sequence[_Mark], epoch: float) -> Iterable[_Mark]:
    """Find marks such as Movement that occupy an epoch without a stage."""
    chosen = {id(m) for m in base}
    onsets = np.array([m.onset_s for m in base])
    phase = _mode(np.mod(onsets, epoch))
    for mark in marks:
        if id(mark) in chosen or mark.stage not in _NO_STAGE:
            continue
        distance = float(np.abs(onsets - mark.onset_s).min())
        if (
            _distance_to_grid(mark.onset_s - phase, epoch) < _GRID_TOLERANCE_S
            and distance > epoch - _GRID_TOLERANCE_S
        ):
            yield mark


def _mode(values: Sequence[float] | np.ndarray) -> float:
    """Return the most frequent value, rounded to 0.1 s."""
    counts = Counter(np.round(np.asarray(values, dtype=np.float64), 1).tolist())
    return float(counts.most_common(1)[0][0]) if counts else 0.0


def _distance_to_grid(offset: float, epoch: float) -> float:
    return abs(offset - epoch * round(offset / epoch))


def _resolve_overlaps(spans: Sequence[ScoredStage]) -> tuple[list[ScoredStage], int]:
    """Resolve overlapping stages; return stages without overlap, and the number left out.

    Where two different stages overlap, both are removed; ``UNS`` and ``ART`` yield to any stage.
    """
    ordered = sorted(spans, key=lambda s: (s.onset_s, s.duration_s))
    trimmed: list[ScoredStage] = []
    disjoint = True
    for span in ordered:
        if trimmed:
            last = trimmed[-1]
            overlap = last.onset_s + last.duration_s - span.onset_s
            tolerance = min(_ROUNDING_S, 0.1 * last.duration_s, 0.1 * span.duration_s)
            same_kind = (last.stage in _NO_STAGE) == (span.stage in _NO_STAGE)
            if 0 < overlap <= tolerance and span.onset_s > last.onset_s and same_kind:
                trimmed[-1] = replace(last, duration_s=span.onset_s - last.onset_s)
            elif overlap > 0:
                disjoint = False
        trimmed.append(span)
    if disjoint:
        return trimmed, 0
    return _sweep(trimmed)


def _sweep(spans: Sequence[ScoredStage]) -> tuple[list[ScoredStage], int]:
    edges = sorted({t for s in spans for t in (s.onset_s, s.onset_s + s.duration_s)})
    starts: dict[float, list[int]] = {}
    ends: dict[float, list[int]] = {}
    for i, span in enumerate(spans):
        starts.setdefault(span.onset_s, []).append(i)
        ends.setdefault(span.onset_s + span.duration_s, []).append(i)
    active: set[int] = set()
    pieces: list[tuple[int, float, float]] = []
    contradicted: set[int] = set()
    visible: set[int] = set()
    for start, end in itertools.pairwise(edges):
        active.difference_update(ends.get(start, ()))
        active.update(starts.get(start, ()))
        stages = {spans[i].stage for i in active} - set(_NO_STAGE)
        if not active:
            continue
        if len(stages) > 1:
            contradicted.update(i for i in active if spans[i].stage in stages)
            continue
        candidates = [i for i in active if not stages or spans[i].stage in stages]
        best = min(candidates)
        visible.update(i for i in candidates if spans[i].stage == spans[best].stage)
        if pieces and pieces[-1][0] == best and pieces[-1][2] == start:
            pieces[-1] = (best, pieces[-1][1], end)
        else:
            pieces.append((best, start, end))
    hidden = set(range(len(spans))) - visible
    kept = [replace(spans[i], onset_s=a, duration_s=b - a) for i, a, b in pieces]
    return kept, len(contradicted | hidden)


def _contradicted(spans: Sequence[ScoredStage], kept: Sequence[ScoredStage]) -> bool:
    scored = sum(s.duration_s for s in kept if s.stage not in _NO_STAGE)
    intervals = [(s.onset_s, s.onset_s + s.duration_s) for s in spans if s.stage not in _NO_STAGE]
    covered, end = 0.0, float("-inf")
    for a, b in sorted(intervals):
        covered += max(0.0, b - max(a, end))
        end = max(end, b)
    return covered - scored > _ROUNDING_S


@functools.lru_cache(maxsize=4096)
def _label(text: str) -> str:
    """Return a stage's label without suffixes, except NSRR's code: ``Stage 2 sleep|2``."""
    name, _, code = text.partition("@@")[0].partition("|")
    return f"{name}|{code}" if re.fullmatch(r"-?\d{1,2}", code) else name.strip()
