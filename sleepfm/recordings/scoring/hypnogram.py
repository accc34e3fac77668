"""From texts with times to scoring: which are stages, how long marks last, and what is dropped.

A stage mark without a length lasts to the next only where stage marks follow each other as in a
hypnogram; a remark (Movement, Artifact, a lone ``REM``) never becomes, ends or hides a stage. Where
two stages are scored for the same time, neither is stored.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np

from sleepfm.choices import Coding
from sleepfm.recordings.scoring.event_words import event_of, is_artifact, is_remark
from sleepfm.recordings.scoring.stage_words import (
    CODINGS,
    coding_beside_letters,
    integer,
    name_of,
    plain,
    says_stage,
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
_SLIP_S: Final = 1.0
"""Overlap of two epochs that is attributed to rounding, in seconds."""
_ON_GRID_S: Final = 0.5
_SHORTEST_MARKED_S: Final = 10.0
_FEWEST_BARE: Final = 5
"""Marks without a word that only a stage has (``W``, ``REM``): fewer of them are remarks."""
_MOST_WORDS: Final = 200

_Timed = TypeVar("_Timed", ScoredStage, Event)


@dataclass(frozen=True)
class _Mark:
    """A stage word at a time: ``certain`` if it cannot be a remark; its length may be unknown."""

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
    """Stages and events among annotations; whatever else there is is counted by reason.

    Parameters
    ----------
    annotations : sequence of Annotation
        What the file holds, onsets in seconds from the start of the signals.
    warnings : list of str
        Takes what a person should look at.
    coding : str, optional
        What integers mean; without it they are no stages.
    markers : bool
        Whether other marks stand among them, so that a lone letter without a duration is as likely
        one of those (an R peak, a mark W) as a stage.
    """
    spans: list[ScoredStage] = []
    marks: list[_Mark] = []
    events: list[Event] = []
    dropped: Counter[Reason] = Counter()
    words: Counter[str] = Counter()
    coding = coding or coding_beside_letters(n.text for n in annotations if n.role != "event")
    for note in annotations:
        if note.duration_s is not None and not note.duration_s >= 0:
            dropped["unreadable"] += 1
            continue
        stage = _stage(note, coding)
        if stage is not None and note.role != "event":
            if note.duration_s:
                spans.append(ScoredStage(note.onset_s, note.duration_s, stage, _label(note.text)))
            else:
                certain = note.role == "stage" or (
                    says_stage(note.text) and not (markers and len(note.text) <= 2)
                )
                marks.append(_Mark(note, stage, certain))
            continue
        event = event_of(note.text) if note.role != "stage" else None
        if event is not None and (
            note.duration_s or note.role == "event" or not is_remark(note.text)
        ):
            events.append(Event(note.onset_s, note.duration_s or 0.0, *event))
        elif is_artifact(note.text):
            dropped["artifact"] += 1
        elif name_of(note.text):
            dropped["unknown word"] += 1
            if len(words) < _MOST_WORDS:
                words[name_of(note.text)[:80]] += 1
    lasting, remarks = _lasting(sorted(marks, key=lambda m: m.onset_s), markers)
    dropped["no duration"] += remarks
    stages, lost = _apart([*spans, *lasting])
    dropped["overlapping"] += lost
    if lost and _contradicted([*spans, *lasting], stages):
        warnings.append(
            f"{lost} stages contradict others scored for the same time (two scorers?); neither is "
            "stored"
        )
    return Scoring(
        stages=tuple(stages),
        events=tuple(sorted(events, key=lambda e: e.onset_s)),
        dropped={r: n for r, n in dropped.items() if n},
        words=dict(words),
    )


def fit(scoring: Scoring, duration_s: float, warnings: list[str]) -> Scoring:
    """Keep annotations within the signals, and count the rest.

    Parameters
    ----------
    scoring : Scoring
        Times in seconds from the start of the signals.
    duration_s : float
        Length of the signals, in seconds.
    warnings : list of str
        Sentences on what a person should check are added here.

    Returns
    -------
    Scoring
        What lies within, the rest counted in ``dropped``.
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


