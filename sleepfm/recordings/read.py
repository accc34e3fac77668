"""Reading of a recording of any format together with its scoring."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sleepfm.choices import Coding
from sleepfm.errors import AnnotationError, RecordingError
from sleepfm.recordings.find_scoring import find_annotations, find_lookalikes
from sleepfm.recordings.recording import Recording
from sleepfm.recordings.scoring.hypnogram import clip_to_signals
from sleepfm.recordings.scoring.read import read_scoring
from sleepfm.recordings.scoring.vocabulary import (
    EPOCH_S,
    Reason,
    ScoredStage,
    Scoring,
    describe_dropped,
)
from sleepfm.recordings.signals import read_signals


def read_recording(
    path: str | Path,
    annotations: Path | None = None,
    *,
    coding: Coding | None = None,
    epoch_s: float | None = None,
) -> Recording:
    """Read a recording and its scoring; signals stay on disk until a channel is read.

    Parameters
    ----------
    path : str or Path
        EDF, EDF+, BDF, a WFDB header, HDF5, or a file in a format supported by mne.
    annotations : Path, optional
        Scoring file, which replaces scoring in the signal file. Without it, scoring is searched for
        in the signal file and in its scoring files: the stages that cover most of the signals are
        used, and for each type of event the file with most of them. A scoring file that cannot be
        read causes a warning.
    coding : {"yasa", "profusion", "rk", "ucddb", "dreams", "bdsp"}, optional
        Coding of integer stages; without it they are refused.
    epoch_s : float, optional
        Epoch length of scoring files that do not state one, in seconds.

    Returns
    -------
    Recording
        The recording with its scoring.

    Raises
    ------
    RecordingError
        If the file cannot be read as a recording.
    AnnotationError
        If the scoring file passed as ``annotations`` cannot be read.
    """
    path = Path(path)
    recording = read_signals(path)
    if not recording.channels:
        raise RecordingError(f"{path.name} contains annotations but no signal")
    warnings = list(recording.warnings)
    sources = [_Source(path, recording.scoring)]
    unread: list[str] = []

    def read(file: Path, notes: list[str]) -> Scoring:
        return read_scoring(
            file,
            recording.start_clock_s,
            notes,
            coding,
            duration_s=recording.duration_s,
            start_day=recording.start_day,
            epoch_s=epoch_s,
        )

    if annotations is not None:
        separate = read(annotations, warnings)
        embedded = recording.scoring
        embedded = replace(
            embedded,
            stages=() if separate.stages else embedded.stages,
            events=() if separate.events else embedded.events,
        )
        sources = [_Source(path, embedded), _Source(annotations, separate)]
    else:
        for scoring_file in find_annotations(path):
            notes: list[str] = []
            try:
                sources.append(_Source(scoring_file, read(scoring_file, notes), notes))
                if not _overlaps_signals(sources[-1].scoring, recording.duration_s):
                    unread.append(scoring_file.name)
            except AnnotationError as error:
                reason = str(error).removeprefix(scoring_file.name).removesuffix(".")
                warnings.append(f"the scoring file next to it ({scoring_file.suffix}){reason}")
                unread.append(scoring_file.name)
    scoring, used = _merged(sources, recording.duration_s, warnings)
    scoring = clip_to_signals(scoring, recording.duration_s, warnings)
    if scoring.dropped:
        warnings.append(f"annotations not stored: {describe_dropped(scoring.dropped)}")
    if not scoring.stages:
        unread += find_lookalikes(path)
    return replace(
        recording,
        sources=(*recording.sources, *(f for f in used if f not in recording.sources)),
        scoring=scoring,
        warnings=tuple(dict.fromkeys(warnings)),
        unread=tuple(dict.fromkeys(unread)),
    )


@dataclass(frozen=True)
class _Source:
    """A file and its scoring."""

    path: Path
    scoring: Scoring
    notes: list[str] = field(default_factory=list)


def _merged(
    sources: Sequence[_Source], duration_s: float, warnings: list[str]
) -> tuple[Scoring, list[Path]]:
    """Merge the scoring of several files, the signal file first; return it and the files used."""
    stage_source = sources[0]
    for source in sources[1:]:
        current_s, other_s = (
            _scored_seconds(s.scoring.stages, duration_s) for s in (stage_source, source)
        )
        if (
            other_s > 2 * current_s
            or (other_s > current_s == 0)
            or (not stage_source.scoring.stages and source.scoring.stages)
        ):
            if stage_source.scoring.stages:
                warnings.append(
                    f"stages for {current_s:.0f} s are replaced by stages for {other_s:.0f} s in "
                    "another file"
                )
            stage_source = source
    _warn_of_rivals(stage_source, sources, duration_s, warnings)
    best: dict[str, _Source] = {}
    for event_type in {e.type for s in sources for e in s.scoring.events}:
        counts = [sum(e.type == event_type for e in s.scoring.events) for s in sources]
        best[event_type] = sources[counts.index(max(counts))]
    events = [e for s in sources for e in s.scoring.events if best[e.type] is s]
    event_sources = list(best.values())
    used = [s for s in sources if s is sources[0] or s is stage_source or s in event_sources]
    dropped: Counter[Reason] = Counter()
    words: Counter[str] = Counter()
    for source in used:
        dropped.update(source.scoring.dropped)
        words.update(source.scoring.words)
        warnings += source.notes
    scoring = Scoring(
        stage_source.scoring.stages, tuple(sorted(events, key=lambda e: e.onset_s)), dropped, words
    )
    return scoring, [s.path for s in used]


def _warn_of_rivals(
    used: _Source, sources: Sequence[_Source], duration_s: float, warnings: list[str]
) -> None:
    """Warn where another file has other stages for the same time: another scorer, or a machine."""
    rivals = [s for s in sources if s is not used and s.scoring.stages]
    own = _stage_every_epoch(used.scoring.stages, duration_s) if rivals else {}
    for source in rivals:
        rival = _stage_every_epoch(source.scoring.stages, duration_s)
        both = own.keys() & rival.keys()
        differing = sum(own[i] != rival[i] for i in both)
        if differing:
            warnings.append(
                f"two scoring files differ in {differing} of {len(both)} epochs; the stages of the "
                f"{used.path.suffix} are used, not those of the {source.path.suffix}"
                f"{_in_derivatives(source.path)}: name one in a cohort list to choose"
            )


def _in_derivatives(path: Path) -> str:
    return " in derivatives" if "derivatives" in path.parts else ""


def _stage_every_epoch(stages: Sequence[ScoredStage], duration_s: float) -> dict[int, str]:
    """Return the sleep stage or wake in the middle of each 30 s of the signals, where scored."""
    return {
        i: stage.stage
        for stage in stages
        if stage.stage not in ("UNS", "ART")
        for i in range(
            max(0, math.ceil((stage.onset_s - EPOCH_S / 2) / EPOCH_S)),
            math.ceil((min(stage.onset_s + stage.duration_s, duration_s) - EPOCH_S / 2) / EPOCH_S),
        )
    }


def _overlaps_signals(scoring: Scoring, duration_s: float) -> bool:
    """Return whether any stage or event overlaps the signals."""
    return any(
        s.onset_s < duration_s and s.onset_s + s.duration_s > 0 for s in scoring.stages
    ) or any(e.onset_s <= duration_s and e.onset_s + e.duration_s >= 0 for e in scoring.events)


def _scored_seconds(stages: Sequence[ScoredStage], duration_s: float) -> float:
    """Return how many seconds of the signals are scored as sleep or wake."""
    return sum(
        max(0.0, min(s.onset_s + s.duration_s, duration_s) - max(s.onset_s, 0.0))
        for s in stages
        if s.stage not in ("UNS", "ART")
    )
