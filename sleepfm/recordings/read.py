"""One call for every format: look at the file, let its reader read it, join its scoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sleepfm.choices import Coding
from sleepfm.errors import AnnotationError, RecordingError
from sleepfm.recordings.beside import find_annotations, find_lookalikes
from sleepfm.recordings.recording import Recording
from sleepfm.recordings.scoring.hypnogram import clip_to_signals
from sleepfm.recordings.scoring.read import read_scoring
from sleepfm.recordings.scoring.vocabulary import Reason, ScoredStage, Scoring, describe_dropped
from sleepfm.recordings.signals import read_signals


def read_recording(
    path: str | Path,
    annotations: Path | None = None,
    *,
    coding: Coding | None = None,
    epoch_s: float | None = None,
) -> Recording:
    """Read a recording and its scoring; signals are read when a channel is asked for them.

    Parameters
    ----------
    path : str or Path
        EDF, EDF+, BDF, a WFDB header, HDF5, or a file that mne opens.
    annotations : Path, optional
        The scoring file, which replaces scoring in the signal file itself. Without it, scoring is
        looked for in the signal file and in the files that belong to it: the stages that cover most
        of the signals are taken, and of each type of event the file that has most of them. A file
        beside it that cannot be read is a warning.
    coding : {"yasa", "profusion", "rk", "ucddb", "dreams", "bdsp"}, optional
        What integer stages mean; without it they are refused.
    epoch_s : float, optional
        Length of an epoch where the scoring does not say it, in seconds.

    Raises
    ------
    RecordingError
        If the file cannot be read as a recording.
    AnnotationError
        If the scoring file that was named cannot be read.
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
        named = read(annotations, warnings)
        own = recording.scoring
        own = replace(
            own,
            stages=() if named.stages else own.stages,
            events=() if named.events else own.events,
        )
        sources = [_Source(path, own), _Source(annotations, named)]
    else:
        for beside in find_annotations(path):
            notes: list[str] = []
            try:
                sources.append(_Source(beside, read(beside, notes), notes))
                if not _touches(sources[-1].scoring, recording.duration_s):
                    unread.append(beside.name)
            except AnnotationError as error:
                reason = str(error).removeprefix(beside.name).removesuffix(".")
                warnings.append(f"the scoring file beside it ({beside.suffix}){reason}")
                unread.append(beside.name)
    scoring, used = _joined(sources, recording.duration_s, warnings)
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
    """A file and the scoring in it."""

    path: Path
    scoring: Scoring
    notes: list[str] = field(default_factory=list)


def _joined(
    sources: Sequence[_Source], duration_s: float, warnings: list[str]
) -> tuple[Scoring, list[Path]]:
    """Scoring of several files, the signal file first, and the files it was taken from."""
    staged = sources[0]
    for source in sources[1:]:
        here, there = (_covered(s.scoring.stages, duration_s) for s in (staged, source))
        if (
            there > 2 * here
            or (there > here == 0)
            or (not staged.scoring.stages and source.scoring.stages)
        ):
            if staged.scoring.stages:
                warnings.append(
                    f"stages for {here:.0f} s are replaced by stages for {there:.0f} s in "
                    "another file"
                )
            staged = source
    best: dict[str, _Source] = {}
    for kind in {e.type for s in sources for e in s.scoring.events}:
        counts = [sum(e.type == kind for e in s.scoring.events) for s in sources]
        best[kind] = sources[counts.index(max(counts))]
    events = [e for s in sources for e in s.scoring.events if best[e.type] is s]
    giving = list(best.values())
    used = [s for s in sources if s is sources[0] or s is staged or s in giving]
    dropped: Counter[Reason] = Counter()
    words: Counter[str] = Counter()
    for source in used:
        dropped.update(source.scoring.dropped)
        words.update(source.scoring.words)
        warnings += source.notes
    scoring = Scoring(
        staged.scoring.stages, tuple(sorted(events, key=lambda e: e.onset_s)), dropped, words
    )
    return scoring, [s.path for s in used]


def _touches(scoring: Scoring, duration_s: float) -> bool:
    """Whether a stage or event lies in the signals."""
    return any(
        s.onset_s < duration_s and s.onset_s + s.duration_s > 0 for s in scoring.stages
    ) or any(e.onset_s <= duration_s and e.onset_s + e.duration_s >= 0 for e in scoring.events)


def _covered(stages: Sequence[ScoredStage], duration_s: float) -> float:
    """Seconds of the signals with a stage of sleep or wake."""
    return sum(
        max(0.0, min(s.onset_s + s.duration_s, duration_s) - max(s.onset_s, 0.0))
        for s in stages
        if s.stage not in ("UNS", "ART")
    )