def _inside(items: tuple[_Timed, ...], duration_s: float) -> tuple[_Timed, ...]:
    """Keep what lies within the signals, cut to them; most often all of it, as it is."""
    if all(x.onset_s >= 0 and x.onset_s + x.duration_s <= duration_s for x in items):
        return items
    cut = (_within(item, duration_s) for item in items)
    return tuple(item for item in cut if item is not None)


def _within(item: _Timed, duration_s: float) -> _Timed | None:
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


def _lasting(marks: Sequence[_Mark], markers: bool) -> tuple[list[ScoredStage], int]:
    """Stages of marks without a length, and how many marks are remarks instead."""
    base = _hypnogram(marks, markers)
    if not base:
        return [], len(marks)
    gaps = np.diff(sorted({m.onset_s for m in base}))
    epoch = _usual(gaps) if len(gaps) else EPOCH_S
    repeated = sum(a.stage == b.stage for a, b in itertools.pairwise(base))
    # A list of changes never repeats a stage; a list of epochs does all the time.
    by_epoch = repeated > 0.1 * max(len(gaps), 1) and epoch > 0
    if by_epoch:
        base = sorted([*base, *_in_free_slots(marks, base, epoch)], key=lambda m: m.onset_s)
    stages = []
    starts = sorted({m.onset_s for m in base})
    following = dict(zip(starts, [*starts[1:], None], strict=True))
    for this in base:
        after = following[this.onset_s]
        length = epoch if after is None else after - this.onset_s
        if after is None and not by_epoch:
            length = min(epoch, EPOCH_S) if epoch > 0 else EPOCH_S
        if by_epoch and length > epoch + _ON_GRID_S:
            length = epoch  # an epoch without a mark is not scored
        stages.append(ScoredStage(this.onset_s, length, this.stage, _label(this.note.text)))
    return stages, len(marks) - len(base)


def _hypnogram(marks: Sequence[_Mark], markers: bool) -> list[_Mark]:
    """Find marks that follow each other as in a hypnogram; none if they are remarks."""
    certain = [m for m in marks if m.certain]
    if any(m.note.role == "stage" for m in certain):
        return certain
    # "Sleep stage W" beside "Sleep stage N2", "W" beside "N2": one style in one hypnogram.
    worded = any(len(plain(name_of(m.note.text)).split()) > 1 for m in certain)
    usual = {
        stage: Counter(m.note.text for m in marks if m.stage == stage).most_common(1)[0][0]
        for stage in {m.stage for m in marks if m.stage not in _NO_STAGE}
    }
    base = certain
    if not worded:
        base = [m for m in marks if m.certain or usual.get(m.stage) == m.note.text]
    if len(base) < 2 or (not certain and len(base) < _FEWEST_BARE):
        return []
    gaps = np.diff(sorted({m.onset_s for m in base}))
    epoch = _usual(gaps)
    on_grid = epoch > 0 and np.mean(np.abs(gaps - epoch * np.rint(gaps / epoch)) < _ON_GRID_S)
    alternate = all(a.stage != b.stage for a, b in itertools.pairwise(base))
    if markers and not certain and (epoch < _SHORTEST_MARKED_S or len(base) < 3 or on_grid < 0.9):
        return []
    if markers and not certain and len({m.stage for m in base}) < 2:
        return []
    if on_grid < 0.9 and not (alternate and certain):
        return []
    if on_grid >= 0.9 and not worded:
        phase = _usual(np.mod([m.onset_s for m in base], epoch))
        base = [m for m in base if m.certain or _off(m.onset_s - phase, epoch) < _ON_GRID_S]
    return base


def _in_free_slots(marks: Sequence[_Mark], base: Sequence[_Mark], epoch: float) -> Iterable[_Mark]:
    """Find marks such as Movement that stand where the stage of an epoch would, and none does."""
    chosen = {id(m) for m in base}
    onsets = np.array([m.onset_s for m in base])
    phase = _usual(np.mod(onsets, epoch))
    for mark in marks:
        if id(mark) in chosen or mark.stage not in _NO_STAGE:
            continue
        away = float(np.abs(onsets - mark.onset_s).min())
        if _off(mark.onset_s - phase, epoch) < _ON_GRID_S and away > epoch - _ON_GRID_S:
            yield mark


def _usual(values: Sequence[float] | np.ndarray) -> float:
    """Most frequent value, to 0.1 s."""
    counts = Counter(np.round(np.asarray(values, dtype=np.float64), 1).tolist())
    return float(counts.most_common(1)[0][0]) if counts else 0.0


def _off(offset: float, epoch: float) -> float:
    return abs(offset - epoch * round(offset / epoch))


def _apart(spans: Sequence[ScoredStage]) -> tuple[list[ScoredStage], int]:
    """Stretches that do not overlap, and how many were left out.

    Of two different stages for the same time neither stays; ``UNS`` and ``ART`` give way to any.
    """
    ordered = sorted(spans, key=lambda s: (s.onset_s, s.duration_s))
    trimmed: list[ScoredStage] = []
    clean = True
    for span in ordered:
        if trimmed:
            last = trimmed[-1]
            over = last.onset_s + last.duration_s - span.onset_s
            slip = min(_SLIP_S, 0.1 * last.duration_s, 0.1 * span.duration_s)
            alike = (last.stage in _NO_STAGE) == (span.stage in _NO_STAGE)
            if 0 < over <= slip and span.onset_s > last.onset_s and alike:
                trimmed[-1] = replace(last, duration_s=span.onset_s - last.onset_s)
            elif over > 0:
                clean = False
        trimmed.append(span)
    if clean:
        return trimmed, 0
    return _swept(trimmed)


def _swept(spans: Sequence[ScoredStage]) -> tuple[list[ScoredStage], int]:
    edges = sorted({t for s in spans for t in (s.onset_s, s.onset_s + s.duration_s)})
    starts: dict[float, list[int]] = {}
    ends: dict[float, list[int]] = {}
    for i, span in enumerate(spans):
        starts.setdefault(span.onset_s, []).append(i)
        ends.setdefault(span.onset_s + span.duration_s, []).append(i)
    active: set[int] = set()
    pieces: list[tuple[int, float, float]] = []
    contradicted: set[int] = set()
    seen: set[int] = set()
    for start, end in itertools.pairwise(edges):
        active.difference_update(ends.get(start, ()))
        active.update(starts.get(start, ()))
        stages = {spans[i].stage for i in active} - set(_NO_STAGE)
        if not active:
            continue
        if len(stages) > 1:
            contradicted.update(i for i in active if spans[i].stage in stages)
            continue
        fitting = [i for i in active if not stages or spans[i].stage in stages]
        best = min(fitting)
        seen.update(i for i in fitting if spans[i].stage == spans[best].stage)
        if pieces and pieces[-1][0] == best and pieces[-1][2] == start:
            pieces[-1] = (best, pieces[-1][1], end)
        else:
            pieces.append((best, start, end))
    hidden = set(range(len(spans))) - seen
    kept = [replace(spans[i], onset_s=a, duration_s=b - a) for i, a, b in pieces]
    return kept, len(contradicted | hidden)


def _contradicted(spans: Sequence[ScoredStage], kept: Sequence[ScoredStage]) -> bool:
    scored = sum(s.duration_s for s in kept if s.stage not in _NO_STAGE)
    real = [(s.onset_s, s.onset_s + s.duration_s) for s in spans if s.stage not in _NO_STAGE]
    covered, end = 0.0, float("-inf")
    for a, b in sorted(real):
        covered += max(0.0, b - max(a, end))
        end = max(end, b)
    return covered - scored > _SLIP_S


@functools.lru_cache(maxsize=4096)
def _label(text: str) -> str:
    """Drop what may stand behind a stage's name, save NSRR's code: ``Stage 2 sleep|2``."""
    name, _, code = text.partition("@@")[0].partition("|")
    return f"{name}|{code}" if re.fullmatch(r"-?\d{1,2}", code) else name.strip()
